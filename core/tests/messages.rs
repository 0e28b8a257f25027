//! Messages over an open connection: frames, masks, fragments, and how they are delivered.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use allocation_counter::measure;
use bytes::Bytes;
use support::{End, MASK, Pair, Seen, client, frames, masked, plain, server, text};
use wsforge_core::frame::Opcode;
use wsforge_core::{
    Body, ClientConnection, CloseCode, Config, Delivery, Event, Input, Kind, Message, Output,
    Payload, Role, SendError, ServerConnection, Timestamp,
};

type Frame = fn(Opcode, bool, &[u8]) -> Vec<u8>;

fn chunks() -> Config {
    let mut config = Config::default();
    config.delivery = Delivery::Chunks;
    config
}

fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 94) as u8 + 33).collect()
}

/// RFC 6455 section 5.3, by its letter.
fn mask_by_hand(bytes: &[u8], key: [u8; 4]) -> Vec<u8> {
    bytes.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect()
}

/// RFC 6455 section 5.2: the length in its shortest form, the key behind it.
#[test]
fn messages_of_every_length_class_cross_both_ways() {
    let lens: [(usize, &[u8]); 8] = [
        (0, &[0]),
        (1, &[1]),
        (125, &[125]),
        (126, &[126, 0, 126]),
        (127, &[126, 0, 127]),
        (65_535, &[126, 0xFF, 0xFF]),
        (65_536, &[127, 0, 0, 0, 0, 0, 1, 0, 0]),
        (1 << 20, &[127, 0, 0, 0, 0, 0, 0x10, 0, 0]),
    ];
    let mut pair = Pair::new();
    for (len, len_bytes) in lens {
        for (kind, first) in [(Kind::Text, 0x81), (Kind::Binary, 0x82)] {
            let body = sample(len);
            let seen = match kind {
                Kind::Binary => Seen::Binary(body.clone()),
                Kind::Text => Seen::Text(String::from_utf8(body.clone()).unwrap()),
            };

            pair.server.send(kind, &body);
            let wire = pair.server.written();
            assert!(wire == [&[first], len_bytes, &body].concat(), "{kind:?} of {len}");
            for piece in [usize::MAX, len / 2 + 1, 4093] {
                assert!(pair.client.receive_in(&wire, piece) == [seen.clone()], "{kind:?} {len}");
            }

            pair.client.send(kind, &body);
            let wire = pair.client.written();
            let mut len_bytes = len_bytes.to_vec();
            len_bytes[0] |= 0x80;
            let expected = [&[first][..], &len_bytes, &MASK, &mask_by_hand(&body, MASK)].concat();
            assert!(wire == expected, "{kind:?} of {len}");
            for piece in [usize::MAX, len / 2 + 1, 4093] {
                assert!(pair.server.receive_in(&wire, piece) == [seen.clone()], "{kind:?} {len}");
            }
        }
    }
    assert!(pair.server.output.is_empty() && pair.client.output.is_empty());
}

/// A payload cut anywhere is unmasked with the right octets of the key, message after message.
#[test]
fn the_key_goes_on_where_a_read_ended() {
    let body = sample(300);
    let wire = [masked(Opcode::Binary, true, &body), masked(Opcode::Ping, true, &body[..77])]
        .concat()
        .repeat(3);
    for piece in 1..=wire.len() {
        let seen = server(&Config::default()).receive_in(&wire, piece);
        let expected = [Seen::Binary(body.clone()), Seen::Ping(body[..77].to_vec())];
        assert!(seen == [&expected[..]; 3].concat(), "{piece}");
    }
}

