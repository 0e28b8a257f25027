use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Deref;

use bytes::Bytes;

use super::{Connection, Stage};
use crate::frame::{Header, MAX_CONTROL_LEN, Opcode};
use crate::{Kind, Output, Role, SendError};

/// What a send is given: bytes to copy, or shared bytes to refer to.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// Copied into the output.
    Copy(&'a [u8]),
    /// Referred to by the output if longer than [`Output::COPY_LIMIT`]. A client copies them all the
    /// same, because it masks them.
    Shared(Bytes),
}

impl Body<'_> {
    /// The number of bytes.
    pub const fn len(&self) -> usize {
        match self {
            Self::Copy(bytes) => bytes.len(),
            Self::Shared(bytes) => bytes.len(),
        }
    }

    /// Whether there are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Deref for Body<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Copy(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl<'a> From<&'a [u8]> for Body<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Copy(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Body<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Copy(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Body<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Copy(bytes)
    }
}

impl<'a> From<&'a String> for Body<'a> {
    fn from(text: &'a String) -> Self {
        Self::Copy(text.as_bytes())
    }
}

impl<'a> From<&'a str> for Body<'a> {
    fn from(text: &'a str) -> Self {
        Self::Copy(text.as_bytes())
    }
}

impl From<Bytes> for Body<'_> {
    fn from(bytes: Bytes) -> Self {
        Self::Shared(bytes)
    }
}

impl<R: Role> Connection<R> {
    /// Queues a message, as one frame.
    ///
    /// A text's bytes must be UTF-8, as those of a [`str`] or a received text are; they are not looked
    /// at again.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] once a Close has been sent or received, or the connection has failed;
    /// [`SendError::FragmentInProgress`] inside a fragmented message.
    #[inline]
    pub fn send<'a>(
        &mut self,
        kind: Kind,
        body: impl Into<Body<'a>>,
        output: &mut Output,
    ) -> Result<(), SendError> {
        self.check_between_messages()?;
        self.frame(true, kind.into(), body.into(), output);
        Ok(())
    }

    /// Begins or continues a fragmented message (RFC 6455 section 5.4), and ends it if `fin`.
    ///
    /// For messages whose length is not known in advance. Between fragments only control frames can
    /// be sent. A text may be cut anywhere, but must be UTF-8 as a whole.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] as [`send`](Self::send); [`SendError::FragmentInProgress`] if the message
    /// that has begun is of another kind.
    pub fn send_fragment<'a>(
        &mut self,
        kind: Kind,
        body: impl Into<Body<'a>>,
        fin: bool,
        output: &mut Output,
    ) -> Result<(), SendError> {
        self.check_open()?;
        let opcode = match self.sending {
            None => kind.into(),
            Some(begun) if begun == kind => Opcode::Continuation,
            Some(_) => return Err(SendError::FragmentInProgress),
        };
        self.sending = (!fin).then_some(kind);
        self.frame(fin, opcode, body.into(), output);
        Ok(())
    }

    /// Queues a ping. The peer's pong comes as [`Event::Pong`](crate::Event::Pong) with the same
    /// payload, at most 125 bytes.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] as [`send`](Self::send); [`SendError::ControlTooLong`].
    pub fn ping(&mut self, payload: &[u8], output: &mut Output) -> Result<(), SendError> {
        self.control(Opcode::Ping, payload, output)
    }

    /// Queues a pong that nobody asked for, a heartbeat in one direction (RFC 6455 section 5.5.3).
    /// Pings need none: they have been answered when they come as events.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub fn pong(&mut self, payload: &[u8], output: &mut Output) -> Result<(), SendError> {
        self.control(Opcode::Pong, payload, output)
    }

    fn control(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        output: &mut Output,
    ) -> Result<(), SendError> {
        self.check_open()?;
        if payload.len() > MAX_CONTROL_LEN {
            return Err(SendError::ControlTooLong);
        }
        self.frame(true, opcode, payload.into(), output);
        Ok(())
    }

    /// Whether a message may begin.
    #[inline]
    pub(super) fn check_between_messages(&self) -> Result<(), SendError> {
        self.check_open()?;
        if self.sending.is_some() { Err(SendError::FragmentInProgress) } else { Ok(()) }
    }

    #[inline]
    fn check_open(&self) -> Result<(), SendError> {
        if self.stage == Stage::Open { Ok(()) } else { Err(SendError::Closed) }
    }

    #[inline]
    pub(super) fn frame(&mut self, fin: bool, opcode: Opcode, body: Body<'_>, output: &mut Output) {
        let mask = self.role.next_key();
        let header = Header { fin, rsv1: false, opcode, mask, len: body.len() as u64 };
        output.put_frame(&header, body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_its_bytes_whether_they_are_shared_or_not() {
        for bytes in [&b""[..], b"abc"] {
            for body in [Body::from(bytes), Body::from(Bytes::from_static(bytes))] {
                assert_eq!((body.len(), body.is_empty()), (bytes.len(), bytes.is_empty()));
                assert_eq!(&*body, bytes);
                assert_eq!(body.as_ptr(), bytes.as_ptr(), "not copied");
            }
        }
    }
}
