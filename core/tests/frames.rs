//! What frames and texts are refused, at which byte, and with which code.

mod support;

use support::{End, MASK, Seen, client, masked, plain, server, text};
use wsforge_core::frame::Opcode;
use wsforge_core::{Config, Delivery, Error, Role, mask};

type Frame = fn(Opcode, bool, &[u8]) -> Vec<u8>;

fn chunks() -> Config {
    let mut config = Config::default();
    config.delivery = Delivery::Chunks;
    config
}

/// RFC 6455 section 8.1. How much of each text is good is a fact of UTF-8 (RFC 3629).
const BAD_TEXTS: [(&[u8], usize); 9] = [
    (b"ab\xFFcd", 2),
    (b"a\x80bcd", 1),
    (b"\xC0\xAFabc", 0),
    (b"abc\xE0\x9F\xBF", 4),
    (b"\xED\xA0\x80abc", 1),
    (b"abcd\xF4\x90\x80\x80", 5),
    (b"\xF5\x80\x80\x80a", 0),
    (b"\xE6\xBC(abc", 2),
    (b"\xC3\xA9\xF0\x9D\x84x", 5),
];

#[test]
fn a_text_fails_at_its_first_bad_byte() {
    fn run<R: Role>(mut end: End<R>, frame: Frame, text: &[u8], good: usize) {
        // By octets of one long frame, whose end is far away.
        let mut long = frame(Opcode::Text, true, &[text, &[b'x'; 70_000]].concat());
        long.truncate(long.len() - 70_000);
        let at = long.len() - text.len() + good;
        assert_eq!(end.receive_in(&long[..at], 1), [], "{text:x?}");
        assert_eq!(end.receive(&long[at..=at]), [Seen::Fail(Error::BadUtf8)], "{text:x?}");
        assert_eq!(end.sent_close().unwrap().0, 1007);
        assert_eq!(end.receive(&long[at + 1..]), []);
        assert!(end.output.is_empty());
    }
    for (text, good) in BAD_TEXTS {
        run(server(&Config::default()), masked, text, good);
        run(client(&Config::default()), plain, text, good);
    }
}

#[test]
fn a_text_fails_in_the_fragment_that_is_bad() {
    fn run<R: Role>(mut end: End<R>, frame: Frame, text: &[u8], good: usize) {
        let (good, bad) = text.split_at(good);
        end.receive(&frame(Opcode::Text, false, good));
        assert!(end.output.is_empty(), "{text:x?}");
        let seen = end.receive(&frame(Opcode::Continuation, false, &bad[..1]));
        assert_eq!(seen, [Seen::Fail(Error::BadUtf8)], "{text:x?}");
        assert_eq!(end.sent_close().unwrap().0, 1007);
    }
    for (text, good) in BAD_TEXTS {
        for config in [Config::default(), chunks()] {
            run(server(&config), masked, text, good);
            run(client(&config), plain, text, good);
        }
        // Whole, there is only the failure.
        for config in [Config::default(), chunks()] {
            let seen = server(&config).receive(&masked(Opcode::Text, true, text));
            assert_eq!(seen, [Seen::Fail(Error::BadUtf8)], "{text:x?}");
        }
    }
    // A character that the message's end cuts.
    let mut end = server(&Config::default());
    let seen = end.receive(&masked(Opcode::Text, true, b"a\xE6\xBC"));
    assert_eq!(seen, [Seen::Fail(Error::BadUtf8)]);
    for end_with in [&b""[..], b"\xBC"] {
        let mut end = server(&Config::default());
        end.receive(&masked(Opcode::Text, false, b"a\xE6"));
        let last = masked(Opcode::Continuation, true, end_with);
        assert_eq!(end.receive(&last), [Seen::Fail(Error::BadUtf8)]);
    }
    // Binary messages and pings are free to say anything.
    let mut end = server(&Config::default());
    let wire = [masked(Opcode::Binary, true, b"\xFF"), masked(Opcode::Ping, true, b"\xC0")];
    assert_eq!(end.receive(&wire.concat()).len(), 2);
}

