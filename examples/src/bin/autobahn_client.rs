//! Plays the client against Autobahn's fuzzing server: `autobahn_client ws://127.0.0.1:9001`.

use std::error::Error;
use std::io::{Read, Write};
use std::time::Duration;

use clap::Parser;
use examples::connect;
use wsforge_core::{Config, Event, Input, Message, Output, Shutdown};

/// Runs every case of Autobahn's fuzzing server and echoes what comes.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the fuzzing server is, such as ws://127.0.0.1:9001
    base_url: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { base_url } = Arguments::parse();
    let base_url = base_url.trim_end_matches('/');
    let mut count = String::new();
    talk(&format!("{base_url}/getCaseCount"), |message| {
        count = String::from_utf8_lossy(message.as_bytes()).into_owned();
        false
    })?;
    for case in 1..=count.parse::<u32>()? {
        let url = format!("{base_url}/runCase?case={case}&agent=wsforge");
        // Cases are about connections that fail.
        if let Err(error) = talk(&url, |_| true) {
            println!("case {case}: {error}");
        }
    }
    talk(&format!("{base_url}/updateReports?agent=wsforge"), |_| false)
}

/// Shows every message to `echo`, which says whether it is to be sent back, until the connection ends.
fn talk(url: &str, mut echo: impl FnMut(&Message<'_>) -> bool) -> Result<(), Box<dyn Error>> {
    let mut config = Config::default();
    config.max_frame_len = config.max_message_len;
    let mut peer = connect(url, &[], &[], Duration::from_secs(10), config)?;
    let (mut output, mut buf) = (Output::new(), vec![0; 256 * 1024]);
    let mut n = peer.early.len();
    buf[..n].copy_from_slice(&peer.early);
    loop {
        let mut input = Input::new(&mut buf[..n], peer.now());
        while let Some(event) = peer.conn.next_event(&mut input, &mut output) {
            if let Event::Message(message) = event
                && echo(&message)
            {
                // This fails only when we are closing, and then nobody waits for an echo.
                let _ = peer.conn.send(message.kind(), message.as_bytes(), &mut output);
            }
        }
        // The server may have gone already; that is for the read to find.
        let _ = output.write_to(|slices| peer.socket.write_vectored(slices));
        match peer.conn.wants_shutdown() {
            Some(Shutdown::Both) => return Ok(()),
            Some(Shutdown::Write) => drop(peer.socket.shutdown(std::net::Shutdown::Write)),
            None => {}
        }
        n = peer.socket.read(&mut buf).unwrap_or(0);
        if n == 0 {
            let _ = peer.conn.handle_eof();
        }
    }
}
