use std::ops::Range;

use wsforge_core::handshake::Request;

use super::validators::Validators;

/// How much of a file is asked for, RFC 9110 section 14.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Part {
    /// A part that the file does not have.
    Nothing,
    /// A part that it has; not empty.
    Range(Range<u64>),
    /// All of it: also if several parts are asked for, as one may then answer as if there were none.
    Whole,
}

impl Part {
    /// What a request asks for of a file of `len` bytes.
    pub(super) fn asked_for(request: &Request<'_>, validators: &Validators, len: u64) -> Self {
        // A part of a file that has changed since is of no use.
        let stale = request.header("If-Range").is_some_and(|known| !validators.is_date(known));
        match request.header("Range") {
            Some(range) if request.method() == "GET" && !stale => Self::read(range, len),
            _ => Self::Whole,
        }
    }

    /// What is malformed is no `Range`.
    fn read(range: &[u8], len: u64) -> Self {
        let range = str::from_utf8(range).unwrap_or_default();
        let Some((first, last)) = range.strip_prefix("bytes=").and_then(|set| set.split_once('-'))
        else {
            return Self::Whole;
        };
        let range = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(len),
            (Ok(first), Err(_)) if last.is_empty() => first..len,
            (Err(_), Ok(suffix)) if first.is_empty() => len.saturating_sub(suffix)..len,
            _ => return Self::Whole,
        };
        if range.is_empty() { Self::Nothing } else { Self::Range(range) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_served_and_nothing_else_is_mistaken_for_one() {
        for (range, part) in [
            ("bytes=0-0", Part::Range(0..1)),
            ("bytes=2-4", Part::Range(2..5)),
            ("bytes=2-", Part::Range(2..10)),
            ("bytes=-3", Part::Range(7..10)),
            ("bytes=-30", Part::Range(0..10)),
            ("bytes=9-18446744073709551615", Part::Range(9..10)),
            ("bytes=10-", Part::Nothing),
            ("bytes=10-20", Part::Nothing),
            ("bytes=-0", Part::Nothing),
            ("bytes=4-2", Part::Whole),
            ("bytes=0-1,4-5", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=1", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(Part::read(range.as_bytes(), 10), part, "{range}");
        }
        assert_eq!(Part::read(b"bytes=-5", 0), Part::Nothing);
        assert_eq!(Part::read(b"\xff", 10), Part::Whole);
    }
}
