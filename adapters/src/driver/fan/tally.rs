use std::sync::atomic::{AtomicU64, Ordering};

use crate::driver::outbox::{Fate, Offered};

/// What has become of frames that went to many, one for each member. All of it is counted once for a few
/// hundred members, so that it costs nothing to count always.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    reached: AtomicU64,
    written: AtomicU64,
    queued: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
    evicted: AtomicU64,
}

/// The same, of some members.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Sums {
    /// Members.
    pub(crate) reached: u64,
    /// Frames that sockets have taken.
    pub(crate) written: u64,
    /// Frames that wait.
    pub(crate) queued: u64,
    /// Frames that were dropped as too much waited: new ones, which count as refused too, and old ones.
    pub(crate) dropped: u64,
    /// Frames that were not taken: the member was closing, or too much waits for it.
    pub(crate) refused: u64,
    /// Members that were closed because too much waited for them.
    pub(crate) evicted: u64,
}

impl Sums {
    pub(crate) fn add(&mut self, Offered { fate, dropped, refused }: Offered, frames: usize) {
        let (frames, dropped, refused) = (frames as u64, dropped as u64, refused as u64);
        self.reached += 1;
        self.dropped += dropped;
        match fate {
            Fate::Closed | Fate::Dropped => self.refused += frames,
            Fate::Evicted => {
                self.refused += frames;
                self.evicted += 1;
            }
            Fate::Queued => {
                self.queued += frames - refused;
                self.refused += refused;
            }
            Fate::Written => self.written += frames,
        }
    }
}

impl Tally {
    pub(crate) fn count(&self, sums: Sums) {
        let add = |to: &AtomicU64, n| {
            if n > 0 {
                to.fetch_add(n, Ordering::Relaxed);
            }
        };
        add(&self.reached, sums.reached);
        add(&self.written, sums.written);
        add(&self.queued, sums.queued);
        add(&self.dropped, sums.dropped);
        add(&self.refused, sums.refused);
        add(&self.evicted, sums.evicted);
    }

    /// So many were refused elsewhere.
    #[cfg(feature = "router")]
    pub(crate) fn refuse(&self, frames: u64) {
        self.refused.fetch_add(frames, Ordering::Relaxed);
    }

    pub(crate) fn sums(&self) -> Sums {
        let get = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Sums {
            reached: get(&self.reached),
            written: get(&self.written),
            queued: get(&self.queued),
            dropped: get(&self.dropped),
            refused: get(&self.refused),
            evicted: get(&self.evicted),
        }
    }
}
