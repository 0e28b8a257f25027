//! What a server can answer, at once or later, and what becomes of the bytes behind a request.

mod support;

use std::sync::Arc;

use support::http::{head, request, serve, serve_in, taken};
use support::{Seen, frames, masked, masked_close, text};
use wsforge_core::frame::Opcode;
use wsforge_core::handshake::{Accept, Invalid, Limits, Opening, Reject, RequestError, Response};
use wsforge_core::{Config, Input, Output, ServerConnection, Shutdown, State, Timestamp};

const AT: Timestamp = Timestamp::from_millis(1000);

fn config() -> Arc<Config> {
    Arc::new(Config::default())
}

/// RFC 6455 section 4.2.2: what asks for a page may get one, and what asks for a WebSocket an error.
#[test]
fn plain_http_can_be_read_and_answered() {
    let mut bytes = head(&["POST /login?a=b HTTP/1.1", "Host: c", "Content-Length: 4"]);
    bytes.extend_from_slice(b"body");
    let (mut accept, mut output) = (Accept::default(), Output::new());
    let mut input = Input::new(&mut bytes, AT);
    let Opening::Request(request) = accept.receive(&mut input, &mut output) else { panic!() };
    assert_eq!(
        (request.method(), request.path(), request.query()),
        ("POST", "/login", Some("a=b"))
    );
    assert_eq!(request.header("content-length"), Some(&b"4"[..]));
    assert_eq!(request.upgrade().unwrap_err(), RequestError::BadMethod);
    assert!(output.is_empty(), "asking whether it is an upgrade answers nothing");
    assert_eq!(input.remaining(), b"body");

    let mut bytes = head(&["GET / HTTP/1.1", "Host: c"]);
    let mut input = Input::new(&mut bytes, AT);
    let mut accept = Accept::default();
    let Opening::Request(request) = accept.receive(&mut input, &mut output) else { panic!() };
    assert_eq!(request.upgrade().unwrap_err(), RequestError::NotUpgrade);
    let headers: &[(&str, &[u8])] = &[("Content-Type", b"text/html")];
    Reject { status: 200, headers, body: b"<p>" }.write(&mut output).unwrap();
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\
        Content-Type: text/html\r\n\r\n<p>";
    assert_eq!(String::from_utf8(taken(&mut output)).unwrap(), expected);
}

