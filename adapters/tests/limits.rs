//! Every knob of the options changes what happens.

mod raw;

use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use raw::{End, FOREVER, Flavor, REQUEST, Raw, Server, Setup, TINY, echo, echo_server, request};
use wsforge::proto::frame::Opcode;
use wsforge::proto::hub::Audience;
use wsforge::proto::{CloseCode, Kind};
use wsforge::{FanOut, Options, SendError, Sender};

const SHORT: Duration = Duration::from_millis(300);

/// Options in which no deadline of the protocol is near.
fn calm() -> Options {
    let mut options = Options::default();
    options.protocol.ping_interval = None;
    options.protocol.idle_timeout = None;
    options
}

/// A server that hands out a sender of each connection, and does nothing but receive.
fn listening(
    flavor: Flavor,
    setup: impl Into<Setup>,
) -> (Server, mpsc::Receiver<Sender>, mpsc::Receiver<End>) {
    let (opened, senders) = mpsc::channel();
    let (ended, ends) = mpsc::channel();
    let server = Server::start(flavor, setup, move |mut socket| {
        let _ = opened.send(socket.sender());
        let ended = ended.clone();
        async move {
            while socket.recv().await.is_some() {}
            let _ = ended.send(socket.close_info().unwrap().into());
        }
    });
    (server, senders, ends)
}

/// Sends until something waits for a peer that does not read.
fn fill(sender: &Sender) {
    while sender.pending() == 0 {
        sender.try_send(vec![0; 16 * 1024]).unwrap();
    }
}

