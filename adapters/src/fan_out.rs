use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use wsforge_core::Kind;
use wsforge_core::hub::{Audience, Hub, MemberId, SubscribeError};

use crate::Sender;
use crate::driver::fan::Fan;
use crate::driver::outbox::Outbox;

/// Sends messages to many peers: to all that have joined, or to groups of them.
///
/// Clone it to share it. A message is encoded once, and written to each peer's socket by whoever sends
/// it; what one task sends while it is polled leaves in one write for each peer. Nobody is waited for: a
/// peer for whom more waits than [`Options::mailbox`](crate::Options::mailbox) is closed with 1013.
///
/// What a task sends to many and what it sends to one of them arrive in the order in which it sent them;
/// what several tasks send to many arrives everywhere in the same order.
#[derive(Clone, Default)]
pub struct FanOut(Arc<Fan<Arc<Outbox>>>);

/// A peer that has joined; it leaves when this is dropped.
#[derive(Debug)]
#[must_use = "the peer leaves when this is dropped"]
pub struct Member {
    of: FanOut,
    id: MemberId,
}

/// Why a peer cannot join.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("each frame of a client has to be masked by itself")]
pub struct ClientsCannotJoin;

impl FanOut {
    /// Nobody has joined yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a peer of a server join.
    ///
    /// # Errors
    ///
    /// [`ClientsCannotJoin`] if we are the client.
    pub fn join(&self, sender: &Sender) -> Result<Member, ClientsCannotJoin> {
        if sender.outbox.is_client() {
            return Err(ClientsCannotJoin);
        }
        let (id, _) = self.0.join(|_| sender.outbox.clone());
        Ok(Member { of: self.clone(), id })
    }

    /// Sends a message; those who get it are those who have joined when it leaves.
    ///
    /// A text's bytes must be UTF-8, as those of a [`str`] or a received text are.
    pub fn send(&self, to: Audience<'_>, kind: Kind, payload: &[u8]) {
        self.0.send(to, kind.into(), payload);
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.0.with_hub(Hub::len)
    }

    /// Whether nobody has joined.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of members in a group.
    pub fn group_len(&self, group: &str) -> usize {
        self.0.with_hub(|hub| hub.group_len(group))
    }
}

impl fmt::Debug for FanOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FanOut").field("members", &self.len()).finish_non_exhaustive()
    }
}

impl Member {
    /// What an [`Audience`] names it by.
    pub const fn id(&self) -> MemberId {
        self.id
    }

    /// Puts it into a group, which is made if there is none. `Ok(false)` if it was in it before.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]; nothing has changed then.
    pub fn subscribe(&self, group: &str) -> Result<bool, SubscribeError> {
        self.of.0.subscribe(self.id, group)
    }

    /// Takes it out of a group. `false` if it was not in it.
    pub fn unsubscribe(&self, group: &str) -> bool {
        self.of.0.unsubscribe(self.id, group)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.of.0.leave(self.id);
    }
}