/// RFC 6455 section 4.2.2: a server may ask for authorization, redirect, or refuse.
#[test]
fn a_rejection_has_any_final_status_with_headers_and_a_body() {
    let no_headers: &[(&str, &[u8])] = &[];
    for (status, phrase, headers, body) in [
        (401, "Unauthorized", &[("WWW-Authenticate", &b"Basic"[..]), ("X", b"")][..], &b"who?"[..]),
        (307, "Temporary Redirect", &[("Location", b"ws://b/")], b""),
        (403, "Forbidden", no_headers, b"\x00\xFF"),
        (404, "Not Found", no_headers, b"nothing here"),
        (418, "", no_headers, b""),
        (599, "", no_headers, b""),
    ] {
        let mut output = Output::new();
        Reject { status, headers, body }.write(&mut output).unwrap();
        let mut expected = format!(
            "HTTP/1.1 {status} {phrase}\r\nContent-Length: {}\r\nConnection: close\r\n",
            body.len()
        );
        for (name, value) in headers {
            expected += &format!("{name}: {}\r\n", str::from_utf8(value).unwrap());
        }
        let expected = [expected.as_bytes(), b"\r\n", body].concat();
        let answer = taken(&mut output);
        assert_eq!(answer.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}

#[test]
fn a_rejection_that_is_no_proper_answer_is_not_written() {
    let header = |name, value| (400, (name, value));
    for ((status, field), invalid) in [
        (header("X", &b"a\r\n\r\nHTTP/1.1 200 OK"[..]), Invalid::HeaderValue),
        (header("X", b"a\n"), Invalid::HeaderValue),
        (header("X\r\nY", b"a"), Invalid::HeaderName),
        (header("X ", b"a"), Invalid::HeaderName),
        (header("connection", b"keep-alive"), Invalid::ReservedHeader),
        (header("CONTENT-LENGTH", b"0"), Invalid::ReservedHeader),
        (header("Transfer-Encoding", b"chunked"), Invalid::ReservedHeader),
        ((0, ("X", b"a")), Invalid::Status),
        ((100, ("X", b"a")), Invalid::Status),
        ((101, ("X", b"a")), Invalid::Status),
        ((199, ("X", b"a")), Invalid::Status),
        ((600, ("X", b"a")), Invalid::Status),
        ((u16::MAX, ("X", b"a")), Invalid::Status),
    ] {
        let mut output = Output::new();
        let reject = Reject { status, headers: &[("X-Good", b"y"), field], body: b"z" };
        assert_eq!(reject.write(&mut output), Err(invalid), "{status} {field:?}");
        assert!(output.is_empty());
    }
}

/// RFC 9110 sections 8.6, 15.3.5 and 15.4.5: such an answer ends with its head, and has no length.
#[test]
fn a_rejection_that_has_no_content_has_no_length() {
    for (status, line) in [(204, "204 "), (304, "304 Not Modified")] {
        let mut output = Output::new();
        Reject { status, headers: &[], body: b"" }.write(&mut output).unwrap();
        let expected = format!("HTTP/1.1 {line}\r\nConnection: close\r\n\r\n");
        assert_eq!(String::from_utf8(taken(&mut output)).unwrap(), expected);
    }
}

/// RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5: what stands behind such a head is read as the next
/// answer.
#[test]
fn a_rejection_that_has_no_content_never_writes_a_body() {
    for (status, length) in [(204, false), (205, true), (304, false)] {
        let (mut output, body) = (Output::new(), b"HTTP/1.1 200 OK\r\n\r\n");
        Reject { status, headers: &[], body }.write(&mut output).unwrap();
        let answer = String::from_utf8(taken(&mut output)).unwrap();
        assert!(answer.ends_with("\r\nConnection: close\r\n\r\n"), "{answer}");
        assert_eq!(answer.contains("\r\nContent-Length: 0\r\n"), length, "{answer}");
    }
}

/// RFC 9110 section 9.3.2: only the content is missing.
#[test]
fn a_rejection_of_head_has_the_length_of_the_body_that_it_leaves_out() {
    for (method, body) in [("GET", "page"), ("HEAD", "")] {
        let mut bytes = request("GET", &[&format!("{method} / HTTP/1.1")]);
        let (mut output, mut accept) = (Output::new(), Accept::default());
        let mut input = Input::new(&mut bytes, AT);
        let Opening::Request(request) = accept.receive(&mut input, &mut output) else { panic!() };
        let page = Reject { status: 200, headers: &[], body: b"page" };
        request.reject(&page, &mut output).unwrap();
        let expected =
            format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n{body}");
        assert_eq!(String::from_utf8(taken(&mut output)).unwrap(), expected);
        let status = Reject { status: 199, headers: &[], body: b"" };
        assert_eq!(request.reject(&status, &mut output), Err(Invalid::Status));
    }
}

/// Whoever streams a body has to know whether there is to be one.
#[test]
fn a_body_that_is_streamed_counts_and_follows_where_one_may() {
    let page = Reject { status: 200, headers: &[], body: b"be" };
    for (method, status, follows, length) in [
        ("GET", 200, true, Some("5000000002")),
        ("POST", 404, true, Some("5000000002")),
        ("HEAD", 200, false, Some("5000000002")),
        ("GET", 205, false, Some("0")),
        ("GET", 304, false, None),
    ] {
        let mut bytes = request("GET", &[&format!("{method} / HTTP/1.1")]);
        let (mut output, mut accept) = (Output::new(), Accept::default());
        let mut input = Input::new(&mut bytes, AT);
        let Opening::Request(request) = accept.receive(&mut input, &mut output) else { panic!() };
        let page = Reject { status, ..page };
        assert_eq!(request.reject_streamed(&page, 5_000_000_000, &mut output), Ok(follows));
        let answer = String::from_utf8(taken(&mut output)).unwrap();
        assert_eq!(answer.ends_with("\r\n\r\nbe"), follows, "{answer}");
        let header = |line: &str| line.strip_prefix("Content-Length: ").map(str::to_owned);
        assert_eq!(answer.lines().find_map(header).as_deref(), length, "{answer}");
        let invalid = Reject { status: 199, ..page };
        assert_eq!(request.reject_streamed(&invalid, 1, &mut output), Err(Invalid::Status));
        assert!(output.is_empty());
    }
}

/// RFC 9112 section 3.2.2: the host is the target's, if the target has one.
#[test]
fn the_host_of_a_request_is_its_targets_before_its_headers() {
    for (target, host) in [("/", "server.example.com"), ("http://a.example:8/", "a.example:8")] {
        let mut bytes = request("GET", &[&format!("GET {target} HTTP/1.1")]);
        let (mut output, mut accept) = (Output::new(), Accept::default());
        let mut input = Input::new(&mut bytes, AT);
        let Opening::Request(request) = accept.receive(&mut input, &mut output) else { panic!() };
        assert_eq!(request.host(), host);
    }
}

/// RFC 9110 section 9.3.2: the answer to HEAD has no content.
#[test]
fn a_refusal_of_head_has_no_body() {
    let served = serve(&request("GET", &["HEAD /chat HTTP/1.1"]));
    assert_eq!(served.result, Some(Err(RequestError::BadMethod)));
    assert!(served.answer.ends_with(b"\r\n\r\n"), "{}", served.answer.escape_ascii());
}

/// RFC 6455 section 4.2.2: whatever follows a refused handshake is no WebSocket's.
#[test]
fn bytes_behind_a_refused_handshake_are_never_frames() {
    let frame = masked(Opcode::Text, true, b"smuggled");
    for request in
        [request("Sec-WebSocket-Key", &[]), request("", &["X Y: z"]), b"\x16\x03\x01".to_vec()]
    {
        let mut bytes = [&request[..], &frame].concat();
        let (mut accept, mut output) = (Accept::default(), Output::new());
        let mut input = Input::new(&mut bytes, AT);
        match accept.receive(&mut input, &mut output) {
            Opening::Request(request) => {
                request.accept(&Response::default(), config(), &mut output).unwrap_err();
            }
            Opening::Refused(_) => {}
            Opening::More => panic!(),
        }
        let answer = taken(&mut output);
        assert!(answer.starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
        let mut conn = ServerConnection::refused(config(), AT);
        assert!(conn.next_event(&mut input, &mut output).is_none());
        let mut again = frame.clone();
        assert!(conn.next_event(&mut Input::new(&mut again, AT), &mut output).is_none());
        assert!(output.is_empty() && input.is_empty());
        assert_eq!((conn.state(), conn.wants_shutdown()), (State::Closed, Some(Shutdown::Write)));
        assert_eq!(conn.outcome(), None);
        assert!(conn.handle_eof().is_none());
        assert_eq!(conn.wants_shutdown(), Some(Shutdown::Both));
    }
}

/// A driver that keeps a transport's state in one place, as most do.
enum Phase {
    Opening(Accept),
    Open(ServerConnection),
}

impl Phase {
    fn receive(&mut self, bytes: &mut [u8], output: &mut Output) -> Vec<Seen> {
        let mut input = Input::new(bytes, AT);
        if let Self::Opening(accept) = self {
            let conn = match accept.receive(&mut input, output) {
                Opening::More => return Vec::new(),
                Opening::Refused(_) => ServerConnection::refused(config(), AT),
                Opening::Request(request) => request
                    .accept(&Response::default(), config(), output)
                    .unwrap_or_else(|_| ServerConnection::refused(config(), AT)),
            };
            *self = Self::Open(conn);
        }
        let Self::Open(conn) = self else { unreachable!() };
        let mut seen = Vec::new();
        while let Some(event) = conn.next_event(&mut input, output) {
            seen.push(event.into());
        }
        seen
    }
}

/// A client that does not wait for the answer loses nothing: its frames are decoded from where they
/// lie, behind the head.
#[test]
fn frames_in_the_same_read_as_the_head_are_not_lost() {
    let request = request("", &[]);
    let bytes = [
        &request[..],
        &masked(Opcode::Text, true, "h\u{e9}llo".as_bytes()),
        &masked(Opcode::Ping, true, b"\r\n\r\n"),
        &masked_close(1000, "bye"),
    ]
    .concat();
    let expected =
        [text("h\u{e9}llo"), Seen::Ping(b"\r\n\r\n".into()), support::close(1000, "bye")];
    let answers =
        [(Opcode::Pong, true, b"\r\n\r\n".to_vec()), (Opcode::Close, true, vec![0x03, 0xE8])];
    for len in 1..=bytes.len() {
        let (mut phase, mut output) = (Phase::Opening(Accept::default()), Output::new());
        let mut seen = Vec::new();
        for piece in bytes.clone().chunks_mut(len) {
            seen.extend(phase.receive(piece, &mut output));
        }
        assert_eq!(seen, expected, "{len}");
        let written = taken(&mut output);
        let answer = serve(&request).answer;
        let behind = written.strip_prefix(&answer[..]).expect("the 101 comes first");
        assert_eq!(frames(behind), answers, "{len}");
    }
}

/// A driver may look something up before it answers: nothing of the request needs to be there then.
#[test]
fn an_upgrade_can_be_answered_when_its_request_is_gone() {
    let lines = ["Sec-WebSocket-Protocol: chat, superchat", "Sec-WebSocket-Protocol: soap"];
    let upgrade = {
        let mut bytes = request("", &lines);
        let mut input = Input::new(&mut bytes, AT);
        let mut accept = Accept::default();
        match accept.receive(&mut input, &mut Output::new()) {
            Opening::Request(request) => request.upgrade().unwrap(),
            opening => panic!("{opening:?}"),
        }
    };
    assert_eq!(upgrade.subprotocols().collect::<Vec<_>>(), ["chat", "superchat", "soap"]);

    let mut output = Output::new();
    let refused = |response: &Response<'_>, output: &mut Output| {
        upgrade.clone().accept(response, config(), AT, output).unwrap_err()
    };
    let unoffered = Response { subprotocol: Some("Soap"), headers: &[] };
    assert_eq!(refused(&unoffered, &mut output), Invalid::UnofferedSubprotocol);
    let split = Response { subprotocol: Some("soap"), headers: &[("X", b"\r\n")] };
    assert_eq!(refused(&split, &mut output), Invalid::HeaderValue);
    assert!(output.is_empty(), "nothing is answered with an invalid response");

    let headers: &[(&str, &[u8])] = &[("X", b"y")];
    let response = Response { subprotocol: Some("soap"), headers };
    let mut conn = upgrade.accept(&response, config(), AT, &mut output).unwrap();
    let whole = serve_in(&request("", &lines), &[usize::MAX], Limits::default(), &response);
    assert_eq!(whole.result, Some(Ok(())));
    assert_eq!(taken(&mut output), whole.answer);
    let mut frame = masked(Opcode::Text, true, b"hi");
    let mut input = Input::new(&mut frame, AT);
    let event = conn.next_event(&mut input, &mut output).map(Seen::from);
    assert_eq!(event, Some(text("hi")));
    assert_eq!(conn.state(), State::Open);
}

/// RFC 6455 sections 4.2.2 and 10.2: where a handshake comes from is for the driver to judge, before
/// anything is answered.
#[test]
fn a_handshake_from_another_origin_can_be_refused() {
    for (origin, status) in [("http://server.example.com", "101"), ("http://evil.example", "403")] {
        let mut bytes = request("", &[&format!("Origin: {origin}")]);
        let (mut output, mut accept) = (Output::new(), Accept::default());
        let mut input = Input::new(&mut bytes, AT);
        let Opening::Request(request) = accept.receive(&mut input, &mut output) else { panic!() };
        let own = format!("http://{}", request.host());
        if request.header("origin") == Some(own.as_bytes()) {
            request.accept(&Response::default(), config(), &mut output).unwrap();
        } else {
            let forbidden = Reject { status: 403, headers: &[], body: b"" };
            request.reject(&forbidden, &mut output).unwrap();
        }
        let answer = String::from_utf8(taken(&mut output)).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}
