//! The opening handshake of a server.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use wsforge_core::handshake::{self, Accept, Reject, Request};
use wsforge_core::{Input, Output, ServerConnection};

use super::content::{Content, Streaming};
use super::endpoint::Endpoint;
use super::outbox::{Outbox, Phase};
use super::receive::{Aim, Nothing};
use super::scratch::Scratch;
use super::session::{Conn, Session};
use super::timer::Tick;
use crate::AcceptError;
use crate::runtime::Transport;

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
    Open(Option<Box<Session>>),
    /// The answer is another one, and the peer gets the time to read it.
    Refusing(Box<Session>, Option<AcceptError>),
    /// The head of such an answer is out, and its content follows.
    Streaming(Box<Streaming>, Option<AcceptError>),
}

/// A request that opens no connection: the head of the answer is in the output, or all of it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: AcceptError,
    /// What follows.
    pub(crate) content: Option<Content>,
}

impl From<AcceptError> for Refused {
    fn from(error: AcceptError) -> Self {
        Self { error, content: None }
    }
}

/// What came of a request.
pub(crate) enum Opened<R> {
    /// The answer is in the output.
    Answered(Result<ServerConnection, Refused>),
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
    ) -> Poll<Result<Result<Box<Session>, R>, AcceptError>> {
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
                    return Poll::Ready(Ok(Ok(session)));
                }
                Stage::Streaming(streaming, error) => {
                    let streamed = ready!(streaming.poll(&self.outbox, cx));
                    let error = error.take().unwrap_or(AcceptError::Closed);
                    streamed?;
                    // Now the clock runs that does not wait for a slow reader.
                    self.outbox.finish_by(self.outbox.cut_at());
                    self.refuse(error);
                }
                Stage::Refusing(session, error) => {
                    ready!(poll_end(session, &self.outbox, cx));
                    return Poll::Ready(Err(error.take().unwrap_or(AcceptError::Closed)));
                }
            }
        }
    }

    /// While `decide` has said that it answers later: whether it is too late for any answer but a refusal.
    pub(crate) fn poll_late(&self, cx: &Context<'_>) -> Poll<()> {
        self.outbox.sleep(cx);
        let now = Tick::floor(self.outbox.endpoint.timer.now());
        if self.deadline <= now || self.outbox.phase().is_gone() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Goes on with the answer, which is in the output; `early` has come behind the request.
    pub(crate) fn answer(
        &mut self,
        answered: Result<ServerConnection, Refused>,
        early: &[u8],
        output: &mut Output,
    ) {
        self.outbox.send_own(output, answered.is_err());
        if answered.is_ok() {
            self.outbox.open();
        }
        let late = self.outbox.phase() == Phase::TimedOut;
        match answered {
            _ if late => self.refuse(AcceptError::TimedOut),
            Ok(conn) => self.stage = Stage::Open(Some(Session::new(Conn::Server(conn), early))),
            Err(Refused { error, content: Some(content) }) => {
                let streaming = Streaming::new(content, &self.outbox);
                self.stage = Stage::Streaming(Box::new(streaming), Some(error));
            }
            Err(Refused { error, content: None }) => self.refuse(error),
        }
    }

    /// All of the answer is out, or on its way: the peer gets the time to read it.
    fn refuse(&mut self, error: AcceptError) {
        let endpoint = &self.outbox.endpoint;
        let conn = ServerConnection::refused(endpoint.config.clone(), endpoint.timer.now());
        let session = Session::new(Conn::Server(conn), &[]);
        self.stage = Stage::Refusing(session, Some(error));
    }

    /// Answers without having heard anything.
    pub(crate) fn turn_away(&mut self, reject: &Reject<'_>, error: AcceptError) {
        let mut output = Output::new();
        reject.write(&mut output).expect("a valid answer");
        self.answer(Err(error.into()), &[], &mut output);
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
                    self.outbox.finish_by(self.deadline);
                    return Poll::Pending;
                }
            };
            let bytes = buf.get_mut(..n).ok_or(ErrorKind::InvalidData).map_err(io::Error::from)?;
            let mut input = Input::new(bytes, now);
            let opened = match accept.receive(&mut input, output) {
                handshake::Opening::More => continue,
                handshake::Opening::Refused(error) => {
                    Opened::Answered(Err(AcceptError::Request(error).into()))
                }
                handshake::Opening::Request(request) => decide(&request, input.remaining(), output),
            };
            match opened {
                Opened::Answered(answered) => self.answer(answered, input.remaining(), output),
                Opened::Later(later) => {
                    // Nobody polls it until there is an answer.
                    self.outbox.finish_by(self.deadline);
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
