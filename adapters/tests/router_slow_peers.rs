//! Routers: what becomes of those who do not read what is sent to many.

mod raw;
mod router;

use raw::{Flavor, Raw};
use router::{Notes, Started, is_quiet, noting, numbered, stall, text, until};
use wsforge::proto::CloseCode;
use wsforge::proto::frame::Opcode;
use wsforge::proto::hub::Audience;
use wsforge::router::{Connection, ConnectionManager, Counters, Message, Router};
use wsforge::{Budget, SlowConsumer};

/// More than may wait, in messages of 4 KiB.
const MANY: usize = 100;
const MAX_WAITING: usize = 200_000;

/// The numbers of the texts that a peer gets before it is closed, how many other messages it gets, and the
/// code.
fn read_to_end(peer: &mut Raw) -> (Vec<usize>, usize, u16) {
    let (mut numbers, mut others) = (Vec::new(), 0);
    loop {
        let frame = peer.frame();
        match frame.opcode {
            Opcode::Text => {
                let text = String::from_utf8(frame.payload).unwrap();
                numbers.push(text.split(' ').next().unwrap().parse().unwrap());
            }
            Opcode::Binary => others += 1,
            _ => return (numbers, others, frame.code()),
        }
    }
}

/// What becomes of one who is slow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// It has got the first messages and not the last.
    First,
    /// The last, and not the first.
    Last,
    Closed(u16),
}

const NEWEST: Option<SlowConsumer> = Some(SlowConsumer::DropNewest);
const OLDEST: Option<SlowConsumer> = Some(SlowConsumer::DropOldest);

fn disconnect(code: u16) -> Option<SlowConsumer> {
    Some(SlowConsumer::Disconnect(CloseCode::new(code).unwrap()))
}

/// A server's policy, a group's and a connection's.
type Policies = [Option<SlowConsumer>; 3];

/// What becomes of a slow member of the group `g`, when very much is sent to it.
fn fate(flavor: Flavor, [server, group, own]: Policies, to: Audience<'_>) -> Fate {
    let mut router = Router::new().max_waiting(MAX_WAITING);
    if let Some(policy) = server {
        router = router.slow_consumer(policy);
    }
    let (router, connections) = noting(router);
    let manager = router.connection_manager();
    let server = Started::tiny(flavor, router);
    let mut peer = Raw::open_tiny(server.address);
    let connection = connections.next();
    connection.join("g").unwrap();
    connection.join("h").unwrap();
    // What is said last counts.
    manager.set_slow_consumer("g", disconnect(4999));
    manager.set_slow_consumer("g", group);
    connection.set_slow_consumer(disconnect(4999));
    connection.set_slow_consumer(own);
    let fillers = stall(&manager, &connection);
    for n in 0..MANY {
        manager.broadcast_among(to, numbered(n));
    }
    connection.close(CloseCode::NORMAL, "");
    let (numbers, others, code) = read_to_end(&mut peer);
    if code != 1000 {
        until(|| manager.counters().evicted == 1);
        let refused = manager.counters().refused;
        assert!((1..MANY as u64).contains(&refused), "{refused}");
        server.stop();
        return Fate::Closed(code);
    }
    let sent = fillers + MANY as u64;
    until(|| manager.counters().accepted + manager.counters().refused == sent);
    let Counters { accepted, refused, queued, written, dropped, evicted, .. } = manager.counters();
    assert_eq!((written + queued, evicted), (accepted, 0));
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    // All are accounted for, also to the peer.
    let got = (numbers.len() + others) as u64;
    assert_eq!((got + dropped, connection.take_lagged()), (sent, dropped));
    assert_eq!((dropped > 0, connection.take_lagged()), (true, 0));
    server.stop();
    match (numbers.first() == Some(&0), numbers.last() == Some(&(MANY - 1))) {
        (true, false) => {
            assert_eq!(refused, dropped);
            Fate::First
        }
        (false, true) => {
            assert_eq!(refused, 0);
            Fate::Last
        }
        ends => panic!("{ends:?}"),
    }
}

