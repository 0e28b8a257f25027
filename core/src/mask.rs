//! Masking, RFC 6455 section 5.3: octet `i` is combined with octet `i mod 4` of the key.

use alloc::vec::Vec;

/// Bytes copied before they are masked: a piece that is still in the first-level cache, and a multiple
/// of four, so that every piece starts with the key's first octet.
const COPY_BLOCK: usize = 4096;

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
    let narrow = u32::from_ne_bytes(key);
    let wide = u64::from(narrow) | u64::from(narrow) << 32;
    // Blocks of 32 bytes: the compiler makes whole vectors of them.
    let (blocks, rest) = data.as_chunks_mut::<32>();
    for block in blocks {
        for word in block.as_chunks_mut::<8>().0 {
            *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
    }
    let (words, rest) = rest.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ narrow).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// Appends `data`, masked, to `to`: one walk over memory, since each piece is masked while it is hot.
pub(crate) fn apply_copy(data: &[u8], key: [u8; 4], to: &mut Vec<u8>) {
    to.reserve(data.len());
    for block in data.chunks(COPY_BLOCK) {
        let at = to.len();
        to.extend_from_slice(block);
        apply(&mut to[at..], key);
    }
}

/// The key for the bytes that follow `len` bytes masked with `key`.
pub(crate) const fn advance(mut key: [u8; 4], len: usize) -> [u8; 4] {
    key.rotate_left(len % 4);
    key
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
        let data: Vec<u8> = (0..=255).cycle().take(3 * COPY_BLOCK + 77).collect();
        for len in (0..200).chain([COPY_BLOCK - 1, COPY_BLOCK, data.len()]) {
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

    /// The example of RFC 6455 section 5.7.
    #[test]
    fn agrees_with_the_rfc() {
        let mut data = [0x7F, 0x9F, 0x4D, 0x51, 0x58];
        apply(&mut data, KEY);
        assert_eq!(&data, b"Hello");
    }
}
