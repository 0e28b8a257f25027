//! Routers: who gets what is sent to many, and who is told what has become of it.

mod raw;
mod router;

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use raw::{FOREVER, Flavor, Raw};
use router::{Notes, Started, noting, numbered, stall, text, until};
use wsforge::SlowConsumer;
use wsforge::proto::CloseCode;
use wsforge::proto::frame::Opcode;
use wsforge::proto::hub::{Audience, TagFilter, Tags};
use wsforge::router::{
    Connection, ConnectionManager, Counters, Error, Message, Router, State, handler,
};

/// More than may wait, in messages of 4 KiB.
const MANY: usize = 100;
const MAX_WAITING: usize = 200_000;

on_each_runtime! {
    fn topics_reach_their_group_and_those_who_subscribed_to_patterns_once_each(flavor: Flavor) {
        let (router, connections) = noting(Router::new());
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let (mut peers, ours): (Vec<_>, Vec<_>) =
            (0..4).map(|_| (server.open(), connections.next())).unzip();
        assert!(ours[0].join("prices.gold").unwrap());
        assert!(ours[0].subscribe("prices.gold").unwrap());
        assert!(ours[1].subscribe("prices.*").unwrap());
        assert!(!ours[1].subscribe("prices.*").unwrap());
        assert!(ours[1].subscribe("prices.>").unwrap());
        assert!(ours[2].subscribe("prices.gold.>").unwrap());
        for malformed in ["prices.>.gold", "prices..gold"] {
            assert!(matches!(ours[3].subscribe(malformed), Err(Error::Custom(_))), "{malformed}");
        }
        manager.broadcast_topic("prices.gold", Message::text("gold"));
        manager.broadcast_topic("prices.gold.usd", Message::text("usd"));
        manager.broadcast_topic("prices", Message::text("nobody"));
        let but_0 = Audience::TopicExcept("prices.gold", ours[0].member_id());
        manager.broadcast_among(but_0, Message::text("but 0"));
        assert!(ours[1].unsubscribe("prices.>"));
        assert!(!ours[1].unsubscribe("prices.>") && !ours[3].unsubscribe("prices.*"));
        manager.broadcast_topic("prices.gold", Message::text("again"));
        assert!(ours[1].unsubscribe("prices.*"));
        manager.broadcast_topic("prices.gold", Message::text("0 alone"));
        // Patterns are no groups.
        manager.broadcast_group("prices.*", Message::text("nobody"));
        assert_eq!((ours[1].groups(), manager.groups()), (vec![], vec!["prices.gold".to_owned()]));
        manager.broadcast(Message::text("end"));
        let got = [
            &["gold", "again", "0 alone", "end"][..],
            &["gold", "usd", "but 0", "again", "end"],
            &["usd", "end"],
            &["end"],
        ];
        for (peer, got) in peers.iter_mut().zip(got) {
            assert_eq!(got.iter().map(|_| text(peer)).collect::<Vec<_>>(), got);
        }
        server.stop();
    }

    fn tags_say_who_gets_a_message(flavor: Flavor) {
        const STAFF: Tags = Tags::from_bits(1);
        const GERMAN: Tags = Tags::from_bits(2);
        const MUTED: Tags = Tags::from_bits(4);
        let (router, connections) = noting(Router::new());
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let (mut peers, ours): (Vec<_>, Vec<_>) =
            (0..3).map(|_| (server.open(), connections.next())).unzip();
        assert_eq!(ours[0].tags(), Tags::NONE);
        assert!(ours[0].set_tags(STAFF | GERMAN) && ours[1].set_tags(STAFF | MUTED));
        assert_eq!((ours[0].tags(), ours[2].tags()), (STAFF | GERMAN, Tags::NONE));
        let send = |all, any, none, text: &str| {
            let to = Audience::Tagged(TagFilter { all, any, none });
            manager.broadcast_among(to, Message::text(text));
        };
        send(STAFF, Tags::NONE, Tags::NONE, "staff");
        send(Tags::NONE, GERMAN | MUTED, Tags::NONE, "german or muted");
        send(Tags::NONE, Tags::NONE, MUTED, "not muted");
        send(STAFF | GERMAN | MUTED, Tags::NONE, Tags::NONE, "nobody");
        assert!(ours[1].set_tags(GERMAN));
        send(GERMAN, Tags::NONE, STAFF, "1 alone");
        manager.broadcast(Message::text("end"));
        let got = [
            &["staff", "german or muted", "not muted", "end"][..],
            &["staff", "german or muted", "1 alone", "end"],
            &["not muted", "end"],
        ];
        for (peer, got) in peers.iter_mut().zip(got) {
            assert_eq!(got.iter().map(|_| text(peer)).collect::<Vec<_>>(), got);
        }
        peers.remove(0).close();
        until(|| manager.count() == 2);
        assert!(!ours[0].set_tags(STAFF));
        assert_eq!(ours[0].tags(), Tags::NONE);
        server.stop();
    }

    fn who_is_in_several_groups_gets_a_message_to_them_once(flavor: Flavor) {
        let (router, connections) = noting(Router::new());
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let (mut peers, ours): (Vec<_>, Vec<_>) =
            (0..3).map(|_| (server.open(), connections.next())).unzip();
        for (connection, groups) in ours.iter().zip([&["a", "b"][..], &["b", "c"], &["c"]]) {
            groups.iter().for_each(|group| assert!(connection.join(group).unwrap()));
        }
        let sent = manager.send_to(Audience::Groups(&["a", "b"]), Message::text("a or b")).unwrap();
        assert_eq!((sent.accepted, sent.written, sent.pending), (2, 2, 0));
        manager.broadcast_among(Audience::Groups(&["c", "none", "b", "c"]), Message::text("b or c"));
        let but_1 = Audience::GroupsExcept(&["a", "b", "c"], ours[1].member_id());
        manager.broadcast_among(but_1, Message::text("but 1"));
        manager.broadcast_among(Audience::Groups(&[]), Message::text("nobody"));
        manager.broadcast(Message::text("end"));
        let got =
            [&["a or b", "b or c", "but 1", "end"][..], &["a or b", "b or c", "end"], &["b or c", "but 1", "end"]];
        for (peer, got) in peers.iter_mut().zip(got) {
            assert_eq!(got.iter().map(|_| text(peer)).collect::<Vec<_>>(), got);
        }
        server.stop();
    }

    fn who_comes_to_groups_and_leaves_them_is_told_in_order(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let (router, connections) = noting(Router::new().max_waiting(MAX_WAITING));
        let manager = router.connection_manager();
        let router = router
            .on_presence(move |presence| {
                let id = presence.connection.id().clone();
                note.send((id, presence.group.to_owned(), presence.joined)).unwrap();
            })
            // There is one already.
            .on_presence(|_| unreachable!());
        let server = Started::tiny(flavor, router);
        let (peer, first) = (server.open(), connections.next());
        let (_slow, slow) = (Raw::open_tiny(server.address), connections.next());
        assert!(first.join("a").unwrap() && !first.join("a").unwrap());
        assert!(slow.join("a").unwrap() && first.join("b").unwrap());
        assert!(first.leave("a") && !first.leave("a") && !first.leave("none"));
        assert!(first.subscribe("a.*").unwrap() && first.join("c").unwrap());
        let next = |connection: &Connection| {
            let (id, group, joined) = notes.next();
            assert_eq!(id, *connection.id());
            (group, joined)
        };
        let is = |group: &str, joined| (group.to_owned(), joined);
        assert_eq!(next(&first), is("a", true));
        assert_eq!(next(&slow), is("a", true));
        assert_eq!([next(&first), next(&first)], [is("b", true), is("a", false)]);
        assert_eq!(next(&first), is("c", true));
        // It ends, and leaves all.
        peer.close();
        let mut left = [next(&first), next(&first)];
        left.sort();
        assert_eq!(left, [is("b", false), is("c", false)]);
        // It is closed as it does not read.
        while manager.group_count("a") > 0 {
            manager.send_to(Audience::Group("a"), numbered(0)).unwrap();
        }
        assert_eq!(next(&slow), is("a", false));
        assert_eq!((manager.groups(), notes.try_next()), (vec![], None));
        server.stop();
    }

    fn a_flush_says_what_has_become_of_what_a_turn_has_sent(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let (router, connections) = noting(Router::new().max_waiting(MAX_WAITING));
        let router = router.default_handler(handler(
            move |State(all): State<Arc<ConnectionManager>>| {
                all.broadcast(numbered(0));
                all.broadcast(numbered(1));
                note.send(all.flush()).unwrap();
            },
        ));
        let manager = router.connection_manager();
        let server = Started::tiny(flavor, router);
        let (mut peer, _) = (server.open(), connections.next());
        let (_slow, slow) = (Raw::open_tiny(server.address), connections.next());
        let mut sums = Counters::default();
        let mut ask = || {
            peer.send_frame(Opcode::Text, "");
            assert!(text(&mut peer).starts_with("0 ") && text(&mut peer).starts_with("1 "));
            let sent = notes.next();
            sums.accepted += sent.accepted;
            sums.refused += sent.refused;
            sums.written += sent.written;
            sums.queued += sent.queued;
            sums.dropped += sent.dropped;
            sums.evicted += sent.evicted;
            let rest = (sent.dropped, sent.evicted, sent.pending);
            ([sent.accepted, sent.refused, sent.written, sent.queued], rest)
        };
        assert_eq!(ask(), ([4, 0, 4, 0], (0, 0, 0)));
        let before = manager.counters();
        stall(&manager, &slow);
        let stalled = manager.counters();
        assert_eq!(ask(), ([4, 0, 2, 2], (0, 0, 0)));
        slow.set_slow_consumer(Some(SlowConsumer::DropNewest));
        let full = (0..MANY).map(|_| ask()).find(|sent| sent.0 != [4, 0, 2, 2]);
        assert_eq!(full, Some(([2, 2, 2, 0], (2, 0, 0))));
        slow.set_slow_consumer(None);
        assert_eq!(ask(), ([2, 2, 2, 0], (0, 1, 0)));
        // It is a member no more.
        assert_eq!(ask(), ([2, 0, 2, 0], (0, 0, 0)));
        let (closing, ours) = (server.open(), connections.next());
        ours.close(CloseCode::NORMAL, "");
        assert_eq!(ask(), ([2, 2, 2, 0], (0, 0, 0)));
        drop(closing);
        sums.accepted += stalled.accepted - before.accepted;
        sums.written += stalled.written - before.written;
        sums.queued += stalled.queued - before.queued;
        assert_eq!(manager.counters(), sums);
        server.stop();
    }

    fn those_of_a_thread_that_is_busy_are_pending(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let (go_on, goes_on) = mpsc::channel::<()>();
        let goes_on = std::sync::Mutex::new(goes_on);
        let router = Router::new().default_handler(handler(move || {
            note.send(flavor.runtime().is_local()).unwrap();
            goes_on.lock().unwrap().recv().unwrap();
        }));
        let manager = router.connection_manager();
        let server = Started::new(flavor, router);
        let mut peer = server.open();
        peer.send_frame(Opcode::Text, "");
        let is_local = notes.next();
        // Who wants to know writes by itself.
        let sent = manager.send_to(Audience::All, Message::text("now")).unwrap();
        assert_eq!((sent.written, sent.pending), (1, 0));
        manager.broadcast(Message::text("one"));
        manager.broadcast(Message::text("two"));
        let sent = manager.flush();
        // Outside of a turn there is nothing left to flush.
        assert_eq!(sent, manager.flush());
        let counters = manager.counters();
        assert_eq!(counters.written, if is_local { 1 } else { 3 });
        go_on.send(()).unwrap();
        assert_eq!([text(&mut peer), text(&mut peer), text(&mut peer)], ["now", "one", "two"]);
        until(|| manager.counters().written == 3);
        server.stop();
    }

    fn who_sends_to_one_waits_for_room_as_long_as_it_may(flavor: Flavor) {
        let (note, notes) = Notes::new();
        let (router, connections) = noting(Router::new());
        let router = router.default_handler(handler(
            move |message: Message, State(all): State<Arc<ConnectionManager>>| {
                let note = note.clone();
                async move {
                    let millis = message.as_text().unwrap().trim_end().parse().unwrap();
                    let slow = all.get("conn_1").unwrap();
                    let sent = slow.send_within(message, Duration::from_millis(millis)).await;
                    note.send(sent).unwrap();
                }
            },
        ));
        let manager = router.connection_manager();
        let server = Started::tiny(flavor, router);
        let mut slow = Raw::open_tiny(server.address);
        let connection = connections.next();
        let mut peer = server.open();
        let mut sent = stall(&manager, &connection);
        while connection.try_send(Message::binary(vec![0; 8 * 1024])).is_ok() {
            sent += 1;
        }
        let refused = manager.counters().refused;
        // For these there is no room either.
        let [late, in_time] = [50, FOREVER.as_millis()].map(|millis| format!("{millis:<8192}"));
        let late = Message::text(late);
        peer.send_frame(Opcode::Text, &late.data);
        let (error, back) = notes.next().unwrap_err();
        assert!(matches!(error, Error::Full), "{error:?}");
        assert_eq!((&back, manager.counters().refused), (&late, refused + 1));
        peer.send_frame(Opcode::Text, &in_time);
        (0..sent).for_each(|_| assert_eq!(slow.frame().opcode, Opcode::Binary));
        assert_eq!(text(&mut slow), in_time);
        notes.next().unwrap();
        assert_eq!(manager.counters().refused, refused + 1);
        connection.close(CloseCode::NORMAL, "");
        peer.send_frame(Opcode::Text, &late.data);
        let (error, back) = notes.next().unwrap_err();
        assert!(matches!(error, Error::Closed), "{error:?}");
        assert_eq!((back, manager.counters().refused), (late, refused + 2));
        server.stop();
    }
}

#[test]
fn what_is_dropped_of_a_turn_counts_as_refused() {
    let (note, notes) = Notes::new();
    let policy = SlowConsumer::DropNewest;
    let (router, connections) = noting(Router::new().max_waiting(60_000).slow_consumer(policy));
    let router =
        router.default_handler(handler(move |State(all): State<Arc<ConnectionManager>>| {
            all.broadcast_group("g", Message::binary(vec![0; 50_000]));
            all.broadcast_group("h", Message::text("for this there is room"));
            note.send(all.flush()).unwrap();
        }));
    let manager = router.connection_manager();
    let server = Started::tiny(Flavor::ANY, router);
    let (_slow, slow) = (Raw::open_tiny(server.address), connections.next());
    assert!(slow.join("g").unwrap() && slow.join("h").unwrap());
    stall(&manager, &slow);
    server.open().send_frame(Opcode::Text, "");
    let sent = notes.next();
    assert_eq!((sent.accepted, sent.queued, sent.refused, sent.dropped), (1, 1, 1, 1));
    server.stop();
}
