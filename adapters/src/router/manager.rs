use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wsforge_core::CloseCode;
use wsforge_core::frame::Opcode;
use wsforge_core::hub::{Audience, Hub, MemberId};

use super::connection::opcode;
use super::id;
use super::{Connection, ConnectionId, ConnectionRef, Message, Result};
use crate::driver::fan::Fan;

/// A server's connections: finds them, counts them, and sends to many.
///
/// A message is encoded once, and written to each peer's socket by whoever sends it; what one handler
/// sends leaves in one write for each peer. Nobody is waited for: a peer for whom more waits than
/// [`Options::mailbox`](crate::Options::mailbox) is closed with 1013. What a handler sends to many and what
/// it sends to one of them arrive in the order in which it sent them.
#[derive(Default)]
pub struct ConnectionManager(Arc<Fan<Connection>>);

/// What has become of a message that was sent to many.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Sent {
    /// How many connections have taken it.
    pub accepted: u64,
    /// How many have not: they were closing, or too much waited for them, so they are now.
    pub refused: u64,
}

/// What has become of all messages so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counters {
    /// Messages that were sent to many and taken, counted for each connection.
    pub accepted: u64,
    /// Connections that were closed because too much waited for them.
    pub evicted: u64,
    /// Messages that were sent and not taken, counted for each connection.
    pub refused: u64,
}

impl ConnectionManager {
    /// One without connections.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many connections there are.
    pub fn count(&self) -> usize {
        self.0.with_hub(Hub::len)
    }

    /// The ids of all connections.
    pub fn all_ids(&self) -> Vec<ConnectionId> {
        self.0.with_hub(|hub| hub.plan(Audience::All).map(|to| id::text(to.member)).collect())
    }

    /// All connections.
    pub fn all_connections(&self) -> Vec<Connection> {
        self.connections(Audience::All)
    }

    /// The connections of an audience: those in a group, or all but one.
    pub fn connections(&self, of: Audience<'_>) -> Vec<Connection> {
        self.0.peers(of)
    }

    /// All connections, one after the other: those that are there now.
    pub fn iter(&self) -> impl Iterator<Item = Connection> + use<> {
        self.all_connections().into_iter()
    }

    /// The connection of this id, while it is there.
    pub fn get(&self, id: &(impl ConnectionRef + ?Sized)) -> Option<Connection> {
        self.0.get(id.member_id()?)
    }

    /// Sends a message to all.
    ///
    /// Pings and pongs are control frames and carry at most 125 bytes; a Close closes all. What cannot be
    /// sent counts as refused once.
    pub fn broadcast(&self, message: Message) {
        self.send(Audience::All, &message);
    }

    /// Sends a message to all but one.
    pub fn broadcast_except(&self, except: &(impl ConnectionRef + ?Sized), message: Message) {
        match except.member_id() {
            Some(except) => self.send(Audience::Except(except), &message),
            None => self.send(Audience::All, &message),
        }
    }

    /// Sends a message to those that are named; those that are gone are passed over.
    pub fn broadcast_to<T: ConnectionRef>(&self, to: &[T], message: Message) {
        let to: Vec<MemberId> = to.iter().filter_map(ConnectionRef::member_id).collect();
        self.send(Audience::Only(&to), &message);
    }

    /// Sends a message to those in a group.
    pub fn broadcast_group(&self, group: &str, message: Message) {
        self.send(Audience::Group(group), &message);
    }

    /// Sends a message to those in a group, but to one.
    pub fn broadcast_group_except(
        &self,
        group: &str,
        except: &(impl ConnectionRef + ?Sized),
        message: Message,
    ) {
        match except.member_id() {
            Some(except) => self.send(Audience::GroupExcept(group, except), &message),
            None => self.send(Audience::Group(group), &message),
        }
    }

    /// Sends a message at once, and says what has become of it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidMessage`](super::Error::InvalidMessage) for a text that is not UTF-8, and for a ping
    /// or pong of more than 125 bytes.
    pub fn send_to(&self, to: Audience<'_>, message: Message) -> Result<Sent> {
        let (accepted, refused) = match opcode(&message)? {
            Opcode::Close => self.0.close(to, CloseCode::NORMAL, ""),
            opcode => self.0.send_now(to, opcode, &message.data),
        };
        Ok(Sent { accepted, refused })
    }

    /// Closes the connections of an audience; says how many.
    pub fn close(&self, of: Audience<'_>, code: CloseCode, reason: &str) -> u64 {
        self.0.close(of, code, reason).0
    }

    /// The names of all groups, in their order; none of them is empty.
    pub fn groups(&self) -> Vec<String> {
        self.0.with_hub(|hub| hub.group_names().map(Into::into).collect())
    }

    /// How many connections are in a group.
    pub fn group_count(&self, group: &str) -> usize {
        self.0.with_hub(|hub| hub.group_len(group))
    }

    /// What has become of what was sent.
    pub fn counters(&self) -> Counters {
        let tally = self.0.tally();
        Counters {
            accepted: tally.accepted.load(Ordering::Relaxed),
            evicted: tally.evicted.load(Ordering::Relaxed),
            refused: tally.refused.load(Ordering::Relaxed),
        }
    }

    pub(crate) const fn fan(&self) -> &Arc<Fan<Connection>> {
        &self.0
    }

    fn send(&self, to: Audience<'_>, message: &Message) {
        match opcode(message) {
            Ok(Opcode::Close) => drop(self.0.close(to, CloseCode::NORMAL, "")),
            Ok(opcode) => self.0.send(to, opcode, &message.data),
            Err(_) => self.0.tally().refuse(1),
        }
    }
}

impl fmt::Debug for ConnectionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionManager").field("count", &self.count()).finish_non_exhaustive()
    }
}
