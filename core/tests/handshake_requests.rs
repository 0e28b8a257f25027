//! What a server sees of a request, and what is no request at all.

mod support;

use support::http::{head, request, serve};
use support::masked;
use wsforge_core::frame::Opcode;
use wsforge_core::handshake::{Accept, Opening, Request, RequestError};
use wsforge_core::{Input, Output, Timestamp};

/// The path and query of a target.
fn target(target: &str) -> (String, Option<String>) {
    let asked = serve(&request("GET", &[&format!("GET {target} HTTP/1.1")])).asked.expect(target);
    (asked.path, asked.query)
}

/// RFC 9112 section 3.2: a target is a path and query, or a whole URI.
#[test]
fn a_target_shows_its_path_and_query() {
    for (given, path, query) in [
        ("/", "/", None),
        ("/a/b", "/a/b", None),
        ("/a?", "/a", Some("")),
        ("/a?b=c&d", "/a", Some("b=c&d")),
        ("/a?b?c", "/a", Some("b?c")),
        ("/a%20b?c%23d", "/a%20b", Some("c%23d")),
        ("//a//b", "//a//b", None),
        ("/http://b/c", "/http://b/c", None),
        ("/a?to=http://b/c?d", "/a", Some("to=http://b/c?d")),
        ("http://server.example.com", "/", None),
        ("http://server.example.com/", "/", None),
        ("http://server.example.com:80/a/b?c=d", "/a/b", Some("c=d")),
        ("WS://[::1]:9001/chat", "/chat", None),
        ("wss://a/b?to=http://c/d", "/b", Some("to=http://c/d")),
    ] {
        assert_eq!(target(given), (path.into(), query.map(Into::into)), "{given}");
    }
}

/// RFC 9110 section 4.2.3: an empty path is the same as `/`.
#[test]
fn an_empty_path_before_a_query_is_a_slash() {
    assert_eq!(target("http://server.example.com?a=b"), ("/".into(), Some("a=b".into())));
}

/// RFC 9112 section 3.2: apart from CONNECT and `OPTIONS *`, a target is a path or a whole URI, and
/// has no fragment.
#[test]
fn a_target_of_no_known_form_is_refused() {
    for line in [
        "GET chat HTTP/1.1",
        "GET ../chat HTTP/1.1",
        "GET ?a=b HTTP/1.1",
        "GET * HTTP/1.1",
        "GET server.example.com:80 HTTP/1.1",
        "GET ://server.example.com/chat HTTP/1.1",
        "GET http:///chat HTTP/1.1",
        "GET /chat#top HTTP/1.1",
    ] {
        assert_eq!(serve(&request("GET", &[line])).error(), RequestError::BadRequest, "{line}");
    }
}

/// All of the head can be read before it is answered, `Origin` among it (RFC 6455 section 10.2).
#[test]
fn a_request_shows_its_method_and_its_headers() {
    let mut bytes = head(&[
        "PATCH /a HTTP/1.1",
        "Host: b",
        "Origin: https://example.com",
        "X-List: 1,\t2",
        "x-list:\t3 ",
        "X-Empty: \t",
    ]);
    let (mut accept, mut output) = (Accept::default(), Output::new());
    let mut input = Input::new(&mut bytes, Timestamp::ZERO);
    let Opening::Request(request) = accept.receive(&mut input, &mut output) else { panic!() };
    assert_eq!(request.method(), "PATCH");
    assert_eq!(request.header("ORIGIN"), Some(&b"https://example.com"[..]));
    assert_eq!(request.header("X-List"), Some(&b"1,\t2"[..]));
    assert_eq!(request.header("x-empty"), Some(&b""[..]));
    assert_eq!(request.header("X-Lis"), None);
    let headers: Vec<_> = request.headers().collect();
    let expected: [(&str, &[u8]); 5] = [
        ("Host", b"b"),
        ("Origin", b"https://example.com"),
        ("X-List", b"1,\t2"),
        ("x-list", b"3"),
        ("X-Empty", b""),
    ];
    assert_eq!(headers, expected);
    assert_eq!(request.subprotocols().count() + request.extensions().count(), 0);
    assert!(output.is_empty(), "nothing is answered before it is asked for");
}

