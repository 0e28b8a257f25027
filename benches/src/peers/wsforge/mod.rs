use std::io::{IoSlice, Write};
use std::sync::Arc;

use bytes::Bytes;
use wsforge_core::{
    ClientConnection, Config, Connection, KeySource, Kind, Output, Role, ServerConnection,
    Timestamp,
};

use crate::{End, Peer, Wire};

mod reader;
pub use reader::{Growing, Lent, Owned, Reader};

/// wsforge-core, under a driver that reads as `T` does.
#[derive(Debug)]
pub struct Wsforge<T = Growing> {
    conn: Either,
    reader: T,
    output: Output,
    wire: Wire,
}

#[derive(Debug)]
enum Either {
    Client(ClientConnection<Keys>),
    Server(ServerConnection),
}

impl<T: Reader> Peer for Wsforge<T> {
    const NAME: &'static str = T::NAME;

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
        Self { conn, reader: T::default(), output: Output::new(), wire }
    }

    fn message(kind: Kind, payload: &Bytes) -> Self::Message {
        (kind, payload.clone())
    }

    fn receive(&mut self) -> usize {
        let Self { conn, reader, output, wire } = self;
        match conn {
            Either::Client(conn) => reader.receive(conn, wire, output),
            Either::Server(conn) => reader.receive(conn, wire, output),
        }
    }

    fn send(&mut self, (kind, payload): &Self::Message) {
        let Self { conn, output, wire, .. } = self;
        match conn {
            Either::Server(conn) if payload.len() > Output::COPY_LIMIT => {
                let write = |slices: [&[u8]; 2]| wire.write_vectored(&slices.map(IoSlice::new));
                conn.send_through(*kind, payload, output, write)
                    .expect("an open connection, a transport that takes all");
            }
            Either::Client(conn) => send(conn, *kind, payload, output, wire),
            Either::Server(conn) => send(conn, *kind, payload, output, wire),
        }
    }

    fn into_wire(self) -> Wire {
        self.wire
    }
}

fn send<R: Role>(
    conn: &mut Connection<R>,
    kind: Kind,
    payload: &[u8],
    output: &mut Output,
    wire: &mut Wire,
) {
    conn.send(kind, payload, output).expect("an open connection");
    let done = output.write_to(|slices| wire.write_vectored(slices));
    assert!(done.expect("a transport that takes all"));
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
