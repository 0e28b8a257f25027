use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lets so much pass in a time, and no more: a token bucket.
///
/// One in the state is shared by all connections; one for each connection is kept with its data.
///
/// ```
/// use wsforge::router::RateLimiter;
///
/// let limiter = RateLimiter::new(10.0, 2);
/// assert!(limiter.check_limit() && limiter.check_limit());
/// assert!(!limiter.check_limit(), "a tenth of a second later there is room again");
/// ```
#[derive(Debug)]
pub struct RateLimiter {
    begun: Instant,
    /// Nanoseconds after `begun` until which what has passed would take at the rate.
    spent: AtomicU64,
    /// Nanoseconds that each takes.
    each: u64,
    /// How far `spent` may be ahead of the time before one more is refused.
    ahead: u64,
}

impl RateLimiter {
    /// Lets `per_second` pass in a second on average, and up to `burst`, at least one, at once.
    ///
    /// # Panics
    ///
    /// If `per_second` is not greater than 0.
    pub fn new(per_second: f64, burst: u32) -> Self {
        assert!(per_second > 0.0, "nothing would ever pass");
        // One in 146 years is as slow as it gets.
        let each = ((1e9 / per_second) as u64).min(u64::MAX / 4);
        let ahead = each.saturating_mul(u64::from(burst.max(1) - 1));
        Self { begun: Instant::now(), spent: AtomicU64::new(0), each, ahead }
    }

    /// Whether one more may pass now; if so, it counts.
    pub fn check_limit(&self) -> bool {
        self.check_limit_at(Instant::now())
    }

    /// As [`check_limit`](Self::check_limit), for a caller that knows the time.
    pub fn check_limit_at(&self, now: Instant) -> bool {
        let now = nanos(now.saturating_duration_since(self.begun));
        // Nothing else depends on it.
        let pass = |spent: u64| {
            let from = spent.max(now);
            if from - now <= self.ahead { from.checked_add(self.each) } else { None }
        };
        self.spent.try_update(Ordering::Relaxed, Ordering::Relaxed, pass).is_ok()
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(limiter: &RateLimiter, tries: u32, after: Duration) -> usize {
        let now = limiter.begun + after;
        (0..tries).filter(|_| limiter.check_limit_at(now)).count()
    }

    #[test]
    fn a_burst_passes_and_then_what_the_rate_lets() {
        let limiter = RateLimiter::new(10.0, 3);
        assert_eq!(passes(&limiter, 9, Duration::ZERO), 3);
        assert_eq!(passes(&limiter, 9, Duration::from_millis(99)), 0);
        assert_eq!(passes(&limiter, 9, Duration::from_millis(100)), 1);
        assert_eq!(passes(&limiter, 9, Duration::from_millis(350)), 2);
        // What was not used beyond the burst is gone.
        assert_eq!(passes(&limiter, 9, Duration::from_secs(60)), 3);
    }

    #[test]
    fn there_is_room_for_one_at_least() {
        let limiter = RateLimiter::new(1.0, 0);
        assert!(limiter.check_limit() && !limiter.check_limit());
        // Slower than the clock can tell.
        assert_eq!(passes(&RateLimiter::new(1e-300, 2), 9, Duration::from_secs(1)), 2);
        assert_eq!(passes(&RateLimiter::new(f64::INFINITY, 1), 9, Duration::ZERO), 9);
    }

    #[test]
    fn threads_share_it() {
        let limiter = RateLimiter::new(1.0, 100);
        let passed = std::thread::scope(|scope| {
            let count = || passes(&limiter, 80, Duration::ZERO);
            let threads = [scope.spawn(count), scope.spawn(count)];
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(passed.iter().sum::<usize>(), 100);
    }

    #[test]
    #[should_panic(expected = "nothing would ever pass")]
    fn a_rate_of_nothing_is_a_mistake() {
        RateLimiter::new(0.0, 1);
    }
}
