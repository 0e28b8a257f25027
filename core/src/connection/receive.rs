use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;
use core::ops::Range;

use bytes::BufMut;
use bytes::buf::Limit;

use crate::frame::{Header, MAX_HEADER_LEN, Opcode};
use crate::utf8::{NotUtf8, Validator};
use crate::{Config, Delivery, Error, Kind, mask};

/// Takes frames apart and puts messages together.
///
/// Knows nothing of closing or time. It works on whatever slice it is handed and names ranges of it,
/// so that the same machine serves borrowed and owned buffers. Between messages it owns no memory.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    phase: Phase,
    /// Bytes that outlive the read that brought them; gone with the message or control frame.
    partial: Option<Box<Partial>>,
    /// The claimed length of the message so far.
    total: u64,
    /// The fragments of the message so far.
    fragments: u32,
    /// A character of a text that is cut between two reads or fragments.
    utf8: Validator,
    /// The message that has begun and not ended.
    message: Option<Kind>,
}

/// Less than this is not worth a read of its own: it comes with what follows it.
const MIN_LENT: u64 = 16 * 1024;

/// The most memory that is lent beyond what has arrived: claims alone get no more.
const MAX_LENT: u64 = 64 * 1024;

#[derive(Debug)]
enum Phase {
    /// A header that is incomplete: its first `len` bytes.
    Header { kept: [u8; MAX_HEADER_LEN - 1], len: u8 },
    /// A payload of which `left` bytes are to come. `key` is rotated to the next of them.
    Payload { left: u64, key: Option<[u8; 4]>, opcode: Opcode, fin: bool },
    /// Nothing matters any more; this many bytes are dropped patiently.
    Dropping { left: u64 },
}

impl Phase {
    const HEADER: Self = Self::Header { kept: [0; MAX_HEADER_LEN - 1], len: 0 };
}

impl Default for Phase {
    fn default() -> Self {
        Self::HEADER
    }
}

#[derive(Debug, Default)]
struct Partial {
    binary: Vec<u8>,
    text: String,
    control: Vec<u8>,
    /// The length of `binary` when the driver was last lent the memory behind it.
    lent: Option<usize>,
}

/// What a step found. Ranges are of the slice it was given.
pub(super) enum Step {
    /// All bytes are used or kept.
    More,
    /// Some bytes are used; there is nothing to tell of them.
    Continue,
    Chunk {
        kind: Kind,
        first: bool,
        last: bool,
        payload: Range<usize>,
    },
    Control(Opcode, Range<usize>),
    ControlOwned(Opcode, Box<[u8]>),
    /// An unfragmented message. A text is not validated yet, but may be known to be ASCII.
    Message {
        kind: Kind,
        payload: Range<usize>,
        ascii: bool,
    },
    BinaryOwned(Vec<u8>),
    TextOwned(String),
}

impl Receiver {
    /// Decodes the front of `buf`, unmasking in place, and returns how many bytes that took.
    ///
    /// `masked` tells whether the peer must mask. `buf` is not empty.
    pub(super) fn step(
        &mut self,
        buf: &mut [u8],
        masked: bool,
        config: &Config,
    ) -> Result<(usize, Step), Error> {
        let (header, at) = match &mut self.phase {
            Phase::Payload { .. } => return self.payload(buf, 0, config),
            Phase::Dropping { left } => {
                *left = left.saturating_sub(buf.len() as u64);
                return Ok((buf.len(), Step::More));
            }
            Phase::Header { kept, len } => {
                let Some((header, header_len, used)) = join_header(kept, len, buf)? else {
                    return Ok((buf.len(), Step::More));
                };
                if !config.accept_long_lengths && header_len != header.encoded_len() {
                    return Err(Error::LengthNotMinimal);
                }
                (header, used)
            }
        };
        self.begin(&header, masked, config)?;

        let Header { fin, opcode, mask, len, .. } = header;
        let whole = fin && opcode != Opcode::Continuation && config.delivery == Delivery::Messages;
        if len <= (buf.len() - at) as u64 && (whole || opcode.is_control()) {
            let payload = at..at + len as usize;
            let ascii = mask.is_some_and(|key| mask::apply_ascii(&mut buf[payload.clone()], key));
            let end = payload.end;
            return Ok(match opcode {
                Opcode::Binary | Opcode::Continuation | Opcode::Text => {
                    let kind = self.message.take().unwrap_or(Kind::Binary);
                    (end, Step::Message { kind, payload, ascii })
                }
                Opcode::Close | Opcode::Ping | Opcode::Pong => {
                    (end, Step::Control(opcode, payload))
                }
            });
        }
        self.phase = Phase::Payload { left: len, key: mask, opcode, fin };
        self.payload(buf, at, config)
    }

