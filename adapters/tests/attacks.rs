//! Peers that mean harm, or are just broken: each is told so where it can be, and costs nobody else.

mod raw;

use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use raw::{End, FOREVER, Flavor, REQUEST, Raw, Server, Setup, TINY, echo_server, frame, request};
use wsforge::proto::frame::Opcode;
use wsforge::proto::handshake::{Accept, Opening, Response, ResponseError};
use wsforge::proto::hub::Audience;
use wsforge::proto::{Config, Input, Kind, Output, Timestamp};
use wsforge::{ConnectError, FanOut, Message, Options, WebSocket};

/// What a refused peer sends behind its request: were it taken for frames, there would be an answer.
fn smuggled() -> Vec<u8> {
    [frame(true, Opcode::Text, b"smuggled"), frame(true, Opcode::Ping, b"smuggled")].concat()
}

/// Sends a request with frames behind it, and gives all that is answered.
fn answer(server: &Server, request: impl AsRef<[u8]>) -> String {
    let mut peer = Raw::connect(server.address);
    peer.send([request.as_ref(), &smuggled()].concat());
    peer.finish();
    String::from_utf8(peer.rest()).expect("an answer of HTTP")
}

/// A server on which no deadline of the protocol is near, and how its connections end.
fn calm(flavor: Flavor) -> (Server, mpsc::Receiver<End>) {
    let mut options = Options::default();
    options.protocol.ping_interval = None;
    options.protocol.idle_timeout = None;
    echo_server(flavor, options)
}

/// The server is none the worse, and nothing is left of anybody.
fn is_well(server: Server) {
    let mut peer = Raw::open(server.address);
    peer.echoes("still here");
    peer.close();
    assert_eq!(server.stop().cut, 0);
}