#[cfg(all(test, not(wsforge_loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    use super::*;
    use crate::Options;
    use crate::driver::fan::AT_A_TIME;
    use crate::driver::outbox::mock::{Pipe, frames, opened};
    use crate::driver::turn;

    fn member(of: &FanOut) -> (Sender, Member, Pipe) {
        let (outbox, pipe) = opened(Options::default());
        let sender = Sender { outbox };
        let member = of.join(&sender).unwrap();
        (sender, member, pipe)
    }

    fn bodies(pipe: &Pipe) -> Vec<u8> {
        frames(&pipe.written()).into_iter().flat_map(|(.., body)| body).collect()
    }

    /// Another thread has plans to execute, and takes its time.
    #[test]
    fn what_is_sent_next_does_not_overtake_a_plan_that_another_thread_executes() {
        let fan_out = FanOut::new();
        let (sender, _member, pipe) = member(&fan_out);
        let (_, slow, slow_pipe) = member(&fan_out);
        let (begun, begins) = std::sync::mpsc::channel();
        slow_pipe.first({
            let (fan_out, pipe) = (fan_out.clone(), pipe.clone());
            move || {
                begun.send(()).unwrap();
                // Until the other thread waits, or has gone on without.
                while fan_out.0.waiting() == 0 && pipe.written().is_empty() {
                    thread::yield_now();
                }
            }
        });
        let other = thread::spawn({
            let (fan_out, slow) = (fan_out.clone(), slow.id());
            move || fan_out.send(Audience::Only(&[slow]), Kind::Binary, b"a")
        });
        begins.recv().unwrap();
        turn::scope(|| fan_out.send(Audience::All, Kind::Binary, b"b"));
        sender.try_send(b"c"[..].to_vec()).unwrap();
        other.join().unwrap();
        assert_eq!((bodies(&pipe), bodies(&slow_pipe)), (b"bc".to_vec(), b"ab".to_vec()));
    }

    #[test]
    fn who_sends_to_all_while_a_plan_is_executed_does_not_wait_for_itself() {
        let fan_out = FanOut::new();
        let (_, first, first_pipe) = member(&fan_out);
        let (_, _second, pipe) = member(&fan_out);
        first_pipe.first({
            let fan_out = fan_out.clone();
            move || fan_out.send(Audience::All, Kind::Binary, b"b")
        });
        fan_out.send(Audience::Only(&[first.id()]), Kind::Binary, b"a");
        assert_eq!((bodies(&first_pipe), bodies(&pipe)), (b"ab".to_vec(), b"b".to_vec()));
    }

    #[test]
    fn a_transport_that_panics_stops_nobody_else() {
        let fan_out = FanOut::new();
        let (_, first, first_pipe) = member(&fan_out);
        let (_, _second, pipe) = member(&fan_out);
        first_pipe.first(|| panic!("as it should"));
        let send = |to: Audience<'_>, body: &[u8]| fan_out.send(to, Kind::Binary, body);
        let panicked = catch_unwind(AssertUnwindSafe(|| send(Audience::Only(&[first.id()]), b"a")));
        assert!(panicked.is_err());
        send(Audience::All, b"b");
        assert_eq!(bodies(&pipe), b"b");
    }

    /// Rule 14.
    #[test]
    fn who_leaves_while_others_are_written_to_gets_nothing_nor_does_who_comes_in_its_place() {
        let fan_out = FanOut::new();
        let (_, _first, first_pipe) = member(&fan_out);
        let between: Vec<_> = (0..AT_A_TIME).map(|_| member(&fan_out)).collect();
        let (sender, leaving, pipe) = member(&fan_out);
        let (come, came) = std::sync::mpsc::channel();
        first_pipe.first({
            let fan_out = fan_out.clone();
            move || {
                // The member's and the sender's: a plan does not hold on to all at once.
                assert_eq!(Arc::strong_count(&sender.outbox), 2);
                let index = leaving.id().index();
                drop(leaving);
                let (sender, member, pipe) = member(&fan_out);
                assert_eq!(member.id().index(), index);
                come.send((sender, member, pipe)).unwrap();
            }
        });
        fan_out.send(Audience::All, Kind::Binary, b"a");
        let (_, _late, late_pipe) = came.recv().unwrap();
        assert!(between.iter().all(|(.., pipe)| bodies(pipe) == b"a"));
        assert_eq!(
            (bodies(&first_pipe), bodies(&pipe), bodies(&late_pipe)),
            (b"a".to_vec(), vec![], vec![])
        );
        fan_out.send(Audience::All, Kind::Binary, b"b");
        assert_eq!((bodies(&pipe), bodies(&late_pipe)), (vec![], b"b".to_vec()));
    }

    /// Rule 14.
    #[test]
    fn who_is_closed_or_evicted_leaves() {
        let mut options = Options::default();
        options.mailbox.max_bytes = 10;
        let (outbox, pipe) = opened(options);
        let fan_out = FanOut::new();
        let _slow = fan_out.join(&Sender { outbox }).unwrap();
        let (sender, _closed, _) = member(&fan_out);
        let (_, _member, _) = member(&fan_out);
        pipe.room(0);
        sender.close(wsforge_core::CloseCode::NORMAL, "");
        fan_out.send(Audience::All, Kind::Binary, &[0; 9]);
        assert_eq!(fan_out.len(), 2);
        fan_out.send(Audience::All, Kind::Binary, &[0; 9]);
        assert_eq!(fan_out.len(), 1);
    }
}
