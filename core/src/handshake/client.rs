use alloc::boxed::Box;
use alloc::sync::Arc;
use core::mem::MaybeUninit;

use super::extension::{self, ExtensionOffer};
use super::fields::{Fields, Lookup, check_header, token};
use super::head::{Head, HeadError};
use super::host::is_host;
use super::key::{self, AcceptValue};
use super::response::write_headers;
use super::{Invalid, Limits, MAX_HEADERS, ResponseError};
use crate::{Client, ClientConnection, Config, Input, KeySource, Output, Timestamp};

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct ConnectRequest<'a> {
    /// The host, with its port unless that is the scheme's own (80, or 443 for `wss`).
    pub host: &'a str,
    /// The path and query; `/` if there is none.
    pub path: &'a str,
    /// Subprotocols to offer, the best first.
    pub subprotocols: &'a [&'a str],
    /// Extensions to offer, each with its parameters as they stand in the header, the best first.
    pub extensions: &'a [&'a str],
    /// Further headers, such as `Origin`, `Cookie` or `Authorization`.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl<'a> ConnectRequest<'a> {
    /// The headers that the handshake itself writes.
    const RESERVED: [&'static str; 10] = [
        "Connection",
        "Content-Length",
        "Host",
        "Sec-WebSocket-Accept",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Version",
        "Transfer-Encoding",
        "Upgrade",
    ];

    /// A request for `path` on `host` that offers nothing.
    pub const fn new(host: &'a str, path: &'a str) -> Self {
        Self { host, path, subprotocols: &[], extensions: &[], headers: &[] }
    }

    fn check(&self) -> Result<(), Invalid> {
        if !is_host(self.host.as_bytes()) {
            return Err(Invalid::Host);
        }
        let mut path = self.path.bytes();
        if path.next() != Some(b'/') || !path.all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(Invalid::Path);
        }
        for (at, subprotocol) in self.subprotocols.iter().enumerate() {
            // RFC 6455 section 4.1: unique tokens.
            if token(subprotocol.as_bytes()).is_none()
                || self.subprotocols[..at].contains(subprotocol)
            {
                return Err(Invalid::Subprotocol);
            }
        }
        for offer in self.extensions {
            let mut offers = extension::parse(offer.as_bytes());
            if !matches!((offers.next(), offers.next()), (Some(Ok(_)), None)) {
                return Err(Invalid::Extension);
            }
        }
        self.headers.iter().try_for_each(|(name, value)| check_header(name, value, &Self::RESERVED))
    }

    fn write(&self, key: &[u8], output: &mut Output) {
        output.put(b"GET ");
        output.put(self.path.as_bytes());
        output.put(b" HTTP/1.1\r\nHost: ");
        output.put(self.host.as_bytes());
        output.put(
            b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
        );
        output.put(key);
        let lists = [
            (&b"\r\nSec-WebSocket-Protocol: "[..], self.subprotocols),
            (b"\r\nSec-WebSocket-Extensions: ", self.extensions),
        ];
        for (name, elements) in lists {
            for (at, element) in elements.iter().enumerate() {
                output.put(if at == 0 { name } else { b", " });
                output.put(element.as_bytes());
            }
        }
        write_headers(self.headers, output);
        output.put(b"\r\n\r\n");
    }
}

/// The client's side of the opening handshake: has sent a request and waits for the answer.
///
/// How long that may take is the driver's to limit.
#[derive(Debug)]
pub struct Connect {
    head: Head,
    max_body_len: usize,
    /// What the server must prove to have read.
    accept: AcceptValue,
    subprotocols: Box<[Box<str>]>,
    extensions: Box<[Box<str>]>,
}

