use bytes::Bytes;
use wsforge_core::Kind;

use crate::Wire;

/// An open connection of some library, over memory.
pub trait Peer: Sized {
    /// What the library is called.
    const NAME: &'static str;

    /// What it takes to send.
    type Message;

    /// A connection whose handshake is done, set up as its documentation has it.
    fn open(end: End, wire: Wire) -> Self;

    /// A message as an application would have it ready.
    fn message(kind: Kind, payload: &Bytes) -> Self::Message;

    /// Receives a message, a text as a `str`, and returns its length.
    fn receive(&mut self) -> usize;

    /// Sends a message until the transport has it.
    fn send(&mut self, message: &Self::Message);

    /// The transport, to see what was written.
    fn into_wire(self) -> Wire;
}

/// Which end of a connection a peer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Its frames are masked.
    Client,
    /// Its frames are not.
    Server,
}
