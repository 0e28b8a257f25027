//! Routers: whom they let in, and what becomes of other requests.

mod raw;
mod router;

#[cfg(feature = "files")]
use std::io::Read;
#[cfg(feature = "files")]
use std::path::PathBuf;
use std::sync::Arc;
#[cfg(feature = "files")]
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "files")]
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use raw::{Flavor, REQUEST, Raw, frame, request};
use router::{Gate, Notes, Started, text};
use tokio::task::yield_now;
use wsforge::Answer;
use wsforge::proto::frame::Opcode;
use wsforge::router::{
    Connection, Message, Metrics, Path, Query, Request, Router, Routes, handler,
};

/// A handshake for another path.
fn to(target: &str, lines: &[&str]) -> String {
    request("", lines).replace("/chat", target)
}

fn says(what: &'static str) -> Routes {
    Routes::new().default_handler(handler(move || what))
}

/// What a connection to this path answers.
fn answer(server: &Started, target: &str) -> String {
    let mut peer = Raw::connect(server.address);
    peer.send(to(target, &[]));
    assert_eq!(peer.status(), 101, "{target}");
    peer.send_frame(Opcode::Text, "");
    text(&mut peer)
}

on_each_runtime! {
    /// Defect C3.
    fn a_handshake_is_recognised_however_it_is_written_and_cut(flavor: Flavor) {
        let server = Started::new(flavor, Router::new());
        let long = format!("Cookie: {}", "a=b; ".repeat(400));
        for request in [
            request("Upgrade", &["Upgrade: WebSocket"]),
            request("Upgrade", &["UPGRADE: h2c, websocket"]),
            request("Upgrade", &[&long, "upgrade: websocket"]),
        ] {
            assert_eq!(server.ask(&request).0, 101, "{request}");
            let mut peer = Raw::connect(server.address);
            for piece in request.as_bytes().chunks(97) {
                peer.send(piece);
                std::thread::yield_now();
            }
            assert_eq!(peer.status(), 101);
        }
        server.stop();
    }

    /// Defect C3.
    fn what_is_no_handshake_gets_a_proper_answer(flavor: Flavor) {
        let router = Router::new().handshake_timeout(Duration::from_millis(300));
        let server = Started::new(flavor, router);
        let version = request("Sec-WebSocket-Version", &["Sec-WebSocket-Version: 8"]);
        assert_eq!(server.ask(version).0, 426);
        assert_eq!(server.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").0, 426);
        assert_eq!(server.ask("nonsense\r\n\r\n").0, 400);
        // A head that never ends.
        assert_eq!(server.ask("GET / HTTP/1.1\r\nUpgrade: websocket\r\n").0, 408);
        server.stop();
    }

    /// Defect C6.
    fn only_the_servers_own_pages_may_connect(flavor: Flavor) {
        let ask = |server: &Started, origin: &str| {
            server.ask(request("", &[&format!("Origin: {origin}")]))
        };
        let server = Started::new(flavor, Router::new());
        assert_eq!(ask(&server, "https://a").0, 101);
        let (status, body) = ask(&server, "https://evil.example");
        assert!(status == 403 && body.contains("Router::allow_origins"), "{status} {body}");
        assert_eq!(ask(&server, "http://localhost:3000").0, 403);
        server.stop();
        let listed = Router::new()
            .allow_origins(["https://b.example/", "HTTPS://C.example:443"])
            .allow_origins(["http://[0:0::1]:80", "app://d.example", "null"]);
        let server = Started::new(flavor, listed);
        for (origin, status) in [
            ("https://a", 101),
            ("https://b.example", 101),
            ("https://b.example:443", 101),
            ("https://c.example", 101),
            ("http://[::1]", 101),
            ("app://d.example", 101),
            ("null", 101),
            ("https://d.example", 403),
            ("http://b.example", 403),
            ("https://b.example:444", 403),
        ] {
            assert_eq!(ask(&server, origin).0, status, "{origin}");
        }
        server.stop();
        let server = Started::new(flavor, Router::dev());
        assert_eq!(ask(&server, "http://localhost:3000").0, 101);
        assert_eq!(ask(&server, "https://evil.example").0, 403);
        server.stop();
        let server = Started::new(flavor, Router::new().any_origin());
        assert_eq!(ask(&server, "https://evil.example").0, 101);
        server.stop();
    }

    /// Defect C6.
    fn an_upgrade_is_seen_and_answered_by_the_application(flavor: Flavor) {
        let (note, notes) = Notes::new();
        async fn decide(request: Arc<Request>) -> Result<Answer, Answer> {
            yield_now().await;
            let token = request.cookie("token").ok_or_else(|| {
                Answer::reject(401).header("WWW-Authenticate", "Cookie").body("who are you?")
            })?;
            request.set_data(token.to_owned());
            let picked = request.subprotocols().find(|offered| *offered == "v2");
            let answer = Answer::accept().header("X-Token", token);
            Ok(picked.iter().fold(answer, |answer, picked| answer.subprotocol(*picked)))
        }
        let router = Router::new()
            .on_upgrade(move |request| {
                let seen = (
                    request.path().to_owned(),
                    request.query().map(str::to_owned),
                    request.header("x-one").map(<[u8]>::to_vec),
                    request.headers().count(),
                    request.cookies().count(),
                    request.peer_addr(),
                );
                note.send(seen).unwrap();
                decide(request)
            })
            .default_handler(handler(|connection: Connection| {
                let token = connection.data::<String>().unwrap();
                format!("{token} {:?}", connection.info().protocol)
            }));
        let server = Started::new(flavor, router);
        let mut peer = Raw::connect(server.address);
        let lines = ["X-One: 1", "Cookie: a=b; token=t", "Sec-WebSocket-Protocol: v1, v2"];
        // The first message does not wait for the answer.
        peer.send([to("/a%20b?c=d", &lines).as_bytes(), &frame(true, Opcode::Text, b"")].concat());
        let head = peer.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("\r\nX-Token: t\r\n"), "{head}");
        assert!(head.contains("\r\nSec-WebSocket-Protocol: v2\r\n"), "{head}");
        assert_eq!(text(&mut peer), "t Some(\"v2\")");
        let (path, query, one, headers, cookies, address) = notes.next();
        assert_eq!((&*path, query.as_deref()), ("/a%20b", Some("c=d")));
        assert_eq!((one.as_deref(), headers, cookies), (Some(&b"1"[..]), 8, 2));
        assert_eq!(address, Some(peer.0.local_addr().unwrap()));
        peer.close();
        let mut stranger = Raw::connect(server.address);
        stranger.send(REQUEST);
        let head = stranger.head();
        assert!(head.starts_with("HTTP/1.1 401 ") && head.contains("WWW-Authenticate: Cookie"));
        assert_eq!(stranger.rest(), b"who are you?");
        assert_eq!(server.stop().opened, 1);
    }

    fn a_hook_that_panics_or_takes_too_long_opens_nothing(flavor: Flavor) {
        let (gate, never) = (Gate::shut(), Gate::shut());
        let opens = gate.clone();
        let router = Router::new().handshake_timeout(Duration::from_millis(500)).on_upgrade(
            move |request: Arc<Request>| {
                assert_ne!(request.path(), "/panic", "as it should");
                let (gate, never) = (gate.clone(), never.clone());
                async move {
                    match request.path() {
                        "/wait" => gate.pass().await,
                        "/never" => never.pass().await,
                        "/later" => {
                            yield_now().await;
                            panic!("as it should");
                        }
                        _ => {}
                    }
                    Answer::accept()
                }
            },
        );
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let mut waits = Raw::connect(server.address);
        waits.send(to("/wait", &[]));
        assert_eq!(server.ask(to("/panic", &[])), (500, "the server failed".into()));
        assert_eq!(server.ask(to("/later", &[])).0, 500);
        assert_eq!(server.ask(to("/", &[])).0, 101);
        opens.open();
        assert_eq!(waits.status(), 101);
        assert_eq!(server.ask(to("/never", &[])).0, 503);
        while manager.count() > 1 {
            std::thread::yield_now();
        }
        waits.close();
        // One that waits does not keep the server from stopping.
        let mut last = Raw::connect(server.address);
        last.send(to("/never", &[]));
        let report = server.stop();
        assert_eq!((report.opened, report.cut), (2, 0));
        assert_eq!(last.rest(), b"");
    }

    /// Defect C20.
    fn paths_lead_to_routes_of_their_own(flavor: Flavor) {
        let room = Routes::new()
            .default_handler(handler(|Path(room): Path<String>| format!("room {room}")))
            .route("/who", handler(|connection: Connection| {
                let request = connection.request().unwrap();
                format!("{:?} {:?} {:?}", request.params(), request.param("room"), request.param("x"))
            }));
        let search = handler(|Query(query): Query<Vec<(String, String)>>| format!("{query:?}"));
        let router = || {
            Router::new()
                .at("/rooms/{room}", room.clone())
                .at("/rooms/lobby", says("lobby"))
                .at("/files/{*path}", says("files"))
                .at("/search", Routes::new().default_handler(search.clone()))
        };
        let server = Started::new(flavor, router());
        assert_eq!(answer(&server, "/rooms/lobby"), "lobby");
        assert_eq!(answer(&server, "/rooms/a%20b?c=d"), "room a b");
        assert_eq!(answer(&server, "/files/a/b"), "files");
        assert_eq!(answer(&server, "/search?a=b"), r#"[("a", "b")]"#);
        let mut peer = Raw::connect(server.address);
        peer.send(to("/rooms/r", &[]));
        assert_eq!(peer.status(), 101);
        peer.send_frame(Opcode::Text, "/who");
        assert_eq!(text(&mut peer), r#"[("room", "r")] Some("r") None"#);
        for target in ["/", "/rooms", "/rooms/a/b", "/rooms/%FF"] {
            assert_eq!(server.ask(to(target, &[])), (404, "not found".into()), "{target}");
        }
        server.stop();
        let server = Started::new(flavor, router().default_handler(handler(|| "other")));
        assert_eq!(answer(&server, "/rooms/lobby"), "lobby");
        assert_eq!(answer(&server, "/rooms/a/b"), "other");
        server.stop();
        // As it was before there were paths.
        let plain = Started::new(flavor, Router::new().default_handler(handler(|| "any")));
        assert_eq!(answer(&plain, "/what/ever?"), "any");
        plain.stop();
    }

    fn requests_are_kept_for_those_who_want_them(flavor: Flavor) {
        let path = || {
            handler(|connection: Connection| {
                format!("{:?}", connection.request().map(|request| request.path().to_owned()))
            })
        };
        let server = Started::new(flavor, Router::new().default_handler(path()));
        assert_eq!(answer(&server, "/p"), "None");
        server.stop();
        let server = Started::new(flavor, Router::new().default_handler(path()).keep_requests());
        assert_eq!(answer(&server, "/p"), "Some(\"/p\")");
        server.stop();
    }

    /// Defect C7.
    fn there_is_an_end_to_connections_in_all_and_from_one_address(flavor: Flavor) {
        let router = Router::new().max_connections(2);
        let server = Started::new(flavor, router);
        let (one, _two) = (server.open(), server.open());
        assert_eq!(server.ask(REQUEST).0, 503);
        one.close();
        while server.ask(REQUEST).0 != 101 {}
        assert!(server.stop().turned_away >= 1);
        let server = Started::new(flavor, Router::new().max_connections_per_address(1));
        let one = server.open();
        assert_eq!(server.ask(REQUEST).0, 429);
        one.close();
        while server.ask(REQUEST).0 != 101 {}
        server.stop();
    }

    /// Defect C8.
    #[cfg(feature = "files")]
    fn files_are_served_beside_the_websocket(flavor: Flavor) {
        let folder = folder();
        let large = "x".repeat(2_000_000);
        std::fs::write(folder.join("index.html"), "<p>").unwrap();
        std::fs::write(folder.join("large.txt"), &large).unwrap();
        let echo = handler(|message: Message| message);
        let server =
            Started::new(flavor, Router::new().default_handler(echo).serve_static(&folder));
        let ask = |line: &str| server.ask(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(ask("GET /?v=1"), (200, "<p>".into()));
        assert_eq!(ask("HEAD /"), (200, "".into()));
        let (status, body) = ask("GET /large.txt");
        assert!(status == 200 && body == large);
        assert_eq!(ask("GET /../Cargo.toml").0, 404);
        assert_eq!(ask("POST /").0, 405);
        server.open().echoes("hello");
        server.stop();
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// Defect C8: to an orderly end each, also for one who reads slowly or sends what nobody wants.
    #[cfg(feature = "files")]
    fn answers_come_whole_while_messages_flow(flavor: Flavor) {
        let folder = folder();
        let large: Vec<u8> = (0..8_000_000).map(|n| (n % 251) as u8).collect();
        std::fs::write(folder.join("large.bin"), &large).unwrap();
        let echo = handler(async |message: Message| {
            yield_now().await;
            message
        });
        let server =
            Started::new(flavor, Router::new().default_handler(echo).serve_static(&folder));
        let (address, over) = (server.address, AtomicBool::new(false));
        std::thread::scope(|scope| {
            let talking = scope.spawn(|| {
                let mut peer = Raw::open(address);
                let mut told = 0;
                while !over.load(Ordering::SeqCst) {
                    peer.echoes("not held up");
                    told += 1;
                }
                peer.close();
                told
            });
            let asking = [Raw::connect, Raw::connect_tiny, Raw::connect].map(|connect| {
                let large = &large;
                scope.spawn(move || {
                    let ask = |request: &[u8]| {
                        let mut peer = connect(address);
                        peer.send(request);
                        let (head, mut body) = (peer.head(), Vec::new());
                        peer.0.read_to_end(&mut body).expect("no reset");
                        (head, body)
                    };
                    let line = |line: &str| format!("{line} HTTP/1.1\r\nHost: a\r\n");
                    for _ in 0..3 {
                        let (head, body) = ask((line("GET /large.bin") + "\r\n").as_bytes());
                        assert!(head.starts_with("HTTP/1.1 200 ") && body == *large, "{head}");
                        assert!(head.contains("\r\nContent-Length: 8000000\r\n"), "{head}");
                        let (head, body) = ask((line("HEAD /large.bin") + "\r\n").as_bytes());
                        assert!(head.contains("\r\nContent-Length: 8000000\r\n"), "{head}");
                        assert_eq!(body, b"");
                        let post = line("POST /large.bin") + "Content-Length: 500000\r\n\r\n";
                        let (head, _) = ask(&[post.as_bytes(), &large[..500_000]].concat());
                        assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
                    }
                })
            });
            let asked = asking.map(ScopedJoinHandle::join);
            over.store(true, Ordering::SeqCst);
            asked.into_iter().for_each(|asked| asked.unwrap());
            assert!(talking.join().unwrap() > 1);
        });
        server.stop();
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// Defect C21: what asks for `/metrics` by HTTP is no message, and a message is no request.
    fn other_requests_are_the_applications_to_answer(flavor: Flavor) {
        let metrics = Arc::new(Metrics::new());
        let counted = metrics.clone();
        let router = Router::new()
            .layer(metrics)
            .default_handler(handler(|message: Message| message))
            .on_http(move |request: Arc<Request>| {
                let answer = match request.path() {
                    "/health" => Answer::reject(200).body("well"),
                    "/metrics" => Answer::reject(200).body(counted.stats().messages_sent.to_string()),
                    "/panic" => panic!("as it should"),
                    _ => Answer::reject(404),
                };
                async { answer }
            });
        let server = Started::new(flavor, router);
        let get = |path: &str| server.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(get("/health"), (200, "well".into()));
        assert_eq!(get("/other").0, 404);
        assert_eq!(get("/panic").0, 500);
        server.open().echoes("/health");
        assert_eq!(get("/metrics"), (200, "1".into()));
        server.stop();
    }
}

/// A folder of this test's own.
#[cfg(feature = "files")]
fn folder() -> PathBuf {
    let thread = std::thread::current().id();
    let folder = std::env::temp_dir().join(format!("wsforge-{}-{thread:?}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
#[should_panic]
fn two_paths_that_are_the_same_are_a_mistake() {
    let _ = Router::new().at("/{a}", Routes::new()).at("/{b}", Routes::new());
}

#[test]
#[should_panic(expected = r#""https://a.example/chat" is no origin"#)]
fn what_is_no_origin_cannot_be_allowed() {
    let _ = Router::new().allow_origins(["https://a.example", "https://a.example/chat"]);
}
