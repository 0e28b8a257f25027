//! The closing handshake, RFC 6455 section 7.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{
    End, Frame, Keys, MASK, Pair, Seen, client, close, closed, masked, masked_close, plain, server,
    stand, text,
};
use wsforge_core::frame::Opcode;
use wsforge_core::{
    Client, ClientConnection, CloseCode, Config, Connection, Error, Initiator, Kind, Outcome,
    Output, Role, SendError, ServerConnection, Shutdown, State, Timestamp,
};

const TIMEOUT: Duration = Duration::from_secs(5);

fn close_body(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

#[test]
fn a_connection_made_by_hand_is_open() {
    let config = Arc::new(Config::default());
    let server = ServerConnection::after_handshake(config.clone(), Timestamp::ZERO);
    let keys: Keys = || MASK;
    let client = ClientConnection::after_handshake(keys, config.clone(), Timestamp::ZERO);
    fn check<R: Role>(conn: &Connection<R>, config: &Arc<Config>) {
        assert_eq!(
            (conn.state(), conn.wants_shutdown(), conn.outcome()),
            (State::Open, None, None)
        );
        assert!(Arc::ptr_eq(conn.config(), config));
    }
    check(&server, &config);
    check(&client, &config);
}

/// RFC 6455 sections 5.5.1 and 7.1.1: the server ends TCP at once, the client waits for it.
#[test]
fn the_server_closes() {
    let Pair { mut client, mut server } = Pair::new();
    server.close(CloseCode::GOING_AWAY, "moving");
    assert_eq!(stand(&server), (State::Closing, None, None));
    let wire = server.written();
    assert_eq!(wire, plain(Opcode::Close, true, &close_body(1001, "moving")));

    assert_eq!(client.receive(&wire), [close(1001, "moving")]);
    assert_eq!(stand(&client), (State::Closed, None, closed(1001, Initiator::Peer)));
    let wire = client.written();
    assert_eq!(wire, masked_close(1001, ""), "the answer says what it answers");

    assert_eq!(server.receive(&wire), [close(1001, "")]);
    let outcome = closed(1001, Initiator::Local);
    assert_eq!(stand(&server), (State::Closed, Some(Shutdown::Both), outcome));
    assert_eq!((server.conn.next_timeout(), server.eof()), (None, None));
    assert!(server.output.is_empty());

    assert_eq!(client.eof(), None);
    let outcome = closed(1001, Initiator::Peer);
    assert_eq!(stand(&client), (State::Closed, Some(Shutdown::Both), outcome));
}

#[test]
fn the_client_closes() {
    let Pair { mut client, mut server } = Pair::new();
    client.close(CloseCode::NORMAL, "done");
    assert_eq!(stand(&client), (State::Closing, None, None));
    let wire = client.written();
    assert_eq!(wire, masked_close(1000, "done"));

    assert_eq!(server.receive(&wire), [close(1000, "done")]);
    let outcome = closed(1000, Initiator::Peer);
    assert_eq!(stand(&server), (State::Closed, Some(Shutdown::Both), outcome));
    let wire = server.written();
    assert_eq!(wire, plain(Opcode::Close, true, &close_body(1000, "")));

    assert_eq!(client.receive(&wire), [close(1000, "")]);
    let outcome = closed(1000, Initiator::Local);
    assert_eq!(stand(&client), (State::Closed, None, outcome));
    assert_eq!(client.eof(), None);
    assert_eq!(stand(&client), (State::Closed, Some(Shutdown::Both), outcome));
    assert_eq!((client.conn.next_timeout(), client.eof()), (None, None));
}

#[test]
fn both_close_at_once() {
    let mut pair = Pair::new();
    pair.client.close(CloseCode::new(4001).unwrap(), "c");
    pair.server.close(CloseCode::new(4002).unwrap(), "s");
    let (client, server) = pair.carry();
    assert_eq!((client, server), (vec![close(4002, "s")], vec![close(4001, "c")]));
    // Neither answers the other's again.
    let local = Initiator::Local;
    assert_eq!(stand(&pair.client), (State::Closed, None, closed(4002, local)));
    let both = Some(Shutdown::Both);
    assert_eq!(stand(&pair.server), (State::Closed, both, closed(4001, local)));
}

/// RFC 6455 section 7.1.5: 1005 stands for a Close without a code.
#[test]
fn a_close_without_a_body_is_answered_with_one() {
    let Pair { mut client, mut server } = Pair::new();
    assert_eq!(server.receive(&masked(Opcode::Close, true, b"")), [Seen::Close(None)]);
    assert_eq!(server.written(), b"\x88\x00");
    let outcome = server.conn.outcome().unwrap();
    assert_eq!(outcome, Outcome::Closed { code: None, initiator: Initiator::Peer });
    assert_eq!((outcome.code(), outcome.is_clean()), (1005, true));
    assert_eq!(client.receive(b"\x88\x00"), [Seen::Close(None)]);
    assert_eq!(client.written(), masked(Opcode::Close, true, b""));
}

/// RFC 6455 section 1.4: data sent before the peer read our Close still counts.
#[test]
fn messages_arrive_until_the_peers_close() {
    fn run<R: Role>(mut end: End<R>, frame: Frame) {
        let begun = frame(Opcode::Text, false, b"be");
        assert_eq!(end.receive(&begun), []);
        end.close(CloseCode::NORMAL, "");
        end.written();
        let wire = [
            frame(Opcode::Continuation, true, b"gun"),
            frame(Opcode::Binary, true, b"whole"),
            frame(Opcode::Close, true, &close_body(1000, "")),
        ];
        let seen = [text("begun"), Seen::Binary(b"whole".into()), close(1000, "")];
        assert_eq!(end.receive(&wire.concat()), seen);
        assert!(end.output.is_empty());
    }
    run(server(&Config::default()), masked);
    run(client(&Config::default()), plain);
}

/// RFC 6455 section 5.5.1: nothing after a Close counts, and it tells a server that the peer has not
/// stopped: ending TCP on unread bytes could cost the peer our answer.
#[test]
fn what_follows_a_close_is_dropped() {
    let behind = [
        masked(Opcode::Text, true, b"late"),
        masked(Opcode::Ping, true, b"late"),
        masked_close(4000, "second"),
        vec![0xFF; 20],
    ];
    for behind in &behind {
        let wire = [masked_close(1000, ""), behind.clone()].concat();
        let mut end = server(&Config::default());
        assert_eq!(end.receive(&wire), [close(1000, "")]);
        assert_eq!(end.sent_close(), Some((1000, String::new())));
        let outcome = closed(1000, Initiator::Peer);
        assert_eq!(stand(&end), (State::Closed, Some(Shutdown::Write), outcome));
        assert_eq!((end.receive(behind), end.written()), (vec![], vec![]));
        assert_eq!(end.conn.next_timeout(), Some(Timestamp::ZERO + TIMEOUT));
        assert_eq!(end.eof(), None);
        assert_eq!(stand(&end), (State::Closed, Some(Shutdown::Both), outcome));

        // In a read of its own: the server may have ended TCP already.
        let mut end = server(&Config::default());
        end.receive(&masked_close(1000, ""));
        end.written();
        assert_eq!((end.receive(behind), end.written()), (vec![], vec![]));
        assert_eq!(stand(&end), (State::Closed, Some(Shutdown::Both), outcome));
    }
}

#[test]
fn a_server_that_lingers_after_a_handshake_gives_up_in_time() {
    let mut end = server(&Config::default());
    end.pass(Duration::from_millis(7));
    end.receive(&[masked_close(1000, ""), vec![0]].concat());
    assert_eq!(end.wait(TIMEOUT - Duration::from_millis(1)), None);
    assert_eq!(end.conn.wants_shutdown(), Some(Shutdown::Write));
    assert_eq!(end.wait(Duration::from_millis(1)), None);
    let outcome = closed(1000, Initiator::Peer);
    assert_eq!(stand(&end), (State::Closed, Some(Shutdown::Both), outcome));
    assert_eq!(end.conn.next_timeout(), None);
}

#[test]
fn a_client_waits_for_eof_but_not_for_ever() {
    let mut end = client(&Config::default());
    end.pass(Duration::from_millis(100));
    end.receive(&plain(Opcode::Close, true, b"\x03\xE8"));
    assert_eq!(end.conn.next_timeout(), Some(end.now + TIMEOUT));
    // Bytes do not keep it waiting.
    end.pass(TIMEOUT / 2);
    assert_eq!(end.receive(&plain(Opcode::Text, true, b"late")), []);
    assert_eq!(end.wait(TIMEOUT / 2 - Duration::from_millis(1)), None);
    assert_eq!(end.conn.wants_shutdown(), None);
    assert_eq!(end.wait(Duration::from_millis(1)), None);
    let outcome = closed(1000, Initiator::Peer);
    assert_eq!(stand(&end), (State::Closed, Some(Shutdown::Both), outcome));
    assert_eq!((end.conn.next_timeout(), end.eof()), (None, None));
}

/// A Close with no body, every code, and an answer to each (RFC 6455 section 7.4).
#[test]
fn every_received_code_is_answered_or_refused() {
    fn run<R: Role>(mut end: End<R>, frame: Frame, code: u16) {
        // 1012 to 1014 have been registered since the RFC.
        let valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let seen = end.receive(&frame(Opcode::Close, true, &close_body(code, "")));
        let outcome = end.conn.outcome().unwrap();
        if valid {
            assert_eq!(seen, [close(code, "")]);
            assert_eq!(end.sent_close(), Some((code, String::new())));
            assert_eq!((outcome.code(), outcome.is_clean()), (code, true));
        } else {
            assert_eq!(seen, [Seen::Fail(Error::BadClose)], "{code}");
            assert_eq!(end.sent_close().unwrap().0, 1002, "{code}");
            assert_eq!((outcome.code(), outcome.is_clean()), (1006, false));
        }
    }
    let config = Config::default();
    for code in 0..=u16::MAX {
        run(server(&config), masked, code);
        run(client(&config), plain, code);
    }
}

/// RFC 6455 sections 5.5.1 and 8.1.
#[test]
fn a_bad_reason_fails_the_connection() {
    for reason in [&b"\xFF"[..], b"gr\xC3", b"\xED\xA0\x80", b"\xC0\x80", b"a\xF4\x90\x80\x80"] {
        let wire = masked(Opcode::Close, true, &[b"\x03\xE8", reason].concat());
        for piece in [1, usize::MAX] {
            let mut end = server(&Config::default());
            assert_eq!(end.receive_in(&wire, piece), [Seen::Fail(Error::BadUtf8)]);
            assert_eq!(end.sent_close().unwrap().0, 1007);
        }
    }
}

/// A Close that is cut anywhere keeps its code: in the event, in the answer and in the outcome.
#[test]
fn a_close_in_pieces_is_answered_with_its_code() {
    let wire = masked_close(4321, "grün");
    for piece in 1..=wire.len() {
        let mut end = server(&Config::default());
        assert_eq!(end.receive_in(&wire, piece), [close(4321, "grün")], "{piece}");
        assert_eq!(end.sent_close(), Some((4321, String::new())));
        let outcome = closed(4321, Initiator::Peer);
        assert_eq!(stand(&end), (State::Closed, Some(Shutdown::Both), outcome));
    }
}

/// RFC 6455 section 5.5: 125 bytes with the code. What is cut stays UTF-8.
#[test]
fn a_long_reason_is_cut_between_characters() {
    for char in ["x", "é", "漢", "𝄞"] {
        for shift in 0..4 {
            for count in [0, 1, 20, 29, 30, 31, 40, 41, 61, 62, 123, 124, 200] {
                let reason = "-".repeat(shift) + &char.repeat(count);
                let fits = (0..=count)
                    .map(|count| "-".repeat(shift) + &char.repeat(count))
                    .take_while(|reason| reason.len() <= 123)
                    .last();
                let mut pair = Pair::new();
                pair.server.close(CloseCode::NORMAL, &reason);
                let (seen, _) = pair.carry();
                assert_eq!(seen, [close(1000, &fits.unwrap())]);
            }
        }
    }
}

/// RFC 6455 section 5.5.1: no data after a Close.
#[test]
fn nothing_can_be_sent_after_the_close() {
    fn refuses<R: Role>(mut end: End<R>) {
        end.written();
        let (conn, output) = (&mut end.conn, &mut Output::new());
        let results = [
            conn.send(Kind::Text, "x", output),
            conn.send_fragment(Kind::Binary, "x", true, output),
            conn.ping(b"", output),
            conn.pong(b"", output),
            conn.ping(&[0; 126], output),
        ];
        assert_eq!(results, [Err(SendError::Closed); 5]);
        let deadline = conn.next_timeout();
        conn.close(CloseCode::GOING_AWAY, "again", end.now + TIMEOUT, output);
        assert_eq!(conn.next_timeout(), deadline, "a second close does nothing");
        assert!(output.is_empty());
    }
    let ways: [fn(&mut End<_>); 6] = [
        |end| end.close(CloseCode::NORMAL, ""),
        |end| drop(end.receive(&masked_close(1000, ""))),
        |end| drop(end.receive(&masked(Opcode::Close, true, b""))),
        |end| drop(end.receive(&[0xFF; 10])),
        |end| drop(end.eof()),
        |end| {
            end.conn.send_fragment(Kind::Text, "begun", false, &mut end.output).unwrap();
            end.close(CloseCode::NORMAL, "");
        },
    ];
    for way in ways {
        let mut end = server(&Config::default());
        way(&mut end);
        refuses(end);
    }
    let mut end: End<Client<Keys>> = client(&Config::default());
    end.close(CloseCode::NORMAL, "");
    refuses(end);
}
