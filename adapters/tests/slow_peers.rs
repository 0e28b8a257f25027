//! What happens to who sends while the peer does not read.

#[macro_use]
mod support;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use support::Rt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use wsforge::proto::frame::{Header, MAX_HEADER_LEN, Opcode};
use wsforge::proto::{Kind, mask};
use wsforge::{Options, SendError, WebSocket};

/// What the stream between the two holds.
const PIPE: usize = 64 * 1024;

/// A server whose backlog is full soon, and its client's bytes.
async fn open(rt: Rt) -> (WebSocket, DuplexStream) {
    let mut options = Options::default();
    options.protocol.high_water = 32 * 1024;
    let (server, mut client) = duplex(PIPE);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(request.as_bytes()).await.expect("room");
    let handshake = rt.acceptor(options).accept(rt.io(server)).await.expect("a request");
    let mut server = handshake.accept().await.expect("a WebSocket");
    // Over such a stream only the owner writes, so let it.
    server.flush().await.expect("it is open");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("an answer"));
    }
    (server, client)
}

/// A frame as a client sends it.
fn frame(opcode: Opcode, fin: bool, body: &[u8]) -> Vec<u8> {
    let key = [1, 2, 3, 4];
    let header = Header { fin, rsv1: false, opcode, mask: Some(key), len: body.len() as u64 };
    let mut head = [0; MAX_HEADER_LEN];
    let head_len = header.encode(&mut head);
    let mut frame = head[..head_len].to_vec();
    let at = frame.len();
    frame.extend_from_slice(body);
    mask::apply(&mut frame[at..], key);
    frame
}

