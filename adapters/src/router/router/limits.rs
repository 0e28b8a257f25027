//! Limits and deadlines, each by a short name.

use std::time::Duration;

use super::Router;
use crate::{Options, Rate};

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

    /// How many of them may come from one address; further ones get a 429.
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

    /// How many bytes may wait for a peer that is sent more than it reads, before it is closed with 1013.
    pub const fn max_waiting(mut self, bytes: usize) -> Self {
        self.options.mailbox.max_bytes = bytes;
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
