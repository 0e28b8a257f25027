//! Split invariance: however the input is cut, the same events with the same fields come out, and the
//! same bytes.

mod support;

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;
use support::{End, Frame, Seen, client, masked, masked_close, plain, server};
use wsforge_core::frame::{Header, Opcode};
use wsforge_core::{Config, Delivery, Input, Kind, Outcome, OwnedEvent, Role, State};

const TEXT: &str = "añ✓𝄞é漢字 and plain ASCII that is longer than a word 𝄞𝄞";

/// A step of a stream: most are legal, some are not.
#[derive(Clone, Debug)]
enum Part {
    Message(Kind, Vec<u8>),
    Fragments(Kind, Vec<u8>, usize),
    Control(Opcode, Vec<u8>),
    Close(u16, String),
    /// A binary message whose length takes more bytes than it needs.
    LongLength(Vec<u8>),
    Raw(Vec<u8>),
}

fn payload() -> impl Strategy<Value = (Kind, Vec<u8>)> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..400).prop_map(|bytes| (Kind::Binary, bytes)),
        (0..3usize).prop_map(|n| (Kind::Text, TEXT.repeat(n).into_bytes())),
        "\\PC{0,30}".prop_map(|text| (Kind::Text, text.into_bytes())),
        prop::collection::vec(any::<u8>(), 1..40).prop_map(|bytes| (Kind::Text, bytes)),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    let control = prop::sample::select(vec![Opcode::Ping, Opcode::Pong]);
    prop_oneof![
        6 => payload().prop_map(|(kind, bytes)| Part::Message(kind, bytes)),
        5 => (payload(), 1..50usize).prop_map(|((k, bytes), n)| Part::Fragments(k, bytes, n)),
        4 => (control, prop::collection::vec(any::<u8>(), 0..126))
            .prop_map(|(opcode, bytes)| Part::Control(opcode, bytes)),
        1 => (900..5100u16, "\\PC{0,20}").prop_map(|(code, reason)| Part::Close(code, reason)),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Part::LongLength),
        1 => prop::collection::vec(any::<u8>(), 1..20).prop_map(Part::Raw),
    ]
}

fn stream(parts: &[Part], frame: Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        match part {
            Part::Message(kind, payload) => bytes.extend(frame((*kind).into(), true, payload)),
            Part::Fragments(kind, payload, len) => {
                let count = payload.len().div_ceil(*len);
                for (i, piece) in payload.chunks(*len).enumerate() {
                    let opcode = if i == 0 { (*kind).into() } else { Opcode::Continuation };
                    bytes.extend(frame(opcode, i + 1 == count, piece));
                    if i % 3 == 1 {
                        bytes.extend(frame(Opcode::Ping, true, b"between"));
                    }
                }
            }
            Part::Control(opcode, payload) => bytes.extend(frame(*opcode, true, payload)),
            Part::Close(code, reason) => {
                let body = [&code.to_be_bytes(), reason.as_bytes()].concat();
                bytes.extend(frame(Opcode::Close, true, &body));
            }
            Part::LongLength(payload) => {
                let frame = frame(Opcode::Binary, true, payload);
                bytes.extend([frame[0], frame[1] & 0x80 | 126, 0, frame[1] & 0x7F]);
                bytes.extend(&frame[2..]);
            }
            Part::Raw(raw) => bytes.extend(raw),
        }
    }
    bytes
}

/// Everything that can be seen of an end: events, output, and how it stands before and after the end.
type Trace = (Vec<Seen>, Vec<u8>, (State, Option<Outcome>), Option<Outcome>);

/// What is seen of an end that was fed `bytes` in the given pieces.
fn run<R: Role>(mut end: End<R>, bytes: &[u8], cuts: &[usize]) -> Trace {
    let (mut rest, mut cuts, mut seen) = (bytes, cuts.iter().cycle(), Vec::new());
    while !rest.is_empty() {
        let len = cuts.next().map_or(rest.len(), |len| rest.len().min(*len));
        let (piece, behind) = rest.split_at(len);
        seen.extend(end.receive(piece));
        rest = behind;
    }
    let before = (end.conn.state(), end.conn.outcome());
    seen.extend(end.eof());
    (seen, end.written(), before, end.conn.outcome())
}

