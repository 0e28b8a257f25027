//! What the Autobahn test suite asks of an echoing peer (cases 1 to 7, 9 and 10), as a table, for both
//! ends. Each case is run with its bytes cut in several ways, so cases of the suite that differ only
//! in that share a row. Section 9 is kept small: it is about speed.

mod support;

use std::ops::Range;

use support::{End, Seen, client, masked, plain, server};
use wsforge_core::frame::Opcode;
use wsforge_core::{
    CloseCode, Config, Error, Event, Initiator, Input, Outcome, Role, Shutdown, State,
};

// First bytes of frames.
const TEXT: u8 = 0x81;
const TEXT_BEGINS: u8 = 0x01;
const BINARY: u8 = 0x82;
const BINARY_BEGINS: u8 = 0x02;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
const RSV1: u8 = 0x40;
const RSV2: u8 = 0x20;
const RSV3: u8 = 0x10;

const HELLO: &str = "Hello, world!";
/// Greek, eleven bytes.
const KOSME: &[u8] = "κ\u{1F79}σμε".as_bytes();

/// What the tester does.
enum Put {
    /// Sends a frame, given by its first byte and its payload.
    Frame(u8, Vec<u8>),
    /// Sends a part of a frame's payload, the first with the header.
    Part(u8, Vec<u8>, Range<usize>),
    /// Sees that nothing has gone wrong so far.
    StillOpen,
    /// Sees that the connection has been failed by now, without waiting for what follows.
    AlreadyFailed,
}

/// How it ends.
#[derive(Clone, Copy)]
enum Then {
    /// The connection is still good: the tester closes it with 1000.
    Open,
    /// The tester's Close is answered in kind.
    Closed(Option<u16>),
    Failed(u16, Error),
}

struct Case {
    id: String,
    puts: Vec<Put>,
    /// The frames that come back, all final, but for the Close.
    answers: Vec<(Opcode, Vec<u8>)>,
    then: Then,
}

fn case<const N: usize, const M: usize>(
    id: &str,
    puts: [Put; N],
    answers: [(Opcode, Vec<u8>); M],
    then: Then,
) -> Case {
    Case { id: id.into(), puts: puts.into(), answers: answers.into(), then }
}

fn f(first: u8, payload: impl AsRef<[u8]>) -> Put {
    Put::Frame(first, payload.as_ref().to_vec())
}

fn text(payload: impl AsRef<[u8]>) -> (Opcode, Vec<u8>) {
    (Opcode::Text, payload.as_ref().to_vec())
}

fn binary(payload: impl AsRef<[u8]>) -> (Opcode, Vec<u8>) {
    (Opcode::Binary, payload.as_ref().to_vec())
}

fn pong(payload: impl AsRef<[u8]>) -> (Opcode, Vec<u8>) {
    (Opcode::Pong, payload.as_ref().to_vec())
}

fn fragments(begins: u8, payload: &[u8], len: usize) -> Vec<Put> {
    let mut puts: Vec<Put> = payload.chunks(len).map(|piece| f(MORE, piece)).collect();
    if let Some(Put::Frame(first, _)) = puts.last_mut() {
        *first = LAST;
    }
    if let Some(Put::Frame(first, _)) = puts.first_mut() {
        *first |= begins;
    }
    puts
}

type Frame = fn(Opcode, bool, &[u8]) -> Vec<u8>;

impl Put {
    fn bytes(&self, frame: Frame) -> Vec<u8> {
        let (first, payload, part) = match self {
            Self::Frame(first, payload) => (first, payload, 0..payload.len()),
            Self::Part(first, payload, part) => (first, payload, part.clone()),
            Self::StillOpen | Self::AlreadyFailed => return Vec::new(),
        };
        let mut bytes = frame(Opcode::Binary, true, payload);
        bytes[0] = *first;
        let head = bytes.len() - payload.len();
        let start = if part.start == 0 { 0 } else { head + part.start };
        bytes[start..head + part.end].to_vec()
    }
}

