use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wsforge_core::CloseCode;
use wsforge_core::frame::Opcode;
use wsforge_core::hub::{Audience, Hub, MemberId, SlowConsumer};

use super::connection::opcode;
use super::id;
use super::{Connection, ConnectionId, ConnectionRef, Message, Result};
use crate::Sent;
use crate::driver::fan::{Fan, Sums};

/// A server's connections: finds them, counts them, and sends to many.
///
/// A message is encoded once, and written to each peer's socket by whoever sends it; what one handler
/// sends leaves in one write for each peer. Nobody is waited for: what happens to a peer for whom too much
/// waits, its [policy](super::Router::slow_consumer) says. What a handler sends to many and what it sends to one
/// of them arrive in the order in which it sent them. Very many peers are not written to at once: after some
/// hundred, other connections have their turn.
#[derive(Default)]
pub struct ConnectionManager {
    fan: Arc<Fan<Connection>>,
    unhandled: AtomicU64,
}

/// What has become of all messages so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counters {
    /// Messages that were sent to many and taken, counted for each connection: those of `written` and `queued`.
    pub accepted: u64,
    /// Messages that were dropped because too much waited, also of those that had been taken.
    pub dropped: u64,
    /// Connections that were closed because too much waited for them.
    pub evicted: u64,
    /// Messages that were sent to many and had to wait for their peer to read.
    pub queued: u64,
    /// Messages that were sent and not taken, counted for each connection.
    pub refused: u64,
    /// Messages that were received, and that no route and no default handler took.
    pub unhandled: u64,
    /// Messages that were sent to many and left at once.
    pub written: u64,
}

impl ConnectionManager {
    /// One without connections.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many connections there are.
    pub fn count(&self) -> usize {
        self.fan.with_hub(Hub::len)
    }

    /// The ids of all connections.
    pub fn all_ids(&self) -> Vec<ConnectionId> {
        self.fan.with_hub(|hub| hub.plan(Audience::All).map(|to| id::text(to.member)).collect())
    }

    /// All connections.
    pub fn all_connections(&self) -> Vec<Connection> {
        self.connections(Audience::All)
    }

    /// The connections of an audience: those in a group, or all but one.
    pub fn connections(&self, of: Audience<'_>) -> Vec<Connection> {
        self.fan.peers(of)
    }

    /// All connections, one after the other: those that are there now.
    pub fn iter(&self) -> impl Iterator<Item = Connection> + use<> {
        self.all_connections().into_iter()
    }

    /// The connection of this id, while it is there.
    pub fn get(&self, id: &(impl ConnectionRef + ?Sized)) -> Option<Connection> {
        self.fan.get(id.member_id()?)
    }

    /// Sends a message to all.
    ///
    /// Pings and pongs are control frames and carry at most 125 bytes; a Close closes all. What cannot be
    /// sent counts as refused once.
    pub fn broadcast(&self, message: Message) {
        self.send(Audience::All, &message, None);
    }

    /// Sends a message to all but one.
    pub fn broadcast_except(&self, except: &(impl ConnectionRef + ?Sized), message: Message) {
        match except.member_id() {
            Some(except) => self.send(Audience::Except(except), &message, None),
            None => self.send(Audience::All, &message, None),
        }
    }

    /// Sends a message to those that are named; those that are gone are passed over.
    pub fn broadcast_to<T: ConnectionRef>(&self, to: &[T], message: Message) {
        let to: Vec<MemberId> = to.iter().filter_map(ConnectionRef::member_id).collect();
        self.send(Audience::Only(&to), &message, None);
    }

    /// Sends a message to those in a group.
    pub fn broadcast_group(&self, group: &str, message: Message) {
        self.send(Audience::Group(group), &message, None);
    }

    /// Sends a message to those in a group, but to one.
    pub fn broadcast_group_except(
        &self,
        group: &str,
        except: &(impl ConnectionRef + ?Sized),
        message: Message,
    ) {
        match except.member_id() {
            Some(except) => self.send(Audience::GroupExcept(group, except), &message, None),
            None => self.send(Audience::Group(group), &message, None),
        }
    }

