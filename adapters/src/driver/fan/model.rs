//! A fan-out with all that is below it, against a list for each member of what it is to get.

use std::collections::BTreeSet;
use std::thread;

use proptest::prelude::*;
use proptest::sample::Index;
use wsforge_core::hub::{MemberId, SlowConsumer};

use super::inbox::SLICE;
use super::*;
use crate::Options;
use crate::driver::endpoint::Endpoint;
use crate::driver::outbox::mock::{Count, Pipe, endpoint, frames, opened_at};
use crate::driver::outbox::{Phase, Piece, Room};

#[derive(Clone, Debug)]
enum Op {
    Close(Index),
    Flush,
    Join { far: bool },
    Leave(Index),
    One(Index, usize),
    Room(Index, usize),
    Send { to: To, len: usize, key: Option<u64> },
    Slice,
    Subscribe(Index, u8),
    Unsubscribe(Index, u8),
}

#[derive(Clone, Debug)]
enum To {
    All,
    Except(Index),
    Group(u8),
    Groups(u8, u8),
    Only(Index, Index),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let index = any::<Index>;
    let len = || prop_oneof![4 => 0..60usize, 1 => 60..300usize];
    let to = prop_oneof![
        Just(To::All),
        index().prop_map(To::Except),
        (0..3u8).prop_map(To::Group),
        (0..3u8, 0..3u8).prop_map(|(a, b)| To::Groups(a, b)),
        (index(), index()).prop_map(|(a, b)| To::Only(a, b)),
    ];
    let key = prop_oneof![2 => Just(None), 1 => (0..2u64).prop_map(Some)];
    let op = prop_oneof![
        1 => index().prop_map(Op::Close),
        4 => Just(Op::Flush),
        4 => any::<bool>().prop_map(|far| Op::Join { far }),
        1 => index().prop_map(Op::Leave),
        6 => (index(), len()).prop_map(|(at, len)| Op::One(at, len)),
        6 => (index(), prop_oneof![Just(0), 1..400usize, Just(usize::MAX)])
            .prop_map(|(at, room)| Op::Room(at, room)),
        12 => (to, len(), key).prop_map(|(to, len, key)| Op::Send { to, len, key }),
        4 => Just(Op::Slice),
        3 => (index(), 0..3u8).prop_map(|(at, group)| Op::Subscribe(at, group)),
        1 => (index(), 0..3u8).prop_map(|(at, group)| Op::Unsubscribe(at, group)),
    ];
    prop::collection::vec(op, 1..150)
}

struct One {
    outbox: Arc<Outbox>,
    pipe: Pipe,
    id: MemberId,
    policy: SlowConsumer,
    groups: BTreeSet<String>,
    /// Whether it is a member, as far as the model knows: it may have been evicted.
    there: bool,
    closed: bool,
    /// What it is to get, and whether many are.
    due: Vec<(u32, bool)>,
}

struct World {
    fan: Arc<Fan<Arc<Outbox>>>,
    near: Arc<Endpoint>,
    /// Of another thread: what goes there waits for a slice.
    far: Arc<Endpoint>,
    all: Vec<One>,
    sent: u32,
}

impl World {
    fn new() -> Self {
        let mut options = Options::default();
        options.mailbox.max_bytes = 300;
        let [near, far] = [(); 2].map(|()| endpoint(options.clone()));
        thread::scope(|scope| scope.spawn(|| far.timer.inbox.stay()).join()).unwrap();
        Self { fan: Arc::default(), near, far, all: Vec::new(), sent: 0 }
    }

    fn join(&mut self, far: bool) {
        let (outbox, pipe) = opened_at(if far { &self.far } else { &self.near });
        let policies = [
            SlowConsumer::default(),
            SlowConsumer::DropNewest,
            SlowConsumer::DropOldest,
            SlowConsumer::KeepNewest,
        ];
        let policy = policies[self.all.len() % policies.len()];
        outbox.set_policy(Some(policy));
        let (id, outbox) = self.fan.join(|_| outbox);
        let (groups, due) = (BTreeSet::new(), Vec::new());
        self.all.push(One { outbox, pipe, id, policy, groups, there: true, closed: false, due });
    }

    fn slice(&self) {
        for inbox in [&self.near.timer.inbox, &self.far.timer.inbox] {
            if inbox.begin() {
                inbox.run(SLICE);
            }
        }
    }

    fn send(&mut self, to: &To, len: usize, key: Option<u64>) {
        let body = self.message(len);
        let id = |at: &Index| self.all[at.index(self.all.len())].id;
        let (names, ids);
        let to = match to {
            To::All => Audience::All,
            To::Except(at) => Audience::Except(id(at)),
            To::Group(group) => {
                names = [group.to_string(), String::new()];
                Audience::Group(&names[0])
            }
            To::Groups(a, b) => {
                names = [a.to_string(), b.to_string()];
                return self.send_to_both(&names, &body, key);
            }
            To::Only(a, b) => {
                ids = [id(a), id(b)];
                Audience::Only(&ids)
            }
        };
        let n = self.sent;
        let times = |one: &One| match to {
            Audience::All => 1,
            Audience::Except(id) => usize::from(one.id != id),
            Audience::Group(group) => usize::from(one.groups.contains(group)),
            Audience::Only(ids) => ids.iter().filter(|id| **id == one.id).count(),
            _ => unreachable!(),
        };
        for one in self.all.iter_mut().filter(|one| one.there) {
            let times = times(one);
            one.due.extend(std::iter::repeat_n((n, true), times));
        }
        self.fan.send(to, Opcode::Binary, &body, key);
    }

