use std::cmp::Reverse;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use super::sync::lock_plain;
use super::timer::Timer;

/// How many bytes may wait for all peers together that do not read what they are sent.
///
/// Clones share one budget: several servers of a process may. When it is spent, memory is taken from those
/// first who have most of it:
///
/// 1. At once, nothing more is taken that would have to wait behind something else: it is treated as if
///    too much waited for the peer, whose [policy](crate::SlowConsumer) says what is dropped; and who sends
///    to one peer waits, or is refused.
/// 2. Ten times a second, the peers for whom most waits are closed with 1013, until as much as may waits
///    again; of several servers, those of all. One that is in the middle of a long message is cut off.
///
/// Bytes that several peers share count for each of them, so that less memory is taken than is counted.
#[derive(Clone)]
pub struct Budget(Arc<Purse>);

struct Purse {
    max_bytes: usize,
    waiting: AtomicUsize,
    /// Whose connections have it. They are kept by others.
    timers: Mutex<Vec<Weak<Timer>>>,
}

impl Budget {
    /// What a process has by itself: 1 GiB.
    const DEFAULT: usize = 1024 * 1024 * 1024;

    /// One of its own.
    pub fn new(max_bytes: usize) -> Self {
        let (waiting, timers) = (AtomicUsize::new(0), Mutex::default());
        Self(Arc::new(Purse { max_bytes, waiting, timers }))
    }

    /// The one that all share who have none of their own: 1 GiB.
    pub fn of_process() -> Self {
        static SHARED: OnceLock<Budget> = OnceLock::new();
        SHARED.get_or_init(|| Self::new(Self::DEFAULT)).clone()
    }

    /// How many bytes may wait.
    pub fn max_bytes(&self) -> usize {
        self.0.max_bytes
    }

    /// How many bytes wait now.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Lets the connections of `timer` have it.
    pub(crate) fn join(&self, timer: &Arc<Timer>) {
        let mut timers = lock_plain(&self.0.timers);
        timers.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&Arc::downgrade(timer)));
        timers.push(Arc::downgrade(timer));
    }

    /// Closes those for whom most waits, while more does than may.
    pub(crate) fn shed(&self) {
        let timers = lock_plain(&self.0.timers).clone();
        let mut outboxes = Vec::new();
        timers.iter().filter_map(Weak::upgrade).for_each(|timer| outboxes.extend(timer.outboxes()));
        outboxes.retain(|outbox| Arc::ptr_eq(&outbox.endpoint.options.budget.0, &self.0));
        outboxes.sort_by_cached_key(|outbox| Reverse(outbox.pending()));
        outboxes.iter().take_while(|_| self.is_spent()).for_each(|outbox| outbox.shed());
    }

    /// Whether more waits than may.
    pub(crate) fn is_spent(&self) -> bool {
        self.waiting() > self.0.max_bytes
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::of_process()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("max_bytes", &self.max_bytes())
            .field("waiting", &self.waiting())
            .finish()
    }
}

/// What one peer has of it; given back when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    of: Option<Budget>,
    bytes: usize,
}

impl Charge {
    /// So many bytes wait for the peer now.
    pub(crate) fn set(&mut self, budget: &Budget, bytes: usize) {
        let of = self.of.get_or_insert_with(|| budget.clone());
        if bytes >= self.bytes {
            of.0.waiting.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            of.0.waiting.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(budget) = &self.of {
            budget.0.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_counted_until_it_is_gone() {
        let budget = Budget::new(100);
        let (mut first, mut second) = (Charge::default(), Charge::default());
        first.set(&budget, 60);
        second.set(&budget, 40);
        assert_eq!((budget.waiting(), budget.max_bytes(), budget.is_spent()), (100, 100, false));
        second.set(&budget, 41);
        assert!(budget.clone().is_spent());
        first.set(&budget, 10);
        assert_eq!(budget.waiting(), 51);
        drop(second);
        assert_eq!(budget.waiting(), 10);
        drop(first);
        assert_eq!(budget.waiting(), 0);
    }

    #[test]
    fn a_process_has_one_unless_it_is_given_others() {
        let mut charge = Charge::default();
        charge.set(&Budget::default(), 7);
        assert!(Budget::of_process().waiting() >= 7);
        assert_eq!(Budget::of_process().max_bytes(), 1 << 30);
        assert_eq!(Budget::new(1).waiting(), 0);
    }
}
