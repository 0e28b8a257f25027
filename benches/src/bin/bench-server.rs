//! A server of `wsforge` for a load client: `cargo run --release --bin bench-server -- --help`.

use std::collections::HashSet;
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, Once};
use std::thread;

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use wsforge::proto::hub::Audience;
use wsforge::proto::{CloseCode, Kind, Message as Lent};
use wsforge::router::{
    self, ConnectionManager, Handler, Json, JsonResponse, Outcome, Received, Reply, Router, State,
    handler,
};
use wsforge::runtime::Listener;
use wsforge::smol::Smol;
use wsforge::tokio::Tokio;
use wsforge::{Answer, FanOut, Incoming, Member, Options, Replies, Serve, SlowConsumer, WebSocket};

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
    /// How many threads serve.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// What tokio does with several threads; smol's take tasks from each other.
    #[arg(long, default_value = "cores")]
    spread: Spread,
    /// What becomes of a message.
    #[arg(long, default_value = "echo")]
    mode: Mode,
    /// What happens to a peer for whom too much waits.
    #[arg(long, default_value = "disconnect")]
    policy: Policy,
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

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Spread {
    /// Each has a runtime and a listener of its own, and keeps what it accepts.
    Cores,
    /// One runtime has them all, whose threads take tasks from each other.
    Stealing,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Mode {
    /// It goes to everybody, its sender included.
    Broadcast,
    /// It goes back.
    Echo,
    /// It is parsed, and what was parsed goes back.
    Json,
    /// It goes to everybody who has not asked for `/plain` if it begins with `!`, else it goes back.
    Mixed,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Policy {
    Disconnect,
    DropNewest,
    DropOldest,
    /// All broadcasts have the same key.
    KeepNewest,
}

impl From<Policy> for SlowConsumer {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Disconnect => Self::Disconnect(CloseCode::TRY_AGAIN_LATER),
            Policy::DropNewest => Self::DropNewest,
            Policy::DropOldest => Self::DropOldest,
            Policy::KeepNewest => Self::KeepNewest,
        }
    }
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
        run(arguments, Arc::new(Smol::default()), listener, Everybody::of(arguments)).await
    }))
}

fn on_tokio(arguments: Arguments) -> io::Result<()> {
    let Arguments { threads, spread, .. } = arguments;
    match (spread, arguments.router()) {
        (Spread::Cores, Some(router)) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let router = router.workers(threads).on_listen(announce);
            let served = router.listen(arguments.address().to_string());
            runtime.block_on(served).map_err(io::Error::other)
        }
        (Spread::Cores, None) => {
            let (everybody, announced) = (Everybody::of(arguments), Once::new());
            let serve = async |listener: tokio::net::TcpListener| {
                let address = listener.local_addr()?;
                announced.call_once(|| announce(address));
                run(arguments, Arc::new(Tokio), listener, everybody.clone()).await
            };
            wsforge::tokio::workers(threads, arguments.address(), serve)?.into_iter().collect()
        }
        (Spread::Stealing, _) => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(threads).enable_all().build()?;
            runtime.block_on(async {
                let listener = wsforge::tokio::listen(arguments.address())?;
                announce(listener.local_addr()?);
                run(arguments, Arc::new(Tokio), listener, Everybody::of(arguments)).await
            })
        }
    }
}

impl Arguments {
    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn options(&self) -> Options {
        let mut options = Options::default();
        options.mailbox.policy = self.policy.into();
        options
    }

    /// What serves, if that is a router.
    fn router(self) -> Option<Router> {
        if !matches!(self.api, Api::Router | Api::RouterLent) {
            return None;
        }
        // The others answer nothing to what is no JSON.
        let router = Router::new().options(self.options()).on_error(|_, _| None);
        let router = router.default_handler(routed(self));
        if self.mode != Mode::Mixed {
            return Some(router);
        }
        Some(router.keep_requests().on_connect(|manager, id| {
            let Some(connection) = manager.get(&id) else { return };
            if connection.request().is_some_and(|request| request.path() != PLAIN) {
                let _ = connection.join(MEMBERS);
            }
        }))
    }
}

fn announce(address: SocketAddr) {
    println!("listening on ws://{address}/");
}

