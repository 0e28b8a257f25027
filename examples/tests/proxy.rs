//! The proxy between a client and a server, both written out by hand unless the server is an echo.

mod support;

use std::io::Write;
use std::sync::mpsc;
use std::thread;

use socket2::{Domain, Socket, Type};
use support::{
    Finished, PATIENCE, Peer, Process, Server, accept, bytes, http, listen, masked, masked_close,
    plain, plain_close,
};
use wsforge_core::frame::Opcode;
use wsforge_core::handshake::Response;

const PROXY: &str = env!("CARGO_BIN_EXE_proxy");
const ECHO: &str = env!("CARGO_BIN_EXE_echo_socket");

const MIB: usize = 1024 * 1024;

/// Within which systems hold bytes that nobody reads, at either side of the proxy.
const ENOUGH: usize = 512 * MIB;

/// A proxy, its client, and its server.
fn connect() -> (Server, Peer, Peer) {
    let (listener, address) = listen();
    let proxy = Server::start(PROXY, &["--to", &format!("ws://{address}/")]);
    let mut client = proxy.dial();
    client.send(&http::request("", &[]));
    let mut server = accept(&listener);
    server.upgrade(&Response::default(), b"");
    client.expect(&http::answer("", &[]));
    (proxy, client, server)
}

/// The body of a Close.
fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

#[test]
fn messages_of_both_kinds_pass_both_ways() {
    let (_proxy, mut client, mut server) = connect();
    for (opcode, body) in [(Opcode::Text, "é€😀".into()), (Opcode::Binary, bytes(300_000, 1))]
    {
        client.send(&masked(opcode, true, &body));
        assert!(server.frame() == (opcode, body.clone()));
        server.send(&plain(opcode, true, &body));
        client.expect(&plain(opcode, true, &body));
    }
}

#[test]
fn a_close_of_the_client_arrives_with_code_and_reason() {
    let (_proxy, mut client, mut server) = connect();
    client.send(&[masked(Opcode::Text, true, b"last"), masked_close(4001, "bye")].concat());
    client.expect_last(&plain_close(4001, ""));
    assert_eq!(server.frame(), (Opcode::Text, b"last".to_vec()));
    assert_eq!(server.frame(), (Opcode::Close, close(4001, "bye")));
    server.send(&plain_close(4001, ""));
}

#[test]
fn a_close_of_the_server_arrives_with_code_and_reason() {
    let (_proxy, mut client, mut server) = connect();
    server.send(&[plain(Opcode::Text, true, b"last"), plain_close(4002, "enough")].concat());
    assert_eq!(server.frame(), (Opcode::Close, close(4002, "")));
    drop(server);
    client.expect(&plain(Opcode::Text, true, b"last"));
    client.expect(&plain_close(4002, "enough"));
    client.send(&masked_close(4002, ""));
    client.expect_last(b"");
}

#[test]
fn a_side_that_is_gone_is_closed_to_the_other() {
    let (_proxy, mut client, server) = connect();
    server.reset();
    client.expect(&plain_close(1014, "the other side is gone"));
    client.send(&masked_close(1014, ""));

    let (_proxy, client, server) = connect();
    client.reset();
    assert_eq!(server.frame(), (Opcode::Close, close(1001, "the other side is gone")));
}

#[test]
fn the_server_picks_among_the_clients_subprotocols() {
    let (listener, address) = listen();
    let proxy = Server::start(PROXY, &["--to", &format!("ws://{address}/path?query")]);
    let mut client = proxy.dial();
    client.send(&http::request("", &["Sec-WebSocket-Protocol: chat, v2.chat"]));
    let mut server = accept(&listener);
    let response = Response { subprotocol: Some("v2.chat"), ..Response::default() };
    let head = server.upgrade(&response, b"");
    assert!(head.starts_with("GET /path?query HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nSec-WebSocket-Protocol: chat, v2.chat\r\n"), "{head}");
    client.expect(&http::answer("", &["Sec-WebSocket-Protocol: v2.chat"]));
}

#[test]
fn who_wants_no_websocket_is_told_without_asking_the_server() {
    let (_listener, address) = listen();
    let proxy = Server::start(PROXY, &["--to", &format!("ws://{address}/")]);
    let answer = proxy.dial().ask(&http::head(&["GET / HTTP/1.1", "Host: a"]));
    assert_eq!(answer.status, "426 Upgrade Required");
}