/// The same, with a driver that leaves cut frames in its buffer of `room` bytes while there is more.
fn run_growing<R: Role>(mut end: End<R>, bytes: &[u8], cuts: &[usize], room: usize) -> Trace {
    let (mut rest, mut cuts, mut seen) = (bytes, cuts.iter().cycle(), Vec::new());
    let mut buf = Vec::new();
    while !rest.is_empty() {
        let len = cuts.next().map_or(rest.len(), |len| rest.len().min(*len));
        let (piece, behind) = rest.split_at(len);
        buf.extend_from_slice(piece);
        let mut input = match behind {
            [] => Input::new(&mut buf, end.now),
            _ => Input::growing(&mut buf, room, end.now),
        };
        while let Some(event) = end.conn.next_event(&mut input, &mut end.output) {
            seen.push(event.into());
        }
        let left = input.len();
        assert!(left < room.max(1), "what is left is cut, and there is room for it");
        buf.drain(..buf.len() - left);
        rest = behind;
    }
    assert!(buf.is_empty());
    let before = (end.conn.state(), end.conn.outcome());
    seen.extend(end.eof());
    (seen, end.written(), before, end.conn.outcome())
}

/// The same, with a driver that keeps what it gets until the end.
fn run_owned<R: Role>(mut end: End<R>, bytes: &[u8], cuts: &[usize], room: usize) -> Trace {
    let (mut rest, mut cuts, mut kept) = (bytes, cuts.iter().cycle(), Vec::new());
    let mut buffer = BytesMut::new();
    while !rest.is_empty() {
        let len = cuts.next().map_or(rest.len(), |len| rest.len().min(*len));
        let (piece, behind) = rest.split_at(len);
        buffer.extend_from_slice(piece);
        while let Some(event) = end.conn.next_owned(&mut buffer, room, end.now, &mut end.output) {
            kept.push(event);
        }
        assert!(buffer.len() < room.max(1), "what is left is cut, and there is room for it");
        rest = behind;
    }
    let mut input = Input::new(&mut buffer, end.now);
    while let Some(event) = end.conn.next_event(&mut input, &mut end.output) {
        kept.push(event.into());
    }
    let before = (end.conn.state(), end.conn.outcome());
    kept.extend(end.conn.handle_eof().map(OwnedEvent::from));
    let seen = kept.into_iter().map(Seen::from).collect();
    (seen, end.written(), before, end.conn.outcome())
}

/// The same, with a driver that copies each message if it can.
fn run_copied<R: Role>(mut end: End<R>, bytes: &[u8], cuts: &[usize]) -> Trace {
    let (mut rest, mut cuts, mut kept) = (bytes, cuts.iter().cycle(), Vec::new());
    while !rest.is_empty() {
        let len = cuts.next().map_or(rest.len(), |len| rest.len().min(*len));
        let (piece, behind) = rest.split_at(len);
        let mut piece = piece.to_vec();
        let mut input = Input::new(&mut piece, end.now);
        loop {
            if let Some(message) = end.conn.next_copied(&mut input) {
                kept.push(OwnedEvent::Message(message));
            } else if let Some(event) = end.conn.next_event(&mut input, &mut end.output) {
                kept.push(event.into());
            } else {
                break;
            }
        }
        rest = behind;
    }
    let before = (end.conn.state(), end.conn.outcome());
    kept.extend(end.conn.handle_eof().map(OwnedEvent::from));
    let seen = kept.into_iter().map(Seen::from).collect();
    (seen, end.written(), before, end.conn.outcome())
}

