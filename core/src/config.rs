use core::time::Duration;

/// The limits and deadlines of an endpoint's connections, shared by all of them in one `Arc`.
///
/// Every value stands alone: take the defaults and change fields.
///
/// ```
/// use std::time::Duration;
///
/// let mut config = wsforge_core::Config::default();
/// config.max_message_len = 1024 * 1024;
/// config.idle_timeout = Some(Duration::from_secs(120));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Whether frame lengths that are not in their shortest form are accepted. RFC 6455 section 5.2
    /// forbids to send them; a few old peers do. Default: no.
    pub accept_long_lengths: bool,
    /// How long the peer may take to answer our Close, and how long we read and drop what it still
    /// sends after we have failed the connection. Default: 5 s.
    pub close_timeout: Duration,
    /// How messages reach the driver. Default: whole.
    pub delivery: Delivery,
    /// The length of output, in bytes, above which a driver writes before it decodes the next event.
    /// The core only carries it to the driver. Default: 256 KiB.
    pub high_water: usize,
    /// Fail the connection when not a byte has arrived for so long. A live peer answers pings, so
    /// with [`ping_interval`](Self::ping_interval) on this only ends those that do not. Default: never.
    pub idle_timeout: Option<Duration>,
    /// The most fragments a message may have. Default: 131,072.
    pub max_fragments: u32,
    /// The longest frame accepted, in bytes of payload. Default: 16 MiB.
    pub max_frame_len: u64,
    /// How much of what the peer still sends after the end is read and dropped, in bytes, so that it
    /// gets to read why. A peer in the middle of a frame sees it through before it looks for an answer:
    /// this should be no less than the longest frame that honest peers send. Default: 16 MiB.
    pub max_linger_len: u64,
    /// The longest message accepted, in bytes, over all its fragments. Default: 64 MiB.
    pub max_message_len: u64,
    /// Send a ping when nothing has arrived for so long. Default: 30 s.
    pub ping_interval: Option<Duration>,
    /// Fail the connection when nothing has arrived for so long after our ping. Default: 20 s.
    pub pong_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            accept_long_lengths: false,
            close_timeout: Duration::from_secs(5),
            delivery: Delivery::Messages,
            high_water: 256 * 1024,
            idle_timeout: None,
            max_fragments: 128 * 1024,
            max_frame_len: 16 * 1024 * 1024,
            max_linger_len: 16 * 1024 * 1024,
            max_message_len: 64 * 1024 * 1024,
            ping_interval: Some(Duration::from_secs(30)),
            pong_timeout: Duration::from_secs(20),
        }
    }
}

/// How messages reach the driver.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Delivery {
    /// In the pieces that arrive, as [`Event::Chunk`](crate::Event::Chunk): no memory, whatever the
    /// message's length.
    Chunks,
    /// Whole, as [`Event::Message`](crate::Event::Message): lent from the read buffer when the message
    /// lies in it whole, put together on the heap otherwise.
    #[default]
    Messages,
}
