//! What a connection costs while nothing happens, and what a message costs when something does.

use std::sync::Arc;

use allocation_counter::measure;
use bytes::{BufMut, Bytes, BytesMut};
use wsforge_core::frame::{Header, Opcode};
use wsforge_core::handshake::{Accept, Opening, Response, Upgrade};
use wsforge_core::{
    ClientConnection, Config, Event, Input, Kind, Output, OwnedEvent, OwnedMessage,
    ServerConnection, Timestamp, mask,
};

fn server() -> ServerConnection {
    ServerConnection::after_handshake(Arc::new(Config::default()), Timestamp::ZERO)
}

fn frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [0; 14];
    let len = payload.len() as u64;
    let header = Header { fin, rsv1: false, opcode, mask: Some([1, 2, 3, 4]), len };
    let head_len = header.encode(&mut bytes);
    let mut frame = bytes[..head_len].to_vec();
    let at = frame.len();
    frame.extend_from_slice(payload);
    mask::apply(&mut frame[at..], [1, 2, 3, 4]);
    frame
}

/// Feeds `bytes` in pieces and echoes what comes; returns the number of events.
fn echo(conn: &mut ServerConnection, output: &mut Output, bytes: &mut [u8], piece: usize) -> usize {
    let mut events = 0;
    for piece in bytes.chunks_mut(piece) {
        let mut input = Input::new(piece, Timestamp::ZERO);
        while let Some(event) = conn.next_event(&mut input, output) {
            events += 1;
            if let Event::Message(message) = event {
                conn.send(message.kind(), message.as_bytes(), output).unwrap();
                output.advance(output.len());
            }
        }
        output.advance(output.len());
    }
    events
}

#[test]
fn types_stay_small() {
    assert!(size_of::<ServerConnection>() <= 80, "{}", size_of::<ServerConnection>());
    assert!(size_of::<ClientConnection<fn() -> [u8; 4]>>() <= 88);
    assert!(size_of::<Option<Event<'_>>>() <= 40, "{}", size_of::<Option<Event<'_>>>());
    assert!(size_of::<Upgrade>() <= 64, "{}", size_of::<Upgrade>());
    assert!(size_of::<Opening<'_>>() <= 112, "{}", size_of::<Opening<'_>>());
    assert!(size_of::<Output>() <= 80, "{}", size_of::<Output>());
}

#[test]
fn opening_a_connection_leaves_no_memory_behind() {
    let config = Arc::new(Config::default());
    let mut output = Output::with_capacity(4096);
    let mut head = *b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut conn = None;
    let info = measure(|| {
        let mut accept = Accept::default();
        let mut input = Input::new(&mut head, Timestamp::ZERO);
        let Opening::Request(request) = accept.receive(&mut input, &mut output) else { panic!() };
        conn = request.accept(&Response::default(), config.clone(), &mut output).ok();
    });
    assert!(conn.is_some());
    assert_eq!(info.count_total, 0, "{info:?}");
}

#[test]
fn an_unfragmented_message_is_received_and_echoed_without_allocating() {
    let (mut conn, mut output) = (server(), Output::with_capacity(64 * 1024));
    for (opcode, len) in [
        (Opcode::Text, 0),
        (Opcode::Text, 125),
        (Opcode::Binary, 16),
        (Opcode::Text, 16 * 1024),
        (Opcode::Binary, 60_000),
        (Opcode::Ping, 125),
        (Opcode::Pong, 5),
    ] {
        let mut bytes = frame(opcode, true, &vec![b'a'; len]).repeat(3);
        let info = measure(|| {
            assert_eq!(echo(&mut conn, &mut output, &mut bytes, usize::MAX), 3);
        });
        assert_eq!(info.count_total, 0, "{opcode:?} of {len}: {info:?}");
    }
}

