//! A call of a handler, for unit tests.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use wsforge_core::{Kind, SendError, Text};

use super::response::Wire;
use super::{
    AppState, Connection, Extensions, Handler, Message, MessageType, Outcome, Received, Reply,
    Request, Result,
};
use crate::runtime::{BoxFuture, Runtime, Task, Transport};

/// What a handler finds beside the message.
pub(super) struct Around {
    pub(super) connection: Connection,
    pub(super) state: AppState,
    pub(super) extensions: Extensions,
    pub(super) routed: usize,
}

impl Around {
    pub(super) fn new() -> Self {
        Self::with_request(None)
    }

    pub(super) fn with_request(request: Option<Request>) -> Self {
        Self {
            connection: Connection::stand_in(request),
            state: AppState::new(),
            extensions: Extensions::new(),
            routed: 0,
        }
    }

    /// What `f` makes of a message that has been received.
    pub(super) fn receive<R>(&self, message: Message, f: impl FnOnce(&Received<'_>) -> R) -> R {
        let kind = message.msg_type;
        let text;
        let (bytes, lent) = if kind == MessageType::Text {
            text = Text::from(String::from_utf8(message.data).unwrap());
            (text.as_bytes(), Some(&text))
        } else {
            (&*message.data, None)
        };
        let Self { connection, state, extensions, routed } = self;
        f(&Received {
            kind,
            bytes,
            lent,
            spare: None,
            routed: *routed,
            connection,
            state,
            extensions,
        })
    }

    /// What the peer gets when the message is handled.
    pub(super) fn call(
        &self,
        handler: &dyn Handler,
        message: impl Into<Message>,
    ) -> Result<Vec<Message>> {
        let mut sent = Vec::new();
        let outcome = self.receive(message.into(), |received| {
            handler.call(received, &mut Reply::to(&mut sent, &self.connection))
        });
        match outcome {
            Outcome::Done(result) => result?,
            Outcome::Later(future) => {
                if let Some(message) = now(future)? {
                    Reply::to(&mut sent, &self.connection).message(message)?;
                }
            }
        }
        Ok(sent)
    }
}

impl Wire for Vec<Message> {
    fn copy(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), SendError> {
        self.share(kind, Bytes::copy_from_slice(bytes))
    }

    fn share(&mut self, kind: Kind, bytes: Bytes) -> Result<(), SendError> {
        self.push(Message { data: bytes.into(), msg_type: kind.into() });
        Ok(())
    }
}

/// What a future gives that never waits.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

/// Sleeps never, and says how long it would. Each poll of what sleeps once is a sleep.
#[derive(Debug)]
pub(super) struct Clock(pub(super) mpsc::Sender<Duration>);

impl Runtime for Clock {
    fn spawn(&self, _: Task) {}

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        self.0.send(duration).unwrap();
        let mut slept = false;
        Box::pin(poll_fn(move |_| match std::mem::replace(&mut slept, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }))
    }

    fn connect(&self, _: String, _: u16) -> BoxFuture<io::Result<Box<dyn Transport>>> {
        unreachable!()
    }
}
