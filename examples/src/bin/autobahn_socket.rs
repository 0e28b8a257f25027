//! Plays the client against Autobahn's fuzzing server, on `wsforge`: `autobahn_socket ws://127.0.0.1:9001`.

use std::error::Error;
use std::time::Duration;

use clap::Parser;
use wsforge::{Connect, ConnectError, Options, WebSocket};

/// Runs every case of Autobahn's fuzzing server and echoes what comes.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the fuzzing server is, such as ws://127.0.0.1:9001
    base_url: String,

    /// Runs on smol instead of tokio.
    #[arg(long)]
    smol: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { base_url, smol } = Arguments::parse();
    let base_url = base_url.trim_end_matches('/');
    if smol {
        smol::block_on(run(base_url, wsforge::smol::connect))
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(run(base_url, wsforge::tokio::connect))
    }
}

async fn run(base_url: &str, connect: fn(String) -> Connect) -> Result<(), Box<dyn Error>> {
    let open = |path: String| open(connect(format!("{base_url}/{path}")));
    let mut socket = open("getCaseCount".into()).await?;
    let count = socket.recv_with(|message| String::from_utf8_lossy(message.as_bytes()).parse());
    let count: u32 = count.await.ok_or("there is no count of cases")??;
    receive_all(socket).await;
    for case in 1..=count {
        // Cases are about connections that fail.
        match open(format!("runCase?case={case}&agent=wsforge")).await {
            Ok(socket) => echo(socket).await,
            Err(error) => println!("case {case}: {error}"),
        }
    }
    receive_all(open("updateReports?agent=wsforge".into()).await?).await;
    Ok(())
}

async fn open(connect: Connect) -> Result<WebSocket, ConnectError> {
    let mut options = Options::default();
    options.protocol.max_frame_len = options.protocol.max_message_len;
    connect.timeout(Duration::from_secs(10)).options(options).await
}

async fn echo(mut socket: WebSocket) {
    while let Some(message) = socket.recv().await {
        if socket.send(message).await.is_err() {
            // The rest of the closing handshake is to be awaited.
            return receive_all(socket).await;
        }
    }
}

async fn receive_all(mut socket: WebSocket) {
    while socket.recv().await.is_some() {}
}
