//! State that all handlers share: `cargo run --bin embedded_state`, then
//! `cargo run --bin client -- ws://127.0.0.1:9001/` and, of it, `/hello Ann`, `/hello Bob`, `/count`.
//!
//! The router keeps one value of each type. A handler asks for it by that type, or by `Arc` of it if it
//! wants to keep it; what changes has to be behind a lock or an atomic, as connections run side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use examples::Place;
use wsforge::prelude::*;

struct Greeting(&'static str);

#[derive(Default)]
struct Visits(AtomicU64);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let listener = Place::parse().listen()?;
    Router::new()
        .with_state(Arc::new(Greeting("Good morning")))
        .with_state(Arc::new(Visits::default()))
        .route("/hello", handler(hello))
        .route("/count", handler(count))
        .listen_on(listener)
        .await?;
    Ok(())
}

async fn hello(
    message: Message,
    State(greeting): State<Greeting>,
    State(visits): State<Arc<Visits>>,
) -> Result<String> {
    // The message is all that was sent, route and all.
    let name = message.as_text().and_then(|text| text.strip_prefix("/hello "));
    let name = name.ok_or_else(|| Error::custom("say who you are"))?;
    visits.0.fetch_add(1, Ordering::Relaxed);
    Ok(format!("{}, {name}!", greeting.0))
}

async fn count(State(visits): State<Visits>) -> String {
    format!("{} have said hello", visits.0.load(Ordering::Relaxed))
}