on_each_runtime! {
    fn what_is_dropped_for_a_slow_peer_its_policy_says(flavor: Flavor) {
        let (all, group) = (Audience::All, Audience::Group("g"));
        // By itself a server closes.
        assert_eq!(fate(flavor, [None, None, None], all), Fate::Closed(1013));
        assert_eq!(fate(flavor, [disconnect(4000), None, None], all), Fate::Closed(4000));
        assert_eq!(fate(flavor, [NEWEST, None, None], all), Fate::First);
        assert_eq!(fate(flavor, [OLDEST, None, None], all), Fate::Last);
        let newest = Some(SlowConsumer::KeepNewest);
        assert_eq!(fate(flavor, [newest, None, None], all), Fate::Last);
        // A group's counts before the server's, for what is sent to the group.
        assert_eq!(fate(flavor, [NEWEST, disconnect(4001), None], group), Fate::Closed(4001));
        assert_eq!(fate(flavor, [NEWEST, disconnect(4001), None], all), Fate::First);
        assert_eq!(fate(flavor, [None, NEWEST, None], group), Fate::First);
        assert_eq!(fate(flavor, [NEWEST, OLDEST, None], group), Fate::Last);
        let groups = Audience::Groups(&["h", "g"]);
        assert_eq!(fate(flavor, [NEWEST, OLDEST, None], groups), Fate::Last);
        assert_eq!(fate(flavor, [NEWEST, OLDEST, None], Audience::Topic("g")), Fate::Last);
    }

    fn a_connections_policy_counts_before_its_servers(flavor: Flavor) {
        let (all, group) = (Audience::All, Audience::Group("g"));
        assert_eq!(fate(flavor, [NEWEST, None, disconnect(4002)], all), Fate::Closed(4002));
        assert_eq!(fate(flavor, [None, None, OLDEST], all), Fate::Last);
        assert_eq!(fate(flavor, [OLDEST, None, NEWEST], group), Fate::First);
    }

    fn who_lags_is_told_how_much_it_has_missed(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let (router, connections) = noting(Router::new());
        let router = router
            .max_waiting(100_000)
            .slow_consumer(SlowConsumer::DropNewest)
            .on_lagged(move |connection, lagged| {
                // So little waits that there is room for it.
                connection.send_text(lagged.missed.to_string()).unwrap();
                note.send((connection.id().clone(), lagged.missed)).unwrap();
            });
        let manager = router.connection_manager();
        let server = Started::tiny(flavor, router);
        let other = server.open();
        connections.next();
        let mut peer = Raw::open_tiny(server.address);
        let connection = connections.next();
        let sent = stall(&manager, &connection) + MANY as u64;
        for _ in 0..MANY {
            let only = [connection.member_id()];
            manager.send_to(Audience::Only(&only), Message::binary(vec![0; 4096])).unwrap();
        }
        let mut missed = 0;
        let mut told = Vec::new();
        until(|| manager.counters().accepted + manager.counters().refused == sent);
        while missed < manager.counters().dropped {
            let (id, n) = notes.next();
            assert_eq!((&id, n > 0), (connection.id(), true));
            missed += n;
            told.push(n.to_string());
        }
        assert_eq!((missed, connection.take_lagged()), (manager.counters().dropped, 0));
        connection.close(CloseCode::NORMAL, "");
        let (mut texts, mut others) = (Vec::new(), 0);
        loop {
            match peer.frame() {
                frame if frame.opcode == Opcode::Text => {
                    texts.push(String::from_utf8(frame.payload).unwrap());
                }
                frame if frame.opcode == Opcode::Binary => others += 1,
                frame => break assert_eq!(frame.code(), 1000),
            }
        }
        assert_eq!((texts, others + missed), (told, sent));
        assert!(missed > 0);
        assert!(is_quiet(&other));
        server.stop();
    }

    fn of_what_has_a_key_a_slow_peer_gets_the_newest(flavor: Flavor) {
        let (router, connections) = noting(Router::new().slow_consumer(SlowConsumer::KeepNewest));
        let manager = router.connection_manager();
        let server = Started::tiny(flavor, router);
        let (mut fast, _) = (server.open(), connections.next());
        let (mut slow, connection) = (Raw::open_tiny(server.address), connections.next());
        let fillers = stall(&manager, &connection);
        for n in 0..MANY {
            for key in 0..3 {
                let price = Message::text(format!("{n} {key} {:1000}", ""));
                manager.broadcast_newest(Audience::All, key, price);
                // What has no key is not replaced.
                if n == 50 && key == 0 {
                    manager.broadcast(Message::binary([]));
                }
            }
            // It is as fast as we are.
            let mine = if n == 50 { 4 } else { 3 };
            for _ in 0..mine {
                fast.frame();
            }
        }
        connection.close(CloseCode::NORMAL, "");
        let mut last = [0; 3];
        let (mut got, mut others) = (0, 0);
        loop {
            let frame = slow.frame();
            match frame.opcode {
                Opcode::Text => {
                    let text = String::from_utf8(frame.payload).unwrap();
                    let mut words = text.split(' ').map(|word| word.parse().unwrap_or(0));
                    let (n, key) = (words.next().unwrap(), words.next().unwrap());
                    assert!(n >= last[key], "{n} {key}");
                    last[key] = n;
                    got += 1;
                }
                Opcode::Binary => others += 1,
                _ => break,
            }
        }
        assert_eq!((last, others), ([MANY - 1; 3], fillers + 1));
        // What the socket has begun to take cannot be replaced.
        assert!((3..60).contains(&got), "{got}");
        assert_eq!(manager.counters().dropped, (3 * MANY - got) as u64);
        server.stop();
    }

    fn a_budget_is_taken_back_from_those_for_whom_most_waits(flavor: Flavor) {
        let budget = Budget::new(1_000_000);
        let (router, connections) =
            noting(Router::new().max_waiting(usize::MAX).budget(budget.clone()));
        let manager = router.connection_manager();
        let server = Started::tiny(flavor, router);
        let mut peers = Vec::new();
        for bytes in [300_000, 100_000, 500_000, 0] {
            let (peer, connection) = (Raw::open_tiny(server.address), connections.next());
            wait(&manager, &connection, bytes);
            peers.push((peer, connection));
        }
        assert!(budget.waiting() <= budget.max_bytes());
        // Now there is too much, though not for this one.
        send_one(&manager, &peers[1].1, 350_000);
        until(|| peers[2].1.is_closed());
        until(|| budget.waiting() <= budget.max_bytes());
        let closed: Vec<_> = peers.iter().map(|(_, connection)| connection.is_closed()).collect();
        assert_eq!((closed, manager.counters().refused), (vec![false, false, true, false], 0));
        assert_eq!(read_to_end(&mut peers[2].0).2, 1013);
        // Nobody else notices.
        manager.broadcast(Message::text("0"));
        peers.remove(2);
        for (mut peer, connection) in peers {
            connection.close(CloseCode::NORMAL, "");
            let (numbers, _, code) = read_to_end(&mut peer);
            assert_eq!((numbers, code), (vec![0], 1000));
        }
        until(|| budget.waiting() == 0);
        server.stop();
    }

    fn when_a_budget_is_spent_nothing_more_waits(flavor: Flavor) {
        let budget = Budget::new(100_000);
        let (router, connections) =
            noting(Router::new().budget(budget.clone()).slow_consumer(SlowConsumer::DropNewest));
        let manager = router.connection_manager();
        let server = Started::tiny(flavor, router);
        let mut other = server.open();
        connections.next();
        let _slow = Raw::open_tiny(server.address);
        let slow = connections.next();
        stall(&manager, &slow);
        send_one(&manager, &slow, 120_000);
        // Until it is closed, at the next tick, and when it is.
        for _ in 0..3 {
            let sent = manager.send_to(Audience::All, numbered(0)).unwrap();
            assert_eq!((sent.accepted, sent.queued, sent.evicted), (1, 0, 0));
            assert!(text(&mut other).starts_with("0 "));
            assert!(slow.send_text("").is_err());
        }
        until(|| slow.is_closed());
        server.stop();
    }
}

