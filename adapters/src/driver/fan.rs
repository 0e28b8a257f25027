//! Members, and what is sent to many of them.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, ThreadId};

use bytes::Bytes;
use wsforge_core::CloseCode;
use wsforge_core::frame::{Header, MAX_HEADER_LEN, Opcode};
use wsforge_core::hub::{Audience, Hub, MemberId, SubscribeError, Variant};

use super::outbox::{Outbox, Refusal};
use super::sync::lock_plain;
use super::turn::{self, Plans};

/// The members, each a `P`, and the queue of what is to be sent to them.
///
/// What several threads send to many arrives everywhere in the same order: one of them at a time executes
/// the queue's plans.
pub(crate) struct Fan<P> {
    members: RwLock<Members<P>>,
    queue: Mutex<Queue>,
    /// Told when a plan has been executed, if somebody waits for that.
    executed: Condvar,
    tally: Tally,
}

/// One that can be a member.
pub(crate) trait Peer: Clone + Send + Sync + 'static {
    fn outbox(&self) -> &Arc<Outbox>;
}

impl Peer for Arc<Outbox> {
    fn outbox(&self) -> &Arc<Outbox> {
        self
    }
}

struct Members<P> {
    hub: Hub,
    /// By the members' indices.
    peers: Vec<Option<P>>,
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
    /// Who wants to know what came of it.
    report: Option<Arc<Tally>>,
}

/// What has become of frames that went to many, one for each member.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) accepted: AtomicU64,
    /// The member had closed, or too much waited for it.
    pub(crate) refused: AtomicU64,
    /// How many members were closed because too much waited for them.
    pub(crate) evicted: AtomicU64,
}

impl Tally {
    /// So many were refused elsewhere.
    pub(crate) fn refuse(&self, frames: u64) {
        self.refused.fetch_add(frames, Ordering::Relaxed);
    }
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
pub(crate) const AT_A_TIME: usize = 256;

impl<P> Default for Fan<P> {
    fn default() -> Self {
        Self {
            members: RwLock::new(Members { hub: Hub::new(), peers: Vec::new() }),
            queue: Mutex::default(),
            executed: Condvar::new(),
            tally: Tally::default(),
        }
    }
}

/// Who is a member.
impl<P: Peer> Fan<P> {
    /// Lets one join; what was sent before it came is not for it. `make` gets its id.
    pub(crate) fn join(&self, make: impl FnOnce(MemberId) -> P) -> (MemberId, P) {
        turn::flush();
        let Members { hub, peers } = &mut *write(&self.members);
        let id = hub.join(Variant::Plain);
        if peers.len() <= id.index() {
            // A quarter of slack at the most, where doubling would take as much again.
            if peers.len() == peers.capacity() {
                peers.reserve_exact(peers.len() / 4 + 16);
            }
            peers.resize_with(id.index() + 1, || None);
        }
        let peer = make(id);
        peers[id.index()] = Some(peer.clone());
        (id, peer)
    }

    /// It gets nothing more. `false` if it had left before.
    pub(crate) fn leave(&self, id: MemberId) -> bool {
        turn::flush();
        let mut members = write(&self.members);
        let gone = members.hub.leave(id).then(|| members.peers[id.index()].take());
        drop(members);
        // Nothing is dropped under the lock.
        gone.is_some()
    }

    /// As [`Hub::subscribe`].
    pub(crate) fn subscribe(&self, id: MemberId, group: &str) -> Result<bool, SubscribeError> {
        turn::flush();
        write(&self.members).hub.subscribe(id, group)
    }

    /// As [`Hub::unsubscribe`].
    pub(crate) fn unsubscribe(&self, id: MemberId, group: &str) -> bool {
        turn::flush();
        write(&self.members).hub.unsubscribe(id, group)
    }

    pub(crate) fn get(&self, id: MemberId) -> Option<P> {
        let members = read(&self.members);
        if members.hub.contains(id) { members.peers.get(id.index())?.clone() } else { None }
    }

    /// Those who would get something that is sent now.
    pub(crate) fn peers(&self, to: Audience<'_>) -> Vec<P> {
        let members = read(&self.members);
        let peer = |id: MemberId| members.peers.get(id.index())?.clone();
        members.hub.plan(to).filter_map(|target| peer(target.member)).collect()
    }

    fn ids(&self, to: Audience<'_>) -> Vec<MemberId> {
        self.with_hub(|hub| hub.plan(to).map(|target| target.member).collect())
    }

    /// Looks something up in the hub.
    pub(crate) fn with_hub<T>(&self, look: impl FnOnce(&Hub) -> T) -> T {
        look(&read(&self.members).hub)
    }

    pub(crate) const fn tally(&self) -> &Tally {
        &self.tally
    }
}

/// What is sent to many.
impl<P: Peer> Fan<P> {
    /// Sends a frame; those get it who are members when it leaves.
    ///
    /// Of a control frame, `payload` is at most 125 bytes long; of a text it is UTF-8.
    pub(crate) fn send(self: &Arc<Self>, to: Audience<'_>, opcode: Opcode, payload: &[u8]) {
        let much = self.plan(to, opcode, payload, None);
        turn::planned(self.clone());
        if much {
            turn::flush();
        }
    }

