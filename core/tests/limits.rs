//! The settings of an endpoint: each has an effect, and each limit lies where it says.

mod support;

use std::time::Duration;

use allocation_counter::measure;
use support::{End, MASK, Seen, client, masked, plain, server};
use wsforge_core::frame::Opcode;
use wsforge_core::{Config, Delivery, Error, Input, Role, Shutdown, Timestamp};

type Frame = fn(Opcode, bool, &[u8]) -> Vec<u8>;

fn with(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

/// A field's name, a change of it, and what shows the change: by default, and with it.
type Field = (&'static str, fn(&mut Config), fn(&Config) -> String, &'static str, &'static str);

/// What comes of `wire`.
fn seen(config: &Config, wire: &[u8]) -> String {
    format!("{:?}", server(config).receive(wire))
}

/// When the first thing happens that is due, in milliseconds.
fn first_due(config: &Config) -> String {
    format!("{:?}", server(config).conn.next_timeout().map(Timestamp::as_millis))
}

fn fields() -> Vec<Field> {
    vec![
        (
            "accept_long_lengths",
            |config| config.accept_long_lengths = true,
            |config| seen(config, &[0x82, 0xFE, 0, 1, 0, 0, 0, 0, 9]),
            "[Fail(LengthNotMinimal)]",
            "[Binary([9])]",
        ),
        (
            "close_timeout",
            |config| config.close_timeout = Duration::from_secs(1),
            |config| {
                let mut end = server(config);
                end.receive(&[0xFF; 2]);
                format!("{:?}", end.conn.next_timeout().map(Timestamp::as_millis))
            },
            "Some(5000)",
            "Some(1000)",
        ),
        (
            "delivery",
            |config| config.delivery = Delivery::Chunks,
            |config| seen(config, &masked(Opcode::Binary, true, &[9])),
            "[Binary([9])]",
            "[Chunk { kind: Binary, first: true, last: true, payload: [9] }]",
        ),
        (
            "high_water",
            |config| config.high_water = 100,
            |config| {
                // As a driver decodes: until there is enough to write.
                let End { mut conn, mut output, now } = server(config);
                let mut wire = masked(Opcode::Ping, true, &[0; 48]).repeat(10);
                let mut input = Input::new(&mut wire, now);
                while output.len() <= conn.config().high_water
                    && conn.next_event(&mut input, &mut output).is_some()
                {}
                format!("{} unsent, {} left", output.len(), input.len())
            },
            "500 unsent, 0 left",
            "150 unsent, 378 left",
        ),
        (
            "idle_timeout",
            |config| config.idle_timeout = Some(Duration::from_secs(2)),
            first_due,
            "Some(30000)",
            "Some(2000)",
        ),
        (
            "max_fragments",
            |config| config.max_fragments = 1,
            |config| {
                let last = masked(Opcode::Continuation, true, b"");
                seen(config, &[masked(Opcode::Binary, false, b""), last].concat())
            },
            "[Binary([])]",
            "[Fail(TooManyFragments)]",
        ),
        (
            "max_frame_len",
            |config| config.max_frame_len = 1,
            |config| seen(config, &masked(Opcode::Binary, true, &[9, 9])),
            "[Binary([9, 9])]",
            "[Fail(FrameTooLong)]",
        ),
        (
            "max_linger_len",
            |config| config.max_linger_len = 1,
            |config| {
                let mut end = server(config);
                end.receive(&[0xFF; 2]);
                end.receive(&[0]);
                format!("{:?}", end.conn.wants_shutdown())
            },
            "Some(Write)",
            "Some(Both)",
        ),
        (
            "max_message_len",
            |config| config.max_message_len = 1,
            |config| seen(config, &masked(Opcode::Binary, true, &[9, 9])),
            "[Binary([9, 9])]",
            "[Fail(MessageTooLong)]",
        ),
        (
            "ping_interval",
            |config| config.ping_interval = Some(Duration::from_secs(3)),
            first_due,
            "Some(30000)",
            "Some(3000)",
        ),
        (
            "pong_timeout",
            |config| config.pong_timeout = Duration::from_secs(1),
            |config| {
                let mut end = server(config);
                end.wait(Duration::from_secs(30));
                format!("{:?}", end.conn.next_timeout().map(Timestamp::as_millis))
            },
            "Some(50000)",
            "Some(31000)",
        ),
    ]
}

#[test]
fn every_setting_has_an_effect() {
    let debug = format!("{:#?}", Config::default());
    let names = debug.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("    ")?.split_once(':')?;
        name.chars().all(|c| c.is_ascii_alphabetic() || c == '_').then_some(name)
    });
    let fields = fields();
    assert!(names.eq(fields.iter().map(|(name, ..)| *name)), "a setting without a test: {debug}");
    for (name, change, shows, default, changed) in fields {
        assert_eq!(shows(&Config::default()), default, "{name}");
        assert_eq!(shows(&with(change)), changed, "{name}");
    }
}

#[test]
fn settings_that_are_off_are_off() {
    let config = with(|config| config.ping_interval = None);
    assert_eq!(first_due(&config), "None");
}

