use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use url::Url;
use wsforge_core::handshake::{Answer, Connect, ConnectRequest, Invalid, Limits, ResponseError};
use wsforge_core::{ClientConnection, Config, Input, Output, Timestamp};

/// How long the server may take for each step of the handshake.
const TIMEOUT: Duration = Duration::from_secs(10);

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
        /// What had arrived of the body.
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
    let addresses = url.socket_addrs(|| None).map_err(ConnectError::Io)?;
    let socket = TcpStream::connect(&addresses[..]).map_err(ConnectError::Io)?;
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let request = ConnectRequest { subprotocols, headers, ..ConnectRequest::new(host, path) };
    shake_hands(socket, &request, config)
}

fn shake_hands(
    mut socket: TcpStream,
    request: &ConnectRequest<'_>,
    config: Config,
) -> Result<Connected, ConnectError> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|why| ConnectError::Io(why.into()))?;
    let (mut output, mut buf) = (Output::new(), vec![0; 16 * 1024]);
    let mut connect = Connect::start(request, key, Limits::default(), &mut output)
        .map_err(ConnectError::Invalid)?;
    socket.set_nodelay(true).map_err(ConnectError::Io)?;
    socket.set_read_timeout(Some(TIMEOUT)).map_err(ConnectError::Io)?;
    output.write_to(|slices| socket.write_vectored(slices)).map_err(ConnectError::Io)?;
    let epoch = Instant::now();
    loop {
        let n = socket.read(&mut buf).map_err(ConnectError::Io)?;
        if n == 0 {
            return Err(ConnectError::Io(io::ErrorKind::UnexpectedEof.into()));
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
                let body = String::from_utf8_lossy(refused.body()).into_owned();
                return Err(ConnectError::Refused { status, body });
            }
        }
    }
}

fn random_key() -> [u8; 4] {
    let mut key = [0; 4];
    getrandom::fill(&mut key).expect("the operating system has randomness");
    key
}
