//! Masking, RFC 6455 section 5.3: octet `i` is combined with octet `i mod 4` of the key.

use alloc::vec::Vec;
use core::array;

/// From this length on it pays to align (16 KiB: 119 ns against 221), which takes some 20 ns.
const LONG: usize = 2048;

/// A cache line, the widest vector: one that lies across two lines costs twice. A payload stands behind
/// its header, so by itself it is hardly ever aligned.
const ALIGNMENT: usize = 64;

/// What the loop does at a time, which the compiler makes a vector of.
const VECTOR: usize = 32;

/// What is still in the first-level cache after it was written; a multiple of four, so that every block
/// starts with the key's first octet. Copying and masking 16 KiB takes 264 ns as one block, 405 as four.
const BLOCK: usize = 16 * 1024;

/// Masks or unmasks `data` where it lies.
///
/// ```
/// let mut data = *b"Hello";
/// wsforge_core::mask::apply(&mut data, [1, 2, 3, 4]);
/// assert_ne!(&data, b"Hello");
/// wsforge_core::mask::apply(&mut data, [1, 2, 3, 4]);
/// assert_eq!(&data, b"Hello");
/// ```
#[inline]
pub fn apply(data: &mut [u8], key: [u8; 4]) {
    // To look at it as well costs nothing that can be seen.
    apply_ascii(data, key);
}

/// As [`apply`], and tells whether all that results is ASCII: a text of that alone is UTF-8.
#[inline(always)]
pub(crate) fn apply_ascii(data: &mut [u8], key: [u8; 4]) -> bool {
    if data.len() < LONG { apply_vectors(data, key) } else { apply_long(data, key) }
}

#[inline(never)]
fn apply_long(data: &mut [u8], key: [u8; 4]) -> bool {
    let front = data.as_ptr().align_offset(ALIGNMENT).min(data.len());
    let (front, aligned) = data.split_at_mut(front);
    let mut ascii = apply_ascii(front, key);
    let key = advance(key, front.len());
    // Whoever wrote them wrote the last ones last: from the end on, more of them are still in the
    // first-level cache (64 KiB: 2.5 us with the copy before it, against 3.9 us).
    for block in aligned.chunks_mut(BLOCK).rev() {
        ascii &= apply_vectors(block, key);
    }
    ascii
}

/// Whole vectors, and one that ends where the data does, which is fewer steps than what would be left takes.
#[inline(always)]
fn apply_vectors(data: &mut [u8], key: [u8; 4]) -> bool {
    let mut seen = [0; VECTOR];
    let mut apply_to = |vector: &mut [u8; VECTOR], key: [u8; VECTOR]| {
        for n in 0..VECTOR {
            vector[n] ^= key[n];
            seen[n] |= vector[n];
        }
    };
    let Some(mut last) = data.last_chunk().copied() else { return apply_words(data, key) };
    // It overlaps the one before it, and so is read before that is written.
    apply_to(&mut last, repeat(advance(key, data.len() - VECTOR)));
    let key = repeat(key);
    for vector in data.as_chunks_mut().0 {
        apply_to(vector, key);
    }
    if let Some(end) = data.last_chunk_mut() {
        *end = last;
    }
    seen.is_ascii()
}

#[inline(always)]
fn apply_words(data: &mut [u8], key: [u8; 4]) -> bool {
    let narrow = u32::from_ne_bytes(key);
    let wide = u64::from(narrow) | u64::from(narrow) << 32;
    let mut seen = 0;
    let (words, rest) = data.as_chunks_mut::<8>();
    for word in words {
        let result = u64::from_ne_bytes(*word) ^ wide;
        seen |= result;
        *word = result.to_ne_bytes();
    }
    let rest = match rest.split_first_chunk_mut::<4>() {
        Some((word, rest)) => {
            let result = u32::from_ne_bytes(*word) ^ narrow;
            seen |= u64::from(result);
            *word = result.to_ne_bytes();
            rest
        }
        None => rest,
    };
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
        seen |= u64::from(*byte);
    }
    seen & 0x8080_8080_8080_8080 == 0
}

/// The key as often as it fits.
#[inline(always)]
fn repeat(key: [u8; 4]) -> [u8; VECTOR] {
    array::from_fn(|n| key[n % 4])
}

/// Appends `data`, masked, to `to`: one walk over memory, since each piece is masked while it is hot.
pub(crate) fn apply_copy(data: &[u8], key: [u8; 4], to: &mut Vec<u8>) {
    to.reserve(data.len());
    for block in data.chunks(BLOCK) {
        let at = to.len();
        to.extend_from_slice(block);
        apply(&mut to[at..], key);
    }
}

/// The key for the bytes that follow `len` bytes masked with `key`.
pub(crate) const fn advance(key: [u8; 4], len: usize) -> [u8; 4] {
    u32::from_le_bytes(key).rotate_right(len as u32 % 4 * 8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

    fn naive(data: &[u8], key: [u8; 4]) -> Vec<u8> {
        data.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect()
    }

    #[test]
    fn agrees_with_the_definition_at_every_length_and_cut() {
        let data: Vec<u8> = (0..=255).cycle().take(3 * BLOCK + 77).collect();
        for len in (0..200).chain([LONG - 1, LONG, BLOCK - 1, BLOCK, data.len()]) {
            let expected = naive(&data[..len], KEY);
            let mut whole = data[..len].to_vec();
            apply(&mut whole, KEY);
            assert_eq!(whole, expected, "{len}");

            let mut copied = vec![9];
            apply_copy(&data[..len], KEY, &mut copied);
            assert_eq!(copied[1..], expected, "{len}");

            let mut pieces = data[..len].to_vec();
            let (front, back) = pieces.split_at_mut(len / 3);
            apply(front, KEY);
            apply(back, advance(KEY, front.len()));
            assert_eq!(pieces, expected, "{len}");
        }
    }

    /// Wherever long data lies in memory.
    #[test]
    fn agrees_with_the_definition_at_every_alignment() {
        let data: Vec<u8> = (0..=255).cycle().take(BLOCK + 3 * ALIGNMENT).collect();
        for at in 0..=ALIGNMENT {
            let mut masked = data.clone();
            apply(&mut masked[at..], KEY);
            assert_eq!(masked[..at], data[..at]);
            assert_eq!(masked[at..], naive(&data[at..], KEY), "{at}");
        }
    }

    #[test]
    fn sees_every_byte_that_is_not_ascii() {
        for len in (0..100).chain([LONG + ALIGNMENT + 13]) {
            let mut ascii = naive(&vec![0x7F; len], KEY);
            assert!(apply_ascii(&mut ascii, KEY));
            assert_eq!(ascii, vec![0x7F; len]);
            for at in 0..len {
                let mut plain = vec![b'a'; len];
                plain[at] = 0x80;
                let mut masked = naive(&plain, KEY);
                assert!(!apply_ascii(&mut masked, KEY), "{at} of {len}");
                assert_eq!(masked, plain);
            }
        }
    }

    /// The example of RFC 6455 section 5.7.
    #[test]
    fn agrees_with_the_rfc() {
        let mut data = [0x7F, 0x9F, 0x4D, 0x51, 0x58];
        apply(&mut data, KEY);
        assert_eq!(&data, b"Hello");
    }
}
