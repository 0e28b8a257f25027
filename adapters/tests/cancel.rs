//! Futures that are dropped at every point where they wait: nothing is lost, doubled or out of order.

#[macro_use]
mod support;

use std::ops::ControlFlow;

use support::{Dribble, Frame, Raw, Rt, encode, options, pattern, poll_times, text_of, yield_now};
use wsforge::proto::Delivery;
use wsforge::proto::frame::Opcode;
use wsforge::{Answer, CloseCode, Kind, Options, SendError, WebSocket};

/// How often a future is polled before it is dropped, at the most.
const MOST: usize = 6;

/// Calls `start` and polls what it gives 0 times, then once, and so on to `most`, then begins again: until
/// it is ready.
macro_rules! dropped {
    ($most:expr, $start:expr) => {{
        let mut polls = (0..=$most).cycle();
        loop {
            if let Some(output) = poll_times(polls.next().unwrap(), $start).await {
                break output;
            }
            yield_now().await;
        }
    }};
}

/// A server that reads and writes a few bytes at a time, every other time it is asked.
async fn dribbling(rt: Rt, options: Options) -> (WebSocket, Raw) {
    let (io, mut raw) = rt.tcp().await;
    let server = rt.server_over(Dribble::new(io, 5, 3), &mut raw, options).await;
    (server, raw)
}

/// Texts of several lengths, one of them in fragments with a ping between.
fn incoming(n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for i in 0..n {
        let text = text(i);
        let (front, back) = text.as_bytes().split_at(text.len() / 2);
        let frames = match i % 3 {
            0 => vec![
                Frame::fragment(Opcode::Text, front),
                Frame::new(Opcode::Ping, i.to_string()),
                Frame::new(Opcode::Continuation, back),
            ],
            _ => vec![Frame::text(&text)],
        };
        bytes.extend(frames.iter().flat_map(|frame| encode(frame, Some(support::MASK))));
    }
    bytes
}

fn text(i: usize) -> String {
    format!("{i} {}", "x".repeat(i * 13 % 50))
}

/// The pongs that [`incoming`] gets, and nothing else.
async fn pongs(raw: &mut Raw, n: usize) {
    for i in (0..n).step_by(3) {
        assert_eq!(raw.frame().await, Some(Frame::new(Opcode::Pong, i.to_string())));
    }
}

