//! An echo server on `wsforge`: `cargo run --release --bin echo_socket`.

use std::io;

use clap::Parser;
use examples::{Options, ctrl_c};
use wsforge::proto::handshake::RequestError;
use wsforge::tokio::{listen, serve};
use wsforge::{Answer, Incoming, WebSocket};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let options = Options::parse();
    let stop = ctrl_c().await;
    let listener = listen(options.address())?;
    Options::announce(listener.local_addr()?);
    serve(listener, answer, echo).options(options.of_sockets()).shutdown(stop).await;
    Ok(())
}

async fn echo(mut socket: WebSocket) {
    while let Some(message) = socket.recv().await {
        if socket.send(message).await.is_err() {
            break;
        }
    }
}

/// A browser gets a page.
fn answer(incoming: &Incoming<'_>) -> Answer {
    let request = &incoming.request;
    match (request.upgrade(), request.path()) {
        (Err(RequestError::NotUpgrade), "/") => Answer::reject(200)
            .header("Content-Type", "text/html; charset=utf-8")
            .body(&include_bytes!("../page.html")[..]),
        (Err(RequestError::NotUpgrade), _) => Answer::reject(404).body("the page is at /"),
        _ => Answer::accept(),
    }
}
