use bytes::Bytes;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};
use wsforge_core::Kind;

use crate::{End, Peer, Wire};

/// tungstenite.
#[derive(Debug)]
pub struct Tungstenite(WebSocket<Wire>);

impl Peer for Tungstenite {
    const NAME: &'static str = "tungstenite";

    type Message = Message;

    fn open(end: End, wire: Wire) -> Self {
        let role = match end {
            End::Client => Role::Client,
            End::Server => Role::Server,
        };
        Self(WebSocket::from_raw_socket(wire, role, None))
    }

    fn message(kind: Kind, payload: &Bytes) -> Self::Message {
        match kind {
            Kind::Binary => Message::Binary(payload.clone()),
            Kind::Text => Message::Text(payload.clone().try_into().expect("UTF-8")),
        }
    }

    fn receive(&mut self) -> usize {
        match self.0.read().expect("a message") {
            Message::Text(text) => std::hint::black_box(text.as_str()).len(),
            Message::Binary(bytes) => std::hint::black_box(bytes).len(),
            message => panic!("{message:?}"),
        }
    }

    fn send(&mut self, message: &Self::Message) {
        self.0.send(message.clone()).expect("a transport that takes all");
    }

    fn into_wire(self) -> Wire {
        self.0.into_inner()
    }
}