/// RFC 6455 sections 5.1, 5.2, 5.4 and 5.5: every first byte, masked and not, between messages and
/// inside one, to both ends.
#[test]
fn every_first_byte_is_judged() {
    fn run<R: Role>(mut end: End<R>, first: u8, masks: bool, inside: bool) {
        let frame: Frame = if R::CLIENT { plain } else { masked };
        if inside {
            end.receive(&frame(Opcode::Binary, false, b"begun"));
        }
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
        let mut wrong = Vec::new();
        if first & 0x70 != 0 {
            wrong.push(Error::ReservedBits);
        }
        match opcode {
            0x3..=0x7 | 0xB..=0xF => wrong.push(Error::BadOpcode),
            0x8..=0xA if !fin => wrong.push(Error::ControlFragmented),
            0x0 if !inside => wrong.push(Error::UnexpectedContinuation),
            0x1 | 0x2 if inside => wrong.push(Error::UnexpectedData),
            _ => {}
        }
        if masks == R::CLIENT {
            wrong.push(Error::WrongMasking);
        }
        let wire: &[u8] = if masks { &[first, 0x80, 1, 2, 3, 4] } else { &[first, 0] };
        let seen = end.receive(wire);
        if wrong.is_empty() {
            let expected = match (opcode, fin) {
                (0x0, true) => vec![Seen::Binary(b"begun".into())],
                (0x1, true) => vec![text("")],
                (0x2, true) => vec![Seen::Binary(vec![])],
                (0x8, _) => vec![Seen::Close(None)],
                (0x9, _) => vec![Seen::Ping(vec![])],
                (0xA, _) => vec![Seen::Pong(vec![])],
                _ => vec![],
            };
            return assert_eq!(seen, expected, "{first:x}");
        }
        let [Seen::Fail(error)] = seen[..] else { panic!("{first:x}: {seen:?}") };
        assert!(wrong.contains(&error), "{first:x}: {error:?}, not one of {wrong:?}");
        assert_eq!(end.sent_close(), Some((1002, error.to_string())), "{first:x}");
    }
    for first in 0..=u8::MAX {
        for (masks, inside) in [(false, false), (false, true), (true, false), (true, true)] {
            run(server(&Config::default()), first, masks, inside);
            run(client(&Config::default()), first, masks, inside);
        }
    }
}

/// RFC 6455 section 5.2: the minimal number of bytes must be used.
#[test]
fn lengths_must_be_in_their_shortest_form_unless_told_otherwise() {
    fn run<R: Role>(end: impl Fn(&Config) -> End<R>, len: u64, wide: bool) {
        let mut wire = vec![0x82, if wide { 127 } else { 126 }];
        let bytes = len.to_be_bytes();
        wire.extend(if wide { &bytes[..] } else { &bytes[6..] });
        let mut body = vec![b'x'; len as usize];
        if R::CLIENT {
            wire.extend(&body);
        } else {
            wire[1] |= 0x80;
            mask::apply(&mut body, MASK);
            wire.extend([&MASK[..], &body].concat());
            mask::apply(&mut body, MASK);
        }
        for piece in [usize::MAX, 997, 3] {
            let mut strict = end(&Config::default());
            let seen = strict.receive_in(&wire, piece);
            assert_eq!(seen, [Seen::Fail(Error::LengthNotMinimal)], "{len}");
            assert_eq!(strict.sent_close().unwrap().0, 1002);

            let mut config = Config::default();
            config.accept_long_lengths = true;
            let seen = end(&config).receive_in(&wire, piece);
            assert!(seen == [Seen::Binary(body.clone())], "{len}");
        }
    }
    let cases = [(0, false), (1, false), (125, false), (0, true), (126, true), (65_535, true)];
    for (len, wide) in cases {
        run(server, len, wide);
        run(client, len, wide);
    }
}

/// The lenient switch is for data: a control frame cannot need a longer form (RFC 6455 section 5.5).
#[test]
fn a_control_frame_has_one_form_of_length_only() {
    for (lenient, len) in [(false, 126), (true, 126), (false, 127), (true, 127)] {
        let mut config = Config::default();
        config.accept_long_lengths = lenient;
        let mut end = server(&config);
        let wire = [&[0x89, 0x80 | len, 0, 0, 0, 0, 0, 0, 0, 5][..], &MASK, b"hello"].concat();
        assert_eq!(end.receive_in(&wire, 1), [Seen::Fail(Error::ControlTooLong)]);
    }
}