on_each_runtime! {
    fn a_head_longer_than_its_limit_is_refused(flavor: Flavor) {
        let long = request("", &[&format!("X: {}", "x".repeat(1000))]);
        for (limit, status) in [(512, 431), (16 * 1024, 101)] {
            let mut options = Options::default();
            options.handshake.max_head_len = limit;
            let server = Server::start(flavor, options, echo);
            let mut peer = Raw::connect(server.address);
            peer.send(&long);
            assert_eq!(peer.status(), status);
            drop(peer);
            Raw::open(server.address).close();
            server.stop();
        }
    }

    fn who_is_too_slow_with_the_handshake_is_told_and_closed(flavor: Flavor) {
        let mut options = calm();
        options.handshake_timeout = SHORT;
        let (server, _ends) = echo_server(flavor, options);
        let mut silent = Raw::connect(server.address);
        let mut halfway = Raw::connect(server.address);
        halfway.send(&REQUEST[..40]);
        let mut open = Raw::open(server.address);
        for peer in [&mut silent, &mut halfway] {
            assert_eq!(peer.status(), 408);
            assert_eq!(peer.rest(), b"the request took too long");
        }
        // It is the handshake's deadline, not the connection's.
        open.echoes("still here");
        drop((silent, halfway));
        open.close();
        assert_eq!(server.stop().opened, 1);
    }

    /// The deadline is absolute: a byte now and then does not put it off.
    fn a_peer_that_drips_is_too_slow(flavor: Flavor) {
        let mut options = calm();
        options.handshake_timeout = SHORT;
        let server = Server::start(flavor, options, echo);
        let mut peer = Raw::connect(server.address);
        peer.send("GET / HTTP/1.1\r\nX: ");
        peer.0.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut answer = [0; 12];
        for drips in 0.. {
            assert!(drips < 1000, "never told");
            match peer.0.read_exact(&mut answer) {
                Ok(()) => break,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            let _ = peer.0.write(b"x");
        }
        assert_eq!(answer, *b"HTTP/1.1 408");
        drop(peer);
        server.stop();
    }

    fn who_does_not_take_the_answer_of_a_handshake_is_forgotten(flavor: Flavor) {
        let mut options = calm();
        options.handshake_timeout = SHORT;
        options.protocol.close_timeout = SHORT;
        options.max_connections = 1;
        let server = Server::start(flavor, options, echo);
        // It never ends its side, so that the server waits, but not for long.
        let mut lingering = Raw::connect(server.address);
        lingering.send("nonsense\r\n\r\n");
        assert_eq!(lingering.status(), 400);
        lingering.rest();
        loop {
            let mut next = Raw::connect(server.address);
            next.send(REQUEST);
            match next.status() {
                101 => break,
                status => assert_eq!(status, 503),
            }
        }
        server.stop();
    }

    /// A quick client is accepted, in however small pieces its request comes.
    fn a_quick_client_may_send_its_request_byte_by_byte(flavor: Flavor) {
        let server = Server::start(flavor, calm(), echo);
        let mut peer = Raw::connect(server.address);
        for byte in REQUEST.bytes() {
            peer.send([byte]);
        }
        assert_eq!(peer.status(), 101);
        peer.echoes("hello");
        peer.close();
        server.stop();
    }

    fn while_a_handler_sends_so_much_is_kept_for_it_and_no_more(flavor: Flavor) {
        const MESSAGE: usize = 1024;
        const SENT: usize = 700;
        const LARGE: usize = 32;
        for (inbox_bytes, fits) in [(32 * 1024, false), (1024 * 1024, true)] {
            let mut options = calm();
            options.inbox_bytes = inbox_bytes;
            options.protocol.high_water = 16 * 1024;
            options.write_timeout = Duration::from_secs(60);
            let (counted, counts) = mpsc::channel();
            let setup = Setup { buffers: Some(TINY), ..options.into() };
            let server = Server::start(flavor, setup, move |mut socket| {
                let counted = counted.clone();
                async move {
                    for _ in 0..LARGE {
                        socket.send(vec![0; 64 * 1024]).await.unwrap();
                    }
                    // All of it is there, in order.
                    for n in 0..SENT {
                        let message = socket.recv().await;
                        let Some(message) = message else { panic!("{n}: {:?}", socket.close_info()) };
                        assert_eq!(message.as_bytes()[..2], (n as u16).to_be_bytes());
                        assert_eq!(message.as_bytes().len(), MESSAGE);
                    }
                    counted.send(()).unwrap();
                    while socket.recv().await.is_some() {}
                }
            });
            let mut peer = Raw::open_tiny(server.address);
            // The handler waits, as nothing is read of what it sends.
            let mut bytes = Vec::new();
            for n in 0..SENT {
                let mut payload = vec![0; MESSAGE];
                payload[..2].copy_from_slice(&(n as u16).to_be_bytes());
                bytes.extend(raw::frame(true, Opcode::Binary, &payload));
            }
            let mut at = 0;
            if fits {
                peer.send(&bytes);
            } else {
                peer.0.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
                let error = loop {
                    match peer.0.write(&bytes[at..]) {
                        Ok(n) => at += n,
                        Err(error) => break error,
                    }
                    assert!(at < bytes.len(), "all of it was taken");
                };
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                assert!(at >= inbox_bytes, "{at}");
            }
            let mut writer = Raw::with(peer.0.try_clone().unwrap());
            let rest = thread::spawn(move || {
                if !fits {
                    writer.send(&bytes[at..]);
                }
            });
            for _ in 0..LARGE {
                assert_eq!(peer.frame().payload.len(), 64 * 1024);
            }
            rest.join().unwrap();
            counts.recv_timeout(FOREVER).unwrap();
            peer.close();
            server.stop();
        }
    }

    fn a_member_for_whom_too_many_frames_wait_is_evicted(flavor: Flavor) {
        for max_frames in [5, 50] {
            let mut options = calm();
            options.mailbox.max_frames = max_frames;
            options.mailbox.max_bytes = usize::MAX;
            options.protocol.close_timeout = SHORT;
            let accepted = frames_until_evicted(flavor, options, 16 * 1024);
            // Some of them the sockets took, or have begun to.
            assert!((max_frames..max_frames + 12).contains(&accepted), "{max_frames}: {accepted}");
        }
    }

    fn a_member_for_whom_too_many_bytes_wait_is_evicted(flavor: Flavor) {
        for frames in [8, 64] {
            let mut options = calm();
            options.mailbox.max_frames = usize::MAX;
            options.mailbox.max_bytes = frames * 16 * 1024;
            options.protocol.close_timeout = SHORT;
            let accepted = frames_until_evicted(flavor, options, 16 * 1024);
            assert!((frames - 2..frames + 8).contains(&accepted), "{frames}: {accepted}");
        }
    }

    fn a_sender_is_refused_above_the_high_water(flavor: Flavor) {
        for high_water in [64 * 1024, 1024 * 1024] {
            let mut options = calm();
            options.protocol.high_water = high_water;
            options.protocol.close_timeout = SHORT;
            let setup = Setup { buffers: Some(TINY), ..options.into() };
            let (server, senders, _ends) = listening(flavor, setup);
            let peer = Raw::open_tiny(server.address);
            let sender = senders.recv_timeout(FOREVER).unwrap();
            fill(&sender);
            let refused = loop {
                if let Err(refused) = sender.try_send(vec![1; 4096]) {
                    break refused;
                }
            };
            // What comes back is the message.
            assert!(matches!(refused, SendError::Full(message) if message.as_bytes() == [1; 4096]));
            let waits = sender.pending();
            assert!((high_water - 32 * 1024..=high_water).contains(&waits), "{waits}");
            drop((peer, sender));
            server.stop();
        }
    }

    fn a_connection_that_is_too_old_is_closed(flavor: Flavor) {
        let mut options = calm();
        options.max_age = Some(SHORT);
        // Nothing else is to be done for it for a long time.
        options.handshake_timeout = Duration::from_secs(600);
        let (server, _, ends) = listening(flavor, options);
        let mut peer = Raw::open(server.address);
        let close = peer.frame();
        assert_eq!((close.code(), &close.payload[2..]), (1001, &b"the connection is too old"[..]));
        peer.send_frame(Opcode::Close, 1001_u16.to_be_bytes());
        assert_eq!(peer.rest(), b"");
        let end = ends.recv_timeout(FOREVER).unwrap();
        assert!(end.clean && end.error.is_none(), "{end:?}");
        server.stop();
    }

    fn a_clients_connection_has_an_age_too(flavor: Flavor) {
        let server = Server::start(flavor, calm(), echo);
        let url = format!("ws://{}/", server.address);
        let mut options = calm();
        options.max_age = Some(SHORT);
        flavor.build().block_on(async {
            let mut socket = flavor.connect(url).options(options).await.unwrap();
            let end = flavor.within(FOREVER, socket.recv()).await;
            assert_eq!(end, Some(None));
            let info = socket.close_info().unwrap();
            assert!(info.clean && info.code == 1001, "{info:?}");
        });
        server.stop();
    }

    fn a_peer_that_does_not_read_is_cut_off(flavor: Flavor) {
        let mut options = calm();
        options.write_timeout = SHORT;
        let (ended, ends) = mpsc::channel();
        let setup = Setup { buffers: Some(TINY), ..options.into() };
        let server = Server::start(flavor, setup, move |mut socket| {
            let ended = ended.clone();
            async move {
                while socket.send(vec![0; 16 * 1024]).await.is_ok() {}
                assert_eq!(socket.recv().await, None);
                let _ = ended.send(socket.close_info().unwrap().into());
            }
        });
        let mut peer = Raw::open_tiny(server.address);
        let end: End = ends.recv_timeout(FOREVER).unwrap();
        assert!(end.is("Stalled") && !end.clean && end.code == 1006, "{end:?}");
        peer.rest();
        assert_eq!(server.stop().cut, 0);
    }

    /// Even if its handler is busy elsewhere.
    fn a_peer_that_does_not_read_is_cut_off_though_nobody_polls(flavor: Flavor) {
        let mut options = calm();
        options.write_timeout = SHORT;
        let (opened, senders) = mpsc::channel();
        let setup =
            Setup { buffers: Some(TINY), patience: Duration::ZERO, ..options.into() };
        let server = Server::start(flavor, setup, move |socket| {
            let _ = opened.send(socket.sender());
            async move {
                std::future::pending::<()>().await;
                drop(socket);
            }
        });
        let mut peer = Raw::open_tiny(server.address);
        let sender = senders.recv_timeout(FOREVER).unwrap();
        fill(&sender);
        peer.0.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        flavor.build().block_on(async {
            // It waits for room, and learns that there will be none.
            let refused = flavor.within(FOREVER, async {
                while sender.send(vec![0; 16 * 1024]).await.is_ok() {}
            });
            refused.await.unwrap();
        });
        assert!(sender.is_closed());
        peer.0.set_read_timeout(Some(FOREVER)).unwrap();
        peer.rest();
        server.stop();
    }

    /// What counts is whether it takes anything, not how long all of it takes.
    fn a_peer_that_reads_slowly_is_not_cut_off(flavor: Flavor) {
        const MESSAGES: usize = 12;
        let mut options = calm();
        options.write_timeout = Duration::from_secs(2);
        let (done, sent) = mpsc::channel();
        let setup = Setup { buffers: Some(TINY), ..options.into() };
        let server = Server::start(flavor, setup, move |mut socket| {
            let done = done.clone();
            async move {
                for _ in 0..MESSAGES {
                    socket.send(vec![0; 32 * 1024]).await.unwrap();
                }
                done.send(socket.flush().await).unwrap();
                while socket.recv().await.is_some() {}
            }
        });
        let mut peer = Raw::open_tiny(server.address);
        for _ in 0..MESSAGES {
            // It takes its time, in all more than the deadline.
            thread::sleep(Duration::from_millis(250));
            assert_eq!(peer.frame().payload.len(), 32 * 1024);
        }
        assert_eq!(sent.recv_timeout(FOREVER).unwrap(), Ok(()));
        peer.close();
        server.stop();
    }

    fn a_silent_peer_is_pinged_and_then_closed(flavor: Flavor) {
        let mut options = calm();
        options.protocol.ping_interval = Some(SHORT);
        options.protocol.pong_timeout = SHORT;
        let (server, _, ends) = listening(flavor, options);
        let mut peer = Raw::open(server.address);
        assert_eq!(peer.frame().opcode, Opcode::Ping);
        assert_eq!(peer.frame().code(), 1011);
        assert_eq!(peer.rest(), b"");
        drop(peer);
        let end = ends.recv_timeout(FOREVER).unwrap();
        assert!(end.is("PongTimeout") && !end.clean && end.code == 1006, "{end:?}");
        server.stop();
    }

    fn a_peer_that_answers_pings_stays(flavor: Flavor) {
        let mut options = calm();
        options.protocol.ping_interval = Some(SHORT);
        options.protocol.pong_timeout = Duration::from_secs(10);
        let (server, _ends) = echo_server(flavor, options);
        let mut peer = Raw::open(server.address);
        for _ in 0..4 {
            let ping = peer.frame();
            assert_eq!(ping.opcode, Opcode::Ping);
            peer.send_frame(Opcode::Pong, ping.payload);
        }
        peer.echoes("hello");
        peer.close();
        server.stop();
    }

    /// The first look at a connection is for its handshake, and must not be the last for long.
    fn a_ping_is_in_time_though_the_handshakes_deadline_was_before(flavor: Flavor) {
        let mut options = calm();
        options.handshake_timeout = SHORT;
        options.protocol.ping_interval = Some(2 * SHORT);
        let (server, _, _ends) = listening(flavor, options);
        let mut peer = Raw::open(server.address);
        for _ in 0..2 {
            let ping = peer.frame();
            assert_eq!(ping.opcode, Opcode::Ping);
            peer.send_frame(Opcode::Pong, ping.payload);
        }
        peer.close();
        server.stop();
    }

    /// As above, of a handler that stopped waiting for a message, as in a `select!`.
    fn a_handler_that_gave_up_receiving_does_not_cost_its_peer_the_connection(flavor: Flavor) {
        let mut options = calm();
        options.protocol.idle_timeout = Some(2 * SHORT);
        let server = Server::start(flavor, options, move |mut socket| async move {
            let nothing = flavor.within(SHORT / 3, socket.recv()).await;
            assert_eq!(nothing, None);
            flavor.sleep(6 * SHORT).await;
            socket.send("awake").await.unwrap();
            echo(socket).await;
        });
        let mut peer = Raw::open(server.address);
        let frame = peer.frame();
        assert_eq!(&*frame.payload, b"awake", "{frame:?}");
        peer.echoes("hello");
        peer.close();
        server.stop();
    }

    fn an_idle_peer_is_closed(flavor: Flavor) {
        let mut options = calm();
        options.protocol.idle_timeout = Some(SHORT);
        let (server, _, ends) = listening(flavor, options);
        let mut peer = Raw::open(server.address);
        assert_eq!(peer.frame().code(), 1008);
        assert_eq!(peer.rest(), b"");
        drop(peer);
        let end = ends.recv_timeout(FOREVER).unwrap();
        assert!(end.is("IdleTimeout") && !end.clean, "{end:?}");
        server.stop();
    }

    fn a_peer_that_does_not_answer_a_close_is_cut_off(flavor: Flavor) {
        let mut options = calm();
        options.protocol.close_timeout = SHORT;
        let (ended, ends) = mpsc::channel();
        let server = Server::start(flavor, options, move |mut socket| {
            let ended = ended.clone();
            async move {
                let end = End::from(socket.close(CloseCode::NORMAL, "bye").await);
                ended.send(end).unwrap();
            }
        });
        let mut peer = Raw::open(server.address);
        assert_eq!(peer.frame().code(), 1000);
        assert_eq!(peer.rest(), b"");
        let end = ends.recv_timeout(FOREVER).unwrap();
        assert!(!end.clean && end.code == 1006 && end.error.is_some(), "{end:?}");
        assert_eq!(server.stop().cut, 0);
    }

    fn messages_and_frames_over_their_limits_are_refused(flavor: Flavor) {
        let mut options = calm();
        options.protocol.max_message_len = 3000;
        options.protocol.max_frame_len = 2000;
        let (server, ends) = echo_server(flavor, options);
        let frame = |fin, opcode, len| raw::frame(fin, opcode, &vec![0; len]);
        let two = |len| {
            let first = frame(false, Opcode::Binary, 2000);
            [first, frame(true, Opcode::Continuation, len)].concat()
        };
        for (bytes, error) in [
            (frame(true, Opcode::Binary, 2000), None),
            (frame(true, Opcode::Binary, 2001), Some("FrameTooLong")),
            (two(1000), None),
            (two(1001), Some("MessageTooLong")),
        ] {
            let mut peer = Raw::open(server.address);
            peer.send(&bytes);
            let answer = peer.frame();
            match error {
                None => {
                    assert_eq!(answer.opcode, Opcode::Binary);
                    peer.close();
                }
                Some(_) => {
                    assert_eq!(answer.code(), 1009);
                    assert_eq!(peer.rest(), b"");
                    drop(peer);
                }
            }
            let end = ends.recv_timeout(FOREVER).unwrap();
            assert_eq!((end.clean, error.is_some_and(|error| end.is(error))), (error.is_none(), error.is_some()), "{end:?}");
        }
        server.stop();
    }

    /// A handler that takes its time must not cost a healthy peer its connection.
    fn a_busy_handler_does_not_cost_its_peer_the_connection(flavor: Flavor) {
        let mut options = calm();
        options.protocol.ping_interval = Some(SHORT);
        options.protocol.pong_timeout = SHORT;
        options.protocol.idle_timeout = Some(3 * SHORT);
        let server = Server::start(flavor, options, move |mut socket| async move {
            while let Some(message) = socket.recv().await {
                flavor.sleep(6 * SHORT).await;
                let _ = socket.send(message).await;
            }
        });
        let mut peer = Raw::open(server.address);
        for text in ["one", "two"] {
            peer.send_frame(Opcode::Text, text);
            loop {
                let frame = peer.frame();
                match frame.opcode {
                    Opcode::Ping => peer.send_frame(Opcode::Pong, frame.payload),
                    opcode => {
                        assert_eq!((opcode, &*frame.payload), (Opcode::Text, text.as_bytes()), "{frame:?}");
                        break;
                    }
                }
            }
        }
        peer.close();
        server.stop();
    }
}

/// How many broadcasts a member who does not read is sent, after its socket is full, until it is
/// evicted.
fn frames_until_evicted(flavor: Flavor, options: Options, len: usize) -> usize {
    let setup = Setup { buffers: Some(TINY), ..options.into() };
    let (server, senders, ends) = listening(flavor, setup);
    let mut peer = Raw::open_tiny(server.address);
    let sender = senders.recv_timeout(FOREVER).unwrap();
    let all = FanOut::new();
    let member = all.join(&sender).unwrap();
    while sender.pending() == 0 {
        all.send_to(Audience::All, Kind::Binary, &vec![0; len]);
    }
    let mut accepted = 0;
    loop {
        all.send_to(Audience::All, Kind::Binary, &vec![0; len]);
        if all.is_empty() {
            break;
        }
        accepted += 1;
    }
    let end = ends.recv_timeout(FOREVER).unwrap();
    assert!(end.is("Evicted") || end.is("TimedOut") || end.is("Close"), "{end:?}");
    peer.rest();
    // Who holds a sender holds the connection.
    drop((member, sender));
    server.stop();
    accepted
}