/// RFC 9112 sections 2.2, 5.1 and 5.2: where two readers might see two requests, none is seen.
#[test]
fn what_is_no_proper_http_is_refused() {
    let good = request("", &[]);
    let with = |name, line| request(name, &[line]);
    let text = String::from_utf8(good.clone()).unwrap();
    for (what, bytes) in [
        ("line feeds alone", text.replace("\r\n", "\n").into_bytes()),
        ("one line feed alone", text.replacen("\r\nUpgrade", "\nUpgrade", 1).into_bytes()),
        ("an end of line feeds alone", text.replace("\r\n\r\n", "\r\n\n").into_bytes()),
        ("carriage returns alone", with("", "X: a\rY: b")),
        ("a carriage return before the line's end", with("", "X: a\r")),
        ("NUL in a value", with("", "X: a\0b")),
        ("NUL in a name", with("", "X\0: a")),
        ("NUL in the target", with("GET", "GET /\0 HTTP/1.1")),
        ("NUL first", [b"\0", &good[..]].concat()),
        ("DEL in a value", with("", "X: a\x7Fb")),
        ("a form feed in a value", with("", "X: a\x0Cb")),
        ("a folded line", with("", "X: a\r\n b")),
        ("a folded line of a tab", with("", "X: a\r\n\tb")),
        ("a folded Upgrade", with("Upgrade", "Upgrade:\r\n websocket")),
        ("a blank before the first header", with("Host", " Host: a")),
        ("a blank before the colon", with("Host", "Host : a")),
        ("a tab before the colon", with("", "X\t: a")),
        ("a blank in a name", with("", "X Y: a")),
        ("a name that is no token", with("", "X(Y): a")),
        ("a name beyond ASCII", with("", "\u{dc}: a")),
        ("no name", with("", ": a")),
        ("no colon", with("", "X")),
        ("no target", with("GET", "GET HTTP/1.1")),
        ("a blank before the method", [b" ", &good[..]].concat()),
        ("a method that is no token", with("GET", "G(T / HTTP/1.1")),
        (
            "a target that is no UTF-8",
            text.replace("/chat", "/@").bytes().map(|b| if b == b'@' { 0xFF } else { b }).collect(),
        ),
        ("HTTP/0.9", b"GET /chat\r\n\r\n".to_vec()),
        ("two empty lines first", [b"\r\n\r\n", &good[..]].concat()),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03".to_vec()),
        ("a WebSocket frame", masked(Opcode::Text, true, b"hi")),
    ] {
        let served = serve(&bytes);
        assert_eq!(served.result, Some(Err(RequestError::BadRequest)), "{what}");
        assert_eq!(served.error().status(), 400);
    }
    // RFC 9112 section 2.2: one empty line before the request is overlooked.
    assert_eq!(serve(&[b"\r\n", &good[..]].concat()).result, Some(Ok(())));
}

/// RFC 9110 section 15.6.6: another version of HTTP is told so.
#[test]
fn http_of_another_version_is_refused() {
    for bytes in [
        request("GET", &["GET /chat HTTP/1.0"]),
        request("GET", &["GET /chat HTTP/2.0"]),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
    ] {
        let error = serve(&bytes).error();
        assert_eq!((error, error.status()), (RequestError::UnsupportedHttpVersion, 505));
    }
}

/// RFC 9112 section 3: what should be a version and is none is a malformed request line.
#[test]
fn a_request_line_without_a_version_is_malformed() {
    for line in [
        "GET  /chat HTTP/1.1",
        "GET /chat  HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /chat http/1.1",
        "GET /chat HTTP/1",
        "GET /chat HTTP/1.1 ",
        "GET /chat HTTP/1.10",
    ] {
        assert_eq!(serve(&request("GET", &[line])).error(), RequestError::BadRequest, "{line}");
    }
}

/// RFC 9112 section 3.2: one Host, and one that can be one, even if the target names it too.
#[test]
fn a_host_that_is_missing_or_repeated_or_malformed_is_refused() {
    for lines in [
        &[][..],
        &["Host:"],
        &["Host: \t"],
        &["Host: a", "Host: b"],
        &["Host: a", "host: a"],
        &["Host: a b"],
        &["Host: a, b"],
        &["Host: a/b"],
        &["Host: user@a"],
        &["Host: http://a"],
        &["Host: a?b"],
        &["Host: a#b"],
        &["Host: a\\b"],
        &["Host: <a>"],
        &["Host: b\u{fc}cher.example"],
    ] {
        let bytes = request("Host", lines);
        assert_eq!(serve(&bytes).error(), RequestError::BadHost, "{lines:?}");
        let text = String::from_utf8(bytes).unwrap();
        let absolute = text.replace("GET /chat", "GET http://server.example.com/chat");
        assert_eq!(serve(absolute.as_bytes()).error(), RequestError::BadHost, "{lines:?}");
    }
}

/// RFC 9110 section 7.2 and RFC 3986 section 3.2: a host, and a port of digits.
#[test]
fn a_host_with_a_malformed_port_or_address_is_refused() {
    for host in [
        "a:b",
        "a:1:2",
        ":",
        ":80",
        "::1",
        "[::1",
        "::1]",
        "[::1]x",
        "[]",
        "a[b]",
        "a:80,b:80",
        "%zz",
        "%4",
    ] {
        let line = format!("Host: {host}");
        assert_eq!(serve(&request("Host", &[&line])).error(), RequestError::BadHost, "{host}");
    }
}

