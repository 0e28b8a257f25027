//! What the behaviour tests share: frames by hand, a log of events, and a client and a server that
//! talk through memory under a clock of their own.
#![allow(dead_code, unreachable_pub, reason = "no test uses all of it")]

pub mod http;

use std::sync::Arc;
use std::time::Duration;

use wsforge_core::frame::{Header, MAX_HEADER_LEN, Opcode};
use wsforge_core::{
    Client, ClientConnection, CloseCode, Config, Connection, Error, Event, Initiator, Input, Kind,
    Outcome, Output, OwnedChunk, OwnedEvent, OwnedMessage, Role, Server, ServerConnection,
    Shutdown, State, Timestamp, mask,
};

pub const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

pub type Keys = fn() -> [u8; 4];

/// [`masked`] or [`plain`].
pub type Frame = fn(Opcode, bool, &[u8]) -> Vec<u8>;

/// An event with all its fields, to keep and to compare.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seen {
    Chunk { kind: Kind, first: bool, last: bool, payload: Vec<u8> },
    Close(Option<(u16, String)>),
    Fail(Error),
    Binary(Vec<u8>),
    Text(String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        OwnedEvent::from(event).into()
    }
}

impl From<OwnedEvent> for Seen {
    fn from(event: OwnedEvent) -> Self {
        match event {
            OwnedEvent::Chunk(OwnedChunk { kind, first, last, payload }) => {
                Self::Chunk { kind, first, last, payload: payload.into() }
            }
            OwnedEvent::Close(close) => {
                Self::Close(close.map(|close| (close.code.get(), close.reason.into_string())))
            }
            OwnedEvent::Fail(error) => Self::Fail(error),
            OwnedEvent::Message(OwnedMessage::Binary(payload)) => Self::Binary(payload.into()),
            OwnedEvent::Message(OwnedMessage::Text(text)) => Self::Text(text.to_string()),
            OwnedEvent::Ping(payload) => Self::Ping(payload.into()),
            OwnedEvent::Pong(payload) => Self::Pong(payload.into()),
            event => panic!("an event that the tests do not know: {event:?}"),
        }
    }
}

pub fn text(text: &str) -> Seen {
    Seen::Text(text.into())
}

pub fn close(code: u16, reason: &str) -> Seen {
    Seen::Close(Some((code, reason.into())))
}

/// An outcome with the peer's Close.
pub fn closed(code: u16, initiator: Initiator) -> Option<Outcome> {
    Some(Outcome::Closed { code: CloseCode::new(code), initiator })
}

/// State, what to do with the transport, outcome.
pub fn stand<R: Role>(end: &End<R>) -> (State, Option<Shutdown>, Option<Outcome>) {
    (end.conn.state(), end.conn.wants_shutdown(), end.conn.outcome())
}

/// One end of a connection, driven by hand.
pub struct End<R> {
    pub conn: Connection<R>,
    pub output: Output,
    pub now: Timestamp,
}

pub fn server(config: &Config) -> End<Server> {
    server_at(config, Timestamp::ZERO)
}

pub fn server_at(config: &Config, now: Timestamp) -> End<Server> {
    let conn = ServerConnection::after_handshake(Arc::new(config.clone()), now);
    End { conn, output: Output::new(), now }
}

pub fn client(config: &Config) -> End<Client<Keys>> {
    client_at(config, Timestamp::ZERO)
}

pub fn client_at(config: &Config, now: Timestamp) -> End<Client<Keys>> {
    let keys: Keys = || MASK;
    let conn = ClientConnection::after_handshake(keys, Arc::new(config.clone()), now);
    End { conn, output: Output::new(), now }
}

impl<R: Role> End<R> {
    /// Hands `bytes` over in one read.
    pub fn receive(&mut self, bytes: &[u8]) -> Vec<Seen> {
        self.receive_in(bytes, usize::MAX)
    }

