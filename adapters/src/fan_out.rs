use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::{self, ThreadId};

use bytes::Bytes;
use thiserror::Error;
use wsforge_core::Kind;
use wsforge_core::hub::{Audience, Hub, MemberId, SharedFrame, SubscribeError, Variant};

use crate::Sender;
use crate::driver::outbox::Outbox;
use crate::driver::sync::lock_plain;
use crate::driver::turn::{self, Plans};

/// Sends messages to many peers: to all that have joined, or to groups of them.
///
/// Clone it to share it. A message is encoded once, and written to each peer's socket by whoever sends
/// it; what one task sends while it is polled leaves in one write for each peer. Nobody is waited for: a
/// peer for whom more waits than [`Options::mailbox`](crate::Options::mailbox) is closed with 1013.
///
/// What a task sends to many and what it sends to one of them arrive in the order in which it sent them;
/// what several tasks send to many arrives everywhere in the same order.
#[derive(Clone, Default)]
pub struct FanOut(Arc<Shared>);

/// A peer that has joined; it leaves when this is dropped.
#[derive(Debug)]
#[must_use = "the peer leaves when this is dropped"]
pub struct Member {
    of: FanOut,
    id: MemberId,
}

/// Why a peer cannot join.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("each frame of a client has to be masked by itself")]
pub struct ClientsCannotJoin;

#[derive(Default)]
struct Shared {
    members: RwLock<Members>,
    queue: Mutex<Queue>,
    /// Told when a plan has been executed, if somebody waits for that.
    executed: Condvar,
}

#[derive(Default)]
struct Members {
    hub: Hub,
    /// By the members' indices.
    outboxes: Vec<Option<Arc<Outbox>>>,
}

#[derive(Default)]
struct Queue {
    plans: VecDeque<Plan>,
    /// Who executes plans, and will those that are queued meanwhile.
    runner: Option<ThreadId>,
    /// How many plans have been taken out, and how many of them are done.
    taken: u64,
    done: u64,
    /// How many threads wait for one to be done.
    waiting: usize,
}

struct Plan {
    to: To,
    /// Whole frames.
    bytes: Vec<u8>,
    frames: usize,
}

/// An [`Audience`] to keep.
#[derive(PartialEq)]
enum To {
    All,
    Except(MemberId),
    Group(Box<str>),
    GroupExcept(Box<str>, MemberId),
    Only(Box<[MemberId]>),
}

/// More than this does not wait for the end of a turn.
const MAX_GATHERED: (usize, usize) = (64 * 1024, 64);

/// So many peers are written to before it is looked again who has left.
const AT_A_TIME: usize = 256;

impl FanOut {
    /// Nobody has joined yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a peer of a server join.
    ///
    /// # Errors
    ///
    /// [`ClientsCannotJoin`] if we are the client.
    pub fn join(&self, sender: &Sender) -> Result<Member, ClientsCannotJoin> {
        if sender.outbox.is_client() {
            return Err(ClientsCannotJoin);
        }
        // What was sent before it came is not for it.
        turn::flush();
        let Members { hub, outboxes } = &mut *write(&self.0.members);
        let id = hub.join(Variant::Plain);
        if outboxes.len() <= id.index() {
            outboxes.resize_with(id.index() + 1, || None);
        }
        outboxes[id.index()] = Some(sender.outbox.clone());
        Ok(Member { of: self.clone(), id })
    }

    /// Sends a message; those who get it are those who have joined when it leaves.
    ///
    /// A text's bytes must be UTF-8, as those of a [`str`] or a received text are.
    pub fn send(&self, to: Audience<'_>, kind: Kind, payload: &[u8]) {
        let mut queue = lock_plain(&self.0.queue);
        let frame = SharedFrame::new(kind, payload);
        let frame = frame.get(Variant::Plain);
        match queue.plans.back_mut() {
            // Next to each other they reach everybody in one piece.
            Some(plan) if plan.to == to && plan.bytes.len() + frame.len() <= MAX_GATHERED.0 => {
                plan.bytes.extend_from_slice(frame);
                plan.frames += 1;
            }
            _ => queue.plans.push_back(Plan { to: to.into(), bytes: frame.to_vec(), frames: 1 }),
        }
        let much = queue.plans.len() > MAX_GATHERED.1
            || queue.plans.back().is_some_and(|plan| plan.bytes.len() > MAX_GATHERED.0);
        drop(queue);
        turn::planned(self.0.clone());
        if much {
            turn::flush();
        }
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        read(&self.0.members).hub.len()
    }

    /// Whether nobody has joined.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of members in a group.
    pub fn group_len(&self, group: &str) -> usize {
        read(&self.0.members).hub.group_len(group)
    }

    fn leave(&self, id: MemberId) {
        turn::flush();
        let mut members = write(&self.0.members);
        let gone = members.hub.leave(id).then(|| members.outboxes[id.index()].take());
        drop(members);
        drop(gone);
    }
}

impl fmt::Debug for FanOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FanOut").field("members", &self.len()).finish_non_exhaustive()
    }
}

