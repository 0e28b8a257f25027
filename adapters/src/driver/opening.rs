//! The opening handshake of a server.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use wsforge_core::handshake::{self, Accept, Reject, Request};
use wsforge_core::{Input, Output, ServerConnection};

use super::endpoint::Endpoint;
use super::outbox::Outbox;
use super::receive::{Aim, Nothing};
use super::scratch::Scratch;
use super::session::{Conn, Session};
use super::timer::Tick;
use crate::runtime::Transport;
use crate::{AcceptError, WebSocket};

/// A peer from its first byte to its connection, or to the end of its refusal.
#[derive(Debug)]
pub(crate) struct Opening {
    outbox: Arc<Outbox>,
    deadline: Tick,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Reading(Accept),
    /// The answer is a 101.
    Open(Option<Session>),
    /// The answer is another one, and the peer gets the time to read it.
    Refusing(Box<Session>, Option<AcceptError>),
}

/// What came of a request.
pub(crate) enum Opened<R> {
    /// The answer is in the output.
    Answered(Result<ServerConnection, AcceptError>),
    /// It is answered later.
    Later(R),
}

impl Opening {
    pub(crate) fn new(endpoint: &Arc<Endpoint>, transport: impl Transport) -> Self {
        let outbox = Outbox::register(endpoint, transport, false);
        let deadline = Tick::ceil(endpoint.timer.now() + endpoint.options.handshake_timeout);
        Self { outbox, deadline, stage: Stage::Reading(Accept::new(endpoint.options.handshake)) }
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Waits for the request and hands it to `decide`, with what has come behind it; then for the end of
    /// the handshake. `Err` in `Ok` is what `decide` gave instead of an answer.
    pub(crate) fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut decide: impl FnMut(&Request<'_>, &[u8], &mut Output) -> Opened<R>,
    ) -> Poll<Result<Result<WebSocket, R>, AcceptError>> {
        loop {
            match &mut self.stage {
                Stage::Reading(_) => {
                    let read = Scratch::with(|scratch| self.read(cx, scratch, &mut decide));
                    if let Some(later) = ready!(read)? {
                        return Poll::Ready(Ok(Err(later)));
                    }
                }
                Stage::Open(session) => {
                    // Where only the owner writes, the answer waits for it. If that fails, the
                    // connection has an end that tells.
                    let _ = ready!(self.outbox.poll_flush(cx));
                    let session = session.take().expect("it is polled until it is open");
                    return Poll::Ready(Ok(Ok(WebSocket::new(self.outbox.clone(), session))));
                }
                Stage::Refusing(session, error) => {
                    ready!(poll_end(session, &self.outbox, cx));
                    return Poll::Ready(Err(error.take().unwrap_or(AcceptError::Closed)));
                }
            }
        }
    }

    /// Goes on with the answer, which is in the output; `early` has come behind the request.
    pub(crate) fn answer(
        &mut self,
        answered: Result<ServerConnection, AcceptError>,
        early: &[u8],
        output: &mut Output,
    ) {
        self.outbox.send_own(output, answered.is_err());
        let endpoint = &self.outbox.endpoint;
        self.stage = match answered {
            Ok(conn) => {
                self.outbox.open();
                Stage::Open(Some(Session::new(Conn::Server(conn), early)))
            }
            Err(error) => {
                let conn = ServerConnection::refused(endpoint.config.clone(), endpoint.timer.now());
                let session = Session::new(Conn::Server(conn), &[]);
                Stage::Refusing(Box::new(session), Some(error))
            }
        };
    }

    /// Answers without having heard anything.
    pub(crate) fn turn_away(&mut self, reject: &Reject<'_>, error: AcceptError) {
        let mut output = Output::new();
        reject.write(&mut output).expect("a valid answer");
        self.answer(Err(error), &[], &mut output);
    }

    fn read<R>(
        &mut self,
        cx: &mut Context<'_>,
        Scratch { buf, output, .. }: &mut Scratch,
        decide: &mut impl FnMut(&Request<'_>, &[u8], &mut Output) -> Opened<R>,
    ) -> Poll<Result<Option<R>, AcceptError>> {
        loop {
            let Stage::Reading(accept) = &mut self.stage else { return Poll::Ready(Ok(None)) };
            // First it is said whom to wake, then looked what time it is.
            self.outbox.sleep(cx);
            let now = self.outbox.endpoint.timer.now();
            let n = match self.outbox.transport.poll_read(cx, buf) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(AcceptError::Closed)),
                Poll::Ready(Ok(n)) => n,
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::Interrupted => continue,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending if self.deadline <= Tick::floor(now) => {
                    let slow =
                        Reject { status: 408, headers: &[], body: b"the request took too long" };
                    self.turn_away(&slow, AcceptError::TimedOut);
                    continue;
                }
                Poll::Pending => {
                    self.outbox.open_by(self.deadline);
                    return Poll::Pending;
                }
            };
            let bytes = buf.get_mut(..n).ok_or(ErrorKind::InvalidData).map_err(io::Error::from)?;
            let mut input = Input::new(bytes, now);
            let opened = match accept.receive(&mut input, output) {
                handshake::Opening::More => continue,
                handshake::Opening::Refused(error) => {
                    Opened::Answered(Err(AcceptError::Request(error)))
                }
                handshake::Opening::Request(request) => decide(&request, input.remaining(), output),
            };
            match opened {
                Opened::Answered(answered) => self.answer(answered, input.remaining(), output),
                Opened::Later(later) => {
                    // Nobody polls it until there is an answer.
                    self.outbox.open_by(self.deadline);
                    return Poll::Ready(Ok(Some(later)));
                }
            }
        }
    }
}

/// Drives a session to its end, and drops what it receives.
pub(crate) fn poll_end(
    session: &mut Session,
    outbox: &Arc<Outbox>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    session.poll_each(outbox, cx, Aim::Pieces, &mut Nothing).map(|_| ())
}