#[test]
fn a_connections_policy_counts_before_its_groups() {
    let group = Audience::Group("g");
    let fate = |group_has, own| fate(Flavor::ANY, [None, group_has, own], group);
    assert_eq!(fate(NEWEST, disconnect(4003)), Fate::Closed(4003));
    assert_eq!(fate(NEWEST, OLDEST), Fate::Last);
    assert_eq!(fate(disconnect(4004), NEWEST), Fate::First);
}

#[test]
fn a_groups_policy_drops_nothing_that_was_sent_to_others() {
    let (router, connections) = noting(Router::new().max_waiting(MAX_WAITING));
    let manager = router.connection_manager();
    let server = Started::tiny(Flavor::ANY, router);
    let mut peer = Raw::open_tiny(server.address);
    let connection = connections.next();
    connection.join("g").unwrap();
    manager.set_slow_consumer("g", OLDEST);
    // The server's policy says that it gets all of these, or is closed.
    let to_it = stall(&manager, &connection);
    (0..MANY).for_each(|n| manager.broadcast_group("g", numbered(n)));
    connection.close(CloseCode::NORMAL, "");
    let (numbers, others, code) = read_to_end(&mut peer);
    assert_eq!((numbers.last(), others as u64, code), (Some(&(MANY - 1)), to_it, 1000));
    server.stop();
}

