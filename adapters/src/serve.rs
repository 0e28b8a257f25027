use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use wsforge_core::CloseCode;
use wsforge_core::handshake::{Reject, Request};

use crate::driver::endpoint::Endpoint;
use crate::driver::opening::{Opened, Opening};
use crate::driver::outbox::Phase;
use crate::driver::timer::Timer;
use crate::runtime::{BoxFuture, Listener, Runtime, Stage, Task, Transport};
use crate::{AcceptError, Answer, Options, WebSocket};

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

/// A pause after which it is tried again to accept, when the process has no descriptors left.
const BACK_OFF: Duration = Duration::from_millis(50);

/// So many connections get their Close at a time, and so much time passes until the next do: else all
/// their peers would come back at once.
const WAVE: (usize, Duration) = (256, Duration::from_millis(10));

/// So many peers are told at a time that there are too many; further ones are just dropped.
const MAX_REFUSING: usize = 1024;

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
        let Self { mut listener, decide, handle, options, mut shutdown, patience, timer } = self;
        listener.prepare();
        let endpoint = Endpoint::new(options, timer.clone());
        let app = Arc::new(App {
            decide,
            handle,
            endpoint,
            opened: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
            refusing: AtomicUsize::new(0),
        });
        loop {
            let accepted = poll_fn(|cx| {
                if shutdown.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                listener.poll_accept(cx).map(Some)
            });
            match accepted.await {
                None => break,
                Some(Ok((io, peer_addr))) => app.clone().welcome(io, peer_addr),
                // One peer's failure, and over before it began.
                Some(Err(error)) if is_of_one_connection(&error) => {}
                // Out of descriptors or memory: connections that end give some back.
                Some(Err(_)) => {
                    let mut pause = timer.sleep(BACK_OFF);
                    let pause = poll_fn(|cx| {
                        if shutdown.as_mut().poll(cx).is_ready() {
                            return Poll::Ready(true);
                        }
                        pause.as_mut().poll(cx).map(|()| false)
                    });
                    if pause.await {
                        break;
                    }
                }
            }
        }
        drop(listener);
        let cut = stop(&timer, patience).await;
        Report {
            opened: app.opened.load(Ordering::Relaxed),
            turned_away: app.turned_away.load(Ordering::Relaxed),
            cut,
        }
    }
}

impl<L: fmt::Debug, D, H> fmt::Debug for Serve<L, D, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// What the application supplies, and how many it has served.
struct App<D, H> {
    decide: D,
    handle: H,
    endpoint: Arc<Endpoint>,
    opened: AtomicUsize,
    turned_away: AtomicUsize,
    /// Those who are being told.
    refusing: AtomicUsize,
}

impl<D, H, F> App<D, H>
where
    D: Fn(&Incoming<'_>) -> Answer + Send + Sync + 'static,
    H: Fn(WebSocket) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    /// Gives a peer a task, if there is a place for it.
    fn welcome(self: Arc<Self>, io: impl Transport, peer_addr: Option<SocketAddr>) {
        let (timer, options) = (&self.endpoint.timer, &self.endpoint.options);
        let refusing = self.refusing.load(Ordering::Relaxed);
        let address = peer_addr.map(|address| address.ip());
        let reject = if timer.len().saturating_sub(refusing) >= options.max_connections {
            Reject { status: 503, headers: &[], body: b"too many connections" }
        } else if !self.endpoint.has_place(address) {
            Reject { status: 429, headers: &[], body: b"too many connections from your address" }
        } else {
            let opening = Opening::new(&self.endpoint, io);
            self.endpoint.take_place(opening.outbox().key(), address);
            let app = self.clone();
            return timer.spawn(Task::staged(Knocking { app, opening, peer_addr }));
        };
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        if refusing >= MAX_REFUSING {
            return;
        }
        let mut opening = Opening::new(&self.endpoint, io);
        opening.turn_away(&reject, AcceptError::Rejected(reject.status));
        self.refusing.fetch_add(1, Ordering::Relaxed);
        let app = self.clone();
        timer.spawn(Task::new(async move {
            let _ = poll_fn(|cx| opening.poll(cx, |_, _, _| Opened::Later(()))).await;
            drop(opening);
            app.refusing.fetch_sub(1, Ordering::Relaxed);
        }));
    }
}

/// The task of a peer until its request has been answered.
struct Knocking<D, H> {
    app: Arc<App<D, H>>,
    opening: Opening,
    peer_addr: Option<SocketAddr>,
}

impl<D, H, F> Stage for Knocking<D, H>
where
    D: Fn(&Incoming<'_>) -> Answer + Send + Sync + 'static,
    H: Fn(WebSocket) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Task>> {
        let Self { app, opening, peer_addr } = self.get_mut();
        let peer_addr = *peer_addr;
        let opened = ready!(opening.poll(cx, |request, _, output| {
            let answer = (app.decide)(&Incoming { request: *request, peer_addr });
            Opened::<()>::Answered(answer.write(request, &app.endpoint.config, output))
        }));
        // Why there is no connection is the peer's affair.
        let Ok(Ok(socket)) = opened else { return Poll::Ready(None) };
        app.opened.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Task::new((app.handle)(socket))))
    }
}

/// Closes all connections and waits for their ends; says how many had to be cut off.
async fn stop(timer: &Timer, patience: Duration) -> usize {
    let (wave, pause) = WAVE;
    let mut late = timer.sleep(patience);
    let mut over = false;
    let mut pass = async |duration| {
        let mut pause = timer.sleep(duration);
        poll_fn(|cx| {
            over = over || late.as_mut().poll(cx).is_ready();
            if over { Poll::Ready(()) } else { pause.as_mut().poll(cx) }
        })
        .await;
        over
    };
    let outboxes = timer.outboxes();
    'waves: {
        for outboxes in outboxes.chunks(wave) {
            for outbox in outboxes {
                // Who is still shaking hands has nothing to close; who is closing is waited for.
                if !outbox.close(CloseCode::GOING_AWAY, "the server stops")
                    && outbox.phase() == Phase::Opening
                {
                    outbox.transport.abort();
                }
            }
            if pass(pause).await {
                break 'waves;
            }
        }
    }
    drop(outboxes);
    // One that is over may still be there because somebody holds a sender.
    let left = || {
        let mut outboxes = timer.outboxes();
        outboxes.retain(|outbox| !outbox.phase().is_gone());
        outboxes
    };
    while !left().is_empty() && !pass(pause).await {}
    let left = left();
    for outbox in &left {
        outbox.transport.abort();
    }
    left.len()
}

/// Whether accepting failed because of the peer, who is gone already.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
    )
}
