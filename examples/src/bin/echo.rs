//! The echo server on the framework: `cargo run --bin echo`, then
//! `cargo run --bin client -- ws://127.0.0.1:9001/`.
//!
//! A handler is a function of what it wants to know of a message, and what it returns is the answer.

use clap::Parser;
use examples::{Place, ctrl_c};
use wsforge::prelude::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let stop = ctrl_c().await;
    let listener = Place::parse().listen()?;
    Router::new().default_handler(handler(echo)).shutdown(stop).listen_on(listener).await?;
    Ok(())
}

async fn echo(message: Message) -> Message {
    message
}
