use std::io;

use clap::Parser;
use tokio::net::TcpListener;

use crate::Options;

/// Where an example of the framework listens.
#[derive(Clone, Debug, Parser)]
pub struct Place {
    /// The port to listen on; 0 takes any that is free.
    #[arg(long, default_value_t = 9001)]
    pub port: u16,
}

impl Place {
    /// Listens, on this machine only, as this is an example, and says where.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let listener = wsforge::tokio::listen(([127, 0, 0, 1], self.port).into())?;
        Options::announce(listener.local_addr()?);
        Ok(listener)
    }
}
