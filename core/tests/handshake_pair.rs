//! A client and a server of this crate with each other, from the request to the first messages.

mod support;

use std::cell::Cell;
use std::sync::Arc;

use support::http::{NONCE, answer, pieces, taken};
use support::{Seen, plain, text};
use wsforge_core::frame::{Header, Opcode};
use wsforge_core::handshake::{Accept, Answer, Connect, ConnectRequest, Limits, Opening, Response};
use wsforge_core::{CloseCode, Config, Input, Kind, Output, Timestamp, mask};

const AT: Timestamp = Timestamp::from_millis(1000);

fn config() -> Arc<Config> {
    Arc::new(Config::default())
}

fn plain_request() -> ConnectRequest<'static> {
    ConnectRequest::new("server.example.com", "/chat")
}

/// A client and a server of this crate agree with each other, however the bytes between them are cut.
#[test]
fn a_client_and_a_server_shake_hands_and_talk() {
    let request = ConnectRequest {
        subprotocols: &["chat", "superchat"],
        extensions: &["permessage-deflate"],
        headers: &[("Cookie", b"a=b")],
        ..plain_request()
    };
    let response = Response { subprotocol: Some("superchat"), headers: &[("Set-Cookie", b"c=d")] };
    for len in [1, 2, 3, 7, 50, 128, usize::MAX] {
        let mut output = Output::new();
        let mut connect = Connect::start(&request, NONCE, Limits::default(), &mut output).unwrap();
        let (mut accept, mut server) = (Accept::default(), None);
        for mut piece in pieces(&taken(&mut output), &[len]) {
            assert!(server.is_none());
            if let Opening::Request(request) =
                accept.receive(&mut Input::new(&mut piece, AT), &mut output)
            {
                assert_eq!(request.header("cookie"), Some(&b"a=b"[..]));
                assert_eq!(request.subprotocols().collect::<Vec<_>>(), ["chat", "superchat"]);
                server = Some(request.accept(&response, config(), &mut output).unwrap());
            }
        }
        let mut server = server.expect("a whole request");
        // The server speaks first, with its 101.
        server.send(Kind::Text, "hello", &mut output).unwrap();

        let (mut client, mut seen) = (None, Vec::new());
        for mut piece in pieces(&taken(&mut output), &[len]) {
            let mut input = Input::new(&mut piece, AT);
            if client.is_none()
                && let Some(answer) = connect.receive(&mut input).unwrap()
            {
                let Answer::Accepted(accepted) = answer else { panic!("{answer:?}") };
                assert_eq!(accepted.subprotocol(), Some("superchat"));
                assert_eq!(accepted.extensions().count(), 0);
                assert_eq!(accepted.header("set-cookie"), Some(&b"c=d"[..]));
                client = Some(accepted.open(|| [1, 2, 3, 4], config()));
            }
            while let Some(event) =
                client.as_mut().and_then(|client| client.next_event(&mut input, &mut output))
            {
                seen.push(Seen::from(event));
            }
        }
        assert_eq!(seen, [text("hello")], "{len}");

        let mut client = client.expect("a whole answer");
        client.send(Kind::Binary, b"\x00world", &mut output).unwrap();
        let mut seen = Vec::new();
        for mut piece in pieces(&taken(&mut output), &[len]) {
            let mut input = Input::new(&mut piece, AT);
            while let Some(event) = server.next_event(&mut input, &mut output) {
                seen.push(Seen::from(event));
            }
        }
        assert_eq!(seen, [Seen::Binary(b"\x00world".into())], "{len}");
    }
}