/// Runs `check` with a server and a client of the same settings.
macro_rules! both_ends {
    ($check:ident($config:expr, $($arg:expr),*)) => {
        $check(|| server(&$config), masked, $($arg),*);
        $check(|| client(&$config), plain, $($arg),*);
    };
}

/// Whether a message of `lens` comes through, in reads of several sizes.
fn comes_through<R: Role>(
    end: impl Fn() -> End<R>,
    frame: Frame,
    lens: &[usize],
    error: Option<(Error, u16)>,
) {
    let mut wire = Vec::new();
    for (i, len) in lens.iter().enumerate() {
        let opcode = if i == 0 { Opcode::Binary } else { Opcode::Continuation };
        wire.extend(frame(opcode, i + 1 == lens.len(), &vec![7; *len]));
    }
    for piece in [wire.len(), wire.len() - 1, wire.len() / 2 + 1, 1_400] {
        let mut end = end();
        let seen = end.receive_in(&wire, piece);
        let Some((error, code)) = error else {
            let len = lens.iter().sum();
            assert!(seen == [Seen::Binary(vec![7; len])], "{lens:?} in {piece}");
            continue;
        };
        assert_eq!(seen, [Seen::Fail(error)], "{lens:?} in {piece}");
        assert_eq!(end.sent_close(), Some((code, error.to_string())));
    }
}

#[test]
fn a_frame_may_be_as_long_as_the_limit() {
    for max in [0, 1, 125, 126, 65_534, 65_535, 65_536, 100_000] {
        let config = with(|config| config.max_frame_len = max as u64);
        let too_long = Some((Error::FrameTooLong, 1009));
        both_ends!(comes_through(config, &[max], None));
        both_ends!(comes_through(config, &[max + 1], too_long));
        both_ends!(comes_through(config, &[max, max, 0, max], None));
        both_ends!(comes_through(config, &[0, max + 1], too_long));
    }
}

#[test]
fn a_message_may_be_as_long_as_the_limit() {
    for max in [0, 1, 125, 126, 65_534, 65_535, 65_536, 100_000] {
        let config = with(|config| config.max_message_len = max as u64);
        let too_long = Some((Error::MessageTooLong, 1009));
        both_ends!(comes_through(config, &[max], None));
        both_ends!(comes_through(config, &[max + 1], too_long));
        both_ends!(comes_through(config, &[max / 3, max - max / 3, 0], None));
        both_ends!(comes_through(config, &[max / 3, max - max / 3, 1], too_long));
        both_ends!(comes_through(config, &[0, max + 1, 0], too_long));
    }
}

#[test]
fn a_message_may_have_as_many_fragments_as_the_limit() {
    for max in [1, 2, 3, 100] {
        let config = with(|config| config.max_fragments = max as u32);
        let too_many = Some((Error::TooManyFragments, 1008));
        for len in [0, 1, 200] {
            both_ends!(comes_through(config, &vec![len; max], None));
            both_ends!(comes_through(config, &vec![len; max + 1], too_many));
        }
    }
    let none = with(|config| config.max_fragments = 0);
    both_ends!(comes_through(none, &[5], Some((Error::TooManyFragments, 1008))));
}

#[test]
fn every_message_has_the_limits_for_itself() {
    let config = with(|config| {
        config.max_message_len = 10;
        config.max_fragments = 2;
    });
    for delivery in [Delivery::Messages, Delivery::Chunks] {
        let mut config = config.clone();
        config.delivery = delivery;
        let mut end = server(&config);
        for _ in 0..5 {
            let wire = [
                masked(Opcode::Text, false, b"12345"),
                masked(Opcode::Ping, true, &[0; 125]),
                masked(Opcode::Continuation, true, b"67890"),
                masked(Opcode::Binary, true, &[0; 10]),
            ];
            let seen = end.receive(&wire.concat());
            assert!(!seen.iter().any(|event| matches!(event, Seen::Fail(_))), "{seen:?}");
        }
        let wire =
            [masked(Opcode::Text, false, b"12345"), masked(Opcode::Continuation, true, b"67890!")];
        let seen = end.receive(&wire.concat());
        assert_eq!(seen.last(), Some(&Seen::Fail(Error::MessageTooLong)));
    }
}

/// A header, as a client sends it, whose payload never comes.
fn claim(first: u8, len: u64) -> Vec<u8> {
    let len = match len {
        0..=125 => vec![0x80 | len as u8],
        126..=0xFFFF => [&[0xFE], &len.to_be_bytes()[6..]].concat(),
        _ => [&[0xFF], &len.to_be_bytes()[..]].concat(),
    };
    [&[first], &len[..], &MASK].concat()
}

