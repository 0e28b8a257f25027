//! The chat on smol: `cargo run --bin chat_smol`. Nothing but this file differs.

mod rooms;

use clap::Parser;
use examples::{Options, Place};
use wsforge::prelude::*;

fn main() -> Result<()> {
    let Place { port } = Place::parse();
    smol::block_on(wsforge::smol::run(&Default::default(), async {
        let listener = wsforge::smol::listen(([127, 0, 0, 1], port).into())?;
        Options::announce(listener.get_ref().local_addr()?);
        rooms::chat().listen_on(listener).await?;
        Ok(())
    }))
}