#[test]
fn what_was_kept_is_gone_with_its_event() {
    let (mut conn, mut output) = (server(), Output::with_capacity(64 * 1024));
    let bytes = [
        frame(Opcode::Text, false, &[b'a'; 3000]),
        frame(Opcode::Ping, true, b"hello"),
        frame(Opcode::Continuation, true, &[b'b'; 500]),
        frame(Opcode::Binary, true, &[7; 50_000]),
        frame(Opcode::Ping, true, &[1; 100]),
    ]
    .concat();
    for piece in [1, 2, 7, 1000] {
        let mut bytes = bytes.clone();
        let info = measure(|| assert_eq!(echo(&mut conn, &mut output, &mut bytes, piece), 4));
        assert!(info.count_total > 0);
        assert_eq!((info.count_current, info.bytes_current), (0, 0), "{piece}: {info:?}");
    }
}

/// Memory follows the bytes that have come, never the lengths that were claimed, and
/// single bytes cost no more than twice their number.
#[test]
fn memory_follows_what_was_received() {
    let mut output = Output::new();
    let mut config = Config::default();
    config.max_frame_len = u64::MAX;
    config.max_message_len = u64::MAX;
    config.max_fragments = u32::MAX;
    let config = Arc::new(config);

    let claim = [0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, b'x'];
    for opcode in [0x81, 0x82] {
        let mut conn = ServerConnection::after_handshake(config.clone(), Timestamp::ZERO);
        let mut claim = claim;
        claim[0] = opcode;
        let info = measure(|| assert_eq!(echo(&mut conn, &mut output, &mut claim, 99), 0));
        assert!(info.bytes_max <= 256, "{info:?}");
        let mut more = [b'y'; 10_000];
        let info = measure(|| assert_eq!(echo(&mut conn, &mut output, &mut more, 100), 0));
        assert!(info.bytes_max <= 2 * 10_000 + 256, "{info:?}");
    }
    for opcode in [Opcode::Text, Opcode::Binary] {
        let mut conn = ServerConnection::after_handshake(config.clone(), Timestamp::ZERO);
        let first = frame(opcode, false, b"x");
        let rest = frame(Opcode::Continuation, false, b"x").repeat((1 << 20) - 1);
        let mut bytes = [first, rest].concat();
        let info = measure(|| assert_eq!(echo(&mut conn, &mut output, &mut bytes, 4096), 0));
        // While it grows, the old and the new memory may be there at once.
        assert!(info.bytes_current <= 2 << 20, "{info:?}");
        assert!(info.bytes_max <= 3 << 20, "{info:?}");
    }
}

/// However large a message is and however it is cut, memory doubles with what has come: all that is
/// ever asked for is the message and about twice its length on the way there.
#[test]
fn assembling_allocates_in_proportion() {
    let mut output = Output::new();
    for len in [10_000, 100_000, 1_000_000, 10_000_000] {
        let mut conn = server();
        let mut bytes = frame(Opcode::Binary, true, &vec![1; len]);
        let info = measure(|| {
            for piece in bytes.chunks_mut(1460) {
                let mut input = Input::new(piece, Timestamp::ZERO);
                while let Some(event) = conn.next_event(&mut input, &mut output) {
                    assert!(matches!(event, Event::Message(m) if m.as_bytes().len() == len));
                }
            }
        });
        assert!(info.bytes_total <= 13 * len as u64 / 4, "{len}: {info:?}");
        assert_eq!(info.bytes_current, 0, "{info:?}");
    }
}

