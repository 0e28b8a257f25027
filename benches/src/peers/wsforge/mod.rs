use std::hint::black_box;
use std::io::{IoSlice, Read, Write};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use wsforge_core::frame::{Header, MAX_HEADER_LEN};
use wsforge_core::{
    ClientConnection, Config, Connection, Event, Input, KeySource, Kind, Message, Output, Role,
    ServerConnection, Timestamp,
};

use crate::{End, Peer, Wire};

/// How much is read when nothing is known of what comes: what a first-level cache has room for. What a
/// cut frame lacks is then read as a whole.
const FIRST_READ: usize = 16 * 1024;

/// Where the payload of a frame begins that was cut: vectors that lie across two lines cost twice.
const CACHE_LINE: usize = 64;

/// wsforge-core, under the least driver there can be.
#[derive(Debug)]
pub struct Wsforge {
    conn: Either,
    driver: Driver,
}

#[derive(Debug)]
enum Either {
    Client(ClientConnection<Keys>),
    Server(ServerConnection),
}

#[derive(Debug)]
struct Driver {
    wire: Wire,
    /// What is read into. A thread has one, so that it can be large.
    buf: Vec<u8>,
    /// What of it the connection has not seen yet.
    rest: Range<usize>,
    output: Output,
}

impl Peer for Wsforge {
    const NAME: &'static str = "wsforge";

    type Message = (Kind, Bytes);

    fn open(end: End, wire: Wire) -> Self {
        let config = Arc::new(Config::default());
        let conn = match end {
            End::Client => {
                let keys = Keys { random: Box::new([0; 1024]), at: 1024 };
                Either::Client(ClientConnection::after_handshake(keys, config, Timestamp::ZERO))
            }
            End::Server => {
                Either::Server(ServerConnection::after_handshake(config, Timestamp::ZERO))
            }
        };
        let (buf, output) = (vec![0; 512 * 1024], Output::new());
        Self { conn, driver: Driver { wire, buf, rest: 0..0, output } }
    }

    fn message(kind: Kind, payload: &Bytes) -> Self::Message {
        (kind, payload.clone())
    }

    fn receive(&mut self) -> usize {
        match &mut self.conn {
            Either::Client(conn) => self.driver.receive(conn),
            Either::Server(conn) => self.driver.receive(conn),
        }
    }

    fn send(&mut self, (kind, payload): &Self::Message) {
        match &mut self.conn {
            Either::Server(conn) if payload.len() > Output::COPY_LIMIT => {
                let Driver { wire, output, .. } = &mut self.driver;
                conn.send_through(*kind, payload, output, |slices| {
                    wire.write_vectored(&slices.map(IoSlice::new))
                })
                .expect("an open connection, a transport that takes all");
            }
            Either::Client(conn) => self.driver.send(conn, *kind, payload),
            Either::Server(conn) => self.driver.send(conn, *kind, payload),
        }
    }

    fn into_wire(self) -> Wire {
        self.driver.wire
    }
}

impl Driver {
    fn receive<R: Role>(&mut self, conn: &mut Connection<R>) -> usize {
        loop {
            let room = self.buf.len() - 2 * CACHE_LINE - MAX_HEADER_LEN;
            let rest = &mut self.buf[self.rest.clone()];
            let mut input = Input::growing(rest, room, Timestamp::ZERO);
            let event = conn.next_event(&mut input, &mut self.output);
            let left = input.len();
            if let Some(event) = event {
                self.rest.start = self.rest.end - left;
                return match event {
                    Event::Message(Message::Binary(payload)) => black_box(&*payload).len(),
                    Event::Message(Message::Text(text)) => black_box(&*text).len(),
                    event => panic!("{event:?}"),
                };
            }
            let (to, most) = match Header::parse(input.remaining()) {
                // A frame that is cut: all that is missing of it, and the next one's header.
                Ok(Some((header, len))) => {
                    (CACHE_LINE - len, len + header.len as usize + MAX_HEADER_LEN - left)
                }
                _ => (0, FIRST_READ),
            };
            let to = to + self.buf.as_ptr().align_offset(CACHE_LINE);
            self.buf.copy_within(self.rest.end - left..self.rest.end, to);
            let n = self.wire.read(&mut self.buf[to + left..][..most]).expect("bytes");
            self.rest = to..to + left + n;
        }
    }

    fn send<R: Role>(&mut self, conn: &mut Connection<R>, kind: Kind, payload: &[u8]) {
        conn.send(kind, payload, &mut self.output).expect("an open connection");
        let done = self.output.write_to(|slices| self.wire.write_vectored(slices));
        assert!(done.expect("a transport that takes all"));
    }
}

/// Masking keys from the operating system, so many at a time that asking for them costs little.
#[derive(Debug)]
struct Keys {
    random: Box<[u8; 1024]>,
    at: usize,
}

impl KeySource for Keys {
    fn next_key(&mut self) -> [u8; 4] {
        if self.at == self.random.len() {
            getrandom::fill(&mut *self.random).expect("the operating system has randomness");
            self.at = 0;
        }
        let key = self.random[self.at..].first_chunk().copied().unwrap_or_default();
        self.at += 4;
        key
    }
}