/// A connection is as old as the end of its handshake's head, on whatever clock.
#[test]
fn deadlines_count_from_when_the_head_had_arrived() {
    let later = Timestamp::from_millis(5000);
    let (interval, mut output) = (config().ping_interval.unwrap(), Output::new());
    let mut connect =
        Connect::start(&plain_request(), NONCE, Limits::default(), &mut output).unwrap();
    let (mut request, mut accept) = (taken(&mut output), Accept::default());
    let (first, rest) = request.split_at_mut(20);
    assert!(matches!(accept.receive(&mut Input::new(first, AT), &mut output), Opening::More));
    let mut input = Input::new(rest, later);
    let Opening::Request(request) = accept.receive(&mut input, &mut output) else { panic!() };
    let server = request.accept(&Response::default(), config(), &mut output).unwrap();
    assert_eq!(server.next_timeout(), Some(later + interval));

    let mut answer = taken(&mut output);
    let (first, rest) = answer.split_at_mut(20);
    assert!(connect.receive(&mut Input::new(first, AT)).unwrap().is_none());
    let answer = connect.receive(&mut Input::new(rest, later)).unwrap();
    let Some(Answer::Accepted(accepted)) = answer else { panic!("{answer:?}") };
    let client = accepted.open(|| [1, 2, 3, 4], config());
    assert_eq!(client.next_timeout(), Some(later + interval));
}

/// RFC 6455 section 5.3: every frame is masked, each with a key of its own.
#[test]
fn a_key_is_drawn_once_for_every_frame() {
    let drawn = Cell::new(0u8);
    let keys = || {
        drawn.set(drawn.get() + 1);
        [drawn.get(), 0xA5, 0x5A, 0xFF]
    };
    let mut bytes = answer("", &[]);
    let mut connect =
        Connect::start(&plain_request(), NONCE, Limits::default(), &mut Output::new()).unwrap();
    let answer = connect.receive(&mut Input::new(&mut bytes, AT)).unwrap();
    let Some(Answer::Accepted(accepted)) = answer else { panic!("{answer:?}") };
    let (mut client, mut output) = (accepted.open(&keys, config()), Output::new());
    assert_eq!(drawn.get(), 0);

    let large = vec![7; 5000];
    client.send(Kind::Text, "hi", &mut output).unwrap();
    client.send(Kind::Binary, bytes::Bytes::from(large.clone()), &mut output).unwrap();
    client.send_fragment(Kind::Text, "a", false, &mut output).unwrap();
    client.ping(b"", &mut output).unwrap();
    client.send_fragment(Kind::Text, "b", true, &mut output).unwrap();
    let mut ping = plain(Opcode::Ping, true, b"?");
    assert!(client.next_event(&mut Input::new(&mut ping, AT), &mut output).is_some());
    client.close(CloseCode::NORMAL, "", AT, &mut output);
    client.send(Kind::Text, "late", &mut output).unwrap_err();

    let expected: [(Opcode, &[u8]); 7] = [
        (Opcode::Text, b"hi"),
        (Opcode::Binary, &large),
        (Opcode::Text, b"a"),
        (Opcode::Ping, b""),
        (Opcode::Continuation, b"b"),
        (Opcode::Pong, b"?"),
        (Opcode::Close, b"\x03\xE8"),
    ];
    let sent = taken(&mut output);
    let mut rest = &sent[..];
    for (at, (opcode, payload)) in expected.into_iter().enumerate() {
        let key = [at as u8 + 1, 0xA5, 0x5A, 0xFF];
        let (header, len) = Header::parse(rest).unwrap().unwrap();
        assert_eq!((header.opcode, header.mask), (opcode, Some(key)));
        let (body, behind) = rest[len..].split_at(header.len as usize);
        let mut body = body.to_vec();
        mask::apply(&mut body, key);
        assert_eq!(body, payload, "{opcode:?}");
        rest = behind;
    }
    assert!(rest.is_empty());
    assert_eq!(drawn.get(), 7);
}

/// Every error says what is wrong, and becomes an I/O error that keeps it.
#[cfg(feature = "std")]
#[test]
fn errors_become_io_errors() {
    use std::io::{Error, ErrorKind};

    use wsforge_core::handshake::{Invalid, RequestError, ResponseError};

    let error = Error::from(ResponseError::BadAccept);
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(error.to_string(), "missing, repeated or wrong Sec-WebSocket-Accept");
    let error = Error::from(RequestError::Invalid(Invalid::Status));
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(
        error.to_string(),
        "the server's answer is invalid: a rejection's status must be from 200 to 599"
    );
    let error = Error::from(Invalid::Host);
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::InvalidInput, "malformed host".into())
    );
    assert_eq!(error.downcast::<Invalid>().unwrap(), Invalid::Host);
}
