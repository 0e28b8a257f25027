//! Routers: the connections, what is called for them, and what is sent to many.

mod raw;
mod router;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use raw::{Flavor, Raw, frame};
use router::{Gate, Notes, Started, is_quiet, noting, text};
use tokio::sync::oneshot;
use wsforge::proto::CloseCode;
use wsforge::proto::frame::Opcode;
use wsforge::proto::hub::Audience;
use wsforge::router::{
    Connection, ConnectionInfo, ConnectionManager, Error, Message, Router, State, handler,
};

/// What a peer gets until it is told to stop.
fn texts(peer: &mut Raw) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        match text(peer) {
            end if end == "end" => return texts,
            text => texts.push(text),
        }
    }
}

on_each_runtime! {
    fn hooks_are_called_once_each_around_all_messages(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let (connected, handled, closed, gone) = (note.clone(), note.clone(), note.clone(), note);
        let router = Router::new()
            .on_connect(move |manager, id| {
                // It is there, hears what is sent to all, and can be sent to.
                manager.broadcast(Message::text("all"));
                // The second one may have gone already.
                let _ = manager.get(&id).unwrap().send_text("one");
                connected.send(format!("connect {id} {}", manager.count())).unwrap();
            })
            .default_handler(handler(move |_: Message, connection: Connection| {
                handled.send(format!("message {}", connection.id())).unwrap();
            }))
            .on_close(move |connection, info| {
                let clean = info.clean;
                closed.send(format!("close {} {clean}", connection.id())).unwrap();
            })
            .on_disconnect(move |manager, id| {
                let there = manager.get(&id).is_some();
                gone.send(format!("disconnect {id} {} {there}", manager.count())).unwrap();
            });
        let server = Started::new(flavor, router);
        let mut peer = Raw::connect(server.address);
        // The first message comes with the handshake.
        peer.send([raw::REQUEST.as_bytes(), &frame(true, Opcode::Text, b"m")].concat());
        assert_eq!(peer.status(), 101);
        assert_eq!([text(&mut peer), text(&mut peer)], ["all", "one"]);
        assert_eq!([notes.next(), notes.next()], ["connect conn_1 1", "message conn_1"]);
        peer.close();
        assert_eq!([notes.next(), notes.next()], ["close conn_1 true", "disconnect conn_1 0 false"]);
        // However it ends.
        server.open().reset();
        let second = [notes.next(), notes.next(), notes.next()];
        assert!(second[0].starts_with("connect conn_") && second[1].ends_with(" false"));
        assert!(second[2].starts_with("disconnect conn_") && second[2].ends_with(" 0 false"));
        server.stop();
        assert_eq!(notes.rest(), [""; 0]);
    }

    /// Defect C14.
    fn a_hook_that_panics_leaves_no_connection_behind(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let router = Router::new()
            .on_connect(|manager, id| {
                manager.get(&id).unwrap().set_data(7_u8);
                assert!(manager.count() > 1, "as it should");
            })
            .on_close(|_, _| panic!("as it should"))
            .on_disconnect(move |manager, _| {
                note.send(manager.count()).unwrap();
                panic!("as it should");
            })
            .default_handler(handler(|message: Message| message));
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let mut peer = Raw::connect(server.address);
        peer.send([raw::REQUEST.as_bytes(), &frame(true, Opcode::Text, b"not handled")].concat());
        assert_eq!(peer.status(), 101);
        assert_eq!(peer.frame().code(), 1011);
        peer.send_frame(Opcode::Close, 1011_u16.to_be_bytes());
        assert_eq!(peer.rest(), b"");
        assert_eq!((notes.next(), manager.count()), (0, 0));
        manager.broadcast(Message::text("to nobody"));
        assert_eq!(manager.counters().refused, 0);
        assert_eq!((server.stop().cut, notes.rest()), (0, vec![]));
    }

    fn connections_are_found_by_their_ids(flavor: Flavor) {
        let (router, notes) = noting(Router::new());
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        assert_eq!((manager.count(), manager.all_ids(), manager.iter().count()), (0, vec![], 0));
        // Defect C15: there is nobody to leave out.
        manager.broadcast_except("conn_1", Message::text(""));
        let peers: Vec<_> = (0..3).map(|_| server.open()).collect();
        let all: Vec<_> = peers.iter().map(|_| notes.next()).collect();
        assert_eq!(manager.count(), 3);
        for connection in &all {
            let found = manager.get(connection.id()).unwrap();
            assert_eq!((&found, found.id()), (connection, connection.id()));
            assert_eq!(manager.get(&connection.id()).as_ref(), Some(connection));
            assert_eq!(manager.get(&**connection.id()).as_ref(), Some(connection));
            assert_eq!(manager.get(&connection.member_id()).as_ref(), Some(connection));
            assert!(manager.all_ids().contains(connection.id()));
            assert!(manager.all_connections().contains(connection));
            assert!(manager.iter().any(|other| other == *connection));
        }
        assert_eq!((manager.all_ids().len(), manager.all_connections().len()), (3, 3));
        assert!(manager.get("conn_0").is_none() && manager.get("somebody").is_none());
        let gone = all[1].id().clone();
        peers.into_iter().nth(1).unwrap().close();
        while manager.count() > 0 {
            std::thread::yield_now();
        }
        // Its place is taken by another, its id is not.
        let _next = server.open();
        assert_ne!(notes.next().id(), &gone);
        assert!(manager.get(&gone).is_none());
        server.stop();
    }

    fn what_is_known_of_a_connection(flavor: Flavor) {
        let (router, notes) = noting(Router::new());
        let server = Started::new(flavor, router);
        let peer = server.open();
        let connection = notes.next();
        let ConnectionInfo { id, addr, connected_at, protocol, .. } = connection.info().clone();
        assert_eq!((&id, addr), (connection.id(), peer.0.local_addr().unwrap()));
        assert_eq!(connection.peer_addr(), Some(addr));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(now.as_secs() - connected_at < 20);
        assert_eq!((protocol, connection.request().is_some()), (None, false));
        assert_eq!(format!("{connection:?}"), format!("Connection({id:?})"));
        peer.close();
        server.stop();
    }

    fn messages_go_to_those_they_are_for(flavor: Flavor) {
        let (router, notes) = noting(Router::new());
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let mut peers: Vec<_> = (0..3).map(|_| server.open()).collect();
        let mut all: Vec<_> = peers.iter().map(|_| notes.next()).collect();
        // Which is which is for their addresses to say.
        all.sort_by_key(|connection| {
            peers.iter().position(|peer| Some(peer.0.local_addr().unwrap()) == connection.peer_addr())
        });
        let ids: Vec<String> = all.iter().map(|connection| connection.id().clone()).collect();
        manager.broadcast(Message::text("all"));
        manager.broadcast_except(all[0].id(), Message::text("not 0"));
        manager.broadcast_except(&all[1], Message::text("not 1"));
        manager.broadcast_except("nobody", Message::text("not nobody"));
        manager.broadcast_to(&ids[..2], Message::text("0 and 1"));
        manager.broadcast_to(&["conn_0", ids[2].as_str()], Message::text("2"));
        manager.broadcast_to(&all[1..], Message::text("1 and 2"));
        assert_eq!((all[0].join("g").unwrap(), all[0].join("g").unwrap()), (true, false));
        assert!(all[1].join("g").unwrap() && all[1].join("h").unwrap());
        assert_eq!(manager.groups(), ["g", "h"]);
        assert_eq!((manager.group_count("g"), manager.group_count("i")), (2, 0));
        let mut groups = all[1].groups();
        groups.sort();
        assert_eq!(groups, ["g", "h"]);
        manager.broadcast_group("g", Message::text("g"));
        manager.broadcast_group_except("g", all[1].id(), Message::text("g but 1"));
        assert!(all[1].leave("h") && !all[1].leave("h"));
        manager.broadcast_group("h", Message::text("h"));
        assert_eq!(manager.connections(Audience::Group("g")).len(), 2);
        assert_eq!(manager.groups(), ["g"]);
        manager.broadcast(Message::text("end"));
        let got: Vec<_> = peers.iter_mut().map(texts).collect();
        assert_eq!(got[0], ["all", "not 1", "not nobody", "0 and 1", "g", "g but 1"]);
        assert_eq!(got[1], ["all", "not 0", "not nobody", "0 and 1", "1 and 2", "g"]);
        assert_eq!(got[2], ["all", "not 0", "not 1", "not nobody", "2", "1 and 2"]);
        assert_eq!(manager.counters().accepted, 18 + 3);
        assert!(all[2].join(&"n".repeat(256)).is_err());
        for peer in peers {
            peer.close();
        }
        while manager.count() > 0 {
            std::thread::yield_now();
        }
        assert_eq!((manager.groups(), all[0].groups()), (vec![], vec![]));
        assert!(matches!(all[0].join("g"), Err(Error::Closed)));
        server.stop();
    }

    /// Defect C11: the guide's heartbeat.
    fn pings_to_all_are_control_frames_and_go_no_further(flavor: Flavor) {
        let router = Router::new().default_handler(handler(
            |message: Message, State(all): State<Arc<ConnectionManager>>| all.broadcast(message),
        ));
        let (router, notes) = noting(router);
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let mut peers = [server.open(), server.open()];
        let all = [notes.next(), notes.next()];
        manager.broadcast(Message::ping(vec![]));
        manager.broadcast(Message::pong("p"));
        all[0].send(Message::ping("q")).unwrap();
        for peer in &mut peers {
            assert_eq!((peer.frame().opcode, peer.frame().opcode), (Opcode::Ping, Opcode::Pong));
            peer.send_frame(Opcode::Pong, "");
            peer.send_frame(Opcode::Text, "what comes behind a pong");
        }
        let long = || Message::ping(vec![0; 126]);
        manager.broadcast(long());
        assert!(matches!(manager.send_to(Audience::All, long()), Err(Error::InvalidMessage)));
        assert!(matches!(all[0].send(long()), Err(Error::InvalidMessage)));
        assert_eq!(manager.counters().refused, 2);
        manager.broadcast(Message::text("end"));
        let mut pings = 0;
        for peer in &mut peers {
            let mut texts = 0;
            while texts < 3 {
                match peer.frame().opcode {
                    Opcode::Ping => pings += 1,
                    Opcode::Text => texts += 1,
                    opcode => panic!("{opcode:?}"),
                }
            }
        }
        assert_eq!(pings, 1);
        server.stop();
    }

    fn what_is_sent_is_accepted_or_comes_back(flavor: Flavor) {
        let (router, notes) = noting(Router::new());
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        let connection = notes.next();
        connection.send(Message::text("a")).unwrap();
        connection.send_text("b").unwrap();
        connection.send_binary(*b"c").unwrap();
        connection.send_json(&[1, 2]).unwrap();
        connection.try_send(Message::text("d")).unwrap();
        let got: Vec<_> = (0..5).map(|_| text(&mut peer)).collect();
        assert_eq!(got, ["a", "b", "c", "[1,2]", "d"]);
        let sent = manager.send_to(Audience::All, Message::text("e")).unwrap();
        assert_eq!((sent.accepted, sent.refused, text(&mut peer)), (1, 0, "e".into()));
        let bad = Message { data: vec![0xFF], ..Message::text("") };
        assert!(matches!(connection.send(bad.clone()), Err(Error::InvalidMessage)));
        manager.broadcast(bad);
        connection.send(Message::close()).unwrap();
        assert!(connection.is_closed());
        let (error, back) = connection.try_send(Message::text("f")).unwrap_err();
        assert!(matches!(error, Error::Closed) && back == Message::text("f"));
        assert!(matches!(connection.send(Message::close()), Err(Error::Closed)));
        let sent = manager.send_to(Audience::All, Message::text("g")).unwrap();
        assert_eq!((sent.accepted, sent.refused), (0, 1));
        assert_eq!((manager.counters().accepted, manager.counters().refused), (1, 5));
        assert_eq!(peer.frame().code(), 1000);
        peer.send_frame(Opcode::Close, 1000_u16.to_be_bytes());
        assert_eq!(peer.rest(), b"");
        server.stop();
    }

    fn an_audience_can_be_closed(flavor: Flavor) {
        let (router, notes) = noting(Router::new());
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let mut peers: Vec<_> = (0..3).map(|_| {
            let peer = server.open();
            (peer, notes.next())
        }).collect();
        peers[0].1.join("g").unwrap();
        assert_eq!(manager.close(Audience::Group("g"), CloseCode::POLICY, "out"), 1);
        assert_eq!(peers[0].0.frame().code(), 1008);
        assert!(is_quiet(&peers[1].0));
        manager.broadcast(Message::close());
        assert_eq!(peers[1].0.frame().code(), 1000);
        assert_eq!(peers[2].0.frame().code(), 1000);
        server.stop();
    }

    /// Defect C5.
    fn who_does_not_read_is_closed_and_stops_nobody(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let router = Router::new()
            .max_waiting(200_000)
            .on_disconnect(move |_, id| note.send(id).unwrap());
        let (router, connections) = noting(router);
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let slow = Raw::open_tiny(server.address);
        let slow_connection = connections.next();
        let mut peer = server.open();
        connections.next();
        let reading = std::thread::spawn(move || {
            let mut n = 0;
            while let Some(frame) = peer.try_frame() {
                assert!(frame.opcode == Opcode::Binary);
                n += 1;
                if n == 3000 {
                    break;
                }
            }
            (n, peer)
        });
        let mut sent = 0;
        for n in 0..3000 {
            // As fast as the other one reads.
            while connections_pending(&manager, &slow_connection) > 100_000 {
                std::thread::yield_now();
            }
            let report = manager.send_to(Audience::All, Message::binary(vec![7; 10_000])).unwrap();
            sent += report.accepted + report.refused;
            assert!(report.accepted >= 1, "{n}");
        }
        let (got, _peer) = reading.join().unwrap();
        assert_eq!(got, 3000);
        assert!(sent < 6000);
        assert_eq!((manager.counters().evicted, manager.count()), (1, 1));
        assert!(slow_connection.is_closed());
        drop(slow);
        assert_eq!(notes.next(), *slow_connection.id());
        server.stop();
    }

    fn data_stays_with_its_connection_and_goes_with_it(flavor: Flavor) {
        struct Tells(Arc<AtomicUsize>);
        impl Drop for Tells {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let dropped = Arc::new(AtomicUsize::new(0));
        let (note, notes) = Notes::new();
        let (router, connections) = noting(Router::new());
        let router = router
            .default_handler(handler(|message: Message, connection: Connection| {
                let name = message.as_text().unwrap().to_owned();
                match connection.set_data(name) {
                    Some(before) => format!("was {before}"),
                    None => "is new".to_owned(),
                }
            }))
            .on_close(move |connection, _| {
                note.send(connection.data::<String>().as_deref().cloned()).unwrap();
            });
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        let connection = connections.next();
        assert!(connection.data::<String>().is_none());
        peer.send_frame(Opcode::Text, "a");
        assert_eq!(text(&mut peer), "is new");
        peer.send_frame(Opcode::Text, "b");
        assert_eq!(text(&mut peer), "was a");
        connection.set_data(Tells(dropped.clone()));
        assert_eq!(connection.data::<String>().as_deref().map(String::as_str), Some("b"));
        assert!(connection.data::<u8>().is_none());
        let mut other = server.open();
        other.send_frame(Opcode::Text, "c");
        assert_eq!(text(&mut other), "is new");
        peer.close();
        assert_eq!(notes.next().as_deref(), Some("b"));
        // Although somebody keeps the connection.
        while dropped.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        assert!(connection.data::<String>().is_none());
        other.close();
        server.stop();
    }

    fn what_a_handler_sends_to_all_arrives_in_its_order(flavor: Flavor) {
        let router = Router::new();
        let manager = router.connection_manager();
        let router = router.default_handler(handler(move |message: Message| {
            let sender = message.as_text().unwrap().to_owned();
            for n in 0..50 {
                manager.broadcast(Message::text(format!("{sender} {n}")));
            }
        }));
        let (router, notes) = noting(router);
        let server = Started::new(flavor, router);
        let mut peers: Vec<_> = (0..4).map(|_| server.open()).collect();
        peers.iter().for_each(|_| drop(notes.next()));
        for (n, peer) in peers.iter_mut().enumerate() {
            peer.send_frame(Opcode::Text, n.to_string());
        }
        let all: Vec<Vec<String>> =
            peers.iter_mut().map(|peer| (0..200).map(|_| text(peer)).collect()).collect();
        for got in &all {
            assert_eq!(got, &all[0], "all get the same");
        }
        for n in 0..4 {
            let own = all[0].iter().filter(|text| text.starts_with(&format!("{n} ")));
            assert!(own.cloned().eq((0..50).map(|m| format!("{n} {m}"))));
        }
        server.stop();
    }

    /// Defect C10.
    fn who_has_gone_silently_is_missed(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let short = Duration::from_millis(200);
        let router = Router::new()
            .heartbeat(short, short)
            .on_disconnect(move |manager, _| note.send(manager.count()).unwrap());
        let server = Started::new(flavor, router);
        let mut silent = server.open();
        assert_eq!(silent.frame().opcode, Opcode::Ping);
        assert_eq!(notes.next(), 0);
        server.stop();
    }

    /// Its runtime ends, and nobody has told it to stop.
    fn connections_end_with_their_runtime(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let gate = Gate::shut();
        let router = Router::new()
            .default_handler(handler(move || {
                let gate = gate.clone();
                async move { gate.pass().await }
            }))
            .on_disconnect(move |manager, id| {
                note.send((manager.count(), manager.get(&id).is_none())).unwrap();
            });
        let (router, connections) = noting(router);
        let manager = router.connection_manager();
        let runtime = flavor.build();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let mut peer = std::thread::scope(|scope| {
            let opening = scope.spawn(move || {
                let mut peer = Raw::open(address);
                peer.send_frame(Opcode::Text, "waits");
                let connection = connections.next();
                while connection.pending() > 0 {
                    std::thread::yield_now();
                }
                drop(connection);
                drop(stop);
                peer
            });
            runtime.block_on(async {
                tokio::select! {
                    _ = flavor.route(router, listener) => {}
                    _ = stopped => {}
                }
            });
            opening.join().unwrap()
        });
        drop(runtime);
        assert_eq!((notes.next(), manager.count()), ((0, true), 0));
        assert!(notes.rest().is_empty());
        assert_eq!(peer.rest(), b"");
    }
}

/// How much waits for all but one.
fn connections_pending(manager: &ConnectionManager, but: &Connection) -> usize {
    manager
        .iter()
        .filter(|connection| connection != but)
        .map(|connection| connection.pending())
        .sum()
}
