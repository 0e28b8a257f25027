use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use wsforge_core::Kind;
use wsforge_core::hub::{Audience, Hub, MemberId, SlowConsumer, SubscribeError, Tags};

use crate::driver::fan::Fan;
use crate::driver::outbox::Outbox;
use crate::{Sender, Sent};

/// Sends messages to many peers: to all that have joined, or to groups of them.
///
/// Clone it to share it. A message is encoded once, and written to each peer's socket by whoever sends
/// it; what one task sends while it is polled leaves in one write for each peer. Nobody is waited for: what
/// happens to a peer for whom too much waits, [`Options::mailbox`](crate::Options::mailbox) says.
///
/// Very many peers are not written to at once: after some hundred, other connections have their turn. Those of
/// another thread's runtime are written to by that thread. None of this changes an order.
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
        self.0.send(to, kind.into(), payload, None);
    }

    /// As [`send`](Self::send), of something of which only the newest counts: of messages with the same `key`,
    /// a slow peer whose policy is [`SlowConsumer::KeepNewest`] gets the last one.
    pub fn send_newest(&self, to: Audience<'_>, key: u64, kind: Kind, payload: &[u8]) {
        self.0.send(to, kind.into(), payload, Some(key));
    }

    /// As [`send`](Self::send), at once: what was sent before and this, and says what has become of it.
    pub fn send_to(&self, to: Audience<'_>, kind: Kind, payload: &[u8]) -> Sent {
        self.0.send_now(to, kind.into(), payload).into()
    }

    /// Sends what has been sent in this turn and still waits for its end; says what has become of it.
    pub fn flush(&self) -> Sent {
        self.0.flush().into()
    }

    /// What has become of everything so far.
    pub fn counters(&self) -> Sent {
        self.0.tally().sums().into()
    }

    /// Says what happens when too much waits for one to whom something is sent as a member of this group,
    /// instead of what [`Options::mailbox`](crate::Options::mailbox) says. What was said of the
    /// [connection](Sender::set_slow_consumer) counts before it.
    ///
    /// Of a message to several groups, the first that has a policy counts.
    pub fn set_slow_consumer(&self, group: &str, policy: Option<SlowConsumer>) {
        self.0.set_policy(group, policy);
    }

    /// Calls `watch` with each member that comes to a group or leaves it from now on, and whether it has come;
    /// in the order in which they do. `false` if that was asked for before.
    pub fn watch(&self, watch: impl Fn(&str, MemberId, bool) + Send + Sync + 'static) -> bool {
        self.0.watch(Box::new(move |event| watch(&event.group, event.member, event.joined)))
    }

    /// Those in a group, in no particular order.
    pub fn members(&self, group: &str) -> Vec<MemberId> {
        self.0.with_hub(|hub| hub.members(group).collect())
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

    /// Lets it have what is sent to [topics](Audience::Topic) that match a pattern: `a.*`, or `a.>` for all below
    /// `a`. `Ok(false)` if it had it before.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]; nothing has changed then.
    pub fn subscribe_pattern(&self, pattern: &str) -> Result<bool, SubscribeError> {
        self.of.0.change(|hub| hub.subscribe_pattern(self.id, pattern))
    }

    /// Takes that back. `false` if there was nothing to take.
    pub fn unsubscribe_pattern(&self, pattern: &str) -> bool {
        self.of.0.change(|hub| hub.unsubscribe_pattern(self.id, pattern))
    }

    /// Sets what [`Audience::Tagged`] looks at. `false` if it has left, as when it was closed for being slow.
    pub fn set_tags(&self, tags: Tags) -> bool {
        self.of.0.change(|hub| hub.set_tags(self.id, tags))
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
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::Options;
    use crate::driver::fan::inbox::AT_A_TIME;
    use crate::driver::outbox::mock::{Pipe, frames, opened, opened_at};
    use crate::driver::turn;

    fn member(of: &FanOut) -> (Sender, Member, Pipe) {
        let (outbox, pipe) = opened(Options::default());
        let sender = Sender { outbox };
        let member = of.join(&sender).unwrap();
        (sender, member, pipe)
    }

    /// One of the same server.
    fn member_beside(other: &Sender, of: &FanOut) -> (Sender, Member, Pipe) {
        let (outbox, pipe) = opened_at(&other.outbox.endpoint);
        let sender = Sender { outbox };
        let member = of.join(&sender).unwrap();
        (sender, member, pipe)
    }

    fn bodies(pipe: &Pipe) -> Vec<u8> {
        frames(&pipe.written()).into_iter().flat_map(|(.., body)| body).collect()
    }

    /// Another thread writes to somebody, and takes its time. Nobody waits for it.
    #[test]
    fn what_is_sent_next_does_not_overtake_what_another_thread_is_to_send() {
        let fan_out = FanOut::new();
        let (sender, _member, pipe) = member(&fan_out);
        let (_, slow, slow_pipe) = member_beside(&sender, &fan_out);
        let ((begun, begins), (end, ends)) = (channel(), channel());
        slow_pipe.first(move || {
            begun.send(()).unwrap();
            ends.recv().unwrap();
        });
        let other = thread::spawn({
            let (fan_out, slow) = (fan_out.clone(), slow.id());
            move || fan_out.send(Audience::Only(&[slow]), Kind::Binary, b"a")
        });
        begins.recv().unwrap();
        turn::scope(|| fan_out.send(Audience::All, Kind::Binary, b"b"));
        // The other thread will see to it.
        assert_eq!(bodies(&pipe), b"");
        sender.try_send(b"c"[..].to_vec()).unwrap();
        assert_eq!(bodies(&pipe), b"bc");
        end.send(()).unwrap();
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
    fn who_leaves_while_others_are_written_to_gets_it_and_who_comes_in_its_place_does_not() {
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
            (b"a".to_vec(), b"a".to_vec(), vec![])
        );
        fan_out.send(Audience::All, Kind::Binary, b"b");
        assert_eq!((bodies(&pipe), bodies(&late_pipe)), (b"a".to_vec(), b"b".to_vec()));
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
