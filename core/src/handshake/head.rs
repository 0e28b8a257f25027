//! Collecting an HTTP head that arrives in pieces, RFC 9112 section 2.

use alloc::vec::Vec;

use super::Limits;
use super::fields::is_token_char;
use crate::Input;

/// What can be wrong with a head, whoever sent it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HeadError {
    Malformed,
    TooLong,
    TooManyHeaders,
    Version,
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooManyHeaders,
            httparse::Error::Version => Self::Version,
            _ => Self::Malformed,
        }
    }
}

/// Finds where a head ends, looking at every byte once, and keeps what has come of it.
#[derive(Debug)]
pub(super) struct Head {
    /// Empty if the head lies in one read, as it nearly always does.
    kept: Vec<u8>,
    limits: Limits,
}

/// Where a whole head lies.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    /// At the front of the input, this long.
    Input(usize),
    Kept,
}

impl Head {
    pub(super) const fn new(limits: Limits) -> Self {
        Self { kept: Vec::new(), limits }
    }

    /// Looks for the blank line. `None` if there is none yet; then all of `input` has been kept.
    pub(super) fn find(&mut self, input: &mut Input<'_>) -> Result<Option<Found>, HeadError> {
        let old = self.kept.len();
        let add = input.len().min(self.limits.max_head_len - old);
        let new = &input.remaining()[..add];
        if old == 0 {
            // Whoever talks TLS or nonsense learns at once that this is HTTP.
            if new.first().is_some_and(|first| !is_token_char(*first) && *first != b'\r') {
                return Err(HeadError::Malformed);
            }
            if let Some(end) = find_end(new, 0)? {
                return Ok(Some(Found::Input(end)));
            }
        }
        if self.kept.capacity() - old < add {
            // Doubles, but not beyond the limit.
            let enough = (2 * old).max(old + add).min(self.limits.max_head_len);
            self.kept.reserve_exact(enough - old);
        }
        self.kept.extend_from_slice(new);
        if old > 0
            && let Some(end) = find_end(&self.kept, old)?
        {
            self.kept.truncate(end);
            input.take(end - old);
            return Ok(Some(Found::Kept));
        }
        if add < input.len() {
            return Err(HeadError::TooLong);
        }
        input.take_all();
        Ok(None)
    }

    /// The head that was found.
    pub(super) fn peek<'a>(&'a self, found: Found, input: &'a Input<'_>) -> &'a [u8] {
        match found {
            Found::Input(len) => &input.remaining()[..len],
            Found::Kept => &self.kept,
        }
    }

    /// The head that was found, taken off the input.
    pub(super) fn take<'s, 'b: 's>(&'s self, found: Found, input: &mut Input<'b>) -> &'s [u8] {
        match found {
            Found::Input(len) => input.take(len),
            Found::Kept => &self.kept,
        }
    }

    /// Forgets the head that was found, to look for another.
    pub(super) fn skip(&mut self, found: Found, input: &mut Input<'_>) {
        if let Found::Input(len) = found {
            input.take(len);
        }
        self.kept.clear();
    }
}

/// The end of the head in `bytes`, of which the first `seen` were looked at before.
pub(super) fn find_end(bytes: &[u8], seen: usize) -> Result<Option<usize>, HeadError> {
    for at in memchr::memchr_iter(b'\n', &bytes[seen..]) {
        let line = &bytes[..seen + at];
        // RFC 9112 section 2.2 lets a server accept a bare LF. Where two parsers may see different
        // heads, we see none.
        if !line.ends_with(b"\r") {
            return Err(HeadError::Malformed);
        }
        if line.ends_with(b"\r\n\r") {
            return Ok(Some(line.len() + 1));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    fn collect(bytes: &[u8], cut: usize, limit: usize) -> Result<Option<Vec<u8>>, HeadError> {
        let mut head = Head::new(Limits { max_head_len: limit });
        let mut bytes = bytes.to_vec();
        for piece in bytes.chunks_mut(cut) {
            let mut input = Input::new(piece, Timestamp::ZERO);
            if let Some(found) = head.find(&mut input)? {
                return Ok(Some(head.take(found, &mut input).to_vec()));
            }
            assert!(input.is_empty());
        }
        Ok(None)
    }

    #[test]
    fn finds_the_end_at_any_cut_and_leaves_what_follows() {
        let bytes = [HEAD, b"\x81\x00\r\n\r\n"].concat();
        for cut in 1..=bytes.len() {
            assert_eq!(collect(&bytes, cut, 100), Ok(Some(HEAD.to_vec())), "{cut}");
            assert_eq!(collect(&HEAD[..HEAD.len() - 1], cut, 100), Ok(None), "{cut}");
        }
    }

    #[test]
    fn the_limit_holds_at_any_cut() {
        for cut in 1..=HEAD.len() {
            assert_eq!(collect(HEAD, cut, HEAD.len()), Ok(Some(HEAD.to_vec())), "{cut}");
            assert_eq!(collect(HEAD, cut, HEAD.len() - 1), Err(HeadError::TooLong), "{cut}");
        }
    }

    #[test]
    fn bare_line_feeds_and_other_protocols_are_malformed_at_once() {
        for cut in 1..20 {
            let bare = collect(b"GET / HTTP/1.1\nHost: a\n\n", cut, 100);
            assert_eq!(bare, Err(HeadError::Malformed), "{cut}");
            let tls = collect(b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03", cut, 100);
            assert_eq!(tls, Err(HeadError::Malformed), "{cut}");
        }
    }
}