    fn send_to_both(&mut self, names: &[String; 2], body: &[u8], key: Option<u64>) {
        let groups = [&*names[0], &*names[1]];
        let n = self.sent;
        let is_in = |one: &One| groups.iter().any(|group| one.groups.contains(*group));
        let them = self.all.iter_mut().filter(|one| one.there && is_in(one));
        them.for_each(|one| one.due.push((n, true)));
        self.fan.send(Audience::Groups(&groups), Opcode::Binary, body, key);
    }

    fn message(&mut self, len: usize) -> Vec<u8> {
        self.sent += 1;
        [&self.sent.to_be_bytes()[..], &vec![0; len]].concat()
    }

    fn apply(&mut self, op: &Op) {
        if self.all.is_empty() {
            self.join(false);
        }
        let len = self.all.len();
        match op {
            Op::Close(at) => {
                turn::flush();
                let one = &mut self.all[at.index(len)];
                one.outbox.close(CloseCode::NORMAL, "");
                (one.closed, one.there) = (true, false);
            }
            Op::Flush => turn::flush(),
            Op::Join { far } => self.join(*far),
            Op::Leave(at) => {
                let one = &mut self.all[at.index(len)];
                self.fan.leave(one.id);
                one.there = false;
            }
            Op::One(at, len) => {
                let body = self.message(*len);
                let at = at.index(self.all.len());
                turn::flush();
                let one = &mut self.all[at];
                let pushed =
                    one.outbox.push(Piece::Message, Opcode::Binary, &(&*body).into(), Room::Needed);
                if pushed.is_ok() {
                    one.due.push((self.sent, false));
                }
            }
            Op::Room(at, room) => {
                let one = &self.all[at.index(len)];
                one.pipe.room(*room);
                one.outbox.flush_now();
            }
            Op::Send { to, len, key } => self.send(to, *len, *key),
            Op::Slice => self.slice(),
            Op::Subscribe(at, group) => {
                let one = &mut self.all[at.index(len)];
                if self.fan.subscribe(one.id, &group.to_string()).is_ok() {
                    one.groups.insert(group.to_string());
                }
            }
            Op::Unsubscribe(at, group) => {
                let one = &mut self.all[at.index(len)];
                self.fan.unsubscribe(one.id, &group.to_string());
                one.groups.remove(&group.to_string());
            }
        }
    }

    /// Everybody reads to the end.
    fn settle(&self) {
        while self.near.timer.inbox.is_behind() || self.far.timer.inbox.is_behind() {
            self.slice();
        }
        for one in &self.all {
            one.pipe.room(usize::MAX);
            assert!(one.outbox.poll_flush(&mut Count::default().context()).is_ready());
            assert_eq!(one.outbox.pending(), 0);
        }
    }
}

impl One {
    fn check(&self) {
        let mut got = Vec::new();
        for (_, opcode, body) in frames(&self.pipe.written()) {
            if opcode == Opcode::Binary {
                got.push(u32::from_be_bytes(body[..4].try_into().unwrap()));
            }
        }
        let evicted = self.outbox.phase() == Phase::Evicted;
        let drops = !matches!(self.policy, SlowConsumer::Disconnect(_));
        // Nothing that is not due, and all in order.
        let mut due = self.due.iter();
        let mut missed = Vec::new();
        for n in &got {
            loop {
                let (next, many) = due.next().expect("something that is due");
                if next == n {
                    break;
                }
                missed.push(*many);
            }
        }
        missed.extend(due.map(|(_, many)| *many));
        if evicted {
            assert!(!drops);
            // Nothing is missing in between.
            assert!(got.iter().zip(&self.due).all(|(got, due)| *got == due.0));
            return;
        }
        assert!(missed.iter().all(|many| *many), "what went to one was dropped");
        assert_eq!(missed.len() as u64, self.outbox.take_lagged(), "{:?}", self.policy);
        assert!(drops || missed.is_empty());
    }
}

proptest! {
    #[test]
    fn all_get_what_they_are_due_in_order_or_as_their_policy_says(ops in ops()) {
        let mut world = World::new();
        turn::scope(|| ops.iter().for_each(|op| world.apply(op)));
        world.settle();
        world.all.iter().for_each(One::check);
        // Whoever is over has left by itself, or been closed.
        let there = world.all.iter().filter(|one| world.fan.get(one.id).is_some());
        for one in there {
            prop_assert!(one.there || one.closed);
        }
        let Sums { evicted, .. } = world.fan.tally().sums();
        let over = world.all.iter().filter(|one| one.outbox.phase() == Phase::Evicted).count();
        prop_assert_eq!(evicted, over as u64);
    }
}
