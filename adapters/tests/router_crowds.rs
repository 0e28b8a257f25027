//! Routers: more connections than are sent to at once, and what happens meanwhile.

mod raw;
mod router;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use raw::{Crowd, Flavor, Raw};
use router::{Notes, Started, noting, stall, text, until};
use wsforge::SlowConsumer;
use wsforge::proto::CloseCode;
use wsforge::proto::frame::Opcode;
use wsforge::proto::hub::Audience;
use wsforge::router::{Connection, ConnectionManager, Message, Router, State, handler};

/// Beside those on sockets, who come behind them and are reached last.
const CROWD: usize = 2000;

/// With everybody in one group.
fn gathered(
    flavor: Flavor,
    router: Router,
) -> (Started, Arc<Crowd>, Vec<Connection>, Notes<Connection>) {
    let (router, connections) = noting(router);
    let crowd = Arc::new(Crowd::of(CROWD));
    let server = Started::crowded(flavor, router, &crowd);
    let mut members: Vec<_> = (0..CROWD).map(|_| connections.next()).collect();
    members.sort_by_key(Connection::peer_addr);
    members.iter().for_each(|connection| assert!(connection.join("g").unwrap()));
    (server, crowd, members, connections)
}

type All = State<Arc<ConnectionManager>>;

on_each_runtime! {
    fn others_have_their_turn_before_everybody_is_reached(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let (go_on, goes_on) = mpsc::channel::<()>();
        let goes_on = Mutex::new(goes_on);
        let known = Arc::new(Mutex::new(None::<Arc<Crowd>>));
        let (reached, crowd_known) = (Arc::new(AtomicUsize::new(0)), known.clone());
        let seen = reached.clone();
        let router = Router::new()
            .route("/tell", handler(move |State(all): All| {
                note.send(()).unwrap();
                goes_on.lock().unwrap().recv().unwrap();
                all.broadcast(Message::text("news"));
            }))
            .route("/echo", handler(move || {
                let crowd = crowd_known.lock().unwrap();
                seen.store(crowd.as_ref().unwrap().reached("news"), Ordering::SeqCst);
                "echo"
            }));
        let (server, crowd, _many, _connections) = gathered(flavor, router);
        *known.lock().unwrap() = Some(crowd.clone());
        let (mut teller, mut other) = (server.open(), server.open());
        teller.send_frame(Opcode::Text, "/tell");
        notes.next();
        // It is there when the handler goes on.
        other.send_frame(Opcode::Text, "/echo");
        go_on.send(()).unwrap();
        let mut got = [text(&mut other), text(&mut other)];
        until(|| crowd.reached("news") == CROWD);
        if flavor.is_single_threaded() {
            let reached = reached.load(Ordering::SeqCst);
            assert!((1..CROWD).contains(&reached), "{reached}");
            assert_eq!(got, ["news", "echo"]);
        }
        got.sort();
        assert_eq!(got, ["echo", "news"]);
        assert_eq!(text(&mut teller), "news");
        server.stop();
    }

    /// Also for those who have not been reached, and who leave or close before they are.
    fn what_is_sent_next_does_not_overtake(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let known = Arc::new(Mutex::new(Vec::<Connection>::new()));
        let members = known.clone();
        let router = Router::new().default_handler(handler(move |State(all): All| {
            let members = members.lock().unwrap();
            let [late, leaving, closing, ..] = &members[..] else { unreachable!() };
            all.broadcast_group("g", Message::text("one"));
            let sent = all.flush();
            late.send_text("to you").unwrap();
            assert!(leaving.leave("g"));
            closing.close(CloseCode::NORMAL, "bye");
            // One of the many.
            members[3].close(CloseCode::NORMAL, "bye");
            all.broadcast_group("g", Message::text("two"));
            leaving.send_text("end").unwrap();
            note.send(sent).unwrap();
        }));
        let (server, crowd, mut many, connections) = gathered(flavor, router);
        let (mut peers, mut ours): (Vec<_>, Vec<_>) =
            (0..3).map(|_| (server.open(), connections.next())).unzip();
        ours.iter().for_each(|connection| assert!(connection.join("g").unwrap()));
        ours.push(many.remove(CROWD - 1));
        *known.lock().unwrap() = ours;
        let mut asking = server.open();
        asking.send_frame(Opcode::Text, "");
        let sent = notes.next();
        assert_eq!((sent.accepted + sent.pending, sent.refused), (CROWD as u64 + 3, 0));
        if flavor.is_single_threaded() {
            assert!(sent.accepted > 0 && sent.pending > 0, "{sent:?}");
        }
        let mut next = |n: usize| text(&mut peers[n]);
        assert_eq!([next(0), next(0), next(0)], ["one", "to you", "two"]);
        assert_eq!([next(1), next(1), next(2)], ["one", "end", "one"]);
        assert_eq!(peers[2].frame().code(), 1000);
        until(|| crowd.reached("two") == CROWD - 1);
        for n in 0..CROWD - 1 {
            assert_eq!(crowd.texts(n), ["one", "two"]);
        }
        assert_eq!(crowd.texts(CROWD - 1), ["one"]);
        known.lock().unwrap().clear();
        server.stop();
    }

    /// Attack B15.
    fn one_who_takes_nothing_stops_none_of_the_many(flavor: Flavor) {
        const MAX_WAITING: usize = 60_000;
        const LEN: usize = 2000;
        const COUNT: usize = 40;
        let router =
            Router::new().max_waiting(MAX_WAITING).slow_consumer(SlowConsumer::DropNewest);
        let manager = router.connection_manager();
        let (server, crowd, _many, connections) = gathered(flavor, router);
        let _stalled = Raw::open_tiny(server.address);
        let stalled = connections.next();
        let mut peer = server.open();
        stall(&manager, &stalled);
        let before = manager.counters();
        for n in 0..COUNT {
            manager.broadcast(Message::text(format!("{n:LEN$}")));
        }
        for n in 0..COUNT {
            assert_eq!(text(&mut peer).trim_start(), n.to_string());
        }
        let last = format!("{:LEN$}", COUNT - 1);
        until(|| crowd.reached(&last) == CROWD);
        for n in 0..CROWD {
            assert!(crowd.texts(n).iter().enumerate().all(|(n, text)| *text == format!("{n:LEN$}")));
        }
        let all = (COUNT * (CROWD + 2)) as u64;
        let sum = || manager.counters().accepted + manager.counters().refused;
        until(|| sum() == before.accepted + all);
        let counters = manager.counters();
        assert!((1..COUNT as u64).contains(&counters.refused), "{counters:?}");
        assert_eq!((counters.dropped, counters.evicted), (counters.refused, 0));
        assert_eq!(counters.written - before.written, (COUNT * (CROWD + 1)) as u64);
        assert!(stalled.pending() <= MAX_WAITING, "{}", stalled.pending());
        server.stop();
    }

    /// Attack D6.
    fn nobody_gets_what_is_sent_after_he_has_left(flavor: Flavor) {
        const ROUNDS: usize = 3;
        const EACH: usize = 200;
        let router = Router::new();
        let manager = router.connection_manager();
        let (server, crowd, members, _) = gathered(flavor, router);
        let over = AtomicBool::new(false);
        let round = |connection: &Connection| {
            connection.send_text("leaves").unwrap();
            assert!(connection.leave("g"));
            connection.send_text("has left").unwrap();
            thread::yield_now();
            connection.send_text("comes").unwrap();
            assert!(connection.join("g").unwrap());
            connection.send_text("has come").unwrap();
        };
        let sent = thread::scope(|scope| {
            let threads: Vec<_> = members.chunks(EACH).take(2).map(|some| {
                scope.spawn(move || (0..ROUNDS).for_each(|_| some.iter().for_each(round)))
            }).collect();
            let tells = scope.spawn(|| {
                let mut sent = 0;
                while !over.load(Ordering::SeqCst) {
                    manager.broadcast_group("g", Message::text(format!("news {sent}")));
                    sent += 1;
                    // As fast as they are sent.
                    let text = format!("news {}", sent - 1);
                    until(|| crowd.has_last(CROWD - 1, &text));
                }
                sent
            });
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            over.store(true, Ordering::SeqCst);
            tells.join().unwrap()
        });
        manager.broadcast_group("g", Message::text("end"));
        until(|| crowd.reached("end") == CROWD);
        let mut missed = 0;
        for n in 0..CROWD {
            let (mut last, mut out) = (None, false);
            for text in crowd.texts(n) {
                match text.strip_prefix("news ").map(|n| n.parse::<usize>().unwrap()) {
                    Some(n) => {
                        assert!(!out, "{n} after it has left");
                        // None is missed of those who stay, and all are in order.
                        let expected = last.map_or(0, |last| last + 1);
                        assert!(n >= expected, "{n} behind {last:?}");
                        missed += n - expected;
                        last = Some(n);
                    }
                    None => out = text == "has left" || out && text != "comes",
                }
            }
            assert!(n < 2 * EACH || last == Some(sent - 1));
        }
        println!("{sent} were sent, {missed} missed by who had left");
        members.iter().for_each(|connection| assert!(connection.leave("g")));
        assert_eq!((manager.group_count("g"), manager.groups()), (0, vec![]));
        manager.close(Audience::All, CloseCode::NORMAL, "");
        server.stop();
        drop(members);
        assert_eq!(manager.count(), 0);
    }
}
