//! Connections that end without a closing handshake, RFC 6455 sections 7.1.5 and 7.1.7.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{End, Frame, Seen, client, closed, masked, masked_close, plain, server, stand, text};
use wsforge_core::frame::Opcode;
use wsforge_core::{
    CloseCode, Config, Error, Initiator, Kind, Outcome, Output, Role, SendError, ServerConnection,
    Shutdown, State, Timestamp,
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// What a server can be sent that fails the connection, and the code that says so.
fn offences() -> Vec<(Vec<u8>, Error, u16)> {
    vec![
        (masked(Opcode::Close, true, b"x"), Error::BadClose, 1002),
        (masked(Opcode::Close, true, b"\x03\xE8\xFF"), Error::BadUtf8, 1007),
        (vec![0x83, 0x80, 0, 0, 0, 0], Error::BadOpcode, 1002),
        (masked(Opcode::Text, true, b"\xFF"), Error::BadUtf8, 1007),
        (masked(Opcode::Ping, false, b""), Error::ControlFragmented, 1002),
        (masked(Opcode::Ping, true, &[0; 126]), Error::ControlTooLong, 1002),
        (masked(Opcode::Binary, true, &[0; 3001]), Error::FrameTooLong, 1009),
        (vec![0x81, 0xFE, 0, 1, 0, 0, 0, 0, b'x'], Error::LengthNotMinimal, 1002),
        (masked(Opcode::Binary, false, &[0; 3000]), Error::MessageTooLong, 1009),
        (vec![0xC1, 0x80, 0, 0, 0, 0], Error::ReservedBits, 1002),
        (masked(Opcode::Continuation, true, b""), Error::UnexpectedContinuation, 1002),
        (masked(Opcode::Text, false, b"").repeat(2), Error::UnexpectedData, 1002),
        (plain(Opcode::Text, true, b"hello"), Error::WrongMasking, 1002),
        (
            [
                masked(Opcode::Text, false, b""),
                masked(Opcode::Continuation, false, b"").repeat(2),
                masked(Opcode::Continuation, true, b""),
            ]
            .concat(),
            Error::TooManyFragments,
            1008,
        ),
    ]
}

fn small() -> Config {
    let mut config = Config::default();
    config.max_frame_len = 3000;
    config.max_message_len = 2999;
    config.max_fragments = 3;
    config.max_linger_len = 1000;
    config
}

/// RFC 6455 section 7.1.7: after failing, nothing that the peer sends counts, its Close included.
#[test]
fn a_failed_connection_says_why_and_lingers() {
    for (wire, error, code) in offences() {
        let fail = || {
            let mut end = server(&small());
            end.pass(Duration::from_millis(50));
            assert_eq!(end.receive(&wire), [Seen::Fail(error)]);
            assert_eq!(end.sent_close(), Some((code, error.to_string())), "{error:?}");
            end
        };
        let over = (State::Closed, Some(Shutdown::Both), Some(Outcome::Failed(error)));
        let mut end = fail();
        let later = [
            masked(Opcode::Text, true, b"late"),
            masked(Opcode::Ping, true, b"late"),
            masked_close(1000, ""),
            vec![0xFF; 20],
        ];
        for late in &later {
            assert_eq!((end.receive_in(late, 5), end.written()), (vec![], vec![]), "{error:?}");
        }
        end.close(CloseCode::NORMAL, "");
        assert!(end.output.is_empty());
        let lingers = (State::Closed, Some(Shutdown::Write), Some(Outcome::Failed(error)));
        assert_eq!(stand(&end), lingers);
        assert_eq!(
            (end.conn.outcome().unwrap().code(), end.eof(), stand(&end)),
            (1006, None, over)
        );

        // The peer never stops sending, or never ends.
        let mut end = fail();
        end.receive_in(&[0; 999], 100);
        assert_eq!(stand(&end), lingers, "{error:?}");
        end.receive(&[0; 1]);
        assert_eq!((stand(&end), end.conn.next_timeout()), (over, None), "{error:?}");

        let mut end = fail();
        assert_eq!(end.conn.next_timeout(), Some(end.now + TIMEOUT));
        assert_eq!(end.wait(TIMEOUT - Duration::from_millis(1)), None);
        assert_eq!(stand(&end), lingers, "{error:?}");
        assert_eq!(end.wait(Duration::from_millis(1)), None);
        assert_eq!((stand(&end), end.eof()), (over, None), "{error:?}");
    }
}

/// The Close that was sent already is the only one.
#[test]
fn a_connection_that_fails_while_closing_sends_no_second_close() {
    for (wire, error, _) in offences() {
        let mut end = server(&small());
        end.close(CloseCode::NORMAL, "");
        assert_eq!(end.sent_close(), Some((1000, String::new())));
        end.pass(Duration::from_secs(1));
        assert_eq!(end.receive(&wire), [Seen::Fail(error)]);
        assert!(end.output.is_empty());
        let failed = Some(Outcome::Failed(error));
        assert_eq!(stand(&end), (State::Closed, Some(Shutdown::Write), failed));
        assert_eq!(end.conn.next_timeout(), Some(end.now + TIMEOUT));
    }
}

/// RFC 6455 section 7.1.5: 1006 stands for a connection that ended without a Close.
#[test]
fn the_transport_can_end_at_any_byte() {
    fn run<R: Role>(end: impl Fn() -> End<R>, frame: Frame) {
        let before = [
            frame(Opcode::Text, false, b"frag"),
            frame(Opcode::Ping, true, b"ping"),
            frame(Opcode::Continuation, true, b"ment"),
            frame(Opcode::Binary, true, &[7; 300]),
        ]
        .concat();
        let wire = [&before[..], &frame(Opcode::Close, true, b"\x0F\xA0why")].concat();
        for cut in 0..=wire.len() {
            for piece in [1, usize::MAX] {
                let mut end = end();
                let seen = end.receive_in(&wire[..cut], piece);
                assert!(!seen.iter().any(|event| matches!(event, Seen::Fail(_))), "{cut}");
                let (event, outcome) = if cut == wire.len() {
                    (None, closed(4000, Initiator::Peer))
                } else {
                    let error = Error::UnexpectedEof;
                    end.written();
                    (Some(Seen::Fail(error)), Some(Outcome::Failed(error)))
                };
                assert_eq!(end.eof(), event, "{cut}");
                assert_eq!(stand(&end), (State::Closed, Some(Shutdown::Both), outcome));
                assert_eq!((end.eof(), end.conn.next_timeout()), (None, None), "once");
                assert_eq!(end.output.is_empty(), event.is_some(), "nobody reads a Close");
                assert_eq!(outcome.unwrap().is_clean(), event.is_none());
            }
        }
    }
    run(|| server(&Config::default()), masked);
    run(|| client(&Config::default()), plain);
}

#[test]
fn the_transport_can_end_while_we_wait_for_the_peers_close() {
    let mut end = server(&Config::default());
    end.close(CloseCode::NORMAL, "");
    let error = Error::UnexpectedEof;
    assert_eq!((end.eof(), end.eof()), (Some(Seen::Fail(error)), None));
    let failed = Some(Outcome::Failed(error));
    assert_eq!(stand(&end), (State::Closed, Some(Shutdown::Both), failed));
    assert_eq!(end.wait(TIMEOUT), None);
}

#[test]
fn a_close_that_is_never_answered_times_out() {
    fn run<R: Role>(mut end: End<R>) {
        end.pass(Duration::from_millis(321));
        end.close(CloseCode::NORMAL, "");
        assert_eq!(end.conn.next_timeout(), Some(end.now + TIMEOUT));
        assert_eq!(end.wait(TIMEOUT - Duration::from_millis(1)), None);
        assert_eq!(stand(&end), (State::Closing, None, None));
        let error = Error::CloseTimeout;
        assert_eq!(end.wait(Duration::from_millis(1)), Some(Seen::Fail(error)));
        let outcome = Outcome::Failed(error);
        assert_eq!(stand(&end), (State::Closed, Some(Shutdown::Both), Some(outcome)));
        assert_eq!((outcome.code(), outcome.is_clean()), (1006, false));
        assert_eq!((end.conn.next_timeout(), end.wait(TIMEOUT), end.eof()), (None, None, None));
        assert_eq!(end.sent_close(), Some((1000, String::new())));
    }
    run(server(&Config::default()));
    run(client(&Config::default()));
}

/// A peer that sends and sends, and never answers our Close, does not move the deadline.
#[test]
fn messages_do_not_put_off_the_close_timeout() {
    let mut end = server(&Config::default());
    end.close(CloseCode::NORMAL, "");
    for _ in 0..4 {
        end.pass(TIMEOUT / 5);
        assert_eq!(end.receive(&masked(Opcode::Text, true, b"more")), [text("more")]);
        assert_eq!(end.wait(Duration::ZERO), None);
    }
    assert_eq!(end.wait(TIMEOUT / 5), Some(Seen::Fail(Error::CloseTimeout)));
}

#[test]
fn a_refused_connection_only_waits_until_its_answer_was_read() {
    let refused = |config| End {
        conn: ServerConnection::refused(Arc::new(config), Timestamp::ZERO),
        output: Output::new(),
        now: Timestamp::ZERO,
    };
    let lingers = (State::Closed, Some(Shutdown::Write), None);
    let over = (State::Closed, Some(Shutdown::Both), None);

    let mut end = refused(Config::default());
    assert_eq!(stand(&end), lingers);
    let wire = [masked(Opcode::Text, true, b"hi"), masked(Opcode::Ping, true, b"")].concat();
    assert_eq!(end.receive_in(&wire, 3), []);
    assert_eq!(end.conn.send(Kind::Text, "x", &mut end.output), Err(SendError::Closed));
    end.close(CloseCode::NORMAL, "");
    assert_eq!((stand(&end), end.output.len()), (lingers, 0));
    assert_eq!((end.eof(), stand(&end), end.output.len()), (None, over, 0));

    let mut end = refused(Config::default());
    assert_eq!(end.conn.next_timeout(), Some(Timestamp::ZERO + TIMEOUT));
    assert_eq!((end.wait(TIMEOUT - Duration::from_millis(1)), stand(&end)), (None, lingers));
    assert_eq!((end.wait(Duration::from_millis(1)), stand(&end)), (None, over));

    let mut end = refused(small());
    assert_eq!((end.receive(&[b'x'; 999]), stand(&end)), (vec![], lingers));
    assert_eq!((end.receive(b"x"), stand(&end)), (vec![], over));
}