behaviours! {
    async fn recv(rt: Rt) {
        for most in 1..=MOST {
            let (mut server, mut raw) = dribbling(rt, Options::default()).await;
            raw.write(incoming(12)).await;
            for i in 0..12 {
                let message = dropped!(most, server.recv());
                assert_eq!(text_of(&message.unwrap()), text(i));
            }
            pongs(&mut raw, 12).await;
        }
    }

    async fn recv_with(rt: Rt) {
        for most in 1..=MOST {
            let (mut server, mut raw) = dribbling(rt, Options::default()).await;
            raw.write(incoming(12)).await;
            for i in 0..12 {
                let mut calls = 0;
                let bytes = dropped!(most, server.recv_with(|message| {
                    calls += 1;
                    message.as_bytes().to_vec()
                }));
                assert_eq!((bytes.unwrap(), calls), (text(i).into_bytes(), 1));
            }
            pongs(&mut raw, 12).await;
        }
    }

    async fn recv_chunk(rt: Rt) {
        for most in 1..=MOST {
            let chunks = options(|o| o.protocol.delivery = Delivery::Chunks);
            let (mut server, mut raw) = dribbling(rt, chunks).await;
            raw.write(incoming(12)).await;
            for i in 0..12 {
                let mut bytes = Vec::new();
                loop {
                    let chunk = dropped!(most, server.recv_chunk()).unwrap();
                    assert_eq!(chunk.first, bytes.is_empty());
                    bytes.extend_from_slice(&chunk.payload);
                    if chunk.last {
                        break;
                    }
                }
                assert_eq!(bytes, text(i).into_bytes());
            }
            pongs(&mut raw, 12).await;
        }
    }

    async fn recv_in_the_middle_of_a_message_of_chunks(rt: Rt) {
        for most in 1..=MOST {
            let chunks = options(|o| o.protocol.delivery = Delivery::Chunks);
            let (mut server, raw) = dribbling(rt, chunks).await;
            raw.write(incoming(12)).await;
            for i in 0..12 {
                let message = dropped!(most, server.recv());
                assert_eq!(text_of(&message.unwrap()), text(i));
            }
        }
    }

    async fn for_each(rt: Rt) {
        for most in 1..=MOST {
            let (mut server, mut raw) = dribbling(rt, Options::default()).await;
            raw.write(incoming(12)).await;
            let mut seen = Vec::new();
            dropped!(most, server.for_each(|message, replies| {
                replies.send(message.kind(), message.as_bytes()).unwrap();
                seen.push(message.as_bytes().to_vec());
                if seen.len() == 12 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }));
            dropped!(most, server.flush()).unwrap();
            assert_eq!(seen, (0..12).map(|i| text(i).into_bytes()).collect::<Vec<_>>());
            let mut replies = Vec::new();
            while replies.len() < 12 {
                let frame = raw.frame().await.unwrap();
                if frame.opcode == Opcode::Text {
                    replies.push(frame.payload);
                }
            }
            assert_eq!(replies, seen);
        }
    }

    async fn a_receivers_methods(rt: Rt) {
        for most in 1..=MOST {
            let (server, mut raw) = dribbling(rt, Options::default()).await;
            let (_sender, mut receiver) = server.split();
            raw.write(incoming(12)).await;
            for i in 0..12 {
                let bytes = match i % 4 {
                    0 => dropped!(most, receiver.recv()).map(|message| message.as_bytes().to_vec()),
                    1 => dropped!(most, receiver.recv_with(|message| message.as_bytes().to_vec())),
                    2 => dropped!(most, receiver.recv_chunk()).map(|chunk| chunk.payload.to_vec()),
                    _ => dropped!(most, receiver.for_each(|message, _| {
                        ControlFlow::Break(message.as_bytes().to_vec())
                    })),
                };
                assert_eq!(bytes, Some(text(i).into_bytes()));
            }
            pongs(&mut raw, 12).await;
        }
    }

    async fn feed_and_flush(rt: Rt) {
        for most in 1..=MOST {
            let (mut server, mut raw) =
                dribbling(rt, options(|o| o.protocol.high_water = 100)).await;
            let peer = rt.spawn(async move {
                for i in 0..30 {
                    assert_eq!(raw.frame().await, Some(Frame::text(&text(i))));
                }
                raw
            });
            for i in 0..30 {
                assert_eq!(dropped!(most, server.feed(text(i))), Ok(()));
                if i % 5 == 4 {
                    assert_eq!(dropped!(most, server.flush()), Ok(()));
                    assert_eq!(server.sender().pending(), 0);
                }
            }
            peer.await;
        }
    }

    async fn send_that_waits(rt: Rt) {
        for most in 1..=MOST {
            let (mut server, mut raw) =
                dribbling(rt, options(|o| o.protocol.high_water = 100)).await;
            let peer = rt.spawn(async move {
                raw.write(incoming(12)).await;
                let mut texts = Vec::new();
                while texts.len() < 30 {
                    let frame = raw.frame().await.unwrap();
                    if frame.opcode == Opcode::Text {
                        texts.push(String::from_utf8(frame.payload).unwrap());
                    }
                }
                (texts, raw)
            });
            for i in 0..30 {
                assert_eq!(dropped!(most, server.send(text(i))), Ok(()));
            }
            dropped!(most, server.flush()).unwrap();
            let (texts, _raw) = peer.await;
            assert_eq!(texts, (0..30).map(text).collect::<Vec<_>>());
            // What came meanwhile has been kept.
            for i in 0..12 {
                assert_eq!(text_of(&dropped!(most, server.recv()).unwrap()), text(i));
            }
        }
    }

    async fn a_senders_send_that_waits(rt: Rt) {
        for most in 1..=MOST {
            let (mut server, mut raw) =
                dribbling(rt, options(|o| o.protocol.high_water = 100)).await;
            let sender = server.sender();
            let owner = rt.spawn(async move { server.recv().await });
            let send = rt.spawn(async move {
                for i in 0..30 {
                    assert_eq!(dropped!(most, sender.send(text(i))), Ok(()));
                }
            });
            for i in 0..30 {
                assert_eq!(raw.frame().await, Some(Frame::text(&text(i))));
            }
            send.await;
            raw.send_text("done").await;
            assert_eq!(owner.await, Some("done".into()));
        }
    }

    async fn a_writers_write(rt: Rt) {
        for most in 1..=MOST {
            let (mut server, mut raw) =
                dribbling(rt, options(|o| o.protocol.high_water = 100)).await;
            let peer = rt.spawn(async move {
                let mut bytes = Vec::new();
                loop {
                    let frame = raw.frame().await.unwrap();
                    bytes.extend(frame.payload);
                    if frame.fin {
                        return (bytes, raw);
                    }
                }
            });
            let mut writer = dropped!(most, server.stream(Kind::Binary)).unwrap();
            for piece in pattern(1000).chunks(37) {
                dropped!(most, writer.write(piece.to_vec())).unwrap();
            }
            writer.finish().await.unwrap();
            dropped!(most, server.flush()).unwrap();
            assert!(peer.await.0 == pattern(1000));
        }
    }

    /// The message is whole, or the connection ends.
    async fn a_writers_finish(rt: Rt) {
        for polls in 0.. {
            let (mut server, mut raw) =
                dribbling(rt, options(|o| o.protocol.high_water = 100)).await;
            let peer = rt.spawn(async move {
                let mut frames = Vec::new();
                loop {
                    let frame = raw.frame().await.unwrap();
                    frames.push((frame.opcode, frame.fin));
                    if frame.fin {
                        return (frames, raw);
                    }
                }
            });
            let mut writer = server.stream(Kind::Text).await.unwrap();
            writer.write("x".repeat(90)).await.unwrap();
            // More than may wait before anything else.
            writer.write("x".repeat(200)).await.unwrap();
            let finished = poll_times(polls, writer.finish()).await;
            let last = if finished.is_some() { Opcode::Continuation } else { Opcode::Close };
            let _ = server.flush().await;
            let (frames, _raw) = peer.await;
            let fragments = [(Opcode::Text, false), (Opcode::Continuation, false), (last, true)];
            assert_eq!(frames, fragments, "{polls} polls");
            if let Some(result) = finished {
                assert_eq!(result, Ok(()));
                assert!(polls > 1, "{polls}");
                break;
            }
        }
    }

    async fn stream(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        assert!(poll_times(0, server.stream(Kind::Text)).await.is_none());
        server.send("nothing has begun").await.unwrap();
        assert_eq!(raw.frame().await, Some(Frame::text("nothing has begun")));
    }

    async fn close(rt: Rt) {
        for most in 1..=MOST {
            let (mut server, mut raw) = dribbling(rt, Options::default()).await;
            raw.write(incoming(3)).await;
            server.feed("last").await.unwrap();
            let peer = rt.spawn(async move {
                let mut opcodes = Vec::new();
                loop {
                    let frame = raw.frame().await.unwrap();
                    opcodes.push(frame.opcode);
                    if frame.opcode == Opcode::Close {
                        assert_eq!(frame, Frame::close(4000, "once"));
                        raw.send(frame).await;
                        // Pings that came before its answer still get theirs.
                        while let Some(frame) = raw.frame().await {
                            assert_eq!(frame.opcode, Opcode::Pong);
                        }
                        return opcodes;
                    }
                }
            });
            let code = CloseCode::new(4000).unwrap();
            let mut polls = (0..=most).cycle();
            while poll_times(polls.next().unwrap(), server.close(code, "once")).await.is_none() {
                yield_now().await;
            }
            let info = server.close_info().unwrap();
            assert_eq!((info.code, &*info.reason, info.clean), (4000, "once", true), "{info:?}");
            let opcodes = peer.await;
            assert_eq!(opcodes.iter().filter(|opcode| **opcode == Opcode::Text).count(), 1);
            assert_eq!(server.send("late").await, Err(SendError::Closed("late".into())));
        }
    }

    async fn accept(rt: Rt) {
        let mut polls = 0;
        loop {
            let (io, mut raw) = rt.tcp().await;
            raw.write(support::REQUEST).await;
            let Some(handshake) = poll_times(polls, rt.accept(Dribble::new(io, 40, 40))).await else {
                // Dropped with it, and not answered.
                assert_eq!(raw.rest().await, b"");
                polls += 1;
                continue;
            };
            drop(handshake.unwrap());
            break;
        }
        assert!(polls > 3, "{polls}");
    }

    async fn answer(rt: Rt) {
        for answer in [Answer::accept(), Answer::reject(404).body("nothing here")] {
            for polls in 0..20 {
                let (io, mut raw) = rt.tcp().await;
                raw.write(support::REQUEST).await;
                let handshake = rt.accept(Dribble::new(io, 400, 40)).await.unwrap();
                // So that nobody waits for us to have read a refusal.
                raw.shut_down().await;
                let answered = poll_times(polls, handshake.answer(answer.clone())).await;
                drop(answered);
                // However far it came, what the peer has is the front of an answer, and then the end.
                let rest = raw.rest().await;
                let start = b"HTTP/1.1 ";
                assert!(rest.starts_with(&start[..start.len().min(rest.len())]), "{rest:?}");
            }
        }
    }

    async fn connect(rt: Rt) {
        let mut listener = rt.listen().await;
        let url = format!("ws://{}/", listener.address);
        let server = rt.spawn(async move {
            loop {
                let mut raw = Raw::server(listener.accept().await);
                let Ok(true) = raw.read().await else { continue };
                let head = raw.head().await;
                if raw.try_write(&support::answer_to(&head)).await.is_err() {
                    continue;
                }
                // One that has been dropped ends without a frame, or with a reset.
                let Ok(true) = raw.read().await else { continue };
                assert_eq!(raw.frame().await, Some(Frame::text("hello")));
                return raw;
            }
        });
        let mut polls = 0;
        let mut socket = loop {
            let connect = rt.connect(url.clone()).with_response();
            match poll_times(polls, connect).await {
                Some(connected) => break connected.unwrap().0,
                None => polls += 1,
            }
        };
        // With a thread of its own the server may have answered within one poll.
        assert!(polls > usize::from(rt.is_single_threaded()), "{polls}");
        socket.send("hello").await.unwrap();
        let raw = server.await;
        raw.send_text("back").await;
        assert_eq!(socket.recv().await, Some("back".into()));
    }
    async fn connect_over(rt: Rt) {
        for polls in 0.. {
            // So small that each side has to wait for the other.
            let (io, peer) = rt.pipe(50);
            let server = rt.spawn(async move {
                let mut raw = Raw::server(peer);
                while !raw.buf.ends_with(b"\r\n\r\n") {
                    if !raw.read().await.unwrap() {
                        return None;
                    }
                }
                let head = raw.head().await;
                raw.try_write(&support::answer_to(&head)).await.ok()?;
                raw.read().await.unwrap().then_some(raw)
            });
            let over = rt.connect("ws://a.example/").over(io);
            let Some(connected) = poll_times(polls, over).await else {
                assert!(server.await.is_none());
                continue;
            };
            let mut socket = connected.unwrap().0;
            socket.send("hello").await.unwrap();
            assert_eq!(server.await.unwrap().frame().await, Some(Frame::text("hello")));
            assert!(polls > 1, "{polls}");
            break;
        }
    }

    /// Those who are connected are not its affair.
    async fn serve(rt: Rt) {
        let listener = rt.listen().await;
        let address = listener.address;
        let echo = |mut socket: WebSocket| async move {
            while let Some(message) = socket.recv().await {
                socket.send(message).await.unwrap();
            }
        };
        let serve = rt.serve(listener, |_| Answer::accept(), echo).into_future();
        let (drop_it, dropped) = tokio::sync::oneshot::channel::<()>();
        let server = rt.spawn(async move {
            tokio::select! {
                _ = serve => panic!("it goes on for ever"),
                _ = dropped => {}
            }
        });
        let mut raw = rt.raw(address);
        raw.open().await;
        drop_it.send(()).unwrap();
        server.await;
        assert!(std::net::TcpStream::connect(address).is_err());
        raw.send_text("hello").await;
        assert_eq!(raw.frame().await, Some(Frame::text("hello")));
    }
}
