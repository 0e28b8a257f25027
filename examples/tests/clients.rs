//! The two client programs, against an echo server and against servers written out by hand.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use support::{BLOCKED, Finished, Peer, Process, Server, http, masked, plain, plain_close};
use wsforge_core::frame::{Header, Opcode};
use wsforge_core::handshake::{Accept, Opening, Response};
use wsforge_core::{Config, Input, Output, Timestamp, mask};

const CLIENT: &str = env!("CARGO_BIN_EXE_client_blocking");

/// A socket to be reached at an address.
fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

fn accept(listener: &TcpListener) -> Peer {
    Peer::new(listener.accept().expect("a client").0)
}

/// Runs the client with an input that ends at once.
fn run(arguments: &[&str]) -> Finished {
    let mut client = Process::start(CLIENT, arguments);
    drop(client.take_stdin());
    client.finish()
}

/// Runs the client against a server that reads its request and sends `answer`.
fn run_against(answer: &[u8]) -> Finished {
    let (listener, address) = listen();
    let client = Process::start(CLIENT, &[&format!("ws://{address}/")]);
    let mut peer = accept(&listener);
    peer.head();
    peer.send(answer);
    peer.half_close();
    client.finish()
}

/// However slowly its bytes come: each of them comes in time.
#[test]
fn a_server_that_never_finishes_its_answer_is_given_up() {
    let (listener, address) = listen();
    let client = Process::start(CLIENT, &[&format!("ws://{address}/"), "--timeout", "1"]);
    let (mut server, _) = listener.accept().expect("a client");
    thread::spawn(move || {
        while server.write_all(b"H").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(client.finish(), failed(3, "cannot connect: timed out"));
}

/// What a client leaves that has printed nothing.
fn failed(code: i32, stderr: &str) -> Finished {
    Finished { code: Some(code), stdout: Vec::new(), stderr: format!("{stderr}\n") }
}

impl Peer {
    /// Reads a client's request up to its end.
    fn head(&self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.byte());
        }
        String::from_utf8(head).expect("ASCII")
    }

    /// Reads a client's request, opens the connection and sends `early` in the same write. Returns the
    /// request.
    fn upgrade(&mut self, response: &Response<'_>, early: &[u8]) -> String {
        let head = self.head();
        let (mut bytes, mut output) = (head.clone().into_bytes(), Output::new());
        let mut accept = Accept::default();
        let mut input = Input::new(&mut bytes, Timestamp::ZERO);
        let Opening::Request(request) = accept.receive(&mut input, &mut output) else {
            panic!("{head}");
        };
        request.accept(response, Config::default().into(), &mut output).expect("accepted");
        output.put(early);
        self.send(&http::taken(&mut output));
        head
    }

    /// Reads one frame of a client.
    fn frame(&self) -> (Opcode, Vec<u8>) {
        let mut bytes = Vec::new();
        let header = loop {
            bytes.push(self.byte());
            if let Some((header, _)) = Header::parse(&bytes).expect("valid") {
                break header;
            }
        };
        let mut payload = self.take(header.len as usize);
        mask::apply(&mut payload, header.mask.expect("clients mask"));
        assert_eq!((header.fin, payload.len() as u64), (true, header.len));
        (header.opcode, payload)
    }

    fn byte(&self) -> u8 {
        *self.take(1).first().expect("not the end")
    }

    /// A closing handshake begun by this server.
    fn end(mut self) {
        self.send(&plain_close(1000, ""));
        self.expect_close(1000);
    }

    /// Reads the client's Close, which has a code alone.
    fn expect_close(&self, code: u16) {
        assert_eq!(self.frame(), (Opcode::Close, code.to_be_bytes().to_vec()));
    }
}

#[test]
fn lines_come_back_in_order_and_the_end_of_input_closes() {
    let server = Server::start(env!("CARGO_BIN_EXE_echo_blocking"), &[]);
    let mut client = Process::start(CLIENT, &[&format!("ws://{}/", server.address)]);
    let lines: Vec<String> = (0..500).map(|n| format!("{n} {}", "é€😀".repeat(n % 50))).collect();
    let mut stdin = client.take_stdin();
    stdin.write_all((lines.join("\n") + "\n\nno newline").as_bytes()).expect("it reads");
    drop(stdin);
    let finished = client.finish();
    assert_eq!(finished.stdout[..500], lines);
    assert_eq!(finished.stdout[500..], ["", "no newline"]);
    assert_eq!((finished.code, &*finished.stderr), (Some(0), "closed: 1000 \"\"\n"));
}