#[test]
fn a_server_that_cannot_be_reached_is_a_502() {
    // Bound and not listening, nobody else can have the port, and it refuses.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("bound").as_socket().expect("an IP address");
    let proxy = Server::start(PROXY, &["--to", &format!("ws://{address}/")]);
    let answer = proxy.dial().ask(&http::request("", &[]));
    assert_eq!(answer.status, "502 Bad Gateway");
    let stderr = proxy.kill();
    assert!(stderr.starts_with("the server cannot be reached: "), "{stderr}");
}

#[test]
fn a_refusal_of_the_server_is_passed_on() {
    let (listener, address) = listen();
    let proxy = Server::start(PROXY, &["--to", &format!("ws://{address}/")]);
    let mut client = proxy.dial();
    client.send(&http::request("", &[]));
    let mut server = accept(&listener);
    server.head();
    server.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\n\r\nnot for you.");
    let answer = client.answer();
    assert_eq!((&*answer.status, &*answer.body), ("403 Forbidden", &b"not for you."[..]));
}

const LEN: usize = 16 * 1024;

/// Sends messages until nobody takes more, and then some; `to` reads only then.
fn flood(
    proxy: &Server,
    mut from: Peer,
    frame: impl Fn(usize) -> Vec<u8> + Send,
    read: impl Fn(usize),
) {
    let (blocked, count) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut sent, mut total) = (0, ENOUGH / LEN);
            while sent < total {
                let frame = frame(sent);
                sent += 1;
                if from.send_blocking(&frame, || blocked.send(sent + 100).expect("a reader")) {
                    total = sent + 100;
                }
            }
            from
        });
        let count = count.recv_timeout(PATIENCE).expect("it blocks");
        (0..count - 1).for_each(read);
    });
    let peak = proxy.peak_memory();
    assert!(peak < 32 * MIB, "{peak} bytes");
}

#[test]
fn a_server_that_reads_slowly_slows_its_client_down_and_gets_everything() {
    let (proxy, client, server) = connect();
    let body = |n| bytes(LEN, n);
    let frame = |n| masked(Opcode::Binary, true, &body(n));
    flood(&proxy, client, frame, |n| assert!(server.frame() == (Opcode::Binary, body(n)), "{n}"));
}

#[test]
fn a_client_that_reads_slowly_slows_its_server_down_and_gets_everything() {
    let (proxy, client, server) = connect();
    let frame = |n| plain(Opcode::Binary, true, &bytes(LEN, n));
    flood(&proxy, server, frame, |n| client.expect(&frame(n)));
}

#[test]
fn more_than_all_buffers_hold_comes_back_through_it() {
    const LINES: usize = 100;
    let echo = Server::start(ECHO, &[]);
    let proxy = Server::start(PROXY, &["--to", &format!("ws://{}/", echo.address)]);
    let url = format!("ws://{}/", proxy.address);
    let mut client = Process::start(env!("CARGO_BIN_EXE_client"), &[&url]);
    let mut stdin = client.take_stdin();
    let line = |n: usize| format!("{n} {}", "x".repeat(MIB));
    thread::scope(|scope| {
        let writing = scope.spawn(move || {
            (0..LINES).for_each(|n| writeln!(stdin, "{}", line(n)).expect("it reads"));
            stdin
        });
        (0..LINES).for_each(|n| assert!(client.line() == line(n), "{n}"));
        drop(writing.join());
    });
    let finished = client.finish();
    assert_eq!((finished.code, &*finished.stderr), (Some(0), "closed: 1000 \"\"\n"));
}

#[test]
fn ctrl_c_closes_both_sides_with_1001() {
    let (proxy, mut client, mut server) = connect();
    let silent = proxy.dial();
    proxy.ctrl_c().press();
    client.expect(&plain_close(1001, "the proxy stops"));
    client.send(&masked_close(1001, ""));
    client.expect_last(b"");
    assert_eq!(server.frame(), (Opcode::Close, close(1001, "the proxy stops")));
    server.send(&plain_close(1001, ""));
    drop(server);
    assert_eq!(silent.take_unless_reset(1), b"");
    let stopped = Finished { code: Some(0), stdout: Vec::new(), stderr: String::new() };
    assert_eq!(proxy.finish(), stopped);
}
