use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, DerefMut};

use bytes::Bytes;

use crate::{CloseFrame, Error};

/// What happened on a connection. Payloads borrow the read buffer, not the connection, so the
/// connection can send while an event is alive.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'buf> {
    /// A piece of a message; only with [`Delivery::Chunks`](crate::Delivery::Chunks).
    Chunk(Chunk<'buf>),
    /// The peer's Close, `None` if it had no body. By now both sides have sent one; nothing follows.
    Close(Option<CloseFrame<'buf>>),
    /// The connection was failed; a Close is in the output if one is due. Nothing follows.
    Fail(Error),
    /// A whole message; only with [`Delivery::Messages`](crate::Delivery::Messages).
    Message(Message<'buf>),
    /// A ping. It has been answered.
    Ping(Control<'buf>),
    /// A pong, asked for or not.
    Pong(Control<'buf>),
}

/// The two kinds of message.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// Bytes.
    Binary,
    /// UTF-8.
    Text,
}

/// A whole message.
#[derive(Debug, Eq, PartialEq)]
pub enum Message<'buf> {
    /// Bytes.
    Binary(Payload<'buf>),
    /// UTF-8, validated.
    Text(Text<'buf>),
}

impl Message<'_> {
    /// Which kind of message this is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Binary(_) => Kind::Binary,
            Self::Text(_) => Kind::Text,
        }
    }

    /// The message's bytes, whichever kind it is.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Binary(payload) => payload,
            Self::Text(text) => text.as_bytes(),
        }
    }

    /// The message's bytes to keep: copied if they lie in the read buffer.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Binary(payload) => payload.into_vec().into(),
            Self::Text(text) => text.into_string().into(),
        }
    }

    /// The message to keep: copied if it lies in the read buffer.
    pub fn into_owned(self) -> Message<'static> {
        match self {
            Self::Binary(payload) => Message::Binary(Payload::Owned(payload.into_vec())),
            Self::Text(text) => Message::Text(Text::owned(text.into_string())),
        }
    }

    /// Whether the message lies in the read buffer.
    pub const fn is_borrowed(&self) -> bool {
        match self {
            Self::Binary(payload) => matches!(payload, Payload::Borrowed(_)),
            Self::Text(text) => !matches!(text.0, TextRepr::Owned(_)),
        }
    }
}

/// The bytes of a binary message: in the read buffer if the message arrived in one read, on the heap
/// if it had to be put together.
#[derive(Debug)]
pub enum Payload<'buf> {
    /// In the read buffer.
    Borrowed(&'buf mut [u8]),
    /// On the heap.
    Owned(Vec<u8>),
}

impl Payload<'_> {
    /// The bytes to keep: copied if they lie in the read buffer.
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Borrowed(bytes) => bytes.to_vec(),
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl DerefMut for Payload<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Where the bytes lie makes no difference.
impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Payload<'_> {}

/// Text that the core has validated; it alone makes one. Derefs to [`str`]; who passes it on takes its
/// [bytes](Self::as_bytes).
#[derive(Clone)]
pub struct Text<'buf>(TextRepr<'buf>);

#[derive(Clone)]
enum TextRepr<'buf> {
    /// Known to be ASCII, which safe code cannot turn into a `&str` without looking again. Whoever
    /// wants one pays for that; who passes bytes on does not.
    Ascii(&'buf [u8]),
    Borrowed(&'buf str),
    Owned(String),
}

impl<'buf> Text<'buf> {
    pub(crate) const fn borrowed(text: &'buf str) -> Self {
        Self(TextRepr::Borrowed(text))
    }

    pub(crate) const fn ascii(bytes: &'buf [u8]) -> Self {
        Self(TextRepr::Ascii(bytes))
    }

    pub(crate) const fn owned(text: String) -> Self {
        Self(TextRepr::Owned(text))
    }

    /// The text's bytes, the fastest way to it.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            TextRepr::Ascii(bytes) => bytes,
            TextRepr::Borrowed(text) => text.as_bytes(),
            TextRepr::Owned(text) => text.as_bytes(),
        }
    }

    /// The text to keep: copied if it lies in the read buffer.
    pub fn into_string(self) -> String {
        match self.0 {
            TextRepr::Ascii(_) => (*self).into(),
            TextRepr::Borrowed(text) => text.into(),
            TextRepr::Owned(text) => text,
        }
    }

    /// The text's bytes; those in the read buffer are owned by `own`.
    pub(crate) fn into_bytes(self, own: impl FnOnce(&[u8]) -> Bytes) -> Bytes {
        match self.0 {
            TextRepr::Ascii(bytes) => own(bytes),
            TextRepr::Borrowed(text) => own(text.as_bytes()),
            TextRepr::Owned(text) => text.into(),
        }
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self::owned(text)
    }
}

impl Deref for Text<'_> {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        match &self.0 {
            TextRepr::Ascii(bytes) => simdutf8::basic::from_utf8(bytes).unwrap_or_default(),
            TextRepr::Borrowed(text) => text,
            TextRepr::Owned(text) => text,
        }
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Where the bytes lie makes no difference.
impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text<'_> {}

