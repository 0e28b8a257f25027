//! What stays in an input that grows, and what does not.

mod support;

use std::time::Duration;

use bytes::BytesMut;
use support::{End, client, masked, plain, server};
use wsforge_core::frame::Opcode;
use wsforge_core::{CloseCode, Config, Delivery, Error, Event, Input, Role};

const ROOM: usize = 100_000;

/// Hands over `bytes`, and returns how many stay, and the error if there is one. A message or a ping
/// before that must not be.
fn left<R: Role>(end: &mut End<R>, bytes: &[u8], room: usize) -> (usize, Option<Error>) {
    let mut bytes = bytes.to_vec();
    let mut input = Input::growing(&mut bytes, room, end.now);
    let failed = match end.conn.next_event(&mut input, &mut end.output) {
        Some(Event::Fail(error)) => Some(error),
        event => {
            assert!(event.is_none(), "{event:?}");
            None
        }
    };
    (input.len(), failed)
}

#[test]
fn a_cut_message_stays_wherever_it_is_cut() {
    for len in [3, 125, 126, 5000, 70_000] {
        for opcode in [Opcode::Binary, Opcode::Text] {
            let frame = masked(opcode, true, &vec![b'a'; len]);
            for cut in (1..frame.len()).filter(|cut| *cut < 20 || cut + 3 > frame.len()) {
                let stays = left(&mut server(&Config::default()), &frame[..cut], frame.len());
                assert_eq!(stays, (cut, None), "{cut} of {len}");
            }
            let frame = plain(opcode, true, &vec![b'a'; len]);
            for cut in (1..frame.len()).filter(|cut| *cut < 20 || cut + 3 > frame.len()) {
                let stays = left(&mut client(&Config::default()), &frame[..cut], frame.len());
                assert_eq!(stays, (cut, None), "{cut} of {len}");
            }
        }
    }
}

#[test]
fn what_there_is_no_room_for_is_kept_by_the_connection() {
    let frame = masked(Opcode::Binary, true, &[7; 5000]);
    for (cut, room) in [(1000, frame.len() - 1), (1000, 1000), (1000, 0), (3, 3), (3, 2), (3, 0)] {
        assert_eq!(left(&mut server(&Config::default()), &frame[..cut], room), (0, None), "{room}");
    }
    // The first bytes of a header, while there is room for any more.
    assert_eq!(left(&mut server(&Config::default()), &frame[..3], 4), (3, None));
}

#[test]
fn nothing_but_a_message_in_one_frame_stays() {
    let short = |frame: Vec<u8>| frame[..frame.len() - 1].to_vec();
    for bytes in [
        short(masked(Opcode::Ping, true, b"ping")),
        short(masked(Opcode::Close, true, b"\x03\xE8")),
        short(masked(Opcode::Text, false, b"fragment")),
    ] {
        assert_eq!(left(&mut server(&Config::default()), &bytes, ROOM), (0, None), "{bytes:?}");
    }

    // Inside a fragmented message: its last frame, its payload that looks like a frame, and a header.
    let mut end = server(&Config::default());
    assert_eq!(left(&mut end, &masked(Opcode::Text, false, b"a"), ROOM), (0, None));
    assert_eq!(left(&mut end, &short(masked(Opcode::Continuation, true, b"bcd")), ROOM), (0, None));
    let mut end = server(&Config::default());
    let inner = masked(Opcode::Binary, true, &[7; 100]);
    let outer = masked(Opcode::Binary, false, &[&[0; 9], &inner[..]].concat());
    assert_eq!(left(&mut end, &outer[..15], 0), (0, None));
    assert_eq!(left(&mut end, &inner[..50], ROOM), (0, None));

    let mut chunks = Config::default();
    chunks.delivery = Delivery::Chunks;
    let head = &masked(Opcode::Text, true, b"message")[..6];
    assert_eq!(left(&mut server(&chunks), head, ROOM), (0, None));
}

#[test]
fn what_is_wrong_with_a_header_is_found_at_once() {
    let long = |opcode: u8| [opcode, 0xFE, 0x10, 0, 1, 2, 3, 4, 9];
    let minimal = [0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0x10, 0, 1, 2, 3, 4, 9];
    let mut config = Config::default();
    config.max_frame_len = 4096;
    let at_once = |config: &Config, bytes: &[u8], error| {
        assert_eq!(left(&mut server(config), bytes, ROOM), (0, Some(error)), "{bytes:X?}");
    };
    at_once(&config, &long(0xC2), Error::ReservedBits);
    at_once(&config, &long(0x80), Error::UnexpectedContinuation);
    at_once(&config, &minimal, Error::LengthNotMinimal);
    at_once(&config, &plain(Opcode::Binary, true, &[0; 200])[..9], Error::WrongMasking);
    at_once(&config, &[0x82, 0xFE, 0x10, 1, 1, 2, 3, 4], Error::FrameTooLong);
    // At the limit, and with leave to be long.
    config.accept_long_lengths = true;
    assert_eq!(left(&mut server(&config), &long(0x82), ROOM), (9, None));
    assert_eq!(left(&mut server(&config), &minimal, ROOM), (15, None));
    config.max_message_len = 4095;
    at_once(&config, &long(0x82), Error::MessageTooLong);
}

/// Pauses, pings, limits and our own Close make no difference.
#[test]
fn a_message_stays_whatever_else_goes_on() {
    let frame = masked(Opcode::Binary, true, &[7; 5000]);
    let mut config = Config::default();
    config.max_message_len = 5000;
    let mut end = server(&config);
    assert_eq!(left(&mut end, &frame[..100], ROOM), (100, None));
    end.conn.pause(end.now);
    end.conn.resume(end.now);
    assert_eq!(left(&mut end, &frame[..100], ROOM), (100, None));
    assert_eq!(end.wait(Duration::from_secs(3600)), None);
    assert!(!end.written().is_empty(), "a ping");
    assert_eq!(left(&mut end, &frame[..100], ROOM), (100, None));
    end.close(CloseCode::NORMAL, "");
    assert_eq!(left(&mut end, &frame[..100], ROOM), (100, None));
    assert!(end.eof().is_some());
    assert_eq!(left(&mut end, &frame[..100], ROOM), (0, None));
}

/// What arrives is heard at the time that is told, lent or owned.
#[test]
fn owned_events_are_heard_in_time() {
    let (mut lent, mut owned) = (server(&Config::default()), server(&Config::default()));
    let frame = masked(Opcode::Pong, true, b"");
    lent.pass(Duration::from_secs(7));
    lent.receive(&frame);
    let mut input = BytesMut::from(&frame[..]);
    assert!(owned.conn.next_owned(&mut input, 0, lent.now, &mut owned.output).is_some());
    let due = lent.conn.next_timeout().unwrap();
    for end in [&mut lent, &mut owned] {
        assert!(end.conn.handle_timeout(due, &mut end.output).is_none());
    }
    assert_eq!(owned.conn.next_timeout(), lent.conn.next_timeout());
    assert_eq!(owned.written(), lent.written());
}