/// RFC 6455 sections 5.1 and 5.3.
#[test]
fn a_client_masks_each_frame_with_a_fresh_key() {
    let drawn = Rc::new(RefCell::new(Vec::new()));
    let log = drawn.clone();
    let mut next = 0x0102_0304_u32;
    let keys = move || {
        next = next.wrapping_mul(0x9E37_79B1).wrapping_add(1);
        log.borrow_mut().push(next.to_be_bytes());
        next.to_be_bytes()
    };
    let mut conn =
        ClientConnection::after_handshake(keys, Arc::new(Config::default()), Timestamp::ZERO);
    let output = &mut Output::new();
    conn.send(Kind::Text, "one", output).unwrap();
    conn.send(Kind::Binary, Bytes::from(vec![2; 5000]), output).unwrap();
    conn.send_fragment(Kind::Text, "three", false, output).unwrap();
    conn.ping(b"four", output).unwrap();
    // What is refused draws no key.
    conn.send(Kind::Text, "no", output).unwrap_err();
    conn.send_fragment(Kind::Binary, "no", true, output).unwrap_err();
    conn.ping(&[0; 126], output).unwrap_err();
    conn.send_fragment(Kind::Text, "", true, output).unwrap();
    conn.pong(b"six", output).unwrap();
    let mut read = [plain(Opcode::Ping, true, b"seven"), plain(Opcode::Close, true, b"")].concat();
    let mut input = Input::new(&mut read, Timestamp::ZERO);
    while conn.next_event(&mut input, output).is_some() {}

    let wire: Vec<u8> = output.slices().flatten().copied().collect();
    let payloads: [(u8, &[u8]); 8] = [
        (0x81, b"one"),
        (0x82, &[2; 5000]),
        (0x01, b"three"),
        (0x89, b"four"),
        (0x80, b""),
        (0x8A, b"six"),
        (0x8A, b"seven"),
        (0x88, b""),
    ];
    let drawn = drawn.borrow();
    assert_eq!(drawn.len(), payloads.len());
    let expected = payloads.iter().zip(&*drawn).flat_map(|((first, payload), key)| {
        let len = match payload.len() {
            5000 => vec![0xFE, 0x13, 0x88],
            len => vec![0x80 | len as u8],
        };
        [&[*first][..], &len, key, &mask_by_hand(payload, *key)].concat()
    });
    assert!(wire == expected.collect::<Vec<u8>>());
}

/// RFC 6455 section 5.1.
#[test]
fn a_server_never_masks() {
    let mut end = server(&Config::default());
    end.send(Kind::Text, b"one");
    end.conn.send_fragment(Kind::Binary, b"two", true, &mut end.output).unwrap();
    end.conn.ping(b"three", &mut end.output).unwrap();
    end.conn.pong(b"four", &mut end.output).unwrap();
    end.receive(&masked(Opcode::Ping, true, b"five"));
    end.close(CloseCode::NORMAL, "six");
    assert_eq!(
        end.written(),
        b"\x81\x03one\x82\x03two\x89\x05three\x8A\x04four\x8A\x04five\x88\x05\x03\xE8six"
    );
}

/// RFC 6455 section 5.4.
#[test]
fn fragments_are_sent_in_order_and_in_one_kind() {
    let mut pair = Pair::new();
    let End { conn, output, .. } = &mut pair.client;
    conn.send_fragment(Kind::Text, "", false, output).unwrap();
    conn.send_fragment(Kind::Text, "a\u{E9}".as_bytes().split_at(2).0, false, output).unwrap();
    let queued = output.len();
    let refused = [
        conn.send(Kind::Text, "x", output),
        conn.send(Kind::Binary, "x", output),
        conn.send_fragment(Kind::Binary, "x", false, output),
        conn.send_fragment(Kind::Binary, "x", true, output),
    ];
    assert_eq!(refused, [Err(SendError::FragmentInProgress); 4]);
    assert_eq!(output.len(), queued, "what is refused leaves no byte");
    conn.ping(b"p", output).unwrap();
    conn.pong(b"q", output).unwrap();
    conn.send_fragment(Kind::Text, b"\xA9", true, output).unwrap();
    conn.send_fragment(Kind::Binary, b"only", true, output).unwrap();
    conn.send(Kind::Binary, b"next", output).unwrap();

    let wire = pair.client.written();
    let frame = |opcode, fin, body: &[u8]| (opcode, fin, body.to_vec());
    assert_eq!(
        frames(&wire),
        [
            frame(Opcode::Text, false, b""),
            frame(Opcode::Continuation, false, b"a\xC3"),
            frame(Opcode::Ping, true, b"p"),
            frame(Opcode::Pong, true, b"q"),
            frame(Opcode::Continuation, true, b"\xA9"),
            frame(Opcode::Binary, true, b"only"),
            frame(Opcode::Binary, true, b"next"),
        ]
    );
    let seen = [
        Seen::Ping(b"p".to_vec()),
        Seen::Pong(b"q".to_vec()),
        text("aé"),
        Seen::Binary(b"only".to_vec()),
        Seen::Binary(b"next".to_vec()),
    ];
    assert_eq!(pair.server.receive(&wire), seen);
}

