//! Heads by hand, and what a server and a client make of them.

use std::iter;
use std::sync::Arc;

use wsforge_core::handshake::{
    Accept, Answer, Connect, ConnectRequest, ExtensionOffer, Limits, Opening, Request,
    RequestError, Response, ResponseError,
};
use wsforge_core::{Config, Input, Output, Timestamp};

/// The example of RFC 6455 section 1.3: the client's random bytes, and how both sides write them.
pub const NONCE: [u8; 16] = *b"the sample nonce";
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const REQUEST: [&str; 6] = [
    "GET /chat HTTP/1.1",
    "Host: server.example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

const ANSWER: [&str; 4] = [
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
];

/// A header as it is seen.
pub type Field = (String, Vec<u8>);

/// Lines to a head.
pub fn head(lines: &[&str]) -> Vec<u8> {
    (lines.join("\r\n") + "\r\n\r\n").into_bytes()
}

/// A handshake with `lines` in the place of the header `name`, or behind the others if there is none.
/// `GET` is the name of its first line.
pub fn request(name: &str, lines: &[&str]) -> Vec<u8> {
    head(&replace(&REQUEST, name, lines))
}

/// The answer to it, as [`request`]. `HTTP/1.1` is the name of its first line.
pub fn answer(name: &str, lines: &[&str]) -> Vec<u8> {
    head(&replace(&ANSWER, name, lines))
}

fn replace<'a>(base: &[&'a str], name: &str, lines: &[&'a str]) -> Vec<&'a str> {
    let at = base.iter().position(|line| line.split([':', ' ']).next() == Some(name));
    let mut all = base.to_vec();
    all.splice(at.map_or(base.len()..base.len(), |at| at..at + 1), lines.iter().copied());
    all
}

/// A handshake of exactly `len` bytes.
pub fn request_of(len: usize) -> Vec<u8> {
    let rest = len - request("", &["X: "]).len();
    request("", &[&format!("X: {}", "x".repeat(rest))])
}

/// An answer of exactly `len` bytes.
pub fn answer_of(len: usize) -> Vec<u8> {
    let rest = len - answer("", &["X: "]).len();
    answer("", &[&format!("X: {}", "x".repeat(rest))])
}

/// Everything that a request shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    pub headers: Vec<Field>,
    pub subprotocols: Vec<String>,
    pub extensions: Vec<String>,
}

impl From<Request<'_>> for Asked {
    fn from(request: Request<'_>) -> Self {
        Self {
            method: request.method().into(),
            path: request.path().into(),
            query: request.query().map(Into::into),
            headers: fields(request.headers()),
            subprotocols: request.subprotocols().map(Into::into).collect(),
            extensions: request.extensions().map(offer).collect(),
        }
    }
}

fn fields<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<Field> {
    headers.map(|(name, value)| (name.into(), value.to_vec())).collect()
}

/// An offer as it stands in a header, without blanks and quotes.
pub fn offer(offer: ExtensionOffer<'_>) -> String {
    let params = offer.params().map(|(name, value)| match value {
        Some(value) => format!(";{name}={value}"),
        None => format!(";{name}"),
    });
    iter::once(offer.name().into()).chain(params).collect()
}

/// What a server that answers every request makes of some bytes. None of the fields depends on how
/// they were cut.
#[derive(Debug, Eq, PartialEq)]
pub struct Served {
    pub asked: Option<Asked>,
    /// `None` while the head is incomplete.
    pub result: Option<Result<(), RequestError>>,
    pub answer: Vec<u8>,
    /// What was left in the input behind an accepted head.
    pub behind: Vec<u8>,
}

impl Served {
    /// The error, which must have been answered.
    pub fn error(self) -> RequestError {
        let error = self.result.expect("a whole head").expect_err("refused");
        let status = format!("HTTP/1.1 {} ", error.status());
        assert!(self.answer.starts_with(status.as_bytes()), "{}", self.answer.escape_ascii());
        error
    }
}

pub fn serve(bytes: &[u8]) -> Served {
    serve_in(bytes, &[usize::MAX], Limits::default(), &Response::default())
}

