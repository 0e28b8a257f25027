use std::fmt;
use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::ops::Add;
use std::sync::Arc;
use std::time::Duration;

use wsforge_core::handshake::Request;

use crate::driver::address::Address;
use crate::driver::endpoint::Endpoint;
use crate::driver::outbox::Outbox;
use crate::driver::session::Session;
use crate::driver::timer::Timer;
use crate::runtime::{BoxFuture, Listener, Runtime, Task};
use crate::server::{Application, Decision, Server};
use crate::{Answer, Options, WebSocket};

/// A server that is yet to run: set what is not to be as usual, and await it.
///
/// It accepts connections until the future given to [`shutdown`](Self::shutdown) is ready, then closes
/// all with 1001, waits for them, and gives a [`Report`].
///
/// # Cancel safety
///
/// Dropped before it is ready, it accepts no more; the connections that it has accepted go on.
#[must_use = "a server runs when it is awaited"]
pub struct Serve<L, D, H> {
    listener: L,
    decide: D,
    handle: H,
    options: Options,
    shutdown: BoxFuture<()>,
    patience: Duration,
    timer: Arc<Timer>,
}

/// What became of a server's connections.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// How many connections were opened.
    pub opened: usize,
    /// How many were refused because there were too many.
    pub turned_away: usize,
    /// How many of those that were open when the server stopped have ended in time, one way or the other.
    pub closed: usize,
    /// How many had to be cut off in the end, as they did not close in time.
    pub cut: usize,
}

/// A request as a server's `decide` sees it.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The request; it may be for something else than a WebSocket.
    pub request: Request<'a>,
    /// Who asks, where peers have addresses.
    pub peer_addr: Option<SocketAddr>,
}

/// Of two servers.
impl Add for Report {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            opened: self.opened + other.opened,
            turned_away: self.turned_away + other.turned_away,
            closed: self.closed + other.closed,
            cut: self.cut + other.cut,
        }
    }
}

impl<L, D, H> Serve<L, D, H> {
    /// A server on any runtime: `decide` answers each request, and `handle` runs as a task of its own for
    /// each connection.
    pub fn on(runtime: Arc<dyn Runtime>, listener: L, decide: D, handle: H) -> Self {
        Self {
            listener,
            decide,
            handle,
            options: Options::default(),
            shutdown: Box::pin(std::future::pending()),
            patience: Duration::from_secs(10),
            timer: Timer::new(runtime),
        }
    }

    /// Sets the limits and deadlines.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Stops when `signal` is ready.
    pub fn shutdown(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown = Box::pin(signal);
        self
    }

    /// How long it waits for its connections to end when it stops. Default: 10 s.
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

impl<L, D, H, F> IntoFuture for Serve<L, D, H>
where
    L: Listener,
    D: Fn(&Incoming<'_>) -> Answer + Send + Sync + 'static,
    H: Fn(WebSocket) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    type Output = Report;
    type IntoFuture = BoxFuture<Report>;

    fn into_future(self) -> BoxFuture<Report> {
        Box::pin(self.run())
    }
}

impl<L, D, H, F> Serve<L, D, H>
where
    L: Listener,
    D: Fn(&Incoming<'_>) -> Answer + Send + Sync + 'static,
    H: Fn(WebSocket) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    async fn run(self) -> Report {
        let Self { mut listener, decide, handle, options, shutdown, patience, timer } = self;
        listener.prepare();
        let app = Arc::new(Functions { decide, handle });
        let server = Server::new(app, Endpoint::new(options, timer));
        server.run(Box::new(listener), shutdown, patience).await
    }
}

impl<L: fmt::Debug, D, H> fmt::Debug for Serve<L, D, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// What the application supplies.
struct Functions<D, H> {
    decide: D,
    handle: H,
}

impl<D, H, F> Application for Functions<D, H>
where
    D: Fn(&Incoming<'_>) -> Answer + Send + Sync + 'static,
    H: Fn(WebSocket) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    type Ticket = ();

    fn decide(self: &Arc<Self>, incoming: &Incoming<'_>) -> Decision<()> {
        Decision::Now((self.decide)(incoming), ())
    }

    fn serve(
        self: &Arc<Self>,
        outbox: Arc<Outbox>,
        session: Box<Session>,
        _: Option<Address>,
        (): (),
    ) -> Task {
        Task::new((self.handle)(WebSocket::new(outbox, session)))
    }
}
