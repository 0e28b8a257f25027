//! HTTP answers of a server.

use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use super::fields::{check_header, token};
use super::key::AcceptValue;
use super::{Invalid, RequestError};
use crate::Output;

/// What goes into a 101 beside what must.
#[derive(Clone, Copy, Debug, Default)]
pub struct Response<'a> {
    /// The subprotocol that the server has picked; one of those that the client offered.
    pub subprotocol: Option<&'a str>,
    /// Further headers, such as cookies.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl Response<'_> {
    /// The headers that the handshake itself writes.
    const RESERVED: [&'static str; 8] = [
        "Connection",
        "Content-Length",
        "Sec-WebSocket-Accept",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Version",
        "Transfer-Encoding",
        "Upgrade",
    ];

    pub(super) fn check(&self) -> Result<(), Invalid> {
        if self.subprotocol.is_some_and(|subprotocol| token(subprotocol.as_bytes()).is_none()) {
            return Err(Invalid::Subprotocol);
        }
        self.headers.iter().try_for_each(|(name, value)| check_header(name, value, &Self::RESERVED))
    }

    pub(super) fn write(&self, accept: &AcceptValue, output: &mut Output) {
        output.put(
            b"HTTP/1.1 101 Switching Protocols\r\n\
              Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
        );
        output.put(accept);
        if let Some(subprotocol) = self.subprotocol {
            output.put(b"\r\nSec-WebSocket-Protocol: ");
            output.put(subprotocol.as_bytes());
        }
        write_headers(self.headers, output);
        output.put(b"\r\n\r\n");
    }
}

/// An HTTP answer that opens no connection: a refusal, or what a browser gets that asks for a page.
///
/// Write the output, then let [`ServerConnection::refused`](crate::ServerConnection::refused) end the
/// transport: the answer says that the server closes.
///
/// ```
/// use wsforge_core::{Output, handshake::Reject};
///
/// let mut output = Output::new();
/// let reject = Reject { status: 401, headers: &[("WWW-Authenticate", b"Basic")], body: b"who?" };
/// reject.write(&mut output)?;
/// # Ok::<(), wsforge_core::handshake::Invalid>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Reject<'a> {
    /// The status, from 200 to 599.
    pub status: u16,
    /// Headers beside `Connection` and `Content-Length`.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body; copied.
    pub body: &'a [u8],
}

impl Reject<'_> {
    const RESERVED: [&'static str; 3] = ["Connection", "Content-Length", "Transfer-Encoding"];

    /// Queues the answer, whatever was asked: for a driver that refuses before there is a request.
    /// With one, [`Request::reject`](super::Request::reject) knows whether a body may follow.
    ///
    /// # Errors
    ///
    /// What is [`Invalid`] about it; nothing is queued then.
    pub fn write(&self, output: &mut Output) -> Result<(), Invalid> {
        self.write_to("", 0, output).map(|_| ())
    }

    /// Queues the answer to a request with `method`, but for the last `rest` bytes of its body; says
    /// whether these are to follow.
    pub(super) fn write_to(
        &self,
        method: &str,
        rest: u64,
        output: &mut Output,
    ) -> Result<bool, Invalid> {
        if !(200..600).contains(&self.status) {
            return Err(Invalid::Status);
        }
        for (name, value) in self.headers {
            check_header(name, value, &Self::RESERVED)?;
        }
        Ok(self.write_unchecked(method, b"close", rest, output))
    }

    fn write_unchecked(
        &self,
        method: &str,
        connection: &[u8],
        rest: u64,
        output: &mut Output,
    ) -> bool {
        // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5: these have no content, and section 8.6: two of
        // them no length of it either.
        let has_length = !matches!(self.status, 204 | 304);
        let (body, rest) = match has_length && self.status != 205 {
            true => (self.body, rest),
            false => (&[][..], 0),
        };
        let mut line = Line(Vec::with_capacity(64));
        // Writing into memory does not fail.
        let _ = write!(line, "HTTP/1.1 {} {}\r\n", self.status, reason_phrase(self.status));
        if has_length {
            let len = rest.saturating_add(body.len() as u64);
            let _ = write!(line, "Content-Length: {len}\r\n");
        }
        output.put(&line.0);
        output.put(b"Connection: ");
        output.put(connection);
        write_headers(self.headers, output);
        output.put(b"\r\n\r\n");
        // RFC 9110 section 9.3.2: the answer to HEAD is the same but for its content.
        if method == "HEAD" {
            return false;
        }
        output.put(body);
        rest > 0
    }
}

impl RequestError {
    /// Queues the answer to a request with `method`: the [status](Self::status), and what is wrong.
    pub(super) fn write_to(self, method: &str, output: &mut Output) {
        const TEXT: (&str, &[u8]) = ("Content-Type", b"text/plain; charset=utf-8");
        const ALLOW: (&str, &[u8]) = ("Allow", b"GET");
        const UPGRADE: (&str, &[u8]) = ("Upgrade", b"websocket");
        const VERSION: (&str, &[u8]) = ("Sec-WebSocket-Version", b"13");
        let (connection, headers): (&[u8], &[_]) = match self.status() {
            // RFC 9110 section 15.5.6.
            405 => (b"close", &[TEXT, ALLOW]),
            // RFC 9110 section 15.5.22 and RFC 6455 section 4.4.
            426 => (b"Upgrade, close", &[TEXT, UPGRADE, VERSION]),
            _ => (b"close", &[TEXT]),
        };
        let body = self.reason().as_bytes();
        let reject = Reject { status: self.status(), headers, body };
        reject.write_unchecked(method, connection, 0, output);
    }
}

pub(super) fn write_headers(headers: &[(&str, &[u8])], output: &mut Output) {
    for (name, value) in headers {
        output.put(b"\r\n");
        output.put(name.as_bytes());
        output.put(b": ");
        output.put(value);
    }
}

/// A reason phrase may be empty (RFC 9112 section 4), so only what people meet is named.
const fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        416 => "Range Not Satisfiable",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

struct Line(Vec<u8>);

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