#[test]
fn an_echo_arrives_while_the_input_is_still_open() {
    let server = Server::start(env!("CARGO_BIN_EXE_echo_blocking"), &[]);
    let mut client = Process::start(CLIENT, &[&format!("ws://{}/", server.address)]);
    let mut stdin = client.take_stdin();
    for line in ["one", "two"] {
        writeln!(stdin, "{line}").expect("it reads");
        assert_eq!(client.line(), line);
    }
    drop(stdin);
    assert_eq!(client.finish().code, Some(0));
}

/// More than all buffers between the two hold: neither may wait for the other to read first.
#[test]
fn more_lines_than_buffers_hold_come_back_too() {
    const LINES: usize = 100;
    let server = Server::start(env!("CARGO_BIN_EXE_echo_blocking"), &["--write-timeout", "3"]);
    let mut client = Process::start(CLIENT, &[&format!("ws://{}/", server.address)]);
    let mut stdin = client.take_stdin();
    let line = |n: usize| format!("{n} {}", "x".repeat(1024 * 1024));
    thread::scope(|scope| {
        // It fails if the client ends before it has read all of it.
        scope.spawn(move || (0..LINES).try_for_each(|n| writeln!(stdin, "{}", line(n))));
        let finished = client.finish();
        assert_eq!((finished.code, &*finished.stderr), (Some(0), "closed: 1000 \"\"\n"));
        assert_eq!(finished.stdout.len(), LINES);
        assert!((0..LINES).all(|n| finished.stdout[n] == line(n)));
    });
}

#[test]
fn a_bad_url_or_argument_ends_with_2_and_says_why() {
    let bad = [
        ("nonsense", "bad URL: relative URL without a base"),
        ("ws://", "bad URL: empty host"),
        ("ws://127.0.0.1:99999/", "bad URL: invalid port number"),
        ("ws://127.0.0.1:1/#part", "bad URL: a fragment has no meaning"),
        (
            "wss://127.0.0.1:1/",
            "bad URL: the scheme must be ws, not wss (TLS is a driver's to add)",
        ),
        (
            "http://127.0.0.1:1/",
            "bad URL: the scheme must be ws, not http (TLS is a driver's to add)",
        ),
    ];
    for (url, stderr) in bad {
        assert_eq!(run(&[url]), failed(2, stderr));
    }
    for arguments in [&[][..], &["ws://127.0.0.1:1/", "--header", "no colon"]] {
        let finished = run(arguments);
        assert_eq!((finished.code, finished.stdout.len()), (Some(2), 0));
        assert!(finished.stderr.starts_with("error: "), "{}", finished.stderr);
    }
}

#[test]
fn a_request_that_cannot_be_sent_ends_with_2_and_says_why() {
    let (listener, address) = listen();
    let url = &format!("ws://{address}/");
    let bad: [(&[&str], &str); 3] = [
        (&["--header", "Host: other"], "bad request: the library writes this header itself"),
        (&["--header", "a b: c"], "bad request: a header's name is not a token"),
        (
            &["--subprotocol", "a", "--subprotocol", "a"],
            "bad request: a subprotocol is not a token, or is offered twice",
        ),
    ];
    for (arguments, stderr) in bad {
        assert_eq!(run(&[&[&**url], arguments].concat()), failed(2, stderr));
    }
    drop(listener);
}

#[test]
fn a_refused_connection_ends_with_3() {
    // Bound and not listening, nobody else can have the port, and it refuses.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).expect("a free port");
    let address = socket.local_addr().expect("bound").as_socket().expect("an IP address");
    let finished = run(&[&format!("ws://{address}/")]);
    assert_eq!((finished.code, finished.stdout.len()), (Some(3), 0));
    assert!(finished.stderr.starts_with("cannot connect: "), "{}", finished.stderr);
}

#[test]
fn a_server_that_goes_away_during_the_handshake_ends_it_with_3() {
    for begin in ["", "HTTP/1.1 101 Switching Proto"] {
        let finished = run_against(begin.as_bytes());
        assert_eq!((finished.code, finished.stdout.len()), (Some(3), 0));
        assert!(finished.stderr.starts_with("cannot connect: "), "{}", finished.stderr);
    }
}

