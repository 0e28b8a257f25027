//! The server's side of the opening handshake: what it accepts, what it refuses, and what it answers.

mod support;

use support::http::{self, ACCEPT, KEY, Served, head, request, serve, serve_in, taken};
use wsforge_core::handshake::{Accept, Invalid, Limits, Opening, RequestError, Response};
use wsforge_core::{Input, Output, Timestamp};

/// Answers a proper handshake.
fn respond(request: &[u8], response: &Response<'_>) -> Served {
    serve_in(request, &[usize::MAX], Limits::default(), response)
}

/// The answer to a proper handshake, as text.
fn answer(request: &[u8]) -> String {
    let served = serve(request);
    assert_eq!(served.result, Some(Ok(())), "{}", request.escape_ascii());
    String::from_utf8(served.answer).unwrap()
}

/// A 101 with further lines.
fn switching(lines: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{lines}\r\n"
    )
}

/// RFC 6455 sections 1.3 and 4.2.2: the answer is these bytes and no others.
#[test]
fn the_example_of_the_rfc_gets_its_answer() {
    let request = head(&[
        "GET /chat HTTP/1.1",
        "Host: server.example.com",
        "Upgrade: websocket",
        "Connection: Upgrade",
        &format!("Sec-WebSocket-Key: {KEY}"),
        "Origin: http://example.com",
        "Sec-WebSocket-Protocol: chat, superchat",
        "Sec-WebSocket-Version: 13",
    ]);
    let chat = Response { subprotocol: Some("chat"), headers: &[] };
    let served = respond(&request, &chat);
    assert_eq!(served.result, Some(Ok(())));
    let expected = switching("Sec-WebSocket-Protocol: chat\r\n");
    assert_eq!(String::from_utf8(served.answer).unwrap(), expected);
}

/// RFC 6455 section 4.2.2: the digest is of the key's text, without the blanks around it.
#[test]
fn the_key_is_digested_as_it_was_sent() {
    let key = "Sec-WebSocket-Key";
    let blanks = answer(&request(key, &["Sec-WebSocket-Key: \t  dGhlIHNhbXBsZSBub25jZQ== \t"]));
    assert_eq!(blanks, switching(""));
    let other = answer(&request(key, &["Sec-WebSocket-Key:x3JJHMbDL1EzLkh9GBhXDw=="]));
    assert_eq!(other, switching("").replace(ACCEPT, "HSmrc0sMlYUkAGmm5OPpG2HaGWk="));
}

/// RFC 6455 section 4.2.1; RFC 9110 sections 5.1, 5.5 and 5.6.1: names and these tokens match in any
/// case, blanks around values do not count, and lists may be spread over headers.
#[test]
fn a_handshake_is_known_however_it_is_spelled() {
    for (name, lines) in [
        ("Host", &["hOsT:server.example.com:8080"][..]),
        ("Host", &["Host: \t 127.0.0.1 \t"]),
        ("Host", &["Host: [::1]:9001"]),
        ("Host", &["Host: a_b-c.%41:"]),
        ("Upgrade", &["UPGRADE:WebSocket"]),
        ("Upgrade", &["Upgrade: h2c, websocket"]),
        ("Upgrade", &["Upgrade: h2c", "Upgrade: ,\twebsocket ,"]),
        ("Connection", &["Connection: keep-alive, Upgrade"]),
        ("Connection", &["connection:upgrade,keep-alive"]),
        ("Connection", &["Connection: keep-alive", "Connection: , ,UPGRADE"]),
        ("Sec-WebSocket-Version", &["sec-websocket-version:\t13\t"]),
        ("Sec-WebSocket-Key", &["SEC-WEBSOCKET-KEY:dGhlIHNhbXBsZSBub25jZQ=="]),
        // Nothing follows the head but frames.
        ("", &["Content-Length: 0"]),
        // Headers that the handshake does not know are not its business, empty ones neither.
        ("", &["Cookie: a=b", "X-Empty:", "Authorization: Basic eA==", "X-Latin: \u{e9}"]),
    ] {
        assert_eq!(answer(&request(name, lines)), switching(""), "{lines:?}");
    }
}

