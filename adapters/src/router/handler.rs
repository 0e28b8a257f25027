//! What a message is handled by.

use super::{AppState, Connection, Extensions, Message, MessageType, Reply, Result};
use crate::runtime::BoxFuture;

/// A message as a handler finds it: still in the read buffer, and only for the time of the call.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Received<'a> {
    /// Text or binary, or what was asked for beside these.
    pub kind: MessageType,
    /// What was sent, route word and all.
    pub bytes: &'a [u8],
    /// The same, if it is text.
    pub text: Option<&'a str>,
    /// How much of it has chosen the handler: the route word and the space behind it.
    pub routed: usize,
    /// Who has sent it.
    pub connection: &'a Connection,
    /// What [`Router::with_state`](super::Router::with_state) was given.
    pub state: &'a AppState,
    /// What middleware has left for the handler.
    pub extensions: &'a Extensions,
}

/// What has become of a call.
pub enum Outcome {
    /// It is over, and the answer, if any, has been written.
    Done(Result<()>),
    /// It goes on, and gives the answer in the end.
    Later(BoxFuture<Result<Option<Message>>>),
}

/// Handles messages; [`handler`](super::handler) makes one of a function.
pub trait Handler: Send + Sync + 'static {
    /// Begins to handle a message. What outlives the call, it copies.
    fn call(&self, received: &Received<'_>, reply: &mut Reply<'_>) -> Outcome;
}
