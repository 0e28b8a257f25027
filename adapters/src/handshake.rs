use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use wsforge_core::Output;
use wsforge_core::handshake::Request;

use crate::driver::endpoint::Endpoint;
use crate::driver::opening::{Opened, Opening};
use crate::runtime::Transport;
use crate::{AcceptError, Answer, WebSocket};

/// A peer's request that waits for an answer: look at it for as long as you like, but not longer than
/// [`Options::handshake_timeout`](crate::Options::handshake_timeout) after the connection was made.
#[derive(Debug)]
pub struct Handshake {
    opening: Opening,
    head: Vec<u8>,
    early: Vec<u8>,
}

impl Handshake {
    pub(crate) async fn read(
        endpoint: &Arc<Endpoint>,
        transport: impl Transport,
    ) -> Result<Self, AcceptError> {
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
    pub async fn accept(self) -> Result<WebSocket, AcceptError> {
        self.answer(Answer::accept()).await
    }

    /// Answers, and opens the connection if that is the answer.
    ///
    /// # Errors
    ///
    /// Why there is none: [`AcceptError::Rejected`] if the answer was a refusal, when the peer has had
    /// the time to read it.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the connection is.
    pub async fn answer(mut self, answer: Answer) -> Result<WebSocket, AcceptError> {
        let mut output = Output::new();
        let config = &self.opening.outbox().endpoint.config;
        let written = answer.write(&self.request(), config, &mut output);
        self.opening.answer(written, &self.early, &mut output);
        let open = poll_fn(|cx| self.opening.poll(cx, |_, _, _| Opened::Later(())));
        open.await?.map_err(|()| AcceptError::Closed)
    }
}