/// A cut message that may stay in the buffer until the rest has come is lent like any other.
#[test]
fn a_message_in_a_growing_input_is_not_put_together() {
    let (mut conn, mut output) = (server(), Output::new());
    let frame = frame(Opcode::Text, true, &[b'a'; 20_000]);
    let mut buf = frame.clone();
    let info = measure(|| {
        for end in [8, 100, 19_000] {
            let mut input = Input::growing(&mut buf[..end], frame.len(), Timestamp::ZERO);
            assert!(conn.next_event(&mut input, &mut output).is_none());
            assert_eq!(input.len(), end);
        }
        let mut input = Input::growing(&mut buf, frame.len(), Timestamp::ZERO);
        let event = conn.next_event(&mut input, &mut output);
        assert!(matches!(event, Some(Event::Message(message)) if message.is_borrowed()));
    });
    assert_eq!(info.count_total, 0, "{info:?}");

    // One byte too long to stay.
    let mut input = Input::growing(&mut buf[..100], frame.len() - 1, Timestamp::ZERO);
    assert!(conn.next_event(&mut input, &mut output).is_none());
    assert!(input.is_empty());
}

/// A message to keep is the read buffer's own bytes: after a first allocation, which makes the buffer
/// shared, a read full of them costs none.
#[test]
fn an_owned_message_is_split_off_the_read_buffer() {
    let (mut conn, mut output) = (server(), Output::with_capacity(64 * 1024));
    let frames = [
        frame(Opcode::Text, true, &[b'a'; 125]),
        frame(Opcode::Ping, true, b"ping"),
        frame(Opcode::Binary, true, &[7; 16 * 1024]),
        frame(Opcode::Text, true, &[b'b'; 16 * 1024]),
    ];
    let mut input = BytesMut::from(&frames.concat().repeat(3)[..]);
    let place = input.as_ptr_range();
    let mut events = Vec::with_capacity(12);
    let info = measure(|| {
        while let Some(event) = conn.next_owned(&mut input, 0, Timestamp::ZERO, &mut output) {
            events.push(event);
        }
    });
    assert_eq!((events.len(), input.len()), (12, 0));
    assert_eq!(info.count_total, 1, "{info:?}");
    for event in events {
        let bytes = match event {
            OwnedEvent::Message(message) => message.into_bytes(),
            OwnedEvent::Ping(payload) => payload,
            event => panic!("{event:?}"),
        };
        assert!(place.contains(&bytes.as_ptr()));
    }
}

/// A short frame is, and what is not one is left to the long road.
#[test]
fn a_copied_message_takes_one_allocation() {
    let (mut conn, mut output) = (server(), Output::new());
    for payload in [&b"ab"[..], &[b'b'; 125], "é".repeat(9).as_bytes(), &[b'c'; 60_000]] {
        let mut bytes = frame(Opcode::Text, true, payload);
        let received = bytes.clone();
        let mut input = Input::new(&mut bytes, Timestamp::ZERO);
        let mut message = None;
        let info = measure(|| message = conn.next_copied(&mut input));
        assert!(input.is_empty());
        assert_eq!(message.unwrap().as_bytes(), payload);
        assert_eq!((info.count_total, info.bytes_total), (1, payload.len() as u64), "{info:?}");
        assert!(bytes == received, "it is not unmasked where it lies");
    }
    for unusual in [
        frame(Opcode::Ping, true, b"ping"),
        frame(Opcode::Text, true, b"ab\xFF"),
        frame(Opcode::Text, true, &[0xFF; 600]),
        frame(Opcode::Binary, false, b"a fragment"),
    ] {
        let mut bytes = unusual.clone();
        let mut input = Input::new(&mut bytes, Timestamp::ZERO);
        assert_eq!(conn.next_copied(&mut input), None);
        assert_eq!(input.remaining(), unusual);
        assert!(output.is_empty());
    }
    let mut bytes = frame(Opcode::Text, true, b"ab\xFF");
    let mut input = Input::new(&mut bytes, Timestamp::ZERO);
    assert!(matches!(conn.next_event(&mut input, &mut output), Some(Event::Fail(_))));
}

