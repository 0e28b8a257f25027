//! Sending: piece by piece, from several tasks, without room, and together with others.

#[macro_use]
mod support;

use std::cell::Cell;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_core::Stream;
use futures_sink::Sink;
use support::{
    Counted, Frame, Raw, Rt, counted, echo, encode, numbers, options, pattern, pipelined,
    poll_times, text_of, yield_now,
};
use wsforge::proto::frame::Opcode;
use wsforge::{Answer, CloseCode, Closed, Kind, Message, Options, SendError, SinkError};

behaviours! {
    async fn a_stream_is_one_message_that_others_wait_for(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        let sender = server.sender();
        let mut writer = server.stream(Kind::Text).await.unwrap();
        // Nothing has been sent of it, yet it has begun.
        sender.send("other").await.unwrap();
        writer.write("a\u{e4}".as_bytes()[..2].to_vec()).await.unwrap();
        sender.ping(b"now").unwrap();
        writer.write("a\u{e4}".as_bytes()[2..].to_vec()).await.unwrap();
        sender.try_send("another").unwrap();
        writer.finish().await.unwrap();
        server.send("behind").await.unwrap();
        let wanted = [
            Frame::fragment(Opcode::Text, [b'a', 0xC3]),
            Frame::new(Opcode::Ping, "now"),
            Frame::fragment(Opcode::Continuation, [0xA4]),
            Frame::new(Opcode::Continuation, ""),
            Frame::text("other"),
            Frame::text("another"),
            Frame::text("behind"),
        ];
        assert_eq!(raw.frames(7).await, wanted);
    }

    async fn a_stream_may_be_longer_than_what_may_wait(rt: Rt) {
        let limits = options(|o| o.protocol.high_water = 10_000);
        let (mut server, mut client) = rt.pair(limits, Options::default()).await;
        let send = rt.spawn(async move {
            let mut writer = server.stream(Kind::Binary).await.unwrap();
            for piece in pattern(4_000_000).chunks(100_000) {
                writer.write(piece.to_vec()).await.unwrap();
            }
            writer.finish().await.unwrap();
            server.flush().await.unwrap();
            server
        });
        assert!(client.recv().await == Some(pattern(4_000_000).into()));
        drop(send.await);
    }

    async fn a_stream_that_is_dropped_ends_the_connection(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        let sender = server.sender();
        let mut writer = server.stream(Kind::Binary).await.unwrap();
        writer.write("part").await.unwrap();
        sender.send("waits").await.unwrap();
        drop(writer);
        assert_eq!(server.send("late").await, Err(SendError::Closed("late".into())));
        assert!(matches!(server.stream(Kind::Text).await, Err(Closed)));
        assert_eq!(raw.frame().await, Some(Frame::fragment(Opcode::Binary, "part")));
        let close = raw.frame().await.unwrap();
        assert_eq!(close, Frame::close(1011, "a message was not finished"));
    }

    /// Who polls the socket again has no writer any more.
    async fn a_stream_that_is_forgotten_ends_the_connection(rt: Rt) {
        for what in ["feed", "flush", "recv", "send", "sink", "stream"] {
            let (mut server, mut raw) = rt.server(Options::default()).await;
            let sender = server.sender();
            let mut writer = server.stream(Kind::Text).await.unwrap();
            writer.write("be").await.unwrap();
            std::mem::forget(writer);
            sender.try_send("held").unwrap();
            match what {
                "feed" => {
                    assert_eq!(server.feed("a").await, Err(SendError::Closed("a".into())));
                }
                "flush" => server.flush().await.unwrap(),
                "recv" => assert_eq!(poll_times(1, server.recv()).await, None),
                "send" => {
                    assert_eq!(server.send("a").await, Err(SendError::Closed("a".into())));
                }
                "sink" => {
                    let ready = poll_fn(|cx| Pin::new(&mut server).poll_ready(cx)).await;
                    assert_eq!(ready, Err(SinkError::Closed(None)));
                }
                _ => assert_eq!(server.stream(Kind::Text).await.err(), Some(Closed)),
            }
            assert_eq!(sender.try_send("a"), Err(SendError::Closed("a".into())), "{what}");
            assert_eq!(raw.frame().await, Some(Frame::fragment(Opcode::Text, "be")));
            let close = raw.frame().await.unwrap();
            assert_eq!(close, Frame::close(1011, "a message was not finished"), "{what}");
            raw.send(close).await;
            assert_eq!(server.recv().await, None);
            assert!(server.close_info().unwrap().clean);
        }
    }

    async fn the_two_halves_work_in_two_tasks(rt: Rt) {
        let (server, mut raw) = rt.server(Options::default()).await;
        let (sender, mut receiver) = server.split();
        let send = rt.spawn(async move {
            sender.send("sent").await.unwrap();
            sender
        });
        raw.write(pipelined(numbers(5))).await;
        assert_eq!(receiver.recv().await, Some("0".into()));
        assert_eq!(receiver.recv_with(|m| m.as_bytes().to_vec()).await, Some(b"1".to_vec()));
        assert_eq!(&receiver.recv_chunk().await.unwrap().payload[..], b"2");
        let seen = receiver.for_each(|m, _| ControlFlow::Break(m.as_bytes().to_vec())).await;
        assert_eq!(seen, Some(b"3".to_vec()));
        let next = poll_fn(|cx| Pin::new(&mut receiver).poll_next(cx)).await;
        assert_eq!(next, Some("4".into()));
        let sender = send.await;
        receiver.sender().send("too").await.unwrap();
        assert!(receiver.close_info().is_none());
        sender.close(CloseCode::NORMAL, "enough");
        for text in ["sent", "too"] {
            assert_eq!(raw.frame().await, Some(Frame::text(text)));
        }
        let (received, ()) = tokio::join!(receiver.recv(), raw.finish());
        assert_eq!(received, None);
        assert_eq!(receiver.close_info().unwrap().code, 1000);
        assert_eq!(receiver.into_socket().close_info().unwrap().reason, "enough");
    }

    async fn many_tasks_send_and_each_keeps_its_order(rt: Rt) {
        let (server, mut client) =
            rt.pair(options(|o| o.protocol.high_water = 5000), Options::default()).await;
        let (sender, mut receiver) = server.split();
        let tasks: Vec<_> = (0..4)
            .map(|task| {
                let sender = sender.clone();
                rt.spawn(async move {
                    for i in 0..100 {
                        let text = format!("{task} {i} {}", "x".repeat(i * 31 % 2000));
                        sender.send(text).await.unwrap();
                    }
                })
            })
            .collect();
        let owner = rt.spawn(async move { receiver.recv().await });
        let mut next = [0; 4];
        for _ in 0..400 {
            let text = text_of(&client.recv().await.unwrap());
            let words: Vec<&str> = text.split(' ').collect();
            let (task, i): (usize, usize) = (words[0].parse().unwrap(), words[1].parse().unwrap());
            assert_eq!((i, words[2].len()), (next[task], i * 31 % 2000));
            next[task] += 1;
        }
        for task in tasks {
            task.await;
        }
        client.close(CloseCode::NORMAL, "").await;
        assert_eq!(owner.await, None);
    }

    async fn a_message_for_which_there_is_no_room_comes_back(rt: Rt) {
        let (mut server, mut raw) =
            rt.server(options(|o| o.protocol.high_water = 1000)).await;
        let sender = server.sender();
        let message = Message::from(pattern(100_000));
        let mut taken = 0;
        let back = loop {
            match sender.try_send(message.clone()) {
                Ok(()) => taken += 1,
                Err(error) => break error,
            }
        };
        assert!(back == SendError::Full(message.clone()) && back.into_message() == message);
        assert!(sender.pending() > 0 && !sender.is_closed());
        // A sender that waits gets its turn when the peer has read.
        assert!(poll_times(1, sender.send("last")).await.is_none());
        let waiting = rt.spawn(async move { sender.send("last").await });
        let receive = rt.spawn(async move { server.recv().await });
        for _ in 0..taken {
            assert!(raw.frame().await.unwrap().payload == pattern(100_000));
        }
        assert_eq!(raw.frame().await, Some(Frame::text("last")));
        assert_eq!(waiting.await, Ok(()));
        raw.send_text("done").await;
        assert_eq!(receive.await, Some("done".into()));
    }

    async fn a_full_socket_has_room_again_when_it_is_empty(rt: Rt) {
        let (server, client) = rt.pipe(64);
        let (mut server, mut client) =
            rt.pair_over((server, client), options(|o| o.protocol.high_water = 1000)).await;
        let sender = server.sender();
        while sender.try_send("0123456789").is_ok() {}
        assert!(sender.pending() <= 1000 + 12, "{}", sender.pending());
        let sent = sender.pending() / 12;
        let receive = rt.spawn(async move {
            for _ in 0..sent {
                client.recv().await.unwrap();
            }
            client
        });
        server.flush().await.unwrap();
        assert_eq!(sender.pending(), 0);
        sender.try_send("more").unwrap();
        server.flush().await.unwrap();
        assert_eq!(receive.await.recv().await, Some("more".into()));
    }

    async fn fed_messages_leave_together(rt: Rt) {
        let (mut server, mut raw, writes) = counted(rt).await;
        for i in 0..10 {
            server.feed(i.to_string()).await.unwrap();
        }
        if rt.is_single_threaded() {
            assert_eq!(writes.load(Ordering::Relaxed), 0);
        }
        server.flush().await.unwrap();
        assert_eq!(server.sender().pending(), 0);
        if rt.is_single_threaded() {
            assert_eq!(writes.load(Ordering::Relaxed), 1);
        }
        for text in numbers(10) {
            assert_eq!(raw.frame().await, Some(Frame::text(&text)));
        }
        // And with the next that is sent.
        server.feed("fed").await.unwrap();
        server.send("sent").await.unwrap();
        if rt.is_single_threaded() {
            assert_eq!(writes.load(Ordering::Relaxed), 2);
        }
        assert_eq!(raw.frames(2).await, [Frame::text("fed"), Frame::text("sent")]);
        // And when the task waits for something else.
        server.feed("late").await.unwrap();
        assert_eq!(raw.frame().await, Some(Frame::text("late")));
    }

    async fn it_is_a_stream_and_a_sink(rt: Rt) {
        let (mut server, mut client) = rt.pair(Options::default(), Options::default()).await;
        poll_fn(|cx| Pin::new(&mut server).poll_ready(cx)).await.unwrap();
        Pin::new(&mut server).start_send("one".into()).unwrap();
        poll_fn(|cx| Pin::new(&mut server).poll_ready(cx)).await.unwrap();
        Pin::new(&mut server).start_send("two".into()).unwrap();
        assert!(server.sender().pending() > 0 || !rt.is_single_threaded());
        poll_fn(|cx| Pin::new(&mut server).poll_flush(cx)).await.unwrap();
        assert_eq!(server.sender().pending(), 0);
        for text in ["one", "two"] {
            let next = poll_fn(|cx| Pin::new(&mut client).poll_next(cx)).await;
            assert_eq!(next, Some(text.into()));
        }
        let end = rt.spawn(async move {
            assert_eq!(poll_fn(|cx| client.poll_recv(cx)).await, None);
            client.close_info().unwrap().code
        });
        poll_fn(|cx| Pin::new(&mut server).poll_close(cx)).await.unwrap();
        assert_eq!(end.await, 1000);
        assert_eq!(server.recv().await, None);
        poll_fn(|cx| Pin::new(&mut server).poll_close(cx)).await.unwrap();
        assert!(server.close_info().unwrap().clean);
        assert!(poll_fn(|cx| Pin::new(&mut server).poll_ready(cx)).await.is_err());
        let refused = Pin::new(&mut server).start_send("late".into()).unwrap_err();
        assert_eq!(refused, wsforge::SinkError::Closed(Some("late".into())));
        assert!(poll_fn(|cx| Pin::new(&mut server).poll_flush(cx)).await.is_err());
    }

    async fn a_sink_that_is_full_is_not_ready(rt: Rt) {
        let (server, client) = rt.pipe(64);
        let (mut server, mut client) =
            rt.pair_over((server, client), options(|o| o.protocol.high_water = 1000)).await;
        let mut sent = 0;
        while poll_times(1, poll_fn(|cx| Pin::new(&mut server).poll_ready(cx))).await.is_some() {
            Pin::new(&mut server).start_send(pattern(500).into()).unwrap();
            sent += 1;
            assert!(sent < 10);
        }
        let receive = rt.spawn(async move {
            for _ in 0..sent {
                assert!(client.recv().await == Some(pattern(500).into()));
            }
            client
        });
        poll_fn(|cx| Pin::new(&mut server).poll_ready(cx)).await.unwrap();
        poll_fn(|cx| Pin::new(&mut server).poll_flush(cx)).await.unwrap();
        drop(receive.await);
    }

    async fn the_naive_loop_answers_in_one_write(rt: Rt) {
        let listener = rt.listen().await;
        let mut raw = rt.raw(listener.address);
        let writes = Arc::default();
        let counter = Arc::clone(&writes);
        let listener = listener.wrap(move |io| Counted::counting(io, &counter));
        let serve = rt.serve(
            listener,
            |_| Answer::accept(),
            |mut socket| async move { echo(&mut socket).await.unwrap() },
        );
        // Nobody stops it; it ends with the runtime.
        let _server = rt.spawn(async move { serve.await });
        raw.open().await;
        // A write is counted when it is over, and what it wrote may be read before.
        raw.send(Frame::text("counted")).await;
        assert_eq!(raw.frame().await, Some(Frame::text("counted")));
        raw.write(pipelined(numbers(16))).await;
        for text in numbers(16) {
            assert_eq!(raw.frame().await, Some(Frame::text(&text)));
        }
        raw.send(Frame::text("counted")).await;
        assert_eq!(raw.frame().await, Some(Frame::text("counted")));
        // The 101, the first echo and all of those; the last may be counted by now or not.
        assert!((3..=4).contains(&writes.load(Ordering::Relaxed)));
    }

    async fn the_naive_loop_of_a_task_of_its_own_answers_all(rt: Rt) {
        let (mut server, mut raw, writes) = counted(rt).await;
        raw.write(pipelined(numbers(16))).await;
        let echo = rt.spawn(async move { echo(&mut server).await });
        for text in numbers(16) {
            assert_eq!(raw.frame().await, Some(Frame::text(&text)));
        }
        if rt.is_single_threaded() {
            assert_eq!(writes.load(Ordering::Relaxed), 1);
        }
        raw.send(Frame::close(1000, "")).await;
        assert_eq!(echo.await, Ok(()));
    }

    async fn gathered_replies_leave_when_the_task_waits_for_something_else(rt: Rt) {
        let (mut server, mut raw) = rt.server(Options::default()).await;
        raw.write(pipelined(numbers(16))).await;
        assert_eq!(server.recv().await, Some("0".into()));
        server.send("reply").await.unwrap();
        // The rest is not received; the reply leaves all the same.
        assert_eq!(raw.frame().await, Some(Frame::text("reply")));
        assert_eq!(server.recv().await, Some("1".into()));
    }

    async fn both_sides_may_send_before_they_receive(rt: Rt) {
        let (server, client) = rt.pipe(64);
        let limits = options(|o| o.protocol.high_water = 1000);
        let (server, client) = rt.pair_over((server, client), limits).await;
        let sides = [server, client].map(|mut socket| {
            rt.spawn(async move {
                for i in 0..200 {
                    socket.send(format!("{i} {}", "x".repeat(500))).await.unwrap();
                }
                socket.flush().await.unwrap();
                for i in 0..200 {
                    let text = text_of(&socket.recv().await.unwrap());
                    assert!(text.starts_with(&format!("{i} ")), "{i}: {text}");
                }
                socket
            })
        });
        for side in sides {
            drop(side.await);
        }
    }

    async fn who_sends_keeps_only_so_much_of_what_it_receives(rt: Rt) {
        let (server, client) = rt.pipe(64);
        let limits = options(|o| {
            o.protocol.high_water = 1000;
            o.inbox_bytes = 20_000;
        });
        let mut raw = Raw::client(client);
        let mut server = rt.server_over(server, &mut raw, limits).await;
        // The peer only sends, both as long as they can. All of it is in memory, so it is known when
        // nothing moves any more.
        let frame = encode(&Frame::new(Opcode::Binary, pattern(1000)), raw.mask);
        let sent = Cell::new(0);
        let mut sends = pin!(async { while server.send(pattern(500)).await.is_ok() {} });
        let mut floods = pin!(async {
            while raw.try_write(&frame).await.is_ok() {
                sent.set(sent.get() + frame.len());
            }
        });
        for _ in 0..5000 {
            let _ = poll_times(1, sends.as_mut()).await;
            let _ = poll_times(1, floods.as_mut()).await;
            yield_now().await;
        }
        assert!((19_000..22_000).contains(&sent.get()), "{}", sent.get());
    }
}
