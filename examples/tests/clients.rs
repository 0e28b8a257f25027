//! The client programs, against an echo server and against servers written out by hand: what one client
//! of the command line does, both do.

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use support::{
    BLOCKED, Finished, Peer, Process, Server, accept, http, listen, masked, plain, plain_close,
};
use wsforge_core::frame::Opcode;
use wsforge_core::handshake::Response;

/// Runs each behaviour of each client.
macro_rules! behaviours {
    ($($behaviour:ident)*) => {
        behaviours! { client: env!("CARGO_BIN_EXE_client"), $($behaviour)* }
        behaviours! { client_blocking: env!("CARGO_BIN_EXE_client_blocking"), $($behaviour)* }
    };
    ($client:ident: $program:expr, $($behaviour:ident)*) => {
        mod $client {
            $(#[test]
            fn $behaviour() {
                super::$behaviour($program);
            })*
        }
    };
}

behaviours! {
    a_bad_url_or_argument_ends_with_2_and_says_why
    a_connection_that_is_cut_ends_with_1
    a_refusal_ends_with_4_and_shows_status_and_body
    a_refusals_body_is_shown_even_if_it_comes_behind_its_head
    a_refused_connection_ends_with_3
    a_request_that_cannot_be_sent_ends_with_2_and_says_why
    a_server_that_breaks_the_protocol_is_told_and_ends_it_with_1
    a_server_that_goes_away_during_the_handshake_ends_it_with_3
    a_server_that_never_finishes_its_answer_is_given_up
    an_answer_that_is_no_websocket_ends_with_4
    an_echo_arrives_while_the_input_is_still_open
    early_messages_of_the_server_are_not_lost
    headers_and_subprotocols_arrive_at_the_server
    lines_come_back_in_order_and_the_end_of_input_closes
    more_lines_than_buffers_hold_come_back_too
    the_servers_messages_and_close_are_shown
}

/// Runs the client with an input that ends at once.
fn run(client: &str, arguments: &[&str]) -> Finished {
    let mut client = Process::start(client, arguments);
    drop(client.take_stdin());
    client.finish()
}

/// Runs the client against a server that reads its request and sends `answer`.
fn run_against(client: &str, answer: &[u8]) -> Finished {
    let (listener, address) = listen();
    let client = Process::start(client, &[&format!("ws://{address}/")]);
    let mut peer = accept(&listener);
    peer.head();
    peer.send(answer);
    peer.half_close();
    client.finish()
}

