//! Routers: peers that mean harm.

mod raw;
mod router;

use std::sync::Arc;
use std::thread;

use raw::{Flavor, REQUEST, Raw, frame, request};
use router::{Notes, Started, text};
use wsforge::proto::CloseCode;
use wsforge::proto::frame::Opcode;
use wsforge::router::{Connection, ConnectionManager, Message, Router, State, handler};

fn echo() -> Router {
    Router::new().default_handler(handler(|message: Message| message))
}

on_each_runtime! {
    /// Attack A15.
    fn a_page_of_another_origin_is_refused_though_it_sends_the_cookie(flavor: Flavor) {
        let from = |origin: &str| request("", &["Cookie: token=t", &format!("Origin: {origin}")]);
        let server = Started::new(flavor, echo());
        for origin in ["https://evil.example", "null", "http://a:81", "http://a.evil.example", ""] {
            let (status, body) = server.ask(from(origin));
            assert_eq!(status, 403, "{origin}");
            assert!(body.contains("Router::allow_origins"), "{body}");
        }
        for origin in ["http://a", "https://a", "https://A:443"] {
            assert_eq!(server.ask(from(origin)).0, 101, "{origin}");
        }
        server.stop();
    }

    /// Attack D5.
    fn a_handler_that_panics_leaves_its_groups_clean(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let router = echo()
            .route("/panic", handler(|connection: Connection| -> () {
                connection.join("room").unwrap();
                panic!("as it should");
            }))
            .route("/join", handler(|connection: Connection| {
                connection.join("room").unwrap();
                "joined"
            }))
            .on_disconnect(move |manager, _| note.send(manager.group_count("room")).unwrap());
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let (mut other, mut peer) = (server.open(), server.open());
        other.send_frame(Opcode::Text, "/join");
        assert_eq!(text(&mut other), "joined");
        peer.send_frame(Opcode::Text, "/panic");
        assert_eq!(peer.frame().code(), 1011);
        peer.send_frame(Opcode::Close, 1011_u16.to_be_bytes());
        assert_eq!((peer.rest(), notes.next()), (vec![], 1));
        manager.broadcast_group("room", Message::text("still here"));
        assert_eq!(text(&mut other), "still here");
        server.stop();
    }

    /// Attack D6.
    fn nobody_is_left_of_those_who_join_and_go_at_once(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let joins = handler(|connection: Connection, State(all): State<Arc<ConnectionManager>>| {
            let _ = connection.join("room");
            all.broadcast_group("room", Message::text("news"));
            connection.leave("room");
            let _ = connection.join("room");
        });
        let router = Router::new()
            .default_handler(joins)
            .route("/last", handler(|| "last"))
            .on_disconnect(move |_, _| note.send(()).unwrap());
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let address = server.address;
        let threads: Vec<_> = (0..2).map(|_| thread::spawn(move || {
            for n in 0..50 {
                let mut peer = Raw::open(address);
                peer.send(frame(true, Opcode::Text, b"").repeat(3));
                match n % 3 {
                    0 => peer.reset(),
                    // Whoever ends well is not found to have gone by what is sent to all.
                    1 => {
                        peer.send_frame(Opcode::Text, "/last");
                        while peer.frame().payload != b"last" {}
                        peer.send_frame(Opcode::Close, 1000_u16.to_be_bytes());
                        peer.rest();
                    }
                    _ => drop(peer),
                }
            }
        })).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        (0..100).for_each(|_| notes.next());
        assert_eq!((manager.count(), manager.groups()), (0, vec![]));
        server.stop();
    }

    /// Attack D7.
    fn there_is_an_end_to_groups_and_their_names(flavor: Flavor) {
        let joins = handler(|text: &str, connection: Connection| {
            match text.parse::<usize>() {
                Ok(n) => (0..n).filter(|n| connection.join(&n.to_string()).is_ok()).count(),
                Err(_) => usize::from(connection.join(text).is_ok()),
            }.to_string()
        });
        let server = Started::new(flavor, Router::new().default_handler(joins));
        let mut peer = server.open();
        for (sent, joined) in
            [("x".repeat(1 << 20), "0"), ("x".repeat(256), "0"), ("x".repeat(255), "1"), ("1000000".into(), "127")]
        {
            peer.send_frame(Opcode::Text, sent);
            assert_eq!(text(&mut peer), joined);
        }
        peer.close();
        server.stop();
    }

    /// Attack D10: the application ends a connection whose token has expired, from anywhere.
    fn a_connection_ends_when_its_token_does(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let router = echo().on_connect(move |manager, id| note.send(manager.get(&id).unwrap()).unwrap());
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        let connection: Connection = notes.next();
        connection.close(CloseCode::new(4401).unwrap(), "expired");
        let close = peer.frame();
        assert_eq!((close.code(), &close.payload[2..]), (4401, &b"expired"[..]));
        server.stop();
    }

    /// Attacks D2 and D11: only the socket's address counts.
    fn who_says_that_it_is_somebody_else_is_not(flavor: Flavor) {
        let router = echo().max_connections_per_address(1);
        let server = Started::new(flavor, router);
        let one = server.open();
        let spoofed = request("", &["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1"]);
        assert_eq!(server.ask(spoofed).0, 429);
        one.close();
        while server.ask(REQUEST).0 != 101 {}
        server.stop();
        let server = Started::new(flavor, echo());
        let proxy = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF";
        assert_eq!(server.ask([&proxy[..], REQUEST.as_bytes()].concat()).0, 400);
        server.stop();
    }

    /// Defect C4.
    fn shared_state_is_found_by_its_type_and_in_its_arc(flavor: Flavor) {
        struct Count(u8);
        let both = handler(|State(a): State<Count>, State(b): State<Arc<Count>>| {
            format!("{} {}", a.0, b.0)
        });
        let router = Router::new().with_state(Arc::new(Count(7))).default_handler(both);
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        peer.send_frame(Opcode::Text, "");
        assert_eq!(text(&mut peer), "7 7");
        peer.close();
        server.stop();
    }
}
