use std::time::Duration;

use clap::Args;

/// What a client of the command line asks for.
#[derive(Clone, Debug, Args)]
pub struct Request {
    /// The server's URL, such as ws://127.0.0.1:9001/
    pub url: String,
    /// A header for the handshake, as 'Name: value'; may be repeated.
    #[arg(long = "header", value_name = "HEADER", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// A subprotocol to offer; may be repeated, the best first.
    #[arg(long = "subprotocol", value_name = "NAME")]
    pub subprotocols: Vec<String>,
    /// Seconds that the server has to answer the handshake.
    #[arg(long, default_value_t = 10)]
    timeout: u64,
}

impl Request {
    /// How long the server has to answer the handshake.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

fn header(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once(':').ok_or("a header is 'Name: value'")?;
    Ok((name.trim().into(), value.trim().into()))
}
