//! `echo` on smol, with all that this takes: `cargo run --bin router_smol`.

use std::io;

use clap::Parser;
use examples::{Options, Place};
use wsforge::prelude::*;

fn main() -> Result<()> {
    let Place { port } = Place::parse();
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    // Which wakes whoever waits for a message of the channel.
    let close = move || _ = stop.close();
    ctrlc::set_handler(close).map_err(io::Error::other)?;
    let router = Router::new()
        .default_handler(handler(echo))
        .shutdown(async move { _ = stopped.recv().await });
    smol::block_on(wsforge::smol::run(&Default::default(), async {
        let listener = wsforge::smol::listen(([127, 0, 0, 1], port).into())?;
        Options::announce(listener.get_ref().local_addr()?);
        router.listen_on(listener).await?;
        Ok(())
    }))
}

async fn echo(message: Message) -> Message {
    message
}
