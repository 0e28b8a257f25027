//! Sending from where the bytes lie: a large message reaches the socket without a copy.

use core::error::Error;
use core::fmt;

use crate::frame::{Header, MAX_HEADER_LEN};
use crate::{ClientConnection, KeySource, Kind, Output, SendError, ServerConnection, mask};

impl ServerConnection {
    /// Sends a message through `write`, which gets the header and the body and says how many bytes it
    /// took, none if it would block. Only what it does not take is copied, into the output.
    ///
    /// For messages of some thousand bytes: for small ones the copy that [`send`](Self::send) makes
    /// costs less than a write of their own. While the output is not empty the message goes behind it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), or what `write` fails with.
    pub fn send_through<E>(
        &mut self,
        kind: Kind,
        body: &[u8],
        output: &mut Output,
        write: impl FnOnce([&[u8]; 2]) -> Result<usize, E>,
    ) -> Result<(), SendThroughError<E>> {
        self.check_between_messages()?;
        offer(kind, None, body, output, write)
    }
}

impl<K: KeySource> ClientConnection<K> {
    /// As [`ServerConnection::send_through`], but masks `body` where it lies, as a client must; it is
    /// of no more use then.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and `body` is as it was; or what `write` fails with.
    pub fn send_in_place<E>(
        &mut self,
        kind: Kind,
        body: &mut [u8],
        output: &mut Output,
        write: impl FnOnce([&[u8]; 2]) -> Result<usize, E>,
    ) -> Result<(), SendThroughError<E>> {
        self.check_between_messages()?;
        let key = self.role.0.next_key();
        mask::apply(body, key);
        offer(kind, Some(key), body, output, write)
    }
}

/// Offers a frame to `write`, unless something is to be written before it, and keeps the rest.
fn offer<E>(
    kind: Kind,
    mask: Option<[u8; 4]>,
    body: &[u8],
    output: &mut Output,
    write: impl FnOnce([&[u8]; 2]) -> Result<usize, E>,
) -> Result<(), SendThroughError<E>> {
    let header =
        Header { fin: true, rsv1: false, opcode: kind.into(), mask, len: body.len() as u64 };
    let mut head = [0; MAX_HEADER_LEN];
    let head_len = header.encode(&mut head);
    let head = &head[..head_len];
    let written =
        if output.is_empty() { write([head, body]).map_err(SendThroughError::Write)? } else { 0 };
    output.put(&head[written.min(head.len())..]);
    output.put(&body[written.saturating_sub(head.len()).min(body.len())..]);
    Ok(())
}

/// Why a message was not sent through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SendThroughError<E> {
    /// The caller's mistake, or a connection that is over; nothing was written.
    Send(SendError),
    /// The transport failed.
    Write(E),
}

impl<E> From<SendError> for SendThroughError<E> {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl<E: fmt::Display> fmt::Display for SendThroughError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(error) => error.fmt(f),
            Self::Write(error) => error.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for SendThroughError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Send(error) => error.source(),
            Self::Write(error) => error.source(),
        }
    }
}
