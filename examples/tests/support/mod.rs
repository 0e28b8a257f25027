//! What the tests of the programs share: processes that cannot outlive them, and the other ends of
//! their sockets.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "no test uses all of it")]

#[path = "../../../core/tests/support/mod.rs"]
mod wire;

mod browser;
mod peer;
mod process;
mod server;
mod upstream;

use std::time::Duration;

use wsforge_core::frame::Opcode;

pub use browser::{Browser, Page};
pub use peer::Peer;
pub use process::{Finished, Process};
pub use server::Server;
pub use upstream::{accept, listen};
pub use wire::http;
pub use wire::{masked, masked_close, plain};

/// How long anything may take before a test gives up. Nothing that works takes nearly as long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// After this long, a socket that takes nothing is blocked and not just busy. Nothing depends on it
/// being right.
pub const BLOCKED: Duration = Duration::from_millis(300);

/// A Close as a server sends it.
pub fn plain_close(code: u16, reason: &str) -> Vec<u8> {
    plain(Opcode::Close, true, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// `len` bytes that differ by position and by `seed`.
pub fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed.wrapping_mul(101)) as u8).collect()
}

/// A text of `len` bytes with characters of every length.
pub fn text(len: usize) -> Vec<u8> {
    let mut text = "aé€😀".repeat(len / 10).into_bytes();
    text.resize(len, b'.');
    text
}
