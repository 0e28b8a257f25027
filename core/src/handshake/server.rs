use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::mem::MaybeUninit;

use super::extension::{self, ExtensionOffer};
use super::fields::{Fields, Lookup, Repeated, token};
use super::head::{Head, HeadError, find_end};
use super::host::is_host;
use super::key::{self, AcceptValue};
use super::target::Target;
use super::{Invalid, Limits, MAX_HEADERS, Reject, RequestError, Response};
use crate::{Config, Input, Output, ServerConnection, Timestamp};

const SUBPROTOCOL: &str = "Sec-WebSocket-Protocol";

/// The server's side of the opening handshake: collects a request's head.
///
/// Make one per transport and drop it when it has given a request or refused; how long that may take
/// is the driver's to limit. It allocates only if the head arrives in pieces.
#[derive(Debug)]
pub struct Accept {
    head: Head,
}

/// How far the opening handshake is.
#[derive(Debug)]
pub enum Opening<'s> {
    /// The head is incomplete; all of the input has been kept.
    More,
    /// The peer does not speak proper HTTP/1.1. The answer that says so is in the output: write it and
    /// go on with [`ServerConnection::refused`].
    Refused(RequestError),
    /// A request, for a WebSocket or not. Bytes behind its head stay in the input.
    Request(Request<'s>),
}

impl Accept {
    /// Waits for a head within `limits`.
    pub const fn new(limits: Limits) -> Self {
        Self { head: Head::new(limits) }
    }

    /// Takes what has arrived.
    pub fn receive<'s, 'b: 's>(
        &'s mut self,
        input: &mut Input<'b>,
        output: &mut Output,
    ) -> Opening<'s> {
        let now = input.now();
        let request = match self.head.find(input) {
            Ok(None) => return Opening::More,
            Ok(Some(found)) => Request::read(self.head.take(found, input), now),
            Err(error) => Err(error.into()),
        };
        match request {
            Ok(request) => Opening::Request(request),
            Err(error) => {
                error.write_to("", output);
                Opening::Refused(error)
            }
        }
    }
}

impl Default for Accept {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

/// A request whose head is well-formed HTTP/1.1, viewed where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    head: &'a [u8],
    method: &'a str,
    target: Target<'a>,
    arrived: Timestamp,
    /// The key of an opening handshake, or what keeps it from being one: found while httparse's view of
    /// the fields was there, which is the fastest to look them up in.
    key: Result<&'a [u8], RequestError>,
}

