//! The host of a request, RFC 3986 section 3.2 and RFC 9112 section 3.2.

/// Whether this is a host, perhaps with a port: a name, an IPv4 address, or an IP literal in brackets.
pub(super) fn is_host(bytes: &[u8]) -> bool {
    let (host_is_valid, port) = match bytes {
        [b'[', rest @ ..] => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            (is_ip_literal(&rest[..end]), &rest[end + 1..])
        }
        _ => {
            let end = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
            (is_name(&bytes[..end]), &bytes[end..])
        }
    };
    // A port may be empty.
    let port_is_valid = match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    host_is_valid && port_is_valid
}

fn is_ip_literal(bytes: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    !bytes.is_empty() && bytes.iter().all(allowed)
}

/// A registered name, which an IPv4 address looks like too.
fn is_name(mut bytes: &[u8]) -> bool {
    let mut valid = !bytes.is_empty();
    while let [byte, rest @ ..] = bytes {
        bytes = match (byte, rest) {
            (b'%', [high, low, rest @ ..]) => {
                valid &= high.is_ascii_hexdigit() && low.is_ascii_hexdigit();
                rest
            }
            _ => {
                valid &= byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte);
                rest
            }
        };
    }
    valid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_hosts() {
        for good in
            ["a", "a:", "a:80", "example.com", "127.0.0.1:9001", "[::1]:80", "[::1]", "a%20b"]
        {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:b",
            "a:1:2",
            "::1",
            "[::1",
            "[]",
            "[::1]80",
            "[x]",
            "a[b]",
            "%zz",
            "%2",
            "a b",
            "a/b",
            "u@a",
            "a:80,b:80",
            "é",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
