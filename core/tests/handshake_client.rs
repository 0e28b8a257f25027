//! The client's side of the opening handshake: what it asks for, and which answers it takes.

mod support;

use support::http::{ACCEPT, Connected, KEY, NONCE, Told, answer, connect, connect_in, taken};
use support::{frames, plain};
use wsforge_core::frame::Opcode;
use wsforge_core::handshake::{Answer, Connect, ConnectRequest, Invalid, Limits, ResponseError};
use wsforge_core::{Input, Output, Timestamp};

fn plain_request() -> ConnectRequest<'static> {
    ConnectRequest::new("server.example.com", "/chat")
}

/// What `request` looks like on the wire.
fn written(request: &ConnectRequest<'_>) -> String {
    let mut output = Output::new();
    Connect::start(request, NONCE, Limits::default(), &mut output).expect("valid");
    String::from_utf8(taken(&mut output)).unwrap()
}

/// What is wrong with `request`, for which nothing may be written.
fn invalid(request: &ConnectRequest<'_>) -> Invalid {
    let mut output = Output::new();
    let started = Connect::start(request, NONCE, Limits::default(), &mut output);
    assert!(output.is_empty(), "{}", taken(&mut output).escape_ascii());
    started.expect_err("invalid")
}

/// What a client makes of an answer to an offer.
fn connect_offering(subprotocols: &[&str], extensions: &[&str], bytes: &[u8]) -> Connected {
    let request = ConnectRequest { subprotocols, extensions, ..plain_request() };
    connect_in(&request, bytes, &[usize::MAX], Limits::default())
}

