//! What a server answers that opens no connection: plain HTTP, and always to its end.

#[macro_use]
mod support;

use std::future::IntoFuture;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use support::{Raw, Reply, Rt, options, pattern, plain, reply};
use wsforge::runtime::{BoxFuture, Transport};
use wsforge::{AcceptError, Answer, Incoming, Options, WebSocket};

/// More than the system keeps for a connection, whatever it is asked to.
const LONG: usize = 8 * 1024 * 1024;

/// Answers a connection's request, whatever it is.
async fn answer(
    rt: Rt,
    io: impl Transport,
    options: Options,
    answer: Answer,
) -> Result<(), AcceptError> {
    rt.acceptor(options).accept(io).await?.answer(answer).await.map(drop)
}

/// What a browser gets whose request is answered like this.
async fn answered(rt: Rt, method: &str, with: Answer) -> (Result<(), AcceptError>, Reply) {
    let (io, mut raw) = rt.tcp().await;
    raw.write(plain(method, "/", "")).await;
    tokio::join!(answer(rt, io, Options::default(), with), reply(&mut raw))
}

/// What a browser gets for a request to a server of WebSockets only.
async fn refused(rt: Rt, request: impl AsRef<[u8]>) -> Reply {
    let (io, mut raw) = rt.tcp().await;
    raw.write(request).await;
    let accepting = answer(rt, io, Options::default(), Answer::accept());
    let (accepted, reply) = tokio::join!(accepting, reply(&mut raw));
    assert!(accepted.is_err());
    reply
}

/// Reads a body in pieces of this length.
fn pieces(
    body: &[u8],
    len: usize,
) -> impl Fn(u64) -> BoxFuture<io::Result<Bytes>> + Send + Sync + 'static {
    let body = Bytes::copy_from_slice(body);
    move |at| {
        let rest = body.slice(at as usize..);
        let piece = rest.slice(..len.min(rest.len()));
        Box::pin(async move { Ok(piece) })
    }
}

