use bytes::Bytes;
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, Role, WebSocket};
use wsforge_core::Kind;

use super::now;
use crate::{End, Peer, Wire};

/// fastwebsockets, with the collector that makes messages of its frames.
#[allow(missing_debug_implementations, reason = "the collector has none")]
pub struct FastWebSockets(FragmentCollector<Wire>);

impl Peer for FastWebSockets {
    const NAME: &'static str = "fastwebsockets";

    type Message = (Kind, Bytes);

    fn open(end: End, wire: Wire) -> Self {
        let role = match end {
            End::Client => Role::Client,
            End::Server => Role::Server,
        };
        Self(FragmentCollector::new(WebSocket::after_handshake(wire, role)))
    }

    fn message(kind: Kind, payload: &Bytes) -> Self::Message {
        (kind, payload.clone())
    }

    fn receive(&mut self) -> usize {
        let frame = now(self.0.read_frame()).expect("a frame");
        match frame.opcode {
            // Its texts are validated bytes.
            OpCode::Text | OpCode::Binary => std::hint::black_box(&frame.payload).len(),
            opcode => panic!("{opcode:?}"),
        }
    }

    fn send(&mut self, (kind, payload): &Self::Message) {
        let payload = Payload::Borrowed(payload);
        let frame = match kind {
            Kind::Binary => Frame::binary(payload),
            Kind::Text => Frame::text(payload),
        };
        now(self.0.write_frame(frame)).expect("a transport that takes all");
    }

    fn into_wire(self) -> Wire {
        self.0.into_inner()
    }
}