/// The same, with a driver that reads frame by frame and keeps what it reads, if it can.
fn run_whole<R: Role>(mut end: End<R>, bytes: &[u8]) -> Trace {
    let (mut rest, mut kept) = (bytes, Vec::new());
    while !rest.is_empty() {
        let len = match Header::parse(rest) {
            Ok(Some((header, len))) => rest.len().min(len.saturating_add(header.len as usize)),
            _ => rest.len(),
        };
        let (frame, behind) = rest.split_at(len);
        match end.conn.next_whole(frame.to_vec(), end.now) {
            Ok(message) => kept.push(OwnedEvent::Message(message)),
            Err(mut read) => {
                assert_eq!(read, frame);
                let mut input = Input::new(&mut read, end.now);
                while let Some(event) = end.conn.next_event(&mut input, &mut end.output) {
                    kept.push(event.into());
                }
            }
        }
        rest = behind;
    }
    let before = (end.conn.state(), end.conn.outcome());
    kept.extend(end.conn.handle_eof().map(OwnedEvent::from));
    let seen = kept.into_iter().map(Seen::from).collect();
    (seen, end.written(), before, end.conn.outcome())
}

/// The same, with a driver that reads the rest of large messages straight into their memory.
fn run_directly<R: Role>(mut end: End<R>, bytes: &[u8], cuts: &[usize]) -> Trace {
    let (mut rest, mut cuts, mut seen) = (bytes, cuts.iter().cycle(), Vec::new());
    while !rest.is_empty() {
        let len = cuts.next().map_or(rest.len(), |len| rest.len().min(*len));
        let taken = match end.conn.direct_buf() {
            Some(mut buf) => {
                let len = len.min(buf.remaining_mut());
                assert!(len <= 64 * 1024);
                buf.put_slice(&rest[..len]);
                seen.extend(end.conn.direct_filled(end.now).map(Seen::from));
                len
            }
            None => {
                seen.extend(end.receive(&rest[..len]));
                len
            }
        };
        rest = &rest[taken..];
    }
    let before = (end.conn.state(), end.conn.outcome());
    seen.extend(end.eof());
    (seen, end.written(), before, end.conn.outcome())
}

/// The chunks of a message joined, so that where it was cut cannot be seen.
fn join_chunks(seen: Vec<Seen>) -> Vec<Seen> {
    let mut joined: Vec<Seen> = Vec::new();
    let mut open: Option<usize> = None;
    for event in seen {
        match (event, open) {
            (Seen::Chunk { kind, first: false, last, payload }, Some(at)) => {
                let Seen::Chunk { kind: begun, last: end, payload: whole, .. } = &mut joined[at]
                else {
                    unreachable!()
                };
                assert_eq!(*begun, kind);
                *end = last;
                whole.extend(payload);
                open = (!last).then_some(at);
            }
            (event, _) => {
                if let Seen::Chunk { first, last, .. } = event {
                    assert!(first && open.is_none(), "a message has one first chunk");
                    open = (!last).then_some(joined.len());
                }
                joined.push(event);
            }
        }
    }
    joined
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), prop::collection::vec(1..60usize, 1..40)]
}

