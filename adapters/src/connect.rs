use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use url::{Position, Url};
use wsforge_core::handshake::{self, ConnectRequest};
use wsforge_core::{Input, Output};

use crate::driver::endpoint::Endpoint;
use crate::driver::entropy::{Keys, random};
use crate::driver::outbox::Outbox;
use crate::driver::scratch::Scratch;
use crate::driver::session::{Conn, Session};
use crate::driver::timer::Timer;
use crate::error::Refused;
use crate::runtime::{BoxFuture, Runtime, Transport};
use crate::{ConnectError, Options, WebSocket};

/// How much of a refusal's body is read.
const MAX_BODY_LEN: usize = 64 * 1024;

/// A connection to a server that is yet to be made: add to the request what it should have, and await it.
///
/// Awaited, it gives the [`WebSocket`]; [`with_response`](Self::with_response) gives what the server
/// answered, too. Dropped before, it drops the connection.
#[must_use = "it connects when it is awaited"]
pub struct Connect {
    url: String,
    subprotocols: Vec<String>,
    headers: Vec<(String, Vec<u8>)>,
    timeout: Duration,
    options: Options,
    runtime: Arc<dyn Runtime>,
    timer: Option<fn() -> Arc<Timer>>,
}

/// What a server answered that opened a connection.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Response {
    /// The subprotocol that it picked, one of those offered.
    pub subprotocol: Option<String>,
    /// The headers in their order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Connect {
    /// A connection on any runtime, with a timer of its own.
    pub fn on(runtime: Arc<dyn Runtime>, url: impl Into<String>) -> Self {
        Self::new(runtime, url.into(), None)
    }

    /// The timer is looked for when it is needed, within the runtime.
    #[cfg(any(feature = "smol", feature = "tokio"))]
    pub(crate) fn with_timer(
        runtime: Arc<dyn Runtime>,
        url: String,
        timer: fn() -> Arc<Timer>,
    ) -> Self {
        Self::new(runtime, url, Some(timer))
    }

    fn new(runtime: Arc<dyn Runtime>, url: String, timer: Option<fn() -> Arc<Timer>>) -> Self {
        Self {
            url,
            subprotocols: Vec::new(),
            headers: Vec::new(),
            timeout: Duration::from_secs(30),
            options: Options::default(),
            runtime,
            timer,
        }
    }

    /// Offers a subprotocol; the one offered first is the one that is liked best.
    pub fn subprotocol(mut self, subprotocol: impl Into<String>) -> Self {
        self.subprotocols.push(subprotocol.into());
        self
    }

    /// Adds a header to the request, such as `Origin`, `Cookie` or `Authorization`.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How long all of it may take: looking up the name, connecting, the handshake. Default: 30 s.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the limits and deadlines of the connection.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Connects, and gives what the server answered, too.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, so is the connection.
    pub async fn with_response(self) -> Result<(WebSocket, Response), ConnectError> {
        let address = Address::parse(&self.url)?;
        let (runtime, timeout) = (self.runtime.clone(), self.timeout);
        within(&*runtime, timeout, async move {
            let transport = self.runtime.connect(address.host.clone(), address.port).await?;
            self.handshake(transport, &address).await
        })
        .await
    }

    /// Shakes hands over a transport that is connected already, such as one with encryption. The URL
    /// says which host and path are asked for; its scheme may be `wss` here.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, so is the connection.
    pub async fn over(
        self,
        transport: impl Transport,
    ) -> Result<(WebSocket, Response), ConnectError> {
        let address = Address::parse_any(&self.url)?;
        let (runtime, timeout) = (self.runtime.clone(), self.timeout);
        within(&*runtime, timeout, async move { self.handshake(transport, &address).await }).await
    }

    async fn handshake(
        self,
        transport: impl Transport,
        address: &Address,
    ) -> Result<(WebSocket, Response), ConnectError> {
        let subprotocols: Vec<&str> = self.subprotocols.iter().map(String::as_str).collect();
        let headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let request = ConnectRequest {
            subprotocols: &subprotocols,
            headers: &headers,
            ..ConnectRequest::new(&address.authority, &address.path)
        };
        transport.prepare();
        let mut output = Output::new();
        let limits = self.options.handshake;
        let connect = handshake::Connect::start(&request, random(), limits, &mut output)?;
        let timer = self.timer.map_or_else(|| Timer::new(self.runtime), |timer| timer());
        let endpoint = Endpoint::new(self.options, timer);
        let outbox = Outbox::register(&endpoint, transport, true);
        let mut answering = Answering { outbox, connect, refused: None };
        answering.outbox.send_own(&mut output, false);
        poll_fn(|cx| answering.poll(cx)).await
    }
}

impl IntoFuture for Connect {
    type Output = Result<WebSocket, ConnectError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { Ok(self.with_response().await?.0) })
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A server whose answer is awaited.
struct Answering {
    outbox: Arc<Outbox>,
    connect: handshake::Connect,
    /// It has refused, and the rest of the body is to come: so much.
    refused: Option<(Refused, usize)>,
}

impl Answering {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(WebSocket, Response), ConnectError>> {
        if self.outbox.pending() > 0
            && let Poll::Ready(Err(_)) = self.outbox.poll_flush(cx)
        {
            return Poll::Ready(Err(io::Error::from(ErrorKind::BrokenPipe).into()));
        }
        Scratch::with(|scratch| self.read(cx, &mut scratch.buf))
    }

