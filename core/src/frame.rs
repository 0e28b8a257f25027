//! Frames on the wire, RFC 6455 section 5.2. Connections use it; proxies and tests may.

use crate::{Error, Kind};

/// The most payload that a control frame carries (RFC 6455 section 5.5).
pub const MAX_CONTROL_LEN: usize = 125;

/// The longest header: two bytes, a 64-bit length, a masking key.
pub const MAX_HEADER_LEN: usize = 14;

/// What a frame is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Opcode {
    /// Goes on with a fragmented message.
    Continuation = 0x0,
    /// Begins a text message.
    Text = 0x1,
    /// Begins a binary message.
    Binary = 0x2,
    /// Closes the connection.
    Close = 0x8,
    /// Asks for a pong.
    Ping = 0x9,
    /// Answers a ping, or just tells that its sender is alive.
    Pong = 0xA,
}

impl Opcode {
    /// The opcode with these four bits, or `None` for a reserved one.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    /// Whether this is a control frame's (RFC 6455 section 5.5).
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

impl From<Kind> for Opcode {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Binary => Self::Binary,
            Kind::Text => Self::Text,
        }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Whether this is the last fragment of its message.
    pub fin: bool,
    /// The first reserved bit, which compression uses (RFC 7692 section 6).
    pub rsv1: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// The masking key, if the payload is masked.
    pub mask: Option<[u8; 4]>,
    /// The length of the payload in bytes.
    pub len: u64,
}

impl Header {
    /// Reads the header at the front of `buf`, and its length. `None` means that more bytes are needed.
    ///
    /// Whether masking, the first reserved bit and the opcode fit the connection is for the caller to
    /// judge; so is whether the length is in its shortest form: compare with
    /// [`encoded_len`](Self::encoded_len).
    ///
    /// # Errors
    ///
    /// What no connection can accept: [`Error::ReservedBits`], [`Error::BadOpcode`],
    /// [`Error::ControlFragmented`], [`Error::ControlTooLong`], and [`Error::FrameTooLong`] for a
    /// length of 2^63 or more.
    #[inline]
    pub fn parse(buf: &[u8]) -> Result<Option<(Self, usize)>, Error> {
        let &[first, second, ref rest @ ..] = buf else { return Ok(None) };
        if first & 0x30 != 0 {
            return Err(Error::ReservedBits);
        }
        let Some(opcode) = Opcode::from_bits(first & 0x0F) else { return Err(Error::BadOpcode) };
        let fin = first & 0x80 != 0;
        if opcode.is_control() {
            if !fin {
                return Err(Error::ControlFragmented);
            }
            if usize::from(second & 0x7F) > MAX_CONTROL_LEN {
                return Err(Error::ControlTooLong);
            }
        }
        let (len, rest) = match second & 0x7F {
            126 => {
                let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*len)), rest)
            }
            127 => {
                let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(*len), rest)
            }
            len => (u64::from(len), rest),
        };
        if len >> 63 != 0 {
            return Err(Error::FrameTooLong);
        }
        let (mask, rest) = if second & 0x80 == 0 {
            (None, rest)
        } else {
            let Some((key, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (Some(*key), rest)
        };
        let header = Self { fin, rsv1: first & 0x40 != 0, opcode, mask, len };
        Ok(Some((header, buf.len() - rest.len())))
    }

    /// The header, if it is one of two bytes.
    #[inline]
    pub(crate) fn short(&self) -> Option<[u8; 2]> {
        let first = u8::from(self.fin) << 7 | u8::from(self.rsv1) << 6 | self.opcode as u8;
        (self.mask.is_none() && self.len < 126).then_some([first, self.len as u8])
    }

    /// Writes the header to the front of `to`, the length in its shortest form, and returns how many
    /// bytes it takes.
    #[inline]
    pub fn encode(&self, to: &mut [u8; MAX_HEADER_LEN]) -> usize {
        to[0] = u8::from(self.fin) << 7 | u8::from(self.rsv1) << 6 | self.opcode as u8;
        let masked = u8::from(self.mask.is_some()) << 7;
        let mut at = match self.len {
            0..=125 => {
                to[1] = masked | self.len as u8;
                2
            }
            126..=0xFFFF => {
                to[1] = masked | 126;
                to[2..4].copy_from_slice(&(self.len as u16).to_be_bytes());
                4
            }
            _ => {
                to[1] = masked | 127;
                to[2..10].copy_from_slice(&self.len.to_be_bytes());
                10
            }
        };
        if let Some(key) = self.mask {
            to[at..at + 4].copy_from_slice(&key);
            at += 4;
        }
        at
    }

    /// How many bytes the header takes with its length in the shortest form.
    pub const fn encoded_len(&self) -> usize {
        let len = match self.len {
            0..=125 => 2,
            126..=0xFFFF => 4,
            _ => 10,
        };
        if self.mask.is_some() { len + 4 } else { len }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = Header> {
        let opcode = prop::sample::select(alloc::vec![
            Opcode::Continuation,
            Opcode::Text,
            Opcode::Binary,
            Opcode::Close,
            Opcode::Ping,
            Opcode::Pong,
        ]);
        let len = prop_oneof![0..=125u64, 126..=0xFFFFu64, 0x1_0000..1u64 << 63];
        (any::<bool>(), any::<bool>(), opcode, any::<Option<[u8; 4]>>(), len).prop_map(
            |(fin, rsv1, opcode, mask, len)| {
                let control = opcode.is_control();
                let len = if control { len % 126 } else { len };
                Header { fin: fin || control, rsv1, opcode, mask, len }
            },
        )
    }

    proptest! {
        #[test]
        fn parses_what_it_encodes(header in header()) {
            let mut bytes = [0xEE; MAX_HEADER_LEN];
            let len = header.encode(&mut bytes);
            prop_assert_eq!(len, header.encoded_len());
            prop_assert_eq!(Header::parse(&bytes[..len]), Ok(Some((header, len))));
            prop_assert_eq!(Header::parse(&bytes), Ok(Some((header, len))));
            for cut in 0..len {
                prop_assert_eq!(Header::parse(&bytes[..cut]), Ok(None));
            }
        }

        #[test]
        fn any_bytes_parse_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(Some((header, len))) = Header::parse(&bytes) {
                prop_assert!(header.encoded_len() <= len && len <= bytes.len());
            }
        }
    }

    #[test]
    fn refuses_what_no_connection_can_accept() {
        let cases: [(&[u8], Error); 6] = [
            (&[0xA1, 0x00], Error::ReservedBits),
            (&[0x83, 0x00], Error::BadOpcode),
            (&[0x8B, 0x00], Error::BadOpcode),
            (&[0x09, 0x00], Error::ControlFragmented),
            (&[0x89, 0x7E], Error::ControlTooLong),
            (&[0x82, 0x7F, 0x80, 0, 0, 0, 0, 0, 0, 0], Error::FrameTooLong),
        ];
        for (bytes, error) in cases {
            assert_eq!(Header::parse(bytes), Err(error), "{bytes:x?}");
        }
    }
}