fn config() -> impl Strategy<Value = Config> {
    (any::<bool>(), any::<bool>()).prop_map(|(limited, lenient)| {
        let mut config = Config::default();
        config.accept_long_lengths = lenient;
        if limited {
            config.max_frame_len = 300;
            config.max_message_len = 350;
            config.max_fragments = 9;
        }
        config
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_server_cannot_tell_how_its_input_was_cut(
        parts in prop::collection::vec(part(), 0..12),
        flip in proptest::option::weighted(0.3, (any::<prop::sample::Index>(), 0..8u32)),
        config in config(),
        cuts in cuts(),
        room in 0..600usize,
    ) {
        let mut bytes = stream(&parts, masked);
        if let (Some((at, bit)), false) = (flip, bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let whole = run(server(&config), &bytes, &[usize::MAX]);
        prop_assert_eq!(&run(server(&config), &bytes, &cuts), &whole);
        prop_assert_eq!(&run_owned(server(&config), &bytes, &cuts, room), &whole);
        prop_assert_eq!(&run_copied(server(&config), &bytes, &cuts), &whole);
        prop_assert_eq!(&run_whole(server(&config), &bytes), &whole);
        prop_assert_eq!(run_growing(server(&config), &bytes, &cuts, room), whole);
    }

    #[test]
    fn a_client_cannot_tell_how_its_input_was_cut(
        parts in prop::collection::vec(part(), 0..12),
        flip in proptest::option::weighted(0.3, (any::<prop::sample::Index>(), 0..8u32)),
        config in config(),
        cuts in cuts(),
        room in 0..600usize,
    ) {
        let mut bytes = stream(&parts, plain);
        if let (Some((at, bit)), false) = (flip, bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let whole = run(client(&config), &bytes, &[usize::MAX]);
        prop_assert_eq!(&run(client(&config), &bytes, &cuts), &whole);
        prop_assert_eq!(&run_owned(client(&config), &bytes, &cuts, room), &whole);
        prop_assert_eq!(&run_copied(client(&config), &bytes, &cuts), &whole);
        prop_assert_eq!(&run_whole(client(&config), &bytes), &whole);
        prop_assert_eq!(run_growing(client(&config), &bytes, &cuts, room), whole);
    }

    /// Chunks are cut where the input is, but they tell the same messages.
    #[test]
    fn chunks_join_to_the_same_messages(
        parts in prop::collection::vec(part(), 0..12),
        mut config in config(),
        cuts in cuts(),
        room in 0..600usize,
    ) {
        config.delivery = Delivery::Chunks;
        let bytes = stream(&parts, masked);
        let joined = |(seen, written, before, outcome): Trace| {
            let mut seen = join_chunks(seen);
            // How much of a message is delivered before its end is found missing or bad depends on
            // the cuts.
            seen.retain(|event| !matches!(event, Seen::Chunk { last: false, .. }));
            (seen, written, before, outcome)
        };
        let whole = joined(run(server(&config), &bytes, &[usize::MAX]));
        prop_assert_eq!(&joined(run(server(&config), &bytes, &cuts)), &whole);
        prop_assert_eq!(&joined(run_copied(server(&config), &bytes, &cuts)), &whole);
        prop_assert_eq!(&joined(run_whole(server(&config), &bytes)), &whole);
        prop_assert_eq!(joined(run_owned(server(&config), &bytes, &cuts, room)), whole);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Reading into a message's own memory changes nothing, whatever stands around the message.
    #[test]
    fn a_direct_read_cannot_be_told_from_another(
        before in prop::collection::vec(part(), 0..4),
        sizes in prop::collection::vec(10_000..200_000usize, 1..4),
        fragments in 30_000..100_000usize,
        after in prop::collection::vec(part(), 0..4),
        cuts in prop::collection::vec(1..90_000usize, 1..20),
    ) {
        let large = sizes.iter().map(|len| {
            let payload = (0..*len).map(|i| i as u8).collect();
            Part::Fragments(Kind::Binary, payload, fragments)
        });
        let parts: Vec<Part> = before.into_iter().chain(large).chain(after).collect();
        let config = Config::default();
        let bytes = stream(&parts, masked);
        let whole = run(server(&config), &bytes, &[usize::MAX]);
        prop_assert!(run_directly(server(&config), &bytes, &cuts) == whole);
        let bytes = stream(&parts, plain);
        let whole = run(client(&config), &bytes, &[usize::MAX]);
        prop_assert!(run_directly(client(&config), &bytes, &cuts) == whole);
    }
}

/// A Close that is cut anywhere keeps its code and its reason.
#[test]
fn a_close_in_pieces_is_whole() {
    let bytes = masked_close(4321, "grün");
    for piece in 1..=bytes.len() {
        let mut end = server(&Config::default());
        assert_eq!(end.receive_in(&bytes, piece), [support::close(4321, "grün")], "{piece}");
    }
}