#[test]
fn shared_and_copied_bodies_give_the_same_bytes() {
    fn both<R: Role>(mut end: End<R>, len: usize, fin: bool) -> bool {
        let body = Bytes::from(sample(len));
        end.conn.send_fragment(Kind::Binary, Body::Copy(&body), fin, &mut end.output).unwrap();
        end.conn.send_fragment(Kind::Binary, &b"!"[..], true, &mut end.output).unwrap();
        let copied = end.written();
        end.conn.send_fragment(Kind::Binary, body.clone(), fin, &mut end.output).unwrap();
        end.conn.send_fragment(Kind::Binary, b"!", true, &mut end.output).unwrap();
        let referred = end.output.slices().any(|slice| slice.as_ptr() == body.as_ptr());
        assert!(end.written() == copied, "{len}");
        referred
    }
    let limit = Output::COPY_LIMIT;
    for len in [0, 1, 125, 126, limit - 1, limit, limit + 1, 65_535, 65_536, 200_000] {
        for fin in [false, true] {
            assert_eq!(both(server(&Config::default()), len, fin), len > limit, "{len}");
            assert!(!both(client(&Config::default()), len, fin), "a client masks");
        }
    }
}

/// RFC 6455 section 5.4: an endpoint handles control frames in the middle of a message.
#[test]
fn control_frames_come_through_between_fragments() {
    fn run<R: Role>(mut end: End<R>, frame: Frame, piece: usize) {
        let wire = [
            frame(Opcode::Text, false, b"\xE6"),
            frame(Opcode::Ping, true, b"1"),
            frame(Opcode::Continuation, false, b""),
            frame(Opcode::Pong, true, b"2"),
            frame(Opcode::Continuation, false, b"\xBC"),
            frame(Opcode::Ping, true, b""),
        ]
        .concat();
        let seen = end.receive_in(&wire, piece);
        let expected = [Seen::Ping(b"1".into()), Seen::Pong(b"2".into()), Seen::Ping(b"".into())];
        assert_eq!(seen, expected);
        // Answered before the message has ended.
        let pong = |payload: &[u8]| (Opcode::Pong, true, payload.to_vec());
        assert_eq!(end.sent(), [pong(b"1"), pong(b"")]);
        let last = frame(Opcode::Continuation, true, b"\xA2!");
        assert_eq!(end.receive_in(&last, piece), [text("漢!")]);
    }
    for piece in [1, 2, 3, 7, usize::MAX] {
        run(server(&Config::default()), masked, piece);
        run(client(&Config::default()), plain, piece);
    }
}

/// Kind, first, last, payload.
type Delivered<'a> = (Kind, bool, bool, &'a [u8]);