/// RFC 6455 section 4.2.1: what does not ask for an upgrade to a WebSocket gets none.
#[test]
fn a_request_that_does_not_ask_for_it_is_not_upgraded() {
    let not_upgrade = RequestError::NotUpgrade;
    for (name, lines, error) in [
        ("Upgrade", &[][..], not_upgrade),
        ("Upgrade", &["Upgrade:"], not_upgrade),
        ("Upgrade", &["Upgrade: h2c"], not_upgrade),
        ("Upgrade", &["Upgrade: websockets, web socket, \"websocket\""], not_upgrade),
        ("Connection", &[], RequestError::BadUpgrade),
        ("Connection", &["Connection: keep-alive"], RequestError::BadUpgrade),
        ("Connection", &["Connection: Upgrades, Up grade, \"Upgrade\""], RequestError::BadUpgrade),
        ("GET", &["POST /chat HTTP/1.1"], RequestError::BadMethod),
        ("GET", &["HEAD /chat HTTP/1.1"], RequestError::BadMethod),
        ("GET", &["get /chat HTTP/1.1"], RequestError::BadMethod),
        ("GET", &["CONNECT server.example.com:80 HTTP/1.1"], RequestError::BadMethod),
    ] {
        assert_eq!(serve(&request(name, lines)).error(), error, "{lines:?}");
    }
}

/// RFC 6455 sections 4.2.1 and 11.3.1: one key, the base64 of 16 bytes.
#[test]
fn a_key_that_is_missing_or_repeated_or_no_base64_of_16_bytes_is_refused() {
    for lines in [
        &[][..],
        &["Sec-WebSocket-Key:"],
        &[
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==",
        ],
        &[
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        ],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWFi"],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"],
        &["Sec-WebSocket-Key: dGhlIHNhbXBs ZSBub25jZQ=="],
        &["Sec-WebSocket-Key: _-hlIHNhbXBsZSBub25jZQ=="],
        &["Sec-WebSocket-Key: \"GhlIHNhbXBsZSBub25jZQ=\""],
    ] {
        let error = serve(&request("Sec-WebSocket-Key", lines)).error();
        assert_eq!((error, error.status()), (RequestError::BadKey, 400), "{lines:?}");
    }
}

/// RFC 6455 sections 4.2.2 and 4.4: another version is told which one is spoken; section 11.3.5: two
/// versions are malformed.
#[test]
fn a_version_that_is_not_13_is_told_so() {
    for (lines, error) in [
        (&[][..], RequestError::UnsupportedVersion),
        (&["Sec-WebSocket-Version:"], RequestError::UnsupportedVersion),
        (&["Sec-WebSocket-Version: 8"], RequestError::UnsupportedVersion),
        (&["Sec-WebSocket-Version: 14"], RequestError::UnsupportedVersion),
        (&["Sec-WebSocket-Version: 13, 8"], RequestError::UnsupportedVersion),
        (&["Sec-WebSocket-Version: 013"], RequestError::UnsupportedVersion),
        (&["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"], RequestError::BadRequest),
        (&["Sec-WebSocket-Version: 13", "sec-websocket-version: 8"], RequestError::BadRequest),
    ] {
        let error_seen = serve(&request("Sec-WebSocket-Version", lines)).error();
        assert_eq!(error_seen, error, "{lines:?}");
    }
}

/// RFC 6455 section 4.2.2 and RFC 9110 section 15: each refusal is a whole HTTP answer, and says that
/// the server closes.
#[test]
fn every_refusal_is_an_http_answer_with_its_status_and_headers() {
    let reserved = Response { subprotocol: None, headers: &[("Upgrade", b"x")] };
    let fields: Vec<_> = (0..101).map(|i| format!("X{i}: y")).collect();
    let fields: Vec<_> = fields.iter().map(String::as_str).collect();
    let long = http::request_of(16 * 1024 + 1);
    let plain = Response::default();
    let with = |name, line| request(name, &[line]);
    let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    for (request, response, error, line, headers) in [
        (
            with("", "Sec-WebSocket-Extensions: a b"),
            &plain,
            RequestError::BadExtensions,
            "400 Bad Request",
            "",
        ),
        (request("Host", &[]), &plain, RequestError::BadHost, "400 Bad Request", ""),
        (request("Sec-WebSocket-Key", &[]), &plain, RequestError::BadKey, "400 Bad Request", ""),
        (
            with("GET", "PUT / HTTP/1.1"),
            &plain,
            RequestError::BadMethod,
            "405 Method Not Allowed",
            "Allow: GET\r\n",
        ),
        (with("", "X Y: z"), &plain, RequestError::BadRequest, "400 Bad Request", ""),
        (
            with("", "Sec-WebSocket-Protocol: a b"),
            &plain,
            RequestError::BadSubprotocols,
            "400 Bad Request",
            "",
        ),
        (request("Connection", &[]), &plain, RequestError::BadUpgrade, "400 Bad Request", ""),
        (long, &plain, RequestError::HeadTooLong, "431 Request Header Fields Too Large", ""),
        (
            request("", &[]),
            &reserved,
            RequestError::Invalid(Invalid::ReservedHeader),
            "500 Internal Server Error",
            "",
        ),
        (
            request("Upgrade", &[]),
            &plain,
            RequestError::NotUpgrade,
            "426 Upgrade Required",
            upgrade,
        ),
        (
            request("", &fields),
            &plain,
            RequestError::TooManyHeaders,
            "431 Request Header Fields Too Large",
            "",
        ),
        (
            with("GET", "GET / HTTP/1.0"),
            &plain,
            RequestError::UnsupportedHttpVersion,
            "505 HTTP Version Not Supported",
            "",
        ),
        (
            with("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"),
            &plain,
            RequestError::UnsupportedVersion,
            "426 Upgrade Required",
            upgrade,
        ),
    ] {
        let served = respond(&request, response);
        assert_eq!(served.result, Some(Err(error)));
        // A fault of the server's own is its own affair.
        let body = error.to_string().replace(": the library writes this header itself", "");
        let connection = if error.status() == 426 { "Upgrade, close" } else { "close" };
        let expected = format!(
            "HTTP/1.1 {line}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\
             Content-Type: text/plain; charset=utf-8\r\n{headers}\r\n{body}",
            body.len()
        );
        assert_eq!(String::from_utf8(served.answer).unwrap(), expected);
        assert!(!body.is_empty() && line.starts_with(&error.status().to_string()));

        // The same again for who has asked `upgrade` and answers later.
        let (mut output, mut asked) = (Output::new(), http::request("", &[]));
        let mut input = Input::new(&mut asked, Timestamp::ZERO);
        match Accept::default().receive(&mut input, &mut output) {
            Opening::Request(request) => request.refuse(error, &mut output),
            opening => panic!("{opening:?}"),
        }
        assert_eq!(String::from_utf8(taken(&mut output)).unwrap(), expected);
    }
}