    /// Sends a message at once, and says what has become of it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidMessage`](super::Error::InvalidMessage) for a text that is not UTF-8, and for a ping
    /// or pong of more than 125 bytes.
    pub fn send_to(&self, to: Audience<'_>, message: Message) -> Result<Sent> {
        Ok(match opcode(&message)? {
            Opcode::Close => {
                let (accepted, refused) = self.fan.close(to, CloseCode::NORMAL, "");
                Sent { accepted, refused, ..Sent::default() }
            }
            opcode => self.fan.send_now(to, opcode, &message.data).into(),
        })
    }

    /// Sends a message to an audience when the turn ends, as broadcasts are.
    pub fn broadcast_among(&self, to: Audience<'_>, message: Message) {
        self.send(to, &message, None);
    }

    /// As [`broadcast_among`](Self::broadcast_among), of something of which only the newest counts: of messages
    /// with the same `key`, a slow peer whose policy is [`SlowConsumer::KeepNewest`] gets the last one.
    pub fn broadcast_newest(&self, to: Audience<'_>, key: u64, message: Message) {
        self.send(to, &message, Some(key));
    }

    /// Sends a message to those in the group called `topic`, and to those who have
    /// [subscribed](Connection::subscribe) to a pattern that it matches.
    pub fn broadcast_topic(&self, topic: &str, message: Message) {
        self.send(Audience::Topic(topic), &message, None);
    }

    /// Sends what has been sent to many in this turn and still waits for its end; says what has become of it.
    pub fn flush(&self) -> Sent {
        self.fan.flush().into()
    }

    /// Says what happens when too much waits for one to whom something is sent as a member of this group,
    /// instead of what the [server's](super::Router::slow_consumer) policy is. What was said of the
    /// [connection](Connection::set_slow_consumer) counts before it.
    ///
    /// Of a message to several groups, the first that has a policy counts.
    pub fn set_slow_consumer(&self, group: &str, policy: Option<SlowConsumer>) {
        self.fan.set_policy(group, policy);
    }

    /// Closes the connections of an audience; says how many.
    pub fn close(&self, of: Audience<'_>, code: CloseCode, reason: &str) -> u64 {
        self.fan.close(of, code, reason).0
    }

    /// The ids of the connections in a group.
    pub fn group_ids(&self, group: &str) -> Vec<ConnectionId> {
        self.fan.with_hub(|hub| hub.members(group).map(id::text).collect())
    }

    /// The names of all groups, in their order; none of them is empty.
    pub fn groups(&self) -> Vec<String> {
        self.fan.with_hub(|hub| hub.group_names().map(Into::into).collect())
    }

    /// How many connections are in a group.
    pub fn group_count(&self, group: &str) -> usize {
        self.fan.with_hub(|hub| hub.group_len(group))
    }

    /// What has become of what was sent.
    pub fn counters(&self) -> Counters {
        let Sums { written, queued, dropped, refused, evicted, .. } = self.fan.tally().sums();
        let (accepted, unhandled) = (written + queued, self.unhandled.load(Ordering::Relaxed));
        Counters { accepted, dropped, evicted, queued, refused, unhandled, written }
    }

    /// Nobody takes a message.
    pub(crate) fn miss(&self) {
        self.unhandled.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) const fn fan(&self) -> &Arc<Fan<Connection>> {
        &self.fan
    }

    fn send(&self, to: Audience<'_>, message: &Message, key: Option<u64>) {
        match opcode(message) {
            Ok(Opcode::Close) => drop(self.fan.close(to, CloseCode::NORMAL, "")),
            Ok(opcode) => self.fan.send(to, opcode, &message.data, key),
            Err(_) => self.fan.tally().refuse(1),
        }
    }
}

impl fmt::Debug for ConnectionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionManager").field("count", &self.count()).finish_non_exhaustive()
    }
}