impl<'a> Request<'a> {
    /// Reads a whole head, with the blank line at its end: for those who have kept one that
    /// [`Accept`] has given, or got it from elsewhere.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(head: &'a [u8], arrived: Timestamp) -> Result<Self, RequestError> {
        // What httparse makes an end of is not always one.
        if find_end(head, 0)? != Some(head.len()) {
            return Err(RequestError::BadRequest);
        }
        Self::read(head, arrived)
    }

    /// Reads a head whose end has been found.
    fn read(head: &'a [u8], arrived: Timestamp) -> Result<Self, RequestError> {
        let mut headers = [MaybeUninit::uninit(); MAX_HEADERS];
        let mut request = httparse::Request::new(&mut []);
        let status = request.parse_with_uninit_headers(head, &mut headers).map_err(|error| {
            match error {
                // Which it also says where a version is missing, or not where it should be.
                httparse::Error::Version if !names_a_version(head) => HeadError::Malformed,
                error => error.into(),
            }
        })?;
        // A head counts only if httparse sees its end where we do.
        if status != httparse::Status::Complete(head.len()) {
            return Err(RequestError::BadRequest);
        }
        if request.version != Some(1) {
            return Err(RequestError::UnsupportedHttpVersion);
        }
        let (Some(method), Some(target)) = (request.method, request.path) else {
            return Err(RequestError::BadRequest);
        };
        let target = Target::parse(method, target).ok_or(RequestError::BadRequest)?;
        let headers = &*request.headers;
        // RFC 9112 section 3.2.
        if !matches!(headers.single("Host"), Ok(Some(host)) if is_host(host)) {
            return Err(RequestError::BadHost);
        }
        // RFC 9112 section 6.3: a body whose length two readers might see differently.
        let length = headers.single("Content-Length").map_err(bad_request)?;
        let encoded = headers.all("Transfer-Encoding").next().is_some();
        let number = |length: &[u8]| !length.is_empty() && length.iter().all(u8::is_ascii_digit);
        if length.is_some_and(|length| encoded || !number(length)) {
            return Err(RequestError::BadRequest);
        }
        let has_body =
            encoded || length.is_some_and(|length| length.iter().any(|digit| *digit != b'0'));
        let key = key_of_upgrade(method, headers, has_body);
        Ok(Self { head, method, target, arrived, key })
    }

    /// The method, such as `GET`.
    pub const fn method(&self) -> &'a str {
        self.method
    }

    /// The host that is asked for, with its port if one is named: the authority of the target if that
    /// has one, else the `Host`. What an `Origin` is compared with.
    pub fn host(&self) -> &'a str {
        let header = self.header("Host").and_then(|host| str::from_utf8(host).ok());
        self.target.authority.or(header).unwrap_or_default()
    }

    /// The path that is asked for, without the query. It begins with a slash, unless the method is
    /// `OPTIONS` or `CONNECT`.
    pub const fn path(&self) -> &'a str {
        self.target.path
    }

    /// What stands behind the `?` of the target.
    pub const fn query(&self) -> Option<&'a str> {
        self.target.query
    }

    /// The value of the first header called `name`, in any case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.fields().all(name).next()
    }

    /// All headers in their order, blanks around their values left out.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.fields().iter()
    }

    /// The head that the request was read from.
    pub const fn head(&self) -> &'a [u8] {
        self.head
    }

    /// The cookies as `name=value` pairs (RFC 6265 section 5.4), as they are: nothing is unquoted or
    /// decoded. Those that are not UTF-8 are left out.
    pub fn cookies(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.fields()
            .all("Cookie")
            .flat_map(|value| value.split(|byte| *byte == b';'))
            .filter_map(|pair| str::from_utf8(pair).ok()?.trim_ascii().split_once('='))
    }

    /// The subprotocols that the client offers, the one it likes best first.
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.fields().list(SUBPROTOCOL).filter_map(token)
    }

    /// The extensions that the client offers, the one it likes best first.
    pub fn extensions(&self) -> impl Iterator<Item = ExtensionOffer<'a>> + use<'a> {
        extension::offers(self.fields()).map_while(Result::ok)
    }

    /// Found anew each time: who looks a header up looks through all of them anyway.
    fn fields(&self) -> Fields<'a> {
        Fields::of(self.head)
    }

    /// Checks that this is a WebSocket opening handshake (RFC 6455 section 4.2.1).
    ///
    /// # Errors
    ///
    /// As [`upgrade`](Self::upgrade).
    pub fn check(&self) -> Result<(), RequestError> {
        self.key.map(|_| ())
    }

    /// Checks that this is a WebSocket opening handshake (RFC 6455 section 4.2.1), and detaches what
    /// is needed to accept it: for a driver that has to look something up first.
    ///
    /// # Errors
    ///
    /// What is wrong with it; nothing has been answered, see [`refuse`](Self::refuse).
    /// [`RequestError::NotUpgrade`] is plain HTTP, see [`reject`](Self::reject).
    pub fn upgrade(&self) -> Result<Upgrade, RequestError> {
        let accept = key::accept(self.key?);
        let mut subprotocols = String::new();
        // All of them are tokens, or there would be no key.
        for subprotocol in self.subprotocols() {
            if !subprotocols.is_empty() {
                subprotocols.push(',');
            }
            subprotocols.push_str(subprotocol);
        }
        Ok(Upgrade { accept, subprotocols: subprotocols.into() })
    }

    /// Answers with a 101 and opens the connection; [`upgrade`](Self::upgrade) and
    /// [`Upgrade::accept`] in one.
    ///
    /// # Errors
    ///
    /// What is wrong with the request, or with `response`. The HTTP answer that says so is in the
    /// output: write it and go on with [`ServerConnection::refused`].
    pub fn accept(
        &self,
        response: &Response<'_>,
        config: Arc<Config>,
        output: &mut Output,
    ) -> Result<ServerConnection, RequestError> {
        let accepted = self
            .upgrade()
            .and_then(|upgrade| Ok(upgrade.accept(response, config, self.arrived, output)?));
        if let Err(error) = &accepted {
            self.refuse(*error, output);
        }
        accepted
    }

    /// Answers that the request is wrong, with the [status](RequestError::status) of `error` and what
    /// it says. Go on with [`ServerConnection::refused`].
    pub fn refuse(&self, error: RequestError, output: &mut Output) {
        error.write_to(self.method, output);
    }

    /// Answers with plain HTTP. Go on with [`ServerConnection::refused`].
    ///
    /// # Errors
    ///
    /// What is [`Invalid`] about `reject`; nothing has been answered.
    pub fn reject(&self, reject: &Reject<'_>, output: &mut Output) -> Result<(), Invalid> {
        reject.write_to(self.method, 0, output).map(|_| ())
    }

    /// As [`reject`](Self::reject), for a body that is too long to be held: its last `rest` bytes are
    /// written by whoever calls this, if it gives `true`. The answer to a `HEAD`, say, has none.
    ///
    /// # Errors
    ///
    /// As [`reject`](Self::reject).
    pub fn reject_streamed(
        &self,
        reject: &Reject<'_>,
        rest: u64,
        output: &mut Output,
    ) -> Result<bool, Invalid> {
        reject.write_to(self.method, rest, output)
    }
}