#[test]
fn chunks_tell_where_a_message_begins_and_ends() {
    type Sent<'a> = (Opcode, bool, &'a [u8]);
    let (b, t) = (Opcode::Binary, Opcode::Text);
    let more = Opcode::Continuation;
    let cases: [(&[Sent<'_>], &[Delivered<'_>]); 8] = [
        (&[(b, true, b"abc")], &[(Kind::Binary, true, true, b"abc")]),
        (&[(t, true, b"")], &[(Kind::Text, true, true, b"")]),
        (
            &[(t, false, b"ab"), (more, true, b"cd")],
            &[(Kind::Text, true, false, b"ab"), (Kind::Text, false, true, b"cd")],
        ),
        // Empty fragments tell nothing, but for the last.
        (
            &[(b, false, b""), (more, false, b""), (more, false, b"x"), (more, true, b"")],
            &[(Kind::Binary, true, false, b"x"), (Kind::Binary, false, true, b"")],
        ),
        (&[(t, false, b""), (more, true, b"")], &[(Kind::Text, true, true, b"")]),
        (&[(b, false, b""), (more, true, b"yz")], &[(Kind::Binary, true, true, b"yz")]),
        // Fragments as long as the one before.
        (
            &[(b, false, b"1"), (more, false, b"2"), (more, true, b"3")],
            &[
                (Kind::Binary, true, false, b"1"),
                (Kind::Binary, false, false, b"2"),
                (Kind::Binary, false, true, b"3"),
            ],
        ),
        // A character may be cut; two messages in a row.
        (
            &[(t, false, b"\xC3"), (more, true, b"\xA9"), (b, true, b"\xFF")],
            &[
                (Kind::Text, true, false, b"\xC3"),
                (Kind::Text, false, true, b"\xA9"),
                (Kind::Binary, true, true, b"\xFF"),
            ],
        ),
    ];
    for (fragments, delivered) in cases {
        let expected = delivered.iter().map(|&(kind, first, last, payload)| Seen::Chunk {
            kind,
            first,
            last,
            payload: payload.to_vec(),
        });
        let expected: Vec<_> = expected.collect();
        let wire = |frame: Frame| -> Vec<u8> {
            fragments.iter().flat_map(|(op, fin, body)| frame(*op, *fin, body)).collect()
        };
        assert_eq!(server(&chunks()).receive(&wire(masked)), expected);
        assert_eq!(client(&chunks()).receive(&wire(plain)), expected);
    }
}

#[test]
fn chunks_are_cut_where_the_reads_are() {
    let mut end = server(&chunks());
    let wire = masked(Opcode::Text, true, b"abcdef");
    let chunk = |first, last, payload: &[u8]| {
        let payload = payload.to_vec();
        vec![Seen::Chunk { kind: Kind::Text, first, last, payload }]
    };
    // The header alone tells nothing, though the payload has not begun.
    assert_eq!(end.receive(&wire[..6]), []);
    assert_eq!(end.receive(&wire[6..8]), chunk(true, false, b"ab"));
    assert_eq!(end.receive(&wire[8..11]), chunk(false, false, b"cde"));
    assert_eq!(end.receive(&wire[11..]), chunk(false, true, b"f"));
}

#[test]
fn chunks_of_any_message_need_no_memory() {
    let mut config = chunks();
    config.max_frame_len = u64::MAX;
    config.max_message_len = u64::MAX;
    let mut conn = ServerConnection::after_handshake(Arc::new(config), Timestamp::ZERO);
    let mut output = Output::new();
    let body = "漢é".repeat(20_000).into_bytes();
    let (front, back) = body.split_at(40_000);
    let mut wire =
        [masked(Opcode::Text, false, front), masked(Opcode::Continuation, true, back)].concat();
    let (mut len, mut lasts) = (0, 0);
    let info = measure(|| {
        for piece in wire.chunks_mut(1_001) {
            let mut input = Input::new(piece, Timestamp::ZERO);
            while let Some(Event::Chunk(chunk)) = conn.next_event(&mut input, &mut output) {
                len += chunk.payload.len();
                lasts += u32::from(chunk.last);
            }
        }
    });
    assert_eq!((len, lasts, info.count_total), (body.len(), 1, 0));
}

