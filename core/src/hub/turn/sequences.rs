use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// Sequences of operations, and how many members are to get each: a trie that grows by one operation
/// after the other.
///
/// Only the sequences that members have come to in the end become bundles; of these it knows what they
/// will take.
#[derive(Debug)]
pub(super) struct Sequences {
    nodes: Vec<Node>,
    /// How many bytes must be copied, because they are not neighbours already.
    copied: usize,
    /// How many runs there will be.
    runs: usize,
}

/// A sequence.
#[derive(Debug)]
struct Node {
    /// The sequence without its last operation.
    parent: u32,
    operation: u32,
    /// The node that the operation leads to that came last. The one before that is done with.
    next: (u32, u32),
    /// How many have come here, and not gone on.
    members: u32,
    /// How many operations it has.
    runs: u32,
    bundle: Option<u32>,
    /// Where its bytes end, and how many they are; in one piece or not.
    end: usize,
    len: usize,
    whole: bool,
}

/// No operation.
const NONE: u32 = u32::MAX;

impl Sequences {
    /// The node of those who get nothing.
    pub(super) const ROOT: u32 = 0;

    pub(super) fn new() -> Self {
        let root = Node {
            parent: Self::ROOT,
            operation: NONE,
            next: (NONE, Self::ROOT),
            members: 0,
            runs: 0,
            bundle: None,
            end: 0,
            len: 0,
            whole: true,
        };
        Self { nodes: vec![root], copied: 0, runs: 0 }
    }

    /// One who has come to `from` gets an operation's bytes, too: says where that leads.
    pub(super) fn step(&mut self, from: u32, operation: usize, at: &Range<usize>) -> u32 {
        let to = match self.nodes[from as usize].next {
            (known, to) if known == operation as u32 => to,
            _ => self.append(from, operation as u32, at),
        };
        if from != Self::ROOT {
            let node = &mut self.nodes[from as usize];
            node.members -= 1;
            if node.members == 0 {
                self.copied -= node.copied();
                self.runs -= node.runs as usize;
            }
        }
        let node = &mut self.nodes[to as usize];
        node.members += 1;
        if node.members == 1 {
            self.copied += node.copied();
            self.runs += node.runs as usize;
        }
        to
    }

    fn append(&mut self, from: u32, operation: u32, at: &Range<usize>) -> u32 {
        let to = self.nodes.len() as u32;
        let node = &mut self.nodes[from as usize];
        node.next = (operation, to);
        let next = Node {
            parent: from,
            operation,
            next: (NONE, Self::ROOT),
            members: 0,
            runs: node.runs + 1,
            bundle: None,
            end: at.end,
            len: node.len + at.len(),
            whole: from == Self::ROOT || node.whole && node.end == at.start,
        };
        self.nodes.push(next);
        to
    }

    /// Where one was before an operation, of which nothing is counted back.
    pub(super) fn step_back(&self, from: u32, operation: usize) -> u32 {
        if self.ends_with(from, operation) { self.nodes[from as usize].parent } else { from }
    }

    /// Whether this operation is a sequence's last.
    pub(super) fn ends_with(&self, node: u32, operation: usize) -> bool {
        self.nodes[node as usize].operation == operation as u32
    }

    /// Whether bundles of what there is would be too large.
    pub(super) const fn is_full(&self) -> bool {
        self.copied > MAX_COPIED || self.runs > MAX_RUNS
    }

    /// A sequence's operations, in order.
    pub(super) fn operations(&self, mut node: u32) -> Vec<usize> {
        let mut operations = Vec::with_capacity(self.nodes[node as usize].runs as usize);
        while node != Self::ROOT {
            let of = &self.nodes[node as usize];
            operations.push(of.operation as usize);
            node = of.parent;
        }
        operations.reverse();
        operations
    }

    /// Where a sequence's bytes lie, if they are neighbours.
    pub(super) fn place(&self, node: u32) -> Option<Range<usize>> {
        let node = &self.nodes[node as usize];
        node.whole.then(|| node.end - node.len..node.end)
    }

    /// Which bundle a sequence has become.
    pub(super) fn bundle(&mut self, node: u32) -> &mut Option<u32> {
        &mut self.nodes[node as usize].bundle
    }
}

impl Node {
    const fn copied(&self) -> usize {
        if self.whole { 0 } else { self.len }
    }
}

/// The most that bundles copy. With 64 audiences at random and many members no two of these would get the
/// same, and each of them a copy of half of the turn.
const MAX_COPIED: usize = 1024 * 1024;

/// The most runs in all bundles, for the same reason: one takes more memory than a short frame.
const MAX_RUNS: usize = 32 * 1024;
