//! Messages, both ways.

#[macro_use]
mod support;

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use support::{Frame, Rt, counted, echo, numbers, options, pattern, pipelined, text_of, texts};
use wsforge::proto::frame::Opcode;
use wsforge::proto::{Delivery, OwnedChunk};
use wsforge::{CloseCode, Kind, Message, Options, PingError};

/// More than one buffer takes in a frame, and than the default allows in one.
const LARGE: usize = 20 * 1024 * 1024;

behaviours! {
    async fn messages_of_every_size_go_both_ways(rt: Rt) {
        let limits = options(|o| o.protocol.max_frame_len = LARGE as u64);
        let (mut server, mut client) = rt.pair(limits.clone(), limits).await;
        let echo = rt.spawn(async move { echo(&mut server).await });
        let messages: [Message; 12] = [
            "".into(),
            "häß → 猫".into(),
            Vec::new().into(),
            pattern(125).into(),
            // What comes when a large one is expected: as large, another kind, a short one.
            pattern(65_536).into(),
            pattern(65_536).into(),
            "häß → 猫".repeat(5000).into(),
            "häß → 猫".repeat(5000).into(),
            pattern(125).into(),
            pattern(65_536).into(),
            pattern(1024 * 1024).into(),
            pattern(LARGE).into(),
        ];
        for message in messages {
            let len = message.as_bytes().len();
            client.send(message.clone()).await.unwrap();
            let back = client.recv().await.unwrap();
            // Not by `assert_eq`, which would print megabytes.
            assert!(back == message, "{len} bytes");
        }
        client.close(CloseCode::NORMAL, "").await;
        assert_eq!(echo.await, Ok(()));
    }

    async fn a_frame_longer_than_allowed_is_refused(rt: Rt) {
        let (mut server, mut raw) =
            rt.server(options(|o| o.protocol.max_frame_len = 1000)).await;
        raw.send(Frame::new(Opcode::Binary, pattern(1000))).await;
        assert_eq!(server.recv().await.unwrap().as_bytes(), pattern(1000));
        raw.send(Frame::new(Opcode::Binary, pattern(1001))).await;
        let (received, close) = tokio::join!(server.recv(), async {
            let close = raw.frame().await.unwrap();
            raw.shut_down().await;
            close
        });
        assert_eq!(received, None);
        assert_eq!(close.payload[..2], 1009_u16.to_be_bytes());
    }

    async fn messages_keep_their_order(rt: Rt) {
        let (mut server, mut client) = rt.pair(Options::default(), Options::default()).await;
        let send = rt.spawn(async move {
            for i in 0..1000 {
                // Of sizes that go by different ways.
                let text = format!("{i} {}", "x".repeat(i * 7 % 3000));
                server.send(text).await.unwrap();
            }
            server.close(CloseCode::NORMAL, "").await;
        });
        for (i, text) in texts(&mut client).await.iter().enumerate() {
            assert_eq!(text.split(' ').next(), Some(&*i.to_string()));
            assert_eq!(text.len(), i.to_string().len() + 1 + i * 7 % 3000);
        }
        send.await;
    }

    async fn fragments_are_put_together(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        raw.send(Frame::fragment(Opcode::Text, "a\u{e4}".as_bytes())).await;
        raw.send(Frame::new(Opcode::Ping, "between")).await;
        raw.send(Frame::fragment(Opcode::Continuation, "")).await;
        raw.send(Frame::new(Opcode::Continuation, "b")).await;
        assert_eq!(text_of(&server.recv().await.unwrap()), "a\u{e4}b");
        assert_eq!(raw.frame().await, Some(Frame::new(Opcode::Pong, "between")));
    }

    async fn pings_are_answered_while_receiving(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        let receive = rt.spawn(async move { server.recv().await });
        for payload in ["", "one", "two"] {
            raw.send(Frame::new(Opcode::Ping, payload)).await;
            assert_eq!(raw.frame().await, Some(Frame::new(Opcode::Pong, payload)));
        }
        raw.send_text("done").await;
        assert_eq!(receive.await, Some("done".into()));
    }

    async fn pings_are_sent(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        server.ping(b"one").unwrap();
        server.sender().ping(b"two").unwrap();
        assert_eq!(raw.frame().await, Some(Frame::new(Opcode::Ping, "one")));
        assert_eq!(raw.frame().await, Some(Frame::new(Opcode::Ping, "two")));
        assert_eq!(server.ping(&[0; 126]), Err(PingError::TooLong));
        server.sender().close(CloseCode::NORMAL, "");
        assert_eq!(server.ping(b""), Err(PingError::Closed));
    }

    async fn recv_with_lends_the_message(rt: Rt) {
        let (mut server, raw) = rt.server(Options::default()).await;
        raw.write(pipelined(["one".into(), "two".into()])).await;
        let len = server.recv_with(|message| (message.kind(), message.as_bytes().len())).await;
        assert_eq!(len, Some((Kind::Text, 3)));
        let first = server.recv_with(|message| message.as_bytes()[0]).await;
        assert_eq!(first, Some(b't'));
        raw.send(Frame::close(1000, "")).await;
        assert_eq!(server.recv_with(|_| ()).await, None);
    }

    async fn for_each_replies_in_order_and_in_one_write(rt: Rt) {
        let (mut server, mut raw, writes) = counted(rt).await;
        // The last reply is long enough to be sent where it lies.
        let last = "x".repeat(2000);
        raw.write(pipelined(numbers(16).chain([last.clone()]))).await;
        let done = server
            .for_each(|message, replies| {
                replies.send(message.kind(), message.as_bytes()).unwrap();
                if message.as_bytes().len() > 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .await;
        assert_eq!(done, Some(()));
        assert_eq!(writes.load(Ordering::Relaxed), 1);
        for text in numbers(16).chain([last]) {
            assert_eq!(raw.frame().await, Some(Frame::text(&text)));
        }
    }

    async fn for_each_breaks_between_messages(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        raw.write(pipelined(numbers(5))).await;
        let found = server
            .for_each(|message, replies| {
                replies.send(Kind::Text, message.as_bytes()).unwrap();
                match message.as_bytes() {
                    b"2" => ControlFlow::Break("found"),
                    _ => ControlFlow::Continue(()),
                }
            })
            .await;
        assert_eq!(found, Some("found"));
        for text in ["0", "1", "2"] {
            assert_eq!(raw.frame().await, Some(Frame::text(text)));
        }
        assert_eq!(text_of(&server.recv().await.unwrap()), "3");
        assert_eq!(text_of(&server.recv().await.unwrap()), "4");
        raw.send(Frame::close(1000, "")).await;
        let end = server.for_each(|_, _| ControlFlow::Break(())).await;
        assert_eq!(end, None);
    }

    async fn replies_and_what_others_send_keep_their_order(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        let sender = server.sender();
        raw.write(pipelined(numbers(3))).await;
        let handle = server.for_each(|message, replies| {
            replies.send(Kind::Text, message.as_bytes()).unwrap();
            if message.as_bytes() == b"1" {
                sender.try_send("between").unwrap();
            }
            if message.as_bytes() == b"2" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        handle.await.unwrap();
        // The session gathers; what another sends meanwhile follows that, not the reply before it.
        let frames: Vec<String> = raw
            .frames(4)
            .await
            .into_iter()
            .map(|frame| String::from_utf8(frame.payload).unwrap())
            .collect();
        let replies: Vec<_> = frames.iter().filter(|text| *text != "between").collect();
        assert_eq!(replies, ["0", "1", "2"]);
        assert!(frames.iter().any(|text| text == "between"));
    }

    async fn a_reply_behind_the_close_is_refused(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        raw.send_text("one").await;
        server.sender().close(CloseCode::NORMAL, "");
        let reply = server
            .for_each(|_, replies| ControlFlow::Break(replies.send(Kind::Text, "late").is_err()))
            .await;
        assert_eq!(reply, Some(true));
        assert_eq!(raw.frame().await, Some(Frame::close(1000, "")));
    }

    async fn chunks_come_as_they_arrive(rt: Rt) {
        let (mut server, raw) =
            rt.server(options(|o| o.protocol.delivery = Delivery::Chunks)).await;
        let chunk = |kind, first, last, payload: &'static str| {
            Some(OwnedChunk { kind, first, last, payload: payload.into() })
        };
        raw.send(Frame::fragment(Opcode::Text, "one")).await;
        assert_eq!(server.recv_chunk().await, chunk(Kind::Text, true, false, "one"));
        raw.send(Frame::fragment(Opcode::Continuation, "two")).await;
        assert_eq!(server.recv_chunk().await, chunk(Kind::Text, false, false, "two"));
        raw.send(Frame::new(Opcode::Continuation, "three")).await;
        assert_eq!(server.recv_chunk().await, chunk(Kind::Text, false, true, "three"));
        raw.send(Frame::new(Opcode::Binary, "all")).await;
        assert_eq!(server.recv_chunk().await, chunk(Kind::Binary, true, true, "all"));
        raw.send(Frame::close(1000, "")).await;
        assert_eq!(server.recv_chunk().await, None);
    }

    async fn whole_messages_are_chunks_too(rt: Rt) {
        let (mut server, raw) = rt.server(Options::default()).await;
        raw.send(Frame::fragment(Opcode::Binary, "one")).await;
        raw.send(Frame::new(Opcode::Continuation, "two")).await;
        let payload = "onetwo".into();
        let whole = OwnedChunk { kind: Kind::Binary, first: true, last: true, payload };
        assert_eq!(server.recv_chunk().await, Some(whole));
    }

    async fn recv_puts_chunks_together(rt: Rt) {
        let (mut server, raw) =
            rt.server(options(|o| o.protocol.delivery = Delivery::Chunks)).await;
        // Cut inside a character.
        raw.send(Frame::fragment(Opcode::Text, [b'a', 0xC3])).await;
        raw.send(Frame::fragment(Opcode::Continuation, [0xA4])).await;
        raw.send(Frame::new(Opcode::Continuation, "b")).await;
        assert_eq!(server.recv().await, Some("a\u{e4}b".into()));
        raw.send(Frame::new(Opcode::Binary, pattern(200_000))).await;
        assert!(server.recv().await == Some(pattern(200_000).into()));
        raw.send_text("").await;
        assert_eq!(server.recv().await, Some("".into()));
    }
}