#[test]
fn a_refusal_ends_with_4_and_shows_status_and_body() {
    let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 13\r\n\r\nnot for you.\n";
    assert_eq!(run_against(answer), failed(4, "the server refused: 403 Forbidden\nnot for you."));
    let answer = b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(run_against(answer), failed(4, "the server refused: 302 Found"));
}

#[test]
fn a_refusals_body_is_shown_even_if_it_comes_behind_its_head() {
    let (listener, address) = listen();
    let client = Process::start(CLIENT, &[&format!("ws://{address}/")]);
    let mut peer = accept(&listener);
    peer.head();
    peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\n\r\n");
    // Long enough for the client to read the head alone.
    peer.0.set_read_timeout(Some(BLOCKED)).expect("a socket");
    assert!(peer.0.read(&mut [0]).is_err(), "it does not wait for the body");
    peer.send(b"not for you.");
    peer.half_close();
    assert_eq!(client.finish(), failed(4, "the server refused: 403 Forbidden\nnot for you."));
}

#[test]
fn an_answer_that_is_no_websocket_ends_with_4() {
    let bad: [(&[u8], &str); 5] = [
        (&http::answer("", &[]), "missing, repeated or wrong Sec-WebSocket-Accept"),
        (&http::answer("Upgrade", &["Upgrade: h2c"]), "Upgrade is not websocket"),
        (b"HTTP/1.1 abc\r\n\r\n", "malformed HTTP response"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", "the HTTP version must be 1.1"),
        (
            &http::answer("HTTP/1.1", &["HTTP/1.0 101 Switching Protocols"]),
            "the HTTP version must be 1.1",
        ),
    ];
    for (answer, why) in bad {
        let stderr = format!("the server does not speak WebSocket: {why}");
        assert_eq!(run_against(answer), failed(4, &stderr));
    }
}

#[test]
fn a_connection_that_is_cut_ends_with_1() {
    let (listener, address) = listen();
    for reset in [false, true] {
        let mut client = Process::start(CLIENT, &[&format!("ws://{address}/")]);
        let _stdin = client.take_stdin();
        let mut peer = accept(&listener);
        peer.upgrade(&Response::default(), b"");
        peer.send(&plain(Opcode::Text, true, b"last words"));
        assert_eq!(client.line(), "last words");
        let end = if reset { Peer::reset } else { drop };
        end(peer);
        assert_eq!(client.finish(), failed(1, "failed: the transport ended without a Close"));
    }
}

#[test]
fn a_server_that_breaks_the_protocol_is_told_and_ends_it_with_1() {
    let (listener, address) = listen();
    let mut client = Process::start(CLIENT, &[&format!("ws://{address}/")]);
    let _stdin = client.take_stdin();
    let mut peer = accept(&listener);
    peer.upgrade(&Response::default(), b"");
    peer.send(&masked(Opcode::Text, true, b"servers do not mask"));
    let (opcode, body) = peer.frame();
    assert_eq!((opcode, &body[..2]), (Opcode::Close, &1002u16.to_be_bytes()[..]));
    peer.expect_last(b"");
    drop(peer);
    let why = "failed: a frame that should have been masked, or should not";
    assert_eq!(client.finish(), failed(1, why));
}

#[test]
fn headers_and_subprotocols_arrive_at_the_server() {
    let (listener, address) = listen();
    let url = format!("ws://{address}/a%20b/c?d=e&f");
    let mut arguments = vec![&*url, "--header", "Origin: http://example.com:80/"];
    arguments.extend(["--header", "X-Empty:", "--subprotocol", "chat", "--subprotocol", "v2.chat"]);
    let mut client = Process::start(CLIENT, &arguments);
    let stdin = client.take_stdin();
    let mut peer = accept(&listener);
    let response = Response { subprotocol: Some("v2.chat"), ..Response::default() };
    let head = peer.upgrade(&response, b"");
    let mut lines: Vec<&str> = head.trim_end_matches("\r\n").split("\r\n").collect();
    let key = lines.iter().position(|line| line.starts_with("Sec-WebSocket-Key: "));
    assert_eq!(lines.remove(key.expect("a key")).len(), "Sec-WebSocket-Key: ".len() + 24);
    let expected = [
        "GET /a%20b/c?d=e&f HTTP/1.1",
        &format!("Host: {address}"),
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: chat, v2.chat",
        "Origin: http://example.com:80/",
        "X-Empty: ",
    ];
    assert_eq!(lines, expected);

    drop(stdin);
    peer.expect_close(1000);
    peer.send(&plain_close(1000, ""));
    drop(peer);
    let finished = client.finish();
    assert_eq!((finished.code, finished.stdout.len()), (Some(0), 0));
    assert_eq!(finished.stderr.lines().next(), Some("the subprotocol is v2.chat"));
}

#[test]
fn the_servers_messages_and_close_are_shown() {
    let (listener, address) = listen();
    let mut client = Process::start(CLIENT, &[&format!("ws://{address}")]);
    let mut stdin = client.take_stdin();
    let mut peer = accept(&listener);
    assert!(peer.upgrade(&Response::default(), b"").starts_with("GET / HTTP/1.1\r\n"));
    writeln!(stdin, "hello").expect("it reads");
    assert_eq!(peer.frame(), (Opcode::Text, b"hello".to_vec()));
    let wire = [
        plain(Opcode::Text, false, "Zo".as_bytes()),
        plain(Opcode::Ping, true, b"?"),
        plain(Opcode::Continuation, true, "ë".as_bytes()),
        plain(Opcode::Binary, true, &[0; 1234]),
        plain_close(4001, "go\u{1B} away"),
    ];
    peer.send(&wire.concat());
    assert_eq!(peer.frame(), (Opcode::Pong, b"?".to_vec()));
    peer.expect_close(4001);
    drop(peer);
    let stdout = ["Zoë", "1234 bytes"].map(String::from).to_vec();
    let stderr = "closed: 4001 \"go\\u{1b} away\"\n".into();
    assert_eq!(client.finish(), Finished { code: Some(0), stdout, stderr });
}

/// What comes in one segment with the server's answer.
#[test]
fn early_messages_of_the_server_are_not_lost() {
    let (listener, address) = listen();
    let mut client = Process::start(CLIENT, &[&format!("ws://{address}/")]);
    let _stdin = client.take_stdin();
    let mut peer = accept(&listener);
    let early = [plain(Opcode::Text, true, b"early"), plain_close(1000, "done")].concat();
    peer.upgrade(&Response::default(), &early);
    peer.expect_close(1000);
    drop(peer);
    let (stdout, stderr) = (vec!["early".into()], "closed: 1000 \"done\"\n".into());
    assert_eq!(client.finish(), Finished { code: Some(0), stdout, stderr });
}

#[test]
fn autobahns_client_runs_every_case_and_asks_for_the_report() {
    let (listener, address) = listen();
    let client =
        Process::start(env!("CARGO_BIN_EXE_autobahn_client"), &[&format!("ws://{address}/")]);
    let serve = |path: &str| {
        let mut peer = accept(&listener);
        let head = peer.upgrade(&Response::default(), b"");
        assert_eq!(head.split(' ').nth(1), Some(path));
        peer
    };

    let mut peer = serve("/getCaseCount");
    peer.send(&plain(Opcode::Text, true, b"3"));
    peer.end();
    let mut peer = serve("/runCase?case=1&agent=wsforge");
    for text in ["", "Hello-µ@ßöäüàá-UTF-8!!"] {
        peer.send(&plain(Opcode::Text, true, text.as_bytes()));
        assert_eq!(peer.frame(), (Opcode::Text, text.into()));
    }
    peer.end();
    let mut peer = serve("/runCase?case=2&agent=wsforge");
    let body = support::bytes(1024 * 1024, 0);
    peer.send(&plain(Opcode::Binary, false, &body[..700_000]));
    peer.send(&plain(Opcode::Continuation, true, &body[700_000..]));
    assert!(peer.frame() == (Opcode::Binary, body));
    peer.end();
    // A case that ends in the rude way.
    let mut peer = serve("/runCase?case=3&agent=wsforge");
    peer.send(b"\xFF\xFF");
    assert_eq!(peer.frame().0, Opcode::Close);
    peer.reset();
    serve("/updateReports?agent=wsforge").end();

    let stdout = Vec::new();
    assert_eq!(client.finish(), Finished { code: Some(0), stdout, stderr: String::new() });
}
