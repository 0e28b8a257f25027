//! A chat with rooms: `cargo run --bin chat`, then open the address that it prints, in two tabs or more.
//!
//! What clients send is JSON. Its `type` says which handler gets it, and the handler's argument what it
//! has to look like, bounds on its lengths included. A room is a group of the connection manager; who
//! somebody is, is kept with the connection. The page, beside these files, comes from the same port; it comes
//! back by itself when the server has gone away, waiting longer each time.
//!
//! One thread serves all, so everybody hears of everything in the order in which it has happened.

mod rooms;

use clap::Parser;
use examples::Place;
use wsforge::prelude::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let listener = Place::parse().listen()?;
    rooms::chat().listen_on(listener).await?;
    Ok(())
}