    /// Memory to read the rest of a large binary message into, see
    /// [`Connection::direct_buf`](super::Connection::direct_buf).
    pub(super) fn direct_buf(&mut self) -> Option<Limit<&mut Vec<u8>>> {
        let Phase::Payload { left, opcode, .. } = &self.phase else { return None };
        let (Some(partial), Some(Kind::Binary)) = (&mut self.partial, self.message) else {
            return None;
        };
        if opcode.is_control() || *left < MIN_LENT {
            return None;
        }
        let room = (*left).min(MAX_LENT) as usize;
        partial.binary.reserve(room);
        partial.lent = Some(partial.binary.len());
        Some((&mut partial.binary).limit(room))
    }

    /// Takes what the driver has read into that memory.
    pub(super) fn direct_filled(&mut self) -> Step {
        let Phase::Payload { left, key, fin, .. } = &mut self.phase else { return Step::More };
        let Some(partial) = &mut self.partial else { return Step::More };
        let Some(lent) = partial.lent.take() else { return Step::More };
        // A limit can be taken off by whoever holds it.
        let most = lent.saturating_add(usize::try_from(*left).unwrap_or(usize::MAX));
        partial.binary.truncate(most);
        let piece = partial.binary.get_mut(lent..).unwrap_or_default();
        if let Some(key) = key {
            mask::apply(piece, *key);
            *key = mask::advance(*key, piece.len());
        }
        *left -= piece.len() as u64;
        if *left > 0 {
            return Step::More;
        }
        let fin = *fin;
        self.phase = Phase::HEADER;
        if !fin {
            return Step::Continue;
        }
        self.message = None;
        Step::BinaryOwned(self.partial.take().map_or_else(Vec::new, |partial| partial.binary))
    }

    /// Drops all that comes from now on; after `left` bytes it is [exhausted](Self::is_exhausted).
    pub(super) fn drop_up_to(&mut self, left: u64) {
        *self = Self { phase: Phase::Dropping { left }, ..Self::default() };
    }

    /// Whether it has dropped all that it was told to.
    pub(super) const fn is_exhausted(&self) -> bool {
        matches!(self.phase, Phase::Dropping { left: 0 })
    }

    /// Whether it stands before a whole frame that begins a message.
    pub(super) const fn is_between_messages(&self) -> bool {
        matches!(self.phase, Phase::Header { len: 0, .. }) && self.message.is_none()
    }

    /// Whether the front of `buf` is a message in one frame, or the start of a header, that is cut and has
    /// `room` for the rest of it. What is wrong with a header is not left: it is to be found at once.
    pub(super) fn leaves(&self, buf: &[u8], room: usize, masked: bool, config: &Config) -> bool {
        if !self.is_between_messages() || config.delivery != Delivery::Messages {
            return false;
        }
        match Header::parse(buf) {
            Ok(Some((header, len))) => {
                message_kind(&header, len, masked, config).is_some()
                    && (buf.len() as u64 + 1..=room as u64).contains(&(header.len + len as u64))
            }
            Ok(None) => buf.len() < room,
            Err(_) => false,
        }
    }

