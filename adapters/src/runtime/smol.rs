//! Everything on smol. Nothing else in this crate names it.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Weak};
#[cfg(unix)]
use std::thread;
use std::time::Duration;

use smol::{Async, Executor};

#[cfg(unix)]
use super::threads::share_out;
use super::{BoxFuture, Listener, Runtime, Task, Transport, tcp};
#[cfg(feature = "router")]
use super::{Door, Host};
use crate::{
    AcceptError, Acceptor, Answer, Connect, Handshake, Incoming, Options, Serve, Tcp, WebSocket,
};

mod executor;
pub use executor::run;
use executor::{current, timer};

#[cfg(target_os = "linux")]
mod edge;
#[cfg(target_os = "linux")]
pub use edge::Socket;

mod socket;
/// A socket of TCP or of Unix, as servers accept them.
#[cfg(not(target_os = "linux"))]
pub type Socket<S> = Async<S>;

mod stream;
pub use stream::Io;

/// Waits for a peer's request, with default [`Options`]; answer it with what that gives.
///
/// `io` is a TCP or Unix socket in an `Async`, or a transport of another kind.
///
/// # Errors
///
/// Why there is no request. The peer has been told.
///
/// # Cancel safety
///
/// If it is dropped, so is the connection.
pub async fn accept(io: impl Transport) -> Result<Handshake, AcceptError> {
    acceptor(Options::default()).accept(io).await
}

/// An [`Acceptor`] with these options. Call it within the task that accepts.
pub fn acceptor(options: Options) -> Acceptor {
    Acceptor::with_timer(options, timer())
}

/// Connects to a `ws://` URL, when what it gives is awaited.
pub fn connect(url: impl Into<String>) -> Connect {
    Connect::with_timer(Arc::new(Smol::default()), url.into(), timer)
}

/// Serves connections, when what it gives is awaited: `decide` answers each request, and `handle` runs as
/// a task of its own for each connection, where the task that calls this runs.
pub fn serve<L, D, H, F>(listener: L, decide: D, handle: H) -> Serve<L, D, H>
where
    L: Listener,
    D: Fn(&Incoming<'_>) -> Answer + Send + Sync + 'static,
    H: Fn(WebSocket) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    Serve::on(Arc::new(Smol::default()), listener, decide, handle)
}

/// Listens on a TCP port as a server should: a short restart finds it free, a rush of connections fits its
/// queue, and what it accepts does not wait to fill packets (`TCP_NODELAY`).
///
/// # Errors
///
/// The address is taken, or not ours.
pub fn listen(address: SocketAddr) -> io::Result<Async<TcpListener>> {
    Async::new_nonblocking(tcp::listen(&[address], &Tcp::default(), false)?)
}

/// Runs `n` threads with an executor and a listener each, all on the same address: `serve` gets the
/// listener and runs on the thread. The kernel spreads the connections. Blocks until all are done.
///
/// # Errors
///
/// The address is taken or not ours, or a thread cannot be made.
///
/// # Panics
///
/// If `serve` does on one of them.
#[cfg(unix)]
pub fn workers<F: Future>(
    n: usize,
    address: SocketAddr,
    serve: impl Fn(Async<TcpListener>) -> F + Sync,
) -> io::Result<Vec<F::Output>>
where
    F::Output: Send,
{
    let mut listeners = Vec::new();
    let mut address = address;
    for _ in 0..n.max(1) {
        let listener = tcp::listen(&[address], &Tcp::default(), true)?;
        // The first one picks the port, if any will do.
        address = listener.local_addr()?;
        listeners.push(Async::new_nonblocking(listener)?);
    }
    let thread = |_| thread::Builder::new().name("wsforge-worker".into());
    share_out(listeners, thread, |listener| {
        smol::block_on(run(&Arc::default(), async { serve(listener).await }))
    })
}

/// Smol as a runtime. Its default is the executor that [runs](run) the task that asks, or smol's own.
#[derive(Clone, Debug)]
pub struct Smol(Option<Weak<Executor<'static>>>);

impl Default for Smol {
    fn default() -> Self {
        let current = current();
        Self((current.strong_count() > 0).then_some(current))
    }
}

impl Runtime for Smol {
    fn spawn(&self, task: Task) {
        match self.0.as_ref().map(Weak::upgrade) {
            Some(Some(executor)) => executor.spawn(task).detach(),
            // When it is gone there is nobody to run it.
            Some(None) => {}
            None => smol::spawn(task).detach(),
        }
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(async move {
            smol::Timer::after(duration).await;
        })
    }

    /// By way of the reactor: a task that wakes itself is polled some hundred times before that is asked.
    fn yield_now(&self) -> BoxFuture<()> {
        self.sleep(Duration::from_micros(1))
    }

    fn connect(&self, host: String, port: u16) -> BoxFuture<io::Result<Box<dyn Transport>>> {
        Box::pin(async move {
            let mut failed = io::Error::new(ErrorKind::NotFound, "the name has no address");
            for address in smol::net::resolve((host, port)).await? {
                let stream = Async::<TcpStream>::connect(address).await;
                match stream.and_then(|stream| Socket::new(stream.into_inner()?)) {
                    Ok(socket) => return Ok(Box::new(socket) as Box<dyn Transport>),
                    Err(error) => failed = error,
                }
            }
            Err(failed)
        })
    }
}

#[cfg(feature = "router")]
impl Host for Smol {
    fn resolve(&self, address: String) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        Box::pin(smol::net::resolve(address))
    }

    fn door(&self, listener: TcpListener) -> io::Result<Box<dyn Door>> {
        Ok(Box::new(Async::new_nonblocking(listener)?))
    }

    fn run(
        &self,
        make: Box<dyn FnOnce() -> io::Result<BoxFuture<crate::Report>> + Send>,
    ) -> io::Result<crate::Report> {
        smol::block_on(run(&Arc::default(), async { Ok(make()?.await) }))
    }
}
