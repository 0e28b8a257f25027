//! Limits and deadlines, each by a short name.

use std::time::Duration;

use super::Router;
use crate::{Budget, Options, Rate, SlowConsumer};

/// Limits and deadlines; see the table [above](Router#limits-and-deadlines).
impl Router {
    /// Sets all of them.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// How many connections there are at a time; further ones get a 503.
    pub const fn max_connections(mut self, n: usize) -> Self {
        self.options.max_connections = n;
        self
    }

    /// How many of them may come from one address, or from one /64 of IPv6; further ones get a 429.
    pub const fn max_connections_per_address(mut self, n: usize) -> Self {
        self.options.max_connections_per_address = Some(n);
        self
    }

    /// The longest message, in bytes; for a longer one the connection is closed with 1009 before memory is
    /// taken for it.
    pub const fn max_message_size(mut self, bytes: u64) -> Self {
        self.options.protocol.max_message_len = bytes;
        self
    }

    /// The longest frame, in bytes.
    pub const fn max_frame_size(mut self, bytes: u64) -> Self {
        self.options.protocol.max_frame_len = bytes;
        self
    }

    /// How many messages of each connection are handled in a second; `None` for any number.
    pub const fn message_rate(mut self, rate: Option<Rate>) -> Self {
        self.options.message_rate = rate;
        self
    }

    /// How many bytes may wait for a peer that is sent more than it reads, before its
    /// [policy](Self::slow_consumer) says what happens.
    pub const fn max_waiting(mut self, bytes: usize) -> Self {
        self.options.mailbox.max_bytes = bytes;
        self
    }

    /// Says what happens to a peer for whom too much waits: by itself it is closed with 1013. What is said of
    /// [groups](super::super::ConnectionManager::set_slow_consumer) and
    /// [connections](super::super::Connection::set_slow_consumer) counts before it.
    pub const fn slow_consumer(mut self, policy: SlowConsumer) -> Self {
        self.options.mailbox.policy = policy;
        self
    }

    /// How much may wait for all peers together.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.options.budget = budget;
        self
    }

    /// Pings a peer that has been silent for `interval`, and gives it `timeout` to answer.
    pub const fn heartbeat(mut self, interval: Duration, timeout: Duration) -> Self {
        self.options.protocol.ping_interval = Some(interval);
        self.options.protocol.pong_timeout = timeout;
        self
    }

    /// Closes connections whose peer has been silent for so long, pongs included; `None` for never.
    pub const fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.options.protocol.idle_timeout = timeout;
        self
    }

    /// How long an opening handshake may take.
    pub const fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.options.handshake_timeout = timeout;
        self
    }

    /// How long a handler may take with one message; `None` for as long as it likes.
    pub const fn handler_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.options.handler_timeout = timeout;
        self
    }

    /// How long a peer may take nothing of what it is sent.
    pub const fn write_timeout(mut self, timeout: Duration) -> Self {
        self.options.write_timeout = timeout;
        self
    }

    /// How long a peer may take to answer a Close.
    pub const fn close_timeout(mut self, timeout: Duration) -> Self {
        self.options.protocol.close_timeout = timeout;
        self
    }

    /// How long a connection may live; `None` for ever.
    pub const fn max_age(mut self, age: Option<Duration>) -> Self {
        self.options.max_age = age;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sets_what_it_says() {
        let seconds = Duration::from_secs;
        let router = Router::new()
            .options(Options::default())
            .max_connections(1)
            .max_connections_per_address(2)
            .max_message_size(3)
            .max_frame_size(4)
            .message_rate(Some(Rate::per_second(5)))
            .max_waiting(6)
            .slow_consumer(SlowConsumer::KeepNewest)
            .budget(Budget::new(15))
            .heartbeat(seconds(7), seconds(8))
            .idle_timeout(Some(seconds(9)))
            .handshake_timeout(seconds(10))
            .handler_timeout(Some(seconds(11)))
            .write_timeout(seconds(12))
            .close_timeout(seconds(13))
            .max_age(Some(seconds(14)));
        let options = router.options;
        assert_eq!((options.max_connections, options.max_connections_per_address), (1, Some(2)));
        let protocol = options.protocol;
        assert_eq!((protocol.max_message_len, protocol.max_frame_len), (3, 4));
        assert_eq!(options.message_rate, Some(Rate { per_second: 5, burst: 5 }));
        assert_eq!((options.mailbox.max_bytes, options.budget.max_bytes()), (6, 15));
        assert_eq!(options.mailbox.policy, SlowConsumer::KeepNewest);
        assert_eq!((protocol.ping_interval, protocol.pong_timeout), (Some(seconds(7)), seconds(8)));
        assert_eq!(protocol.idle_timeout, Some(seconds(9)));
        assert_eq!(options.handshake_timeout, seconds(10));
        assert_eq!(options.handler_timeout, Some(seconds(11)));
        assert_eq!((options.write_timeout, protocol.close_timeout), (seconds(12), seconds(13)));
        assert_eq!(options.max_age, Some(seconds(14)));
    }
}
