//! The echo servers on real sockets: what one does, all do.

mod support;

use std::io::{ErrorKind, Write};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use support::{
    Finished, PATIENCE, Peer, Server, bytes, http, masked, masked_close, plain, plain_close, text,
};
use wsforge_core::frame::Opcode;

/// Runs each behaviour against each server.
macro_rules! behaviours {
    ($($behaviour:ident)*) => {
        behaviours! { echo_blocking: env!("CARGO_BIN_EXE_echo_blocking"), $($behaviour)* }
        behaviours! { echo_mio: env!("CARGO_BIN_EXE_echo_mio"), $($behaviour)* }
        behaviours! { echo_smol: env!("CARGO_BIN_EXE_echo_smol"), $($behaviour)* }
        behaviours! { echo_socket: env!("CARGO_BIN_EXE_echo_socket"), $($behaviour)* }
        behaviours! { echo_tokio: env!("CARGO_BIN_EXE_echo_tokio"), $($behaviour)* }
    };
    ($server:ident: $program:expr, $($behaviour:ident)*) => {
        mod $server {
            $(#[test]
            fn $behaviour() {
                super::$behaviour($program);
            })*
        }
    };
}

/// Runs behaviours that mostly wait, each against all servers at once.
macro_rules! deadlines {
    ($($behaviour:ident)*) => {
        mod every_server {
            $(#[test]
            fn $behaviour() {
                super::on_every_server(super::$behaviour);
            })*
        }
    };
}

behaviours! {
    a_client_that_ends_without_a_close_gets_its_echoes_first
    a_client_that_goes_on_sending_too_much_reads_why_it_is_closed
    a_ping_between_fragments_is_answered_in_its_place
    a_reset_at_any_moment_leaves_others_alone
    a_slow_reader_gets_everything_in_order
    a_violation_gets_its_close_code_and_a_clean_end
    bytes_that_come_one_by_one_are_put_together
    ctrl_c_closes_open_clients_with_1001_and_does_not_wait_for_handshakes
    early_frames_are_answered_behind_the_handshake
    messages_of_every_size_come_back
    other_requests_get_their_http_answers
    pipelined_messages_come_back_in_order
    the_page_is_served_on_the_same_port
    whoever_sends_an_endless_head_reads_a_431
}

deadlines! {
    a_client_that_takes_nothing_is_cut_off_and_costs_little_memory
    a_client_that_talks_is_not_idle
    a_silent_client_is_closed_with_1008
    a_server_that_has_run_out_of_descriptors_serves_again_when_clients_have_gone
    a_slow_handshake_gets_a_408_and_keeps_nobody_waiting
    ctrl_c_does_not_wait_long_for_clients_that_do_not_answer
    ctrl_c_does_not_wait_long_for_clients_that_do_not_read
}

fn on_every_server(behaviour: fn(&str)) {
    let servers = [
        ("echo_blocking", env!("CARGO_BIN_EXE_echo_blocking")),
        ("echo_mio", env!("CARGO_BIN_EXE_echo_mio")),
        ("echo_smol", env!("CARGO_BIN_EXE_echo_smol")),
        ("echo_socket", env!("CARGO_BIN_EXE_echo_socket")),
        ("echo_tokio", env!("CARGO_BIN_EXE_echo_tokio")),
    ];
    thread::scope(|scope| {
        for (name, program) in servers {
            // The name shows who failed.
            let named = thread::Builder::new().name(name.into());
            named.spawn_scoped(scope, move || behaviour(program)).expect("a thread");
        }
    });
}

/// How long the servers wait for an answer to their Close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// For ticks of half a second, and for a machine that has other things to do.
const GRACE: Duration = Duration::from_secs(3);

const MIB: usize = 1024 * 1024;

/// Within which a system holds bytes that nobody reads.
const ENOUGH: usize = 256 * MIB;

fn messages_of_every_size_come_back(program: &str) {
    let server = Server::start(program, &[]);
    let mut peer = server.connect();
    for len in [0, 1, 125, 126, 65_535, 65_536, 300 * 1024, 3 * MIB] {
        for (opcode, body) in [(Opcode::Text, text(len)), (Opcode::Binary, bytes(len, len))] {
            peer.send(&masked(opcode, true, &body));
            peer.expect(&plain(opcode, true, &body));
        }
    }
    peer.close();
}

