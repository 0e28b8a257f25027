//! Files on the port of a WebSocket server.
#![cfg(feature = "files")]

#[macro_use]
mod support;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::{Raw, Reply, Rt, options, pattern, plain, reply};
use wsforge::router::StaticFileHandler;
use wsforge::runtime::Transport;
use wsforge::{AcceptError, Options};

/// A folder that is there as long as the test; what is served is in a folder of it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("files-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(path.join("root")).unwrap();
        Self(path)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn files(&self) -> StaticFileHandler {
        StaticFileHandler::new(self.root())
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    #[cfg(unix)]
    fn link(&self, name: &str, to: impl AsRef<Path>) {
        std::os::unix::fs::symlink(to, self.0.join(name)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn answer(
    rt: Rt,
    io: impl Transport,
    options: Options,
    files: StaticFileHandler,
) -> Result<(), AcceptError> {
    let handshake = rt.acceptor(options).accept(io).await?;
    let answer = files.answer(&handshake.request()).await;
    handshake.answer(answer).await.map(drop)
}

/// What a browser gets for this request.
async fn fetch(
    rt: Rt,
    files: &StaticFileHandler,
    method: &str,
    target: &str,
    headers: &str,
) -> Reply {
    let (io, mut raw) = rt.tcp().await;
    raw.write(plain(method, target, headers)).await;
    let answering = answer(rt, io, Options::default(), files.clone());
    let (answered, reply) = tokio::join!(answering, reply(&mut raw));
    let rejected = matches!(answered, Err(AcceptError::Rejected(status)) if status == reply.status);
    assert!(rejected, "{answered:?}");
    reply
}

async fn get(rt: Rt, files: &StaticFileHandler, target: &str) -> Reply {
    fetch(rt, files, "GET", target, "").await
}

behaviours! {
    async fn a_file_comes_whole_with_its_type_and_length(rt: Rt) {
        let folder = Folder::new();
        let long = pattern(8_400_000);
        folder.write("root/app.js", &long);
        folder.write("root/empty.txt", "");
        folder.write("root/a/b c/é.css", "p {}");
        let files = folder.files();
        let js = get(rt, &files, "/app.js").await;
        assert_eq!((js.status, js.length()), (200, Some(long.len())));
        assert_eq!(js.header("Content-Type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(js.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(js.header("Connection"), Some("close"));
        assert!(js.header("Date").is_some_and(|date| date.ends_with(" GMT")));
        assert!(js.body == long, "{} bytes", js.body.len());
        let empty = get(rt, &files, "/empty.txt").await;
        assert_eq!((empty.status, empty.length(), &empty.body[..]), (200, Some(0), &b""[..]));
        let css = get(rt, &files, "/a/b%20c/%c3%A9.css").await;
        assert_eq!((css.status, &css.body[..]), (200, &b"p {}"[..]));
        assert_eq!(css.header("Content-Type"), Some("text/css; charset=utf-8"));
    }

    /// As some clients send it, and read by one that takes its time.
    async fn a_file_comes_whole_whose_request_comes_in_pieces(rt: Rt) {
        let folder = Folder::new();
        let file = pattern(200_000);
        folder.write("root/page.html", &file);
        let (io, other) = rt.pipe(1000);
        let mut raw = Raw::client(other);
        let answering = rt.spawn(answer(rt, io, Options::default(), folder.files()));
        for piece in plain("GET", "/page.html", "").as_bytes().chunks(7) {
            raw.write(piece).await;
            support::yield_now().await;
        }
        let reply = reply(&mut raw).await;
        assert!(reply.body == file, "{} bytes", reply.body.len());
        assert!(matches!(answering.await, Err(AcceptError::Rejected(200))));
    }

    async fn head_is_get_without_the_body(rt: Rt) {
        let folder = Folder::new();
        folder.write("root/a.txt", pattern(100_000));
        let files = folder.files();
        let mut heads = Vec::new();
        for method in ["GET", "HEAD"] {
            let reply = fetch(rt, &files, method, "/a.txt", "").await;
            let without_date = |line: &&str| !line.starts_with("Date: ");
            let head: Vec<_> = reply.head.lines().filter(without_date).map(str::to_owned).collect();
            heads.push((head, reply.length()));
            assert_eq!(reply.body.len(), if method == "GET" { 100_000 } else { 0 });
        }
        assert_eq!(heads[0], heads[1]);
        assert_eq!(heads[0].1, Some(100_000));
    }

    async fn the_query_names_no_file(rt: Rt) {
        let folder = Folder::new();
        folder.write("root/app.js", "1");
        let files = folder.files();
        for target in ["/app.js?v=1", "/app.js?", "/app.js?a=/../b", "http://a.example/app.js?v=2"] {
            assert_eq!(get(rt, &files, target).await.body, b"1", "{target}");
        }
        assert_eq!(get(rt, &files, "/app.js%3Fv=1").await.status, 404);
    }

    async fn a_folder_is_its_index_and_never_a_list(rt: Rt) {
        let folder = Folder::new();
        folder.write("root/index.html", "home");
        folder.write("root/sub/index.html", "sub");
        folder.write("root/sub/other.html", "other");
        folder.write("root/bare/secret-name.txt", "");
        folder.write("root/odd/index.html/a", "");
        let files = folder.files();
        let home = get(rt, &files, "/").await;
        assert_eq!((home.status, &home.body[..]), (200, &b"home"[..]));
        assert_eq!(home.header("Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(get(rt, &files, "/sub/").await.body, b"sub");
        assert_eq!(get(rt, &files, "/?a=b").await.body, b"home");
        for target in ["/bare/", "/odd/", "/sub/other.html/", "/none/", "/none"] {
            let reply = get(rt, &files, target).await;
            assert_eq!((reply.status, &reply.body[..]), (404, &b"not found"[..]), "{target}");
        }
        let other = files.with_index("other.html");
        assert_eq!(get(rt, &other, "/sub/").await.body, b"other");
        assert_eq!(get(rt, &other, "/").await.status, 404);
    }

    async fn a_folder_is_asked_for_with_a_slash(rt: Rt) {
        let folder = Folder::new();
        folder.write("root/a b/index.html", "");
        let files = folder.files();
        for (target, location) in [("/a%20b", "/a%20b/"), ("/a%20b?c=d&e", "/a%20b/?c=d&e")] {
            let reply = get(rt, &files, target).await;
            assert_eq!((reply.status, reply.header("Location")), (301, Some(location)));
        }
        // What a browser would take for another host is no folder.
        for target in ["//a%20b", "/%5ca%20b", "/%2fa%20b"] {
            assert_eq!(get(rt, &files, target).await.status, 404, "{target}");
        }
    }

    async fn no_path_leads_out(rt: Rt) {
        let folder = Folder::new();
        folder.write("secret", "secret");
        folder.write("root-2/secret", "secret");
        folder.write("root/a/b", "");
        folder.write("root/.env", "secret");
        folder.write("root/.git/config", "secret");
        let files = folder.files();
        let absolute = folder.0.join("secret").display().to_string();
        for target in [
            "/../secret",
            "/a/../../secret",
            "/%2e%2e/secret",
            "/.%2E/secret",
            "/..%2fsecret",
            "/a%2f..%2f..%2fsecret",
            "/..%5csecret",
            "/../root-2/secret",
            "/%252e%252e/secret",
            "/a/b%00/../../../secret",
            "/a/b%00",
            "/.env",
            "/%2eenv",
            "/.git/config",
            &absolute,
            &format!("/{absolute}"),
            &format!("/{}", absolute.replace('/', "%2f")),
        ] {
            let reply = get(rt, &files, target).await;
            assert_eq!((reply.status, &reply.body[..]), (404, &b"not found"[..]), "{target}");
        }
        folder.write("root/.well-known/security.txt", "who to ask");
        assert_eq!(get(rt, &files, "/.well-known/security.txt").await.body, b"who to ask");
    }

    #[cfg(unix)]
    async fn no_link_leads_out(rt: Rt) {
        let folder = Folder::new();
        folder.write("out/secret", "secret");
        folder.write("out/index.html", "secret");
        folder.write("root-2/secret", "secret");
        folder.write("root/inside/page.html", "page");
        folder.write("root/sub/page.html", "");
        folder.link("root/link", "../out");
        folder.link("root/file.html", folder.0.join("out/secret"));
        folder.link("root/beside", "../root-2/secret");
        folder.link("root/sub/index.html", "../../out/index.html");
        folder.link("root/around", "around");
        folder.link("root/dangling", "nowhere");
        let files = folder.files();
        for target in [
            "/link",
            "/link/",
            "/link/secret",
            "/file.html",
            "/beside",
            "/sub/",
            "/sub/index.html",
            "/dangling",
        ] {
            let reply = get(rt, &files, target).await;
            assert_eq!((reply.status, &reply.body[..]), (404, &b"not found"[..]), "{target}");
        }
        let around = get(rt, &files, "/around").await;
        assert!(around.status >= 400 && !around.body.is_empty());
        // Links inside are as good as files, and so is one to the root.
        folder.link("root/inner.html", "inside/page.html");
        assert_eq!(get(rt, &files, "/inner.html").await.body, b"page");
        folder.link("current", "root");
        let linked = StaticFileHandler::new(folder.0.join("current"));
        assert_eq!(get(rt, &linked, "/inside/page.html").await.body, b"page");
    }

    /// To open one would keep a thread until somebody writes into it.
    #[cfg(unix)]
    async fn a_pipe_is_no_file(rt: Rt) {
        let folder = Folder::new();
        let pipe = folder.root().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
        assert_eq!(get(rt, &folder.files(), "/pipe").await.status, 404);
    }

    async fn a_root_may_come_later(rt: Rt) {
        let folder = Folder::new();
        let files = StaticFileHandler::new(folder.0.join("later"));
        assert_eq!(get(rt, &files, "/a").await.status, 404);
        folder.write("later/a", "1");
        assert_eq!(get(rt, &files, "/a").await.body, b"1");
    }

    async fn only_get_and_head_are_allowed(rt: Rt) {
        let folder = Folder::new();
        folder.write("root/index.html", "home");
        let files = folder.files();
        for (method, target) in [("POST", "/"), ("PUT", "/new"), ("DELETE", "/"), ("OPTIONS", "*")] {
            let reply = fetch(rt, &files, method, target, "").await;
            assert_eq!((reply.status, reply.header("Allow")), (405, Some("GET, HEAD")), "{method}");
            assert_eq!(reply.body, b"the method must be GET or HEAD");
        }
        assert!(!folder.root().join("new").exists());
        // The body of one is still on its way when it is refused.
        let (io, mut raw) = rt.tcp().await;
        raw.write(plain("POST", "/", "Content-Length: 300000\r\n")).await;
        let answering = answer(rt, io, Options::default(), files);
        let (_, reply) = tokio::join!(answering, async {
            raw.write(vec![b'x'; 300_000]).await;
            reply(&mut raw).await
        });
        assert_eq!(reply.status, 405);
    }

    async fn who_has_the_file_gets_it_only_if_it_has_changed(rt: Rt) {
        let folder = Folder::new();
        folder.write("root/a.txt", "one");
        let files = folder.files();
        let at = |secs| UNIX_EPOCH + Duration::new(secs, 500_000_000);
        let touch = |at: SystemTime| {
            let file = File::options().write(true).open(folder.root().join("a.txt")).unwrap();
            file.set_modified(at).unwrap();
        };
        touch(at(1_000_000_000));
        let first = get(rt, &files, "/a.txt").await;
        assert_eq!(first.header("Last-Modified"), Some("Sun, 09 Sep 2001 01:46:40 GMT"));
        assert_eq!(first.header("Cache-Control"), Some("no-cache"));
        let tag = first.header("ETag").unwrap();
        assert!(tag.starts_with("W/\"") && tag.ends_with('"'), "{tag}");
        let since = |date| format!("If-Modified-Since: {date}\r\n");
        let known = [
            format!("If-None-Match: {tag}\r\n"),
            format!("If-None-Match: \"x\" , {}\r\n", tag.strip_prefix("W/").unwrap()),
            "If-None-Match: *\r\n".to_owned(),
            since("Sun, 09 Sep 2001 01:46:40 GMT"),
            since("Sun, 09 Sep 2001 01:46:41 GMT"),
        ];
        for headers in &known {
            for method in ["GET", "HEAD"] {
                let reply = fetch(rt, &files, method, "/a.txt", headers).await;
                assert_eq!((reply.status, &reply.body[..]), (304, &b""[..]), "{headers}");
                assert_eq!((reply.header("ETag"), reply.length()), (Some(tag), None));
            }
        }
        for headers in [
            "If-None-Match: \"x\"\r\n".to_owned(),
            // What tells more decides.
            "If-None-Match: \"x\"\r\n".to_owned() + &since("Sun, 09 Sep 2001 01:46:40 GMT"),
            since("Sun, 09 Sep 2001 01:46:39 GMT"),
            since("yesterday"),
        ] {
            let reply = fetch(rt, &files, "GET", "/a.txt", &headers).await;
            assert_eq!((reply.status, &reply.body[..]), (200, &b"one"[..]), "{headers}");
        }
        touch(at(1_000_000_002));
        for headers in known.iter().filter(|headers| !headers.contains('*')) {
            let reply = fetch(rt, &files, "GET", "/a.txt", headers).await;
            assert_eq!(reply.status, 200, "{headers}");
        }
        // Before there were such dates.
        touch(UNIX_EPOCH - Duration::from_secs(10));
        let old = get(rt, &files, "/a.txt").await;
        assert_eq!((old.status, old.header("Last-Modified"), old.header("ETag")), (200, None, None));
    }

    async fn a_part_may_be_asked_for(rt: Rt) {
        let folder = Folder::new();
        let film = pattern(300_000);
        folder.write("root/a.mp4", &film);
        let files = folder.files();
        let whole = get(rt, &files, "/a.mp4").await;
        assert_eq!(whole.header("Accept-Ranges"), Some("bytes"));
        let modified = whole.header("Last-Modified").unwrap();
        for (headers, part, range) in [
            ("Range: bytes=0-1\r\n".to_owned(), 0..2, "bytes 0-1/300000"),
            ("Range: bytes=100000-\r\n".to_owned(), 100_000..300_000, "bytes 100000-299999/300000"),
            (
                format!("Range: bytes=-1\r\nIf-Range: {modified}\r\n"),
                299_999..300_000,
                "bytes 299999-299999/300000",
            ),
        ] {
            let reply = fetch(rt, &files, "GET", "/a.mp4", &headers).await;
            assert_eq!((reply.status, reply.header("Content-Range")), (206, Some(range)));
            assert_eq!(reply.header("Content-Type"), Some("video/mp4"));
            assert_eq!(reply.length(), Some(part.len()));
            assert!(reply.body == film[part], "{range}");
        }
        let beyond = fetch(rt, &files, "GET", "/a.mp4", "Range: bytes=300000-\r\n").await;
        assert_eq!((beyond.status, beyond.header("Content-Range")), (416, Some("bytes */300000")));
        for headers in [
            "Range: bytes=0-1\r\nIf-Range: Sun, 09 Sep 2001 01:46:40 GMT\r\n",
            "Range: bytes=0-1\r\nIf-Range: W/\"x\"\r\n",
            "Range: bytes=0-1,3-4\r\n",
        ] {
            let reply = fetch(rt, &files, "GET", "/a.mp4", headers).await;
            assert_eq!((reply.status, reply.body.len()), (200, film.len()), "{headers}");
        }
        let head = fetch(rt, &files, "HEAD", "/a.mp4", "Range: bytes=0-1\r\n").await;
        assert_eq!((head.status, head.length()), (200, Some(film.len())));
    }

    /// What has been promised and is not there any more is not made up.
    async fn a_file_that_is_cut_while_it_is_served_ends_early(rt: Rt) {
        let folder = Folder::new();
        let file = pattern(1_000_000);
        folder.write("root/log.txt", &file);
        let (io, other) = rt.pipe(4096);
        let mut raw = Raw::client(other);
        let options = options(|o| o.write_timeout = Duration::from_secs(10));
        let answering = rt.spawn(answer(rt, io, options, folder.files()));
        raw.write(plain("GET", "/log.txt", "")).await;
        raw.fill(1000).await;
        let cut = File::options().write(true).open(folder.root().join("log.txt")).unwrap();
        cut.set_len(500_000).unwrap();
        let reply = reply(&mut raw).await;
        assert_eq!(reply.length(), Some(1_000_000));
        assert!(reply.body == file[..500_000], "{} bytes", reply.body.len());
        let answered = answering.await;
        assert!(
            matches!(&answered, Err(AcceptError::Io(error)) if error.kind() == ErrorKind::UnexpectedEof),
            "{answered:?}"
        );
    }
}