behaviours! {
    async fn a_page_asked_of_a_websocket_server_is_refused_in_words(rt: Rt) {
        let reply = refused(rt, plain("GET", "/", "")).await;
        assert_eq!((reply.status, &reply.body[..]), (426, &b"this is a WebSocket endpoint"[..]));
        assert_eq!(reply.header("Upgrade"), Some("websocket"));
        assert_eq!(reply.header("Content-Type"), Some("text/plain; charset=utf-8"));
        assert_eq!(reply.header("Connection"), Some("Upgrade, close"));
    }

    async fn what_else_is_no_handshake_is_told_what_is_wrong(rt: Rt) {
        let handshake = |version, key| format!(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: {version}\r\n\
             Sec-WebSocket-Key: {key}\r\n"
        );
        let old = plain("GET", "/", &handshake("8", "dGhlIHNhbXBsZSBub25jZQ=="));
        let old = refused(rt, old).await;
        assert_eq!((old.status, old.header("Sec-WebSocket-Version")), (426, Some("13")));
        let post = refused(rt, plain("POST", "/", "Content-Length: 3\r\n") + "a=b").await;
        assert_eq!((post.status, post.header("Allow")), (405, Some("GET")));
        for (request, status) in [
            (plain("GET", "/", &handshake("13", "short")), 400),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400),
            ("hello\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.0\r\n\r\n".to_owned(), 505),
            (plain("GET", "/", &"X: y\r\n".repeat(101)), 431),
        ] {
            let reply = refused(rt, &request).await;
            assert_eq!(reply.status, status, "{request}");
            assert_eq!(reply.length(), Some(reply.body.len()), "{request}");
            assert!(!reply.body.is_empty(), "{request}");
        }
    }

    /// However its head is cut and spelled, and however much stands before what asks for an upgrade.
    async fn every_proper_handshake_is_one(rt: Rt) {
        let cookies = format!("Cookie: {}\r\n", "c=d; ".repeat(220));
        let upgrade = "UPGRADE: WebSocket\r\nCONNECTION: keep-alive, upgrade\r\n\
            SEC-WEBSOCKET-VERSION: 13\r\nSEC-WEBSOCKET-KEY: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let request = plain("GET", "/", &(cookies + upgrade));
        for cut in [0, 1, 500, 1024, request.len() - 1] {
            let (io, mut raw) = rt.tcp().await;
            let (first, second) = request.split_at(cut);
            raw.write(first).await;
            let accepting = answer(rt, io, Options::default(), Answer::accept());
            let (accepted, head) = tokio::join!(accepting, async {
                support::yield_now().await;
                raw.write(second).await;
                raw.head().await
            });
            accepted.unwrap();
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        }
    }

    async fn a_body_of_any_length_arrives_whole(rt: Rt) {
        for len in [0, 1, 65_536, 65_537, 200_000, LONG] {
            let body = pattern(len);
            let in_memory = Answer::reject(200).body(body.clone());
            let streamed = Answer::reject(200).stream(len as u64, pieces(&body, 40_000));
            for with in [in_memory, streamed] {
                let (answered, reply) = answered(rt, "GET", with).await;
                assert!(matches!(answered, Err(AcceptError::Rejected(200))), "{answered:?}");
                assert_eq!((reply.status, reply.length()), (200, Some(len)));
                assert!(reply.body == body, "{} of {len} bytes", reply.body.len());
            }
        }
    }

    /// The peer sends more than it was asked for, which would be a reason to reset it.
    async fn a_body_arrives_whole_at_a_peer_that_goes_on_sending(rt: Rt) {
        let body = pattern(LONG);
        let (io, mut raw) = rt.tcp().await;
        let request = plain("POST", "/", "Content-Length: 100000\r\n");
        // Its head in pieces, too.
        for piece in request.as_bytes().chunks(10) {
            raw.write(piece).await;
            support::yield_now().await;
        }
        raw.write(vec![b'x'; 100_000]).await;
        let with = Answer::reject(200).body(body.clone());
        let answering = answer(rt, io, Options::default(), with);
        let (_, reply) = tokio::join!(answering, reply(&mut raw));
        assert!(reply.body == body, "{} bytes", reply.body.len());
    }

    /// Neither the time to close nor that to read anything is one for all of it.
    async fn a_body_arrives_whole_at_a_peer_that_reads_slowly(rt: Rt) {
        let body = pattern(2 * LONG);
        let options = options(|o| {
            o.protocol.close_timeout = Duration::from_millis(100);
            o.write_timeout = Duration::from_secs(10);
        });
        let (io, mut raw) = rt.tcp().await;
        raw.write(plain("GET", "/", "")).await;
        let with = Answer::reject(200).body(body.clone());
        let (_, reply) = tokio::join!(answer(rt, io, options, with), async {
            raw.fill(1024 * 1024).await;
            // Most has yet to be written.
            rt.sleep(Duration::from_millis(500)).await;
            raw.fill(2 * LONG - 200_000).await;
            // All is with the system, and the server has let go.
            rt.sleep(Duration::from_millis(500)).await;
            reply(&mut raw).await
        });
        assert!(reply.body == body, "{} bytes", reply.body.len());
    }

    async fn no_more_is_read_than_the_peer_takes(rt: Rt) {
        const PIPE: usize = 4096;
        let (io, other) = rt.pipe(PIPE);
        let mut raw = Raw::client(other);
        let read = Arc::new(AtomicU64::new(0));
        let body = pattern(1024 * 1024);
        let with = {
            let (read, pieces) = (read.clone(), pieces(&body, 64 * 1024));
            Answer::reject(200).stream(body.len() as u64, move |at| {
                read.store(at, Ordering::SeqCst);
                pieces(at)
            })
        };
        raw.write(plain("GET", "/", "")).await;
        let answering = rt.spawn(answer(rt, io, Options::default(), with));
        let head = raw.head().await;
        assert!(head.contains("Content-Length: 1048576\r\n"), "{head}");
        while raw.buf.len() < body.len() {
            assert!(raw.read().await.unwrap());
            // The last piece begins before what has been taken, that is, read or in the pipe.
            let taken = raw.buf.len() + PIPE;
            assert!(read.load(Ordering::SeqCst) <= taken as u64);
        }
        assert!(raw.buf == body);
        raw.shut_down().await;
        assert!(matches!(answering.await, Err(AcceptError::Rejected(200))));
    }

    async fn a_peer_that_takes_nothing_is_cut_off(rt: Rt) {
        let options = options(|o| o.write_timeout = Duration::from_millis(300));
        let (io, mut raw) = rt.tcp().await;
        raw.write(plain("GET", "/", "")).await;
        let with = Answer::reject(200).body(pattern(4 * LONG));
        let cut_off = answer(rt, io, options, with).await;
        assert!(matches!(cut_off, Err(AcceptError::Io(_))), "{cut_off:?}");
        assert!(raw.rest().await.len() < 4 * LONG);
    }

    async fn a_peer_that_takes_a_little_at_a_time_is_not(rt: Rt) {
        let options = options(|o| o.write_timeout = Duration::from_secs(1));
        let (io, other) = rt.pipe(1000);
        let mut raw = Raw::client(other);
        raw.write(plain("GET", "/", "")).await;
        let body = pattern(200_000);
        let answering = rt.spawn(answer(rt, io, options, Answer::reject(200).body(body.clone())));
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        // Longer in all than it may take nothing, and less of the body than a piece.
        for n in 1..=6 {
            rt.sleep(Duration::from_millis(250)).await;
            raw.fill(n * 2000).await;
        }
        assert!(raw.rest().await == body);
        raw.shut_down().await;
        assert!(matches!(answering.await, Err(AcceptError::Rejected(200))));
    }

    async fn a_peer_that_takes_a_little_at_a_time_has_the_age_of_a_connection(rt: Rt) {
        let options = options(|o| o.max_age = Some(Duration::from_millis(300)));
        let (io, other) = rt.pipe(1000);
        let mut raw = Raw::client(other);
        raw.write(plain("GET", "/", "")).await;
        let with = Answer::reject(200).stream(1 << 40, |_| Box::pin(async { Ok(pattern(1000).into()) }));
        let answering = rt.spawn(answer(rt, io, options, with));
        while raw.read().await.is_ok_and(|more| more) {
            raw.buf.clear();
        }
        assert!(matches!(answering.await, Err(AcceptError::Io(_))));
    }

    async fn a_peer_has_the_time_to_close_to_read_the_end(rt: Rt) {
        let options = options(|o| o.write_timeout = Duration::from_millis(200));
        let (io, mut raw) = rt.tcp().await;
        raw.write(plain("GET", "/", "")).await;
        let with = Answer::reject(200).body(pattern(100_000));
        let answering = rt.spawn(answer(rt, io, options, with));
        raw.head().await;
        while raw.read().await.unwrap() {}
        assert_eq!(raw.buf.len(), 100_000);
        rt.sleep(Duration::from_millis(600)).await;
        // What it still sends would be answered with a reset if nobody were there.
        raw.write(b"more").await;
        assert!(!raw.read().await.unwrap());
        raw.shut_down().await;
        assert!(matches!(answering.await, Err(AcceptError::Rejected(200))));
    }

    async fn a_head_alone_reads_nothing(rt: Rt) {
        for (method, status, length) in [("HEAD", 200, Some(1 << 40)), ("GET", 304, None)] {
            let with = Answer::reject(status).stream(1 << 40, |_| panic!("nobody wants it"));
            let (_, reply) = answered(rt, method, with).await;
            assert_eq!((reply.status, reply.length()), (status, length));
            assert_eq!(reply.body, b"");
        }
    }

    async fn a_body_that_fails_or_ends_early_is_seen_to(rt: Rt) {
        let fails = |at: u64| -> BoxFuture<io::Result<Bytes>> {
            Box::pin(async move {
                if at < 100_000 { Ok(pattern(10_000).into()) } else { Err(ErrorKind::Other.into()) }
            })
        };
        let ends = |at: u64| -> BoxFuture<io::Result<Bytes>> {
            Box::pin(async move { Ok(pattern(if at < 100_000 { 10_000 } else { 0 }).into()) })
        };
        for (with, kind) in [
            (Answer::reject(200).stream(150_000, fails), ErrorKind::Other),
            (Answer::reject(200).stream(150_000, ends), ErrorKind::UnexpectedEof),
        ] {
            let (answered, reply) = answered(rt, "GET", with).await;
            assert!(matches!(answered, Err(AcceptError::Io(error)) if error.kind() == kind));
            assert_eq!((reply.length(), reply.body.len()), (Some(150_000), 100_000));
        }
    }

    async fn a_body_is_no_longer_than_it_was_said_to_be(rt: Rt) {
        let with = Answer::reject(200).stream(100_005, pieces(&[b'a'; 200_000], 10_000));
        let (_, reply) = answered(rt, "GET", with).await;
        assert_eq!((reply.length(), reply.body.len()), (Some(100_005), 100_005));
    }

    async fn a_server_that_stops_ends_what_it_has_begun(rt: Rt) {
        let listener = rt.listen().await;
        let mut raw = rt.raw(listener.address);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let body = Bytes::from(pattern(LONG));
        let served = body.clone();
        let decide = move |_: &Incoming<'_>| Answer::reject(200).body(served.clone());
        let serve = rt.serve(listener, decide, |_: WebSocket| async {}).shutdown(async {
            let _ = stopped.await;
        });
        let server = rt.spawn(serve.into_future());
        raw.write(plain("GET", "/", "")).await;
        raw.fill(100_000).await;
        stop.send(()).unwrap();
        let reply = reply(&mut raw).await;
        assert!(reply.body == body, "{} bytes", reply.body.len());
        assert_eq!(server.await.cut, 0);
    }
}
