//! Plain HTTP, as a browser speaks it.

use super::raw::Raw;

/// A request for a page.
pub fn plain(method: &str, target: &str, headers: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: a.example\r\n{headers}\r\n")
}

/// An answer to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find_map(|(known, value)| known.eq_ignore_ascii_case(name).then_some(value))
    }

    /// How long the body is said to be.
    pub fn length(&self) -> Option<usize> {
        self.header("Content-Length")?.parse().ok()
    }
}

/// Reads an answer and what follows, and closes.
///
/// # Panics
///
/// If the connection does not end as it should, such as with a reset.
pub async fn reply(raw: &mut Raw) -> Reply {
    let head = raw.head().await;
    while raw.read().await.expect("an orderly end") {}
    raw.shut_down().await;
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    Reply { status, head, body: std::mem::take(&mut raw.buf) }
}
