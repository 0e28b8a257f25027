//! Pings and pongs, RFC 6455 section 5.5. Closes have a file of their own.

mod support;

use std::time::Duration;

use support::{End, Pair, Seen, client, masked, masked_close, plain, server};
use wsforge_core::frame::{MAX_CONTROL_LEN, Opcode};
use wsforge_core::{
    CloseCode, Config, Delivery, Error, Event, Input, Kind, Output, Role, SendError, State,
};

type Frame = fn(Opcode, bool, &[u8]) -> Vec<u8>;

fn pong(payload: &[u8]) -> (Opcode, bool, Vec<u8>) {
    (Opcode::Pong, true, payload.to_vec())
}

/// RFC 6455 sections 5.5.2 and 5.5.3.
#[test]
fn a_ping_has_been_answered_when_its_event_comes() {
    fn run<R: Role>(mut end: End<R>, frame: Frame, len: usize, piece: usize) {
        let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
        let mut events = 0;
        for piece in frame(Opcode::Ping, true, &payload).chunks_mut(piece) {
            let mut input = Input::new(piece, end.now);
            while let Some(event) = end.conn.next_event(&mut input, &mut end.output) {
                let Event::Ping(seen) = event else { panic!("{event:?}") };
                assert_eq!(&*seen, payload);
                assert_eq!(end.output.len(), len + if R::CLIENT { 6 } else { 2 });
                events += 1;
            }
        }
        assert_eq!((events, end.sent()), (1, vec![pong(&payload)]));
    }
    for len in 0..=MAX_CONTROL_LEN {
        for config in [Config::default(), chunks()] {
            for piece in [1, 50, usize::MAX] {
                run(server(&config), masked, len, piece);
                run(client(&config), plain, len, piece);
            }
        }
    }
}

fn chunks() -> Config {
    let mut config = Config::default();
    config.delivery = Delivery::Chunks;
    config
}

/// RFC 6455 section 5.5.2: answered unless a Close has been received.
#[test]
fn pings_are_answered_until_the_peers_close() {
    fn run<R: Role>(mut end: End<R>, frame: Frame) {
        let ping = frame(Opcode::Ping, true, b"hi");
        let seen = Seen::Ping(b"hi".to_vec());
        end.close(CloseCode::NORMAL, "");
        assert_eq!((end.conn.state(), end.sent_close()), (State::Closing, Some((1000, "".into()))));
        for _ in 0..3 {
            assert_eq!((end.receive(&ping), end.sent()), (vec![seen.clone()], vec![pong(b"hi")]));
        }
        // In one read: before the Close it is answered, behind it not even told.
        let wire = [&ping[..], &frame(Opcode::Close, true, b""), &ping].concat();
        assert_eq!(end.receive(&wire), [seen, Seen::Close(None)]);
        assert_eq!(end.sent(), [pong(b"hi")]);
        assert_eq!((end.receive(&ping), end.sent()), (vec![], vec![]));
    }
    run(server(&Config::default()), masked);
    run(client(&Config::default()), plain);
}

#[test]
fn pings_are_not_answered_once_the_connection_is_closed() {
    for bytes in [masked_close(1000, ""), masked(Opcode::Text, true, b"\xFF"), vec![0xFF; 9]] {
        let mut end = server(&Config::default());
        assert_eq!(end.receive(&bytes).len(), 1);
        end.written();
        let ping = masked(Opcode::Ping, true, b"hi");
        assert_eq!((end.receive(&ping), end.written()), (vec![], vec![]));
    }
}

/// RFC 6455 section 5.5.3: a pong that nobody asked for needs no answer.
#[test]
fn a_pong_is_told_and_not_answered() {
    let mut pair = Pair::new();
    pair.client.conn.pong(b"alive", &mut pair.client.output).unwrap();
    pair.server.conn.pong(&[7; 125], &mut pair.server.output).unwrap();
    let (client, server) = pair.carry();
    assert_eq!(client, [Seen::Pong(vec![7; 125])]);
    assert_eq!(server, [Seen::Pong(b"alive".to_vec())]);
}

#[test]
fn a_ping_comes_back_as_a_pong() {
    let mut pair = Pair::new();
    pair.client.conn.ping(b"up", &mut pair.client.output).unwrap();
    pair.server.conn.ping(b"", &mut pair.server.output).unwrap();
    let (client, server) = pair.carry();
    assert_eq!(client, [Seen::Ping(b"".to_vec()), Seen::Pong(b"up".to_vec())]);
    assert_eq!(server, [Seen::Ping(b"up".to_vec()), Seen::Pong(b"".to_vec())]);
}

#[test]
fn a_caller_cannot_send_a_control_frame_that_is_too_long() {
    fn run<R: Role>(End { mut conn, mut output, .. }: End<R>) {
        let payload = [b'x'; MAX_CONTROL_LEN + 1];
        assert_eq!(conn.ping(&payload, &mut output), Err(SendError::ControlTooLong));
        assert_eq!(conn.pong(&payload, &mut output), Err(SendError::ControlTooLong));
        assert!(output.is_empty());
        conn.ping(&payload[1..], &mut output).unwrap();
        conn.pong(&payload[1..], &mut output).unwrap();
        assert_eq!(output.len(), 2 * (MAX_CONTROL_LEN + if R::CLIENT { 6 } else { 2 }));
    }
    run(server(&Config::default()));
    run(client(&Config::default()));
}

