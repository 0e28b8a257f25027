//! A WebSocket client for the command line, on `wsforge`: `cargo run --release --bin client -- URL`.
//!
//! Sends each line of its input as a message and prints what arrives. A task sends while the main one
//! receives, so that neither waits for the other.

use std::io::{self, BufRead};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use examples::Request;
use tokio::sync::mpsc;
use wsforge::{CloseCode, CloseInfo, ConnectError, Message, Options, Sender, WebSocket};

/// Sends each line of its input as a message and prints the messages that arrive.
///
/// Exit codes: 0 closed cleanly, 1 the connection was cut or failed, 2 bad arguments or URL,
/// 3 no connection, 4 the server refused the handshake.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    request: Request,
    /// Send the lines as binary messages.
    #[arg(long)]
    binary: bool,
    /// Seconds of silence after which the server is sent a ping; if it does not answer, it is gone.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    ping: u64,
    /// The code with which the end of input closes the connection.
    #[arg(long, value_name = "CODE", default_value = "1000", value_parser = close_code)]
    close_code: CloseCode,
    /// The reason for that.
    #[arg(long, value_name = "TEXT", default_value = "")]
    close_reason: String,
}

fn close_code(text: &str) -> Result<CloseCode, &'static str> {
    let code = text.parse().ok().and_then(CloseCode::new);
    code.ok_or("a code that may be sent is 1000 to 1003, 1007 to 1014 or 3000 to 4999")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let socket = match connect(&arguments).await {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(match error {
                ConnectError::Url(_) | ConnectError::Invalid(_) => 2,
                ConnectError::Refused(refused) => {
                    let body = String::from_utf8_lossy(&refused.body);
                    if !body.is_empty() {
                        eprintln!("{}", body.trim_end());
                    }
                    4
                }
                ConnectError::Response(_) => 4,
                _ => 3,
            });
        }
    };
    let (sender, mut receiver) = socket.split();
    tokio::spawn(send_lines(sender, arguments));
    while let Some(message) = receiver.recv().await {
        match message.as_text() {
            Some(text) => println!("{text}"),
            None => println!("{} bytes", message.as_bytes().len()),
        }
    }
    let info = receiver.close_info().expect("it has ended");
    show(info);
    if info.clean { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

async fn connect(arguments: &Arguments) -> Result<WebSocket, ConnectError> {
    let request = &arguments.request;
    let mut options = Options::default();
    options.protocol.ping_interval = Some(Duration::from_secs(arguments.ping));
    options.protocol.idle_timeout = None;
    let mut connect =
        wsforge::tokio::connect(&*request.url).timeout(request.timeout()).options(options);
    for (name, value) in &request.headers {
        connect = connect.header(name, &**value);
    }
    for subprotocol in &request.subprotocols {
        connect = connect.subprotocol(subprotocol);
    }
    let (socket, response) = connect.with_response().await?;
    if let Some(subprotocol) = response.subprotocol {
        eprintln!("the subprotocol is {subprotocol}");
    }
    Ok(socket)
}

async fn send_lines(sender: Sender, arguments: Arguments) {
    // A line is taken when the last one has gone, or they would pile up here. It is a thread of its own
    // that waits for it, as that cannot be given up when the server closes.
    let (line, mut lines) = mpsc::channel(1);
    thread::spawn(move || {
        io::stdin()
            .lock()
            .split(b'\n')
            .map_while(Result::ok)
            .try_for_each(|l| line.blocking_send(l))
    });
    while let Some(mut line) = lines.recv().await {
        line.pop_if(|last| *last == b'\r');
        let message: Message = if arguments.binary {
            line.into()
        } else if let Ok(text) = String::from_utf8(line) {
            text.into()
        } else {
            eprintln!("not sent: the line is not UTF-8");
            continue;
        };
        if sender.send(message).await.is_err() {
            return;
        }
    }
    sender.close(arguments.close_code, &arguments.close_reason);
}

fn show(info: &CloseInfo) {
    match &info.error {
        Some(error) if !info.clean => eprintln!("failed: {error}"),
        _ if info.code == 1005 => eprintln!("closed"),
        _ => eprintln!("closed: {} {:?}", info.code, info.reason),
    }
}
