//! One message to everybody, again and again: `cargo run --bin broadcast_ticker`, then as often as you
//! like `cargo run --bin client -- ws://127.0.0.1:9001/`.
//!
//! Any task may send to whoever is connected: it needs the router's connection manager and nothing else. A
//! broadcast encodes its message once. It never waits: for who reads too slowly it is kept up to a bound,
//! and past that this peer is closed.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use examples::Place;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};
use wsforge::prelude::*;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Milliseconds from one tick to the next.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
}

#[derive(Serialize)]
struct Tick {
    tick: u64,
    connections: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let listener = arguments.place.listen()?;
    let router = Router::new();
    tokio::spawn(tell(router.connection_manager(), Duration::from_millis(arguments.every)));
    router.listen_on(listener).await?;
    Ok(())
}

async fn tell(manager: Arc<ConnectionManager>, every: Duration) -> Result<()> {
    let mut interval = interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for tick in 0.. {
        interval.tick().await;
        let connections = manager.count();
        manager.broadcast(Message::from_json(&Tick { tick, connections })?);
    }
    Ok(())
}
