//! What is known of peers that are slow, or may be: of few, so it is not where connections are.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use wsforge_core::hub::SlowConsumer;

use super::sync::lock_plain;

/// By the keys of their connections.
#[derive(Debug, Default)]
pub(crate) struct Slow {
    /// Whether there is anything to look up.
    some: AtomicBool,
    /// Whether connections want to know how much they have missed.
    tells: AtomicBool,
    entries: Mutex<HashMap<u32, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    policy: Option<SlowConsumer>,
    /// Frames that were dropped and that nobody has been told of.
    lagged: u64,
}

impl Slow {
    /// Whether anything is known of anybody.
    #[inline]
    pub(crate) fn has_some(&self) -> bool {
        self.some.load(Ordering::Acquire)
    }

    /// Says what happens when too much waits for a peer, whatever its groups and its server have.
    pub(crate) fn set_policy(&self, key: u32, policy: Option<SlowConsumer>) {
        if policy.is_some() || self.policy(key).is_some() {
            self.change(key, |entry| entry.policy = policy);
        }
    }

    pub(crate) fn policy(&self, key: u32) -> Option<SlowConsumer> {
        if !self.has_some() {
            return None;
        }
        lock_plain(&self.entries).get(&key)?.policy
    }

    /// Counts frames that a peer does not get; whether its owner is to be woken to tell it.
    pub(crate) fn lag(&self, key: u32, frames: usize) -> bool {
        self.change(key, |entry| entry.lagged += frames as u64);
        self.tells.load(Ordering::Relaxed)
    }

    /// From now on owners are woken.
    #[cfg_attr(not(any(feature = "router", test)), expect(dead_code, reason = "routers ask"))]
    pub(crate) fn tell(&self) {
        self.tells.store(true, Ordering::Relaxed);
    }

    /// How many frames a peer has missed since this was asked.
    pub(crate) fn take_lagged(&self, key: u32) -> u64 {
        if !self.has_some() {
            return 0;
        }
        let mut entries = lock_plain(&self.entries);
        let Some(entry) = entries.get_mut(&key) else { return 0 };
        let lagged = std::mem::take(&mut entry.lagged);
        if entry.policy.is_none() {
            entries.remove(&key);
        }
        lagged
    }

    /// A connection is gone; its key may be another's soon.
    pub(crate) fn forget(&self, key: u32) {
        if self.has_some() {
            lock_plain(&self.entries).remove(&key);
        }
    }

    fn change(&self, key: u32, change: impl FnOnce(&mut Entry)) {
        let mut entries = lock_plain(&self.entries);
        change(entries.entry(key).or_default());
        self.some.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_one_is_forgotten_with_it_and_of_no_other() {
        let slow = Slow::default();
        assert!(!slow.has_some());
        slow.set_policy(1, None);
        assert!(!slow.has_some());
        slow.set_policy(1, Some(SlowConsumer::DropNewest));
        slow.lag(2, 3);
        slow.lag(2, 4);
        assert!(slow.has_some());
        assert_eq!((slow.policy(1), slow.policy(2)), (Some(SlowConsumer::DropNewest), None));
        assert_eq!((slow.take_lagged(1), slow.take_lagged(2), slow.take_lagged(2)), (0, 7, 0));
        slow.lag(1, 1);
        slow.forget(1);
        assert_eq!((slow.policy(1), slow.take_lagged(1)), (None, 0));
        assert!(lock_plain(&slow.entries).is_empty());
    }

    #[test]
    fn who_wants_to_be_told_is() {
        let slow = Slow::default();
        assert!(!slow.lag(1, 1));
        slow.tell();
        assert!(slow.lag(1, 1));
    }
}
