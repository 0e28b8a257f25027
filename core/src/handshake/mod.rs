//! The opening handshake, RFC 6455 section 4: [`Accept`] for a server, [`Connect`] for a client.
//!
//! Both take a head in any pieces, in linear time, and show it where it lies. A server sees the whole
//! request before it answers, a plain HTTP request too; a client sees the whole answer, a refusal too.

mod client;
pub use client::{Accepted, Answer, Connect, ConnectRequest, Refused};

mod error;
pub use error::{Invalid, RequestError, ResponseError};

mod extension;
pub use extension::ExtensionOffer;

mod fields;

mod head;

mod host;

mod key;

mod response;
pub use response::{Reject, Response};

mod server;
pub use server::{Accept, Opening, Request, Upgrade};

mod target;

/// The most header fields that a head may have.
pub const MAX_HEADERS: usize = 100;

/// How much of a head is accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest head, in bytes. Default: 16 KiB.
    pub max_head_len: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_head_len: 16 * 1024 }
    }
}
