use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use wsforge_core::{Config, Timestamp};

use crate::Options;

/// What all sessions of an echo server share.
#[derive(Debug)]
pub struct Server {
    pub(crate) config: Arc<Config>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) write_timeout: Duration,
    epoch: Instant,
    stopping: AtomicBool,
}

impl Server {
    /// A server whose clock starts now.
    pub fn new(options: &Options) -> Self {
        let mut config = Config::default();
        config.max_frame_len = options.max_message;
        config.max_message_len = options.max_message;
        // Who sends a message that is just too long gets to read that.
        config.max_linger_len = config.max_linger_len.max(2 * options.max_message);
        config.idle_timeout = Some(Duration::from_secs(options.idle_timeout));
        Self {
            config: Arc::new(config),
            handshake_timeout: Duration::from_secs(options.handshake_timeout),
            write_timeout: Duration::from_secs(options.write_timeout),
            epoch: Instant::now(),
            stopping: AtomicBool::new(false),
        }
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.epoch.elapsed().as_millis() as u64)
    }

    /// Asks all sessions to end; each does in its next turn.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the sessions are to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
