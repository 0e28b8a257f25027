//! What is sent to many without the framework: who gets it, and what becomes of those who are slow.

mod raw;

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use raw::{FOREVER, Flavor, Raw, Server, Setup, TINY};
use wsforge::proto::frame::Opcode;
use wsforge::proto::hub::{Audience, SubscribeError, TagFilter, Tags};
use wsforge::{
    Budget, CloseCode, FanOut, Kind, Member, Message, Options, SendError, Sender, Sent,
    SlowConsumer,
};

/// A server whose peers join.
struct Hall {
    all: FanOut,
    server: Server,
    joined: Receiver<(Sender, Member)>,
}

impl Hall {
    fn new(flavor: Flavor, set: impl FnOnce(&mut Options)) -> Self {
        let all = FanOut::new();
        let mut options = Options::default();
        set(&mut options);
        let setup = Setup { options, patience: Duration::ZERO, buffers: Some(TINY) };
        let (join, joined) = mpsc::channel();
        let fan_out = all.clone();
        let server = Server::start(flavor, setup, move |mut socket| {
            let sender = socket.sender();
            let member = fan_out.join(&sender).unwrap();
            join.send((sender, member)).unwrap();
            async move { while socket.recv().await.is_some() {} }
        });
        Self { all, server, joined }
    }

    fn open(&self) -> (Raw, Sender, Member) {
        let peer = Raw::open(self.server.address);
        let (sender, member) = self.joined.recv_timeout(FOREVER).unwrap();
        (peer, sender, member)
    }

    /// One who does not read, and for whom something waits; and how much it was sent.
    fn open_slow(&self) -> (Raw, Sender, Member, u64) {
        let peer = Raw::open_tiny(self.server.address);
        let (sender, member) = self.joined.recv_timeout(FOREVER).unwrap();
        let only = [member.id()];
        let sent = raw::stall(
            || sender.pending(),
            || {
                self.all.send_to(Audience::Only(&only), Kind::Binary, &[0; 8 * 1024]);
            },
        );
        (peer, sender, member, sent)
    }

    fn send(&self, to: Audience<'_>, text: &str) {
        self.all.send(to, Kind::Text, text.as_bytes());
    }
}

fn text(peer: &mut Raw) -> String {
    let frame = peer.frame();
    assert_eq!(frame.opcode, Opcode::Text, "{frame:?}");
    String::from_utf8(frame.payload).unwrap()
}

/// The first words of all texts, and how a connection ends.
fn read_to_end(peer: &mut Raw) -> (Vec<String>, u16) {
    let mut texts = Vec::new();
    loop {
        let frame = peer.frame();
        match frame.opcode {
            Opcode::Text => {
                let text = String::from_utf8(frame.payload).unwrap();
                texts.push(text.split(' ').next().unwrap().to_owned());
            }
            Opcode::Binary => {}
            _ => return (texts, frame.code()),
        }
    }
}

fn until(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < FOREVER, "it never is");
        thread::yield_now();
    }
}

/// With 4 KiB behind it.
fn long(text: impl ToString) -> String {
    format!("{} {:4096}", text.to_string(), "")
}

const MANY: usize = 100;

