use std::time::Duration;

use wsforge_core::Config;
use wsforge_core::handshake::Limits;
use wsforge_core::hub::MailboxLimits;

use crate::Budget;

/// Every limit and deadline of a server's or client's connections. All are on by default.
///
/// ```
/// use std::time::Duration;
///
/// let mut options = wsforge::Options::default();
/// options.protocol.max_message_len = 1024 * 1024;
/// options.write_timeout = Duration::from_secs(10);
/// ```
///
/// Deadlines are looked at ten times a second.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// How much may wait for all peers together. Default: 1 GiB, which all servers and clients of the
    /// process share.
    pub budget: Budget,
    /// How long a handler of a [`Router`](crate::router::Router) may take with one message, before it is
    /// dropped and its connection closed with 1011. Default: 5 min.
    pub handler_timeout: Option<Duration>,
    /// How much of an opening handshake's head is accepted.
    pub handshake: Limits,
    /// How long an opening handshake may take. Default: 10 s.
    pub handshake_timeout: Duration,
    /// How many bytes of messages are kept for a receiver while it waits to send, counting what keeping
    /// them takes. Default: 1 MiB.
    pub inbox_bytes: usize,
    /// How much may wait for a peer that is sent more than it reads, when the sender does not wait for
    /// it: see [`FanOut`](crate::FanOut). Default: 1 MiB, 4,096 frames.
    pub mailbox: MailboxLimits,
    /// How long a connection may live; it is closed with 1001 then. Default: a day.
    pub max_age: Option<Duration>,
    /// How many connections a server has at a time, those in their handshake counted; further ones get
    /// a 503. Default: 100,000.
    pub max_connections: usize,
    /// How many of them may come from one address; further ones get a 429. The addresses of IPv6 whose
    /// first 64 bits are the same count as one, as whoever has one has all of them. Default: no limit, as
    /// many peers may share a proxy's.
    pub max_connections_per_address: Option<usize>,
    /// How many messages a [`Router`](crate::router::Router) handles of each connection in a second; what
    /// comes faster waits, and is not read. Default: 100,000, and as many at once.
    pub message_rate: Option<Rate>,
    /// The protocol's limits and deadlines. Its defaults, but that a peer is closed that has been silent
    /// for 120 s, pongs included.
    pub protocol: Config,
    /// How sockets are set up that a server listens on by itself.
    pub tcp: Tcp,
    /// How long a peer may take nothing of what it is sent before it is cut off. Default: 30 s.
    pub write_timeout: Duration,
}

/// How often something may happen: so many times a second, and so many times at once if it has not for a
/// while.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// On the average.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

impl Rate {
    /// So many times a second, and as many at once.
    pub const fn per_second(n: u32) -> Self {
        Self { per_second: n, burst: n }
    }
}

/// The options of the sockets that [`Router::listen`](crate::router::Router::listen) makes. Accepted ones
/// inherit them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Tcp {
    /// How many connections may wait to be accepted. Default: 4,096.
    pub backlog: u32,
    /// Whether what is sent leaves at once, and does not wait to fill packets. Default: yes.
    pub nodelay: bool,
    /// `SO_RCVBUF`, in bytes. Default: the system's, which suits itself.
    pub recv_buffer_size: Option<usize>,
    /// `SO_SNDBUF`, in bytes. Default: the system's, which suits itself.
    pub send_buffer_size: Option<usize>,
}

impl Default for Tcp {
    fn default() -> Self {
        Self { backlog: 4096, nodelay: true, recv_buffer_size: None, send_buffer_size: None }
    }
}

impl Default for Options {
    fn default() -> Self {
        let mut protocol = Config::default();
        protocol.idle_timeout = Some(Duration::from_secs(120));
        Self {
            budget: Budget::default(),
            handler_timeout: Some(Duration::from_secs(5 * 60)),
            handshake: Limits::default(),
            handshake_timeout: Duration::from_secs(10),
            inbox_bytes: 1024 * 1024,
            mailbox: MailboxLimits::default(),
            max_age: Some(Duration::from_secs(24 * 60 * 60)),
            max_connections: 100_000,
            max_connections_per_address: None,
            message_rate: Some(Rate::per_second(100_000)),
            protocol,
            tcp: Tcp::default(),
            write_timeout: Duration::from_secs(30),
        }
    }
}
