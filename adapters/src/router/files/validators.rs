use std::fs::Metadata;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wsforge_core::handshake::Request;

use crate::Answer;

/// What tells one version of a file from another, RFC 9110 section 8.8.
pub(super) struct Validators {
    /// When it was changed, in whole seconds.
    modified: Option<SystemTime>,
    /// A weak one: a file may change twice within what its clock can tell.
    tag: Option<String>,
}

impl Validators {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let age = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Self {
            modified: age.map(|age| UNIX_EPOCH + Duration::from_secs(age.as_secs())),
            tag: age.map(|age| format!("\"{:x}-{:x}\"", age.as_nanos(), metadata.len())),
        }
    }

    pub(super) fn put(&self, mut answer: Answer) -> Answer {
        if let Some(date) = self.modified.and_then(http_date) {
            answer = answer.header("Last-Modified", date);
        }
        if let Some(tag) = &self.tag {
            answer = answer.header("ETag", format!("W/{tag}"));
        }
        answer
    }

    /// Whether who asks has the file as it is, RFC 9110 section 13.2.2.
    pub(super) fn are_known_to(&self, request: &Request<'_>) -> bool {
        if let Some(tags) = request.header("If-None-Match") {
            let ours = self.tag.as_ref().map(String::as_bytes);
            return tags
                .split(|byte| *byte == b',')
                .map(<[u8]>::trim_ascii)
                .any(|tag| tag == b"*" || ours == Some(tag.strip_prefix(b"W/").unwrap_or(tag)));
        }
        let since = request.header("If-Modified-Since").and_then(parse_http_date);
        self.modified.zip(since).is_some_and(|(modified, since)| modified <= since)
    }

    /// Whether this is the date of the last change.
    pub(super) fn is_date(&self, date: &[u8]) -> bool {
        self.modified.is_some() && self.modified == parse_http_date(date)
    }
}

/// A time as it stands in a header, if that can be.
pub(super) fn http_date(at: SystemTime) -> Option<String> {
    /// The year 10000.
    const END: Duration = Duration::from_secs(253_402_300_800);
    let fits = at.duration_since(UNIX_EPOCH).is_ok_and(|since| since < END);
    fits.then(|| httpdate::fmt_http_date(at))
}

fn parse_http_date(date: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(str::from_utf8(date).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_no_header_can_say_are_left_out() {
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        assert_eq!(http_date(at(0)).as_deref(), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert!(http_date(at(253_402_300_799)).is_some());
        assert_eq!(http_date(at(253_402_300_800)), None);
        assert_eq!(http_date(UNIX_EPOCH - Duration::from_secs(1)), None);
    }
}