on_each_runtime! {
    fn a_groups_policy_and_a_connections_say_what_is_dropped(flavor: Flavor) {
        let mut fates = Vec::new();
        for (group, own, to) in [
            (None, None, Audience::Group("g")),
            (Some(SlowConsumer::DropNewest), None, Audience::Group("g")),
            (Some(SlowConsumer::DropNewest), None, Audience::All),
            (None, Some(SlowConsumer::DropOldest), Audience::Group("g")),
        ] {
            let hall = Hall::new(flavor, |options| options.mailbox.max_bytes = 200_000);
            let (mut peer, sender, member, _) = hall.open_slow();
            assert_eq!(member.subscribe("g"), Ok(true));
            hall.all.set_slow_consumer("g", Some(SlowConsumer::DropOldest));
            hall.all.set_slow_consumer("g", group);
            sender.set_slow_consumer(Some(SlowConsumer::DropNewest));
            sender.set_slow_consumer(own);
            (0..MANY).for_each(|n| hall.send(to, &long(n)));
            sender.close(CloseCode::NORMAL, "");
            let (texts, code) = read_to_end(&mut peer);
            let [first, last] = [0, MANY - 1].map(|n| texts.contains(&n.to_string()));
            until(|| code != 1000 || hall.all.counters().dropped > 0);
            assert_eq!(sender.take_lagged(), hall.all.counters().dropped);
            assert_eq!(sender.take_lagged(), 0);
            fates.push((first, last, code));
            drop((peer, sender, member));
            hall.server.stop();
        }
        let closed = (false, false, 1013);
        assert_eq!(fates, [closed, (true, false, 1000), closed, (false, true, 1000)]);
    }

    fn of_what_has_a_key_a_slow_member_gets_the_newest(flavor: Flavor) {
        let hall = Hall::new(flavor, |options| options.mailbox.policy = SlowConsumer::KeepNewest);
        let (mut peer, sender, _member, _) = hall.open_slow();
        for n in 0..MANY {
            hall.all.send_newest(Audience::All, 7, Kind::Text, long(n).as_bytes());
            hall.all.send_newest(Audience::All, 8, Kind::Text, long(n).as_bytes());
        }
        sender.close(CloseCode::NORMAL, "");
        let (texts, code) = read_to_end(&mut peer);
        let last = (MANY - 1).to_string();
        assert_eq!((&texts[texts.len() - 2..], code), (&[last.clone(), last][..], 1000));
        // What the socket has begun to take cannot be replaced.
        assert!(texts.len() < 30, "{texts:?}");
        assert_eq!(hall.all.counters().dropped, (2 * MANY - texts.len()) as u64);
        hall.server.stop();
    }

    fn members_are_found_watched_and_told_apart(flavor: Flavor) {
        const STAFF: Tags = Tags::from_bits(1);
        let hall = Hall::new(flavor, |_| {});
        let (note, notes) = mpsc::channel();
        let watch = move |group: &str, member, joined| note.send((group.to_owned(), member, joined)).unwrap();
        assert!(hall.all.watch(watch));
        assert!(!hall.all.watch(|_, _, _| unreachable!()));
        let (mut one, _, first) = hall.open();
        let (mut two, _, second) = hall.open();
        assert_eq!((first.subscribe("a.b"), second.subscribe("a.b")), (Ok(true), Ok(true)));
        let mut members = hall.all.members("a.b");
        members.sort();
        assert_eq!((members, hall.all.members("a")), (vec![first.id(), second.id()], vec![]));
        assert_eq!(second.subscribe_pattern("a.*"), Ok(true));
        assert_eq!(second.subscribe_pattern("a.*"), Ok(false));
        assert_eq!(second.subscribe_pattern("a.>.b"), Err(SubscribeError::BadPattern));
        hall.send(Audience::Topic("a.b"), "a.b");
        hall.send(Audience::Topic("a.c"), "a.c");
        assert!(second.unsubscribe_pattern("a.*") && !second.unsubscribe_pattern("a.*"));
        hall.send(Audience::Topic("a.c"), "nobody");
        let staff = Audience::Tagged(TagFilter { all: STAFF, ..TagFilter::default() });
        assert!(first.set_tags(STAFF));
        hall.send(staff, "staff");
        assert!(first.set_tags(Tags::NONE) && second.set_tags(STAFF));
        hall.send(staff, "now I am");
        hall.send(Audience::All, "end");
        assert_eq!([(); 3].map(|()| text(&mut one)), ["a.b", "staff", "end"]);
        assert_eq!([(); 4].map(|()| text(&mut two)), ["a.b", "a.c", "now I am", "end"]);
        let (id, other) = (first.id(), second.id());
        assert!(second.unsubscribe("a.b"));
        drop(first);
        let events: Vec<_> = (0..4).map(|_| notes.recv_timeout(FOREVER).unwrap()).collect();
        let is = |member, joined| ("a.b".to_owned(), member, joined);
        assert_eq!(events, [is(id, true), is(other, true), is(other, false), is(id, false)]);
        hall.server.stop();
    }

    fn who_sends_is_told_what_has_become_of_it(flavor: Flavor) {
        let hall = Hall::new(flavor, |options| options.mailbox.max_bytes = 100_000);
        let (_peer, ..) = hall.open();
        let (_slow, sender, _member, _) = hall.open_slow();
        // The other one has left, as nobody kept its membership.
        assert_eq!(hall.all.len(), 1);
        let (mut peer, _sender, _other) = hall.open();
        let before = hall.all.counters();
        let send = || hall.all.send_to(Audience::All, Kind::Text, long("").as_bytes());
        let numbers = |sent: Sent| {
            assert_eq!((sent.accepted, sent.pending), (sent.written + sent.queued, 0));
            (sent.written, sent.queued, sent.refused, sent.dropped, sent.evicted)
        };
        assert_eq!(numbers(send()), (1, 1, 0, 0, 0));
        sender.set_slow_consumer(Some(SlowConsumer::DropNewest));
        let mut queued = 1;
        let full = std::iter::repeat_with(|| (text(&mut peer), numbers(send())).1)
            .inspect(|_| queued += 1)
            .find(|sent| sent.1 == 0);
        assert_eq!(full, Some((1, 0, 1, 1, 0)));
        sender.set_slow_consumer(None);
        text(&mut peer);
        assert_eq!(numbers(send()), (1, 0, 1, 0, 1));
        assert_eq!((hall.all.len(), numbers(send())), (1, (1, 0, 0, 0, 0)));
        let sums = (before.written + queued + 2, before.queued + queued - 1, 2, 1, 1);
        assert_eq!(numbers(hall.all.counters()), sums);
        assert_eq!(hall.all.flush(), Sent::default());
        hall.server.stop();
    }

    fn a_flush_ends_a_turn_and_says_what_became_of_it(flavor: Flavor) {
        let all = FanOut::new();
        let fan_out = all.clone();
        let (note, notes) = mpsc::channel();
        let server = Server::start(flavor, Setup::default(), move |mut socket| {
            let (all, note) = (fan_out.clone(), note.clone());
            async move {
                let _member = all.join(&socket.sender()).unwrap();
                let turn = socket.for_each(|_, _| {
                    all.send(Audience::All, Kind::Text, b"one");
                    all.send(Audience::All, Kind::Text, b"two");
                    note.send((all.flush(), all.flush())).unwrap();
                    std::ops::ControlFlow::<()>::Continue(())
                });
                turn.await;
            }
        });
        let (mut peer, mut other) = (Raw::open(server.address), Raw::open(server.address));
        until(|| all.len() == 2);
        peer.send_frame(Opcode::Text, "");
        let (sent, again) = notes.recv_timeout(FOREVER).unwrap();
        assert_eq!((sent.accepted, sent.written, sent.pending, again), (4, 4, 0, Sent::default()));
        for peer in [&mut peer, &mut other] {
            assert_eq!([text(peer), text(peer)], ["one", "two"]);
        }
        server.stop();
    }

    fn a_sender_waits_for_room_as_long_as_it_may(flavor: Flavor) {
        let (note, notes) = mpsc::channel();
        let setup = Setup { buffers: Some(TINY), patience: Duration::ZERO, ..Setup::default() };
        let server = Server::start(flavor, setup, move |mut socket| {
            let (note, sender) = (note.clone(), socket.sender());
            async move {
                // For none of these is there room then.
                let message = |n: u8| vec![n; 8 * 1024];
                let mut sent = 0;
                while sender.try_send(message(0)).is_ok() {
                    sent += 1;
                }
                // The system has taken some on.
                while sender.send_within(message(0), Duration::from_millis(200)).await.is_ok() {
                    sent += 1;
                }
                let late = sender.send_within(message(1), Duration::from_millis(50)).await;
                note.send((sent, late)).unwrap();
                let reads = async { while socket.recv().await.is_some() {} };
                let in_time = sender.send_within(message(2), FOREVER);
                let (in_time, ()) = tokio::join!(in_time, reads);
                note.send((0, in_time)).unwrap();
                note.send((0, sender.send_within(message(3), FOREVER).await)).unwrap();
            }
        });
        let mut peer = Raw::open_tiny(server.address);
        let next = || notes.recv_timeout(FOREVER).unwrap();
        let is = |message: &Message, n| message.as_bytes() == [n; 8 * 1024];
        let (sent, late) = next();
        assert!(matches!(&late, Err(SendError::Full(message)) if is(message, 1)));
        (0..sent).for_each(|_| assert_eq!(peer.frame().payload[0], 0));
        assert_eq!(peer.frame().payload[0], 2);
        peer.close();
        assert!(next().1.is_ok());
        assert!(matches!(&next().1, Err(SendError::Closed(message)) if is(message, 3)));
        server.stop();
    }

    fn a_budget_is_taken_back_from_the_member_for_whom_most_waits(flavor: Flavor) {
        let budget = Budget::new(600_000);
        let hall = Hall::new(flavor, |options| {
            options.mailbox.max_bytes = usize::MAX;
            options.budget = budget.clone();
        });
        let (mut big, bigs, big_member, _) = hall.open_slow();
        let (mut small, smalls, small_member, _) = hall.open_slow();
        let send = |member: &Member, bytes| {
            let only = [member.id()];
            hall.all.send_to(Audience::Only(&only), Kind::Binary, &vec![0; bytes]);
        };
        // What the socket has begun to take is not dropped, so that it should not be long.
        for (sender, member, bytes) in [(&bigs, &big_member, 400_000), (&smalls, &small_member, 100_000)] {
            while sender.pending() < bytes {
                send(member, 10_000);
            }
        }
        assert!((500_000..=600_000).contains(&budget.waiting()), "{budget:?}");
        send(&small_member, 150_000);
        until(|| bigs.is_closed());
        until(|| budget.waiting() <= budget.max_bytes());
        assert!(!smalls.is_closed());
        smalls.close(CloseCode::NORMAL, "");
        assert_eq!((read_to_end(&mut big).1, read_to_end(&mut small).1), (1013, 1000));
        until(|| budget.waiting() == 0);
        hall.server.stop();
    }
}
