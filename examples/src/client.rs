use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use url::{Position, Url};
use wsforge_core::handshake::{
    Answer, Connect, ConnectRequest, Invalid, Limits, Refused, ResponseError,
};
use wsforge_core::{ClientConnection, Config, Input, Output, Timestamp};

/// How long the server may take for each step of the handshake.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a refusal's body is read.
const MAX_BODY_LEN: u64 = 64 * 1024;

/// A source of masking keys: the operating system's generator.
pub type Keys = fn() -> [u8; 4];

/// An open connection of a blocking client.
#[derive(Debug)]
pub struct Connected {
    /// The socket; without a read timeout.
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

/// Connects to a `ws://` URL and blocks until the server has answered.
///
/// # Errors
///
/// Why there is no connection.
pub fn connect(
    url: &str,
    subprotocols: &[&str],
    headers: &[(&str, &[u8])],
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
    let socket = url
        .socket_addrs(|| None)
        .and_then(|addresses| TcpStream::connect(&addresses[..]))
        .and_then(|mut socket| {
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(TIMEOUT))?;
            output.write_to(|slices| socket.write_vectored(slices))?;
            Ok(socket)
        })
        .map_err(ConnectError::Io)?;
    read_answer(socket, connect, config)
}

fn read_answer(
    mut socket: TcpStream,
    mut connect: Connect,
    config: Config,
) -> Result<Connected, ConnectError> {
    let (mut buf, epoch) = (vec![0; 16 * 1024], Instant::now());
    loop {
        let n = socket.read(&mut buf).map_err(ConnectError::Io)?;
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
                socket.set_read_timeout(None).map_err(ConnectError::Io)?;
                return Ok(Connected { socket, conn, early, subprotocol, epoch });
            }
            Some(Answer::Refused(refused)) => {
                let status = format!("{} {}", refused.status(), refused.reason());
                let body = read_body(&mut socket, &refused);
                return Err(ConnectError::Refused { status, body });
            }
        }
    }
}

/// The body of a refusal, as much of it as people read.
fn read_body(socket: &mut TcpStream, refused: &Refused<'_>) -> String {
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