    /// Hands `bytes` over in reads of `piece` bytes.
    pub fn receive_in(&mut self, bytes: &[u8], piece: usize) -> Vec<Seen> {
        let mut seen = Vec::new();
        for piece in bytes.to_vec().chunks_mut(piece) {
            let mut input = Input::new(piece, self.now);
            while let Some(event) = self.conn.next_event(&mut input, &mut self.output) {
                seen.push(event.into());
            }
            assert!(input.is_empty(), "no event, and yet not all bytes were used or kept");
        }
        seen
    }

    pub fn eof(&mut self) -> Option<Seen> {
        self.conn.handle_eof().map(Seen::from)
    }

    /// Lets time pass, without looking at deadlines.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Lets time pass and looks at the deadlines then.
    pub fn wait(&mut self, time: Duration) -> Option<Seen> {
        self.pass(time);
        self.conn.handle_timeout(self.now, &mut self.output).map(Seen::from)
    }

    pub fn send(&mut self, kind: Kind, body: &[u8]) {
        self.conn.send(kind, body, &mut self.output).expect("open");
    }

    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.conn.close(code, reason, self.now, &mut self.output);
    }

    /// What is to be written, taken.
    pub fn written(&mut self) -> Vec<u8> {
        let bytes = self.output.slices().flatten().copied().collect();
        self.output.advance(usize::MAX);
        bytes
    }

    /// The frames that are to be written, taken and unmasked.
    pub fn sent(&mut self) -> Vec<(Opcode, bool, Vec<u8>)> {
        frames(&self.written())
    }

    /// The code and reason of the Close that is to be written, which must stand alone.
    pub fn sent_close(&mut self) -> Option<(u16, String)> {
        let sent = self.sent();
        let [(Opcode::Close, true, body)] = &sent[..] else { panic!("no lone Close: {sent:?}") };
        let (code, reason) = body.split_first_chunk()?;
        Some((u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).expect("UTF-8")))
    }
}

/// A client and a server that talk through memory.
pub struct Pair {
    pub client: End<Client<Keys>>,
    pub server: End<Server>,
}

impl Pair {
    pub fn new() -> Self {
        Self::with(&Config::default())
    }

    pub fn with(config: &Config) -> Self {
        Self { client: client(config), server: server(config) }
    }

    /// Carries bytes both ways until there are none. Returns what client and server saw.
    pub fn carry(&mut self) -> (Vec<Seen>, Vec<Seen>) {
        let (mut client, mut server) = (Vec::new(), Vec::new());
        loop {
            let (up, down) = (self.client.written(), self.server.written());
            if up.is_empty() && down.is_empty() {
                return (client, server);
            }
            server.extend(self.server.receive(&up));
            client.extend(self.client.receive(&down));
        }
    }
}

/// A frame as a client sends it.
pub fn masked(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = encode(opcode, fin, Some(MASK), payload.len());
    let at = frame.len();
    frame.extend_from_slice(payload);
    mask::apply(&mut frame[at..], MASK);
    frame
}

/// A frame as a server sends it.
pub fn plain(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    [&encode(opcode, fin, None, payload.len())[..], payload].concat()
}

/// A Close as a client sends it.
pub fn masked_close(code: u16, reason: &str) -> Vec<u8> {
    masked(Opcode::Close, true, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

fn encode(opcode: Opcode, fin: bool, mask: Option<[u8; 4]>, len: usize) -> Vec<u8> {
    let mut bytes = [0; MAX_HEADER_LEN];
    let header = Header { fin, rsv1: false, opcode, mask, len: len as u64 };
    let head_len = header.encode(&mut bytes);
    bytes[..head_len].to_vec()
}

/// Takes frames apart that must be whole.
pub fn frames(mut bytes: &[u8]) -> Vec<(Opcode, bool, Vec<u8>)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (header, len) = Header::parse(bytes).expect("valid").expect("whole");
        let (payload, rest) = bytes[len..].split_at(header.len as usize);
        let mut payload = payload.to_vec();
        if let Some(key) = header.mask {
            mask::apply(&mut payload, key);
        }
        frames.push((header.opcode, header.fin, payload));
        bytes = rest;
    }
    frames
}
