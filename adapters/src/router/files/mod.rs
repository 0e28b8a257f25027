//! Files of a folder, on the same port as the WebSocket.

use std::fs::{self, File};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use blocking::unblock;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use wsforge_core::Timestamp;
use wsforge_core::handshake::Request;

use crate::Answer;
use crate::driver::content::PIECE;

mod part;
use part::Part;

mod validators;
use validators::{Validators, http_date};

/// Answers requests with the files below a folder.
///
/// A folder is answered with its index file, `index.html` unless [said otherwise](Self::with_index);
/// folders are never listed. Nothing outside of the folder is served, whatever the request's path says
/// and wherever a symbolic link leads, and nothing whose name begins with a dot, but for `/.well-known/`.
/// Who may change the folder's links while it is served is trusted.
///
/// Files are read while the peer takes them, on threads that may wait for a disk. Browsers get what they
/// ask for: types, a part of a file, and nothing but a 304 if they have it already.
///
/// ```no_run
/// use wsforge::router::StaticFileHandler;
///
/// # async fn example(handshake: wsforge::Handshake) -> Result<(), wsforge::AcceptError> {
/// let files = StaticFileHandler::new("public");
/// let answer = files.answer(&handshake.request()).await;
/// handshake.answer(answer).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StaticFileHandler {
    root: Arc<Path>,
    index: Arc<str>,
}

impl StaticFileHandler {
    /// Serves what is below `root`, which may be made, or made a link to something else, at any time.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into().into(), index: "index.html".into() }
    }

    /// Sets the name of the file that a folder is answered with.
    pub fn with_index(mut self, name: impl Into<String>) -> Self {
        self.index = name.into().into();
        self
    }

    /// Finds the answer to a request, of any method and path. Call it for those that do not ask for a
    /// WebSocket.
    pub fn answer(&self, request: &Request<'_>) -> impl Future<Output = Answer> + Send + use<> {
        let (this, head) = (self.clone(), request.head().to_vec());
        unblock(move || {
            // It was read before, so it can be read again.
            let answer = match Request::parse(&head, Timestamp::ZERO) {
                Ok(request) => this.look_up(&request),
                Err(error) => text(error.status(), "malformed request"),
            };
            // RFC 9110 section 6.6.1.
            match http_date(SystemTime::now()) {
                Some(now) => answer.header("Date", now),
                None => answer,
            }
        })
    }

    /// Waits for the disk.
    fn look_up(&self, request: &Request<'_>) -> Answer {
        if !matches!(request.method(), "GET" | "HEAD") {
            return text(405, "the method must be GET or HEAD").header("Allow", "GET, HEAD");
        }
        let Some(mut path) = relative(request.path()) else { return text(404, "not found") };
        let names_folder = request.path().ends_with('/');
        if names_folder {
            path.push(&*self.index);
        }
        let found = self.open(&path).and_then(|file| match file {
            Some(file) => serve(file, &path, request),
            None if names_folder => Err(ErrorKind::NotFound.into()),
            None => Ok(redirect(request)),
        });
        found.unwrap_or_else(|error| match error.kind() {
            ErrorKind::InvalidFilename
            | ErrorKind::NotADirectory
            | ErrorKind::NotFound
            | ErrorKind::PermissionDenied => text(404, "not found"),
            _ => text(500, "the file cannot be read"),
        })
    }

    /// Opens a file below the root; `None` if it is a folder.
    fn open(&self, path: &Path) -> io::Result<Option<File>> {
        let root = self.root.canonicalize()?;
        let path = root.join(path).canonicalize()?;
        if !path.starts_with(&root) {
            return Err(ErrorKind::NotFound.into());
        }
        let kind = fs::metadata(&path)?.file_type();
        if kind.is_dir() {
            return Ok(None);
        }
        if !kind.is_file() {
            // To open a pipe would wait for whoever writes into it.
            return Err(ErrorKind::NotFound.into());
        }
        File::open(path).map(Some)
    }
}

/// What a request's path names below the root; `None` if that cannot be, or is hidden.
///
/// Each name is decoded by itself, and must be one then: what is encoded is never a slash between two.
fn relative(path: &str) -> Option<PathBuf> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut relative = PathBuf::new();
    if path.is_empty() {
        return Some(relative);
    }
    for segment in path.split('/') {
        let name = percent_decode_str(segment).decode_utf8().ok()?;
        let name = &*name;
        // Names that mean something to Windows, or to browsers in a redirect, are no names elsewhere.
        if name.contains(['\0', '\\']) || cfg!(windows) && name.contains(':') {
            return None;
        }
        if name.starts_with('.') && name != ".well-known" {
            return None;
        }
        let mut components = Path::new(name).components();
        if components.next() != Some(Component::Normal(name.as_ref())) {
            return None;
        }
        relative.push(name);
    }
    Some(relative)
}