/// RFC 6455 section 5.5: at most 125 bytes, not fragmented. The second byte tells; nothing is waited for.
#[test]
fn a_peers_bad_control_frame_fails_at_its_second_byte() {
    fn run<R: Role>(mut end: End<R>, first: u8, len: u8, error: Error) {
        let mask = if R::CLIENT { 0 } else { 0x80 };
        assert_eq!(end.receive(&[first]), []);
        assert_eq!(end.receive(&[mask | len]), [Seen::Fail(error)]);
        assert_eq!(end.sent_close(), Some((1002, error.to_string())));
    }
    for opcode in [0x8, 0x9, 0xA] {
        for (bits, len, error) in [
            (0x80, 126, Error::ControlTooLong),
            (0x80, 127, Error::ControlTooLong),
            (0x00, 0, Error::ControlFragmented),
            (0x00, 125, Error::ControlFragmented),
        ] {
            run(server(&Config::default()), bits | opcode, len, error);
            run(client(&Config::default()), bits | opcode, len, error);
        }
    }
}

/// A driver with a slow peer: it writes when the output is above the mark, and while the socket takes
/// nothing it keeps the rest of the input and reads no more. Returns what was written, the longest
/// output, and the number of pings seen.
fn drive(config: &Config, wire: &[u8], takes: impl Fn(usize) -> usize) -> (Vec<u8>, usize, usize) {
    let End { mut conn, mut output, now } = server(config);
    let high_water = conn.config().high_water;
    let (mut written, mut longest, mut pings, mut turn) = (Vec::new(), 0, 0, 0);
    let write = |output: &mut Output, written: &mut Vec<u8>, turn: usize| {
        let bytes: Vec<u8> = output.slices().flatten().copied().take(takes(turn)).collect();
        output.advance(bytes.len());
        written.extend(bytes);
    };
    for read in wire.chunks(4096) {
        let mut rest = read.to_vec();
        while !rest.is_empty() {
            turn += 1;
            let mut buffer = rest;
            let mut input = Input::new(&mut buffer, now);
            while output.len() <= high_water
                && let Some(event) = conn.next_event(&mut input, &mut output)
            {
                pings += usize::from(matches!(event, Event::Ping(_)));
                longest = longest.max(output.len());
            }
            rest = input.remaining().to_vec();
            write(&mut output, &mut written, turn);
        }
    }
    while !output.is_empty() {
        turn += 1;
        write(&mut output, &mut written, turn);
    }
    (written, longest, pings)
}

#[test]
fn a_flood_of_pings_is_bounded_by_the_high_water_mark() {
    let mut config = Config::default();
    config.high_water = 1000;
    let payload = |i: usize| [b"ping ".to_vec(), i.to_string().into_bytes(), vec![b'.'; i % 110]];
    let (mut wire, mut expected) = (Vec::new(), Vec::new());
    for i in 0..2000 {
        wire.extend(masked(Opcode::Ping, true, &payload(i).concat()));
        expected.extend(plain(Opcode::Pong, true, &payload(i).concat()));
    }
    // The socket takes a bit, or nothing for a long time.
    for takes in [|_| 300, |turn: usize| if turn.is_multiple_of(50) { 700 } else { 0 }] {
        let (written, longest, pings) = drive(&config, &wire, takes);
        assert!(written == expected, "every pong, in order");
        assert_eq!(pings, 2000);
        assert!(longest > 1000, "the flood did not reach the mark");
        assert!(longest <= 1000 + MAX_CONTROL_LEN + 2, "{longest}");
    }
}

/// What is left of an input when the driver stops can be handed over later, cut anywhere.
#[test]
fn decoding_can_stop_after_any_event() {
    let frames = [
        masked(Opcode::Ping, true, b"1"),
        masked(Opcode::Text, true, b"2"),
        masked(Opcode::Binary, false, b"3"),
        masked(Opcode::Ping, true, b"4"),
        masked(Opcode::Continuation, true, b"5"),
        masked(Opcode::Pong, true, b"6"),
    ];
    let mut end = server(&Config::default());
    let (mut rest, mut seen) = (frames.concat(), Vec::<Seen>::new());
    let mut lens = Vec::new();
    while !rest.is_empty() {
        let mut input = Input::new(&mut rest, end.now);
        seen.extend(end.conn.next_event(&mut input, &mut end.output).map(Seen::from));
        lens.push(input.len());
        rest = input.remaining().to_vec();
    }
    assert_eq!(lens, [35, 28, 14, 7, 0]);
    let expected = server(&Config::default()).receive(&frames.concat());
    assert_eq!((seen.len(), seen), (5, expected));
}

#[test]
fn pings_neither_disturb_nor_count_as_a_message() {
    let mut config = Config::default();
    config.max_frame_len = 1;
    config.max_message_len = 1;
    config.max_fragments = 1;
    let mut end = server(&config);
    let ping = masked(Opcode::Ping, true, &[0; 125]);
    let message = masked(Opcode::Binary, true, b"m");
    let wire = [&ping[..], &message, &ping, &ping, &message].concat();
    let seen = end.receive(&wire);
    assert_eq!(seen.iter().filter(|event| **event == Seen::Binary(b"m".into())).count(), 2);
    assert_eq!(seen.len(), 5);
}

/// A ping of our own, sent because time has passed, is an empty one.
#[test]
fn a_ping_that_is_due_is_sent_without_payload() {
    let mut end = client(&Config::default());
    assert_eq!(end.wait(Duration::from_secs(30)), None);
    assert_eq!(end.sent(), [(Opcode::Ping, true, vec![])]);
    end.send(Kind::Text, b"still open");
}
