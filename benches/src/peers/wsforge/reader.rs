//! Three ways to read, as `wsforge_core::driver` has them.

use std::fmt;
use std::hint::black_box;
use std::io::Read;
use std::ops::Range;

use bytes::{BufMut, BytesMut};
use wsforge_core::frame::{Header, MAX_HEADER_LEN};
use wsforge_core::{
    Connection, Event, Input, Message, Output, OwnedEvent, OwnedMessage, Role, Timestamp,
};

use crate::Wire;

/// What stands between a transport and a connection.
pub trait Reader: Default + fmt::Debug {
    /// What its column is called.
    const NAME: &'static str;

    /// Receives a message, a text as a `str`, and returns its length.
    fn receive<R: Role>(
        &mut self,
        conn: &mut Connection<R>,
        wire: &mut Wire,
        output: &mut Output,
    ) -> usize;
}

/// A buffer of a driver, which keeps it between calls.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    /// What of it the connection has not taken.
    rest: Range<usize>,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { bytes: vec![0; 512 * 1024], rest: 0..0 }
    }
}

/// Reads little at a time, and of a message that is cut all that is missing, behind what has come: what
/// there is to process is always in the first-level cache.
#[derive(Debug, Default)]
pub struct Growing(Buffer);

/// How much is read when nothing is known of what comes.
const FIRST_READ: usize = 16 * 1024;

/// Where the payload of a message begins that was cut: vectors that lie across two lines cost twice.
const CACHE_LINE: usize = 64;

impl Reader for Growing {
    const NAME: &'static str = "wsforge";

    fn receive<R: Role>(
        &mut self,
        conn: &mut Connection<R>,
        wire: &mut Wire,
        output: &mut Output,
    ) -> usize {
        let Buffer { bytes, rest } = &mut self.0;
        loop {
            let room = bytes.len() - 2 * CACHE_LINE - MAX_HEADER_LEN;
            let mut input = Input::growing(&mut bytes[rest.clone()], room, Timestamp::ZERO);
            let event = conn.next_event(&mut input, output);
            let left = input.len();
            if let Some(event) = event {
                rest.start = rest.end - left;
                return look_at(event);
            }
            let (to, most) = match Header::parse(input.remaining()) {
                // All that is missing, and the next message's header.
                Ok(Some((header, len))) => {
                    (CACHE_LINE - len, len + header.len as usize + MAX_HEADER_LEN - left)
                }
                _ => (0, FIRST_READ),
            };
            let to = to + bytes.as_ptr().align_offset(CACHE_LINE);
            bytes.copy_within(rest.end - left..rest.end, to);
            let n = wire.read(&mut bytes[to + left..][..most]).expect("bytes");
            *rest = to..to + left + n;
        }
    }
}

/// Reads as much as there is; the connection puts together what is cut.
#[derive(Debug, Default)]
pub struct Lent(Buffer);

impl Reader for Lent {
    const NAME: &'static str = "wsforge, large reads";

    fn receive<R: Role>(
        &mut self,
        conn: &mut Connection<R>,
        wire: &mut Wire,
        output: &mut Output,
    ) -> usize {
        let Buffer { bytes, rest } = &mut self.0;
        loop {
            let mut input = Input::new(&mut bytes[rest.clone()], Timestamp::ZERO);
            let event = conn.next_event(&mut input, output);
            rest.start = rest.end - input.len();
            match event {
                Some(event) => return look_at(event),
                None => *rest = 0..wire.read(bytes).expect("bytes"),
            }
        }
    }
}

fn look_at(event: Event<'_>) -> usize {
    match event {
        Event::Message(Message::Binary(payload)) => black_box(&*payload).len(),
        Event::Message(Message::Text(text)) => black_box(&*text).len(),
        event => panic!("{event:?}"),
    }
}

/// Reads into memory that is shared with the messages.
#[derive(Debug, Default)]
pub struct Owned(BytesMut);

impl Reader for Owned {
    const NAME: &'static str = "wsforge, owned";

    fn receive<R: Role>(
        &mut self,
        conn: &mut Connection<R>,
        wire: &mut Wire,
        output: &mut Output,
    ) -> usize {
        loop {
            match conn.next_owned(&mut self.0, usize::MAX, Timestamp::ZERO, output) {
                Some(OwnedEvent::Message(OwnedMessage::Binary(payload))) => {
                    return black_box(payload).len();
                }
                Some(OwnedEvent::Message(OwnedMessage::Text(text))) => {
                    return black_box(&*text).len();
                }
                Some(event) => panic!("{event:?}"),
                None => {
                    let most = match Header::parse(&self.0) {
                        Ok(Some((header, len))) => {
                            len + header.len as usize + MAX_HEADER_LEN - self.0.len()
                        }
                        _ => FIRST_READ,
                    };
                    self.0.reserve(most.max(FIRST_READ));
                    wire.read_buf(&mut (&mut self.0).limit(most));
                }
            }
        }
    }
}