/// Hands `bytes` over in pieces of the given lengths, over and over.
pub fn serve_in(bytes: &[u8], lens: &[usize], limits: Limits, response: &Response<'_>) -> Served {
    let (mut accept, mut output) = (Accept::new(limits), Output::new());
    let mut served = Served { asked: None, result: None, answer: Vec::new(), behind: Vec::new() };
    let mut pieces = pieces(bytes, lens).into_iter();
    for mut piece in pieces.by_ref() {
        let mut input = Input::new(&mut piece, Timestamp::ZERO);
        served.result = match accept.receive(&mut input, &mut output) {
            Opening::More => {
                assert!(input.is_empty() && output.is_empty(), "more, and yet not all was kept");
                continue;
            }
            Opening::Refused(error) => Some(Err(error)),
            Opening::Request(request) => {
                served.asked = Some(request.into());
                let conn = request.accept(response, Arc::new(Config::default()), &mut output);
                served.behind = input.remaining().to_vec();
                Some(conn.map(drop))
            }
        };
        break;
    }
    served.answer = taken(&mut output);
    if served.result == Some(Ok(())) {
        served.behind.extend(pieces.flatten());
    } else {
        served.behind.clear();
    }
    served
}

/// Everything that a client is told.
#[derive(Debug, Eq, PartialEq)]
pub enum Told {
    Accepted { subprotocol: Option<String>, extensions: Vec<String>, headers: Vec<Field> },
    Refused { status: u16, reason: String, headers: Vec<Field> },
}

/// What a client makes of some bytes. But for `body`, no field depends on how they were cut.
#[derive(Debug, Eq, PartialEq)]
pub struct Connected {
    /// `None` while the head is incomplete.
    pub result: Option<Result<Told, ResponseError>>,
    /// What was left in the input behind a head that opens the connection.
    pub behind: Vec<u8>,
    /// What a refusal shows of its body.
    pub body: Vec<u8>,
}

impl Connected {
    pub fn told(self) -> Told {
        self.result.expect("a whole head").expect("a proper answer")
    }

    pub fn error(self) -> ResponseError {
        self.result.expect("a whole head").expect_err("no proper answer")
    }
}

/// What a client that offers nothing makes of an answer.
pub fn connect(bytes: &[u8]) -> Connected {
    let request = ConnectRequest::new("server.example.com", "/chat");
    connect_in(&request, bytes, &[usize::MAX], Limits::default())
}

/// Hands `bytes` over in pieces of the given lengths, over and over.
pub fn connect_in(
    request: &ConnectRequest<'_>,
    bytes: &[u8],
    lens: &[usize],
    limits: Limits,
) -> Connected {
    let mut connect = Connect::start(request, NONCE, limits, &mut Output::new()).expect("valid");
    let mut connected = Connected { result: None, behind: Vec::new(), body: Vec::new() };
    let mut pieces = pieces(bytes, lens).into_iter();
    for mut piece in pieces.by_ref() {
        let mut input = Input::new(&mut piece, Timestamp::ZERO);
        connected.result = match connect.receive(&mut input) {
            Ok(None) => {
                assert!(input.is_empty(), "more, and yet not all was kept");
                continue;
            }
            Ok(Some(Answer::Accepted(accepted))) => {
                connected.behind = input.remaining().to_vec();
                Some(Ok(Told::Accepted {
                    subprotocol: accepted.subprotocol().map(Into::into),
                    extensions: accepted.extensions().map(offer).collect(),
                    headers: fields(accepted.headers()),
                }))
            }
            Ok(Some(Answer::Refused(refused))) => {
                connected.body = refused.body().to_vec();
                let full = connected.body.len() == limits.max_head_len;
                assert!(input.is_empty() || full, "what there is room for is taken");
                Some(Ok(Told::Refused {
                    status: refused.status(),
                    reason: refused.reason().into(),
                    headers: fields(refused.headers()),
                }))
            }
            Err(error) => Some(Err(error)),
        };
        break;
    }
    if matches!(connected.result, Some(Ok(Told::Accepted { .. }))) {
        connected.behind.extend(pieces.flatten());
    }
    connected
}

/// The bytes cut into pieces of the given lengths, over and over.
pub fn pieces(mut bytes: &[u8], lens: &[usize]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    for len in lens.iter().cycle() {
        let (piece, rest) = bytes.split_at(bytes.len().min(*len));
        if piece.is_empty() {
            break;
        }
        pieces.push(piece.to_vec());
        bytes = rest;
    }
    pieces
}

/// What is to be written, taken.
pub fn taken(output: &mut Output) -> Vec<u8> {
    let bytes = output.slices().flatten().copied().collect();
    output.advance(usize::MAX);
    bytes
}
