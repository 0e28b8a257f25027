use core::ops::Add;
use core::time::Duration;

/// Milliseconds since an epoch that the driver chose.
///
/// The core never reads a clock: a driver says what time it is with each [`Input`](crate::Input) and
/// each [`handle_timeout`](crate::Connection::handle_timeout). Take a monotonic clock; one reading per
/// turn of the event loop is enough.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The epoch itself.
    pub const ZERO: Self = Self(0);

    /// The time `ms` milliseconds after the epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time that has passed since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Rounds up, so that nothing is due early, and saturates: "for ever" is a time that never comes.
impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        let ms = after.as_nanos().div_ceil(1_000_000);
        Self(self.0.saturating_add(u64::try_from(ms).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_and_subtracts_without_wrapping() {
        let t = Timestamp::from_millis(1_500);
        assert_eq!((t + Duration::from_millis(500)).as_millis(), 2_000);
        assert_eq!((t + Duration::from_micros(1)).as_millis(), 1_501);
        assert_eq!(t + Duration::MAX, Timestamp::from_millis(u64::MAX));
        assert_eq!(t.since(Timestamp::ZERO), Duration::from_millis(1_500));
        assert_eq!(Timestamp::ZERO.since(t), Duration::ZERO);
    }
}
