use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use core::mem;
use core::ops::Range;

use bytes::Bytes;

use super::{Audience, Class, Hub, MemberId, Run, SlowConsumer, Target};
use crate::frame::{Header, MAX_HEADER_LEN, Opcode};

mod audience;
use audience::OwnedAudience;

mod sequences;
use sequences::Sequences;

/// What is sent to many in one turn, in order, so that each member gets all of it in one piece.
///
/// It is planned before anything changes who is a member of what, and when it is [full](Self::is_full).
#[derive(Debug, Default)]
pub struct Turn {
    /// The frames of `operations`, in their order.
    bytes: Vec<u8>,
    operations: VecDeque<Operation>,
    /// What is being planned, of which the first ones are done and forgotten.
    sealed: VecDeque<Operation>,
    sealed_bytes: Bytes,
    /// The members' nodes by their indices while several operations are planned, and all zero
    /// otherwise.
    nodes: Vec<u32>,
}

/// Frames for one audience.
#[derive(Debug)]
struct Operation {
    to: OwnedAudience,
    class: Class,
    key: Option<u64>,
    policy: Option<SlowConsumer>,
    frames: usize,
    /// Where the frames lie.
    at: Range<usize>,
}

/// Who gets what of a turn.
#[derive(Debug, Default)]
pub struct Plan {
    /// What there is to get.
    pub bundles: Vec<Bundle>,
    /// Who gets something, each member once, and the index of its bundle. They stand in the order in which
    /// the operations name them first.
    pub targets: Vec<(MemberId, u32)>,
}

/// What some members get of a turn, to be written at once.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// All frames. They may lie in a larger buffer, which stays as long as any of them.
    pub bytes: Bytes,
    /// The length of that buffer: who keeps a small part of it for long should rather copy that.
    pub within: usize,
    /// The same in the pieces in which it may wait, each a part of the bytes, in order.
    pub runs: Vec<Run>,
    /// How many frames that is.
    pub frames: usize,
}