/// RFC 9112 section 6.3: a body that two readers might see differently, and a body where frames are
/// to follow.
#[test]
fn a_handshake_with_a_body_is_refused() {
    for lines in [
        &["Content-Length: 5"][..],
        &["Content-Length: 0", "Content-Length: 5"],
        &["Content-Length: 0", "content-length: 0"],
        &["Content-Length: 0, 0"],
        &["Content-Length: +0"],
        &["Content-Length: -0"],
        &["Content-Length: 0x0"],
        &["Content-Length: a"],
        &["Content-Length: 0 0"],
        &["Content-Length: 18446744073709551616"],
        &["Transfer-Encoding: chunked"],
        &["Transfer-Encoding: identity"],
        &["Transfer-Encoding:"],
        &["Content-Length: 0", "Transfer-Encoding: chunked"],
        &["transfer-encoding: chunked", "content-length: 5"],
    ] {
        assert_eq!(serve(&request("", lines)).error(), RequestError::BadRequest, "{lines:?}");
    }
}

/// RFC 9110 section 8.6: a length has at least one digit.
#[test]
fn a_content_length_without_digits_is_refused() {
    assert_eq!(serve(&request("", &["Content-Length:"])).error(), RequestError::BadRequest);
}

/// RFC 9112 section 6.3: such a request has no length that anybody could rely on, whatever it asks for.
#[test]
fn plain_http_with_an_ambiguous_body_is_refused() {
    for lines in [
        &["Content-Length: 5", "Content-Length: 6"][..],
        &["Content-Length: 5", "Transfer-Encoding: chunked"],
        &["Content-Length: five"],
    ] {
        let bytes = head(&[&["POST / HTTP/1.1", "Host: a"], lines].concat());
        let served = serve(&bytes);
        assert_eq!(served.asked, None, "the application never sees it");
        assert_eq!(served.error(), RequestError::BadRequest, "{lines:?}");
    }
}

/// What has been kept of a request shows the same, later.
#[test]
fn a_head_that_was_kept_is_read_again() {
    let wire = [request("", &["Cookie: a=b"]), b"behind".to_vec()].concat();
    let mut kept = None;
    let (mut accept, mut bytes) = (Accept::default(), wire.clone());
    let mut input = Input::new(&mut bytes, Timestamp::ZERO);
    if let Opening::Request(request) = accept.receive(&mut input, &mut Output::new()) {
        kept =
            Some((request.head().to_vec(), format!("{:?}", request.headers().collect::<Vec<_>>())));
    }
    let (head, headers) = kept.expect("a request");
    assert_eq!(head, wire[..wire.len() - 6]);
    let read = Request::parse(&head, Timestamp::ZERO).unwrap();
    assert_eq!((read.method(), read.path(), read.head()), ("GET", "/chat", &head[..]));
    assert_eq!(format!("{:?}", read.headers().collect::<Vec<_>>()), headers);
    assert_eq!(read.cookies().collect::<Vec<_>>(), [("a", "b")]);
}

#[test]
fn a_head_that_is_cut_or_broken_is_refused() {
    let whole = request("", &[]);
    for end in 0..whole.len() {
        assert!(Request::parse(&whole[..end], Timestamp::ZERO).is_err(), "{end}");
    }
    let cases = [
        (request("GET", &["GET /chat HTTP/1.1", "a b: c"]), RequestError::BadRequest),
        (request("GET", &["GET chat HTTP/1.1"]), RequestError::BadRequest),
        ([&whole[..], b"behind"].concat(), RequestError::BadRequest),
        // Where another parser may see another head, as for one that arrives.
        (request("", &["a: b\nc: d"]), RequestError::BadRequest),
        ([&whole[..whole.len() - 2], b"\n"].concat(), RequestError::BadRequest),
    ];
    for (head, error) in cases {
        assert_eq!(Request::parse(&head, Timestamp::ZERO).unwrap_err(), error);
    }
}

/// RFC 6265 section 4.2.1.
#[test]
fn cookies_are_shown_as_they_are() {
    for (lines, cookies) in [
        (&[][..], &[][..]),
        (&["Cookie: a=b"], &[("a", "b")]),
        (&["Cookie: a=b; c=d;e=f"], &[("a", "b"), ("c", "d"), ("e", "f")]),
        (&["Cookie: a=b", "cookie: c=d"], &[("a", "b"), ("c", "d")]),
        (&["Cookie: a=\"b c\"; d=%20; e=f=g"], &[("a", "\"b c\""), ("d", "%20"), ("e", "f=g")]),
        (&["Cookie: a=b; a=c; d="], &[("a", "b"), ("a", "c"), ("d", "")]),
        (&["Cookie: ; a; b=c; "], &[("b", "c")]),
    ] {
        let head = request("", lines);
        let request = Request::parse(&head, Timestamp::ZERO).unwrap();
        assert_eq!(request.cookies().collect::<Vec<_>>(), cookies, "{lines:?}");
    }
    let mut head = request("", &["Cookie: a=b; c=~; e=f"]);
    head.iter_mut().filter(|byte| **byte == b'~').for_each(|byte| *byte = 0xFF);
    let request = Request::parse(&head, Timestamp::ZERO).unwrap();
    assert_eq!(request.cookies().collect::<Vec<_>>(), [("a", "b"), ("e", "f")]);
}
