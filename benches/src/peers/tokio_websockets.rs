use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio_websockets::{ClientBuilder, Message, ServerBuilder, WebSocketStream};
use wsforge_core::Kind;

use super::now;
use crate::{End, Peer, Wire};

/// tokio-websockets.
#[derive(Debug)]
pub struct TokioWebSockets(WebSocketStream<Wire>);

impl Peer for TokioWebSockets {
    const NAME: &'static str = "tokio-websockets";

    type Message = Message;

    fn open(end: End, wire: Wire) -> Self {
        Self(match end {
            End::Client => ClientBuilder::new().take_over(wire),
            End::Server => ServerBuilder::new().serve(wire),
        })
    }

    fn message(kind: Kind, payload: &Bytes) -> Self::Message {
        match kind {
            Kind::Binary => Message::binary(payload.clone()),
            Kind::Text => Message::text(str::from_utf8(payload).expect("UTF-8").to_owned()),
        }
    }

    fn receive(&mut self) -> usize {
        let message = now(self.0.next()).expect("a message").expect("no error");
        match message.as_text() {
            Some(text) => std::hint::black_box(text).len(),
            None => std::hint::black_box(message.as_payload()).len(),
        }
    }

    fn send(&mut self, message: &Self::Message) {
        now(self.0.send(message.clone())).expect("a transport that takes all");
    }

    fn into_wire(self) -> Wire {
        self.0.into_inner()
    }
}
