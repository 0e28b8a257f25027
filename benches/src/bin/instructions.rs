//! How many instructions a message takes, counted by valgrind: `cargo run --release -p benches --bin
//! instructions`, built for x86-64-v3.
//!
//! Counts what the core does with a buffer that holds sixteen messages, and no driver. Exact, so that a
//! change can be judged on a busy machine; but not what a table of times says, since instructions
//! differ.

use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::{env, iter};

use benches::{End, LENGTHS, frame, payload};
use wsforge_core::handshake::{Accept, Opening, Response};
use wsforge_core::{
    ClientConnection, Config, Connection, Event, Input, Kind, Output, Role, ServerConnection,
    Timestamp,
};

const MESSAGES: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match &args[..] {
        [] => tables(),
        [what, kind, len] => {
            let kind = if kind == "text" { Kind::Text } else { Kind::Binary };
            run(what, kind, len.parse()?);
            Ok(())
        }
        _ => Err("no arguments: they are for the program itself".into()),
    }
}

fn tables() -> Result<(), Box<dyn Error>> {
    println!("| instructions per message | {} |", LENGTHS.map(|len| len.to_string()).join(" | "));
    println!("|---|{}", "--:|".repeat(LENGTHS.len()));
    for what in ["server receives", "server echoes", "client receives", "client sends"] {
        for kind in ["text", "binary"] {
            let counts = LENGTHS.iter().map(|len| count(what, kind, *len));
            let counts = counts.collect::<Result<Vec<_>, _>>()?;
            println!("| {what} {kind} | {} |", counts.join(" | "));
        }
    }
    println!("\nA server's handshake: {}", count("handshake", "-", MESSAGES)?);
    Ok(())
}

/// Runs this program under valgrind, and reads how many instructions [`measured`] took.
fn count(what: &str, kind: &str, len: usize) -> Result<String, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=instructions::measured*")
        .arg(env::current_exe()?)
        .args([what, kind, &len.to_string()])
        .output()?;
    let log = String::from_utf8(output.stderr)?;
    let (_, count) = log.split_once("Collected : ").ok_or_else(|| log.clone())?;
    let count: usize = count.lines().next().unwrap_or_default().trim().parse()?;
    Ok((count / MESSAGES).to_string())
}

fn run(what: &str, kind: Kind, len: usize) {
    let config = Arc::new(Config::default());
    let mut output = Output::with_capacity(MESSAGES * (len + 14));
    let body = payload(kind, len);
    let server = || ServerConnection::after_handshake(config.clone(), Timestamp::ZERO);
    let client = || {
        let keys = || [1, 2, 3, 4];
        ClientConnection::after_handshake(keys, config.clone(), Timestamp::ZERO)
    };
    let buffer = |sender| frame(sender, kind, &body).repeat(MESSAGES);
    // The second time it is warm: memory is there, and the instructions for this machine are chosen.
    for round in 0..2 {
        let measure = |work: &mut dyn FnMut()| if round == 0 { work() } else { measured(work) };
        match what {
            "server receives" => {
                let (mut conn, mut buf) = (server(), buffer(End::Client));
                measure(&mut || receive(&mut conn, &mut buf, &mut output));
            }
            "server echoes" => {
                let (mut conn, mut buf) = (server(), buffer(End::Client));
                measure(&mut || echo(&mut conn, &mut buf, &mut output));
            }
            "client receives" => {
                let (mut conn, mut buf) = (client(), buffer(End::Server));
                measure(&mut || receive(&mut conn, &mut buf, &mut output));
            }
            "client sends" => {
                let mut conn = client();
                measure(&mut || {
                    for _ in 0..MESSAGES {
                        conn.send(kind, &body[..], &mut output).expect("open");
                    }
                });
            }
            "handshake" => {
                let mut requests: Vec<_> = iter::repeat_n(REQUEST.to_vec(), MESSAGES).collect();
                measure(&mut || {
                    for request in &mut requests {
                        handshake(request, &config, &mut output);
                    }
                });
            }
            _ => panic!("{what}"),
        }
        output.advance(usize::MAX);
    }
}

/// What is counted.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
}

fn receive<R: Role>(conn: &mut Connection<R>, buf: &mut [u8], output: &mut Output) {
    let mut input = Input::new(buf, Timestamp::ZERO);
    while let Some(event) = conn.next_event(&mut input, output) {
        black_box(&event);
    }
}

fn echo<R: Role>(conn: &mut Connection<R>, buf: &mut [u8], output: &mut Output) {
    let mut input = Input::new(buf, Timestamp::ZERO);
    while let Some(event) = conn.next_event(&mut input, output) {
        if let Event::Message(message) = event {
            conn.send(message.kind(), message.as_bytes(), output).expect("open");
        }
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn handshake(request: &mut [u8], config: &Arc<Config>, output: &mut Output) {
    let mut input = Input::new(request, Timestamp::ZERO);
    let mut accept = Accept::default();
    let Opening::Request(request) = accept.receive(&mut input, output) else {
        panic!("a whole request")
    };
    let conn = request.accept(&Response::default(), config.clone(), output);
    black_box(conn.expect("a good one"));
}
