//! An end that everybody hears of: `cargo run --bin graceful`, then
//! `cargo run --bin client -- ws://127.0.0.1:9001/`, and Ctrl-C in the server's terminal.
//!
//! The server then accepts nobody any more and closes all connections with 1001, some at a time. It waits
//! for the answers, and for the handlers that are at work, but not for ever; and says how it went.

use std::time::Duration;

use clap::Parser;
use examples::{Place, ctrl_c};
use tokio::time::sleep;
use wsforge::prelude::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let place = Place::parse();
    // It is waited for before the address is printed: who reads that may press it.
    let stop = ctrl_c().await;
    let listener = place.listen()?;
    let report = Router::new()
        .default_handler(handler(save))
        .shutdown(stop)
        .patience(Duration::from_secs(10))
        .listen_on(listener)
        .await?;
    println!(
        "{} connections, {} closed in time, {} cut off",
        report.opened, report.closed, report.cut
    );
    Ok(())
}

/// Something that takes its time, and that nobody wants to be left half done.
async fn save(message: Message) -> Result<String> {
    let text = message.as_text().ok_or_else(|| Error::custom("that is no text"))?;
    sleep(Duration::from_millis(300)).await;
    println!("saved {text}");
    Ok(format!("saved {text}"))
}