/// RFC 6455 sections 4.1, 4.2.2 and 11.3.4: offers are one list, in order; at most one is picked.
#[test]
fn the_answer_names_one_of_the_offered_subprotocols_or_none() {
    let lines = ["Sec-WebSocket-Protocol: chat , v2.chat", "sec-websocket-protocol:,b,"];
    let offered = request("", &lines);
    let pick = |name| respond(&offered, &Response { subprotocol: name, headers: &[] });

    assert_eq!(pick(None).asked.unwrap().subprotocols, ["chat", "v2.chat", "b"]);
    assert_eq!(String::from_utf8(pick(None).answer).unwrap(), switching(""));
    for name in ["chat", "v2.chat", "b"] {
        let expected = switching(&format!("Sec-WebSocket-Protocol: {name}\r\n"));
        assert_eq!(String::from_utf8(pick(Some(name)).answer).unwrap(), expected);
    }
    // In no other case, and no part of one.
    for name in ["Chat", "cha", "v2", "soap", "Sec-WebSocket-Protocol"] {
        let error = RequestError::Invalid(Invalid::UnofferedSubprotocol);
        assert_eq!(pick(Some(name)).error(), error, "{name}");
    }
    for name in ["", " ", "chat,b", "chat, v2.chat", "chat\r\nX: y", "ch\u{e4}t"] {
        let error = RequestError::Invalid(Invalid::Subprotocol);
        assert_eq!(pick(Some(name)).error(), error, "{name:?}");
    }
    let none = Response { subprotocol: Some("chat"), headers: &[] };
    let error = RequestError::Invalid(Invalid::UnofferedSubprotocol);
    assert_eq!(respond(&request("", &[]), &none).error(), error);
}

/// RFC 6455 section 4.1: subprotocols are tokens; bytes above 0x7F are none.
#[test]
fn a_subprotocol_that_is_no_token_is_refused() {
    for value in ["a b", "a, b c", "caf\u{e9}", "a;b", "a/b", "\"a\"", "(a)"] {
        let line = format!("Sec-WebSocket-Protocol: {value}");
        let error = serve(&request("", &[&line])).error();
        assert_eq!((error, error.status()), (RequestError::BadSubprotocols, 400), "{value}");
    }
    // Bytes that are no UTF-8 at all.
    let mut bytes = request("", &["Sec-WebSocket-Protocol: ok, @"]);
    let at = bytes.iter().rposition(|byte| *byte == b'@').unwrap();
    bytes[at] = 0xFF;
    assert_eq!(serve(&bytes).error(), RequestError::BadSubprotocols);
}

