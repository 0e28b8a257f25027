//! Header fields of a head, viewed in place, RFC 9110 section 5.

use core::iter;

use super::Invalid;

/// The lines of a head behind its first, after httparse has accepted them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of `head`, which ends with a blank line.
    pub(super) fn of(head: &'a [u8]) -> Self {
        // Empty lines may stand before the first one (RFC 9112 section 2.2).
        let start = head.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let line = memchr::memchr(b'\n', &head[start..]).map_or(head.len(), |at| start + at + 1);
        Self(&head[line..])
    }

    /// Names and values in their order, blanks around the values left out.
    pub(super) fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.lines().filter_map(|line| {
            let (name, value) = line.split_at(memchr::memchr(b':', line)?);
            Some((str::from_utf8(name).ok()?, value[1..].trim_ascii()))
        })
    }

    /// The lines, each with the CR at its end.
    fn lines(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0;
        iter::from_fn(move || {
            let (line, behind) = rest.split_at(memchr::memchr(b'\n', rest)?);
            rest = &behind[1..];
            Some(line)
        })
    }
}

/// Where fields are looked up by their names: in the bytes of a head, or in what httparse made of them,
/// which is faster while it is there.
pub(super) trait Lookup<'a>: Copy {
    /// The values of all fields called `name`, in any case.
    fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]>;

    /// The elements of the comma-separated lists called `name`, over all of its fields in order
    /// (RFC 9110 section 5.6.1: empty elements do not count).
    fn list(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    /// Whether the lists called `name` have the element `token`, in any case.
    fn has_token(self, name: &str, token: &str) -> bool {
        self.list(name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The value of the one field called `name`: `Ok(None)` if there is none, `Err` if there are more.
    fn single(self, name: &str) -> Result<Option<&'a [u8]>, Repeated> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() { Err(Repeated) } else { Ok(first) }
    }
}

impl<'a> Lookup<'a> for Fields<'a> {
    fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        // Nearly every line is told by where its colon is not.
        self.lines().filter_map(move |line| {
            let (b':', value) = line.get(name.len()..)?.split_first()? else { return None };
            line[..name.len()].eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
        })
    }
}

impl<'a> Lookup<'a> for &[httparse::Header<'a>] {
    fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }
}

/// A field that must stand alone does not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Repeated;

/// The bytes as a token (RFC 9110 section 5.6.2).
pub(super) fn token(bytes: &[u8]) -> Option<&str> {
    let valid = !bytes.is_empty() && bytes.iter().all(|byte| is_token_char(*byte));
    if valid { str::from_utf8(bytes).ok() } else { None }
}

pub(super) const fn is_token_char(byte: u8) -> bool {
    // As a table, since every byte of an extension is looked up.
    const TOKEN_CHARS: [bool; 256] = {
        let mut table = [false; 256];
        let mut rest: &[u8] = b"!#$%&'*+-.^_`|~0123456789\
            abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        while let [byte, behind @ ..] = rest {
            table[*byte as usize] = true;
            rest = behind;
        }
        table
    };
    TOKEN_CHARS[byte as usize]
}

/// Checks a header that a caller gave; `reserved` are those that we write ourselves.
pub(super) fn check_header(name: &str, value: &[u8], reserved: &[&str]) -> Result<(), Invalid> {
    if token(name.as_bytes()).is_none() {
        return Err(Invalid::HeaderName);
    }
    if reserved.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err(Invalid::ReservedHeader);
    }
    // RFC 9110 section 5.5; a line break would begin a header of somebody else's choice.
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Invalid::HeaderValue);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nA: 1, ,2\r\nb:\t x y \r\na:3,\r\nC:\r\n\r\n";

    #[test]
    fn reads_fields_in_order_and_in_any_case() {
        let fields = Fields::of(HEAD);
        let all: Vec<_> = fields.iter().collect();
        assert_eq!(all, [("A", &b"1, ,2"[..]), ("b", b"x y"), ("a", b"3,"), ("C", b"")]);
        assert_eq!(fields.list("a").collect::<Vec<_>>(), [b"1", b"2", b"3"]);
        assert!(fields.has_token("B", "X Y") && !fields.has_token("a", "12"));
        assert_eq!(fields.single("B"), Ok(Some(&b"x y"[..])));
        assert_eq!((fields.single("a"), fields.single("d")), (Err(Repeated), Ok(None)));
    }

    /// RFC 9110 section 5.6.2: any visible character but the delimiters.
    #[test]
    fn knows_what_a_token_is_made_of() {
        for byte in 0..=u8::MAX {
            let delimiter = b"(),/:;<=>?@[\\]{}\"".contains(&byte);
            assert_eq!(is_token_char(byte), byte.is_ascii_graphic() && !delimiter, "{byte}");
        }
        assert_eq!((token(b"a-b"), token(b""), token(b"a b")), (Some("a-b"), None, None));
    }

    #[test]
    fn a_header_of_the_caller_cannot_break_out_of_its_line() {
        let check = |name, value: &str| check_header(name, value.as_bytes(), &["Host"]);
        assert_eq!(check("X-A", "b c\té"), Ok(()));
        assert_eq!(check("X-A", "b\r\nX: y"), Err(Invalid::HeaderValue));
        assert_eq!(check("X-A", "b\nX: y"), Err(Invalid::HeaderValue));
        assert_eq!(check("X-A", "\0"), Err(Invalid::HeaderValue));
        assert_eq!(check("X A", "b"), Err(Invalid::HeaderName));
        assert_eq!(check("X:", "b"), Err(Invalid::HeaderName));
        assert_eq!(check("", "b"), Err(Invalid::HeaderName));
        assert_eq!(check("hOst", "b"), Err(Invalid::ReservedHeader));
    }
}
