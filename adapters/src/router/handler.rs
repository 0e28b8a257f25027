use std::cell::Cell;
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
    /// Memory for a copy, if there is some: that of the last answer.
    pub(crate) spare: Option<&'a Spare>,
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
    /// must; who passes it on takes [`bytes`](Self::bytes), who gives it back [echoes](Reply::echo) it.
    pub fn text(&self) -> Option<&'a str> {
        self.lent.map(|text| &**text)
    }

    /// The message to keep.
    pub fn to_message(&self) -> Message {
        let data = match self.spare {
            Some(spare) => spare.copy(self.bytes),
            None => self.bytes.to_vec(),
        };
        Message { data, msg_type: self.kind }
    }
}

/// The memory of the last answer, for the next message: while those of one read are handled, it need not
/// be allocated for each.
#[derive(Default)]
pub(crate) struct Spare(Cell<Vec<u8>>);

impl Spare {
    /// A copy to keep, which holds at most twice the memory that it needs.
    fn copy(&self, bytes: &[u8]) -> Vec<u8> {
        let mut spare = self.0.take();
        if spare.capacity() / 2 > bytes.len() {
            return bytes.to_vec();
        }
        spare.extend_from_slice(bytes);
        spare
    }

    pub(super) fn put(&self, mut answer: Vec<u8>) {
        answer.clear();
        self.0.set(answer);
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spare")
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

#[cfg(all(test, not(wsforge_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_copy_takes_the_memory_of_the_last_answer_if_that_is_not_much_too_large() {
        let spare = Spare::default();
        for (answer, len, allocations) in
            [(0, 20, 1), (20, 20, 0), (40, 20, 0), (41, 20, 0), (42, 20, 1), (20, 21, 1)]
        {
            let bytes = &[b'a'; 21][..len];
            let answer = Vec::with_capacity(answer);
            let mut copy = Vec::new();
            let count = allocation_counter::measure(|| {
                spare.put(answer);
                copy = spare.copy(bytes);
            });
            assert_eq!(copy, bytes);
            assert!(copy.capacity() / 2 <= len);
            assert_eq!(count.count_total, allocations, "{len}");
        }
    }
}