/// A WebSocket opening handshake that waits for its answer, detached from the request's bytes.
///
/// Dropping it opens nothing; answer with a [`Reject`] then.
#[derive(Clone, Debug)]
#[must_use = "the client waits for an answer"]
pub struct Upgrade {
    accept: AcceptValue,
    /// What the client offered, with commas between.
    subprotocols: Box<str>,
}

impl Upgrade {
    /// The subprotocols that the client offers, the one it likes best first.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.subprotocols.split(',').filter(|subprotocol| !subprotocol.is_empty())
    }

    /// Answers with a 101 and opens the connection. Extensions are declined.
    ///
    /// # Errors
    ///
    /// What is [`Invalid`] about `response`; nothing has been answered.
    pub fn accept(
        self,
        response: &Response<'_>,
        config: Arc<Config>,
        now: Timestamp,
        output: &mut Output,
    ) -> Result<ServerConnection, Invalid> {
        response.check()?;
        // RFC 6455 section 4.2.2: none but one of those that the client offered.
        if let Some(picked) = response.subprotocol
            && !self.subprotocols().any(|offered| offered == picked)
        {
            return Err(Invalid::UnofferedSubprotocol);
        }
        response.write(&self.accept, output);
        Ok(ServerConnection::after_handshake(config, now))
    }
}

/// The key of an opening handshake, RFC 6455 section 4.2.1, once everything else about it is right.
fn key_of_upgrade<'a>(
    method: &str,
    headers: &[httparse::Header<'a>],
    has_body: bool,
) -> Result<&'a [u8], RequestError> {
    if method != "GET" {
        return Err(RequestError::BadMethod);
    }
    if !headers.has_token("Upgrade", "websocket") {
        return Err(RequestError::NotUpgrade);
    }
    if !headers.has_token("Connection", "Upgrade") {
        return Err(RequestError::BadUpgrade);
    }
    let version = headers.single("Sec-WebSocket-Version").map_err(bad_request)?;
    if version != Some(b"13") {
        return Err(RequestError::UnsupportedVersion);
    }
    let key = match headers.single("Sec-WebSocket-Key") {
        Ok(Some(key)) if key::is_valid(key) => key,
        _ => return Err(RequestError::BadKey),
    };
    // What follows the head are frames, so it must not be a body.
    if has_body {
        return Err(RequestError::BadRequest);
    }
    if extension::offers(headers).any(|offer| offer.is_err()) {
        return Err(RequestError::BadExtensions);
    }
    if headers.list(SUBPROTOCOL).any(|subprotocol| token(subprotocol).is_none()) {
        return Err(RequestError::BadSubprotocols);
    }
    Ok(key)
}

const fn bad_request(_: Repeated) -> RequestError {
    RequestError::BadRequest
}

/// Whether the request line has three words, the last of which is a version of HTTP.
fn names_a_version(head: &[u8]) -> bool {
    let line = head.trim_ascii_start().split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    matches!(
        [(); 4].map(|()| words.next()),
        [
            Some(_),
            Some(_),
            Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']),
            None
        ]
    )
}