/// RFC 6455 section 4.1: the request is these bytes and no others.
#[test]
fn a_request_is_written_as_the_rfc_demands() {
    let expected = format!(
        "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    assert_eq!(written(&plain_request()), expected);

    let request = ConnectRequest {
        host: "[::1]:9001",
        path: "/?a=b&c=%20",
        subprotocols: &["chat", "superchat"],
        extensions: &["permessage-deflate; client_max_window_bits", "x;y=\"z\""],
        headers: &[("Origin", b"http://example.com"), ("X-Empty", b""), ("Cookie", b"a=\xC3\xA9")],
    };
    let expected = format!(
        "GET /?a=b&c=%20 HTTP/1.1\r\nHost: [::1]:9001\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\
         Sec-WebSocket-Protocol: chat, superchat\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x;y=\"z\"\r\n\
         Origin: http://example.com\r\nX-Empty: \r\nCookie: a=\u{e9}\r\n\r\n"
    );
    assert_eq!(written(&request), expected);
}

/// RFC 6455 section 4.1: the key is the base64 of the 16 bytes, and another one wants another answer.
#[test]
fn the_answer_must_fit_the_key() {
    for (nonce, key, fits) in [
        (NONCE, KEY, true),
        ([0; 16], "AAAAAAAAAAAAAAAAAAAAAA==", false),
        ([0xFF; 16], "/////////////////////w==", false),
    ] {
        let mut output = Output::new();
        let start = Connect::start(&plain_request(), nonce, Limits::default(), &mut output);
        let sent = String::from_utf8(taken(&mut output)).unwrap();
        assert!(sent.contains(&format!("\r\nSec-WebSocket-Key: {key}\r\n")), "{sent}");
        let (mut connect, mut bytes) = (start.unwrap(), answer("", &[]));
        let answer = connect.receive(&mut Input::new(&mut bytes, Timestamp::ZERO));
        match answer {
            Ok(Some(Answer::Accepted(_))) => assert!(fits, "{key}"),
            answer => assert!(!fits && answer.unwrap_err() == ResponseError::BadAccept, "{key}"),
        }
    }
}

/// RFC 6455 sections 3 and 4.1: nothing that a caller gives can end a line, or say what the handshake
/// says itself.
#[test]
fn a_request_that_cannot_stand_in_a_head_is_not_written() {
    let plain = plain_request();
    for host in ["", " ", "a b", "a\r\nX: y", "a\n", "a/b", "user@a", "a?b", "a#b", "\u{fc}", "a\0"]
    {
        assert_eq!(invalid(&ConnectRequest { host, ..plain }), Invalid::Host, "{host:?}");
    }
    for path in [
        "",
        "chat",
        "?a",
        "*",
        "ws://a/",
        "/a b",
        "/a#b",
        "/a HTTP/1.1\r\nX: y",
        "/\n",
        "/\0",
        "/\u{e9}",
    ] {
        assert_eq!(invalid(&ConnectRequest { path, ..plain }), Invalid::Path, "{path:?}");
    }
    for subprotocols in
        [&[""][..], &["a b"], &["a,b"], &["a", "b", "a"], &["a\r\nX: y"], &["\u{e9}"], &["a;b"]]
    {
        let request = ConnectRequest { subprotocols, ..plain };
        assert_eq!(invalid(&request), Invalid::Subprotocol, "{subprotocols:?}");
    }
    for extensions in [
        &[""][..],
        &[","],
        &["a, b"],
        &["a", "b c"],
        &["a;"],
        &["a;x="],
        &["a\r\nX: y"],
        &["\u{e9}"],
    ] {
        let request = ConnectRequest { extensions, ..plain };
        assert_eq!(invalid(&request), Invalid::Extension, "{extensions:?}");
    }
    for (header, error) in [
        (("", &b"a"[..]), Invalid::HeaderName),
        (("X Y", b"a"), Invalid::HeaderName),
        (("X:", b"a"), Invalid::HeaderName),
        (("X: y\r\nZ", b"a"), Invalid::HeaderName),
        (("X\u{e9}", b"a"), Invalid::HeaderName),
        (("X", b"a\r\nY: z"), Invalid::HeaderValue),
        (("X", b"a\n"), Invalid::HeaderValue),
        (("X", b"\r"), Invalid::HeaderValue),
        (("X", b"\0"), Invalid::HeaderValue),
        (("X", b"\x7F"), Invalid::HeaderValue),
        (("connection", b"close"), Invalid::ReservedHeader),
        (("Content-Length", b"5"), Invalid::ReservedHeader),
        (("HOST", b"b"), Invalid::ReservedHeader),
        (("Sec-WebSocket-Accept", b"a"), Invalid::ReservedHeader),
        (("sec-websocket-extensions", b"a"), Invalid::ReservedHeader),
        (("Sec-WebSocket-Key", b"a"), Invalid::ReservedHeader),
        (("Sec-WebSocket-Protocol", b"a"), Invalid::ReservedHeader),
        (("Sec-WebSocket-Version", b"8"), Invalid::ReservedHeader),
        (("Transfer-Encoding", b"chunked"), Invalid::ReservedHeader),
        (("Upgrade", b"h2c"), Invalid::ReservedHeader),
    ] {
        let request = ConnectRequest { headers: &[("X-Good", b"y"), header], ..plain };
        assert_eq!(invalid(&request), error, "{header:?}");
    }
}

/// A line break is no blank that an offer may have: behind it something else would begin.
#[test]
fn line_breaks_in_an_extension_offer_are_refused() {
    for offer in ["a\r\n\r\n", "\r\n\r\na", "a\r\n\r\n;b=c", "a;\nb", "a; b\r=c", "a;b=\x0C1"] {
        let request = ConnectRequest { extensions: &[offer], ..plain_request() };
        assert_eq!(invalid(&request), Invalid::Extension, "{offer:?}");
    }
}

/// RFC 6455 section 4.1; RFC 9110 sections 5.1 and 5.5: names, tokens and blanks.
#[test]
fn an_answer_is_known_however_it_is_spelled() {
    for (name, lines) in [
        ("", &[][..]),
        ("HTTP/1.1", &["HTTP/1.1 101"]),
        ("HTTP/1.1", &["HTTP/1.1 101 "]),
        ("HTTP/1.1", &["HTTP/1.1 101 Web Socket Protocol Handshake"]),
        ("HTTP/1.1", &["\r\nHTTP/1.1 101 \u{e9}"]),
        ("Upgrade", &["uPGRADE:\tWebSocket "]),
        ("Connection", &["connection:keep-alive , upgrade"]),
        ("Connection", &["Connection: keep-alive", "CONNECTION: ,Upgrade,"]),
        ("Sec-WebSocket-Accept", &["sec-websocket-accept:\t s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\t"]),
        ("", &["Sec-WebSocket-Extensions:"]),
        // RFC 9112 section 6.3: an interim answer has no body, whatever it says.
        ("", &["Content-Length: 5", "Transfer-Encoding: chunked"]),
        ("", &["X-Empty:", "Set-Cookie: a=b", "Date: now"]),
    ] {
        let bytes = [&answer(name, lines)[..], &plain(Opcode::Text, true, b"hi")].concat();
        let connected = connect(&bytes);
        assert_eq!(frames(&connected.behind), [(Opcode::Text, true, b"hi".to_vec())], "{lines:?}");
        let told = connected.told();
        assert!(matches!(told, Told::Accepted { subprotocol: None, .. }), "{lines:?}");
    }
}

/// RFC 6455 section 4.1: a 101 that lacks anything fails the connection.
#[test]
fn a_101_that_does_not_fit_the_request_is_refused() {
    let (accept, other) =
        (format!("Sec-WebSocket-Accept: {ACCEPT}"), "HSmrc0sMlYUkAGmm5OPpG2HaGWk=");
    let cases: [(&str, &[&str], ResponseError); 27] = [
        ("Upgrade", &[], ResponseError::BadUpgrade),
        ("Upgrade", &["Upgrade:"], ResponseError::BadUpgrade),
        ("Upgrade", &["Upgrade: h2c"], ResponseError::BadUpgrade),
        ("Upgrade", &["Upgrade: websocket, h2c"], ResponseError::BadUpgrade),
        ("Upgrade", &["Upgrade: websocket", "Upgrade: websocket"], ResponseError::BadUpgrade),
        ("Connection", &[], ResponseError::BadConnection),
        ("Connection", &["Connection: close"], ResponseError::BadConnection),
        ("Connection", &["Connection: Upgrades"], ResponseError::BadConnection),
        ("Sec-WebSocket-Accept", &[], ResponseError::BadAccept),
        ("Sec-WebSocket-Accept", &["Sec-WebSocket-Accept:"], ResponseError::BadAccept),
        ("Sec-WebSocket-Accept", &[&accept, &accept], ResponseError::BadAccept),
        ("Sec-WebSocket-Accept", &[&accept.to_lowercase()], ResponseError::BadAccept),
        ("Sec-WebSocket-Accept", &[&accept[..accept.len() - 1]], ResponseError::BadAccept),
        ("Sec-WebSocket-Accept", &[&accept.replace(ACCEPT, other)], ResponseError::BadAccept),
        ("Sec-WebSocket-Accept", &[&accept.replace(ACCEPT, KEY)], ResponseError::BadAccept),
        ("", &["Sec-WebSocket-Extensions: a"], ResponseError::UnknownExtension),
        ("", &["Sec-WebSocket-Extensions: a b"], ResponseError::BadExtensions),
        (
            "",
            &["Sec-WebSocket-Extensions:", "Sec-WebSocket-Extensions:"],
            ResponseError::BadExtensions,
        ),
        ("", &["Sec-WebSocket-Protocol: a"], ResponseError::UnknownSubprotocol),
        ("", &["Sec-WebSocket-Protocol:"], ResponseError::UnknownSubprotocol),
        ("HTTP/1.1", &["HTTP/1.0 101 Switching Protocols"], ResponseError::UnsupportedHttpVersion),
        ("HTTP/1.1", &["HTTP/2.0 101 Switching Protocols"], ResponseError::UnsupportedHttpVersion),
        ("HTTP/1.1", &["HTTP/1.1 1O1 Switching Protocols"], ResponseError::BadResponse),
        ("HTTP/1.1", &["HTTP/1.1 10 Switching Protocols"], ResponseError::BadResponse),
        ("HTTP/1.1", &["HTTP/1.1 050 Switching Protocols"], ResponseError::BadResponse),
        ("HTTP/1.1", &["HTTP/1.0 050 Switching Protocols"], ResponseError::BadResponse),
        ("HTTP/1.1", &["HTTP/1.1  101 Switching Protocols"], ResponseError::BadResponse),
    ];
    for (name, lines, error) in cases {
        assert_eq!(connect(&answer(name, lines)).error(), error, "{lines:?}");
    }
}

/// RFC 6455 section 4.1: a subprotocol is one of those that were offered, in the same case.
#[test]
fn an_answer_picks_one_of_the_offered_subprotocols_or_none() {
    let offered = &["chat", "superchat"];
    let pick = |lines: &[&str]| connect_offering(offered, &[], &answer("", lines));
    let subprotocol = |lines: &[&str]| match pick(lines).told() {
        Told::Accepted { subprotocol, .. } => subprotocol,
        told => panic!("{told:?}"),
    };
    assert_eq!(subprotocol(&[]), None);
    assert_eq!(subprotocol(&["Sec-WebSocket-Protocol: chat"]).as_deref(), Some("chat"));
    assert_eq!(subprotocol(&["sec-websocket-protocol:\tsuperchat "]).as_deref(), Some("superchat"));
    for lines in [
        &["Sec-WebSocket-Protocol: soap"][..],
        &["Sec-WebSocket-Protocol: Chat"],
        &["Sec-WebSocket-Protocol: cha"],
        &["Sec-WebSocket-Protocol: chat, superchat"],
        &["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: chat"],
        &["Sec-WebSocket-Protocol:"],
        &["Sec-WebSocket-Protocol: \u{e9}"],
    ] {
        assert_eq!(pick(lines).error(), ResponseError::UnknownSubprotocol, "{lines:?}");
    }
}

/// RFC 6455 sections 4.1 and 9.1: only offered extensions may be agreed to, in one header.
#[test]
fn an_answer_agrees_to_offered_extensions_or_none() {
    let agree = |lines: &[&str]| connect_offering(&[], &["a; x=1", "b", "a"], &answer("", lines));
    for (lines, expected) in [
        (&[][..], &[][..]),
        (&["Sec-WebSocket-Extensions: b"], &["b"]),
        (&["sec-websocket-extensions: a;y=\"2\" ; z, b"], &["a;y=2;z", "b"]),
    ] {
        let told = agree(lines).told();
        let Told::Accepted { extensions, .. } = told else { panic!("{told:?}") };
        assert_eq!(extensions, expected, "{lines:?}");
    }
    for (lines, error) in [
        (&["Sec-WebSocket-Extensions: c"][..], ResponseError::UnknownExtension),
        (&["Sec-WebSocket-Extensions: b, c"], ResponseError::UnknownExtension),
        (&["Sec-WebSocket-Extensions: A"], ResponseError::UnknownExtension),
        (&["Sec-WebSocket-Extensions: x"], ResponseError::UnknownExtension),
        (&["Sec-WebSocket-Extensions: b;"], ResponseError::BadExtensions),
        (&["Sec-WebSocket-Extensions: b, ;"], ResponseError::BadExtensions),
        (
            &["Sec-WebSocket-Extensions: a", "Sec-WebSocket-Extensions: b"],
            ResponseError::BadExtensions,
        ),
    ] {
        assert_eq!(agree(lines).error(), error, "{lines:?}");
    }
}

/// RFC 9112: what is no proper HTTP is no answer, with a 101 or without.
#[test]
fn an_answer_that_is_no_proper_http_is_refused() {
    let text = String::from_utf8(answer("", &[])).unwrap();
    for (what, bytes) in [
        ("line feeds alone", text.replace("\r\n", "\n").into_bytes()),
        ("an end of line feeds alone", text.replace("\r\n\r\n", "\r\n\n").into_bytes()),
        ("a carriage return alone", answer("", &["X: a\rb"])),
        ("NUL", answer("", &["X: a\0"])),
        ("a folded line", answer("Upgrade", &["Upgrade:", " websocket"])),
        ("a blank before the colon", answer("Upgrade", &["Upgrade : websocket"])),
        ("no colon", answer("", &["X"])),
        ("a name that is no token", answer("", &["X@: a"])),
        ("a control character in the reason", answer("HTTP/1.1", &["HTTP/1.1 101 a\x01"])),
        ("a blank first", format!(" {text}").into_bytes()),
        ("TLS", b"\x15\x03\x01\x00\x02\x02\x46".to_vec()),
        ("a frame", plain(Opcode::Text, true, b"hi")),
    ] {
        assert_eq!(connect(&bytes).error(), ResponseError::BadResponse, "{what}");
    }
}

/// RFC 9110 section 15.2: interim answers say nothing about the final one.
#[test]
fn interim_answers_are_skipped() {
    let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
        HTTP/1.1 102\r\n\r\nHTTP/1.1 199 \r\nUpgrade: h2c\r\n\r\n";
    let told = connect(&[interim, &answer("", &["X: y"])[..]].concat()).told();
    let Told::Accepted { headers, .. } = told else { panic!("{told:?}") };
    assert!(headers.contains(&("X".into(), b"y".to_vec())), "{headers:?}");
    assert_eq!(headers.len(), 4, "none of an interim answer's");
    let told = connect(&[&interim[..], b"HTTP/1.1 503 Busy\r\n\r\n"].concat()).told();
    assert_eq!(told, Told::Refused { status: 503, reason: "Busy".into(), headers: Vec::new() });
    assert_eq!(connect(interim).result, None);
    let error = connect(b"HTTP/1.1 100 Continue\nX: y\r\n\r\n").error();
    assert_eq!(error, ResponseError::BadResponse);
}

/// RFC 6455 sections 4.1 and 4.4: the caller gets to see what a server answers instead of a 101.
#[test]
fn a_refusal_can_be_read() {
    for (line, status, reason) in [
        ("HTTP/1.1 200 OK", 200, "OK"),
        ("HTTP/1.1 302 Found", 302, "Found"),
        ("HTTP/1.1 401 Unauthorized", 401, "Unauthorized"),
        ("HTTP/1.1 426 ", 426, ""),
        ("HTTP/1.1 503", 503, ""),
        ("HTTP/1.1 999 Not Known To Anybody", 999, "Not Known To Anybody"),
    ] {
        let lines = [line, "Location: ws://b/", "location:\tc ", "Sec-WebSocket-Version: 13, 8"];
        let connected = connect(&[&support::http::head(&lines)[..], b"\x00body"].concat());
        assert_eq!(connected.body, b"\x00body");
        let field = |name: &str, value: &[u8]| (name.into(), value.to_vec());
        let headers = vec![
            field("Location", b"ws://b/"),
            field("location", b"c"),
            field("Sec-WebSocket-Version", b"13, 8"),
        ];
        let expected = Told::Refused { status, reason: reason.into(), headers };
        assert_eq!(connected.told(), expected, "{line}");
    }
    // The handshake's own headers make no 101 of it.
    let told = connect(&answer("HTTP/1.1", &["HTTP/1.1 200 OK"])).told();
    assert!(matches!(told, Told::Refused { status: 200, .. }), "{told:?}");

    let mut bytes = *b"HTTP/1.1 401 \r\nWWW-Authenticate: a\r\nwww-authenticate: b\r\n\r\n";
    let mut connect =
        Connect::start(&plain_request(), NONCE, Limits::default(), &mut Output::new()).unwrap();
    let answer = connect.receive(&mut Input::new(&mut bytes, Timestamp::ZERO)).unwrap();
    let Some(Answer::Refused(refused)) = answer else { panic!("{answer:?}") };
    assert_eq!(refused.header("WWW-AUTHENTICATE"), Some(&b"a"[..]));
    assert_eq!((refused.header("X"), refused.body()), (None, &b""[..]));
}

/// RFC 9110 section 2.5: a server that only speaks HTTP/1.0 refuses in its own way, and a proxy too.
#[test]
fn a_refusal_in_http_1_0_can_be_read() {
    let told = connect(b"HTTP/1.0 404 Not Found\r\n\r\n").told();
    assert_eq!(
        told,
        Told::Refused { status: 404, reason: "Not Found".into(), headers: Vec::new() }
    );
}

#[test]
fn a_refusal_shows_no_more_of_a_body_than_a_head_may_have() {
    let head = b"HTTP/1.1 404 \r\nContent-Length: 1073741824\r\n\r\n";
    let bytes = [&head[..], &[b'x'; 1 << 20]].concat();
    assert_eq!(connect(&bytes).body, [b'x'; 16 * 1024]);
    let mut limits = Limits::default();
    limits.max_head_len = head.len();
    let body = |lens: &[usize]| connect_in(&plain_request(), &bytes, lens, limits).body;
    assert_eq!(body(&[usize::MAX]), vec![b'x'; head.len()]);
    assert_eq!(body(&[head.len() + 3]), b"xxx");
    assert_eq!(body(&[1]), b"");
}
