use bytes::{BufMut, Bytes, BytesMut};

use crate::Kind;
use crate::frame::{Header, MAX_HEADER_LEN};

/// An encoding of broadcasts; which one a member takes was agreed on in its handshake.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Variant {
    /// As it is.
    #[default]
    Plain,
}

/// A message of a server, encoded once and shared by all who get it.
///
/// Only servers have one: each frame of a client is masked with a key of its own.
///
/// ```
/// use wsforge_core::Kind;
/// use wsforge_core::hub::{SharedFrame, Variant};
///
/// let frame = SharedFrame::new(Kind::Text, b"hi");
/// assert_eq!(&frame.get(Variant::Plain)[..], b"\x81\x02hi");
/// ```
#[derive(Clone, Debug)]
pub struct SharedFrame {
    plain: Bytes,
}

impl SharedFrame {
    /// Encodes a message as one frame.
    pub fn new(kind: Kind, payload: &[u8]) -> Self {
        let mut head = [0; MAX_HEADER_LEN];
        let header = Header {
            fin: true,
            rsv1: false,
            opcode: kind.into(),
            mask: None,
            len: payload.len() as u64,
        };
        let head_len = header.encode(&mut head);
        let mut frame = BytesMut::with_capacity(head_len + payload.len());
        frame.put_slice(&head[..head_len]);
        frame.put_slice(payload);
        Self { plain: frame.freeze() }
    }

    /// The frame in an encoding. Cloning it costs a count, not a copy.
    pub const fn get(&self, variant: Variant) -> &Bytes {
        match variant {
            Variant::Plain => &self.plain,
        }
    }
}
