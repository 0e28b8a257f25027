use std::fmt;
use std::sync::Arc;

use wsforge_core::Text;

use super::{Answering, AppState, Connection, Extensions, Message, MessageType, Reply, Result};

/// A message as a handler finds it: still in the read buffer, and only for the time of the call.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Received<'a> {
    /// Text or binary, or what was asked for beside these.
    pub kind: MessageType,
    /// What was sent, route word and all.
    pub bytes: &'a [u8],
    /// The same, if it is text.
    pub(crate) lent: Option<&'a Text<'a>>,
    /// How much of it has chosen the handler: the route word and the space behind it.
    pub routed: usize,
    /// Who has sent it.
    pub connection: &'a Connection,
    /// What [`Router::with_state`](super::Router::with_state) was given.
    pub state: &'a AppState,
    /// What middleware has left for the handler.
    pub extensions: &'a Extensions,
}

impl<'a> Received<'a> {
    /// The message as text, if it is one. Of some it is looked at again whether they are, as safe code
    /// must; who passes it on takes [`bytes`](Self::bytes).
    pub fn text(&self) -> Option<&'a str> {
        self.lent.map(|text| &**text)
    }

    /// The message to keep.
    pub fn to_message(&self) -> Message {
        Message { data: self.bytes.to_vec(), msg_type: self.kind }
    }
}

/// What has become of a call.
pub enum Outcome {
    /// It is over, and the answer, if any, has been written.
    Done(Result<()>),
    /// It goes on, and gives the answer in the end.
    Later(Answering<'static>),
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(result) => f.debug_tuple("Done").field(result).finish(),
            Self::Later(_) => f.write_str("Later(..)"),
        }
    }
}

/// Handles messages; [`handler`](super::handler()) makes one of a function.
#[diagnostic::on_unimplemented(
    message = "this is no function that handles messages",
    label = "no handler",
    note = "with `#[websocket_handler]` on the function, the compiler says what is to blame",
    note = "`wsforge::router::handlers` tells what a handler may look like"
)]
pub trait Handler: Send + Sync + 'static {
    /// Begins to handle a message. What outlives the call, it copies.
    fn call(&self, received: &Received<'_>, reply: &mut Reply<'_>) -> Outcome;

    /// Whether it looks at [`Connection::request`], which is kept only then.
    fn wants_request(&self) -> bool {
        false
    }

    /// What stands in for it where it is registered, if anything does: called through an [`Arc`], it may
    /// give futures that borrow from the handler.
    fn shared(self: Arc<Self>) -> Option<Arc<dyn Handler>> {
        None
    }
}