impl Member {
    /// What an [`Audience`] names it by.
    pub const fn id(&self) -> MemberId {
        self.id
    }

    /// Puts it into a group, which is made if there is none. `Ok(false)` if it was in it before.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]; nothing has changed then.
    pub fn subscribe(&self, group: &str) -> Result<bool, SubscribeError> {
        turn::flush();
        write(&self.of.0.members).hub.subscribe(self.id, group)
    }

    /// Takes it out of a group. `false` if it was not in it.
    pub fn unsubscribe(&self, group: &str) -> bool {
        turn::flush();
        write(&self.of.0.members).hub.unsubscribe(self.id, group)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.of.leave(self.id);
    }
}

impl Plans for Shared {
    fn run(&self) {
        let me = thread::current().id();
        let mut queue = lock_plain(&self.queue);
        let end = queue.taken + queue.plans.len() as u64;
        while let Some(runner) = queue.runner {
            // Executing a plan drops and wakes what others gave, which may send: its plan is the next.
            if queue.done >= end || runner == me {
                return;
            }
            // Another thread writes to sockets that do not block; it is not waited for with a lock held
            // that it needs.
            queue.waiting += 1;
            queue = self.executed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.waiting -= 1;
        }
        queue.runner = Some(me);
        while let Some(plan) = queue.plans.pop_front() {
            queue.taken += 1;
            drop(queue);
            let mut executed = Executed { of: self, panics: true };
            self.execute(plan);
            executed.panics = false;
            drop(executed);
            queue = lock_plain(&self.queue);
        }
        queue.runner = None;
    }
}

/// A plan is done, also when a transport panics: then somebody else goes on.
struct Executed<'a> {
    of: &'a Shared,
    panics: bool,
}

impl Drop for Executed<'_> {
    fn drop(&mut self) {
        let mut queue = lock_plain(&self.of.queue);
        queue.done += 1;
        if self.panics {
            queue.runner = None;
        }
        if queue.waiting > 0 {
            self.of.executed.notify_all();
        }
    }
}

impl Shared {
    fn execute(&self, plan: Plan) {
        let bytes = Bytes::from(plan.bytes);
        // Who joins from here on gets nothing of it.
        let targets: Vec<MemberId> = {
            let members = read(&self.members);
            members.hub.plan(plan.to.audience()).map(|target| target.member).collect()
        };
        let (mut some, mut over) = (Vec::new(), Vec::new());
        for ids in targets.chunks(AT_A_TIME) {
            // No lock is held while sockets are written to.
            some.extend(read(&self.members).outboxes_of(ids));
            for (id, outbox) in some.drain(..) {
                if outbox.offer(&bytes, plan.frames).is_err() {
                    over.push((id, outbox));
                }
            }
        }
        if !over.is_empty() {
            let mut members = write(&self.members);
            for (id, _) in &over {
                if members.hub.leave(*id) {
                    members.outboxes[id.index()] = None;
                }
            }
        }
    }
}

impl Members {
    /// Those of `ids` who have not left.
    fn outboxes_of(&self, ids: &[MemberId]) -> impl Iterator<Item = (MemberId, Arc<Outbox>)> {
        ids.iter().filter(|id| self.hub.contains(**id)).filter_map(|id| {
            let outbox = self.outboxes.get(id.index())?.clone()?;
            Some((*id, outbox))
        })
    }
}

impl To {
    fn audience(&self) -> Audience<'_> {
        match self {
            Self::All => Audience::All,
            Self::Except(id) => Audience::Except(*id),
            Self::Group(name) => Audience::Group(name),
            Self::GroupExcept(name, id) => Audience::GroupExcept(name, *id),
            Self::Only(ids) => Audience::Only(ids),
        }
    }
}

impl From<Audience<'_>> for To {
    fn from(to: Audience<'_>) -> Self {
        match to {
            Audience::All => Self::All,
            Audience::Except(id) => Self::Except(id),
            Audience::Group(name) => Self::Group(name.into()),
            Audience::GroupExcept(name, id) => Self::GroupExcept(name.into(), id),
            Audience::Only(ids) => Self::Only(ids.into()),
        }
    }
}