fn bytes_that_come_one_by_one_are_put_together(program: &str) {
    let server = Server::start(program, &[]);
    let mut peer = server.dial();
    let wire = [
        http::request("", &[]),
        masked(Opcode::Text, true, &text(40)),
        masked(Opcode::Binary, false, &bytes(200, 1)),
        masked(Opcode::Ping, true, b"?"),
        masked(Opcode::Continuation, true, b"end"),
        masked_close(4000, "bye"),
    ];
    wire.concat().chunks(1).for_each(|byte| peer.send(byte));
    let answers = [
        http::answer("", &[]),
        plain(Opcode::Text, true, &text(40)),
        plain(Opcode::Pong, true, b"?"),
        plain(Opcode::Binary, true, &[&bytes(200, 1)[..], b"end"].concat()),
        plain_close(4000, ""),
    ];
    peer.expect_last(&answers.concat());
}

fn a_ping_between_fragments_is_answered_in_its_place(program: &str) {
    let server = Server::start(program, &[]);
    let mut peer = server.connect();
    // Once in one read, once with each answer awaited.
    peer.send(&[masked(Opcode::Text, false, b"be"), masked(Opcode::Ping, true, b"1")].concat());
    peer.send(&masked(Opcode::Continuation, true, b"gun"));
    peer.expect(&[plain(Opcode::Pong, true, b"1"), plain(Opcode::Text, true, b"begun")].concat());

    let (first, second) = (bytes(70_000, 1), bytes(70_000, 2));
    peer.send(&masked(Opcode::Binary, false, &first));
    peer.send(&masked(Opcode::Ping, true, b"2"));
    peer.expect(&plain(Opcode::Pong, true, b"2"));
    peer.send(&masked(Opcode::Continuation, false, &second));
    peer.send(&masked(Opcode::Ping, true, &[3; 125]));
    peer.expect(&plain(Opcode::Pong, true, &[3; 125]));
    peer.send(&masked(Opcode::Continuation, true, b""));
    peer.expect(&plain(Opcode::Binary, true, &[first, second].concat()));
    peer.close();
}

fn pipelined_messages_come_back_in_order(program: &str) {
    let server = Server::start(program, &[]);
    let mut peer = server.connect();
    let bodies: Vec<_> = (0..200).map(|n| bytes(n * 37 % 3_000, n)).collect();
    let frames = |frame: fn(Opcode, bool, &[u8]) -> Vec<u8>| {
        bodies.iter().flat_map(|body| frame(Opcode::Binary, true, body)).collect::<Vec<_>>()
    };
    peer.send(&frames(masked));
    peer.expect(&frames(plain));
    peer.close();
}

fn early_frames_are_answered_behind_the_handshake(program: &str) {
    let server = Server::start(program, &[]);
    let mut peer = server.dial();
    let wire = [
        http::request("", &[]),
        masked(Opcode::Text, true, b"early"),
        masked(Opcode::Ping, true, b""),
        masked(Opcode::Binary, true, &bytes(5_000, 0)),
        masked_close(1000, ""),
    ];
    peer.send(&wire.concat());
    let answers = [
        http::answer("", &[]),
        plain(Opcode::Text, true, b"early"),
        plain(Opcode::Pong, true, b""),
        plain(Opcode::Binary, true, &bytes(5_000, 0)),
        plain_close(1000, ""),
    ];
    peer.expect_last(&answers.concat());
}

fn a_client_that_ends_without_a_close_gets_its_echoes_first(program: &str) {
    let server = Server::start(program, &[]);
    let body = bytes(MIB, 0);
    let mut peer = server.connect();
    peer.send(&masked(Opcode::Binary, true, &body));
    peer.half_close();
    peer.expect_last(&plain(Opcode::Binary, true, &body));
}

