//! Transports other than TCP, and ones that make things hard.

#[macro_use]
mod support;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use support::{
    Dribble, Frame, Lingering, MASK, REQUEST, Raw, Rt, encode, options, pattern, poll_times,
    text_of, until, yield_now,
};
use tokio::sync::oneshot;
use wsforge::proto::frame::Opcode;
use wsforge::runtime::{Listener, Transport};
use wsforge::{
    Answer, CloseCode, ConnectionError, Incoming, Kind, Message, Options, Serve, WebSocket,
};

/// What takes its time where every byte is waited for.
const LONG: usize = 5000;

/// What goes over a connection must come back from an echo at its other end, and the end be clean.
async fn converses(rt: Rt, (mut server, mut client): (WebSocket, WebSocket), longest: usize) {
    let echo = rt.spawn(async move {
        while let Some(message) = server.recv().await {
            server.send(message).await.unwrap();
        }
        server.close_info().unwrap().clean
    });
    let messages: [Message; 6] = [
        "".into(),
        "h\u{e4}llo".into(),
        pattern(300).into(),
        // Long enough to be read into memory of their own once one was received.
        pattern(17_000).into(),
        "h\u{e4}llo".repeat(3_000).into(),
        pattern(5000).into(),
    ];
    for message in messages.into_iter().filter(|message| message.as_bytes().len() <= longest) {
        client.send(message.clone()).await.unwrap();
        assert!(client.recv().await == Some(message));
    }
    let mut writer = client.stream(Kind::Binary).await.unwrap();
    for piece in pattern(1000).chunks(99) {
        writer.write(piece.to_vec()).await.unwrap();
    }
    writer.finish().await.unwrap();
    assert!(client.recv().await == Some(pattern(1000).into()));
    let info = client.close(CloseCode::NORMAL, "").await;
    assert_eq!((info.code, info.clean), (1000, true));
    assert!(echo.await);
}

/// What a peer has sent, and how often it was read from when there was nothing.
#[derive(Clone, Default)]
struct Fed {
    bytes: Arc<Mutex<VecDeque<u8>>>,
    in_vain: Arc<AtomicUsize>,
}

impl Transport for Fed {
    fn poll_read(&self, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = self.bytes.lock().unwrap().read(buf);
        if let Ok(0) = read {
            self.in_vain.fetch_add(1, Ordering::Relaxed);
            return Poll::Pending;
        }
        Poll::Ready(read)
    }

    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.bytes.lock().unwrap().is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_write(&self, _: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn abort(&self) {}
}

/// A door at which somebody is always gone already.
struct Revolving;

impl Listener for Revolving {
    type Io = Box<dyn Transport>;

