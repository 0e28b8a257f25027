use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use url::{Position, Url};
use wsforge_core::handshake::{
    Answer, Connect, ConnectRequest, Invalid, Limits, Refused, ResponseError,
};
use wsforge_core::{ClientConnection, Config, Input, Output, Timestamp};

/// How much of a refusal's body is read.
const MAX_BODY_LEN: u64 = 64 * 1024;

/// A source of masking keys: the operating system's generator.
pub type Keys = fn() -> [u8; 4];

/// An open connection of a blocking client.
#[derive(Debug)]
pub struct Connected {
    /// The socket; it waits without limit.
    pub socket: TcpStream,
    /// The connection.
    pub conn: ClientConnection<Keys>,
    /// What had arrived behind the answer; hand it to the connection first.
    pub early: Vec<u8>,
    /// The subprotocol that the server has picked.
    pub subprotocol: Option<String>,
    /// What the connection's times count from.
    pub epoch: Instant,
}

impl Connected {
    /// The time now.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.epoch.elapsed().as_millis() as u64)
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// The URL is none, or not one of a WebSocket.
    Url(String),
    /// What the caller gave cannot be sent.
    Invalid(Invalid),
    /// The server cannot be reached, or went away.
    Io(io::Error),
    /// The server's answer is no proper one.
    Response(ResponseError),
    /// The server answered with something else than an upgrade.
    Refused {
        /// The status and its reason phrase.
        status: String,
        /// The body, or the start of a long one.
        body: String,
    },
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(why) => write!(f, "bad URL: {why}"),
            Self::Invalid(why) => write!(f, "bad request: {why}"),
            Self::Io(why) => write!(f, "cannot connect: {why}"),
            Self::Response(why) => write!(f, "the server does not speak WebSocket: {why}"),
            Self::Refused { status, body } => {
                write!(f, "the server refused: {status}")?;
                if body.is_empty() { Ok(()) } else { write!(f, "\n{}", body.trim_end()) }
            }
        }
    }
}

impl std::error::Error for ConnectError {}

/// Connects to a `ws://` URL and blocks until the server has answered, at most for `timeout` once its
/// name has been looked up.
///
/// # Errors
///
/// Why there is no connection.
pub fn connect(
    url: &str,
    subprotocols: &[&str],
    headers: &[(&str, &[u8])],
    timeout: Duration,
    config: Config,
) -> Result<Connected, ConnectError> {
    let url = Url::parse(url).map_err(|why| ConnectError::Url(why.to_string()))?;
    if url.scheme() != "ws" {
        let why = format!("the scheme must be ws, not {} (TLS is a driver's to add)", url.scheme());
        return Err(ConnectError::Url(why));
    }
    // RFC 6455 section 3.
    if url.fragment().is_some() {
        return Err(ConnectError::Url("a fragment has no meaning".into()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ConnectError::Url("say who you are in a header".into()));
    }
    let host = &url[Position::BeforeHost..Position::AfterPort];
    let path = &url[Position::BeforePath..Position::AfterQuery];
    let request = ConnectRequest { subprotocols, headers, ..ConnectRequest::new(host, path) };
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|why| ConnectError::Io(why.into()))?;
    let mut output = Output::new();
    let connect = Connect::start(&request, key, Limits::default(), &mut output)
        .map_err(ConnectError::Invalid)?;
    let addresses = url.socket_addrs(|| None).map_err(ConnectError::Io)?;
    let deadline = Instant::now() + timeout;
    let mut socket = dial(&addresses, deadline).map_err(ConnectError::Io)?;
    output.write_to(|slices| socket.write_vectored(slices)).map_err(ConnectError::Io)?;
    read_answer(socket, connect, deadline, config)
}

/// Connects to the first address that answers.
fn dial(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut result = Err(ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        result = left(deadline).and_then(|left| TcpStream::connect_timeout(address, left));
        if result.is_ok() {
            break;
        }
    }
    let socket = result?;
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(left(deadline)?))?;
    Ok(socket)
}

/// The time until `deadline`.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A socket that reads until a deadline, however slowly its bytes come.
struct Until<'a>(&'a mut TcpStream, Instant);

impl Read for Until<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.set_read_timeout(Some(left(self.1)?))?;
        self.0.read(buf).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
            _ => error,
        })
    }
}

fn read_answer(
    mut socket: TcpStream,
    mut connect: Connect,
    deadline: Instant,
    config: Config,
) -> Result<Connected, ConnectError> {
    let (mut buf, epoch) = (vec![0; 16 * 1024], Instant::now());
    loop {
        let n = Until(&mut socket, deadline).read(&mut buf).map_err(ConnectError::Io)?;
        if n == 0 {
            return Err(ConnectError::Io(ErrorKind::UnexpectedEof.into()));
        }
        let now = Timestamp::from_millis(epoch.elapsed().as_millis() as u64);
        let mut input = Input::new(&mut buf[..n], now);
        match connect.receive(&mut input).map_err(ConnectError::Response)? {
            None => {}
            Some(Answer::Accepted(accepted)) => {
                let subprotocol = accepted.subprotocol().map(Into::into);
                let conn = accepted.open(random_key as Keys, Arc::new(config));
                let early = input.remaining().to_vec();
                socket
                    .set_read_timeout(None)
                    .and_then(|()| socket.set_write_timeout(None))
                    .map_err(ConnectError::Io)?;
                return Ok(Connected { socket, conn, early, subprotocol, epoch });
            }
            Some(Answer::Refused(refused)) => {
                let status = format!("{} {}", refused.status(), refused.reason());
                let body = read_body(Until(&mut socket, deadline), &refused);
                return Err(ConnectError::Refused { status, body });
            }
        }
    }
}

/// The body of a refusal, as much of it as people read.
fn read_body(socket: Until<'_>, refused: &Refused<'_>) -> String {
    let length = refused.header("Content-Length").and_then(|length| str::from_utf8(length).ok());
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(MAX_BODY_LEN);
    let mut body = refused.body().to_vec();
    let missing = length.min(MAX_BODY_LEN).saturating_sub(body.len() as u64);
    // What arrives before an error is better than nothing.
    let _ = socket.take(missing).read_to_end(&mut body);
    String::from_utf8_lossy(&body).into_owned()
}

fn random_key() -> [u8; 4] {
    let mut key = [0; 4];
    getrandom::fill(&mut key).expect("the operating system has randomness");
    key
}
