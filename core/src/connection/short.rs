use core::ops::Range;

use crate::{Config, Delivery, Kind, Role};

/// A whole, final, unfragmented data frame at the front of a buffer: what nearly all frames are.
///
/// One load and a few compares find it. Everything unusual is not found and takes the long road, so
/// the short one cannot weaken a check: control frames, fragments, 64-bit lengths, lengths not in the
/// shortest form, wrong masking, reserved bits, and the last few bytes of a read.
pub(super) struct ShortFrame {
    pub(super) kind: Kind,
    pub(super) key: [u8; 4],
    pub(super) payload: Range<usize>,
}

impl ShortFrame {
    /// The longest payload that it can have: what a 16-bit length says.
    const MAX_LEN: u64 = 0xFFFF;

    /// Whether no limit stands between such a frame and the application.
    pub(super) fn is_allowed(config: &Config) -> bool {
        config.delivery == Delivery::Messages
            && config.max_frame_len >= Self::MAX_LEN
            && config.max_message_len >= Self::MAX_LEN
            && config.max_fragments > 0
    }

    #[inline(always)]
    pub(super) fn parse<R: Role>(buf: &[u8]) -> Option<Self> {
        let head = u64::from_le_bytes(*buf.first_chunk()?);
        let kind = match head as u8 {
            0x81 => Kind::Text,
            0x82 => Kind::Binary,
            _ => return None,
        };
        let mask_bit = if R::CLIENT { 0 } else { 0x80 };
        let len = (head >> 8) as u8 ^ mask_bit;
        let long = ((head >> 16) as u16).swap_bytes();
        let (at, len, key) = match len {
            0..=125 => (2, usize::from(len), head >> 16),
            126 if long > 125 => (4, usize::from(long), head >> 32),
            _ => return None,
        };
        let at = if R::CLIENT { at } else { at + 4 };
        let key = (key as u32).to_le_bytes();
        (buf.len() >= at + len).then_some(Self { kind, key, payload: at..at + len })
    }
}