impl PartialEq<Audience<'_>> for To {
    fn eq(&self, other: &Audience<'_>) -> bool {
        match (self, other) {
            (Self::All, Audience::All) => true,
            (Self::Except(a), Audience::Except(b)) => a == b,
            (Self::Group(a), Audience::Group(b)) => **a == **b,
            (Self::GroupExcept(a, x), Audience::GroupExcept(b, y)) => **a == **b && x == y,
            (Self::Only(a), Audience::Only(b)) => **a == **b,
            _ => false,
        }
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(wsforge_loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::Options;
    use crate::driver::outbox::mock::{Pipe, frames, opened};

    fn member(of: &FanOut) -> (Sender, Member, Pipe) {
        let (outbox, pipe) = opened(Options::default());
        let sender = Sender { outbox };
        let member = of.join(&sender).unwrap();
        (sender, member, pipe)
    }

    fn bodies(pipe: &Pipe) -> Vec<u8> {
        frames(&pipe.written()).into_iter().flat_map(|(.., body)| body).collect()
    }

    /// Another thread has plans to execute, and takes its time.
    #[test]
    fn what_is_sent_next_does_not_overtake_a_plan_that_another_thread_executes() {
        let fan_out = FanOut::new();
        let (sender, _member, pipe) = member(&fan_out);
        let (_, slow, slow_pipe) = member(&fan_out);
        let (begun, begins) = std::sync::mpsc::channel();
        slow_pipe.first({
            let (fan_out, pipe) = (fan_out.clone(), pipe.clone());
            move || {
                begun.send(()).unwrap();
                // Until the other thread waits, or has gone on without.
                while lock_plain(&fan_out.0.queue).waiting == 0 && pipe.written().is_empty() {
                    thread::yield_now();
                }
            }
        });
        let other = thread::spawn({
            let (fan_out, slow) = (fan_out.clone(), slow.id());
            move || fan_out.send(Audience::Only(&[slow]), Kind::Binary, b"a")
        });
        begins.recv().unwrap();
        turn::scope(|| fan_out.send(Audience::All, Kind::Binary, b"b"));
        sender.try_send(b"c"[..].to_vec()).unwrap();
        other.join().unwrap();
        assert_eq!((bodies(&pipe), bodies(&slow_pipe)), (b"bc".to_vec(), b"ab".to_vec()));
    }

    #[test]
    fn who_sends_to_all_while_a_plan_is_executed_does_not_wait_for_itself() {
        let fan_out = FanOut::new();
        let (_, first, first_pipe) = member(&fan_out);
        let (_, _second, pipe) = member(&fan_out);
        first_pipe.first({
            let fan_out = fan_out.clone();
            move || fan_out.send(Audience::All, Kind::Binary, b"b")
        });
        fan_out.send(Audience::Only(&[first.id()]), Kind::Binary, b"a");
        assert_eq!((bodies(&first_pipe), bodies(&pipe)), (b"ab".to_vec(), b"b".to_vec()));
    }

    #[test]
    fn a_transport_that_panics_stops_nobody_else() {
        let fan_out = FanOut::new();
        let (_, first, first_pipe) = member(&fan_out);
        let (_, _second, pipe) = member(&fan_out);
        first_pipe.first(|| panic!("as it should"));
        let send = |to: Audience<'_>, body: &[u8]| fan_out.send(to, Kind::Binary, body);
        let panicked = catch_unwind(AssertUnwindSafe(|| send(Audience::Only(&[first.id()]), b"a")));
        assert!(panicked.is_err());
        send(Audience::All, b"b");
        assert_eq!(bodies(&pipe), b"b");
    }

    /// Rule 14.
    #[test]
    fn who_leaves_while_others_are_written_to_gets_nothing_nor_does_who_comes_in_its_place() {
        let fan_out = FanOut::new();
        let (_, _first, first_pipe) = member(&fan_out);
        let between: Vec<_> = (0..AT_A_TIME).map(|_| member(&fan_out)).collect();
        let (sender, leaving, pipe) = member(&fan_out);
        let (come, came) = std::sync::mpsc::channel();
        first_pipe.first({
            let fan_out = fan_out.clone();
            move || {
                // The member's and the sender's: a plan does not hold on to all at once.
                assert_eq!(Arc::strong_count(&sender.outbox), 2);
                let index = leaving.id().index();
                drop(leaving);
                let (sender, member, pipe) = member(&fan_out);
                assert_eq!(member.id().index(), index);
                come.send((sender, member, pipe)).unwrap();
            }
        });
        fan_out.send(Audience::All, Kind::Binary, b"a");
        let (_, _late, late_pipe) = came.recv().unwrap();
        assert!(between.iter().all(|(.., pipe)| bodies(pipe) == b"a"));
        assert_eq!(
            (bodies(&first_pipe), bodies(&pipe), bodies(&late_pipe)),
            (b"a".to_vec(), vec![], vec![])
        );
        fan_out.send(Audience::All, Kind::Binary, b"b");
        assert_eq!((bodies(&pipe), bodies(&late_pipe)), (vec![], b"b".to_vec()));
    }

    /// Rule 14.
    #[test]
    fn who_is_closed_or_evicted_leaves() {
        let mut options = Options::default();
        options.mailbox.max_bytes = 10;
        let (outbox, pipe) = opened(options);
        let fan_out = FanOut::new();
        let _slow = fan_out.join(&Sender { outbox }).unwrap();
        let (sender, _closed, _) = member(&fan_out);
        let (_, _member, _) = member(&fan_out);
        pipe.room(0);
        sender.close(wsforge_core::CloseCode::NORMAL, "");
        fan_out.send(Audience::All, Kind::Binary, &[0; 9]);
        assert_eq!(fan_out.len(), 2);
        fan_out.send(Audience::All, Kind::Binary, &[0; 9]);
        assert_eq!(fan_out.len(), 1);
    }
}