    /// As [`send`](Self::send), but at once; says how many have taken it, and how many not.
    pub(crate) fn send_now(
        self: &Arc<Self>,
        to: Audience<'_>,
        opcode: Opcode,
        payload: &[u8],
    ) -> (u64, u64) {
        let report = Arc::<Tally>::default();
        self.plan(to, opcode, payload, Some(report.clone()));
        turn::planned(self.clone());
        turn::flush();
        (report.accepted.load(Ordering::Relaxed), report.refused.load(Ordering::Relaxed))
    }

    /// Closes connections; says how many, and how many had closed before.
    pub(crate) fn close(&self, to: Audience<'_>, code: CloseCode, reason: &str) -> (u64, u64) {
        turn::flush();
        let mut closed = (0, 0);
        for peer in self.peers(to) {
            match peer.outbox().close(code, reason) {
                true => closed.0 += 1,
                false => closed.1 += 1,
            }
        }
        closed
    }

    /// Queues a plan; whether so much waits now that it is to leave at once.
    fn plan(
        &self,
        to: Audience<'_>,
        opcode: Opcode,
        payload: &[u8],
        report: Option<Arc<Tally>>,
    ) -> bool {
        let len = payload.len();
        let header = Header { fin: true, rsv1: false, opcode, mask: None, len: len as u64 };
        let mut head = [0; MAX_HEADER_LEN];
        let head_len = header.encode(&mut head);
        let head = &head[..head_len];
        let mut queue = lock_plain(&self.queue);
        match queue.plans.back_mut() {
            // Next to each other they reach everybody in one piece.
            Some(plan)
                if plan.report.is_none()
                    && report.is_none()
                    && plan.to == to
                    && plan.bytes.len() + head.len() + payload.len() <= MAX_GATHERED.0 =>
            {
                plan.bytes.extend_from_slice(head);
                plan.bytes.extend_from_slice(payload);
                plan.frames += 1;
            }
            _ => {
                let bytes = [head, payload].concat();
                let to = To::new(to, || self.ids(to));
                queue.plans.push_back(Plan { to, bytes, frames: 1, report });
            }
        }
        queue.plans.len() > MAX_GATHERED.1
            || queue.plans.back().is_some_and(|plan| plan.bytes.len() > MAX_GATHERED.0)
    }

    fn execute(&self, plan: Plan) {
        let bytes = Bytes::from(plan.bytes);
        // Who joins from here on gets nothing of it.
        let targets: Vec<MemberId> = {
            let members = read(&self.members);
            members.hub.plan(plan.to.audience()).map(|target| target.member).collect()
        };
        let (mut accepted, mut evicted) = (0, 0);
        let (mut some, mut over) = (Vec::new(), Vec::new());
        for ids in targets.chunks(AT_A_TIME) {
            // No lock is held while sockets are written to.
            some.extend(read(&self.members).outboxes_of(ids));
            for (id, outbox) in some.drain(..) {
                match outbox.offer(&bytes, plan.frames) {
                    Ok(()) => {
                        accepted += 1;
                        continue;
                    }
                    Err(Refusal::Full) => evicted += 1,
                    Err(_) => {}
                }
                over.push(id);
            }
        }
        let frames = plan.frames as u64;
        for tally in [Some(&self.tally), plan.report.as_deref()].into_iter().flatten() {
            tally.accepted.fetch_add(accepted * frames, Ordering::Relaxed);
            tally.refused.fetch_add(over.len() as u64 * frames, Ordering::Relaxed);
            tally.evicted.fetch_add(evicted, Ordering::Relaxed);
        }
        if !over.is_empty() {
            let mut members = write(&self.members);
            let left = over.into_iter().filter(|id| members.hub.leave(*id)).collect::<Vec<_>>();
            let gone: Vec<_> =
                left.into_iter().map(|id| mem::take(&mut members.peers[id.index()])).collect();
            drop(members);
            drop(gone);
        }
    }
}

impl<P: Peer> Members<P> {
    /// Those of `ids` who have not left.
    fn outboxes_of(&self, ids: &[MemberId]) -> impl Iterator<Item = (MemberId, Arc<Outbox>)> {
        ids.iter().filter(|id| self.hub.contains(**id)).filter_map(|id| {
            let peer = self.peers.get(id.index())?.as_ref()?;
            Some((*id, peer.outbox().clone()))
        })
    }
}

impl<P: Peer> Plans for Fan<P> {
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
            let mut executed = Executed { queue: &self.queue, told: &self.executed, panics: true };
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
    queue: &'a Mutex<Queue>,
    told: &'a Condvar,
    panics: bool,
}

impl Drop for Executed<'_> {
    fn drop(&mut self) {
        let mut queue = lock_plain(self.queue);
        queue.done += 1;
        if self.panics {
            queue.runner = None;
        }
        if queue.waiting > 0 {
            self.told.notify_all();
        }
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

impl To {
    /// Those whom it cannot keep are named by `ids`.
    fn new(to: Audience<'_>, ids: impl FnOnce() -> Vec<MemberId>) -> Self {
        match to {
            Audience::All => Self::All,
            Audience::Except(id) => Self::Except(id),
            Audience::Group(name) => Self::Group(name.into()),
            Audience::GroupExcept(name, id) => Self::GroupExcept(name.into(), id),
            Audience::Only(ids) => Self::Only(ids.into()),
            _ => Self::Only(ids().into()),
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

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(wsforge_loom)))]
impl<P> Fan<P> {
    /// How many threads wait for a plan to be executed.
    pub(crate) fn waiting(&self) -> usize {
        lock_plain(&self.queue).waiting
    }
}
