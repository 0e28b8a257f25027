//! Events to keep: payloads split off the read buffer rather than lent.

use bytes::{Buf, Bytes, BytesMut};

use super::Connection;
use crate::{Input, Output, OwnedEvent, Role, Timestamp};

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
}