/// A message is lent if it lies in one read, and put together otherwise.
#[test]
fn what_lies_in_one_read_is_lent() {
    let whole = masked(Opcode::Text, true, b"message");
    let fragments =
        [masked(Opcode::Text, false, b"mes"), masked(Opcode::Continuation, true, b"sage")].concat();
    for (wire, piece, lent) in [
        (&whole, usize::MAX, true),
        (&whole, whole.len() - 1, false),
        (&whole, 1, false),
        (&fragments, usize::MAX, false),
    ] {
        let mut conn = server(&Config::default()).conn;
        let (mut output, mut wire) = (Output::new(), wire.clone());
        let mut kept = Vec::new();
        for piece in wire.chunks_mut(piece) {
            let mut input = Input::new(piece, Timestamp::ZERO);
            while let Some(event) = conn.next_event(&mut input, &mut output) {
                let Event::Message(message) = event else { panic!("{event:?}") };
                assert_eq!((message.kind(), message.is_borrowed()), (Kind::Text, lent));
                kept.push(message.into_bytes());
            }
        }
        // What was kept is not part of the buffer.
        wire.fill(b'!');
        assert_eq!(kept, ["message"]);
    }
}

/// Events borrow the read buffer, not the connection: all may live while replies are sent, and binary
/// payloads may be changed where they lie.
#[test]
fn replies_can_be_sent_while_events_are_alive() {
    let End { mut conn, mut output, now } = server(&Config::default());
    let mut wire = [
        masked(Opcode::Text, true, b"one"),
        masked(Opcode::Binary, true, b"two"),
        masked(Opcode::Ping, true, b"three"),
        masked(Opcode::Binary, false, b"fo"),
        masked(Opcode::Continuation, true, b"ur"),
    ]
    .concat();
    let mut input = Input::new(&mut wire, now);
    let mut events = Vec::new();
    while let Some(mut event) = conn.next_event(&mut input, &mut output) {
        if let Event::Message(Message::Binary(payload)) = &mut event {
            payload.reverse();
        }
        if let Event::Message(message) = &event {
            conn.send(message.kind(), message.as_bytes(), &mut output).unwrap();
        }
        events.push(event);
    }
    let [_, Event::Message(Message::Binary(Payload::Borrowed(two))), Event::Ping(three), _] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((&two[..], &**three), (&b"owt"[..], &b"three"[..]));
    assert_eq!(
        output.slices().collect::<Vec<_>>().concat(),
        b"\x81\x03one\x82\x03owt\x8A\x05three\x82\x04ruof"
    );
}

/// A read buffer is used again and again, by many connections: nobody sees what was in it before.
#[test]
fn a_used_buffer_shows_nothing_of_others() {
    const SECRET: u8 = b'!';
    let mut buffer = vec![SECRET; 512];
    let mut ends = [server(&Config::default()), server(&chunks())];
    for round in 0..200 {
        let body = vec![b'a' + (round % 26) as u8; round % 90];
        let wire = [
            masked(Opcode::Text, false, &body),
            masked(Opcode::Ping, true, &body),
            masked(Opcode::Continuation, true, b"end"),
            masked(Opcode::Binary, true, &body),
        ]
        .concat();
        let mut seen = [0; 2];
        for piece in wire.chunks(round % 37 + 1) {
            for (end, seen) in ends.iter_mut().zip(&mut seen) {
                buffer.fill(SECRET);
                buffer[..piece.len()].copy_from_slice(piece);
                let mut input = Input::new(&mut buffer[..piece.len()], end.now);
                while let Some(event) = end.conn.next_event(&mut input, &mut end.output) {
                    let shown = match &event {
                        Event::Message(message) => message.as_bytes(),
                        Event::Ping(payload) => payload,
                        Event::Chunk(chunk) => chunk.payload,
                        event => panic!("{event:?}"),
                    };
                    assert!(!shown.contains(&SECRET), "{event:?}");
                    *seen += shown.len();
                }
            }
        }
        assert_eq!(seen, [3 * body.len() + 3; 2]);
        for end in &mut ends {
            assert_eq!(end.sent(), [(Opcode::Pong, true, body.clone())]);
        }
    }
}
