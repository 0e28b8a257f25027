//! A server and its clients in one thread, without a socket: `cargo run --bin in_memory`.
//!
//! The runtime is our own, [`World`], as are its connections, [`End`](link::End): this is how wsforge comes
//! to where neither tokio nor smol is, and how whatever is built on it is tested without a network.

mod link;
mod world;

use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use wsforge::prelude::*;
use wsforge::{CloseCode, Connect};

use world::World;

fn main() -> Result<(), Box<dyn Error>> {
    let world = Arc::new(World::new());
    let router = Router::new().default_handler(handler(shout));
    let serving = router.listen_with(world.clone(), world.listener());
    let talking = talk(&world);
    world.run(async {
        let (mut serving, mut talking) = (pin!(serving), pin!(talking));
        poll_fn(|cx| {
            let _ = serving.as_mut().poll(cx);
            talking.as_mut().poll(cx)
        })
        .await
    })
}

async fn shout(message: Message) -> Option<String> {
    message.as_text().map(str::to_uppercase)
}

async fn talk(world: &Arc<World>) -> Result<(), Box<dyn Error>> {
    let mut sockets = Vec::new();
    for n in 0..3 {
        let socket = Connect::on(world.clone(), format!("ws://in.memory/{n}")).await?;
        sockets.push(socket);
    }
    for socket in &mut sockets {
        socket.send("hello").await?;
        // A link holds less than this.
        socket.send("x".repeat(1_000_000)).await?;
    }
    for (n, socket) in sockets.iter_mut().enumerate() {
        let heard = socket.recv().await.ok_or("the server has gone")?;
        let longer = socket.recv().await.ok_or("the server has gone")?;
        println!(
            "{n}: {}, and {} bytes",
            String::from_utf8_lossy(heard.as_bytes()),
            longer.as_bytes().len()
        );
        let info = socket.close(CloseCode::NORMAL, "").await;
        println!("{n}: {} {}", info.code, if info.clean { "clean" } else { "not clean" });
    }
    Ok(())
}