    fn poll_accept(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Io, Option<SocketAddr>)>> {
        Poll::Ready(Err(ErrorKind::ConnectionAborted.into()))
    }
}

behaviours! {
    async fn a_rush_at_the_door_leaves_others_their_turn(rt: Rt) {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serve = Serve::on(rt.runtime().into(), Revolving, |_: &Incoming<'_>| Answer::accept(), |_: WebSocket| async {});
        let server = rt.spawn(serve.shutdown(async { drop(stopped.await) }).into_future());
        yield_now().await;
        drop(stop);
        assert_eq!(server.await.opened, 0);
    }

    async fn a_pipe_in_memory_however_small(rt: Rt) {
        for capacity in [1, 7, 64, 100_000] {
            let (server, client) = rt.pair_over(rt.pipe(capacity), Options::default()).await;
            assert_eq!((server.peer_addr(), client.peer_addr()), (None, None));
            let longest = if capacity < 100_000 { LONG } else { usize::MAX };
            converses(rt, (server, client), longest).await;
        }
    }

    #[cfg(unix)]
    async fn a_unix_socket(rt: Rt) {
        let (server, client) = rt.pair_over(rt.unix_pair(), Options::default()).await;
        assert_eq!((server.peer_addr(), client.peer_addr()), (None, None));
        converses(rt, (server, client), usize::MAX).await;
    }

    #[cfg(unix)]
    async fn a_unix_socket_that_listens(rt: Rt) {
        let name = format!("wsforge-{}-{rt:?}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let listener = rt.unix_listener(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let serve = rt.serve(
            listener,
            |incoming| match incoming.peer_addr {
                None => Answer::accept(),
                Some(_) => Answer::reject(500),
            },
            |mut socket| async move { socket.send("hello").await.unwrap() },
        );
        let _server = rt.spawn(async move { serve.await });
        let io = rt.connect_unix(&path).await;
        std::fs::remove_file(&path).unwrap();
        let (mut client, _) = rt.connect("ws://a.example/").over(io).await.unwrap();
        assert_eq!(text_of(&client.recv().await.unwrap()), "hello");
        assert_eq!(client.recv().await, None);
        assert!(client.close_info().unwrap().clean);
    }

    async fn one_that_takes_little_and_is_often_not_ready(rt: Rt) {
        for most in [1, 3, 50] {
            let (server, client) = rt.unix_pair();
            let ends = (Dribble::new(server, most, most), Dribble::new(client, most, most));
            let (server, client) = rt.pair_over(ends, Options::default()).await;
            converses(rt, (server, client), LONG).await;
        }
    }

    async fn every_byte_is_written_once_however_little_is_taken(rt: Rt) {
        let (io, mut raw) = rt.tcp().await;
        let io = Dribble::new(io, 1000, 3);
        let mut server = rt.server_over(io, &mut raw, Options::default()).await;
        let sender = server.sender();
        let write = rt.spawn(async move {
            server.send("one").await.unwrap();
            server.send(pattern(300)).await.unwrap();
            sender.ping(b"two").unwrap();
            sender.try_send(pattern(10_000)).unwrap();
            server.feed("three").await.unwrap();
            server.flush().await.unwrap();
            server
        });
        let wanted = [
            Frame::text("one"),
            Frame::new(Opcode::Binary, pattern(300)),
            Frame::new(Opcode::Ping, "two"),
            Frame::new(Opcode::Binary, pattern(10_000)),
            Frame::text("three"),
        ];
        assert!(raw.frames(5).await == wanted);
        drop(write.await);
        assert_eq!(raw.frame().await, Some(Frame::close(1000, "")));
    }

    async fn a_message_to_a_transport_that_only_its_owner_writes_to_leaves_at_once(rt: Rt) {
        let (server, client) = rt.pipe(1000);
        let mut raw = Raw::client(client);
        let mut server = rt.server_over(server, &mut raw, Options::default()).await;
        // Nobody polls the server but for this.
        server.send("hello").await.unwrap();
        assert_eq!(raw.frame().await, Some(Frame::text("hello")));
        let mut writer = server.stream(Kind::Text).await.unwrap();
        writer.write("piece").await.unwrap();
        assert_eq!(raw.frame().await, Some(Frame::fragment(Opcode::Text, "piece")));
        writer.finish().await.unwrap();
        assert_eq!(raw.frame().await, Some(Frame::new(Opcode::Continuation, "")));
    }

    async fn a_read_that_leaves_room_is_the_last_until_there_is_more(rt: Rt) {
        let fed = Fed::default();
        fed.bytes.lock().unwrap().extend(REQUEST);
        let mut server = rt.accept(fed.clone()).await.unwrap().accept().await.unwrap();
        // More than is read at once; the rest is read to where the message is kept.
        let sent = pattern(2 << 20);
        let frame = encode(&Frame::new(Opcode::Binary, &sent), Some(MASK));
        let (start, rest) = frame.split_at(600_000);
        fed.bytes.lock().unwrap().extend(start);
        fed.in_vain.store(0, Ordering::Relaxed);
        assert!(poll_times(1, server.recv()).await.is_none());
        assert_eq!(fed.bytes.lock().unwrap().len(), 0);
        assert_eq!(fed.in_vain.load(Ordering::Relaxed), 0);
        fed.bytes.lock().unwrap().extend(rest);
        assert!(server.recv().await == Some(sent.into()));
    }

    /// A stream with encryption says its own farewell then.
    async fn a_stream_is_shut_down_at_an_orderly_end(rt: Rt) {
        for who in ["client", "dropped server", "server"] {
            let [(server, shutdowns_of_server), (client, shutdowns_of_client)] =
                rt.counted_pipe(1000);
            let (mut server, mut client) =
                rt.pair_over((server, client), Options::default()).await;
            let (closes, mut waits) = match who {
                "client" => {
                    let client = rt.spawn(async move {
                        client.close(CloseCode::NORMAL, "").await;
                        client
                    });
                    (client, server)
                }
                "server" => {
                    let server = rt.spawn(async move {
                        server.close(CloseCode::NORMAL, "").await;
                        server
                    });
                    (server, client)
                }
                _ => {
                    drop(server);
                    assert_eq!(client.recv().await, None);
                    until(|| shutdowns_of_server.load(Ordering::Relaxed) > 0).await;
                    assert_eq!(shutdowns_of_client.load(Ordering::Relaxed), 1);
                    continue;
                }
            };
            assert_eq!(waits.recv().await, None);
            assert!(waits.close_info().unwrap().clean && closes.await.close_info().unwrap().clean);
            for shutdowns in [shutdowns_of_server, shutdowns_of_client] {
                assert_eq!(shutdowns.load(Ordering::Relaxed), 1, "the {who} closes");
            }
        }
    }

    /// The deadline of the close is that of the farewell, too.
    async fn a_farewell_that_never_ends_keeps_nothing(rt: Rt) {
        let gone = Arc::<AtomicUsize>::default();
        let (ended, ends) = mpsc::channel();
        let listener = rt.listen().await;
        let address = listener.address;
        let listener = listener.wrap({
            let gone = Arc::clone(&gone);
            move |io| Lingering::counting(io, &gone)
        });
        let serve = rt.serve(
            listener,
            |incoming| match incoming.request.path() {
                "/refused" => Answer::reject(404),
                _ => Answer::accept(),
            },
            move |mut socket| {
                let ended = ended.clone();
                async move {
                    let error = match socket.recv().await.as_ref().and_then(Message::as_text) {
                        Some("close") => &socket.close(CloseCode::NORMAL, "").await.error,
                        Some("drop") => return,
                        _ => &socket.close_info().unwrap().error,
                    };
                    ended.send(matches!(error, Some(ConnectionError::TimedOut))).unwrap();
                }
            },
        );
        let serve = serve.options(options(|o| {
            o.protocol.close_timeout = Duration::from_millis(200);
            o.max_connections = 1;
        }));
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = serve.shutdown(async { drop(stopped.await) });
        let server = rt.spawn(async move { serve.await });
        for (n, end) in ["close", "drop", "peer", "refused"].into_iter().enumerate() {
            // Each finds the place that the one before has given back.
            let mut raw = rt.raw(address);
            if end == "refused" {
                raw.write("GET /refused HTTP/1.1\r\nHost: a\r\n\r\n").await;
                assert!(raw.head().await.starts_with("HTTP/1.1 404 "));
            } else {
                raw.open().await;
                match end {
                    "peer" => raw.send(Frame::close(1000, "")).await,
                    end => raw.send_text(end).await,
                }
                let close = raw.frame().await.expect("a Close");
                assert_eq!(close.opcode, Opcode::Close);
                if end != "peer" {
                    raw.send(close).await;
                }
            }
            assert_eq!(raw.rest().await, b"");
            until(|| gone.load(Ordering::Relaxed) > n).await;
        }
        drop(stop);
        assert_eq!(server.await.opened, 3);
        assert_eq!(ends.iter().collect::<Vec<_>>(), [true, true]);
    }

    async fn what_another_task_sends_wakes_the_owner(rt: Rt) {
        let (server, client) = rt.pipe(64);
        let mut raw = Raw::client(client);
        let server =
            rt.server_over(server, &mut raw, options(|o| o.protocol.high_water = 500)).await;
        let (sender, mut receiver) = server.split();
        let owner = rt.spawn(async move { receiver.recv().await });
        let send = rt.spawn(async move {
            for i in 0..100 {
                sender.send(format!("{i} {}", "x".repeat(i))).await.unwrap();
            }
            sender
        });
        for i in 0..100 {
            let text = format!("{i} {}", "x".repeat(i));
            assert_eq!(raw.frame().await, Some(Frame::text(&text)));
        }
        let sender = send.await;
        // Also when it has nothing else to do.
        sender.ping(b"are you there").unwrap();
        assert_eq!(raw.frame().await, Some(Frame::new(Opcode::Ping, "are you there")));
        sender.close(CloseCode::NORMAL, "");
        let (end, ()) = tokio::join!(owner, async {
            let close = raw.frame().await.unwrap();
            raw.send(close).await;
        });
        assert_eq!(end, None);
    }
}