impl Turn {
    /// Nothing to send, without memory of its own.
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            operations: VecDeque::new(),
            sealed: VecDeque::new(),
            sealed_bytes: Bytes::new(),
            nodes: Vec::new(),
        }
    }

    /// Appends a server's frame. Next to each other, with the same audience and policy and without a key,
    /// frames become one run, up to what makes a turn [full](Self::is_full).
    ///
    /// Of a control frame, `payload` is at most 125 bytes long; of a text it is UTF-8. The runs of control
    /// frames are of [`Class::Control`], which no policy drops; those of all others are broadcasts.
    pub fn push(
        &mut self,
        to: Audience<'_>,
        opcode: Opcode,
        payload: &[u8],
        key: Option<u64>,
        policy: Option<SlowConsumer>,
    ) {
        let len = payload.len() as u64;
        let header = Header { fin: true, rsv1: false, opcode, mask: None, len };
        let mut head = [0; MAX_HEADER_LEN];
        let head_len = header.encode(&mut head);
        let start = self.bytes.len();
        self.bytes.reserve(head_len + payload.len());
        self.bytes.extend_from_slice(&head[..head_len]);
        self.bytes.extend_from_slice(payload);
        let end = self.bytes.len();
        let class = if opcode.is_control() { Class::Control } else { Class::Broadcast };
        match self.operations.back_mut() {
            Some(last)
                if (last.class, last.key, last.policy) == (class, None, policy)
                    && key.is_none()
                    && end - last.at.start <= MAX_BYTES
                    // Whoever is named twice gets the first twice, and then the second.
                    && !last.may_repeat()
                    && last.to == to =>
            {
                last.frames += 1;
                last.at.end = end;
            }
            _ => {
                let (to, at) = (to.into(), start..end);
                self.operations.push_back(Operation { to, class, key, policy, frames: 1, at });
            }
        }
    }

    /// Plans as many of the operations as make bundles of at most 1 MiB beyond the turn's own bytes, at
    /// least one; and forgets them. Call it until the turn is empty.
    ///
    /// Those get something who are in an audience now. Members who get the same share one bundle.
    pub fn plan(&mut self, hub: &Hub) -> Plan {
        if self.sealed.is_empty() {
            mem::swap(&mut self.sealed, &mut self.operations);
            self.sealed_bytes = mem::take(&mut self.bytes).into();
        }
        let plan = match self.sealed.front() {
            Some(only) if self.sealed.len() == 1 && !only.may_repeat() => self.plan_only(hub),
            _ => self.plan_several(hub),
        };
        if self.sealed.is_empty() {
            self.sealed_bytes = Bytes::new();
        }
        plan
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.sealed.is_empty()
    }

    /// The number of bytes gathered.
    pub fn len(&self) -> usize {
        let sealed =
            self.sealed.front().map_or(0, |first| self.sealed_bytes.len() - first.at.start);
        self.bytes.len() + sealed
    }

    /// Whether it should be planned before more is sent: there are more than 64 KiB, or more than 64
    /// operations.
    pub fn is_full(&self) -> bool {
        self.len() > MAX_BYTES || self.operations.len() + self.sealed.len() > MAX_OPERATIONS
    }

    /// Plans the one operation that there is: all get the same.
    fn plan_only(&mut self, hub: &Hub) -> Plan {
        let Some(operation) = self.sealed.pop_front() else { return Plan::default() };
        let mut targets = Vec::new();
        operation.to.plan(hub, |plan| {
            targets.reserve(plan.size_hint().0);
            // By `extend` it would take twice the instructions: it does not inline the walk.
            plan.for_each(|target| targets.push((target.member, 0)));
        });
        if targets.is_empty() {
            return Plan::default();
        }
        let bytes = mem::take(&mut self.sealed_bytes);
        let within = bytes.len();
        let bytes = bytes.slice(operation.at.clone());
        let runs = vec![operation.run(bytes.clone())];
        Plan { bundles: vec![Bundle { bytes, within, runs, frames: operation.frames }], targets }
    }

    /// Plans one operation after the other, each member having come to some node of the sequences.
    fn plan_several(&mut self, hub: &Hub) -> Plan {
        let mut sequences = Sequences::new();
        let mut targets = Vec::new();
        let mut planned = 0;
        while let Some(operation) = self.sealed.get(planned) {
            let first = targets.len();
            let mut again = Vec::new();
            operation.to.plan(hub, |plan| {
                for Target { member, .. } in plan {
                    if self.nodes.len() <= member.index() {
                        self.nodes.resize(member.index() + 1, Sequences::ROOT);
                    }
                    let node = &mut self.nodes[member.index()];
                    if sequences.ends_with(*node, planned) {
                        again.push(member);
                        continue;
                    }
                    if *node == Sequences::ROOT {
                        targets.push((member, 0));
                    }
                    *node = sequences.step(*node, planned, &operation.at);
                }
            });
            if planned > 0 && sequences.is_full() {
                // A plan is the same each time, so walking it again undoes it.
                operation.to.plan(hub, |plan| {
                    for target in plan {
                        let node = &mut self.nodes[target.member.index()];
                        *node = sequences.step_back(*node, planned);
                    }
                });
                targets.truncate(first);
                break;
            }
            self.repeat(planned, again);
            planned += 1;
        }
        let mut bundles = Vec::new();
        for (member, bundle) in &mut targets {
            let node = mem::replace(&mut self.nodes[member.index()], Sequences::ROOT);
            *bundle = *sequences.bundle(node).get_or_insert(bundles.len() as u32);
            if *bundle as usize == bundles.len() {
                bundles.push(self.bundle(&sequences, node));
            }
        }
        self.sealed.drain(..planned);
        Plan { bundles, targets }
    }

    /// Inserts an operation again for those whom its audience names again, and once more for those whom it
    /// names a third time: of what is one operation each gets one run.
    fn repeat(&mut self, operation: usize, again: Vec<MemberId>) {
        let (mut rounds, mut rounds_of) = (Vec::<Vec<MemberId>>::new(), BTreeMap::new());
        for member in again {
            let round: &mut usize = rounds_of.entry(member).or_default();
            if *round == rounds.len() {
                rounds.push(Vec::new());
            }
            rounds[*round].push(member);
            *round += 1;
        }
        for (round, ids) in rounds.into_iter().enumerate() {
            let Operation { class, key, policy, frames, ref at, .. } = self.sealed[operation];
            let (to, at) = (OwnedAudience::Only(ids.into()), at.clone());
            let repeated = Operation { to, class, key, policy, frames, at };
            self.sealed.insert(operation + 1 + round, repeated);
        }
    }

    /// What members get who have come to this node.
    fn bundle(&self, sequences: &Sequences, node: u32) -> Bundle {
        let operations: Vec<_> =
            sequences.operations(node).into_iter().map(|at| &self.sealed[at]).collect();
        let (bytes, within) = match sequences.place(node) {
            Some(at) => (self.sealed_bytes.slice(at), self.sealed_bytes.len()),
            None => {
                let pieces = operations.iter().map(|of| &self.sealed_bytes[of.at.clone()]);
                let bytes = Bytes::from(pieces.collect::<Vec<_>>().concat());
                let len = bytes.len();
                (bytes, len)
            }
        };
        let mut rest = bytes.clone();
        let runs = operations.iter().map(|of| of.run(rest.split_to(of.at.len()))).collect();
        Bundle { bytes, within, runs, frames: operations.iter().map(|of| of.frames).sum() }
    }
}

impl Operation {
    /// The frames, which are these bytes.
    const fn run(&self, bytes: Bytes) -> Run {
        let Self { class, key, policy, frames, .. } = *self;
        Run { bytes, frames, class, key, policy }
    }

    /// Whether a member may be named several times.
    fn may_repeat(&self) -> bool {
        matches!(&self.to, OwnedAudience::Only(ids) if ids.len() > 1)
    }
}

/// More bytes than this make a turn full: what waits until its end delays others.
const MAX_BYTES: usize = 64 * 1024;

/// More operations than this make a turn full.
const MAX_OPERATIONS: usize = 64;
