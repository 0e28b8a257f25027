//! Passes messages on between its clients and a server: `cargo run --release --bin proxy -- --to URL`.
//!
//! One task has both sides of a connection and polls them in turns. While one side takes nothing, the
//! other is not read, so its peer has to wait as well, and what is kept here stays little. A Close is
//! passed on, but answered here and at once: what still came the other way is dropped.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use clap::Parser;
use examples::ctrl_c;
use futures_core::Stream;
use futures_sink::Sink;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wsforge::tokio::{acceptor, connect, listen};
use wsforge::{
    AcceptError, Acceptor, Answer, CloseCode, CloseInfo, ConnectError, Handshake, Options,
    WebSocket,
};

/// Passes messages on between its clients and a server.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// The port to listen on; 0 takes any that is free.
    #[arg(long, default_value_t = 9002)]
    port: u16,
    /// The server's URL, such as ws://127.0.0.1:9001/
    #[arg(long, value_name = "URL")]
    to: String,
    /// The longest message passed on, in bytes.
    #[arg(long, default_value_t = 16 * 1024 * 1024)]
    max_message: u64,
    /// Seconds after which a side is cut off that takes nothing of what it is sent.
    #[arg(long, default_value_t = 30)]
    write_timeout: u64,
}

/// How long the server has to open a connection. Its client waits meanwhile, and has to be answered in
/// time for its own handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages that are passed on before it is the other side's turn.
const MESSAGES_PER_TURN: usize = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let mut options = Options::default();
    options.write_timeout = Duration::from_secs(arguments.write_timeout);
    options.protocol.max_frame_len = arguments.max_message;
    options.protocol.max_message_len = arguments.max_message;
    // Who waits for the other side is silent.
    options.protocol.idle_timeout = None;

    let pressed = ctrl_c().await;
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], arguments.port)))?;
    println!("listening on ws://{}/", listener.local_addr()?);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        pressed.await;
        let _ = stop.send(true);
    });

    let acceptor = acceptor(options.clone());
    let mut peers = JoinSet::new();
    loop {
        let mut over = stopped.clone();
        tokio::select! {
            () = is_over(&mut over) => break,
            Some(_) = peers.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    let (acceptor, to) = (acceptor.clone(), arguments.to.clone());
                    peers.spawn(serve(socket, acceptor, to, options.clone(), stopped.clone()));
                }
                Err(error) => {
                    // Out of descriptors: connections that end give some back.
                    eprintln!("cannot accept: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
    drop(listener);
    while peers.join_next().await.is_some() {}
    Ok(())
}

async fn serve(
    socket: TcpStream,
    acceptor: Acceptor,
    to: String,
    options: Options,
    mut stopped: watch::Receiver<bool>,
) {
    let open = async {
        let handshake = acceptor.accept(socket).await?;
        open(handshake, &to, options).await
    };
    let (mut client, mut server) = tokio::select! {
        opened = open => match opened {
            Ok(sides) => sides,
            // The client has been told.
            Err(_) => return,
        },
        () = is_over(&mut stopped) => return,
    };
    let ended = tokio::select! {
        ended = poll_fn(|cx| poll_forward(&mut client, &mut server, cx)) => Some(ended),
        () = is_over(&mut stopped) => None,
    };
    let (info, other, unclean) = match ended {
        Some(Side::Client) => (client.close_info(), &mut server, CloseCode::GOING_AWAY),
        Some(Side::Server) => (server.close_info(), &mut client, CloseCode::BAD_GATEWAY),
        None => {
            let (code, reason) = (CloseCode::GOING_AWAY, "the proxy stops");
            tokio::join!(client.close(code, reason), server.close(code, reason));
            return;
        }
    };
    let (code, reason) = match info {
        Some(CloseInfo { code: 1005, .. }) => (CloseCode::NORMAL, ""),
        Some(CloseInfo { code, reason, .. }) => match CloseCode::new(*code) {
            Some(code) => (code, &**reason),
            None => (unclean, "the other side is gone"),
        },
        None => (unclean, "the other side is gone"),
    };
    // Who still reads what came before gets the time for it.
    let _ = other.flush().await;
    other.close(code, reason).await;
}

async fn is_over(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Connects to the server as the client has asked, and answers the client as the server did.
async fn open(
    handshake: Handshake,
    to: &str,
    options: Options,
) -> Result<(WebSocket, WebSocket), AcceptError> {
    let request = handshake.request();
    if request.upgrade().is_err() {
        // The answer says what is wrong.
        handshake.accept().await?;
        return Err(AcceptError::Closed);
    }
    let mut connect = connect(to).timeout(CONNECT_TIMEOUT).options(options);
    for subprotocol in request.subprotocols() {
        connect = connect.subprotocol(subprotocol);
    }
    let answer = match connect.with_response().await {
        Ok((server, response)) => {
            let mut answer = Answer::accept();
            if let Some(subprotocol) = response.subprotocol {
                answer = answer.subprotocol(subprotocol);
            }
            return Ok((handshake.answer(answer).await?, server));
        }
        Err(ConnectError::Refused(refused)) => Answer::reject(refused.status).body(refused.body),
        Err(error) => {
            eprintln!("{error}");
            Answer::reject(502).body("the server cannot be reached")
        }
    };
    let _ = handshake.answer(answer).await?;
    Err(AcceptError::Closed)
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

/// Passes messages on both ways until one side has ended.
fn poll_forward(
    client: &mut WebSocket,
    server: &mut WebSocket,
    cx: &mut Context<'_>,
) -> Poll<Side> {
    if poll_pass(client, server, cx).is_ready() {
        return Poll::Ready(Side::Client);
    }
    if poll_pass(server, client, cx).is_ready() {
        return Poll::Ready(Side::Server);
    }
    // What was passed on leaves, also while its side is not read. If that fails, receiving ends.
    let _ = Pin::new(client).poll_flush(cx);
    let _ = Pin::new(server).poll_flush(cx);
    Poll::Pending
}

/// Passes messages on one way until nothing comes or goes; ready when `from` has ended.
fn poll_pass(from: &mut WebSocket, to: &mut WebSocket, cx: &mut Context<'_>) -> Poll<()> {
    for _ in 0..MESSAGES_PER_TURN {
        if ready!(Pin::new(&mut *to).poll_ready(cx)).is_err() {
            // The other way ends when it is received that this one has.
            return Poll::Pending;
        }
        let Some(message) = ready!(Pin::new(&mut *from).poll_next(cx)) else {
            return Poll::Ready(());
        };
        let _ = Pin::new(&mut *to).start_send(message);
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}
