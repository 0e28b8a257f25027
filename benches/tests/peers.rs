//! All that is measured does the same work: the same messages come out of the same bytes, and the same
//! frames out of the same messages.

use benches::{
    End, FastWebSockets, Growing, LENGTHS, Lent, Owned, Peer, TokioWebSockets, Tungstenite, Wire,
    Wsforge, frame, mixed_text, payload,
};
use wsforge_core::frame::{Header, Opcode};
use wsforge_core::{Kind, mask};

fn receives_and_sends<P: Peer>() {
    for len in LENGTHS {
        for (kind, payload) in [
            (Kind::Binary, payload(Kind::Binary, len)),
            (Kind::Text, payload(Kind::Text, len)),
            (Kind::Text, mixed_text(len)),
        ] {
            for (end, other) in [(End::Server, End::Client), (End::Client, End::Server)] {
                let mut peer = P::open(end, Wire::new(frame(other, kind, &payload).repeat(3)));
                for _ in 0..7 {
                    assert_eq!(peer.receive(), len, "{} {end:?} {kind:?}", P::NAME);
                }

                let mut peer = P::open(end, Wire::recording());
                let message = P::message(kind, &payload);
                peer.send(&message);
                peer.send(&message);
                let written = peer.into_wire().written;
                let expected = frame(end, kind, &payload).repeat(2);
                assert!(frames(&written) == frames(&expected), "{} {end:?} {kind:?}", P::NAME);
            }
        }
    }
}

/// Frames taken apart, without the keys: whether they are masked, whether final, what, and the payload.
fn frames(mut bytes: &[u8]) -> Vec<(bool, bool, Opcode, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((header, at)) = Header::parse(bytes).expect("a header") {
        let (payload, rest) = bytes[at..].split_at(header.len as usize);
        let mut payload = payload.to_vec();
        if let Some(key) = header.mask {
            mask::apply(&mut payload, key);
        }
        frames.push((header.mask.is_some(), header.fin, header.opcode, payload));
        bytes = rest;
    }
    frames
}

#[test]
fn fastwebsockets() {
    receives_and_sends::<FastWebSockets>();
}

#[test]
fn tokio_websockets() {
    receives_and_sends::<TokioWebSockets>();
}

#[test]
fn tungstenite() {
    receives_and_sends::<Tungstenite>();
}

#[test]
fn wsforge() {
    receives_and_sends::<Wsforge<Growing>>();
    receives_and_sends::<Wsforge<Lent>>();
    receives_and_sends::<Wsforge<Owned>>();
}
