//! A stand-in.
#![allow(missing_docs)]

use super::{Connection, ConnectionId, Message};

#[derive(Debug, Default)]
pub struct ConnectionManager {}

impl ConnectionManager {
    pub fn count(&self) -> usize {
        0
    }

    pub fn all_ids(&self) -> Vec<ConnectionId> {
        Vec::new()
    }

    pub fn get(&self, _: &ConnectionId) -> Option<Connection> {
        None
    }

    pub fn broadcast(&self, _: Message) {}

    pub fn broadcast_except(&self, _: &ConnectionId, _: Message) {}

    pub fn broadcast_to(&self, _: &[ConnectionId], _: Message) {}
}
