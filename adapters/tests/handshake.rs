//! Opening a connection, from both sides.

#[macro_use]
mod support;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use support::{Frame, Raw, Rt, encode, options, poll_times, text_of, yield_now};
use wsforge::proto::frame::Opcode;
use wsforge::proto::handshake::{Invalid, RequestError, ResponseError};
use wsforge::{AcceptError, Answer, CloseCode, ConnectError, Options};

/// What a client gets from a server that answers its request like this. The server reads no more.
async fn answered(rt: Rt, answer: &'static [u8]) -> ConnectError {
    let mut listener = rt.listen().await;
    let connect = rt.connect(format!("ws://{}/", listener.address)).subprotocol("a");
    let server = rt.spawn(async move {
        let mut raw = Raw::server(listener.accept().await);
        raw.head().await;
        raw.write(answer).await;
    });
    let error = connect.await.unwrap_err();
    server.await;
    error
}

/// A request with these headers beside what it needs.
fn request(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
}

behaviours! {
    async fn the_request_is_seen_before_the_answer(rt: Rt) {
        let (io, mut raw) = rt.tcp().await;
        let address = io.peer_addr();
        assert!(address.is_some());
        let headers = "Cookie: a=1; b=2\r\nSec-WebSocket-Protocol: chat, talk\r\nX-One: 1\r\n";
        raw.write(request("/room/7?who=me", headers)).await;
        let handshake = rt.accept(io).await.unwrap();
        let seen = handshake.request();
        assert_eq!((seen.path(), seen.query()), ("/room/7", Some("who=me")));
        assert_eq!((seen.host(), seen.method()), ("a.example", "GET"));
        assert_eq!(seen.header("x-one"), Some(&b"1"[..]));
        assert_eq!(seen.cookies().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
        assert_eq!(seen.subprotocols().collect::<Vec<_>>(), ["chat", "talk"]);
        assert_eq!(handshake.peer_addr(), address);
        // Nothing has been answered yet: the first bytes are those of the answer.
        let (answered, head) = tokio::join!(handshake.answer(Answer::reject(418)), async {
            let head = raw.head().await;
            raw.shut_down().await;
            head
        });
        assert!(matches!(answered, Err(AcceptError::Rejected(418))));
        assert!(head.starts_with("HTTP/1.1 418 "), "{head}");
    }

    async fn an_answer_carries_a_subprotocol_and_headers(rt: Rt) {
        let mut listener = rt.listen().await;
        let connect = rt
            .connect(format!("ws://{}/", listener.address))
            .subprotocol("chat")
            .subprotocol("talk");
        let server = rt.spawn(async move {
            let handshake = rt.accept(listener.accept().await).await.unwrap();
            let answer = Answer::accept().subprotocol("talk").header("Set-Cookie", "s=1");
            let mut socket = handshake.answer(answer).await.unwrap();
            socket.send("hello").await.unwrap();
            socket.recv().await
        });
        let (mut socket, response) = connect.with_response().await.unwrap();
        assert_eq!(response.subprotocol.as_deref(), Some("talk"));
        let cookie = ("Set-Cookie".to_owned(), b"s=1".to_vec());
        assert!(response.headers.contains(&cookie), "{response:?}");
        assert_eq!(text_of(&socket.recv().await.unwrap()), "hello");
        socket.close(CloseCode::NORMAL, "").await;
        assert_eq!(server.await, None);
    }

    async fn a_client_sends_its_own_headers_and_offers(rt: Rt) {
        let mut listener = rt.listen().await;
        let address = listener.address;
        let connect = rt
            .connect(format!("ws://{address}/a%20b?c=d"))
            .subprotocol("one")
            .subprotocol("two")
            .header("Origin", "http://a.example")
            .header("Cookie", "k=v");
        let server = rt.spawn(async move {
            let mut raw = Raw::server(listener.accept().await);
            (raw.answer().await, raw)
        });
        let socket = connect.await.unwrap();
        let (head, _raw) = server.await;
        assert!(head.starts_with("GET /a%20b?c=d HTTP/1.1\r\n"), "{head}");
        let wanted = [
            format!("Host: {address}"),
            "Sec-WebSocket-Protocol: one, two".into(),
            "Origin: http://a.example".into(),
            "Cookie: k=v".into(),
        ];
        for line in wanted {
            assert!(head.split("\r\n").any(|have| have == line), "{line} in {head}");
        }
        assert_eq!(socket.peer_addr(), Some(address));
    }

    async fn a_refusal_reaches_the_client_whole(rt: Rt) {
        for (status, body) in [(200, vec![]), (404, b"not here".to_vec()), (599, support::pattern(40_000))] {
            let mut listener = rt.listen().await;
            let connect = rt.connect(format!("ws://{}/", listener.address));
            let answer = Answer::reject(status).header("X-Why", "because").body(body.clone());
            let server = rt.spawn(async move {
                rt.accept(listener.accept().await).await.unwrap().answer(answer).await
            });
            let Err(ConnectError::Refused(refused)) = connect.await else { panic!("{status}") };
            assert_eq!(refused.status, status);
            assert!(refused.body == body, "{} of {}", refused.body.len(), body.len());
            let why = ("X-Why".to_owned(), b"because".to_vec());
            assert!(refused.headers.contains(&why), "{refused:?}");
            assert!(matches!(server.await, Err(AcceptError::Rejected(is)) if is == status));
        }
    }

    async fn an_answer_that_cannot_be_sent_becomes_a_500(rt: Rt) {
        let answers = [
            (Answer::accept().subprotocol("unoffered"), Invalid::UnofferedSubprotocol),
            (Answer::accept().header("Upgrade", "tea"), Invalid::ReservedHeader),
            (Answer::accept().header("a b", "c"), Invalid::HeaderName),
            (Answer::reject(404).header("X", "a\r\nb"), Invalid::HeaderValue),
            (Answer::reject(101), Invalid::Status),
        ];
        for (answer, invalid) in answers {
            let (io, mut raw) = rt.tcp().await;
            raw.write(request("/", "")).await;
            let answering = rt.accept(io).await.unwrap().answer(answer);
            let (error, head) = tokio::join!(answering, async {
                let head = raw.head().await;
                raw.shut_down().await;
                head
            });
            assert!(matches!(error, Err(AcceptError::Invalid(is)) if is == invalid), "{error:?}");
            assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
        }
    }

    async fn frames_behind_the_request_are_received(rt: Rt) {
        let (io, raw) = rt.tcp().await;
        let mut bytes = request("/", "").into_bytes();
        for text in ["one", "two", "three"] {
            bytes.extend(encode(&Frame::text(text), raw.mask));
        }
        raw.write(bytes).await;
        let mut socket = rt.accept(io).await.unwrap().accept().await.unwrap();
        for text in ["one", "two", "three"] {
            assert_eq!(text_of(&socket.recv().await.unwrap()), text);
        }
    }

    async fn frames_behind_the_answer_are_received(rt: Rt) {
        let mut listener = rt.listen().await;
        let connect = rt.connect(format!("ws://{}/", listener.address));
        let server = rt.spawn(async move {
            let mut raw = Raw::server(listener.accept().await);
            let mut bytes = support::answer_to(&raw.head().await);
            bytes.extend(encode(&Frame::text("one"), None));
            bytes.extend(encode(&Frame::text("two"), None));
            raw.write(bytes).await;
            raw
        });
        let mut socket = connect.await.unwrap();
        assert_eq!(text_of(&socket.recv().await.unwrap()), "one");
        assert_eq!(text_of(&socket.recv().await.unwrap()), "two");
        drop(server.await);
    }

    async fn plain_http_gets_an_answer(rt: Rt) {
        let page = b"GET /index.html HTTP/1.1\r\nHost: a.example\r\n\r\n";
        // One of ours.
        let (io, mut raw) = rt.tcp().await;
        raw.write(page).await;
        let handshake = rt.accept(io).await.unwrap();
        assert_eq!(handshake.request().path(), "/index.html");
        let answering = handshake.answer(Answer::reject(200).body("hello"));
        let (answered, rest) = tokio::join!(answering, async {
            let head = raw.head().await;
            raw.shut_down().await;
            (head, raw.rest().await)
        });
        assert!(matches!(answered, Err(AcceptError::Rejected(200))));
        assert!(rest.0.starts_with("HTTP/1.1 200 "), "{}", rest.0);
        assert_eq!(rest.1, b"hello");
        // One that says what is wrong.
        let (io, mut raw) = rt.tcp().await;
        raw.write(page).await;
        let accepting = async { rt.accept(io).await.unwrap().accept().await };
        let (accepted, head) = tokio::join!(accepting, async {
            let head = raw.head().await;
            raw.shut_down().await;
            head
        });
        assert!(matches!(accepted, Err(AcceptError::Request(RequestError::NotUpgrade))));
        assert!(head.starts_with("HTTP/1.1 426 "), "{head}");
    }

    async fn what_is_not_http_is_refused(rt: Rt) {
        let (io, mut raw) = rt.tcp().await;
        raw.write(b"\x16\x03\x01 hello\r\n\r\n").await;
        let (accepted, head) = tokio::join!(rt.accept(io), async {
            let head = raw.head().await;
            raw.shut_down().await;
            head
        });
        assert!(matches!(accepted, Err(AcceptError::Request(RequestError::BadRequest))));
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    }

    async fn a_peer_that_leaves_inside_its_request_is_gone(rt: Rt) {
        let (io, raw) = rt.tcp().await;
        raw.write(b"GET / HTTP/1.1\r\n").await;
        drop(raw);
        assert!(matches!(rt.accept(io).await, Err(AcceptError::Closed)));
        let (io, raw) = rt.tcp().await;
        raw.reset();
        assert!(matches!(rt.accept(io).await, Err(AcceptError::Io(_))));
    }

    async fn a_slow_request_is_told_so(rt: Rt) {
        let (io, mut raw) = rt.tcp().await;
        let acceptor = rt.acceptor(options(|o| o.handshake_timeout = Duration::from_millis(200)));
        raw.write(b"GET / HTTP/1.1\r\n").await;
        let (accepted, head) = tokio::join!(acceptor.accept(io), async {
            let head = raw.head().await;
            raw.shut_down().await;
            head
        });
        assert!(matches!(accepted, Err(AcceptError::TimedOut)));
        assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    }

    async fn an_answer_may_come_too_late(rt: Rt) {
        let acceptor = rt.acceptor(options(|o| o.handshake_timeout = Duration::from_millis(200)));
        for answer in [Answer::accept(), Answer::reject(404)] {
            let (io, mut raw) = rt.tcp().await;
            raw.write(request("/", "")).await;
            let handshake = acceptor.accept(io).await.unwrap();
            // The peer is let go by the timer, as nobody answers it.
            assert_eq!(raw.rest().await, b"");
            let answered = handshake.answer(answer).await;
            assert!(matches!(answered, Err(AcceptError::TimedOut)), "{answered:?}");
        }
    }

    async fn a_long_head_is_refused(rt: Rt) {
        let (io, mut raw) = rt.tcp().await;
        let acceptor = rt.acceptor(options(|o| o.handshake.max_head_len = 200));
        raw.write(request("/", &format!("X: {}\r\n", "x".repeat(200)))).await;
        let (accepted, head) = tokio::join!(acceptor.accept(io), async {
            let head = raw.head().await;
            raw.shut_down().await;
            head
        });
        assert!(matches!(accepted, Err(AcceptError::Request(RequestError::HeadTooLong))));
        assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
    }

    async fn a_bad_url_leads_nowhere(rt: Rt) {
        for url in ["", "http://127.0.0.1/", "wss://127.0.0.1/", "ws://127.0.0.1/#a"] {
            assert!(matches!(rt.connect(url).await, Err(ConnectError::Url(_))), "{url}");
        }
    }

    async fn a_request_that_cannot_be_sent_is_invalid(rt: Rt) {
        let listener = rt.listen().await;
        let url = format!("ws://{}/", listener.address);
        let error = rt.connect(url.clone()).header("X", "a\r\nb").await.unwrap_err();
        assert!(matches!(error, ConnectError::Invalid(Invalid::HeaderValue)), "{error}");
        let error = rt.connect(url.clone()).subprotocol("a b").await.unwrap_err();
        assert!(matches!(error, ConnectError::Invalid(Invalid::Subprotocol)), "{error}");
    }

    async fn a_port_that_nobody_listens_on_is_an_error(rt: Rt) {
        // Bound, so that nobody else gets it, but not listening.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let error = rt.connect(format!("ws://{address}/")).await.unwrap_err();
        let ConnectError::Io(error) = error else { panic!("{error}") };
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    async fn an_answer_that_is_no_handshake_is_an_error(rt: Rt) {
        let answers: [(&[u8], ResponseError); 5] = [
            (b"HTTP/1.1 hello\r\n\r\n", ResponseError::BadResponse),
            (b"HTTP/1.0 101 Ok\r\n\r\n", ResponseError::UnsupportedHttpVersion),
            (b"HTTP/1.1 101 Ok\r\nConnection: Upgrade\r\n\r\n", ResponseError::BadUpgrade),
            (
                b"HTTP/1.1 101 Ok\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
                ResponseError::BadAccept,
            ),
            (
                b"HTTP/1.1 101 Ok\r\nUpgrade: websocket\r\n\r\n",
                ResponseError::BadConnection,
            ),
        ];
        for (answer, wanted) in answers {
            let error = answered(rt, answer).await;
            let ConnectError::Response(error) = error else { panic!("{error}: {wanted}") };
            assert_eq!(error, wanted);
        }
    }

    async fn a_subprotocol_that_was_not_offered_is_an_error(rt: Rt) {
        let mut listener = rt.listen().await;
        let connect = rt.connect(format!("ws://{}/", listener.address)).subprotocol("a");
        let server = rt.spawn(async move {
            let mut raw = Raw::server(listener.accept().await);
            let answer = support::answer_to(&raw.head().await);
            let answer = String::from_utf8(answer).unwrap();
            let end = "\r\nSec-WebSocket-Protocol: b\r\n\r\n";
            raw.write(answer.trim_end().to_owned() + end).await;
            raw
        });
        let error = connect.await.unwrap_err();
        assert!(
            matches!(error, ConnectError::Response(ResponseError::UnknownSubprotocol)),
            "{error}"
        );
        // The client is gone: nothing is sent over such a connection.
        assert_eq!(server.await.rest().await, b"");
    }

    async fn a_refusal_ends_with_its_length_or_the_connection(rt: Rt) {
        let answer: &[u8] = b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\nhello, and more";
        let ConnectError::Refused(refused) = answered(rt, answer).await else { panic!() };
        assert_eq!((refused.status, &*refused.reason), (200, "Fine"));
        assert_eq!(refused.body, b"hello");
        let answer: &[u8] = b"HTTP/1.1 503 Busy\r\n\r\nto the end";
        let ConnectError::Refused(refused) = answered(rt, answer).await else { panic!() };
        assert_eq!((refused.status, &refused.body[..]), (503, &b"to the end"[..]));
    }

    async fn a_server_that_leaves_early_is_an_error(rt: Rt) {
        let error = answered(rt, b"HTTP/1.1 101 Switch").await;
        let ConnectError::Io(error) = error else { panic!("{error}") };
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    async fn silence_is_waited_for_only_so_long(rt: Rt) {
        let mut listener = rt.listen().await;
        let url = format!("ws://{}/", listener.address);
        let short = Duration::from_millis(200);
        // One that is in the queue and is never accepted.
        let error = rt.connect(url.clone()).timeout(short).await.unwrap_err();
        assert!(matches!(error, ConnectError::TimedOut), "{error}");
        drop(listener.accept().await);
        // One that is accepted and never answered, though asked over a connection made elsewhere.
        let (client, server) = rt.pipe(1024);
        let error = rt.connect("ws://a.example/").timeout(short).over(client).await.unwrap_err();
        assert!(matches!(error, ConnectError::TimedOut), "{error}");
        let mut raw = Raw::server(server);
        assert!(raw.head().await.contains("Host: a.example\r\n"));
        assert_eq!(raw.rest().await, b"");
    }

    async fn an_endless_answer_is_cut_off(rt: Rt) {
        let mut listener = rt.listen().await;
        let connect = rt
            .connect(format!("ws://{}/", listener.address))
            .options(options(|o| o.handshake.max_head_len = 300));
        let server = rt.spawn(async move {
            let mut raw = Raw::server(listener.accept().await);
            raw.head().await;
            raw.write(b"HTTP/1.1 101 Ok\r\nX: ").await;
            while raw.try_write(b"xxxxxxxxxxxxxxxx").await.is_ok() {
                yield_now().await;
            }
        });
        let error = connect.await.unwrap_err();
        assert!(matches!(error, ConnectError::Response(ResponseError::HeadTooLong)), "{error}");
        server.await;
    }

    async fn wss_may_be_asked_for_over_a_transport_that_is_there(rt: Rt) {
        let (client, server) = rt.pipe(1024);
        let mut raw = Raw::server(server);
        let connect = rt.connect("wss://a.example/x").header("X-A", "b").over(client);
        let (connected, head) = tokio::join!(connect, raw.answer());
        let (socket, _) = connected.unwrap();
        assert!(head.starts_with("GET /x HTTP/1.1\r\nHost: a.example\r\n"), "{head}");
        assert!(head.contains("X-A: b\r\n"), "{head}");
        assert_eq!(socket.peer_addr(), None);
    }

    async fn a_dropped_handshake_drops_its_connection(rt: Rt) {
        let (io, mut raw) = rt.tcp().await;
        raw.write(request("/", "")).await;
        drop(rt.accept(io).await.unwrap());
        assert_eq!(raw.rest().await, b"");
        let (io, mut raw) = rt.tcp().await;
        assert!(poll_times(1, rt.accept(io)).await.is_none());
        assert_eq!(raw.rest().await, b"");
    }

    async fn serve_decides_and_hands_over(rt: Rt) {
        let listener = rt.listen().await;
        let address = listener.address;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serve = rt
            .serve(
                listener,
                |incoming| match incoming.request.path() {
                    "/echo" => Answer::accept().header("X-Peer", incoming.peer_addr.unwrap().to_string()),
                    _ => Answer::reject(404).body("nothing here"),
                },
                |mut socket| async move {
                    while let Some(message) = socket.recv().await {
                        if socket.send(message).await.is_err() {
                            break;
                        }
                    }
                },
            )
            .options(Options::default())
            .patience(Duration::from_secs(5))
            .shutdown(async {
                let _ = stopped.await;
            });
        let server = rt.spawn(async move { serve.await });
        let error = rt.connect(format!("ws://{address}/")).await.unwrap_err();
        assert!(matches!(&error, ConnectError::Refused(refused) if refused.body == b"nothing here"));
        let echo = rt.connect(format!("ws://{address}/echo"));
        let (mut socket, response) = echo.with_response().await.unwrap();
        let peer = response.headers.iter().find(|(name, _)| name == "X-Peer").unwrap();
        assert!(String::from_utf8_lossy(&peer.1).starts_with("127.0.0.1:"));
        socket.send("hello").await.unwrap();
        assert_eq!(text_of(&socket.recv().await.unwrap()), "hello");
        stop.send(()).unwrap();
        assert_eq!(socket.recv().await, None);
        assert_eq!(socket.close_info().unwrap().code, 1001);
        let report = server.await;
        assert_eq!((report.opened, report.turned_away, report.cut), (1, 0, 0));
    }
}

/// The raw peer itself: a bad tool would make good tests of bad code.
#[test]
fn the_raw_peer_writes_what_the_rfc_shows() {
    let hello = Frame::text("Hello");
    assert_eq!(encode(&hello, None), b"\x81\x05Hello");
    assert_eq!(
        encode(&hello, Some([0x37, 0xfa, 0x21, 0x3d])),
        [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]
    );
    assert_eq!(Frame::close(1000, "").payload, [3, 232]);
    assert_eq!(Frame::new(Opcode::Ping, "a").opcode, Opcode::Ping);
}
