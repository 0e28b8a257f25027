use alloc::vec::Vec;
use core::iter;
use core::mem;
use core::time::Duration;

use crate::Timestamp;

/// A coarse timer wheel for the deadlines of many connections. It reads no clock.
///
/// Entries are plain keys and are never taken back. When one comes up, ask its owner whether the
/// deadline still stands, and insert the key anew if it has moved: a connection whose deadlines keep
/// moving costs one look per interval, and inserting costs the same with a million entries as with one.
///
/// ```
/// use std::time::Duration;
/// use wsforge_core::{Timestamp, Wheel};
///
/// let at = Timestamp::from_millis;
/// let mut wheel = Wheel::new(Duration::from_secs(1), 64, Timestamp::ZERO);
/// wheel.insert("peer", at(2_500));
/// assert_eq!(wheel.expire(at(2_000)).next(), None);
/// assert_eq!(wheel.expire(at(3_000)).next(), Some("peer"));
/// ```
#[derive(Clone, Debug)]
pub struct Wheel<K> {
    /// Entries by the tick at which they come up, modulo the number of slots.
    slots: Vec<Vec<(K, Timestamp)>>,
    /// Entries that have come up and have not been handed out.
    due: Vec<K>,
    /// The length of a tick in milliseconds.
    tick: u64,
    /// The last tick that was looked at.
    cursor: u64,
    len: usize,
}

impl<K: Copy> Wheel<K> {
    /// A wheel of `slots` slots of `tick` each, at least one slot and one millisecond.
    ///
    /// Deadlines beyond `slots * tick` are fine, but are looked at once per turn of the wheel.
    pub fn new(tick: Duration, slots: usize, now: Timestamp) -> Self {
        let tick = u64::try_from(tick.as_millis()).unwrap_or(u64::MAX).max(1);
        Self {
            slots: iter::repeat_with(Vec::new).take(slots.max(1)).collect(),
            due: Vec::new(),
            tick,
            cursor: now.as_millis() / tick,
            len: 0,
        }
    }

    /// Adds `key`, to come up within a tick after `at`, never before.
    pub fn insert(&mut self, key: K, at: Timestamp) {
        let tick = at.as_millis().div_ceil(self.tick).max(self.cursor.saturating_add(1));
        let slot = tick % self.slots.len() as u64;
        self.slots[slot as usize].push((key, at));
        self.len += 1;
    }

    /// The keys whose deadlines have passed at `now`. Those that are not taken come again.
    pub fn expire(&mut self, now: Timestamp) -> impl Iterator<Item = K> {
        let target = now.as_millis() / self.tick;
        // However long the driver slept, no slot needs a second look.
        let ticks = target.saturating_sub(self.cursor).min(self.slots.len() as u64);
        for tick in (0..ticks).map(|back| target - back) {
            let slot = (tick % self.slots.len() as u64) as usize;
            let mut entries = mem::take(&mut self.slots[slot]);
            entries.retain(|(key, at)| {
                let early = *at > now;
                if !early {
                    self.due.push(*key);
                }
                early
            });
            // A slot keeps no memory for a rush that has passed.
            entries.shrink_to(entries.len() * 2 + 16);
            self.slots[slot] = entries;
        }
        self.cursor = self.cursor.max(target);
        iter::from_fn(|| {
            let key = self.due.pop()?;
            self.len -= 1;
            Some(key)
        })
    }

    /// The number of entries.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries, and so no need to wake up for the wheel.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const TICK: u64 = 100;

    fn wheel(slots: usize, now: u64) -> Wheel<usize> {
        Wheel::new(Duration::from_millis(TICK), slots, Timestamp::from_millis(now))
    }

    proptest! {
        /// Every key comes up once, not before its deadline and within a tick after it.
        #[test]
        fn keys_come_up_once_and_in_time(
            start in prop_oneof![Just(0), Just((1 << 32) - 500), 0..1_000_000u64],
            deadlines in prop::collection::vec(0..5_000u64, 1..50),
            step in 1..700u64,
            slots in 1..20usize,
        ) {
            let mut wheel = wheel(slots, start);
            let mut waiting = BTreeMap::new();
            for (key, after) in deadlines.iter().enumerate() {
                wheel.insert(key, Timestamp::from_millis(start + after));
                waiting.insert(key, start + after);
            }
            let mut now = start;
            while !wheel.is_empty() {
                prop_assert_eq!(wheel.len(), waiting.len());
                now += step;
                for key in wheel.expire(Timestamp::from_millis(now)) {
                    let at = waiting.remove(&key);
                    prop_assert!(at.is_some_and(|at| at <= now), "{:?} at {}", at, now);
                }
                for at in waiting.values() {
                    prop_assert!(*at + 2 * TICK > now, "{} is late at {}", at, now);
                }
            }
        }
    }

    #[test]
    fn keys_that_are_not_taken_come_again() {
        let mut wheel = wheel(4, 0);
        for key in 0..3 {
            wheel.insert(key, Timestamp::from_millis(50));
        }
        let now = Timestamp::from_millis(200);
        let first = wheel.expire(now).next().unwrap();
        let mut rest: Vec<usize> = wheel.expire(now).chain([first]).collect();
        rest.sort_unstable();
        assert_eq!(rest, [0, 1, 2]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_passed_deadline_comes_up_at_the_next_tick() {
        let mut wheel = wheel(4, 1_000);
        wheel.insert(7, Timestamp::ZERO);
        assert_eq!(wheel.expire(Timestamp::from_millis(1_100)).next(), Some(7));
    }

    #[test]
    fn a_long_sleep_loses_nothing() {
        let mut wheel = wheel(4, 0);
        wheel.insert(1, Timestamp::from_millis(150));
        wheel.insert(2, Timestamp::from_millis(90_000_000));
        assert_eq!(wheel.expire(Timestamp::from_millis(80_000_000)).collect::<Vec<_>>(), [1]);
        assert_eq!(wheel.expire(Timestamp::from_millis(100_000_000)).collect::<Vec<_>>(), [2]);
    }
}
