//! `Sec-WebSocket-Key` and `Sec-WebSocket-Accept`, RFC 6455 sections 4.1 and 4.2.2.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// The base64 of a SHA-1 digest.
pub(super) type AcceptValue = [u8; 28];

/// What a server joins to every key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The base64 of a client's 16 random bytes.
pub(super) fn encode(key: [u8; 16]) -> [u8; 24] {
    let mut text = [0; 24];
    // Four bytes for every three begun: the sizes fit.
    let _ = STANDARD.encode_slice(key, &mut text);
    text
}

/// Whether this is the base64 of 16 bytes.
pub(super) fn is_valid(key: &[u8]) -> bool {
    let mut bytes = [0; 18];
    key.len() == 24 && STANDARD.decode_slice(key, &mut bytes) == Ok(16)
}

/// What proves that `key` has been read.
pub(super) fn accept(key: &[u8]) -> AcceptValue {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut text = [0; 28];
    let _ = STANDARD.encode_slice(digest, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 section 1.3.
    #[test]
    fn agrees_with_the_rfc() {
        let key = encode(*b"the sample nonce");
        assert_eq!(&key, b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(&accept(&key), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_the_base64_of_16_bytes() {
        assert!(is_valid(b"dGhlIHNhbXBsZSBub25jZQ=="));
        for bad in [
            &b""[..],
            b"dGhlIHNhbXBsZSBub25j",             // 15 bytes
            b"dGhlIHNhbXBsZSBub25jZWE=",         // 17 bytes
            b"dGhlIHNhbXBsZSBub25jZWFi",         // 18 bytes
            b"dGhlIHNhbXBsZSBub25jZ!==",         // no base64
            b"dGhlIHNhbXBsZSBub25jZQ",           // no padding
            b"dGhlIHNhbXBsZSBub25jZQ==========", // too long
        ] {
            assert!(!is_valid(bad), "{}", bad.escape_ascii());
        }
    }
}
