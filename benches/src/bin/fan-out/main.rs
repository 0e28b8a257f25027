//! What a server's messages to many cost others: `cargo run --release --bin fan-out -- --help`.
//!
//! Its own side is sockets and as little of the protocol as it takes, so that what is seen is the server's.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;

mod crowd;
mod hold;
mod large;
mod peer;
mod server;
mod stalled;

/// Loads a server whose messages go to many when they begin with `!`, and come back otherwise, such as
/// `bench-server --mode mixed`.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    #[arg(long)]
    scenario: Scenario,
    /// A server that runs, as `ws://127.0.0.1:9001/`; without, `bench-server` is started.
    #[arg(long, requires = "pid")]
    url: Option<String>,
    /// Its process.
    #[arg(long, requires = "url")]
    pid: Option<u32>,
    /// The cores for the server that is started, as `taskset -c` has them.
    #[arg(long)]
    server_cpus: Option<String>,
    /// How many get messages. Default: 100,000 or as many as the system allows, and 1,000 beside those who
    /// stall.
    #[arg(long)]
    members: Option<usize>,
    /// The length of a message in bytes.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// How long each part of the scenario takes.
    #[arg(long, default_value_t = 5.0)]
    secs: f64,
    /// Milliseconds between messages to many, where one is not sent as soon as those before have arrived.
    #[arg(long, default_value_t = 500)]
    every: u64,
    /// So many messages are under way at a time, where the next is sent as soon as one has arrived everywhere.
    #[arg(long, default_value_t = 1)]
    window: usize,
    /// How many stall.
    #[arg(long, default_value_t = 1)]
    stalled: usize,
    /// How often all is done.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The first of the members that a process of this program holds.
    #[arg(long, default_value_t = 0, hide = true)]
    first: usize,
    /// What is told to the server that is started: `-- --api router --threads 2`.
    #[arg(last = true)]
    server: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scenario {
    /// One who sends now and then to very many, and another whose messages come back: how long that takes
    /// meanwhile.
    Large,
    /// Some who do not read, and others: how much these get, and how soon.
    Stalled,
    /// What a process of this program does that holds members.
    #[value(hide = true)]
    Hold,
}

impl Arguments {
    fn part(&self) -> Duration {
        Duration::from_secs_f64(self.secs)
    }

    /// Where a server that runs is.
    fn address(&self) -> Result<SocketAddr, Box<dyn Error>> {
        let url = self.url.as_deref().unwrap_or_default();
        let address = url.strip_prefix("ws://").ok_or("the URL begins with ws://")?;
        Ok(address.trim_end_matches('/').parse()?)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    match arguments.scenario {
        Scenario::Large => large::run(&arguments),
        Scenario::Stalled => stalled::run(&arguments),
        Scenario::Hold => hold::run(&arguments),
    }
}

/// Nanoseconds since 1970, as several processes share it.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// Of nanoseconds, up to a minute and to a hundredth.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 2).expect("that is possible")
}

/// Columns of microseconds, rounded.
fn quantiles(of: &Histogram<u64>) -> String {
    let micros = |nanos: u64| nanos / 1000;
    let [p50, p99] = [0.5, 0.99].map(|quantile| micros(of.value_at_quantile(quantile)));
    format!("{p50} | {p99} | {}", micros(of.max()))
}