/// Reads a frame of the server.
async fn read(client: &mut DuplexStream) -> (Opcode, bool, Vec<u8>) {
    let mut bytes = Vec::new();
    let header = loop {
        bytes.push(client.read_u8().await.expect("a frame"));
        if let Some((header, _)) = Header::parse(&bytes).expect("a valid one") {
            break header;
        }
    };
    let mut body = vec![0; header.len as usize];
    client.read_exact(&mut body).await.expect("all of it");
    (header.opcode, header.fin, body)
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Polls once.
fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Sends messages of `len` bytes until there is no room; says how many.
fn fill(server: &mut WebSocket, len: usize) -> usize {
    let mut sent = 0;
    while let Poll::Ready(result) = poll(server.send(vec![0; len])) {
        result.expect("it is open");
        sent += 1;
    }
    sent
}

behaviours! {
    async fn a_message_for_which_there_is_not_room_enough_waits(rt: Rt) {
        let (mut server, mut client) = open(rt).await;
        // Less waits than may, but not so much less.
        let sent = fill(&mut server, 20_000);
        let mut receiving = pin!(server.recv());
        for _ in 0..sent {
            let read = pin!(read(&mut client));
            tokio::select! {
                (opcode, fin, body) = read => {
                    assert_eq!((opcode, fin, body.len()), (Opcode::Binary, true, 20_000));
                }
                message = &mut receiving => panic!("{message:?}"),
            }
        }
    }

    async fn a_streamed_message_does_not_wait_for_what_waits_for_it(rt: Rt) {
        let (mut server, mut client) = open(rt).await;
        let sender = server.sender();
        let mut writer = server.stream(Kind::Binary).await.expect("it is open");
        writer.write(&b"be"[..]).await.expect("it is open");
        let held = loop {
            match sender.try_send(vec![0; 10_000]) {
                Ok(()) => {}
                Err(SendError::Full(_)) => break sender.pending() / 10_000,
                Err(error) => panic!("{error}"),
            }
        };
        writer.write(vec![1; 10_000]).await.expect("it is open");
        writer.finish().await.expect("it is open");
        let flushed = async { server.flush().await.expect("it is open") };
        let readings = async {
            assert_eq!(read(&mut client).await, (Opcode::Binary, false, b"be".to_vec()));
            assert_eq!(read(&mut client).await, (Opcode::Continuation, false, vec![1; 10_000]));
            assert_eq!(read(&mut client).await, (Opcode::Continuation, true, Vec::new()));
            for _ in 0..held {
                assert_eq!(read(&mut client).await, (Opcode::Binary, true, vec![0; 10_000]));
            }
        };
        tokio::join!(flushed, readings);
    }

    async fn what_waits_for_a_message_that_never_ends_keeps_no_flush_waiting(rt: Rt) {
        let (mut server, mut client) = open(rt).await;
        let sender = server.sender();
        let mut writer = server.stream(Kind::Text).await.expect("it is open");
        writer.write(&b"be"[..]).await.expect("it is open");
        sender.try_send("held").expect("room");
        drop(writer);
        server.flush().await.expect("all that can be is written");
        assert_eq!(read(&mut client).await.0, Opcode::Text);
        let (opcode, _, body) = read(&mut client).await;
        assert_eq!((opcode, &body[..2]), (Opcode::Close, &1011_u16.to_be_bytes()[..]));
    }

    async fn who_closes_behind_its_requests_gets_the_answers_first(rt: Rt) {
        const COUNT: usize = 100;
        let (mut server, mut client) = open(rt).await;
        let echo = rt.spawn(async move {
            while let Some(message) = server.recv().await {
                server.send(message).await.expect("it is open");
            }
            server.close_info().map(|info| (info.code, info.clean))
        });
        // All are read by then, though few of the echoes fit.
        for n in 0..COUNT {
            client.write_all(&frame(Opcode::Binary, true, &[n as u8; 5_000])).await.expect("read");
        }
        let close = frame(Opcode::Close, true, &4000_u16.to_be_bytes());
        client.write_all(&close).await.expect("read");
        for n in 0..COUNT {
            assert_eq!(read(&mut client).await, (Opcode::Binary, true, vec![n as u8; 5_000]));
        }
        let (opcode, _, body) = read(&mut client).await;
        assert_eq!((opcode, body), (Opcode::Close, 4000_u16.to_be_bytes().to_vec()));
        assert_eq!(echo.await, Some((4000, true)));
    }

    /// Both may do so at once, and neither may wait for the other to read first.
    async fn who_has_sent_much_reads_on(rt: Rt) {
        let (mut server, mut client) = open(rt).await;
        server.send(vec![0; 1024 * 1024]).await.expect("it is open");
        for n in 0..100 {
            client.write_all(&frame(Opcode::Binary, true, &[n; 5_000])).await.expect("room");
            assert_eq!(server.recv().await, Some(vec![n; 5_000].into()));
        }
    }

    async fn a_peer_cannot_make_a_waiting_sender_owe_it_more_and_more(rt: Rt) {
        let (mut server, mut client) = open(rt).await;
        fill(&mut server, 20_000);
        let sender = server.sender();
        let pings = frame(Opcode::Ping, true, &[0; 125]).repeat(100);
        let most = 10 * 1024 * 1024 / pings.len();
        let taken = (0..most).take_while(|_| {
            let taken = poll(client.write_all(&pings)).is_ready();
            assert!(poll(server.send(vec![0; 20_000])).is_pending());
            taken
        });
        assert!(taken.count() < most, "{} bytes wait", sender.pending());
        assert!(sender.pending() < 256 * 1024, "{} bytes wait", sender.pending());
    }

    async fn messages_that_were_kept_are_received_though_the_peer_has_gone(rt: Rt) {
        let (mut server, mut client) = open(rt).await;
        for n in 0..3 {
            client.write_all(&frame(Opcode::Binary, true, &[n])).await.expect("room");
        }
        let sent = fill(&mut server, 20_000);
        assert!(sent > 1);
        drop(client);
        assert!(matches!(server.send(vec![0; 20_000]).await, Err(SendError::Closed(_))));
        for n in 0..3 {
            assert_eq!(server.recv().await, Some(vec![n].into()));
        }
        assert_eq!(server.recv().await, None);
        assert_eq!(server.close_info().map(|info| info.clean), Some(false));
    }

    async fn a_peer_that_has_sent_its_last_byte_is_not_read_again_and_again(rt: Rt) {
        let (mut server, mut client) = open(rt).await;
        fill(&mut server, 20_000);
        client.shutdown().await.expect("a stream");
        let count = Arc::new(Count::default());
        let waker = count.clone().into();
        let mut cx = Context::from_waker(&waker);
        assert!(server.poll_recv(&mut cx).is_pending());
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "it waits to write");
        let mut bytes = Vec::new();
        // It is dropped when it is over.
        let received = async move { server.recv().await };
        let (received, read) = tokio::join!(received, client.read_to_end(&mut bytes));
        assert_eq!((received, read.expect("an end") > PIPE), (None, true));
    }
}
