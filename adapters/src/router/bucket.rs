use crate::Rate;
use crate::driver::timer::{TICK, Tick};

/// How many messages a peer may send before it has to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// In parts of a message: a tick brings as many as there are messages in a second.
    parts: u32,
    filled: Tick,
}

/// The parts of a message.
const PARTS: u32 = (1000 / TICK.as_millis()) as u32;

impl Bucket {
    pub(crate) fn full(rate: Option<Rate>, now: Tick) -> Self {
        Self { parts: capacity(rate), filled: now }
    }

    /// Takes a message out; whether there is another.
    #[inline]
    pub(crate) fn take(&mut self) -> bool {
        self.parts = self.parts.saturating_sub(PARTS);
        self.parts >= PARTS
    }

    /// Puts in what time has brought; whether there is a message in it.
    #[inline]
    pub(crate) fn refill(&mut self, rate: Option<Rate>, now: Tick) -> bool {
        let ticks = now.since(self.filled);
        if ticks > 0 || rate.is_none() {
            self.filled = now;
            let brought =
                ticks.saturating_mul(rate.map_or(u32::MAX, |rate| rate.per_second.max(1)));
            self.parts = match rate {
                Some(_) => self.parts.saturating_add(brought).min(capacity(rate)),
                None => u32::MAX,
            };
        }
        self.parts >= PARTS
    }
}

fn capacity(rate: Option<Rate>) -> u32 {
    rate.map_or(u32::MAX, |rate| rate.burst.max(1).saturating_mul(PARTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Tick {
        Tick::floor(wsforge_core::Timestamp::from_millis(ms))
    }

    /// How many messages may come between these times.
    fn drain(bucket: &mut Bucket, rate: Rate, from: u64, to: u64) -> u32 {
        let mut taken = 0;
        for ms in (from..to).step_by(100) {
            while bucket.refill(Some(rate), at(ms)) {
                bucket.take();
                taken += 1;
            }
        }
        taken
    }

    #[test]
    fn so_many_come_at_once_and_then_so_many_in_a_second() {
        for (per_second, burst) in [(7, 3), (15, 40), (1000, 1), (1, 1)] {
            let rate = Rate { per_second, burst };
            let mut bucket = Bucket::full(Some(rate), at(0));
            assert_eq!(drain(&mut bucket, rate, 0, 100), burst);
            let steady = drain(&mut bucket, rate, 100, 10_001);
            // No more at once than fit.
            assert_eq!(steady, (per_second * 10).min(burst * 100), "{rate:?}");
            // However long nothing came.
            assert_eq!(drain(&mut bucket, rate, 9_000_000, 9_000_100), burst);
        }
    }

    #[test]
    fn without_a_limit_it_is_never_empty() {
        let mut bucket = Bucket::full(None, at(0));
        for _ in 0..10_000 {
            assert!(bucket.take());
        }
        assert!(bucket.refill(None, at(0)));
        assert_eq!(bucket.parts, u32::MAX);
    }
}