fn a_violation_gets_its_close_code_and_a_clean_end(program: &str) {
    let server = Server::start(program, &[]);
    let cut_off =
        [masked(Opcode::Text, false, b"\xE2\x82"), masked(Opcode::Continuation, true, b"")];
    let violations = [
        (1007, masked(Opcode::Text, true, b"\xC3\x28")),
        (1007, masked(Opcode::Text, false, b"ok\xFF")),
        (1007, cut_off.concat()),
        (1007, masked(Opcode::Close, true, b"\x03\xE8\xFF")),
        (1002, plain(Opcode::Text, true, b"not masked")),
        // A reserved bit, and a reserved opcode.
        (1002, b"\xC1\x80\0\0\0\0".to_vec()),
        (1002, b"\x83\x80\0\0\0\0".to_vec()),
        (1002, masked(Opcode::Continuation, true, b"of nothing")),
        (1002, masked(Opcode::Ping, false, b"")),
        (1002, masked_close(1005, "")),
    ];
    let behind = [masked(Opcode::Text, true, b"ignored"), masked(Opcode::Ping, true, b"too")];
    for (code, wire) in violations {
        let mut peer = server.connect();
        peer.assert_echo(b"so far so good");
        peer.send(&[wire, behind.concat()].concat());
        // Nothing tells a client yet that nobody listens.
        peer.send(&behind.concat());
        peer.expect_last_close(code);
    }
}

fn a_client_that_goes_on_sending_too_much_reads_why_it_is_closed(program: &str) {
    static TOO_MUCH: LazyLock<[Vec<u8>; 4]> = LazyLock::new(|| {
        let (quarter, small) = (bytes(2 * MIB, 0), bytes(MIB / 2, 0));
        let fragments = |count: usize, body: &[u8]| {
            let opcode = |n| if n == 0 { Opcode::Binary } else { Opcode::Continuation };
            (0..count).flat_map(|n| masked(opcode(n), n + 1 == count, body)).collect()
        };
        [
            masked(Opcode::Binary, true, &bytes(8 * MIB, 0)),
            masked(Opcode::Binary, true, &quarter).repeat(4),
            fragments(4, &quarter),
            fragments(16, &small),
        ]
    });
    let server = Server::start(program, &["--max-message", "1048576"]);
    for (wire, times) in TOO_MUCH.iter().zip([20, 5, 5, 5]) {
        for _ in 0..times {
            let mut peer = server.connect();
            peer.send(wire);
            peer.expect_last_close(1009);
        }
    }
    let mut peer = server.connect();
    let most = bytes(MIB, 0);
    peer.send(&masked(Opcode::Binary, true, &most));
    peer.expect(&plain(Opcode::Binary, true, &most));
    peer.close();
}

fn the_page_is_served_on_the_same_port(program: &str) {
    let server = Server::start(program, &[]);
    let page = server.dial().ask(&http::head(&["GET / HTTP/1.1", "Host: localhost"]));
    assert_eq!(page.status, "200 OK");
    assert_eq!(page.header("Content-Type"), "text/html; charset=utf-8");
    assert!(page.body.windows(7).any(|part| part == b"<title>"));
    assert_eq!(page.body, include_bytes!("../src/page.html"));
    server.assert_serves();
}