/// The payload of a ping or pong, at most 125 bytes. Derefs to a slice.
pub struct Control<'buf>(ControlRepr<'buf>);

enum ControlRepr<'buf> {
    Borrowed(&'buf [u8]),
    // Only when the frame came in pieces. Inline it would make every event 136 bytes long.
    Owned(Box<[u8]>),
}

impl<'buf> Control<'buf> {
    pub(crate) const fn borrowed(bytes: &'buf [u8]) -> Self {
        Self(ControlRepr::Borrowed(bytes))
    }

    pub(crate) const fn owned(bytes: Box<[u8]>) -> Self {
        Self(ControlRepr::Owned(bytes))
    }

    /// The bytes; those in the read buffer are owned by `own`.
    pub(crate) fn into_bytes(self, own: impl FnOnce(&[u8]) -> Bytes) -> Bytes {
        match self.0 {
            ControlRepr::Borrowed(bytes) => own(bytes),
            ControlRepr::Owned(bytes) => bytes.into(),
        }
    }

    /// What stands behind the first `skip` bytes, if it is UTF-8.
    pub(crate) fn into_text(self, skip: usize) -> Option<Text<'buf>> {
        match self.0 {
            ControlRepr::Borrowed(bytes) => {
                str::from_utf8(bytes.get(skip..)?).ok().map(Text::borrowed)
            }
            ControlRepr::Owned(bytes) => {
                str::from_utf8(bytes.get(skip..)?).ok().map(|text| Text::owned(text.into()))
            }
        }
    }
}

impl Deref for Control<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            ControlRepr::Borrowed(bytes) => bytes,
            ControlRepr::Owned(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Where the bytes lie makes no difference.
impl PartialEq for Control<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Control<'_> {}

/// A piece of a message, as it arrived. A text is validated over its pieces, but a piece may end
/// inside a character.
#[derive(Debug, Eq, PartialEq)]
pub struct Chunk<'buf> {
    /// Which kind of message this is a piece of.
    pub kind: Kind,
    /// Whether the message begins with it.
    pub first: bool,
    /// Whether the message ends with it; such a piece may be empty.
    pub last: bool,
    /// The bytes.
    pub payload: &'buf mut [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_can_be_kept_wherever_they_lie() {
        let mut bytes = *b"\x00\x01";
        let pairs = [
            (
                Message::Binary(Payload::Borrowed(&mut bytes)),
                Message::Binary(Payload::Owned(alloc::vec![0, 1])),
            ),
            (Message::Text(Text::borrowed("héllo")), Message::Text(Text::owned("héllo".into()))),
        ];
        for (borrowed, owned) in pairs {
            assert_eq!(borrowed, owned);
            assert!(borrowed.is_borrowed() && !owned.is_borrowed());
            let bytes = owned.as_bytes().to_vec();
            assert_eq!((borrowed.kind(), borrowed.as_bytes()), (owned.kind(), &bytes[..]));
            assert_eq!(
                (&borrowed.into_bytes()[..], &owned.into_bytes()[..]),
                (&bytes[..], &bytes[..])
            );
        }
    }

    /// What is on the heap already stays where it is.
    #[test]
    fn a_message_becomes_one_to_keep() {
        let mut bytes = *b"\x00\x01";
        for message in
            [Message::Binary(Payload::Borrowed(&mut bytes)), Message::Text(Text::borrowed("é"))]
        {
            let (kind, bytes) = (message.kind(), message.as_bytes().to_vec());
            let owned: Message<'static> = message.into_owned();
            assert!(!owned.is_borrowed());
            assert_eq!((owned.kind(), owned.as_bytes()), (kind, &bytes[..]));
            let at = owned.as_bytes().as_ptr();
            assert_eq!(owned.into_owned().as_bytes().as_ptr(), at);
        }
    }

    #[test]
    fn a_string_becomes_a_text_that_owns_it() {
        let string = String::from("é");
        let at = string.as_ptr();
        let text = Text::from(string);
        assert_eq!((&*text, text.as_bytes().as_ptr()), ("é", at));
        assert!(!Message::Text(text).is_borrowed());
    }

    #[test]
    fn a_text_is_shown_as_text() {
        for text in [Text::borrowed("a\n"), Text::ascii(b"a\n"), Text::owned("a\n".into())] {
            assert_eq!(alloc::format!("{text} {text:?}"), "a\n \"a\\n\"");
            assert_eq!((text.as_bytes(), text.len()), (&b"a\n"[..], 2));
            assert_eq!(text.into_string(), "a\n");
        }
    }

    #[test]
    fn a_payload_can_be_changed_in_place() {
        let mut bytes = *b"abc";
        let mut payload = Payload::Borrowed(&mut bytes);
        payload[0] = b'x';
        assert_eq!(payload.into_vec(), b"xbc");
        let mut payload = Payload::Owned(b"abc".to_vec());
        payload[2] = b'x';
        assert_eq!(&*payload, b"abx");
    }

    #[test]
    fn controls_are_equal_wherever_they_lie() {
        assert_eq!(Control::borrowed(b"hi"), Control::owned(Box::new(*b"hi")));
    }
}
