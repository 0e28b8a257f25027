//! A server's connections, from the door to their end.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use wsforge_core::handshake::{Reject, Request};
use wsforge_core::{CloseCode, Output};

use crate::driver::address::Address;
use crate::driver::endpoint::Endpoint;
use crate::driver::opening::{Opened, Opening};
use crate::driver::outbox::{Outbox, Phase};
use crate::driver::session::Session;
use crate::driver::timer::Timer;
use crate::driver::turn;
use crate::runtime::{BoxFuture, Door, Stage, Task};
use crate::{AcceptError, Answer, Incoming, Report};

/// What a server is for.
pub(crate) trait Application: Send + Sync + 'static {
    /// What it remembers of a request until the connection is open.
    type Ticket: Send + Unpin + 'static;

    /// Answers a request.
    fn decide(self: &Arc<Self>, incoming: &Incoming<'_>) -> Decision<Self::Ticket>;

    /// Serves a connection, in a task of its own.
    fn serve(
        self: &Arc<Self>,
        outbox: Arc<Outbox>,
        session: Box<Session>,
        address: Option<Address>,
        ticket: Self::Ticket,
    ) -> Task;
}

/// The answer to a request.
pub(crate) enum Decision<T> {
    /// It has to be waited for.
    Later(BoxFuture<(Answer, T)>),
    Now(Answer, T),
}

/// See the module.
pub(crate) struct Server<A> {
    app: Arc<A>,
    endpoint: Arc<Endpoint>,
    opened: AtomicUsize,
    turned_away: AtomicUsize,
    /// Those who are being told that they are.
    refusing: AtomicUsize,
}

/// A pause after which it is tried again to accept, when the process has no descriptors left.
const BACK_OFF: Duration = Duration::from_millis(50);

/// So many connections are accepted until others on the thread have their turn. Not every runtime sees to
/// that by itself.
const MAX_IN_A_ROW: usize = 64;

/// So many connections get their Close at a time, and so much time passes until the next do: else all
/// their peers would come back at once.
const WAVE: (usize, Duration) = (256, Duration::from_millis(10));

/// So many peers are told at a time that there are too many; further ones are just dropped.
const MAX_REFUSING: usize = 1024;

impl<A: Application> Server<A> {
    pub(crate) fn new(app: Arc<A>, endpoint: Arc<Endpoint>) -> Arc<Self> {
        Arc::new(Self {
            app,
            endpoint,
            opened: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
            refusing: AtomicUsize::new(0),
        })
    }

