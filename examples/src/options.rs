use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;

/// Sends every message back.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// The port to listen on; 0 takes any that is free.
    #[arg(long, default_value_t = 9001)]
    pub port: u16,
    /// The longest message accepted, in bytes.
    #[arg(long, default_value_t = 64 * 1024 * 1024)]
    pub max_message: u64,
    /// Seconds that a client has for its opening handshake.
    #[arg(long, default_value_t = 10)]
    pub handshake_timeout: u64,
    /// Seconds of silence, pongs included, after which a client is closed.
    #[arg(long, default_value_t = 120)]
    pub idle_timeout: u64,
    /// Seconds after which a client is cut off that takes nothing of what it is sent.
    #[arg(long, default_value_t = 10)]
    pub write_timeout: u64,
}

impl Options {
    /// Where to listen: on this machine only, as this is an example.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The same as options of `wsforge`.
    pub fn of_sockets(&self) -> wsforge::Options {
        let mut options = wsforge::Options::default();
        options.handshake_timeout = Duration::from_secs(self.handshake_timeout);
        options.write_timeout = Duration::from_secs(self.write_timeout);
        options.protocol.idle_timeout = Some(Duration::from_secs(self.idle_timeout));
        options.protocol.max_frame_len = self.max_message;
        options.protocol.max_message_len = self.max_message;
        // Who sends a message that is just too long gets to read that.
        let linger = &mut options.protocol.max_linger_len;
        *linger = (*linger).max(2 * self.max_message);
        options
    }

    /// Says where the server can be reached.
    pub fn announce(address: SocketAddr) {
        println!("listening on ws://{address}/ and, for a browser, on http://{address}/");
    }
}