/// Feeds `bytes` in reads of `chop` bytes and echoes what comes.
fn echo<R: Role>(end: &mut End<R>, bytes: &mut Vec<u8>, chop: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    for piece in bytes.chunks_mut(chop) {
        let mut input = Input::new(piece, end.now);
        while let Some(event) = end.conn.next_event(&mut input, &mut end.output) {
            if let Event::Message(message) = &event {
                end.conn.send(message.kind(), message.as_bytes(), &mut end.output).unwrap();
            }
            seen.push(event.into());
        }
    }
    bytes.clear();
    seen
}

/// Reads of one frame each.
const BY_FRAME: usize = 0;

fn run<R: Role>(case: &Case, mut end: End<R>, frame: Frame, chop: usize) {
    let id = format!("{} in reads of {chop}", case.id);
    let (mut bytes, mut seen) = (Vec::new(), Vec::new());
    for put in &case.puts {
        bytes.extend(put.bytes(frame));
        match put {
            Put::Frame(..) | Put::Part(..) if chop != BY_FRAME => {}
            Put::Frame(..) | Put::Part(..) => seen.extend(echo(&mut end, &mut bytes, usize::MAX)),
            Put::StillOpen => {
                seen.extend(echo(&mut end, &mut bytes, chop.max(1)));
                assert_eq!((end.conn.state(), end.conn.outcome()), (State::Open, None), "{id}");
            }
            Put::AlreadyFailed => {
                seen.extend(echo(&mut end, &mut bytes, chop.max(1)));
                assert!(matches!(seen.last(), Some(Seen::Fail(_))), "{id}: {seen:?}");
            }
        }
    }
    let code = match case.then {
        Then::Open => {
            bytes.extend(f(CLOSE, 1000u16.to_be_bytes()).bytes(frame));
            Some(1000)
        }
        Then::Closed(code) => code,
        Then::Failed(code, _) => Some(code),
    };
    seen.extend(echo(&mut end, &mut bytes, chop.max(1)));

    let mut sent = end.sent();
    let (opcode, fin, mut close) = sent.pop().expect("a Close");
    let answers: Vec<_> = case.answers.iter().map(|(op, body)| (*op, true, body.clone())).collect();
    assert!(sent == answers, "{id}: {} frames", sent.len());
    assert_eq!((opcode, fin), (Opcode::Close, true), "{id}");
    let outcome = if let Then::Failed(_, error) = case.then {
        close.truncate(2);
        assert_eq!(seen.pop(), Some(Seen::Fail(error)), "{id}");
        assert_eq!(end.conn.wants_shutdown(), Some(Shutdown::Write), "{id}");
        Outcome::Failed(error)
    } else {
        assert!(matches!(seen.pop(), Some(Seen::Close(_))), "{id}");
        assert_eq!(end.conn.wants_shutdown().is_none(), R::CLIENT, "{id}");
        Outcome::Closed { code: code.and_then(CloseCode::new), initiator: Initiator::Peer }
    };
    assert_eq!(close, code.map_or(vec![], |code| code.to_be_bytes().to_vec()), "{id}");
    assert!(!seen.iter().any(|event| matches!(event, Seen::Close(_) | Seen::Fail(_))), "{id}");
    assert_eq!((end.conn.state(), end.conn.outcome()), (State::Closed, Some(outcome)), "{id}");
    assert_eq!((end.eof(), end.conn.wants_shutdown()), (None, Some(Shutdown::Both)), "{id}");
}

fn run_all(cases: impl IntoIterator<Item = Case>) {
    let config = Config::default();
    for case in cases {
        let len: usize = case.puts.iter().map(|put| put.bytes(plain).len()).sum();
        let chops: &[usize] =
            if len < 4096 { &[1, 7, BY_FRAME, usize::MAX] } else { &[997, BY_FRAME, usize::MAX] };
        for chop in chops {
            run(&case, server(&config), masked, *chop);
            run(&case, client(&config), plain, *chop);
        }
    }
}

#[test]
fn section_1_echoes_messages_of_all_lengths() {
    let lens = [0, 125, 126, 127, 128, 65_535, 65_536, 65_536];
    run_all((1..).zip(lens).flat_map(|(i, len)| {
        let (stars, bytes) = (vec![b'*'; len], vec![0xFE; len]);
        [
            case(&format!("1.1.{i}"), [f(TEXT, &stars)], [text(&stars)], Then::Open),
            case(&format!("1.2.{i}"), [f(BINARY, &bytes)], [binary(&bytes)], Then::Open),
        ]
    }));
}

