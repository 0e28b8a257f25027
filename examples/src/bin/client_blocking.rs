//! A WebSocket client for the command line: `cargo run --release --bin client_blocking -- URL`.
//!
//! Sends each line of its input as a text and prints what arrives. Three threads do nothing but wait:
//! for a line, for the socket to give, for the socket to take. The main one owns the connection.

use std::io::{self, Read, Write};
use std::mem;
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use clap::Parser;
use examples::{ConnectError, Connected, Request, connect};
use wsforge_core::{CloseCode, Config, Event, Input, Kind, Message, Outcome, Output, Shutdown};

/// Sends each line of its input as a text message and prints the messages that arrive.
///
/// Exit codes: 0 closed cleanly, 1 the connection was cut or failed, 2 bad arguments or URL,
/// 3 no connection, 4 the server refused the handshake.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    request: Request,
}

fn main() -> ExitCode {
    let Arguments { request } = Arguments::parse();
    let headers: Vec<(&str, &[u8])> =
        request.headers.iter().map(|(name, value)| (&**name, value.as_bytes())).collect();
    let subprotocols: Vec<&str> = request.subprotocols.iter().map(|name| &**name).collect();
    let config = Config::default();
    let connected = match connect(&request.url, &subprotocols, &headers, request.timeout(), config)
    {
        Ok(connected) => connected,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(match error {
                ConnectError::Url(_) | ConnectError::Invalid(_) => 2,
                ConnectError::Io(_) => 3,
                ConnectError::Response(_) | ConnectError::Refused { .. } => 4,
            });
        }
    };
    if let Some(subprotocol) = &connected.subprotocol {
        eprintln!("the subprotocol is {subprotocol}");
    }
    match talk(connected) {
        Ok(Some(outcome)) if outcome.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("the connection was cut: {error}");
            ExitCode::from(1)
        }
    }
}

/// What the waiting threads tell the main one.
enum Arrival {
    Bytes(Vec<u8>),
    Eof,
    Line(String),
    NoMoreLines,
    Written(io::Result<()>),
}

/// What a server may make us owe it by pings alone while it reads nothing.
const MAX_UNSENT: usize = 16 * 1024 * 1024;

fn talk(mut peer: Connected) -> io::Result<Option<Outcome>> {
    // Bounded, so that a fast server waits for us.
    let (sender, arrivals) = mpsc::sync_channel(16);
    let (ask_for_line, asked) = mpsc::channel();
    let (write, to_write) = mpsc::channel::<Vec<u8>>();
    let (mut reading, mut writing) = (peer.socket.try_clone()?, peer.socket.try_clone()?);
    let [lines, reads, writes] = [sender.clone(), sender.clone(), sender];
    thread::spawn(move || read_lines(&asked, &lines));
    thread::spawn(move || read_socket(&mut reading, &reads));
    thread::spawn(move || {
        to_write
            .iter()
            .map(|bytes| writing.write_all(&bytes))
            .try_for_each(|written| writes.send(Arrival::Written(written)))
    });

    let mut output = Output::new();
    let mut early = mem::take(&mut peer.early);
    receive(&mut peer, &mut early, &mut output);
    let (mut is_writing, mut wants_line) = (false, true);
    loop {
        if !is_writing && !output.is_empty() {
            is_writing = write.send(output.slices().flatten().copied().collect()).is_ok();
            output.advance(output.len());
        }
        if !is_writing {
            // A line is taken when the last one has gone, or they would pile up here.
            if mem::take(&mut wants_line) {
                let _ = ask_for_line.send(());
            }
            match peer.conn.wants_shutdown() {
                Some(Shutdown::Both) => return Ok(peer.conn.outcome()),
                Some(Shutdown::Write) => peer.socket.shutdown(std::net::Shutdown::Write)?,
                None => {}
            }
        } else if output.len() > MAX_UNSENT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let patience = match peer.conn.next_timeout() {
            Some(at) => at.since(peer.now()),
            None => Duration::MAX,
        };
        let arrival = arrivals.recv_timeout(patience);
        let now = peer.now();
        match arrival {
            Ok(Arrival::Bytes(mut bytes)) => receive(&mut peer, &mut bytes, &mut output),
            Ok(Arrival::Eof) => peer.conn.handle_eof().iter().for_each(show),
            Ok(Arrival::Line(line)) => {
                wants_line = true;
                if let Err(error) = peer.conn.send(Kind::Text, &line, &mut output) {
                    eprintln!("not sent: {error}");
                }
            }
            Ok(Arrival::NoMoreLines) => {
                peer.conn.close(CloseCode::NORMAL, "", now, &mut output);
            }
            Ok(Arrival::Written(written)) => {
                written?;
                is_writing = false;
            }
            Err(_) => {
                peer.conn.handle_timeout(now, &mut output).iter().for_each(show);
                if peer.conn.wants_shutdown() == Some(Shutdown::Both) {
                    return Ok(peer.conn.outcome());
                }
            }
        }
    }
}

fn receive(peer: &mut Connected, bytes: &mut [u8], output: &mut Output) {
    let mut input = Input::new(bytes, peer.now());
    while let Some(event) = peer.conn.next_event(&mut input, output) {
        show(&event);
    }
}

fn show(event: &Event<'_>) {
    match event {
        Event::Message(Message::Text(text)) => println!("{text}"),
        Event::Message(Message::Binary(bytes)) => println!("{} bytes", bytes.len()),
        Event::Close(Some(close)) => eprintln!("closed: {} {:?}", close.code, close.reason),
        Event::Close(None) => eprintln!("closed"),
        Event::Fail(error) => eprintln!("failed: {error}"),
        _ => {}
    }
}

/// Reads a line whenever it is asked for one.
fn read_lines(asked: &Receiver<()>, to: &SyncSender<Arrival>) {
    let mut lines = io::stdin().lines().map_while(Result::ok);
    while asked.recv().is_ok() {
        let arrival = lines.next().map_or(Arrival::NoMoreLines, Arrival::Line);
        if to.send(arrival).is_err() {
            return;
        }
    }
}

fn read_socket(socket: &mut TcpStream, to: &SyncSender<Arrival>) {
    let mut buf = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = socket.read(&mut buf) {
        if to.send(Arrival::Bytes(buf[..n].to_vec())).is_err() {
            return;
        }
    }
    let _ = to.send(Arrival::Eof);
}