/// RFC 6455 section 9.1: extensions that the server does not know are declined by silence, however
/// odd their parameters are.
#[test]
fn extensions_are_shown_and_declined() {
    for (lines, expected) in [
        (&["Sec-WebSocket-Extensions:"][..], &[][..]),
        (
            &["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"],
            &["permessage-deflate;client_max_window_bits"],
        ),
        (
            &[
                "Sec-WebSocket-Extensions: a;x=8;x=99 , b ; constructor",
                "sec-websocket-extensions:c;y=\"7\"",
            ],
            &["a;x=8;x=99", "b;constructor", "c;y=7"],
        ),
    ] {
        let served = serve(&request("", lines));
        assert_eq!(String::from_utf8(served.answer).unwrap(), switching(""), "{lines:?}");
        assert_eq!(served.asked.unwrap().extensions, expected);
    }
    let flood = "p; server_max_window_bits=99, ".repeat(500);
    let served = serve(&request("", &[&format!("Sec-WebSocket-Extensions: {flood}")]));
    assert_eq!(served.asked.unwrap().extensions.len(), 500);
    assert_eq!(String::from_utf8(served.answer).unwrap(), switching(""));
}

/// RFC 6455 section 9.1: a list that breaks the grammar fails the handshake.
#[test]
fn an_extension_list_that_breaks_the_grammar_is_refused() {
    for value in [
        "a b",
        "a;",
        "a;=8",
        "a;x=",
        "a;x=\"",
        "a;x=\"b c\"",
        "a;x=\"\"",
        ";a",
        "a=1",
        "\u{e9}",
        "a, b;;c",
    ] {
        let line = format!("Sec-WebSocket-Extensions: {value}");
        assert_eq!(serve(&request("", &[&line])).error(), RequestError::BadExtensions, "{value}");
        // A good header before it does not hide it.
        let lines = ["Sec-WebSocket-Extensions: good", &line];
        assert_eq!(serve(&request("", &lines)).error(), RequestError::BadExtensions, "{value}");
    }
}

/// RFC 6455 section 9.1: between its quotes a value is a token, without blanks.
#[test]
fn a_quoted_extension_value_with_blanks_is_refused() {
    for value in ["a;x=\" 8\"", "a;x=\"8 \"", "a;x=\"\t8\""] {
        let line = format!("Sec-WebSocket-Extensions: {value}");
        assert_eq!(serve(&request("", &[&line])).error(), RequestError::BadExtensions, "{value}");
    }
}

/// RFC 6455 section 4.2.2: cookies and the like may be set with the 101.
#[test]
fn a_101_carries_headers_of_the_servers_own() {
    let headers: &[(&str, &[u8])] =
        &[("Set-Cookie", b"a=b; Path=/"), ("Set-Cookie", b"c=d\t"), ("X-Raw", b"\xFF"), ("X", b"")];
    let served = respond(&request("", &[]), &Response { subprotocol: None, headers });
    let mut expected =
        switching("Set-Cookie: a=b; Path=/\r\nSet-Cookie: c=d\t\r\nX-Raw: @\r\nX: \r\n")
            .into_bytes();
    let at = expected.iter().position(|byte| *byte == b'@').unwrap();
    expected[at] = 0xFF;
    assert_eq!(served.answer.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

/// A header given by the application ends with its line, and replaces none of the handshake's.
#[test]
fn a_header_of_the_servers_own_cannot_change_the_answer() {
    let (name, value) = (Invalid::HeaderName, Invalid::HeaderValue);
    for (header, invalid) in [
        (("X", &b"a\r\nSet-Cookie: b"[..]), value),
        (("X", b"a\nb"), value),
        (("X", b"a\rb"), value),
        (("X", b"\0"), value),
        (("X", b"\x7F"), value),
        (("", b"a"), name),
        (("X Y", b"a"), name),
        (("X:", b"a"), name),
        (("X\r\nY", b"a"), name),
        (("\u{dc}", b"a"), name),
        (("connection", b"close"), Invalid::ReservedHeader),
        (("Content-Length", b"5"), Invalid::ReservedHeader),
        (("Sec-WebSocket-Accept", b"a"), Invalid::ReservedHeader),
        (("SEC-WEBSOCKET-EXTENSIONS", b"a"), Invalid::ReservedHeader),
        (("Sec-WebSocket-Protocol", b"a"), Invalid::ReservedHeader),
        (("Sec-WebSocket-Version", b"13"), Invalid::ReservedHeader),
        (("Transfer-Encoding", b"chunked"), Invalid::ReservedHeader),
        (("upgrade", b"a"), Invalid::ReservedHeader),
    ] {
        let headers = &[("X-Good", &b"y"[..]), header];
        let served = respond(&request("", &[]), &Response { subprotocol: None, headers });
        assert_eq!(served.error(), RequestError::Invalid(invalid), "{header:?}");
    }
}
