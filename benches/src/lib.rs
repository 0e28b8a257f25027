//! What the measurements share: a transport in memory, and the libraries that are measured behind one
//! face.
//!
//! `README.md` tells how to run them, `REPORT.md` what came out.

mod peer;
pub use peer::{End, Peer};

mod peers;
pub use peers::{
    FastWebSockets, Growing, Lent, Owned, Reader, TokioWebSockets, Tungstenite, Wsforge, now,
};

mod wire;
pub use wire::Wire;

mod frames;
pub use frames::{frame, mixed_text, payload};

/// The lengths of messages that are measured.
pub const LENGTHS: [usize; 5] = [16, 125, 1024, 16 * 1024, 64 * 1024];
