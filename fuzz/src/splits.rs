use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use wsforge_core::{
    ClientConnection, Connection, Input, Output, OwnedEvent, Role, ServerConnection, Timestamp,
};

use crate::Source;
use crate::seen::Seen;
use crate::stream::{limited, part};

/// However a stream is cut into reads, and whichever way they are taken, events and output are the same.
pub fn splits(data: &[u8]) {
    let mut source = Source::new(data);
    let flags = source.u8();
    let is = |bit: u8| flags >> bit & 1 != 0;
    let reads: Vec<_> = (0..=flags >> 4).map(|_| (source.u8(), source.u8())).collect();
    let mut bytes = Vec::new();
    // No more than is quickly done.
    while !source.is_empty() && bytes.len() < 1 << 17 {
        part(&mut source, !is(3), &mut bytes);
    }
    let config = Arc::new(limited(flags));
    if is(3) {
        let keys: fn() -> [u8; 4] = || [1, 2, 3, 4];
        let end = || ClientConnection::after_handshake(keys, config.clone(), Timestamp::ZERO);
        assert_eq!(run(end(), &bytes, &reads), run(end(), &bytes, &[]));
    } else {
        let end = || ServerConnection::after_handshake(config.clone(), Timestamp::ZERO);
        assert_eq!(run(end(), &bytes, &reads), run(end(), &bytes, &[]));
    }
}

/// Everything that can be seen of an end that was fed `bytes`, in one piece or in the reads that are
/// given, over and over: the way to take one, and its length.
fn run<R: Role>(
    mut conn: Connection<R>,
    bytes: &[u8],
    reads: &[(u8, u8)],
) -> impl PartialEq + fmt::Debug + use<R> {
    let (mut rest, mut reads, mut left) = (bytes, reads.iter().cycle(), Vec::new());
    let (mut seen, mut output) = (Vec::new(), Output::new());
    while !rest.is_empty() {
        let (way, len) = reads
            .next()
            .map_or((0, rest.len()), |(way, len)| (*way, usize::from(*len).clamp(1, rest.len())));
        let (mut piece, mut behind) = rest.split_at(len);
        let room = usize::from(way >> 2) * 40;
        match way % 4 {
            // Read into the message's own memory.
            1 if let Some(mut buf) = conn.direct_buf() => {
                (piece, behind) = rest.split_at(len.min(buf.remaining_mut()));
                buf.put_slice(piece);
                seen.extend(conn.direct_filled(Timestamp::ZERO).map(Seen::from));
            }
            // Owned, cut messages once they are whole.
            2 => {
                let mut owned = BytesMut::from(&left[..]);
                owned.extend_from_slice(piece);
                while let Some(event) =
                    conn.next_owned(&mut owned, room, Timestamp::ZERO, &mut output)
                {
                    seen.push(event.into());
                }
                left = owned.into();
                assert!(left.len() < room.max(1), "there is room for what is missing");
            }
            // Lent, cut messages once they are whole if there is room.
            way => {
                left.extend_from_slice(piece);
                let room = if way == 3 { room } else { 0 };
                let mut input = Input::growing(&mut left, room, Timestamp::ZERO);
                // Copied, what can be at once.
                if let Some(message) = conn.next_copied(&mut input) {
                    seen.push(OwnedEvent::Message(message).into());
                }
                while let Some(event) = conn.next_event(&mut input, &mut output) {
                    seen.push(event.into());
                }
                let remaining = input.len();
                left.drain(..left.len() - remaining);
                assert!(left.len() < room.max(1), "there is room for what is missing");
            }
        }
        rest = behind;
    }
    let mut input = Input::new(&mut left, Timestamp::ZERO);
    while let Some(event) = conn.next_event(&mut input, &mut output) {
        seen.push(event.into());
    }
    let before = (conn.state(), conn.outcome());
    seen.extend(conn.handle_eof().map(Seen::from));
    let written: Vec<u8> = output.slices().flatten().copied().collect();
    (join_chunks(seen), written, before, conn.outcome())
}

/// Joins the chunks of a message, so that where it was cut cannot be seen. How much is delivered of a
/// message before its end is found missing or bad depends on the cuts, so that is left out.
fn join_chunks(seen: Vec<Seen>) -> Vec<Seen> {
    let mut joined: Vec<Seen> = Vec::new();
    let mut begun: Option<usize> = None;
    for event in seen {
        match (event, begun) {
            (Seen::Chunk { kind, first: false, last, payload }, Some(at)) => {
                let Seen::Chunk { kind: known, last: ends, payload: whole, .. } = &mut joined[at]
                else {
                    unreachable!("a chunk stands there")
                };
                assert_eq!(*known, kind);
                *ends = last;
                whole.extend(payload);
                begun = (!last).then_some(at);
            }
            (event, _) => {
                if let Seen::Chunk { first, last, .. } = event {
                    assert!(first && begun.is_none(), "a message has one first chunk");
                    begun = (!last).then_some(joined.len());
                }
                joined.push(event);
            }
        }
    }
    joined.retain(|event| !matches!(event, Seen::Chunk { last: false, .. }));
    joined
}