    /// Judges a frame by its header, before any of its payload is kept.
    fn begin(&mut self, header: &Header, masked: bool, config: &Config) -> Result<(), Error> {
        if header.rsv1 {
            return Err(Error::ReservedBits);
        }
        if header.mask.is_some() != masked {
            return Err(Error::WrongMasking);
        }
        // RFC 6455 section 5.4: control frames may stand between fragments, other messages may not.
        let begins = match (header.opcode, self.message) {
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => return Ok(()),
            (Opcode::Continuation, None) => return Err(Error::UnexpectedContinuation),
            (Opcode::Continuation, Some(_)) => None,
            (Opcode::Binary | Opcode::Text, Some(_)) => return Err(Error::UnexpectedData),
            (Opcode::Binary, None) => Some(Kind::Binary),
            (Opcode::Text, None) => Some(Kind::Text),
        };
        if begins.is_some() {
            (self.message, self.fragments, self.total) = (begins, 0, 0);
        }
        if header.len > config.max_frame_len {
            return Err(Error::FrameTooLong);
        }
        // Claims are added up, never allocated for.
        self.total = self.total.saturating_add(header.len);
        if self.total > config.max_message_len {
            return Err(Error::MessageTooLong);
        }
        self.fragments = self.fragments.saturating_add(1);
        if self.fragments > config.max_fragments {
            return Err(Error::TooManyFragments);
        }
        Ok(())
    }

    /// Takes what is here of a payload that may be incomplete, from `at` on.
    #[cold]
    fn payload(
        &mut self,
        buf: &mut [u8],
        at: usize,
        config: &Config,
    ) -> Result<(usize, Step), Error> {
        let Phase::Payload { left, key, opcode, fin } = &mut self.phase else {
            return Ok((at, Step::Continue));
        };
        let n = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len() - at);
        let range = at..at + n;
        let piece = &mut buf[range.clone()];
        if let Some(key) = key {
            mask::apply(piece, *key);
            *key = mask::advance(*key, n);
        }
        *left -= n as u64;
        let (left, opcode, fin) = (*left, *opcode, *fin);
        let done = left == 0;
        if done {
            self.phase = Phase::HEADER;
        }
        let step = if opcode.is_control() {
            self.control_piece(opcode, piece, done)
        } else {
            let last = done && fin;
            let kind = self.message.unwrap_or(Kind::Binary);
            let step = match config.delivery {
                Delivery::Chunks => {
                    let first = self.total == left + n as u64;
                    self.chunk(kind, piece, first, last, range.clone())?
                }
                Delivery::Messages => {
                    // The end of a message is near only in its last frame.
                    let to_come = if fin { Some(left) } else { None };
                    self.append(kind, piece, last, to_come)?
                }
            };
            if last {
                self.message = None;
            }
            step
        };
        Ok((range.end, step))
    }

    fn control_piece(&mut self, opcode: Opcode, piece: &[u8], done: bool) -> Step {
        let partial = self.partial.get_or_insert_default();
        partial.control.extend_from_slice(piece);
        if !done {
            return Step::More;
        }
        let control = mem::take(&mut partial.control).into_boxed_slice();
        if partial.binary.is_empty() && partial.text.is_empty() {
            self.partial = None;
        }
        Step::ControlOwned(opcode, control)
    }

    fn chunk(
        &mut self,
        kind: Kind,
        piece: &[u8],
        first: bool,
        last: bool,
        payload: Range<usize>,
    ) -> Result<Step, Error> {
        if kind == Kind::Text {
            self.validate(piece, last, |_| {})?;
        }
        if piece.is_empty() && !last {
            return Ok(Step::Continue);
        }
        Ok(Step::Chunk { kind, first, last, payload })
    }

    /// Adds to the message that is being put together. `to_come` is how much of it follows, where
    /// that is known.
    fn append(
        &mut self,
        kind: Kind,
        piece: &[u8],
        last: bool,
        to_come: Option<u64>,
    ) -> Result<Step, Error> {
        let mut partial = match self.partial.take() {
            // Memory is for bytes that have come, not for a header that claims some.
            None if piece.is_empty() && !last => return Ok(Step::Continue),
            partial => partial.unwrap_or_default(),
        };
        partial.lent = None;
        match kind {
            Kind::Binary => {
                let binary = &mut partial.binary;
                if let Some(to_come) = to_come {
                    binary.reserve_exact(room(binary.len(), binary.capacity(), piece, to_come));
                }
                binary.extend_from_slice(piece);
            }
            Kind::Text => {
                let text = &mut partial.text;
                if let Some(to_come) = to_come {
                    text.reserve_exact(room(text.len(), text.capacity(), piece, to_come));
                }
                self.validate(piece, last, |valid| text.push_str(valid))?;
            }
        }
        Ok(match kind {
            _ if !last => {
                self.partial = Some(partial);
                Step::Continue
            }
            Kind::Binary => Step::BinaryOwned(partial.binary),
            Kind::Text => Step::TextOwned(partial.text),
        })
    }

    fn validate(&mut self, piece: &[u8], last: bool, valid: impl FnMut(&str)) -> Result<(), Error> {
        self.utf8.feed(piece, valid).map_err(|NotUtf8| Error::BadUtf8)?;
        if last && !self.utf8.is_complete() {
            return Err(Error::BadUtf8);
        }
        Ok(())
    }
}

