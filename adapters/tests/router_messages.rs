//! Routers: what becomes of messages.

mod raw;
mod router;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use raw::{Flavor, Raw, frame};
use router::{Gate, Notes, Started, is_quiet, text};
use tokio::task::yield_now;
use wsforge::proto::CloseCode;
use wsforge::proto::frame::Opcode;
use wsforge::router::{
    Connection, Error, Json, Message, Next, Result, Router, Routes, State, from_fn, handler,
};
use wsforge::{Options, Rate};

fn echo() -> Router {
    Router::new().default_handler(handler(|message: Message| async move { message }))
}

/// Waits at the gate when it is told to, and answers.
fn waiting(gate: &Gate) -> Router {
    let gate = gate.clone();
    Router::new().default_handler(handler(move |message: Message| {
        let gate = gate.clone();
        async move {
            if message.as_text() == Some("wait") {
                gate.pass().await;
            }
            message
        }
    }))
}

fn numbers(opcode: Opcode, from: usize, to: usize) -> Vec<u8> {
    (from..to).flat_map(|n| frame(true, opcode, n.to_string().as_bytes())).collect()
}

on_each_runtime! {
    /// Defect C1.
    fn what_is_pipelined_is_answered_in_order(flavor: Flavor) {
        // Some of the handlers wait, so that later ones could be done before.
        let some = handler(|message: Message| async move {
            if message.data.ends_with(b"7") {
                yield_now().await;
            }
            message
        });
        let server = Started::new(flavor, Router::new().default_handler(some));
        let mut peer = server.open();
        peer.send(numbers(Opcode::Text, 0, 2000));
        for n in 0..2000 {
            assert_eq!(text(&mut peer), n.to_string());
        }
        peer.close();
        server.stop();
    }

    /// Defect C1: what comes while a handler waits stays with the peer.
    fn a_peer_is_not_read_from_while_a_handler_waits(flavor: Flavor) {
        let gate = Gate::shut();
        let router = waiting(&gate).message_rate(None);
        let server = Started::new(flavor, router);
        let (mut peer, mut other) = (Raw::open_tiny(server.address), server.open());
        peer.send_frame(Opcode::Text, "wait");
        let much = frame(true, Opcode::Binary, &[7; 100]);
        let much = much.repeat(1000);
        peer.0.set_nonblocking(true).unwrap();
        let (mut at, mut blocked) = (0, 0);
        // Others take no notice.
        while blocked < 100 {
            match peer.0.write(&much[at % much.len()..]) {
                Ok(n) => (at, blocked) = (at + n, 0),
                Err(_) => blocked += 1,
            }
            other.echoes("not held up");
            assert!(at < 32 << 20, "somebody takes it all");
        }
        peer.0.set_nonblocking(false).unwrap();
        gate.open();
        assert_eq!(text(&mut peer), "wait");
        for _ in 0..at / frame(true, Opcode::Binary, &[7; 100]).len() {
            assert_eq!(peer.frame().payload, [7; 100]);
        }
        other.close();
        server.stop();
    }

    /// Rule 18.
    fn a_peer_may_be_silent_while_a_handler_waits(flavor: Flavor) {
        let gate = Gate::shut();
        let short = Duration::from_millis(200);
        let router = waiting(&gate).heartbeat(short, short).idle_timeout(Some(short * 2));
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        peer.send_frame(Opcode::Text, "wait");
        // Those that have nothing to wait for are cut off for their silence, one after the other.
        for _ in 0..2 {
            let mut watch = server.open();
            while watch.try_frame().is_some() {}
        }
        assert!(is_quiet(&peer));
        gate.open();
        assert_eq!(text(&mut peer), "wait");
        // Nor is it then.
        peer.send_frame(Opcode::Text, "next");
        let next = loop {
            match peer.frame() {
                frame if frame.opcode == Opcode::Ping => {}
                frame => break frame,
            }
        };
        assert_eq!(next.payload, b"next");
        server.stop();
    }

    fn what_others_send_is_written_while_a_handler_waits(flavor: Flavor) {
        let gate = Gate::shut();
        let router = waiting(&gate);
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let mut peer = Raw::open_tiny(server.address);
        // Parked behind the one that waits.
        peer.send([frame(true, Opcode::Text, b"wait"), frame(true, Opcode::Text, b"next")].concat());
        // More than the socket takes at once.
        let large = vec![7; 200_000];
        while manager.count() == 0 {
            std::thread::yield_now();
        }
        manager.broadcast(Message::binary(large.clone()));
        manager.broadcast(Message::binary(large.clone()));
        assert_eq!(peer.frame().payload, large);
        assert_eq!(peer.frame().payload, large);
        gate.open();
        assert_eq!((text(&mut peer), text(&mut peer)), ("wait".into(), "next".into()));
        peer.close();
        server.stop();
    }

    /// Defect C2.
    fn what_came_before_a_close_is_handled_before_the_end_is_told(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let (handled, ended) = (note.clone(), note);
        let router = Router::new()
            .default_handler(handler(move |message: Message| {
                let handled = handled.clone();
                async move {
                    if message.data.ends_with(b"3") {
                        yield_now().await;
                    }
                    handled.send(message.as_text().unwrap().to_owned()).unwrap();
                }
            }))
            .on_close({
                let ended = ended.clone();
                move |_, info| ended.send(format!("{} {:?}", info.code, info.reason)).unwrap()
            })
            .on_disconnect(move |_, _| ended.send("gone".to_owned()).unwrap());
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        let mut sent = numbers(Opcode::Text, 0, 500);
        sent.extend(frame(true, Opcode::Close, b"\x0F\xA1bye"));
        peer.send(sent);
        for n in 0..500 {
            assert_eq!(notes.next(), n.to_string());
        }
        assert_eq!((notes.next(), notes.next()), ("4001 \"bye\"".into(), "gone".into()));
        // And the closing handshake is complete.
        assert_eq!(peer.frame().code(), 4001);
        assert_eq!(peer.rest(), b"");
        server.stop();
        assert_eq!(notes.rest(), [""; 0]);
    }

    /// Defect C2.
    fn who_breaks_the_protocol_is_told_so(flavor: Flavor) {
        let server = Started::new(flavor, echo().max_message_size(100));
        for (bytes, code) in [
            (frame(true, Opcode::Text, b"\xFF"), 1007),
            (frame(true, Opcode::Binary, &[0; 101]), 1009),
            (vec![0x83, 0x80, 0, 0, 0, 0], 1002),
        ] {
            let mut peer = server.open();
            peer.send(bytes);
            assert_eq!(peer.frame().code(), code);
        }
        server.stop();
    }

    fn a_panic_of_a_handler_closes_its_connection_and_no_other(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let router = Router::new()
            .route("/plain", handler(|_: Message| -> () { panic!("as it should") }))
            .route("/async", handler(async |_: Message| -> () { panic!("as it should") }))
            .route("/later", handler(async |_: Message| -> () {
                yield_now().await;
                panic!("as it should")
            }))
            .default_handler(handler(|message: Message| message))
            .on_error(|_, _| panic!("as it should"))
            .route("/error", handler(|| -> Result<()> { Err(Error::custom("")) }))
            .on_disconnect(move |manager, id| {
                note.send((manager.get(&id).is_none(), manager.count())).unwrap();
            });
        let server = Started::new(flavor, router);
        let mut other = server.open();
        for word in ["/plain", "/async", "/later", "/error"] {
            let mut peer = server.open();
            peer.echoes("before");
            // What stands behind it is not handled any more.
            let behind = frame(true, Opcode::Text, b"behind");
            peer.send([frame(true, Opcode::Text, word.as_bytes()), behind].concat());
            assert_eq!(peer.frame().code(), 1011, "{word}");
            peer.send_frame(Opcode::Close, 1011_u16.to_be_bytes());
            assert_eq!(peer.rest(), b"");
            assert_eq!(notes.next(), (true, 1));
            other.echoes("still here");
        }
        other.close();
        assert_eq!(server.stop().cut, 0);
    }

    /// Defect C11.
    fn control_frames_do_not_reach_handlers(flavor: Flavor) {
        let server = Started::new(flavor, echo());
        let mut peer = server.open();
        peer.send_frame(Opcode::Ping, "p");
        peer.send_frame(Opcode::Pong, "q");
        peer.send_frame(Opcode::Text, "t");
        let frames = [peer.frame(), peer.frame()];
        assert_eq!((frames[0].opcode, &*frames[0].payload), (Opcode::Pong, &b"p"[..]));
        assert_eq!((frames[1].opcode, &*frames[1].payload), (Opcode::Text, &b"t"[..]));
        peer.close();
        server.stop();
    }

    fn control_frames_reach_handlers_that_ask_for_them(flavor: Flavor) {
        let shown = handler(|message: Message| format!("{message:?}"));
        let router = Router::new().default_handler(shown).control_frames();
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        peer.send_frame(Opcode::Ping, "p");
        assert_eq!(peer.frame().opcode, Opcode::Pong);
        assert_eq!(text(&mut peer), "Ping([112])");
        peer.send_frame(Opcode::Pong, "");
        assert_eq!(text(&mut peer), "Pong([])");
        peer.close();
        server.stop();
    }

    /// Defect C13.
    fn an_error_tells_nothing_that_is_not_for_the_peer(flavor: Flavor) {
        let routes = |router: Router| {
            router
                .route("/io", handler(async || -> Result<()> {
                    yield_now().await;
                    Err(std::io::Error::other("/etc/secret").into())
                }))
                .route("/own", handler(|| -> Result<()> { Err(Error::custom("too large")) }))
                .default_handler(handler(|wsforge::router::Json(n): wsforge::router::Json<u8>| {
                    n.to_string()
                }))
        };
        let server = Started::new(flavor, routes(Router::new()));
        let mut peer = server.open();
        for (sent, answer) in [
            ("/io", "Error: internal error"),
            ("/own", "Error: too large"),
            ("x", "Error: invalid message"),
            ("1", "1"),
        ] {
            peer.send_frame(Opcode::Text, sent);
            assert_eq!(text(&mut peer), answer);
        }
        peer.close();
        server.stop();
        // As the application likes it.
        let told = |error: &Error, connection: &Connection| match error {
            Error::Io(_) => {
                connection.close(CloseCode::POLICY, "no");
                None
            }
            error => Some(Message::text(format!("{} says {error}", connection.id()))),
        };
        let server = Started::new(flavor, routes(Router::new().on_error(told)));
        let mut peer = server.open();
        peer.send_frame(Opcode::Text, "/own");
        assert_eq!(text(&mut peer), "conn_1 says too large");
        peer.send_frame(Opcode::Text, "/io");
        assert_eq!(peer.frame().code(), 1008);
        server.stop();
    }

    fn nothing_is_handled_behind_a_close_of_ours(flavor: Flavor) {
        let handled = Arc::new(AtomicUsize::new(0));
        let count = handled.clone();
        let router = Router::new()
            .route("/close", handler(|connection: Connection| {
                connection.close(CloseCode::POLICY, "as you like");
                assert!(connection.is_closed());
            }))
            .default_handler(handler(move || {
                count.fetch_add(1, Ordering::Relaxed);
            }));
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        let messages = [&b"1"[..], b"/close", b"2"].map(|text| frame(true, Opcode::Text, text));
        peer.send(messages.concat());
        let close = peer.frame();
        assert_eq!((close.code(), &close.payload[2..]), (1008, &b"as you like"[..]));
        peer.send_frame(Opcode::Text, "3");
        peer.send_frame(Opcode::Close, 1008_u16.to_be_bytes());
        assert_eq!(peer.rest(), b"");
        server.stop();
        assert_eq!(handled.load(Ordering::Relaxed), 1);
    }

    fn answers_messages_to_one_and_messages_to_all_keep_their_order(flavor: Flavor) {
        let router = Router::new();
        let manager = router.connection_manager();
        let speak = move |message: Message, connection: Connection| {
            let n = message.as_text().unwrap().to_owned();
            connection.send_text(format!("{n}a")).unwrap();
            manager.broadcast(Message::text(format!("{n}b")));
            connection.send_text(format!("{n}c")).unwrap();
            format!("{n}d")
        };
        let later = {
            let speak = speak.clone();
            move |message: Message, connection: Connection| {
                let speak = speak.clone();
                async move {
                    yield_now().await;
                    speak(message, connection)
                }
            }
        };
        let router = router.default_handler(handler(speak)).route("/later", handler(later));
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        let sent = ["1", "2", "/later", "3"];
        peer.send(sent.map(|text| frame(true, Opcode::Text, text.as_bytes())).concat());
        for n in sent {
            for what in ["a", "b", "c", "d"] {
                assert_eq!(text(&mut peer), format!("{n}{what}"));
            }
        }
        peer.close();
        server.stop();
    }

    /// C4, C12 and C17: in whatever order they are given.
    fn state_and_middleware_reach_all_handlers(flavor: Flavor) {
        let own = from_fn(|message, connection, state, extensions, next: Next| async move {
            let answer = next.run(message, connection, state, extensions).await?;
            Ok(answer.map(|answer| Message::text(format!("own({})", answer.as_text().unwrap()))))
        });
        let all = from_fn(|message, connection, state, extensions, next: Next| async move {
            let answer = next.run(message, connection, state, extensions).await?;
            Ok(answer.map(|answer| Message::text(format!("all({})", answer.as_text().unwrap()))))
        });
        let add = handler(|Json(n): Json<u32>, State(more): State<Arc<u32>>| (n + **more).to_string());
        let router = Router::new()
            .route("/add", add.clone())
            .route_json("type", "count", handler(|State(n): State<u32>| n.to_string()))
            .default_handler(handler(|State(n): State<Arc<u32>>| format!("other {n}")))
            .route_with_layers("/own", vec![own], add.clone())
            .at("/path", Routes::new().default_handler(add))
            .layer(all)
            .with_state(Arc::new(1_u32));
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        for (sent, answer) in [
            ("/add 41", "all(42)"),
            (r#"{"type":"count"}"#, "all(1)"),
            ("what", "all(other 1)"),
            ("/own 1", "all(own(2))"),
        ] {
            peer.send_frame(Opcode::Text, sent);
            assert_eq!(text(&mut peer), answer);
        }
        let mut other = Raw::connect(server.address);
        other.send(raw::REQUEST.replace("/chat", "/path"));
        assert_eq!(other.status(), 101);
        other.send_frame(Opcode::Text, "6");
        assert_eq!(text(&mut other), "all(7)");
        peer.close();
        other.close();
        server.stop();
    }

    fn what_nobody_handles_is_dropped_and_counted(flavor: Flavor) {
        let router = Router::new().route("/a", handler(|| "a"));
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        peer.send_frame(Opcode::Text, "/b");
        peer.send_frame(Opcode::Binary, "/a");
        peer.send_frame(Opcode::Text, "/a");
        assert_eq!((text(&mut peer), manager.counters().unhandled), ("a".into(), 2));
        peer.close();
        server.stop();
    }

    /// Defect C18.
    fn what_comes_too_fast_waits(flavor: Flavor) {
        let rate = Some(Rate { per_second: 50, burst: 20 });
        let server = Started::new(flavor, echo().message_rate(rate));
        let (mut peer, mut other) = (server.open(), server.open());
        let begun = Instant::now();
        peer.send(numbers(Opcode::Text, 0, 60));
        for n in 0..20 {
            assert_eq!(text(&mut peer), n.to_string());
        }
        other.echoes("not held up");
        for n in 20..60 {
            assert_eq!(text(&mut peer), n.to_string());
        }
        // 40 of them came at 50 a second, of which the first may have been due at once.
        assert!(begun.elapsed() >= Duration::from_millis(600), "{:?}", begun.elapsed());
        peer.close();
        other.close();
        server.stop();
    }

    fn a_handler_has_its_time(flavor: Flavor) {
        let gate = Gate::shut();
        let router = waiting(&gate).handler_timeout(Some(Duration::from_millis(300)));
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        peer.send_frame(Opcode::Text, "wait");
        assert_eq!(peer.frame().code(), 1011);
        server.stop();
    }

    fn large_messages_go_both_ways(flavor: Flavor) {
        let mut options = Options::default();
        options.protocol.high_water = 64 * 1024;
        let server = Started::new(flavor, echo().options(options));
        let mut peer = server.open();
        for len in [0, 1, 125, 126, 65_535, 65_536, 3_000_000] {
            let payload: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            peer.send_frame(Opcode::Binary, &payload);
            let echoed = peer.frame();
            assert!(echoed.opcode == Opcode::Binary && echoed.payload == payload, "{len}");
        }
        peer.close();
        server.stop();
    }
}