fn other_requests_get_their_http_answers(program: &str) {
    let server = Server::start(program, &[]);
    let ask = |wire: &[u8]| server.dial().ask(wire);

    let answer = ask(&http::head(&["GET /nothing HTTP/1.1", "Host: a"]));
    assert_eq!((&*answer.status, &*answer.body), ("404 Not Found", &b"the page is at /"[..]));

    let mut peer = server.dial();
    peer.send(&http::head(&["HEAD / HTTP/1.1", "Host: a"]));
    let head = String::from_utf8(peer.rest()).expect("no body");
    assert!(head.starts_with("HTTP/1.1 405 ") && head.ends_with("\r\n\r\n"), "{head}");

    let post = http::head(&["POST / HTTP/1.1", "Host: a", "Content-Length: 4"]);
    let answer = ask(&[&post[..], b"body"].concat());
    assert_eq!((&*answer.status, answer.header("Allow")), ("405 Method Not Allowed", "GET"));

    let answer = ask(&http::head(&["GET / HTTP/1.0"]));
    assert_eq!(answer.status, "505 HTTP Version Not Supported");

    let answer = ask(b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03");
    assert_eq!(answer.status, "400 Bad Request");

    let answer = ask(&http::request("Sec-WebSocket-Version", &["Sec-WebSocket-Version: 8"]));
    assert_eq!(answer.status, "426 Upgrade Required");
    assert_eq!(answer.header("Sec-WebSocket-Version"), "13");

    let answer = ask(&http::request("Sec-WebSocket-Key", &["Sec-WebSocket-Key: c2hvcnQ="]));
    assert_eq!(answer.status, "400 Bad Request");
    server.assert_serves();
}

fn whoever_sends_an_endless_head_reads_a_431(program: &str) {
    let server = Server::start(program, &[]);
    for wire in [http::request_of(10 * MIB), b"GET / HTTP/1.1\r\nX: y\r\n".repeat(10 * MIB / 22)] {
        let answer = server.dial().ask(&wire);
        assert_eq!(answer.status, "431 Request Header Fields Too Large");
    }
    server.assert_serves();
}

fn a_slow_handshake_gets_a_408_and_keeps_nobody_waiting(program: &str) {
    let server = Server::start(program, &["--handshake-timeout", "1"]);
    let start = Instant::now();
    let (mut silent, mut half) = (server.dial(), server.dial());
    half.send(b"GET / HTTP/1.1\r\nHost: loc");
    let mut open = server.connect();
    open.assert_echo(b"meanwhile");
    for slow in [&mut silent, &mut half] {
        let answer = slow.answer();
        assert_eq!(answer.status, "408 Request Timeout");
    }
    // Servers count whole milliseconds.
    assert!(start.elapsed().as_millis() >= 999, "{:?}", start.elapsed());
    // The deadline was only the handshake's.
    open.assert_echo(b"afterwards");
    open.close();
}

fn a_silent_client_is_closed_with_1008(program: &str) {
    let server = Server::start(program, &["--idle-timeout", "1"]);
    let start = Instant::now();
    let (mut silent, mut begun) = (server.connect(), server.connect());
    begun.send(&masked(Opcode::Text, false, b"and then"));
    silent.expect_last_close(1008);
    begun.expect_last_close(1008);
    assert!(start.elapsed().as_millis() >= 999, "{:?}", start.elapsed());
}

fn a_client_that_talks_is_not_idle(program: &str) {
    let server = Server::start(program, &["--idle-timeout", "2"]);
    let mut peer = server.connect();
    for _ in 0..18 {
        // Its pace is what this is about.
        thread::sleep(Duration::from_millis(150));
        peer.assert_echo(b"tick");
    }
    peer.close();
}

fn a_client_that_takes_nothing_is_cut_off_and_costs_little_memory(program: &str) {
    let server = Server::start(program, &["--write-timeout", "1"]);
    thread::scope(|scope| {
        for body in [&bytes(64 * 1024, 0)[..], &bytes(MIB, 0), &[0; 125]] {
            let opcode = if body.len() > 125 { Opcode::Binary } else { Opcode::Ping };
            let wire = masked(opcode, true, body).repeat(MIB.div_ceil(body.len()));
            let mut peer = server.connect();
            scope.spawn(move || {
                let cut = (0..ENOUGH / MIB).find_map(|_| peer.0.write_all(&wire).err());
                let kind = cut.expect("back-pressure").kind();
                let cuts = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                assert!(cuts.contains(&kind), "{kind}");
            });
        }
    });
    server.assert_serves();
    let peak = server.peak_memory();
    assert!(peak < 64 * MIB, "{peak} bytes");
}

fn a_slow_reader_gets_everything_in_order(program: &str) {
    const LEN: usize = 16 * 1024;
    const AT_LEAST: usize = 16 * MIB / LEN;
    let server = Server::start(program, &[]);
    let pool = bytes(4 * LEN, 0);
    let body = |n: usize| &pool[n * 7 % (3 * LEN)..][..LEN];
    let mut peer = server.connect_narrow();
    let mut writer = Peer::new(peer.0.try_clone().expect("a socket"));
    let (blocked, count) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut sent, mut total) = (0, ENOUGH / LEN);
            while sent < total {
                let frame = masked(Opcode::Binary, true, body(sent));
                sent += 1;
                if writer.send_blocking(&frame, || blocked.send(sent.max(AT_LEAST)).unwrap()) {
                    total = sent.max(AT_LEAST);
                }
            }
            writer.send(&masked_close(1000, ""));
        });
        let count = count.recv_timeout(PATIENCE).expect("it blocks");
        (0..count).for_each(|n| peer.expect(&plain(Opcode::Binary, true, body(n))));
        peer.expect_last(&plain_close(1000, ""));
    });
}