#[test]
fn section_2_answers_pings_and_takes_pongs() {
    let bytes = b"\x00\xFF\xFE\xFD\xFC\xFB\x00\xFF";
    let long = [0xFE; 125];
    let ten = || (0..10).map(|i| format!("payload-{i}"));
    run_all([
        case("2.1", [f(PING, "")], [pong("")], Then::Open),
        case("2.2", [f(PING, HELLO)], [pong(HELLO)], Then::Open),
        case("2.3", [f(PING, bytes)], [pong(bytes)], Then::Open),
        case("2.4 2.6", [f(PING, long)], [pong(long)], Then::Open),
        case("2.5", [f(PING, [0xFE; 126])], [], Then::Failed(1002, Error::ControlTooLong)),
        case("2.7", [f(PONG, "")], [], Then::Open),
        case("2.8", [f(PONG, "unsolicited")], [], Then::Open),
        case("2.9", [f(PONG, "unsolicited"), f(PING, "ping")], [pong("ping")], Then::Open),
        Case {
            id: "2.10 2.11".into(),
            puts: ten().map(|payload| f(PING, payload)).collect(),
            answers: ten().map(pong).collect(),
            then: Then::Open,
        },
    ]);
}

#[test]
fn section_3_refuses_reserved_bits() {
    let then = Then::Failed(1002, Error::ReservedBits);
    let after_hello = |id, rsv| {
        case(id, [f(TEXT, HELLO), f(TEXT | rsv, HELLO), f(PING, "")], [text(HELLO)], then)
    };
    run_all([
        case("3.1", [f(TEXT | RSV3, HELLO)], [], then),
        after_hello("3.2", RSV2),
        after_hello("3.3", RSV2 | RSV3),
        after_hello("3.4", RSV1),
        case("3.5", [f(BINARY | RSV1 | RSV3, b"\x00\xFF\xFE\xFD\xFC\xFB\x00\xFF")], [], then),
        case("3.6", [f(PING | RSV1 | RSV2, HELLO)], [], then),
        case("3.7", [f(CLOSE | RSV1 | RSV2 | RSV3, "")], [], then),
    ]);
}

#[test]
fn section_4_refuses_reserved_opcodes() {
    let then = Then::Failed(1002, Error::BadOpcode);
    let payloads = ["", "reserved opcode payload", "", HELLO, HELLO];
    let groups = [("4.1", 0x80 | 3), ("4.2", 0x80 | 11)];
    run_all(groups.into_iter().flat_map(|(group, opcode)| {
        (0..).zip(payloads).map(move |(i, payload)| {
            let (id, reserved) = (format!("{group}.{}", i + 1), f(opcode + i, payload));
            if i < 2 {
                case(&id, [reserved], [], then)
            } else {
                case(&id, [f(TEXT, HELLO), reserved, f(PING, "")], [text(HELLO)], then)
            }
        })
    }));
}

