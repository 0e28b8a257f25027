use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use wsforge_core::Output;
use wsforge_core::handshake::Request;

use crate::driver::endpoint::Endpoint;
use crate::driver::opening::{Opened, Opening};
use crate::driver::timer::Timer;
use crate::runtime::{Runtime, Transport};
use crate::{AcceptError, Answer, Options, WebSocket};

/// Accepts connections that share their options and their timer: for a server with a loop of its own.
#[derive(Clone, Debug)]
pub struct Acceptor(Arc<Endpoint>);

impl Acceptor {
    /// An acceptor on any runtime.
    pub fn on(runtime: Arc<dyn Runtime>, options: Options) -> Self {
        Self::with_timer(options, Timer::new(runtime))
    }

    pub(crate) fn with_timer(options: Options, timer: Arc<Timer>) -> Self {
        Self(Endpoint::new(options, timer))
    }

    /// Waits for a peer's request.
    ///
    /// # Errors
    ///
    /// Why there is none. The peer has been told.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, so is the connection.
    pub async fn accept(&self, io: impl Transport) -> Result<Handshake, AcceptError> {
        Handshake::read(&self.0, io).await
    }
}

/// A peer's request that waits for an answer: look at it for as long as you like, but not longer than
/// [`Options::handshake_timeout`](crate::Options::handshake_timeout) after the connection was made.
#[derive(Debug)]
pub struct Handshake {
    opening: Opening,
    head: Vec<u8>,
    early: Vec<u8>,
}

impl Handshake {
    async fn read(
        endpoint: &Arc<Endpoint>,
        transport: impl Transport,
    ) -> Result<Self, AcceptError> {
        transport.prepare();
        let mut opening = Opening::new(endpoint, transport);
        let read = poll_fn(|cx| {
            opening.poll(cx, |request, early, _| {
                Opened::Later((request.head().to_vec(), early.to_vec()))
            })
        });
        match read.await? {
            Err((head, early)) => Ok(Self { opening, head, early }),
            Ok(_) => Err(AcceptError::Closed),
        }
    }

    /// The request: its path and query, headers, cookies, subprotocols. It may be for something else
    /// than a WebSocket.
    pub fn request(&self) -> Request<'_> {
        let now = self.opening.outbox().endpoint.timer.now();
        Request::parse(&self.head, now).expect("it was read before")
    }

    /// The peer's address, where peers have one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.opening.outbox().transport.peer_addr()
    }

    /// Opens the connection.
    ///
    /// # Errors
    ///
    /// As [`answer`](Self::answer).
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, so is the connection.
    pub async fn accept(self) -> Result<WebSocket, AcceptError> {
        self.answer(Answer::accept()).await
    }

    /// Answers, and opens the connection if that is the answer.
    ///
    /// # Errors
    ///
    /// Why there is none: [`AcceptError::Rejected`] if the answer was a refusal, when the peer has had
    /// the time to read it, and [`AcceptError::TimedOut`] if it comes too late: then the peer is gone.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, so is the connection.
    pub async fn answer(mut self, answer: Answer) -> Result<WebSocket, AcceptError> {
        let mut output = Output::new();
        let config = &self.opening.outbox().endpoint.config;
        let written = answer.write(&self.request(), config, &mut output);
        self.opening.answer(written, &self.early, &mut output);
        let open = poll_fn(|cx| self.opening.poll(cx, |_, _, _| Opened::Later(())));
        let session = open.await?.map_err(|()| AcceptError::Closed)?;
        Ok(WebSocket::new(self.opening.outbox().clone(), session))
    }
}