#[test]
fn a_budget_of_several_servers_is_taken_back_from_those_for_whom_most_waits() {
    let budget = Budget::new(1_000_000);
    let router = || noting(Router::new().max_waiting(usize::MAX).budget(budget.clone()));
    let ((one, ones), (two, twos)) = (router(), router());
    let managers = [one.connection_manager(), two.connection_manager()];
    let servers = [one, two].map(|router| Started::tiny(Flavor::ANY, router));
    let [mut big, mut small] = [0, 1].map(|n| Raw::open_tiny(servers[n].address));
    let (bigs, smalls) = (ones.next(), twos.next());
    wait(&managers[0], &bigs, 700_000);
    wait(&managers[1], &smalls, 200_000);
    assert!(budget.waiting() <= budget.max_bytes());
    // The other server's peer still has less.
    send_one(&managers[1], &smalls, 400_000);
    until(|| budget.waiting() <= budget.max_bytes());
    assert_eq!((bigs.is_closed(), smalls.is_closed()), (true, false));
    smalls.close(CloseCode::NORMAL, "");
    assert_eq!((read_to_end(&mut big).2, read_to_end(&mut small).2), (1013, 1000));
    until(|| budget.waiting() == 0);
    for server in servers {
        server.stop();
    }
}

/// Lets so many bytes wait for one who does not read, or a few more.
///
/// What a socket has begun to take is not dropped, so that its messages should not be long.
fn wait(manager: &ConnectionManager, connection: &Connection, bytes: usize) {
    if bytes == 0 {
        return;
    }
    stall(manager, connection);
    let missing = bytes.saturating_sub(connection.pending());
    (0..missing.div_ceil(10_000)).for_each(|_| send_one(manager, connection, 10_000));
}

/// Lets one message wait: when the budget is spent, the next would be one too many.
fn send_one(manager: &ConnectionManager, connection: &Connection, len: usize) {
    let (only, message) = ([connection.member_id()], Message::binary(vec![0; len]));
    assert_eq!(manager.send_to(Audience::Only(&only), message).unwrap().queued, 1);
}