/// However slowly its bytes come: each of them comes in time.
fn a_server_that_never_finishes_its_answer_is_given_up(client: &str) {
    let (listener, address) = listen();
    let client = Process::start(client, &[&format!("ws://{address}/"), "--timeout", "1"]);
    let (mut server, _) = listener.accept().expect("a client");
    thread::spawn(move || {
        while server.write_all(b"H").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert_failed(&client.finish(), 3, "");
}

/// It has printed nothing but why it failed.
fn assert_failed(finished: &Finished, code: i32, why: &str) {
    assert_eq!((finished.code, finished.stdout.len()), (Some(code), 0), "{finished:?}");
    assert!(finished.stderr.contains(why) && finished.stderr.ends_with('\n'), "{finished:?}");
}

fn lines_come_back_in_order_and_the_end_of_input_closes(client: &str) {
    let server = Server::start(env!("CARGO_BIN_EXE_echo_blocking"), &[]);
    let mut client = Process::start(client, &[&format!("ws://{}/", server.address)]);
    let lines: Vec<String> = (0..500).map(|n| format!("{n} {}", "é€😀".repeat(n % 50))).collect();
    let mut stdin = client.take_stdin();
    stdin.write_all((lines.join("\n") + "\n\nno newline").as_bytes()).expect("it reads");
    drop(stdin);
    let finished = client.finish();
    assert_eq!(finished.stdout[..500], lines);
    assert_eq!(finished.stdout[500..], ["", "no newline"]);
    assert_eq!((finished.code, &*finished.stderr), (Some(0), "closed: 1000 \"\"\n"));
}

fn an_echo_arrives_while_the_input_is_still_open(client: &str) {
    let server = Server::start(env!("CARGO_BIN_EXE_echo_blocking"), &[]);
    let mut client = Process::start(client, &[&format!("ws://{}/", server.address)]);
    let mut stdin = client.take_stdin();
    for line in ["one", "two"] {
        writeln!(stdin, "{line}").expect("it reads");
        assert_eq!(client.line(), line);
    }
    drop(stdin);
    assert_eq!(client.finish().code, Some(0));
}

/// More than all buffers between the two hold: neither may wait for the other to read first.
fn more_lines_than_buffers_hold_come_back_too(client: &str) {
    const LINES: usize = 100;
    let server = Server::start(env!("CARGO_BIN_EXE_echo_blocking"), &["--write-timeout", "3"]);
    let mut client = Process::start(client, &[&format!("ws://{}/", server.address)]);
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

fn a_bad_url_or_argument_ends_with_2_and_says_why(client: &str) {
    let bad = [
        ("nonsense", "bad URL: relative URL without a base"),
        ("ws://", "bad URL: empty host"),
        ("ws://127.0.0.1:99999/", "bad URL: invalid port number"),
        ("ws://127.0.0.1:1/#part", "bad URL: a fragment has no meaning"),
        ("wss://127.0.0.1:1/", "bad URL: "),
        ("http://127.0.0.1:1/", "bad URL: the scheme must be ws"),
    ];
    for (url, stderr) in bad {
        assert_failed(&run(client, &[url]), 2, stderr);
    }
    for arguments in [&[][..], &["ws://127.0.0.1:1/", "--header", "no colon"]] {
        let finished = run(client, arguments);
        assert_eq!((finished.code, finished.stdout.len()), (Some(2), 0));
        assert!(finished.stderr.starts_with("error: "), "{}", finished.stderr);
    }
}

fn a_request_that_cannot_be_sent_ends_with_2_and_says_why(client: &str) {
    let (listener, address) = listen();
    let url = &format!("ws://{address}/");
    let bad: [(&[&str], &str); 3] = [
        (&["--header", "Host: other"], "the library writes this header itself"),
        (&["--header", "a b: c"], "a header's name is not a token"),
        (
            &["--subprotocol", "a", "--subprotocol", "a"],
            "a subprotocol is not a token, or is offered twice",
        ),
    ];
    for (arguments, stderr) in bad {
        assert_failed(&run(client, &[&[&**url], arguments].concat()), 2, stderr);
    }
    drop(listener);
}

fn a_refused_connection_ends_with_3(client: &str) {
    // Bound and not listening, nobody else can have the port, and it refuses.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).expect("a free port");
    let address = socket.local_addr().expect("bound").as_socket().expect("an IP address");
    let finished = run(client, &[&format!("ws://{address}/")]);
    assert_failed(&finished, 3, "");
}

fn a_server_that_goes_away_during_the_handshake_ends_it_with_3(client: &str) {
    for begin in ["", "HTTP/1.1 101 Switching Proto"] {
        let finished = run_against(client, begin.as_bytes());
        assert_failed(&finished, 3, "");
    }
}

fn a_refusal_ends_with_4_and_shows_status_and_body(client: &str) {
    let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 13\r\n\r\nnot for you.\n";
    assert_failed(
        &run_against(client, answer),
        4,
        "the server refused: 403 Forbidden\nnot for you.",
    );
    let answer = b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";
    assert_failed(&run_against(client, answer), 4, "the server refused: 302 Found");
}

fn a_refusals_body_is_shown_even_if_it_comes_behind_its_head(client: &str) {
    let (listener, address) = listen();
    let client = Process::start(client, &[&format!("ws://{address}/")]);
    let mut peer = accept(&listener);
    peer.head();
    peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\n\r\n");
    // Long enough for the client to read the head alone.
    peer.0.set_read_timeout(Some(BLOCKED)).expect("a socket");
    assert!(peer.0.read(&mut [0]).is_err(), "it does not wait for the body");
    peer.send(b"not for you.");
    peer.half_close();
    assert_failed(&client.finish(), 4, "the server refused: 403 Forbidden\nnot for you.");
}

fn an_answer_that_is_no_websocket_ends_with_4(client: &str) {
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
        assert_failed(&run_against(client, answer), 4, &stderr);
    }
}

fn a_connection_that_is_cut_ends_with_1(client: &str) {
    let (listener, address) = listen();
    for reset in [false, true] {
        let mut client = Process::start(client, &[&format!("ws://{address}/")]);
        let _stdin = client.take_stdin();
        let mut peer = accept(&listener);
        peer.upgrade(&Response::default(), b"");
        peer.send(&plain(Opcode::Text, true, b"last words"));
        assert_eq!(client.line(), "last words");
        let end = if reset { Peer::reset } else { drop };
        end(peer);
        assert_failed(&client.finish(), 1, "failed: the transport ");
    }
}

fn a_server_that_breaks_the_protocol_is_told_and_ends_it_with_1(client: &str) {
    let (listener, address) = listen();
    let mut client = Process::start(client, &[&format!("ws://{address}/")]);
    let _stdin = client.take_stdin();
    let mut peer = accept(&listener);
    peer.upgrade(&Response::default(), b"");
    peer.send(&masked(Opcode::Text, true, b"servers do not mask"));
    let (opcode, body) = peer.frame();
    assert_eq!((opcode, &body[..2]), (Opcode::Close, &1002u16.to_be_bytes()[..]));
    peer.expect_last(b"");
    drop(peer);
    let why = "failed: a frame that should have been masked, or should not";
    assert_failed(&client.finish(), 1, why);
}

fn headers_and_subprotocols_arrive_at_the_server(client: &str) {
    let (listener, address) = listen();
    let url = format!("ws://{address}/a%20b/c?d=e&f");
    let mut arguments = vec![&*url, "--header", "Origin: http://example.com:80/"];
    arguments.extend(["--header", "X-Empty:", "--subprotocol", "chat", "--subprotocol", "v2.chat"]);
    let mut client = Process::start(client, &arguments);
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

fn the_servers_messages_and_close_are_shown(client: &str) {
    let (listener, address) = listen();
    let mut client = Process::start(client, &[&format!("ws://{address}")]);
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
fn early_messages_of_the_server_are_not_lost(client: &str) {
    let (listener, address) = listen();
    let mut client = Process::start(client, &[&format!("ws://{address}/")]);
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
    plays_autobahns_client(env!("CARGO_BIN_EXE_autobahn_client"), &[]);
    plays_autobahns_client(env!("CARGO_BIN_EXE_autobahn_socket"), &[]);
    plays_autobahns_client(env!("CARGO_BIN_EXE_autobahn_socket"), &["--smol"]);
}

#[test]
fn lines_are_sent_as_binary_messages_if_that_is_asked_for() {
    let (listener, address) = listen();
    let url = format!("ws://{address}/");
    let mut client = Process::start(env!("CARGO_BIN_EXE_client"), &[&url, "--binary"]);
    let mut stdin = client.take_stdin();
    let mut peer = accept(&listener);
    peer.upgrade(&Response::default(), b"");
    stdin.write_all(b"caf\xE9\r\n\nlast").expect("it reads");
    drop(stdin);
    for line in [&b"caf\xE9"[..], b"", b"last"] {
        assert_eq!(peer.frame(), (Opcode::Binary, line.to_vec()));
    }
    peer.expect_close(1000);
    peer.send(&plain_close(1000, ""));
    drop(peer);
    assert_eq!(client.finish().code, Some(0));
}

#[test]
fn a_line_that_is_no_text_is_not_sent_as_one() {
    let server = Server::start(env!("CARGO_BIN_EXE_echo_socket"), &[]);
    let mut client =
        Process::start(env!("CARGO_BIN_EXE_client"), &[&format!("ws://{}/", server.address)]);
    client.take_stdin().write_all(b"caf\xE9\ncaf\xC3\xA9\n").expect("it reads");
    let stderr = "not sent: the line is not UTF-8\nclosed: 1000 \"\"\n".into();
    assert_eq!(client.finish(), Finished { code: Some(0), stdout: vec!["café".into()], stderr });
}

#[test]
fn the_end_of_input_closes_with_the_code_and_reason_given() {
    let (listener, address) = listen();
    let url = format!("ws://{address}/");
    let arguments = [&*url, "--close-code", "4001", "--close-reason", "had enough"];
    let mut client = Process::start(env!("CARGO_BIN_EXE_client"), &arguments);
    let mut peer = accept(&listener);
    peer.upgrade(&Response::default(), b"");
    drop(client.take_stdin());
    let body = [&4001_u16.to_be_bytes()[..], b"had enough"].concat();
    assert_eq!(peer.frame(), (Opcode::Close, body));
    peer.send(&plain_close(4001, "so be it"));
    drop(peer);
    let finished = client.finish();
    assert_eq!((finished.code, &*finished.stderr), (Some(0), "closed: 4001 \"so be it\"\n"));

    let bad = run(env!("CARGO_BIN_EXE_client"), &[&url, "--close-code", "1006"]);
    assert_failed(&bad, 2, "a code that may be sent is");
}

#[test]
fn a_silent_server_is_pinged_and_nothing_is_printed() {
    let (listener, address) = listen();
    let url = format!("ws://{address}/");
    let mut client = Process::start(env!("CARGO_BIN_EXE_client"), &[&url, "--ping", "1"]);
    let stdin = client.take_stdin();
    let mut peer = accept(&listener);
    peer.upgrade(&Response::default(), b"");
    for _ in 0..2 {
        let (opcode, body) = peer.frame();
        assert_eq!(opcode, Opcode::Ping);
        peer.send(&plain(Opcode::Pong, true, &body));
    }
    drop(stdin);
    peer.expect_close(1000);
    peer.send(&plain_close(1000, ""));
    drop(peer);
    let stderr = "closed: 1000 \"\"\n".into();
    assert_eq!(client.finish(), Finished { code: Some(0), stdout: Vec::new(), stderr });
}

fn plays_autobahns_client(program: &str, options: &[&str]) {
    let (listener, address) = listen();
    let url = format!("ws://{address}/");
    let client = Process::start(program, &[options, &[&url]].concat());
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