    /// Serves whoever comes through the door until `shutdown` is ready, then lets all finish.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut door: Box<dyn Door>,
        mut shutdown: BoxFuture<()>,
        patience: Duration,
    ) -> Report {
        let mut in_a_row = 0;
        loop {
            let accepted = poll_fn(|cx| {
                if shutdown.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                if in_a_row == MAX_IN_A_ROW {
                    in_a_row = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let accepted = door.poll_open(cx, &self.endpoint);
                in_a_row = if accepted.is_ready() { in_a_row + 1 } else { 0 };
                accepted.map(Some)
            });
            match accepted.await {
                None => break,
                Some(Ok((opening, peer_addr))) => self.welcome(opening, peer_addr),
                // One peer's failure, and over before it began.
                Some(Err(error)) if is_of_one_connection(&error) => {}
                // Out of descriptors or memory: connections that end give some back.
                Some(Err(_)) => {
                    let mut pause = self.endpoint.timer.sleep(BACK_OFF);
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
        drop(door);
        let (closed, cut) = self.stop(patience).await;
        Report {
            opened: self.opened.load(Ordering::Relaxed),
            turned_away: self.turned_away.load(Ordering::Relaxed),
            closed,
            cut,
        }
    }

    /// Gives a peer a task, if there is a place for it.
    fn welcome(self: &Arc<Self>, mut opening: Opening, peer_addr: Option<SocketAddr>) {
        let Endpoint { options, places, timer, .. } = &*self.endpoint;
        let refusing = self.refusing.load(Ordering::Relaxed);
        let reject = if places.len().saturating_sub(refusing) > options.max_connections {
            Reject { status: 503, headers: &[], body: b"too many connections" }
        } else if !self
            .endpoint
            .take_place(opening.outbox().key(), peer_addr.map(|address| address.ip()))
        {
            Reject { status: 429, headers: &[], body: b"too many connections from your address" }
        } else {
            let address = peer_addr.map(Address::from);
            let (server, state) = (self.clone(), State::Asking);
            return timer.spawn(Task::staged(Knocking { server, opening, address, state }));
        };
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        if refusing >= MAX_REFUSING {
            return;
        }
        opening.turn_away(&reject, AcceptError::Rejected(reject.status));
        self.refusing.fetch_add(1, Ordering::Relaxed);
        let server = self.clone();
        timer.spawn(Task::new(async move {
            let _ = poll_fn(|cx| opening.poll(cx, |_, _, _| Opened::Later(()))).await;
            // In this order one too many may be refused for a moment, and never one too many let in.
            server.refusing.fetch_sub(1, Ordering::Relaxed);
            drop(opening);
        }));
    }

    /// Closes all connections and waits for their ends; says how many had theirs, and how many had to be
    /// cut off.
    async fn stop(&self, patience: Duration) -> (usize, usize) {
        let timer: &Timer = &self.endpoint.timer;
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
        let mut open = 0;
        let outboxes = timer.outboxes();
        'waves: {
            for outboxes in outboxes.chunks(wave) {
                for outbox in outboxes {
                    if outbox.close(CloseCode::GOING_AWAY, "the server stops") {
                        open += 1;
                        continue;
                    }
                    match outbox.phase() {
                        // Who is still shaking hands has nothing to close.
                        Phase::Opening => outbox.cut_off(),
                        // Who is closing is waited for.
                        phase => open += usize::from(!phase.is_gone()),
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
        let serving = || self.endpoint.serving.load(Ordering::Relaxed);
        while (!left().is_empty() || serving() > 0) && !pass(pause).await {}
        let cut = left().len().max(serving());
        self.endpoint.abandoned.store(true, Ordering::Release);
        // Also those of whom a handler is all that is left.
        timer.outboxes().iter().for_each(|outbox| outbox.cut_off());
        (open.saturating_sub(cut), cut)
    }
}

/// The task of a peer until its request has been answered. It fits between two blocks that the runtime
/// allocates, as what comes after it does.
struct Knocking<A: Application> {
    server: Arc<Server<A>>,
    opening: Opening,
    address: Option<Address>,
    state: State<A::Ticket>,
}

enum State<T> {
    Asking,
    Waiting(Box<Waiting<T>>),
    /// With nothing, if the answer opens no connection.
    Answered(Option<T>),
}

/// What has been asked, until there is an answer.
struct Waiting<T> {
    answer: BoxFuture<(Answer, T)>,
    head: Vec<u8>,
    /// What has come behind the request.
    early: Vec<u8>,
}

impl<A: Application> Stage for Knocking<A> {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Task>> {
        let Self { server, opening, address, state } = self.get_mut();
        let Server { app, endpoint, .. } = &**server;
        loop {
            if let State::Waiting(waiting) = state {
                let ticket = ready!(waiting.poll(cx, opening, endpoint));
                *state = State::Answered(ticket);
            }
            let opened = ready!(opening.poll(cx, |request, early, output| {
                let peer_addr = address.as_ref().map(SocketAddr::from);
                let incoming = Incoming { request: *request, peer_addr };
                match app.decide(&incoming) {
                    Decision::Now(answer, ticket) => {
                        *state = State::Answered(Some(ticket));
                        Opened::Answered(answer.write(request, &endpoint.config, output))
                    }
                    Decision::Later(answer) => {
                        let (head, early) = (request.head().to_vec(), early.to_vec());
                        Opened::Later(Box::new(Waiting { answer, head, early }))
                    }
                }
            }));
            match opened {
                Ok(Ok(session)) => {
                    let State::Answered(ticket) = state else { return Poll::Ready(None) };
                    let Some(ticket) = ticket.take() else { return Poll::Ready(None) };
                    server.opened.fetch_add(1, Ordering::Relaxed);
                    let outbox = opening.outbox().clone();
                    return Poll::Ready(Some(app.serve(outbox, session, address.take(), ticket)));
                }
                Ok(Err(waiting)) => *state = State::Waiting(waiting),
                // Why there is no connection is the peer's affair.
                Err(_) => return Poll::Ready(None),
            }
        }
    }
}

impl<T> Waiting<T> {
    /// Waits for the answer, and writes it.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        opening: &mut Opening,
        endpoint: &Endpoint,
    ) -> Poll<Option<T>> {
        let late = opening.poll_late(cx).is_ready();
        let poll = AssertUnwindSafe(|| turn::scope(|| self.answer.as_mut().poll(cx)));
        let (answer, ticket) = match catch_unwind(poll) {
            Ok(Poll::Ready((answer, ticket))) => (answer, Some(ticket)),
            Ok(Poll::Pending) if late => {
                (Answer::reject(503).body("the answer took too long"), None)
            }
            Ok(Poll::Pending) => return Poll::Pending,
            Err(_) => (Answer::reject(500).body("the server failed"), None),
        };
        let mut output = Output::new();
        let request = Request::parse(&self.head, endpoint.timer.now());
        let written = match &request {
            Ok(request) => answer.write(request, &endpoint.config, &mut output),
            Err(error) => Err(AcceptError::Request(*error).into()),
        };
        opening.answer(written, &self.early, &mut output);
        Poll::Ready(ticket)
    }
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

#[cfg(all(test, feature = "router"))]
mod tests {
    use super::*;
    use crate::router::app::App;

    /// What glibc has left between the blocks of tokio's that are aligned to 128 bytes.
    const GAP: usize = 104;

    #[test]
    fn what_a_connection_is_made_of_fits_into_gaps() {
        assert!(size_of::<Knocking<App>>() <= GAP);
        assert!(size_of::<Session>() <= GAP);
    }
}