async fn run<L: Listener>(
    arguments: Arguments,
    runtime: Arc<dyn wsforge::runtime::Runtime>,
    listener: L,
    everybody: Everybody,
) -> io::Result<()> {
    if let Some(router) = arguments.router() {
        router.listen_on(listener).await.map_err(io::Error::other)?;
        return Ok(());
    }
    let options = arguments.options();
    let lent = matches!(arguments.api, Api::Lent);
    let accept = {
        let everybody = everybody.clone();
        move |incoming: &Incoming<'_>| everybody.answer(incoming)
    };
    match (arguments.mode, lent) {
        (Mode::Echo, true) => {
            Serve::on(runtime, listener, accept, |mut socket: WebSocket| async move {
                socket.for_each(echo).await;
            })
            .options(options)
            .await
        }
        (Mode::Echo, false) => {
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
        (Mode::Json, true) => {
            Serve::on(runtime, listener, accept, lent_json).options(options).await
        }
        (Mode::Json, false) => {
            Serve::on(runtime, listener, accept, socket_json).options(options).await
        }
        (Mode::Broadcast | Mode::Mixed, true) => {
            let handle = move |socket| lent_broadcast(socket, everybody.clone());
            Serve::on(runtime, listener, accept, handle).options(options).await
        }
        (Mode::Broadcast | Mode::Mixed, false) => {
            let handle = move |socket| socket_broadcast(socket, everybody.clone());
            Serve::on(runtime, listener, accept, handle).options(options).await
        }
    };
    Ok(())
}

/// The path of those who get no broadcasts.
const PLAIN: &str = "/plain";

/// The group of the others, where there are both.
const MEMBERS: &str = "members";

/// Those who get broadcasts, where no router knows them.
#[derive(Clone)]
struct Everybody {
    members: FanOut,
    sends: Sends,
    /// Those who are yet to open and do not.
    plain: Arc<Mutex<HashSet<SocketAddr>>>,
}

impl Everybody {
    fn of(arguments: Arguments) -> Self {
        Self { members: FanOut::new(), sends: Sends::of(arguments), plain: Arc::default() }
    }

    fn answer(&self, incoming: &Incoming<'_>) -> Answer {
        if incoming.request.path() == PLAIN {
            self.plain.lock().unwrap().extend(incoming.peer_addr);
        }
        Answer::accept()
    }

    fn join(&self, socket: &WebSocket) -> Option<Member> {
        let mut plain = self.plain.lock().unwrap();
        let is_plain = socket.peer_addr().is_some_and(|address| plain.remove(&address));
        (!is_plain).then(|| self.members.join(&socket.sender()).expect("a server's"))
    }

    fn send(&self, kind: Kind, message: &[u8]) {
        match self.sends.newest {
            true => self.members.send_newest(Audience::All, 0, kind, message),
            false => self.members.send(Audience::All, kind, message),
        }
    }
}

/// What is sent to everybody, and how.
#[derive(Clone, Copy)]
struct Sends {
    /// Rather than what begins with `!`.
    all: bool,
    /// Of what waits for a peer, only the newest counts.
    newest: bool,
}

impl Sends {
    fn of(Arguments { mode, policy, .. }: Arguments) -> Self {
        Self { all: mode == Mode::Broadcast, newest: policy == Policy::KeepNewest }
    }

    fn takes(self, message: &[u8]) -> bool {
        self.all || message.starts_with(b"!")
    }

    /// Gives back what does not go to everybody.
    fn send(
        self,
        message: router::Message,
        everybody: &ConnectionManager,
    ) -> Option<router::Message> {
        if !self.takes(&message.data) {
            return Some(message);
        }
        let to = if self.all { Audience::All } else { Audience::Group(MEMBERS) };
        match self.newest {
            true => everybody.broadcast_newest(to, 0, message),
            false => everybody.broadcast_among(to, message),
        }
        None
    }
}

/// The handler of a router.
fn routed(arguments: Arguments) -> Arc<dyn Handler> {
    let sends = Sends::of(arguments);
    match (matches!(arguments.api, Api::RouterLent), arguments.mode) {
        (false, Mode::Broadcast | Mode::Mixed) => {
            handler(move |message, State(everybody): State<Arc<ConnectionManager>>| async move {
                sends.send(message, &everybody)
            })
        }
        (true, Mode::Broadcast | Mode::Mixed) => {
            handler(move |message, State(everybody): State<ConnectionManager>| {
                sends.send(message, &everybody)
            })
        }
        (false, Mode::Echo) => handler(async |message: router::Message| message),
        (true, Mode::Echo) => Arc::new(Echo),
        (false, Mode::Json) => handler(async |Json(envelope): Json<Owned>| JsonResponse(envelope)),
        (true, Mode::Json) => handler(parsed),
    }
}

fn parsed(text: &str) -> router::Result<JsonResponse<Envelope<'_>>> {
    Ok(JsonResponse(serde_json::from_str(text)?))
}

/// Gives back what is lent, as what it is.
struct Echo;

impl Handler for Echo {
    fn call(&self, received: &Received<'_>, reply: &mut Reply<'_>) -> Outcome {
        Outcome::Done(match received.text() {
            Some(text) => reply.text(text),
            None => reply.binary(received.bytes),
        })
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

async fn lent_broadcast(mut socket: WebSocket, everybody: Everybody) {
    let _member = everybody.join(&socket);
    let send = |message: Lent<'_>, replies: &mut Replies<'_>| {
        if !everybody.sends.takes(message.as_bytes()) {
            return echo(message, replies);
        }
        everybody.send(message.kind(), message.as_bytes());
        ControlFlow::Continue(())
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

async fn socket_broadcast(mut socket: WebSocket, everybody: Everybody) {
    let _member = everybody.join(&socket);
    while let Some(message) = socket.recv().await {
        if everybody.sends.takes(message.as_bytes()) {
            everybody.send(message.kind(), message.as_bytes());
        } else if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// What was understood of a message.
fn reply(message: &[u8]) -> Option<Vec<u8>> {
    let envelope: Envelope<'_> = serde_json::from_slice(message).ok()?;
    serde_json::to_vec(&envelope).ok()
}
