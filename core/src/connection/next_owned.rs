//! Events to keep: payloads split off the read buffer, or copied out of it, rather than lent.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::{Buf, Bytes, BytesMut};

use super::receive::message_kind;
use super::{Connection, ShortFrame};
use crate::frame::Header;
use crate::{Input, Kind, Output, OwnedEvent, OwnedMessage, Role, Timestamp, mask};

impl<R: Role> Connection<R> {
    /// As [`next_event`](Self::next_event), over a buffer that can be shared: a payload that lies in it
    /// is split off, not copied. `now` is when the bytes arrived.
    ///
    /// For large messages that are kept or passed to another thread: whatever is kept, and be it a ping,
    /// keeps all that was read with it in memory. Small ones are better copied: take them from
    /// `next_event` and make an [`OwnedEvent`] of each.
    ///
    /// `None` means that there is more to read, behind what is left in the buffer: as in an input that
    /// [grows](Input::growing), a cut message stays there if it is one frame of at most `room` bytes.
    /// Others are put together by the connection, at the price of one copy, which
    /// [`direct_buf`](Self::direct_buf) saves the rest of large ones.
    #[must_use = "an event may be a message"]
    pub fn next_owned(
        &mut self,
        input: &mut BytesMut,
        room: usize,
        now: Timestamp,
        output: &mut Output,
    ) -> Option<OwnedEvent> {
        let (len, mut lent) = (input.len(), 0);
        let mut cursor = Input::growing(input, room, now);
        let mut event = self.next_event(&mut cursor, output).map(|event| {
            OwnedEvent::new(event, |payload| {
                lent = payload.len();
                Bytes::new()
            })
        });
        let used = len - cursor.len();
        match event.as_mut().and_then(OwnedEvent::payload_mut) {
            Some(payload) if lent > 0 => {
                // What is lent is the end of what was used.
                let mut frame = input.split_to(used);
                frame.advance(used - lent);
                *payload = frame.freeze();
            }
            _ => input.advance(used),
        }
        event
    }

    /// The message that was read as `read`, where it lies, if that is one frame with nothing unusual about
    /// it. Else it comes back as it was, for [`next_event`](Self::next_event).
    ///
    /// For a driver that expects a large message, and so reads into memory of the message's own.
    ///
    /// # Errors
    ///
    /// `read`, if it is anything else.
    pub fn next_whole(
        &mut self,
        mut read: Vec<u8>,
        now: Timestamp,
    ) -> Result<OwnedMessage, Vec<u8>> {
        let Ok(Some((header, at))) = Header::parse(&read) else { return Err(read) };
        let kind = message_kind(&header, at, !R::CLIENT, &self.config)
            .filter(|_| self.plain && header.len == (read.len() - at) as u64);
        let Some(kind) = kind else { return Err(read) };
        let mask = header.mask;
        let ascii = mask.is_some_and(|key| mask::apply_ascii(&mut read[at..], key));
        if kind == Kind::Text && !ascii && simdutf8::basic::from_utf8(&read[at..]).is_err() {
            // The long road finds what is wrong, and says so.
            mask.into_iter().for_each(|key| mask::apply(&mut read[at..], key));
            return Err(read);
        }
        self.timers.heard(now);
        let mut bytes = Bytes::from(read);
        bytes.advance(at);
        Ok(OwnedMessage::known(kind, bytes))
    }

    /// A copy of the next message, if it stands at the front as a short frame with nothing unusual about
    /// it. `None` says nothing more than to ask [`next_event`](Self::next_event).
    ///
    /// For a driver whose user keeps every message: making an [`OwnedMessage`] of an event is a longer way
    /// to the same.
    #[inline]
    pub fn next_copied(&mut self, input: &mut Input<'_>) -> Option<OwnedMessage> {
        if !self.plain {
            return None;
        }
        let ShortFrame { kind, key, payload } = ShortFrame::parse::<R>(input.remaining())?;
        let (lent, used) = (&input.remaining()[payload.clone()], payload.end);
        let mut copy = Box::<[u8]>::from(lent);
        let ascii = !R::CLIENT && mask::apply_ascii(&mut copy, key);
        // What is wrong stays where it is: the long road finds it, and says so.
        if kind == Kind::Text && !ascii && simdutf8::basic::from_utf8(&copy).is_err() {
            return None;
        }
        self.timers.heard(input.now());
        input.take(used);
        Some(OwnedMessage::known(kind, copy.into()))
    }
}