on_each_runtime! {
    fn a_huge_head_in_small_pieces_is_refused(flavor: Flavor) {
        let (server, _ends) = calm(flavor);
        let mut peer = Raw::connect(server.address);
        peer.send("GET / HTTP/1.1\r\n");
        let piece = format!("X: {}\r\n", "x".repeat(95));
        // What it goes on to send is dropped, so that it gets to read the answer.
        for _ in 0..10 * 1024 * 1024 / piece.len() {
            peer.send(&piece);
        }
        peer.finish();
        assert_eq!(peer.status(), 431);
        assert!(!String::from_utf8(peer.rest()).unwrap().contains("HTTP/1.1"));
        is_well(server);
    }

    fn a_head_of_many_headers_is_refused(flavor: Flavor) {
        let (server, _ends) = calm(flavor);
        let many = request("", &vec!["a: b"; 2000]);
        assert!(many.len() < 16 * 1024);
        // Those that count come last, too.
        let head = REQUEST.replace("HTTP/1.1\r\n", &format!("HTTP/1.1\r\n{}", "a: b\r\n".repeat(2000)));
        for head in [many, head] {
            let answer = answer(&server, head);
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        }
        is_well(server);
    }

    fn slow_handshakes_keep_nobody_out(flavor: Flavor) {
        let mut options = Options::default();
        options.handshake_timeout = Duration::from_millis(500);
        let (server, _ends) = echo_server(flavor, options);
        let slow: Vec<_> = (0..200)
            .map(|n| {
                let mut peer = Raw::connect(server.address);
                peer.send(&REQUEST[..n % 100]);
                peer
            })
            .collect();
        let mut good = Raw::open(server.address);
        good.echoes("hello");
        for mut peer in slow {
            assert_eq!(peer.status(), 408);
            peer.rest();
        }
        good.echoes("hello again");
        drop(good);
        is_well(server);
    }

    fn what_is_no_proper_handshake_gets_an_answer_that_says_so(flavor: Flavor) {
        let (server, _ends) = calm(flavor);
        let spaces = " ".repeat(8000);
        let replaced = |from: &str, to: &str| REQUEST.replacen(from, to, 1).into_bytes();
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        let added = |lines: &[&str]| request("", lines).into_bytes();
        for (what, head, status) in [
            ("a subprotocol beyond ASCII", added(&["Sec-WebSocket-Protocol: ch\u{e4}t"]), 400),
            (
                "a subprotocol that is no UTF-8",
                [&added(&[])[..REQUEST.len() - 2], b"Sec-WebSocket-Protocol: \xff\x80\r\n\r\n"].concat(),
                400,
            ),
            ("a subprotocol of blanks", added(&[&format!("Sec-WebSocket-Protocol: b{spaces}x")]), 400),
            ("an extension of blanks", added(&[&format!("Sec-WebSocket-Extensions: b{spaces}x")]), 400),
            ("no key", request("Sec-WebSocket-Key", &[]).into_bytes(), 400),
            ("two keys", added(&[key]), 400),
            ("a short key", replaced("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="), 400),
            ("another version", replaced("Version: 13", "Version: 8"), 426),
            ("no version", request("Sec-WebSocket-Version", &[]).into_bytes(), 426),
            ("two lengths", added(&["Content-Length: 1", "Content-Length: 2"]), 400),
            ("two framings", added(&["Content-Length: 1", "Transfer-Encoding: chunked"]), 400),
            ("a body", added(&["Content-Length: 25"]), 400),
            ("a body of chunks", added(&["Transfer-Encoding: chunked"]), 400),
            ("no upgrade", request("Upgrade", &[]).into_bytes(), 426),
            ("a bare line feed", replaced("\r\nUpgrade", "\nUpgrade"), 400),
            ("line feeds", REQUEST.replace("\r\n", "\n").into_bytes(), 400),
            ("NUL", added(&["X: a\0b"]), 400),
            ("a folded line", added(&["X: a\r\n b"]), 400),
            ("a blank before the colon", added(&["X : a"]), 400),
            ("no host", request("Host", &[]).into_bytes(), 400),
            ("an empty host", replaced("Host: a", "Host: "), 400),
            ("two hosts", added(&["Host: a"]), 400),
            ("POST", replaced("GET", "POST"), 405),
            ("HTTP/1.0", replaced("HTTP/1.1", "HTTP/1.0"), 505),
            ("HTTP/0.9", b"GET /chat\r\n\r\n".to_vec(), 400),
            ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03".to_vec(), 400),
            ("TLS of 16 MiB", b"\x16\x03\x03\xFF\xFF\x01\xFF\xFF\xFF\x03\x03".to_vec(), 400),
            ("garbage", (0..=255).cycle().take(5000).collect(), 400),
            ("a frame", frame(true, Opcode::Text, b"hello"), 400),
        ] {
            let answer = answer(&server, head);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
            let closes = ["\r\nConnection: close\r\n", "\r\nConnection: Upgrade, close\r\n"];
            assert!(closes.iter().any(|line| answer.contains(line)), "{what}: {answer}");
            let versions = answer.contains("\r\nSec-WebSocket-Version: 13\r\n");
            assert_eq!(versions, status == 426, "{what}: {answer}");
            // What follows is no request, and no frame either.
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
            assert!(!answer.contains("smuggled"), "{what}: {answer}");
        }
        is_well(server);
    }

    fn offers_of_extensions_are_declined_whatever_they_say(flavor: Flavor) {
        let (server, _ends) = calm(flavor);
        let commas = format!("permessage-deflate{}", ",".repeat(8000));
        let many = vec!["permessage-deflate"; 700].join(",");
        for offer in [
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            "permessage-deflate; server_max_window_bits=\"8\"",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=99",
            "permessage-deflate; constructor; __proto__",
            "constructor",
            &commas,
            &many,
        ] {
            let mut peer = Raw::connect(server.address);
            peer.send(request("", &[&format!("Sec-WebSocket-Extensions: {offer}")]));
            let head = peer.head();
            let start = &offer[..offer.len().min(70)];
            assert!(head.starts_with("HTTP/1.1 101 "), "{start}: {head}");
            assert!(!head.contains("Sec-WebSocket-Extensions"), "{start}: {head}");
            peer.echoes("hello");
            peer.close();
        }
        is_well(server);
    }

    fn frames_that_come_with_the_request_are_not_lost(flavor: Flavor) {
        let (server, _ends) = calm(flavor);
        let mut peer = Raw::connect(server.address);
        let long = vec![b'x'; 100_000];
        peer.send([
            REQUEST.as_bytes(),
            &frame(true, Opcode::Text, b"one"),
            &frame(false, Opcode::Text, b"tw"),
            &frame(true, Opcode::Ping, b"?"),
            &frame(true, Opcode::Continuation, b"o"),
            &frame(true, Opcode::Binary, &long),
        ].concat());
        assert_eq!(peer.status(), 101);
        let frames: Vec<_> = (0..4).map(|_| peer.frame()).map(|f| (f.opcode, f.payload)).collect();
        let expected: [(Opcode, &[u8]); 3] =
            [(Opcode::Text, b"one"), (Opcode::Text, b"two"), (Opcode::Binary, &long)];
        let data = frames.iter().filter(|(opcode, _)| *opcode != Opcode::Pong);
        assert!(data.map(|(opcode, payload)| (*opcode, &payload[..])).eq(expected));
        assert!(frames.contains(&(Opcode::Pong, b"?".to_vec())));
        peer.close();
        is_well(server);
    }

    fn a_client_takes_no_answer_that_is_wrong(flavor: Flavor) {
        type Case = (&'static str, fn(String) -> String, fn(&ConnectError) -> bool);
        let cases: [Case; 8] = [
            ("a wrong accept", |head| head.replace("Accept: ", "Accept: x"),
                |e| matches!(e, ConnectError::Response(ResponseError::BadAccept))),
            ("no accept", |head| head.replace("Sec-WebSocket-Accept", "X"),
                |e| matches!(e, ConnectError::Response(ResponseError::BadAccept))),
            ("a subprotocol that was not offered",
                |head| head.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: x\r\n\r\n"),
                |e| matches!(e, ConnectError::Response(ResponseError::UnknownSubprotocol))),
            ("an extension that was not offered",
                |head| head.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n"),
                |e| matches!(e, ConnectError::Response(ResponseError::UnknownExtension))),
            ("no upgrade", |head| head.replace("Upgrade: websocket\r\n", ""),
                |e| matches!(e, ConnectError::Response(ResponseError::BadUpgrade))),
            ("a 200", |_| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".into(),
                |e| matches!(e, ConnectError::Refused(r) if r.status == 200 && r.body == b"hi")),
            ("another version", |_| "HTTP/1.0 101 Switching Protocols\r\n\r\n".into(),
                |e| matches!(e, ConnectError::Response(ResponseError::UnsupportedHttpVersion))),
            ("nothing", |_| String::new(), |e| matches!(e, ConnectError::Io(_))),
        ];
        for (what, change, expected) in cases {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("ws://{}/", listener.local_addr().unwrap());
            let server = thread::spawn(move || {
                let mut peer = Raw::with(listener.accept().unwrap().0);
                let mut head = peer.head().into_bytes();
                let (mut accept, mut output) = (Accept::default(), Output::new());
                let mut input = Input::new(&mut head, Timestamp::ZERO);
                let Opening::Request(request) = accept.receive(&mut input, &mut output) else {
                    panic!("a request")
                };
                request.accept(&Response::default(), Config::default().into(), &mut output).unwrap();
                let head = output.slices().flatten().copied().collect();
                peer.send(change(String::from_utf8(head).unwrap()));
                peer.finish();
                // The client hangs up, and says nothing more.
                assert_eq!(peer.rest(), b"");
            });
            let result = flavor.build().block_on(async { flavor.connect(url).await });
            let error = result.expect_err(what);
            assert!(expected(&error), "{what}: {error:?}");
            server.join().unwrap();
        }
    }

    fn a_flood_of_empty_fragments_is_cut_off(flavor: Flavor) {
        let (server, ends) = calm(flavor);
        let mut peer = Raw::open(server.address);
        peer.send(frame(false, Opcode::Text, b""));
        let flood = frame(false, Opcode::Continuation, b"").repeat(1024);
        for _ in 0..140 {
            peer.send(&flood);
        }
        assert_eq!(peer.frame().code(), 1008);
        peer.finish();
        assert_eq!(peer.rest(), b"");
        assert!(ends.recv_timeout(FOREVER).unwrap().is("TooManyFragments"));
        is_well(server);
    }

    fn a_message_may_come_in_many_small_fragments_but_not_in_any_number(flavor: Flavor) {
        let mut options = Options::default();
        options.protocol.max_fragments = 50_000;
        let (server, ends) = echo_server(flavor, options);
        for (fragments, fine) in [(50_000, true), (50_001, false)] {
            let mut peer = Raw::open(server.address);
            let mut bytes = frame(false, Opcode::Text, b"x");
            bytes.extend(frame(false, Opcode::Continuation, b"x").repeat(fragments - 2));
            bytes.extend(frame(true, Opcode::Continuation, b"x"));
            peer.send(bytes);
            let answer = peer.frame();
            if fine {
                assert_eq!(answer.payload.len(), fragments);
                peer.close();
            } else {
                assert_eq!(answer.code(), 1008);
                peer.finish();
                peer.rest();
            }
            assert_eq!(ends.recv_timeout(FOREVER).unwrap().clean, fine);
        }
        is_well(server);
    }

    /// What it makes us owe is bounded, and then it is cut off.
    fn a_peer_that_floods_with_pings_and_does_not_read_is_cut_off(flavor: Flavor) {
        let mut options = Options::default();
        options.protocol.high_water = 32 * 1024;
        options.write_timeout = Duration::from_millis(500);
        let high_water = options.protocol.high_water;
        let (opened, senders) = mpsc::channel();
        let (ended, ends) = mpsc::channel();
        let setup = Setup { buffers: Some(TINY), ..options.into() };
        let server = Server::start(flavor, setup, move |mut socket: WebSocket| {
            opened.send(socket.sender()).unwrap();
            let ended = ended.clone();
            async move {
                while socket.recv().await.is_some() {}
                ended.send(End::from(socket.close_info().unwrap())).unwrap();
            }
        });
        let mut peer = Raw::open_tiny(server.address);
        let sender = senders.recv_timeout(FOREVER).unwrap();
        let flood = frame(true, Opcode::Ping, &[0; 125]).repeat(100);
        let (mut most, mut sent) = (0, 0);
        peer.0.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let started = Instant::now();
        while !sender.is_closed() {
            assert!(started.elapsed() < FOREVER, "it is never cut off");
            sent += peer.0.write(&flood).unwrap_or_default();
            most = most.max(sender.pending());
            assert!(sent < 100 * 1024 * 1024, "all of it is taken");
        }
        // A little more than that may come of what was read at once.
        assert!(most <= high_water + 128 * 1024, "{most}");
        let end = ends.recv_timeout(FOREVER).unwrap();
        assert!(end.is("Stalled"), "{end:?}");
        drop((peer, sender));
        server.stop();
    }

    fn nothing_counts_behind_a_close(flavor: Flavor) {
        let (server, ends) = calm(flavor);
        let mut peer = Raw::open(server.address);
        peer.send([
            frame(true, Opcode::Text, b"before"),
            frame(true, Opcode::Close, &[0x0B, 0xB8, b'b', b'y', b'e']),
            frame(true, Opcode::Text, b"behind"),
            frame(true, Opcode::Close, &4000_u16.to_be_bytes()),
            b"\xff\xff\xff".to_vec(),
        ].concat());
        assert_eq!(peer.frame().payload, b"before");
        assert_eq!(peer.frame().code(), 3000);
        assert_eq!(peer.rest(), b"");
        let end = ends.recv_timeout(FOREVER).unwrap();
        let expected = End { code: 3000, reason: "bye".into(), clean: true, error: None };
        assert_eq!(end, expected);
        is_well(server);
        // It ended once.
        assert!(ends.try_iter().eq([End { code: 1000, reason: String::new(), ..expected }]));
    }

    fn a_session_may_end_at_any_byte(flavor: Flavor) {
        let (server, ends) = calm(flavor);
        let session = session();
        let mut opened = 0;
        for end in 0..=session.len() {
            let mut peer = Raw::connect(server.address);
            peer.send(&session[..end]);
            peer.finish();
            peer.rest();
            if end >= REQUEST.len() {
                let info = ends.recv_timeout(FOREVER).unwrap();
                let whole = end == session.len();
                assert_eq!((info.clean, info.code), (whole, if whole { 1000 } else { 1006 }), "{end}");
                assert_eq!(info.error.is_none(), whole, "{end}: {info:?}");
                opened += 1;
            }
        }
        assert_eq!(server.stop().opened, opened);
    }

    fn a_session_may_be_reset_at_any_byte(flavor: Flavor) {
        let (server, ends) = calm(flavor);
        let session = session();
        for end in 0..=session.len() {
            let mut peer = Raw::connect(server.address);
            peer.send(&session[..end]);
            // Else the reset may overtake all of it.
            if end > REQUEST.len() && end % 2 == 0 {
                assert_eq!(peer.status(), 101);
            }
            peer.reset();
        }
        let mut peer = Raw::open(server.address);
        peer.echoes("still here");
        peer.close();
        let report = server.stop();
        assert_eq!(report.cut, 0);
        // Whoever was opened has ended, and only those are clean whose Close had arrived.
        let ends: Vec<_> = ends.try_iter().collect();
        assert_eq!(ends.len(), report.opened);
        assert!(ends.len() > (session.len() - REQUEST.len()) / 2, "{report:?}");
        assert!(ends.iter().filter(|end| end.clean).count() <= 2, "{ends:?}");
    }

    fn one_who_does_not_read_a_broadcast_costs_the_others_nothing(flavor: Flavor) {
        const MESSAGES: usize = 200;
        const LEN: usize = 16 * 1024;
        let mut options = Options::default();
        options.mailbox.max_bytes = 512 * 1024;
        let max_bytes = options.mailbox.max_bytes;
        options.protocol.close_timeout = Duration::from_secs(20);
        let (joined, members) = mpsc::channel();
        let (ended, ends) = mpsc::channel();
        let all = FanOut::new();
        let to_join = all.clone();
        let setup = Setup { buffers: Some(TINY), ..options.into() };
        let server = Server::start(flavor, setup, move |mut socket: WebSocket| {
            let sender = socket.sender();
            let member = to_join.join(&sender).unwrap();
            joined.send(sender).unwrap();
            let ended = ended.clone();
            async move {
                while socket.recv().await.is_some() {}
                drop(member);
                ended.send(End::from(socket.close_info().unwrap())).unwrap();
            }
        });
        let mut stuck = Raw::open_tiny(server.address);
        let slow = members.recv_timeout(FOREVER).unwrap();
        let (read, reads) = mpsc::channel();
        let others: Vec<_> = (1..20)
            .map(|_| {
                let mut peer = Raw::open(server.address);
                members.recv_timeout(FOREVER).unwrap();
                let read = read.clone();
                thread::spawn(move || {
                    for n in 0..MESSAGES {
                        let payload = peer.frame().payload;
                        assert_eq!((payload.len(), &payload[..8]), (LEN, &n.to_be_bytes()[..]));
                        read.send(()).unwrap();
                    }
                    peer.close();
                })
            })
            .collect();
        assert_eq!(all.len(), 20);
        for n in 0..MESSAGES {
            let mut payload = vec![0; LEN];
            payload[..8].copy_from_slice(&n.to_be_bytes());
            all.send(Audience::All, Kind::Binary, &payload);
            assert!(slow.pending() <= max_bytes + LEN, "{}", slow.pending());
            // The others keep up.
            (1..20).for_each(|_| reads.recv_timeout(FOREVER).unwrap());
        }
        assert!(slow.is_closed());
        // Who holds a sender holds the connection.
        drop(slow);
        others.into_iter().for_each(|other| other.join().unwrap());
        // What it was sent before it was evicted is whole and in order, and then it learns why.
        let mut n: usize = 0;
        let close = loop {
            let frame = stuck.frame();
            if frame.opcode == Opcode::Close {
                break frame;
            }
            assert_eq!((frame.payload.len(), &frame.payload[..8]), (LEN, &n.to_be_bytes()[..]));
            n += 1;
        };
        assert!(n < MESSAGES);
        assert_eq!(close.code(), 1013);
        stuck.send_frame(Opcode::Close, 1013_u16.to_be_bytes());
        assert_eq!(stuck.rest(), b"");
        let ends: Vec<_> = (0..20).map(|_| ends.recv_timeout(FOREVER).unwrap()).collect();
        assert_eq!(ends.iter().filter(|end| end.is("Evicted")).count(), 1, "{ends:?}");
        assert!(all.is_empty());
        assert_eq!(server.stop().cut, 0);
    }

    /// With sockets that take little at a time, and nobody waiting for the other.
    fn both_sides_send_as_much_as_they_can(flavor: Flavor) {
        const MESSAGES: u32 = 400;
        async fn blast(flavor: Flavor, socket: WebSocket) {
            let (sender, mut receiver) = socket.split();
            let sending = flavor.spawn(async move {
                for n in 0..MESSAGES {
                    let len = 4 + (n as usize * 7919) % 20_000;
                    let mut payload = vec![0; len];
                    payload[..4].copy_from_slice(&n.to_be_bytes());
                    sender.send(payload).await.unwrap();
                }
                sender
            });
            for n in 0..MESSAGES {
                let message = receiver.recv().await.unwrap();
                let len = 4 + (n as usize * 7919) % 20_000;
                assert_eq!((message.as_bytes().len(), &message.as_bytes()[..4]), (len, &n.to_be_bytes()[..]));
            }
            let sender = sending.await;
            sender.send("done").await.unwrap();
            assert_eq!(receiver.recv().await, Some(Message::from("done")));
            receiver.into_socket().close(wsforge::CloseCode::NORMAL, "").await;
        }
        let mut options = Options::default();
        options.protocol.high_water = 64 * 1024;
        let setup = Setup { buffers: Some(16 * 1024), ..options.clone().into() };
        let (ended, ends) = mpsc::channel();
        let server = Server::start(flavor, setup, move |socket| {
            let ended = ended.clone();
            async move {
                blast(flavor, socket).await;
                ended.send(()).unwrap();
            }
        });
        let url = format!("ws://{}/", server.address);
        flavor.build().block_on(async {
            let socket = flavor.connect(url).options(options).await.unwrap();
            let both = flavor.spawn(blast(flavor, socket));
            flavor.within(3 * FOREVER, both).await.expect("both get on");
        });
        ends.recv_timeout(FOREVER).unwrap();
        assert_eq!(server.stop().cut, 0);
    }
}

/// All that a client sends in a short session.
fn session() -> Vec<u8> {
    [
        REQUEST.as_bytes(),
        &frame(true, Opcode::Text, b"hello"),
        &frame(false, Opcode::Binary, b"frag"),
        &frame(true, Opcode::Ping, b"ping"),
        &frame(true, Opcode::Continuation, b"ment"),
        &frame(true, Opcode::Binary, &[7; 130]),
        &frame(true, Opcode::Close, &[0x03, 0xE8, b'b', b'y', b'e']),
    ]
    .concat()
}
