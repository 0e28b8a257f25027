//! Routers: how handlers end whose connections do not wait for them.

mod raw;
mod router;

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use raw::{Flavor, Raw, frame};
use router::{Gate, Notes, Started, text};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use wsforge::proto::frame::Opcode;
use wsforge::router::{Connection, Extensions, Message, Next, Router, from_fn, handler};

/// Tells when it is dropped.
struct Tells(Sender<&'static str>);

impl Drop for Tells {
    fn drop(&mut self) {
        self.0.send("dropped").unwrap();
    }
}

/// A handler that says that it has begun, and waits for ever.
fn endless(note: &Sender<&'static str>) -> Arc<dyn wsforge::router::Handler> {
    let (note, never) = (note.clone(), Gate::shut());
    handler(move |connection: Connection| {
        let (tells, never) = (Tells(note.clone()), never.clone());
        async move {
            let _tells = tells;
            connection.send_text("begun").unwrap();
            never.pass().await;
        }
    })
}

on_each_runtime! {
    /// What has been cut is over, also when its runtime goes on.
    fn a_handler_is_dropped_when_nobody_waits_for_it_any_more(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let gone = note.clone();
        let router = Router::new()
            .default_handler(endless(&note))
            .handler_timeout(None)
            .on_disconnect(move |_, _| gone.send("gone").unwrap())
            .patience(Duration::from_millis(300));
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ends) = oneshot::channel::<()>();
        let (reported, report) = std::sync::mpsc::channel();
        let running = thread::spawn(move || flavor.build().block_on(async move {
            let router = router.shutdown(async { drop(stopped.await) });
            reported.send(flavor.route(router, listener).await).unwrap();
            // Something else goes on here.
            drop(ends.await);
        }));
        let mut peer = Raw::open(address);
        peer.send_frame(Opcode::Text, "");
        assert_eq!(text(&mut peer), "begun");
        drop(stop);
        let report = report.recv_timeout(raw::FOREVER).unwrap();
        assert_eq!((report.closed, report.cut), (0, 1));
        assert_eq!([notes.next(), notes.next()], ["dropped", "gone"]);
        drop((end, note));
        running.join().unwrap();
        assert_eq!(notes.rest(), [""; 0]);
    }

    fn workers_count_each_connection_that_is_cut_once(flavor: Flavor) {
        let (note, _notes) = Notes::new();
        let (found, address) = Notes::new();
        let router = Router::new()
            .workers(2)
            .default_handler(endless(&note))
            .close_timeout(Duration::from_millis(200))
            .patience(Duration::from_millis(500))
            .on_listen(move |address| found.send(address).unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let run = router.listen_until("127.0.0.1:0", async { drop(stopped.await) });
        let running = thread::spawn(move || flavor.build().block_on(run).unwrap());
        let mut peer = Raw::open(address.next());
        peer.send_frame(Opcode::Text, "");
        assert_eq!(text(&mut peer), "begun");
        drop(stop);
        let report = running.join().unwrap();
        assert_eq!((report.opened, report.closed, report.cut), (1, 0, 1));
    }

    /// Defect C2: also when the peer does not wait for the answers.
    fn what_came_before_a_close_is_handled_though_the_peer_has_gone(flavor: Flavor) {
        let gate = Gate::shut();
        let (note, notes) = Notes::new();
        let (handled, waits) = (note.clone(), gate.clone());
        let router = Router::new()
            .default_handler(handler(move |message: Message| {
                let (handled, waits) = (handled.clone(), waits.clone());
                async move {
                    handled.send(message.as_text().unwrap().to_owned()).unwrap();
                    waits.pass().await;
                    // So that the socket is found to have failed between two of them.
                    yield_now().await;
                    message
                }
            }))
            .on_disconnect(move |_, _| note.send("gone".to_owned()).unwrap());
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        let mut sent: Vec<u8> =
            (0..50).flat_map(|n| frame(true, Opcode::Text, n.to_string().as_bytes())).collect();
        sent.extend(frame(true, Opcode::Close, b"\x03\xE8"));
        peer.send(sent);
        assert_eq!(notes.next(), "0");
        peer.reset();
        gate.open();
        for n in 1..50 {
            assert_eq!(notes.next(), n.to_string());
        }
        assert_eq!(notes.next(), "gone");
        server.stop();
        assert_eq!(notes.rest(), [""; 0]);
    }

    fn what_a_middleware_leaves_may_panic_as_it_is_dropped(flavor: Flavor) {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("as it should");
            }
        }
        let (note, notes) = Notes::new();
        let layer = from_fn(|message: Message, connection, state, extensions: Extensions, next: Next| {
            if message.as_text() == Some("bomb") {
                extensions.insert("bomb", Bomb);
            }
            next.run(message, connection, state, extensions)
        });
        let router = Router::new()
            .layer(layer)
            .default_handler(handler(|message: Message| message))
            .on_disconnect(move |manager, _| note.send(manager.count()).unwrap());
        let server = Started::new(flavor, router);
        let mut other = server.open();
        let mut peer = server.open();
        peer.echoes("before");
        peer.send_frame(Opcode::Text, "bomb");
        while let Some(frame) = peer.try_frame() {
            if frame.opcode == Opcode::Close {
                assert_eq!(frame.code(), 1011);
                peer.send_frame(Opcode::Close, 1011_u16.to_be_bytes());
                assert_eq!((notes.next(), peer.rest()), (1, vec![]));
                other.echoes("still here");
                return assert_eq!(server.stop().cut, 0);
            }
        }
        panic!("there is no Close");
    }
}