/// What the server answered.
#[derive(Debug)]
pub enum Answer<'s> {
    /// The connection opens.
    Accepted(Accepted<'s>),
    /// Some other HTTP answer: an error, a redirect, a demand for authorization.
    Refused(Refused<'s>),
}

impl Connect {
    /// Queues the request. `key` is 16 random bytes, fresh for every connection.
    ///
    /// # Errors
    ///
    /// What is [`Invalid`] about `request`; nothing is queued then.
    pub fn start(
        request: &ConnectRequest<'_>,
        key: [u8; 16],
        limits: Limits,
        output: &mut Output,
    ) -> Result<Self, Invalid> {
        request.check()?;
        let key = key::encode(key);
        request.write(&key, output);
        let names = request.extensions.iter().flat_map(|offer| extension::parse(offer.as_bytes()));
        Ok(Self {
            head: Head::new(limits),
            max_body_len: limits.max_head_len,
            accept: key::accept(&key),
            subprotocols: request.subprotocols.iter().map(|&name| name.into()).collect(),
            extensions: names.flatten().map(|offer| offer.name().into()).collect(),
        })
    }

    /// Takes what has arrived. `None` means that the answer's head is incomplete; all of the input has
    /// been kept. Bytes behind the head of a 101 stay in the input, and so does what a refusal's
    /// [body](Refused::body) has no room for.
    ///
    /// # Errors
    ///
    /// The answer is no proper one; close the transport.
    pub fn receive<'s, 'b: 's>(
        &'s mut self,
        input: &mut Input<'b>,
    ) -> Result<Option<Answer<'s>>, ResponseError> {
        let found = loop {
            let Some(found) = self.head.find(input)? else { return Ok(None) };
            match parse(self.head.peek(found, input))?.0 {
                // RFC 9110 section 15.2: any number of interim answers may come first.
                100 | 102..200 => self.head.skip(found, input),
                _ => break found,
            }
        };
        let arrived = input.now();
        let head = self.head.take(found, input);
        let (status, reason) = parse(head)?;
        let fields = Fields::of(head);
        if status != 101 {
            let body = input.take(input.len().min(self.max_body_len));
            return Ok(Some(Answer::Refused(Refused { status, reason, fields, body })));
        }
        // RFC 6455 section 4.1, the list at its end.
        let upgrade = fields.single("Upgrade").ok().flatten();
        if !upgrade.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
            return Err(ResponseError::BadUpgrade);
        }
        if !fields.has_token("Connection", "Upgrade") {
            return Err(ResponseError::BadConnection);
        }
        if fields.single("Sec-WebSocket-Accept") != Ok(Some(&self.accept)) {
            return Err(ResponseError::BadAccept);
        }
        let Ok(value) = fields.single("Sec-WebSocket-Extensions") else {
            return Err(ResponseError::BadExtensions);
        };
        for agreed in value.into_iter().flat_map(extension::parse) {
            let Ok(agreed) = agreed else { return Err(ResponseError::BadExtensions) };
            if !self.extensions.iter().any(|offered| **offered == *agreed.name()) {
                return Err(ResponseError::UnknownExtension);
            }
        }
        let subprotocol = match fields.single("Sec-WebSocket-Protocol") {
            Ok(None) => None,
            Ok(Some(picked)) => {
                let offered = self.subprotocols.iter().find(|offered| offered.as_bytes() == picked);
                Some(&**offered.ok_or(ResponseError::UnknownSubprotocol)?)
            }
            Err(_) => return Err(ResponseError::UnknownSubprotocol),
        };
        Ok(Some(Answer::Accepted(Accepted { subprotocol, fields, arrived })))
    }
}

/// A 101 that fits the request.
#[derive(Debug)]
pub struct Accepted<'a> {
    subprotocol: Option<&'a str>,
    fields: Fields<'a>,
    arrived: Timestamp,
}

impl<'a> Accepted<'a> {
    /// The subprotocol that the server has picked.
    pub const fn subprotocol(&self) -> Option<&'a str> {
        self.subprotocol
    }

    /// The extensions that the server agrees to. The core implements none: a frame that uses a
    /// reserved bit or opcode fails the connection.
    pub fn extensions(&self) -> impl Iterator<Item = ExtensionOffer<'a>> + use<'a> {
        extension::offers(self.fields).map_while(Result::ok)
    }

    /// The value of the first header called `name`, in any case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.all(name).next()
    }

    /// All headers in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.fields.iter()
    }

    /// Opens the connection; `keys` supplies its masking keys.
    pub fn open<K: KeySource>(self, keys: K, config: Arc<Config>) -> ClientConnection<K> {
        ClientConnection::open(Client(keys), config, self.arrived)
    }
}

/// An answer that opens no connection.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    status: u16,
    reason: &'a str,
    fields: Fields<'a>,
    body: &'a [u8],
}

impl<'a> Refused<'a> {
    /// The status, such as 404: whatever the server gave, if it is 200 or above.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase, which may be empty.
    pub const fn reason(&self) -> &'a str {
        self.reason
    }

    /// The value of the first header called `name`, in any case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.all(name).next()
    }

    /// All headers in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.fields.iter()
    }

    /// What has arrived of the body, but no more than a head may have.
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }
}

/// The status and reason of a response's head.
fn parse(head: &[u8]) -> Result<(u16, &str), ResponseError> {
    let mut headers = [MaybeUninit::uninit(); MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, head, &mut headers)
        .map_err(HeadError::from)?;
    if status != httparse::Status::Complete(head.len()) {
        return Err(ResponseError::BadResponse);
    }
    match (response.version, response.code) {
        // An old server may refuse in its own version; only a 101 must be HTTP/1.1.
        (Some(1), Some(code @ 100..)) | (Some(0), Some(code @ 200..)) => {
            Ok((code, response.reason.unwrap_or_default()))
        }
        // RFC 9110 section 15: there is no status below 100.
        (None, _) | (_, None | Some(..100)) => Err(ResponseError::BadResponse),
        (Some(_), _) => Err(ResponseError::UnsupportedHttpVersion),
    }
}