/// And so is one that was read into memory of its own, of any length: nothing is allocated.
#[test]
fn a_message_that_was_read_alone_stays_where_it_is() {
    let mut conn = server();
    for (opcode, payload) in [
        (Opcode::Text, &[b'a'; 20_000][..]),
        (Opcode::Text, b"\xC3\xA9"),
        (Opcode::Binary, &[7; 100_000]),
    ] {
        let read = frame(opcode, true, payload).into_boxed_slice().into_vec();
        let place = read.as_ptr_range();
        let mut message = None;
        let info = measure(|| message = conn.next_whole(read, Timestamp::ZERO).ok());
        let message = message.unwrap();
        assert_eq!((message.as_bytes(), info.count_total), (payload, 0), "{info:?}");
        assert!(place.contains(&message.as_bytes().as_ptr()));
    }
    let whole = frame(Opcode::Text, true, &[b'a'; 20_000]);
    let longer = [&whole[..], b"\x81"].concat();
    for other in [&longer[..], &whole[1..], &whole[..20_000], &frame(Opcode::Ping, true, b"ping")] {
        assert_eq!(conn.next_whole(other.to_vec(), Timestamp::ZERO), Err(other.to_vec()));
    }
}

/// One that comes in pieces is so too, if it may wait there for its end.
#[test]
fn an_owned_message_comes_whole_where_there_is_room() {
    let (mut conn, mut output) = (server(), Output::new());
    let bytes = frame(Opcode::Binary, true, &[7; 100_000]);
    let mut input = BytesMut::with_capacity(bytes.len());
    let place = input.as_ptr();
    let mut message = None;
    let info = measure(|| {
        for piece in bytes.chunks(1460) {
            assert!(message.is_none());
            input.extend_from_slice(piece);
            message = conn.next_owned(&mut input, bytes.len(), Timestamp::ZERO, &mut output);
        }
    });
    let Some(OwnedEvent::Message(message)) = message else { panic!("no message") };
    assert_eq!(message.as_bytes(), [7; 100_000]);
    assert_eq!(message.as_bytes().as_ptr(), place.wrapping_add(bytes.len() - 100_000));
    assert_eq!(info.count_total, 1, "{info:?}");
}

/// If it may not, it is put together once, and then kept as it is. An empty message keeps nothing
/// of the read in memory.
#[test]
fn an_owned_message_in_pieces_is_copied_once() {
    const LEN: usize = 100_000;
    let (mut conn, mut output) = (server(), Output::new());
    let bytes = frame(Opcode::Binary, true, &[7; LEN]);
    let mut input = BytesMut::with_capacity(LEN);
    let mut message = None;
    let info = measure(|| {
        for piece in bytes.chunks(60_000) {
            input.extend_from_slice(piece);
            message = conn.next_owned(&mut input, 0, Timestamp::ZERO, &mut output);
        }
    });
    let Some(OwnedEvent::Message(OwnedMessage::Binary(payload))) = message else { panic!() };
    assert_eq!(payload, [7; LEN][..]);
    // The message's memory for what came first and again for all of it, and what leads to it.
    assert!(info.count_total <= 4 && info.bytes_total <= 13 * LEN as u64 / 4, "{info:?}");

    let info = measure(|| {
        input.extend_from_slice(&frame(Opcode::Text, true, b""));
        let event = conn.next_owned(&mut input, 0, Timestamp::ZERO, &mut output);
        assert_eq!(event, Some(OwnedEvent::Message(OwnedMessage::Text("".into()))));
    });
    assert_eq!(info.count_current, 0, "{info:?}");
}

/// A message may be sent before all of it is there: no fragment waits for another, and shared ones are
/// referred to.
#[test]
fn a_streamed_message_costs_what_its_fragments_cost() {
    let (mut conn, mut output) = (server(), Output::with_capacity(64 * 1024));
    let piece = [7; 4096];
    let mut sent = 0;
    let info = measure(|| {
        for i in 0..1000 {
            conn.send_fragment(Kind::Binary, &piece, i == 999, &mut output).unwrap();
            sent += output.len();
            output.advance(output.len());
        }
    });
    assert_eq!((info.count_total, sent), (0, 1000 * (4 + 4096)), "{info:?}");

    let shared = Bytes::from(vec![7; 4096]);
    conn.send_fragment(Kind::Binary, shared.clone(), true, &mut output).unwrap();
    assert!(output.slices().any(|slice| slice.as_ptr() == shared.as_ptr()));
}