    fn read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<(WebSocket, Response), ConnectError>> {
        let Self { outbox, connect, refused } = self;
        loop {
            if let Some((_, 0)) = refused
                && let Some((refused, _)) = refused.take()
            {
                return Poll::Ready(Err(ConnectError::Refused(Box::new(refused))));
            }
            let n = match ready!(outbox.transport.poll_read(cx, buf)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // What has arrived of a refusal is better than nothing.
                Ok(0) | Err(_) if refused.is_some() => {
                    refused.iter_mut().for_each(|(_, missing)| *missing = 0);
                    continue;
                }
                Ok(0) => return Poll::Ready(Err(io::Error::from(ErrorKind::UnexpectedEof).into())),
                Err(error) => return Poll::Ready(Err(error.into())),
                Ok(n) => n,
            };
            let bytes = buf.get_mut(..n).ok_or(ErrorKind::InvalidData).map_err(io::Error::from)?;
            if let Some((refused, missing)) = refused {
                let taken = bytes.len().min(*missing);
                refused.body.extend_from_slice(&bytes[..taken]);
                *missing -= taken;
                continue;
            }
            let mut input = Input::new(bytes, outbox.endpoint.timer.now());
            match connect.receive(&mut input)? {
                None => {}
                Some(handshake::Answer::Accepted(accepted)) => {
                    let response = Response {
                        subprotocol: accepted.subprotocol().map(Into::into),
                        headers: owned(accepted.headers()),
                    };
                    let conn = accepted.open(Keys, outbox.endpoint.config.clone());
                    outbox.open();
                    let session = Session::new(Conn::Client(Box::new(conn)), input.remaining());
                    return Poll::Ready(Ok((WebSocket::new(outbox.clone(), session), response)));
                }
                Some(handshake::Answer::Refused(answer)) => {
                    let length = answer.header("Content-Length");
                    let length =
                        length.and_then(|length| str::from_utf8(length).ok()?.parse().ok());
                    // Without a length it ends with the connection, if the server says that this ends.
                    let closes = answer
                        .header("Connection")
                        .is_some_and(|connection| connection.eq_ignore_ascii_case(b"close"));
                    let arrived = answer.body().len() + input.len();
                    let unknown = if closes { MAX_BODY_LEN } else { arrived };
                    let len = length.unwrap_or(unknown).min(MAX_BODY_LEN);
                    let mut answer = Refused {
                        status: answer.status(),
                        reason: answer.reason().into(),
                        headers: owned(answer.headers()),
                        body: answer.body().to_vec(),
                    };
                    answer.body.extend_from_slice(input.remaining());
                    answer.body.truncate(len);
                    let missing = len - answer.body.len();
                    *refused = Some((answer, missing));
                }
            }
        }
    }
}

fn owned<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<(String, Vec<u8>)> {
    headers.map(|(name, value)| (name.into(), value.into())).collect()
}

/// Where a URL leads, RFC 6455 section 3.
#[derive(Debug)]
struct Address {
    /// What the name is looked up by.
    host: String,
    port: u16,
    /// The host as it stands in the request, with its port unless that is the scheme's own.
    authority: String,
    path: String,
    /// The scheme is `wss`.
    encrypted: bool,
}

impl Address {
    fn parse(url: &str) -> Result<Self, ConnectError> {
        let address = Self::parse_any(url)?;
        if address.encrypted {
            let why = "wss needs a transport with encryption, see Connect::over";
            return Err(ConnectError::Url(why.into()));
        }
        Ok(address)
    }

    fn parse_any(url: &str) -> Result<Self, ConnectError> {
        let bad = |why: &str| Err(ConnectError::Url(why.into()));
        let url = match Url::parse(url) {
            Ok(url) => url,
            Err(error) => return Err(ConnectError::Url(error.to_string())),
        };
        if !matches!(url.scheme(), "ws" | "wss") {
            return bad("the scheme must be ws");
        }
        if url.fragment().is_some() {
            return bad("a fragment has no meaning");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return bad("say who you are in a header");
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return bad("there is no host");
        };
        // Which stands in brackets if it is an address of IPv6.
        let host = host.trim_start_matches('[').trim_end_matches(']').into();
        let authority = url[Position::BeforeHost..Position::AfterPort].into();
        let path = url[Position::BeforePath..Position::AfterQuery].into();
        let encrypted = url.scheme() == "wss";
        Ok(Self { host, port, authority, path, encrypted })
    }
}

/// Waits for `future`, but not for longer than `timeout`.
async fn within<T>(
    runtime: &dyn Runtime,
    timeout: Duration,
    future: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let mut future = pin!(future);
    let mut late: Pin<_> = runtime.sleep(timeout);
    poll_fn(|cx| {
        if let Poll::Ready(result) = future.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        late.as_mut().poll(cx).map(|()| Err(ConnectError::TimedOut))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_connect_and_what_to_ask_for() {
        let cases = [
            ("ws://a.example", "a.example", 80, "a.example", "/"),
            ("ws://a.example:80/x?y=z", "a.example", 80, "a.example", "/x?y=z"),
            ("WS://A.example:8080/a%20b", "a.example", 8080, "a.example:8080", "/a%20b"),
            ("ws://[::1]:9001/", "::1", 9001, "[::1]:9001", "/"),
        ];
        for (url, host, port, authority, path) in cases {
            let address = Address::parse(url).unwrap();
            assert_eq!(
                (&*address.host, address.port, &*address.authority, &*address.path),
                (host, port, authority, path),
                "{url}"
            );
        }
    }

    #[test]
    fn a_url_that_leads_nowhere_is_refused() {
        let urls = [
            "",
            "a",
            "http://a",
            "ws://",
            "ws://a#b",
            "ws://u:p@a",
            "ws://a:99999",
            "wss://a",
            "w\nss://a",
        ];
        for url in urls {
            assert!(matches!(Address::parse(url), Err(ConnectError::Url(_))), "{url}");
        }
        assert_eq!(Address::parse_any("wss://a").unwrap().port, 443);
    }
}
