//! A server of `wsforge` for a load client: `cargo run --release --bin bench-server -- --help`.

use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use wsforge::proto::hub::Audience;
use wsforge::proto::{Kind, Message as Lent};
use wsforge::router::{
    self, ConnectionManager, Handler, Json, JsonResponse, Outcome, Received, Reply, Router, State,
    handler,
};
use wsforge::runtime::Listener;
use wsforge::smol::Smol;
use wsforge::tokio::Tokio;
use wsforge::{Answer, FanOut, Options, Replies, Serve, WebSocket};

/// Serves what a load client asks for.
#[derive(Clone, Copy, Debug, Parser)]
struct Arguments {
    /// What it runs on.
    #[arg(long, default_value = "tokio")]
    runtime: Runtime,
    /// Messages lent from the read buffer, or owned ones received and sent in a plain loop; or those of a
    /// router, whose handler is async and owns what it takes, or plain and borrows it.
    #[arg(long, default_value = "lent")]
    api: Api,
    /// The port to listen on; 0 takes any that is free.
    #[arg(long, default_value_t = 9001)]
    port: u16,
    /// With 1, all runs on a single thread; with more, the runtime spreads tasks over so many.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// What becomes of a message.
    #[arg(long, default_value = "echo")]
    mode: Mode,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Runtime {
    Smol,
    Tokio,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Api {
    Lent,
    Router,
    RouterLent,
    Socket,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// It goes to everybody, its sender included.
    Broadcast,
    /// It goes back.
    Echo,
    /// It is parsed, and what was parsed goes back.
    Json,
}

/// What the load client sends as JSON.
#[derive(Deserialize, Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: u64,
    data: &'a str,
}

/// The same, to keep.
#[derive(Deserialize, Serialize)]
struct Owned {
    #[serde(rename = "type")]
    kind: String,
    id: u64,
    data: String,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    match arguments.runtime {
        Runtime::Smol => on_smol(arguments),
        Runtime::Tokio => on_tokio(arguments),
    }
}

fn on_smol(arguments: Arguments) -> io::Result<()> {
    let executor = Arc::default();
    for _ in 1..arguments.threads {
        let executor = Arc::clone(&executor);
        thread::spawn(move || smol::block_on(wsforge::smol::run(&executor, pending::<()>())));
    }
    smol::block_on(wsforge::smol::run(&executor, async {
        let listener = wsforge::smol::listen(arguments.address())?;
        announce(listener.get_ref().local_addr()?);
        run(arguments, Arc::new(Smol::default()), listener).await
    }))
}

fn on_tokio(arguments: Arguments) -> io::Result<()> {
    let runtime = if arguments.threads <= 1 {
        // As `wsforge::tokio::workers` has it.
        tokio::runtime::Builder::new_current_thread().enable_all().event_interval(256).build()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(arguments.threads).enable_all().build()
    };
    runtime?.block_on(async {
        let listener = wsforge::tokio::listen(arguments.address())?;
        announce(listener.local_addr()?);
        run(arguments, Arc::new(Tokio), listener).await
    })
}

impl Arguments {
    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

fn announce(address: SocketAddr) {
    println!("listening on ws://{address}/");
}

async fn run<L: Listener>(
    Arguments { api, mode, .. }: Arguments,
    runtime: Arc<dyn wsforge::runtime::Runtime>,
    listener: L,
) -> io::Result<()> {
    let accept = |_: &wsforge::Incoming<'_>| Answer::accept();
    let options = Options::default();
    let everybody = FanOut::new();
    match (api, mode) {
        (Api::Lent, Mode::Echo) => {
            Serve::on(runtime, listener, accept, |mut socket: WebSocket| async move {
                socket.for_each(echo).await;
            })
            .options(options)
            .await
        }
        (Api::Lent, Mode::Json) => {
            Serve::on(runtime, listener, accept, lent_json).options(options).await
        }
        (Api::Lent, Mode::Broadcast) => {
            let handle = move |socket| lent_broadcast(socket, everybody.clone());
            Serve::on(runtime, listener, accept, handle).options(options).await
        }
        (Api::Router | Api::RouterLent, _) => {
            // The others answer nothing to what is no JSON.
            let router = Router::new().default_handler(routed(api, mode)).on_error(|_, _| None);
            router.listen_on(listener).await.map_err(io::Error::other)?
        }
        (Api::Socket, Mode::Echo) => {
            Serve::on(runtime, listener, accept, |mut socket: WebSocket| async move {
                while let Some(message) = socket.recv().await {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
            })
            .options(options)
            .await
        }
        (Api::Socket, Mode::Json) => {
            Serve::on(runtime, listener, accept, socket_json).options(options).await
        }
        (Api::Socket, Mode::Broadcast) => {
            let handle = move |socket| socket_broadcast(socket, everybody.clone());
            Serve::on(runtime, listener, accept, handle).options(options).await
        }
    };
    Ok(())
}

/// The handler of a router.
fn routed(api: Api, mode: Mode) -> Arc<dyn Handler> {
    match (matches!(api, Api::RouterLent), mode) {
        (false, Mode::Broadcast) => handler(broadcast),
        (true, Mode::Broadcast) => {
            handler(|message: router::Message, State(everybody): State<ConnectionManager>| {
                everybody.broadcast(message);
            })
        }
        (false, Mode::Echo) => handler(async |message: router::Message| message),
        (true, Mode::Echo) => Arc::new(Echo),
        (false, Mode::Json) => handler(async |Json(envelope): Json<Owned>| JsonResponse(envelope)),
        (true, Mode::Json) => handler(parsed),
    }
}

async fn broadcast(message: router::Message, State(everybody): State<Arc<ConnectionManager>>) {
    everybody.broadcast(message);
}

fn parsed(text: &str) -> router::Result<JsonResponse<Envelope<'_>>> {
    Ok(JsonResponse(serde_json::from_str(text)?))
}

/// Gives back what is lent, as what it is.
struct Echo;

impl Handler for Echo {
    fn call(&self, received: &Received<'_>, reply: &mut Reply<'_>) -> Outcome {
        Outcome::Done(reply.echo(received))
    }
}

fn echo(message: Lent<'_>, replies: &mut Replies<'_>) -> ControlFlow<()> {
    // Fails only when the connection is closing.
    let _ = if message.is_borrowed() {
        replies.send(message.kind(), message.as_bytes())
    } else {
        replies.send(message.kind(), message.into_bytes())
    };
    ControlFlow::Continue(())
}

async fn lent_json(mut socket: WebSocket) {
    let answer = |message: Lent<'_>, replies: &mut Replies<'_>| {
        if let Some(reply) = reply(message.as_bytes()) {
            let _ = replies.send(Kind::Text, &reply);
        }
        ControlFlow::<()>::Continue(())
    };
    socket.for_each(answer).await;
}

async fn lent_broadcast(mut socket: WebSocket, everybody: FanOut) {
    let _member = everybody.join(&socket.sender()).expect("a server's");
    let send = |message: Lent<'_>, _: &mut Replies<'_>| {
        everybody.send(Audience::All, message.kind(), message.as_bytes());
        ControlFlow::<()>::Continue(())
    };
    socket.for_each(send).await;
}

async fn socket_json(mut socket: WebSocket) {
    while let Some(message) = socket.recv().await {
        let Some(reply) = reply(message.as_bytes()).and_then(|reply| String::from_utf8(reply).ok())
        else {
            continue;
        };
        if socket.send(reply).await.is_err() {
            return;
        }
    }
}

async fn socket_broadcast(mut socket: WebSocket, everybody: FanOut) {
    let _member = everybody.join(&socket.sender()).expect("a server's");
    while let Some(message) = socket.recv().await {
        everybody.send(Audience::All, message.kind(), message.as_bytes());
    }
}

/// What was understood of a message.
fn reply(message: &[u8]) -> Option<Vec<u8>> {
    let envelope: Envelope<'_> = serde_json::from_slice(message).ok()?;
    serde_json::to_vec(&envelope).ok()
}