/// What is read into a message's own memory is the message, where it was read, and memory still
/// follows what has come.
#[test]
fn a_direct_read_is_not_copied() {
    const LEN: usize = 3 * 1024 * 1024;
    let (mut conn, mut output) = (server(), Output::new());
    let bytes = frame(Opcode::Binary, true, &vec![9; LEN]);
    let (start, mut rest) = bytes.split_at(20_000);
    assert_eq!(echo(&mut conn, &mut output, &mut start.to_vec(), usize::MAX), 0);
    let (mut place, mut message) = (None, None);
    let info = measure(|| {
        while message.is_none() {
            let Some(mut buf) = conn.direct_buf() else { break };
            let room = buf.remaining_mut().min(rest.len());
            assert!(room <= 64 * 1024 && buf.get_ref().capacity() <= 2 * LEN);
            buf.put_slice(&rest[..room]);
            rest = &rest[room..];
            place = Some(buf.get_ref().as_ptr());
            message = conn.direct_filled(Timestamp::ZERO);
        }
    });
    // The last few bytes are too few to be lent memory for.
    let mut rest = rest.to_vec();
    let mut input = Input::new(&mut rest, Timestamp::ZERO);
    let message = message.or_else(|| conn.next_event(&mut input, &mut output));
    let Some(Event::Message(message)) = message else { panic!("no message") };
    assert_eq!(message.as_bytes(), vec![9; LEN]);
    assert_eq!(Some(message.as_bytes().as_ptr()), place);
    assert!(info.count_total < 10, "{info:?}");
}

/// Only what a driver reads into the memory that it is lent counts, whatever else it does to it.
#[test]
fn lent_memory_can_be_misused_but_not_broken() {
    let bytes = frame(Opcode::Binary, true, &[9; 100_000]);
    for misuse in 0..4 {
        let (mut conn, mut output) = (server(), Output::new());
        assert!(conn.direct_buf().is_none(), "nothing has come");
        assert!(conn.direct_filled(Timestamp::ZERO).is_none(), "nothing was lent");
        assert_eq!(echo(&mut conn, &mut output, &mut bytes[..30_000].to_vec(), usize::MAX), 0);
        let mut rest = bytes[30_000..].to_vec();
        let events = match misuse {
            // More than the frame has: the rest is no part of the message.
            0 => {
                let memory = conn.direct_buf().unwrap().into_inner();
                memory.extend_from_slice(&rest);
                memory.extend_from_slice(b"too much");
                usize::from(conn.direct_filled(Timestamp::ZERO).is_some())
            }
            // What had come is gone; it is the driver's loss.
            1 => {
                conn.direct_buf().unwrap().into_inner().clear();
                assert!(conn.direct_filled(Timestamp::ZERO).is_none());
                echo(&mut conn, &mut output, &mut rest, usize::MAX)
            }
            // Lent and not used.
            2 => {
                assert!(conn.direct_buf().is_some());
                let events = echo(&mut conn, &mut output, &mut rest, 7_000);
                assert!(conn.direct_filled(Timestamp::ZERO).is_none());
                events
            }
            // Said to be filled twice.
            _ => {
                conn.direct_buf().unwrap().put_slice(&rest[..50_000]);
                assert!(conn.direct_filled(Timestamp::ZERO).is_none());
                assert!(conn.direct_filled(Timestamp::ZERO).is_none());
                echo(&mut conn, &mut output, &mut rest[50_000..], usize::MAX)
            }
        };
        assert_eq!(events, 1, "{misuse}");
    }
}
