use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Answering, AppState, Connection, Extensions, Message, Middleware, Next};

/// Counts messages and bytes, both ways.
///
/// As a [`Middleware`] it counts what handlers are given and what they answer; what is sent otherwise,
/// the application counts.
///
/// ```
/// use std::sync::Arc;
/// use wsforge::router::{Message, Metrics, Routes, handler};
///
/// let metrics = Arc::new(Metrics::new());
/// let routes = Routes::new()
///     .layer(metrics.clone())
///     .default_handler(handler(|message: Message| message));
/// println!("{}", metrics.stats());
/// # drop(routes);
/// ```
#[derive(Debug)]
pub struct Metrics {
    start: Instant,
    messages_received: AtomicU64,
    bytes_received: AtomicU64,
    messages_sent: AtomicU64,
    bytes_sent: AtomicU64,
}

/// What [`Metrics`] have counted until some time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// How long they have been counting.
    pub elapsed: Duration,
    /// How many messages have come in.
    pub messages_received: u64,
    /// How many bytes they had.
    pub bytes_received: u64,
    /// How many messages have gone out.
    pub messages_sent: u64,
    /// How many bytes they had.
    pub bytes_sent: u64,
}

/// What goes through in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Rates {
    /// Messages in.
    pub messages_received: f64,
    /// Bytes in.
    pub bytes_received: f64,
    /// Messages out.
    pub messages_sent: f64,
    /// Bytes out.
    pub bytes_sent: f64,
}

impl Metrics {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            messages_received: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            messages_sent: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
        }
    }

    /// Counts a message that has come in.
    pub fn record_message_received(&self, size: usize) {
        self.messages_received.fetch_add(1, Ordering::Relaxed);
        self.bytes_received.fetch_add(size as u64, Ordering::Relaxed);
    }

    /// Counts a message that has gone out.
    pub fn record_message_sent(&self, size: usize) {
        self.messages_sent.fetch_add(1, Ordering::Relaxed);
        self.bytes_sent.fetch_add(size as u64, Ordering::Relaxed);
    }

    /// What has been counted so far.
    pub fn stats(&self) -> Stats {
        Stats {
            elapsed: self.start.elapsed(),
            messages_received: self.messages_received.load(Ordering::Relaxed),
            bytes_received: self.bytes_received.load(Ordering::Relaxed),
            messages_sent: self.messages_sent.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Stats {
    /// What has gone through in a second since `earlier`; since the start, if that is the default.
    pub fn rates_since(&self, earlier: &Self) -> Rates {
        let seconds = self.elapsed.saturating_sub(earlier.elapsed).as_secs_f64();
        let rate = |now: u64, before: u64| match now.saturating_sub(before) {
            0 => 0.0,
            n => n as f64 / seconds,
        };
        Rates {
            messages_received: rate(self.messages_received, earlier.messages_received),
            bytes_received: rate(self.bytes_received, earlier.bytes_received),
            messages_sent: rate(self.messages_sent, earlier.messages_sent),
            bytes_sent: rate(self.bytes_sent, earlier.bytes_sent),
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates = self.rates_since(&Self::default());
        write!(
            f,
            "in: {} messages ({:.2}/s), {} bytes ({:.2}/s); out: {} messages ({:.2}/s), {} bytes ({:.2}/s)",
            self.messages_received,
            rates.messages_received,
            self.bytes_received,
            rates.bytes_received,
            self.messages_sent,
            rates.messages_sent,
            self.bytes_sent,
            rates.bytes_sent,
        )
    }
}

impl Middleware for Metrics {
    fn handle<'life0, 'async_trait>(
        &'life0 self,
        message: Message,
        connection: Connection,
        state: AppState,
        extensions: Extensions,
        next: Next,
    ) -> Answering<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            self.record_message_received(message.data.len());
            let answer = next.run(message, connection, state, extensions).await?;
            if let Some(answer) = &answer {
                self.record_message_sent(answer.data.len());
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::router::testing::{Around, now};
    use crate::router::{MiddlewareChain, handler};

    #[test]
    fn it_counts_what_goes_both_ways() {
        let metrics = Metrics::default();
        metrics.record_message_received(3);
        metrics.record_message_received(4);
        metrics.record_message_sent(5);
        let stats = metrics.stats();
        assert_eq!((stats.messages_received, stats.bytes_received), (2, 7));
        assert_eq!((stats.messages_sent, stats.bytes_sent), (1, 5));
        assert!(stats.elapsed <= metrics.stats().elapsed);
    }

    #[test]
    fn rates_are_those_of_the_time_between() {
        let at = |seconds, n| Stats {
            elapsed: Duration::from_secs(seconds),
            messages_received: n,
            bytes_received: 2 * n,
            messages_sent: 3 * n,
            bytes_sent: 4 * n,
        };
        let rates = at(10, 50).rates_since(&at(6, 30));
        assert_eq!((rates.messages_received, rates.bytes_received), (5.0, 10.0));
        assert_eq!((rates.messages_sent, rates.bytes_sent), (15.0, 20.0));
        assert_eq!(at(1, 1).rates_since(&at(1, 1)), Rates::default());
        assert_eq!(
            at(10, 50).to_string(),
            "in: 50 messages (5.00/s), 100 bytes (10.00/s); \
             out: 150 messages (15.00/s), 200 bytes (20.00/s)"
        );
    }

    #[test]
    fn around_handlers_it_counts_messages_and_answers() {
        let metrics = Arc::new(Metrics::new());
        let chain = MiddlewareChain::new().layer(metrics.clone());
        for handler in [handler(|_: &str| "12"), handler(|| ())] {
            let Around { connection, state, extensions, .. } = Around::new();
            let chain = chain.clone().handler(handler);
            now(chain.execute("abc".into(), connection, state, extensions)).unwrap();
        }
        let stats = metrics.stats();
        assert_eq!((stats.messages_received, stats.bytes_received), (2, 6));
        assert_eq!((stats.messages_sent, stats.bytes_sent), (1, 2));
    }
}
