use std::iter;

use bytes::Bytes;
use wsforge_core::Kind;
use wsforge_core::frame::{Header, MAX_HEADER_LEN};
use wsforge_core::mask;

use crate::End;

/// The key of all frames that clients send here.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A text of `len` bytes with characters of one to four bytes, filled up with blanks.
pub fn mixed_text(len: usize) -> Bytes {
    const WORDS: &str = "Wörter, 漢字 and 𝄞 ";
    let mut text = WORDS.repeat(len.div_ceil(WORDS.len()));
    text.truncate(text.floor_char_boundary(len));
    text.extend(iter::repeat_n(' ', len - text.len()));
    text.into()
}

/// A payload of `len` bytes: of a text, ASCII with its usual signs; of a binary message, every byte.
pub fn payload(kind: Kind, len: usize) -> Bytes {
    match kind {
        Kind::Binary => (0..len).map(|at| at as u8).collect(),
        Kind::Text => {
            br#"{"id":17,"name":"a name","text":"and some words"} "#.iter().copied().cycle().take(len).collect()
        }
    }
}

/// A message as `sender` frames it.
pub fn frame(sender: End, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mask = (sender == End::Client).then_some(MASK);
    let header =
        Header { fin: true, rsv1: false, opcode: kind.into(), mask, len: payload.len() as u64 };
    let mut bytes = [0; MAX_HEADER_LEN];
    let at = header.encode(&mut bytes);
    let mut bytes = bytes[..at].to_vec();
    bytes.extend_from_slice(payload);
    if let Some(key) = mask {
        mask::apply(&mut bytes[at..], key);
    }
    bytes
}
