use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use wsforge_core::hub::{Bundle, MemberId};

use super::tally::{Sums, Tally};
use crate::driver::outbox::{Fate, Offered, Outbox};
use crate::runtime::Transport;

/// What those members get of a turn who share a timer.
///
/// Each of them has a slot, and whoever empties that sends to the member: whoever goes through all of them
/// in order, or somebody who is about to send to that member alone and must not overtake. Slots are emptied
/// under the member's own lock, so that one that is found empty has been sent.
pub(crate) struct Part {
    of: Arc<dyn Peers>,
    bundles: Arc<[Bundle]>,
    targets: Vec<Target>,
    /// Which bundle each is still to get: its number, from 1 on.
    slots: Vec<AtomicU32>,
    /// Where keys are among the targets, if somebody has asked.
    places: OnceLock<Places>,
    tally: Arc<Tally>,
}

/// A member, and the key by which its timer knows it.
pub(crate) type Target = (MemberId, u32);

/// The members that parts are for.
pub(crate) trait Peers: Send + Sync {
    /// Appends the outboxes of those who have not left, each with where it stands in `targets`.
    fn outboxes(&self, targets: &[Target], to: &mut Vec<(usize, Arc<Outbox>)>);

    /// They are over.
    fn lose(&self, members: Vec<MemberId>);

    /// Counts what has become of something.
    fn count(&self, sums: Sums);
}

/// For each key from the first on, where it stands, from 1 on.
struct Places {
    first: u32,
    at: Vec<u32>,
}

impl Part {
    pub(super) fn new(of: Arc<dyn Peers>, bundles: Arc<[Bundle]>, tally: Arc<Tally>) -> Self {
        let (targets, slots) = (Vec::new(), Vec::new());
        Self { of, bundles, targets, slots, places: OnceLock::new(), tally }
    }

    /// Adds one who gets a bundle.
    pub(super) fn add(&mut self, target: Target, bundle: u32) {
        self.targets.push(target);
        self.slots.push(AtomicU32::new(bundle + 1));
    }

    pub(crate) fn len(&self) -> usize {
        self.targets.len()
    }

    /// What it takes to send to one of them, in small messages.
    pub(crate) fn cost(&self) -> usize {
        const SMALL: usize = 16 * 1024;
        let bytes = self.bundles.iter().map(|bundle| bundle.bytes.len()).max();
        1 + bytes.unwrap_or_default() / SMALL
    }

    /// Sends to some of them. No lock is held while sockets are written to.
    pub(crate) fn reach(&self, range: Range<usize>) {
        let first = range.start;
        let mut outboxes = Vec::with_capacity(range.len());
        self.of.outboxes(&self.targets[range], &mut outboxes);
        let (mut sums, mut over) = (Sums::default(), Vec::new());
        for (at, outbox) in outboxes {
            if let Some(lost) = self.send(first + at, &outbox, &mut sums) {
                over.push(lost);
            }
        }
        self.conclude(sums, over);
    }

    /// Sends to one before it is its turn, unless it has been reached.
    pub(crate) fn catch_up<T: Transport + ?Sized>(&self, outbox: &Outbox<T>) {
        if let Some(at) = self.place_of(outbox.key()) {
            let mut sums = Sums::default();
            let over = self.send(at, outbox, &mut sums);
            self.conclude(sums, over.into_iter().collect());
        }
    }

    /// One is gone, and another may have its key.
    pub(crate) fn forget(&self, key: u32) {
        if let Some(at) = self.place_of(key) {
            self.slots[at].store(0, Ordering::Relaxed);
        }
    }

    /// Sends to one; gives it if it is over.
    fn send<T: Transport + ?Sized>(
        &self,
        at: usize,
        outbox: &Outbox<T>,
        sums: &mut Sums,
    ) -> Option<MemberId> {
        let slot = &self.slots[at];
        if slot.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut frames = 0;
        let claim = || {
            let bundle =
                self.bundles.get((slot.swap(0, Ordering::Relaxed) as usize).wrapping_sub(1));
            bundle.inspect(|bundle| frames = bundle.frames)
        };
        let offered: Offered = outbox.offer(claim)?;
        sums.add(offered, frames);
        matches!(offered.fate, Fate::Closed | Fate::Evicted).then(|| self.targets[at].0)
    }

    fn conclude(&self, sums: Sums, over: Vec<MemberId>) {
        self.tally.count(sums);
        self.of.count(sums);
        if !over.is_empty() {
            self.of.lose(over);
        }
    }

    fn place_of(&self, key: u32) -> Option<usize> {
        /// So many are looked through as quickly.
        const FEW: usize = 64;
        if self.targets.len() <= FEW {
            return self.targets.iter().position(|target| target.1 == key);
        }
        let places = self.places.get_or_init(|| Places::of(&self.targets));
        let at = *places.at.get(key.checked_sub(places.first)? as usize)?;
        (at as usize).checked_sub(1)
    }
}

impl Places {
    fn of(targets: &[Target]) -> Self {
        let keys = || targets.iter().map(|target| target.1);
        let first = keys().min().unwrap_or_default();
        let last = keys().max().unwrap_or_default();
        let mut at = vec![0; (last - first) as usize + 1];
        for (n, key) in keys().enumerate() {
            at[(key - first) as usize] = n as u32 + 1;
        }
        Self { first, at }
    }
}
