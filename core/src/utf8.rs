//! UTF-8 that arrives in pieces, RFC 6455 section 8.1.

use core::str;

/// The longest character takes four bytes.
const MAX_CHAR: usize = 4;

/// Some bytes are not UTF-8, and no bytes that follow could make them so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotUtf8;

/// Validates a text that arrives in pieces, each byte once, and fails at the first piece that cannot
/// be part of one.
///
/// Only a character that is cut by the end of a piece is kept, three bytes at the most.
#[derive(Debug, Default)]
pub(crate) struct Validator {
    /// The start of a character, then zeros: no byte of a cut character is zero.
    cut: [u8; MAX_CHAR - 1],
}

impl Validator {
    /// Validates the next piece and hands what is whole of it to `valid`, in order.
    pub(crate) fn feed(
        &mut self,
        mut piece: &[u8],
        mut valid: impl FnMut(&str),
    ) -> Result<(), NotUtf8> {
        while let [first, rest @ ..] = piece
            && !self.is_complete()
        {
            let have = self.cut.iter().take_while(|byte| **byte != 0).count();
            let mut char = [0; MAX_CHAR];
            char[..have].copy_from_slice(&self.cut[..have]);
            char[have] = *first;
            piece = rest;
            match check_cut(&char[..=have])? {
                Some(char) => {
                    self.cut = [0; _];
                    valid(char);
                }
                None => self.cut[have] = *first,
            }
        }
        let (whole, cut) = piece.split_at(piece.len() - cut_len(piece));
        valid(simdutf8::basic::from_utf8(whole).map_err(|_| NotUtf8)?);
        if !cut.is_empty() {
            check_cut(cut)?;
            self.cut[..cut.len()].copy_from_slice(cut);
        }
        Ok(())
    }

    /// Whether the text could end here: no character is cut.
    pub(crate) const fn is_complete(&self) -> bool {
        self.cut[0] == 0
    }
}

/// `Some` if `bytes` are a whole character, `None` if they are the start of one.
fn check_cut(bytes: &[u8]) -> Result<Option<&str>, NotUtf8> {
    match str::from_utf8(bytes) {
        Ok(char) => Ok(Some(char)),
        Err(error) if error.error_len().is_none() => Ok(None),
        Err(_) => Err(NotUtf8),
    }
}

/// The number of bytes at the end of `piece` that start a character and do not finish it.
fn cut_len(piece: &[u8]) -> usize {
    for (i, byte) in piece.iter().rev().take(MAX_CHAR - 1).enumerate() {
        let width = match byte {
            0x80..0xC0 => continue,
            0xC0..0xE0 => 2,
            0xE0..0xF0 => 3,
            0xF0.. => 4,
            _ => 1,
        };
        return if width > i + 1 { i + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// The text of the pieces, or the index of the first piece that cannot be part of one.
    fn feed<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<(String, bool), usize> {
        let (mut validator, mut text) = (Validator::default(), String::new());
        for (i, piece) in pieces.into_iter().enumerate() {
            validator.feed(piece, |valid| text.push_str(valid)).map_err(|NotUtf8| i)?;
        }
        Ok((text, validator.is_complete()))
    }

    #[test]
    fn fails_at_the_first_byte_that_cannot_be_part_of_a_text() {
        // Bytes, and how many of them could still be part of a text.
        let cases: [(&[u8], usize); 12] = [
            (b"ab\xFFcd", 2),
            (b"\x80", 0),
            (b"\xC0\xAF", 0),             // overlong
            (b"\xC3(", 1),                // no continuation
            (b"\xE0\x9F\xBF", 1),         // overlong
            (b"\xED\xA0\x80", 1),         // surrogate
            (b"\xF0\x8F\xBF\xBF", 1),     // overlong
            (b"\xF4\x90\x80\x80", 1),     // over 10FFFF
            (b"\xF5\x80\x80\x80", 0),     // over 10FFFF
            (b"\xCE\xBA\xE1\xBD\xFF", 4), // the last byte of a character
            (b"\xF8\x88\x80\x80\x80", 0), // five bytes
            (b"\xE1\x80\xE2", 2),         // a new start inside a character
        ];
        for (bytes, good) in cases {
            assert_eq!(feed(bytes.chunks(1)), Err(good), "{bytes:x?}");
            assert_eq!(feed([&bytes[..good]]).map(|_| ()), Ok(()), "{bytes:x?}");
            assert_eq!(feed([&bytes[..=good]]), Err(0), "{bytes:x?}");
        }
    }

    #[test]
    fn knows_whether_a_character_is_cut() {
        assert_eq!(feed([&b"\xE6\xBC"[..]]), Ok((String::new(), false)));
        assert_eq!(feed([&b"\xE6\xBC"[..], b"\xA2"]), Ok(("漢".into(), true)));
    }

    proptest! {
        #[test]
        fn any_cut_agrees_with_the_whole(
            text in "\\PC{0,40}",
            flip in proptest::option::weighted(0.3, (any::<prop::sample::Index>(), 1..=255u8)),
            cuts in prop::collection::vec(1..9usize, 1..80),
        ) {
            let mut bytes = text.into_bytes();
            if let (Some((at, bits)), false) = (flip, bytes.is_empty()) {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            let mut rest = &bytes[..];
            let pieces: Vec<&[u8]> = cuts
                .iter()
                .cycle()
                .map_while(|n| rest.split_off(..(*n).min(rest.len())).filter(|p| !p.is_empty()))
                .collect();
            let pieces = feed(pieces).ok().filter(|(_, complete)| *complete).map(|(text, _)| text);
            prop_assert_eq!(pieces, String::from_utf8(bytes).ok());
        }
    }
}