#[test]
fn section_5_puts_fragments_together() {
    let nothing_to_continue = Then::Failed(1002, Error::UnexpectedContinuation);
    let in_pieces = Then::Failed(1002, Error::ControlFragmented);
    let (one, two, both) = ("fragment1", "fragment2", "fragment1fragment2");
    let stray = |id, first| {
        case(id, [f(first, "nothing to continue"), f(TEXT, HELLO)], [], nothing_to_continue)
    };
    let stray_twice = |id, first| {
        let round = || [f(first, one), f(TEXT_BEGINS, two), f(LAST, "fragment3")];
        Case {
            id: String::from(id),
            puts: [round(), round()].into_iter().flatten().collect(),
            answers: vec![],
            then: nothing_to_continue,
        }
    };
    run_all([
        case("5.1", [f(0x09, one), f(LAST, two)], [], in_pieces),
        case("5.2", [f(0x0A, one), f(LAST, two)], [], in_pieces),
        case("5.3-5.5", [f(TEXT_BEGINS, one), f(LAST, two)], [text(both)], Then::Open),
        case(
            "5.6-5.8",
            [f(TEXT_BEGINS, one), f(PING, "ping"), f(LAST, two)],
            [pong("ping"), text(both)],
            Then::Open,
        ),
        stray("5.9-5.11", LAST),
        stray("5.12-5.14", MORE),
        case(
            "5.15",
            [f(TEXT_BEGINS, one), f(LAST, two), f(MORE, "fragment3"), f(TEXT, "fragment4")],
            [text(both)],
            nothing_to_continue,
        ),
        stray_twice("5.16", MORE),
        stray_twice("5.17", LAST),
        case(
            "5.18",
            [f(TEXT_BEGINS, one), f(TEXT, two)],
            [],
            Then::Failed(1002, Error::UnexpectedData),
        ),
        case(
            "5.19 5.20",
            [
                f(TEXT_BEGINS, "a"),
                f(MORE, "b"),
                f(PING, "first"),
                Put::StillOpen,
                f(MORE, "c"),
                f(MORE, "d"),
                f(PING, "second"),
                f(LAST, "e"),
            ],
            [pong("first"), pong("second"), text("abcde")],
            Then::Open,
        ),
    ]);
}

#[test]
fn section_6_handles_text_in_pieces() {
    let greeting = "Hello-µ@ßöäüàá-UTF-8!!";
    let (before, behind) = greeting.split_at(greeting.find('ü').unwrap());
    let not_utf8 = Then::Failed(1007, Error::BadUtf8);
    let surrogate = [KOSME, b"\xED\xA0\x80edited"].concat();
    // The thirteenth byte makes it a character beyond the last one.
    let beyond = [KOSME, b"\xF4\x90\x80\x80edited"].concat();
    let fails_early = |id, cut: Range<usize>| {
        let [a, b, c] = [0..cut.start, cut.clone(), cut.end..beyond.len()].map(|r| &beyond[r]);
        let puts = [f(TEXT_BEGINS, a), Put::StillOpen, f(MORE, b), Put::AlreadyFailed, f(LAST, c)];
        case(id, puts, [], not_utf8)
    };
    let fails_early_in_a_frame = |id, cut: Range<usize>| {
        let part = |range| Put::Part(TEXT, beyond.clone(), range);
        let (a, b, c) = (0..cut.start, cut.clone(), cut.end..beyond.len());
        let puts = [part(a), Put::StillOpen, part(b), Put::AlreadyFailed, part(c)];
        case(id, puts, [], not_utf8)
    };
    let by_byte = |id, payload: &[u8], then| Case {
        id: String::from(id),
        puts: fragments(TEXT_BEGINS, payload, 1),
        answers: if matches!(then, Then::Open) { vec![text(payload)] } else { vec![] },
        then,
    };
    let middle = "middle frame payload";
    run_all([
        case("6.1.1", [f(TEXT, "")], [text("")], Then::Open),
        case("6.1.2", [f(TEXT_BEGINS, ""), f(MORE, ""), f(LAST, "")], [text("")], Then::Open),
        case(
            "6.1.3",
            [f(TEXT_BEGINS, ""), f(MORE, middle), f(LAST, "")],
            [text(middle)],
            Then::Open,
        ),
        case("6.2.1", [f(TEXT, greeting)], [text(greeting)], Then::Open),
        case("6.2.2", [f(TEXT_BEGINS, before), f(LAST, behind)], [text(greeting)], Then::Open),
        by_byte("6.2.3", greeting.as_bytes(), Then::Open),
        by_byte("6.2.4", KOSME, Then::Open),
        case("6.3.1", [f(TEXT, &surrogate)], [], not_utf8),
        by_byte("6.3.2", &surrogate, not_utf8),
        fails_early("6.4.1", 11..15),
        fails_early("6.4.2", 12..13),
        fails_early_in_a_frame("6.4.3", 11..15),
        fails_early_in_a_frame("6.4.4", 12..13),
    ]);
}