/// What kind of message a frame is that is all of it, if there is nothing wrong with its header of `len` bytes.
pub(super) fn message_kind(
    header: &Header,
    len: usize,
    masked: bool,
    config: &Config,
) -> Option<Kind> {
    let kind = match header.opcode {
        Opcode::Binary => Kind::Binary,
        Opcode::Text => Kind::Text,
        _ => return None,
    };
    let sound = (header.fin, header.rsv1, header.mask.is_some()) == (true, false, masked)
        && (config.accept_long_lengths || len == header.encoded_len())
        && header.len <= config.max_frame_len.min(config.max_message_len);
    sound.then_some(kind)
}

/// The header at the front of `buf`, or begun in `kept` and ended in `buf`: its length, and how much
/// of it lies in `buf`. `None` if it goes on behind `buf`; then all of `buf` has been kept.
fn join_header(
    kept: &mut [u8; MAX_HEADER_LEN - 1],
    len: &mut u8,
    buf: &[u8],
) -> Result<Option<(Header, usize, usize)>, Error> {
    if *len == 0
        && let Some((header, header_len)) = Header::parse(buf)?
    {
        return Ok(Some((header, header_len, header_len)));
    }
    let have = usize::from(*len);
    let add = buf.len().min(MAX_HEADER_LEN - have);
    let mut joined = [0; MAX_HEADER_LEN];
    joined[..have].copy_from_slice(&kept[..have]);
    joined[have..have + add].copy_from_slice(&buf[..add]);
    if let Some((header, header_len)) = Header::parse(&joined[..have + add])? {
        *len = 0;
        return Ok(Some((header, header_len, header_len - have)));
    }
    // An incomplete header is shorter than the longest one, so all of it fits.
    kept[have..have + add].copy_from_slice(&buf[..add]);
    *len += add as u8;
    Ok(None)
}

/// How much memory to ask for, so that `piece` fits: as much again as has come, but not more than the
/// message needs. What its header claims never counts for more than what has arrived.
fn room(len: usize, capacity: usize, piece: &[u8], to_come: u64) -> usize {
    if capacity - len >= piece.len() {
        return 0;
    }
    let to_come = usize::try_from(to_come).unwrap_or(usize::MAX);
    piece.len().saturating_add(to_come).min(len.max(piece.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_as_much_again_as_has_come() {
        let piece = [0; 100];
        assert_eq!(room(0, 0, &piece, u64::MAX), 100);
        assert_eq!(room(100, 100, &piece, u64::MAX), 100);
        assert_eq!(room(1_000, 1_000, &piece, u64::MAX), 1_000);
        assert_eq!(room(1_000, 1_000, &piece, 50), 150);
        assert_eq!(room(1_000, 1_100, &piece, 50), 0);
    }
}