/// RFC 6455 section 5.2: the top bit of a 64-bit length is 0. What is claimed counts, before anything
/// of it has come, and no sum of claims runs over.
#[test]
fn claims_are_judged_by_the_header_alone() {
    const MAX: u64 = u64::MAX >> 1;
    let default = Config::default();
    let boundless = with(|config| {
        config.max_frame_len = u64::MAX;
        config.max_message_len = u64::MAX;
    });
    let short = with(|config| config.max_message_len = 100);
    let nearly = with(|config| {
        config.max_frame_len = u64::MAX;
        config.max_message_len = MAX;
    });
    let (frame, message) = (Some(Error::FrameTooLong), Some(Error::MessageTooLong));
    let begun = masked(Opcode::Binary, false, b"x");
    type Case<'a> = (&'a Config, &'a [u8], Vec<u8>, Option<Error>);
    let cases: [Case<'_>; 14] = [
        (&default, b"", claim(0x82, 16 << 20), None),
        (&default, b"", claim(0x82, (16 << 20) + 1), frame),
        (&default, b"", claim(0x01, MAX), frame),
        (&default, b"", claim(0x82, MAX + 1), frame),
        (&default, &begun, claim(0x80, u64::MAX), frame),
        (&boundless, b"", claim(0x82, MAX), None),
        (&boundless, b"", claim(0x82, MAX + 1), frame),
        (&boundless, &begun, claim(0x80, MAX), None),
        (&boundless, &begun, claim(0x80, u64::MAX), frame),
        (&nearly, b"", claim(0x82, MAX), None),
        (&nearly, &begun, claim(0x80, MAX), message),
        (&short, &begun, claim(0x00, 99), None),
        (&short, &begun, claim(0x00, 100), message),
        (&short, b"", claim(0x81, 101), message),
    ];
    for (config, before, claim, error) in cases {
        for delivery in [Delivery::Messages, Delivery::Chunks] {
            let mut config = config.clone();
            config.delivery = delivery;
            let mut end = server(&config);
            end.receive(before);
            let mut seen = Vec::new();
            let info = measure(|| seen = end.receive_in(&claim, 3));
            assert_eq!(seen, Vec::from_iter(error.map(Seen::Fail)), "{claim:x?}");
            assert!(info.bytes_max < 1_000, "{info:?}");
            if error.is_some() {
                assert_eq!(end.sent_close().unwrap().0, 1009);
            }
        }
    }
}

/// A message of 65,536 fragments is a fair one, and twice as many are not refused either.
#[test]
fn many_fragments_are_fine_and_endless_ones_are_not() {
    for payload in [&b""[..], b"x"] {
        let first = masked(Opcode::Text, false, payload);
        let more = masked(Opcode::Continuation, false, payload);
        let last = masked(Opcode::Continuation, true, payload);
        let fragments = |n: usize| [&first[..], &more.repeat(n - 1)].concat();

        for n in [65_536, 131_072] {
            let mut end = server(&Config::default());
            assert_eq!(end.receive_in(&fragments(n - 1), 4096), []);
            let Seen::Text(text) = &end.receive(&last)[0] else { panic!() };
            assert_eq!(text.len(), n * payload.len());
        }

        let mut end = server(&Config::default());
        let flood = fragments(131_072);
        let info = measure(|| assert_eq!(end.receive_in(&flood, 4096), []));
        // The test's own copy of the wire, and twice what has come.
        let most = flood.len() + 4 * 131_072 * payload.len() + 1_000;
        assert!(info.bytes_max <= most as u64, "{info:?}");
        assert_eq!(end.receive(&more[..6]), [Seen::Fail(Error::TooManyFragments)]);
        assert_eq!(end.sent_close().unwrap().0, 1008);
    }
}

/// What is dropped after the end is counted whole, not by what was read at once.
#[test]
fn lingering_ends_at_the_limit() {
    for (max, before, at) in [(1, 0, 1), (100, 99, 1), (100, 0, 5_000), (70_000, 69_999, 1)] {
        let mut end = server(&with(|config| config.max_linger_len = max));
        assert_eq!(end.receive(&[0xFF; 50]), [Seen::Fail(Error::ReservedBits)]);
        end.receive_in(&vec![0; before], 64);
        assert_eq!(end.conn.wants_shutdown(), Some(Shutdown::Write), "{max}");
        end.receive(&vec![0; at]);
        assert_eq!(end.conn.wants_shutdown(), Some(Shutdown::Both), "{max}");
    }
}

/// With nothing to linger for, a connection that failed is over at once, whatever the failure was and
/// however its bytes came.
#[test]
fn a_linger_limit_of_zero_ends_at_once() {
    let config = with(|config| config.max_linger_len = 0);
    let offences = [
        masked(Opcode::Text, true, b"\xFF"),
        masked(Opcode::Text, true, b"\xFF and more"),
        masked(Opcode::Close, true, b"x"),
        masked(Opcode::Continuation, true, b"x"),
        vec![0xFF; 2],
    ];
    for wire in offences {
        for piece in [1, usize::MAX] {
            let mut end = server(&config);
            assert!(matches!(end.receive_in(&wire, piece)[..], [Seen::Fail(_)]));
            assert_eq!(end.conn.wants_shutdown(), Some(Shutdown::Both), "{wire:x?} in {piece}");
        }
    }
}