/// Texts in hexadecimal, separated by blanks.
fn texts(hex: &str) -> Vec<Vec<u8>> {
    let byte = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap();
    hex.split_whitespace().map(|hex| hex.as_bytes().chunks(2).map(byte).collect()).collect()
}

#[test]
fn section_6_tells_utf8_from_what_is_not() {
    let hello = ['\u{24}', '\u{A2}', '\u{20AC}', '\u{24B62}']
        .map(|c| format!("hello{c}world").into_bytes())
        .to_vec();
    let (whole, cut): (Vec<_>, _) = (1..=KOSME.len())
        .map(|len| KOSME[..len].to_vec())
        .partition(|prefix| str::from_utf8(prefix).is_ok());
    assert_eq!((whole.len(), cut.len()), (5, 6));
    let all_continuations = vec![(0x80..0xBF).collect()];
    let lone_starts = [0xC0..0xDF, 0xE0..0xEF, 0xF0..0xF7, 0xF8..0xFB, 0xFC..0xFDu8]
        .map(|starts| starts.flat_map(|start| [start, b' ']).collect())
        .to_vec();
    let cut_short = "C0 E080 F08080 F8808080 FC80808080 DF EFBF F7BFBF FBBFBFBF FDBFBFBFBF";
    let surrogates = "EDA080 EDADBF EDAE80 EDAFBF EDB080 EDBE80 EDBFBF";
    let surrogate = texts(surrogates);
    let pairs = surrogate[..4]
        .iter()
        .flat_map(|high| [4, 6].map(|low: usize| [&high[..], &surrogate[low]].concat()))
        .collect();
    // The last two of each plane are no characters, but UTF-8 all the same.
    let ends_of_planes = (0..=16u32)
        .flat_map(|plane| [0xFFFE, 0xFFFF].map(|c| char::from_u32(plane << 16 | c).unwrap()))
        .map(|c| c.to_string().into_bytes())
        .collect();

    // By group: what is UTF-8, then what is not.
    let groups = [
        ("6.5", hello, vec![]),
        ("6.5 6.6", whole, cut),
        ("6.7", texts("00 C280 E0A080 F0908080"), vec![]),
        ("6.8", vec![], texts("F888808080 FC8480808080")),
        ("6.9", texts("7F DFBF EFBFBF F48FBFBF"), vec![]),
        ("6.10", vec![], texts("F7BFBFBF FBBFBFBFBF FDBFBFBFBFBF")),
        ("6.11", texts("ED9FBF EE8080 EFBFBD F48FBFBF"), texts("F4908080")),
        ("6.12", vec![], texts("80 BF 80BF 80BF80 80BF80BF 80BF80BF80 80BF80BF80BF")),
        ("6.12.8", vec![], all_continuations),
        ("6.13", vec![], lone_starts),
        ("6.14", vec![], texts(cut_short)),
        ("6.15", vec![], vec![texts(cut_short).concat()]),
        ("6.16", vec![], texts("FE FF FEFEFFFF")),
        ("6.17", vec![], texts("C0AF E080AF F08080AF F8808080AF FC80808080AF")),
        ("6.18", vec![], texts("C1BF E09FBF F08FBFBF F887BFBFBF FC83BFBFBFBF")),
        ("6.19", vec![], texts("C080 E08080 F0808080 F880808080 FC8080808080")),
        ("6.20", vec![], texts(surrogates)),
        ("6.21", vec![], pairs),
        ("6.22", ends_of_planes, vec![]),
        ("6.23", texts("EFBFB9 EFBFBA EFBFBB EFBFBC EFBFBD EFBFBE EFBFBF"), vec![]),
    ];
    let mut count = 0;
    for (id, good, bad) in groups {
        count += good.len() + bad.len();
        run_all(good.iter().map(|p| case(id, [f(TEXT, p)], [text(p)], Then::Open)));
        let then = Then::Failed(1007, Error::BadUtf8);
        run_all(bad.iter().map(|p| case(id, [f(TEXT, p)], [], then)));
    }
    // The suite has the first group's last text twice.
    assert_eq!(count + 1, 132);
}