fn ctrl_c_closes_open_clients_with_1001_and_does_not_wait_for_handshakes(program: &str) {
    // It must not matter what the server is just doing.
    for _ in 0..20 {
        let server = Server::start(program, &[]);
        let ctrl_c = server.ctrl_c();
        let (mut half, mut silent) = (server.dial(), server.dial());
        half.send(b"GET / HTTP/1.1\r\nHost: loc");
        let mut open = server.connect();
        let mut opening = server.dial();
        opening.send(&http::request("", &[]));

        let start = Instant::now();
        ctrl_c.press();
        let close = plain_close(1001, "the server stops");
        open.expect(&close);
        open.send(&masked_close(1001, ""));
        open.expect_last(b"");
        // This one opens completely or not at all.
        let opened = [http::answer("", &[]), close].concat();
        if opening.take_unless_reset(opened.len()) == opened {
            opening.send(&masked_close(1001, ""));
        }
        for peer in [&mut opening, &mut half, &mut silent] {
            assert_eq!(peer.take_unless_reset(1), b"");
        }
        assert_eq!(server.finish(), stopped());
        assert!(start.elapsed() < CLOSE_TIMEOUT, "{:?}", start.elapsed());
    }
}

fn ctrl_c_does_not_wait_long_for_clients_that_do_not_answer(program: &str) {
    let server = Server::start(program, &[]);
    let mut rude = server.connect();
    let (ctrl_c, start) = (server.ctrl_c(), Instant::now());
    ctrl_c.press();
    rude.expect_last(&plain_close(1001, "the server stops"));
    assert_eq!(server.finish(), stopped());
    let waited = start.elapsed();
    assert!(waited.as_millis() + 1 >= CLOSE_TIMEOUT.as_millis(), "{waited:?}");
    assert!(waited < CLOSE_TIMEOUT + GRACE, "{waited:?}");
}

fn ctrl_c_does_not_wait_long_for_clients_that_do_not_read(program: &str) {
    let server = Server::start(program, &["--write-timeout", "16"]);
    let mut deaf = server.connect_narrow();
    // The echo of this is more than a system takes for a peer that does not read.
    deaf.fill(&masked(Opcode::Binary, true, &vec![0; 16 * MIB]), ENOUGH);
    let (ctrl_c, start) = (server.ctrl_c(), Instant::now());
    ctrl_c.press();
    assert_eq!(server.finish(), stopped());
    assert!(start.elapsed() < CLOSE_TIMEOUT + GRACE, "{:?}", start.elapsed());
}

fn a_reset_at_any_moment_leaves_others_alone(program: &str) {
    let server = Server::start(program, &[]);
    let mut bystander = server.connect();
    let begin = |wire: &[&[u8]]| {
        let mut peer = server.dial();
        peer.send(&wire.concat());
        peer
    };
    let request = &http::request("", &[])[..];
    let message = &masked(Opcode::Binary, true, &bytes(300 * 1024, 0))[..];
    for _ in 0..10 {
        begin(&[]).reset();
        begin(&[&request[..30]]).reset();
        begin(&[request]).reset();
        begin(&[request, &message[..3]]).reset();
        begin(&[request, &message[..200_000]]).reset();
        begin(&[request, message]).reset();
        begin(&[request, b"\xFF\xFF"]).reset();
        begin(&[request, &masked_close(1000, "")]).reset();
        begin(&[b"\x16\x03\x01"]).reset();
        bystander.assert_echo(b"I am fine");
    }
    // With output that waits for it to read.
    let mut deaf = server.connect_narrow();
    deaf.fill(message, ENOUGH);
    deaf.reset();
    // With a server that waits for it to end.
    let mut failed = server.connect();
    failed.send(b"\xFF\xFF");
    failed.expect_last_close(1002);
    failed.reset();

    server.assert_serves();
    bystander.assert_echo(b"I am fine");
    bystander.close();
}

fn a_server_that_has_run_out_of_descriptors_serves_again_when_clients_have_gone(program: &str) {
    let server = Server::start_with_descriptors(program, 32);
    let mut peers: Vec<_> = (0..40).map(|_| server.dial()).collect();
    peers.iter_mut().for_each(|peer| peer.send(&http::request("", &[])));
    peers[0].expect(&http::answer("", &[]));
    for _ in 0..10 {
        peers[0].assert_echo(b"and then?");
    }
    for mut peer in peers.drain(..).skip(30) {
        peer.expect(&http::answer("", &[]));
        peer.assert_echo(b"at last");
        peer.close();
    }
    let stderr = server.kill();
    assert!(stderr.lines().all(|line| line.starts_with("cannot accept: ")), "{stderr}");
}

/// The end of a server that Ctrl-C has stopped.
fn stopped() -> Finished {
    Finished { code: Some(0), stdout: Vec::new(), stderr: String::new() }
}