fn serve(file: File, name: &Path, request: &Request<'_>) -> io::Result<Answer> {
    let metadata = file.metadata()?;
    let validators = Validators::of(&metadata);
    // Else a browser would guess for how long it need not ask.
    let cached = |answer: Answer| validators.put(answer).header("Cache-Control", "no-cache");
    if validators.are_known_to(request) {
        return Ok(cached(Answer::reject(304)));
    }
    let len = metadata.len();
    let (answer, range) = match Part::asked_for(request, &validators, len) {
        Part::Nothing => {
            let answer = text(416, "the file is shorter");
            return Ok(answer.header("Content-Range", format!("bytes */{len}")));
        }
        Part::Range(range) => {
            let part = format!("bytes {}-{}/{len}", range.start, range.end - 1);
            (Answer::reject(206).header("Content-Range", part), range)
        }
        Part::Whole => (Answer::reject(200), 0..len),
    };
    let answer = answer.header("Content-Type", content_type(name)).header("Accept-Ranges", "bytes");
    // What says to be a text is none to a browser that knows better, as with a script in it.
    let answer = cached(answer).header("X-Content-Type-Options", "nosniff");
    let file = Arc::new(file);
    Ok(answer.stream(range.end - range.start, move |at| {
        let (file, rest) = (file.clone(), range.start + at..range.end);
        Box::pin(unblock(move || read(&file, rest)))
    }))
}

/// Reads the first piece of `rest`. It is empty if the file has become shorter.
fn read(file: &File, rest: Range<u64>) -> io::Result<Bytes> {
    let len = (rest.end - rest.start).min(PIECE as u64) as usize;
    let mut piece = vec![0; len];
    loop {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_at(file, &mut piece, rest.start);
        #[cfg(windows)]
        let read = std::os::windows::fs::FileExt::seek_read(file, &mut piece, rest.start);
        match read {
            Ok(n) => {
                piece.truncate(n);
                return Ok(piece.into());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends a browser to the folder's path with a slash, against which links in its index are resolved.
fn redirect(request: &Request<'_>) -> Answer {
    let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
    text(301, "this is a folder").header("Location", format!("{}/{query}", request.path()))
}

fn content_type(name: &Path) -> String {
    let guess = mime_guess::from_path(name).first_or_octet_stream();
    match guess.type_() == mime_guess::mime::TEXT {
        true => format!("{}; charset=utf-8", guess.essence_str()),
        false => guess.essence_str().to_owned(),
    }
}

fn text(status: u16, text: &'static str) -> Answer {
    let answer = Answer::reject(status).header("Content-Type", "text/plain; charset=utf-8");
    answer.header("X-Content-Type-Options", "nosniff").body(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_name_by_name() {
        for (path, name) in [
            ("/", ""),
            ("/a", "a"),
            ("/a/", "a"),
            ("/a/b%20c.txt", "a/b c.txt"),
            ("/%C3%A9", "é"),
            ("/a..b", "a..b"),
            ("/%zz", "%zz"),
            ("/.well-known/x", ".well-known/x"),
        ] {
            assert_eq!(relative(path).as_deref(), Some(Path::new(name)), "{path}");
        }
    }

    #[test]
    fn a_path_that_is_more_or_less_than_names_is_none() {
        for path in [
            "",
            "*",
            "a",
            "//a",
            "/a//b",
            "/a//",
            "/..",
            "/a/../b",
            "/./a",
            "/%2e%2e/a",
            "/.%2E",
            "/a%2fb",
            "/..%2fa",
            "/%2fetc",
            "/%5c..%5ca",
            "/a\\b",
            "/a%00.txt",
            "/%ff",
            "/.git/config",
            "/a/.htaccess",
            "/...",
        ] {
            assert_eq!(relative(path), None, "{path}");
        }
    }

    #[test]
    fn texts_say_how_they_are_encoded() {
        for (name, wanted) in [
            ("a.html", "text/html; charset=utf-8"),
            ("a.JS", "text/javascript; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.png", "image/png"),
            ("a.wasm", "application/wasm"),
            ("a", "application/octet-stream"),
        ] {
            assert_eq!(content_type(Path::new(name)), wanted);
        }
    }
}