#[test]
fn section_7_closes() {
    let close = |code: u16, reason: &[u8]| f(CLOSE, [&code.to_be_bytes(), reason].concat());
    let normal = Then::Closed(Some(1000));
    let bad = Then::Failed(1002, Error::BadClose);
    let bad_reason = [KOSME, b"\xED\xA0\x80edited"].concat();
    let long: Vec<u8> = b"BAsd7&jh23".iter().copied().cycle().take(256 * 1024).collect();
    let hello = "Hello World!";
    run_all([
        case("7.1.1", [f(TEXT, hello)], [text(hello)], Then::Open),
        case("7.1.2", [close(1000, b""), f(CLOSE, "")], [], normal),
        case("7.1.3", [close(1000, b""), f(PING, "")], [], normal),
        case("7.1.4", [close(1000, b""), f(TEXT, hello)], [], normal),
        case("7.1.5", [f(TEXT_BEGINS, "a"), close(1000, b""), f(LAST, "b")], [], normal),
        case(
            "7.1.6",
            [f(TEXT, &long), f(TEXT, hello), close(1000, b""), f(PING, "")],
            [text(&long), text(hello)],
            normal,
        ),
        case("7.3.1", [f(CLOSE, "")], [], Then::Closed(None)),
        case("7.3.2", [f(CLOSE, "a")], [], bad),
        case("7.3.3", [close(1000, b"")], [], normal),
        case("7.3.4", [close(1000, hello.as_bytes())], [], normal),
        case("7.3.5", [close(1000, &[b'*'; 123])], [], normal),
        case("7.3.6", [close(1000, &[b'*'; 124])], [], Then::Failed(1002, Error::ControlTooLong)),
        case("7.5.1", [close(1000, &bad_reason)], [], Then::Failed(1007, Error::BadUtf8)),
        case("7.13.1", [close(5000, b"")], [], bad),
        case("7.13.2", [close(65_535, b"")], [], bad),
    ]);
    let good_codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
    run_all(good_codes.map(|code| case("7.7", [close(code, b"")], [], Then::Closed(Some(code)))));
    let bad_codes = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];
    run_all(bad_codes.map(|code| case("7.9", [close(code, b"")], [], bad)));
}

#[test]
fn section_9_and_10_echo_large_and_many_messages() {
    let cycle = |pattern: &[u8], len| pattern.iter().copied().cycle().take(len).collect::<Vec<_>>();
    for len in [64 * 1024, 256 * 1024, 1024 * 1024] {
        let (long, bytes) = (cycle(b"BAsd7&jh23", len), cycle(b"\x00\xFE\x23\xFA\xF0", len));
        run_all([
            case("9.1 9.5", [f(TEXT, &long)], [text(&long)], Then::Open),
            case("9.2 9.6", [f(BINARY, &bytes)], [binary(&bytes)], Then::Open),
        ]);
    }
    for len in [64, 256, 1024, 4096, 16 * 1024, 64 * 1024, 128 * 1024] {
        let (stars, bytes) = ([b'*'; 128 * 1024], [0xFE; 128 * 1024]);
        let case = |id, puts, answer| Case {
            id: String::from(id),
            puts,
            answers: vec![answer],
            then: Then::Open,
        };
        run_all([
            case("9.3", fragments(TEXT_BEGINS, &stars, len), text(stars)),
            case("9.4", fragments(BINARY_BEGINS, &bytes, len), binary(bytes)),
        ]);
    }
    for len in [0, 16, 64, 256, 1024, 4096] {
        let (stars, bytes) = (vec![b'*'; len], vec![0xFE; len]);
        run_all([
            Case {
                id: "9.7".into(),
                puts: (0..30).map(|_| f(TEXT, &stars)).collect(),
                answers: vec![text(&stars); 30],
                then: Then::Open,
            },
            Case {
                id: "9.8".into(),
                puts: (0..30).map(|_| f(BINARY, &bytes)).collect(),
                answers: vec![binary(&bytes); 30],
                then: Then::Open,
            },
        ]);
    }
    let stars = [b'*'; 65_536];
    run_all([Case {
        id: "10.1.1".into(),
        puts: fragments(TEXT_BEGINS, &stars, 1300),
        answers: vec![text(stars)],
        then: Then::Open,
    }]);
}
