use core::mem;

use crate::Timestamp;

/// A cursor over the bytes that a driver has just read.
///
/// Make one for every read and hand it to [`Accept`](crate::handshake::Accept),
/// [`Connect`](crate::handshake::Connect) and [`Connection`](crate::Connection) until they say that
/// they have used all of it. Events split their payloads off its front: they borrow the read buffer,
/// not the connection. The buffer is mutable because payloads are unmasked where they lie.
#[derive(Debug)]
pub struct Input<'buf> {
    buf: &'buf mut [u8],
    now: Timestamp,
    /// The longest frame, with its header, that may stay in the buffer while some of it is missing.
    room: usize,
}

impl<'buf> Input<'buf> {
    /// A cursor over `buf`, whose bytes arrived at `now`.
    pub const fn new(buf: &'buf mut [u8], now: Timestamp) -> Self {
        Self { buf, now, room: 0 }
    }

    /// As [`new`](Self::new), but a message that is cut at the end stays there, if it is one frame of at
    /// most `room` bytes with its header, or if only part of a header has come: it then lies in one piece
    /// once the rest has come, and need not be put together. Not with
    /// [`Delivery::Chunks`](crate::Delivery::Chunks), which put nothing together.
    ///
    /// For a driver that knows of more to read, as when the socket has filled the buffer. It moves what
    /// [remains](Self::remaining) to the front of a buffer with room for `room` bytes, reads what is missing
    /// (see [`Header::parse`](crate::frame::Header::parse)) or more behind it, and hands over both. When
    /// there turns out to be nothing to read for now, it hands over what remained with
    /// [`new`](Self::new) and the time at which the last of it arrived, so that the connection keeps it,
    /// and sees what may be wrong with it.
    pub const fn growing(buf: &'buf mut [u8], room: usize, now: Timestamp) -> Self {
        Self { buf, now, room }
    }

    /// When these bytes arrived.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The number of bytes that nothing has taken yet.
    pub const fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether all bytes have been taken.
    pub const fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// What nothing has taken yet; a driver that must pause keeps a copy of this.
    pub const fn remaining(&self) -> &[u8] {
        self.buf
    }

    /// The longest frame that may stay; none with [`new`](Self::new).
    pub(crate) const fn room(&self) -> usize {
        self.room
    }

    pub(crate) const fn buf(&mut self) -> &mut [u8] {
        self.buf
    }

    /// Takes the first `n` bytes, at most all of them.
    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> &'buf mut [u8] {
        let buf = mem::take(&mut self.buf);
        let (front, rest) = buf.split_at_mut(n.min(buf.len()));
        self.buf = rest;
        front
    }

    pub(crate) fn take_all(&mut self) -> &'buf mut [u8] {
        mem::take(&mut self.buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_from_the_front() {
        let mut bytes = *b"abcdef";
        let mut input = Input::new(&mut bytes, Timestamp::from_millis(7));
        assert_eq!((input.now().as_millis(), input.len()), (7, 6));
        let front = input.take(2);
        assert_eq!((&*front, input.remaining()), (&b"ab"[..], &b"cdef"[..]));
        assert_eq!(input.take(100), b"cdef");
        assert!(input.is_empty());
    }
}
