use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use bytes::Bytes;

use crate::{Body, Chunk, CloseFrame, Error, Event, Kind, Message, Payload, Text};

/// What happened on a connection, as [`Event`] has it, but to keep: payloads are shared bytes.
///
/// [`Connection::next_owned`](crate::Connection::next_owned) gives these without copying; made from an
/// [`Event`], what that has borrowed is copied.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum OwnedEvent {
    /// As [`Event::Chunk`].
    Chunk(OwnedChunk),
    /// As [`Event::Close`].
    Close(Option<CloseFrame<'static>>),
    /// As [`Event::Fail`].
    Fail(Error),
    /// As [`Event::Message`].
    Message(OwnedMessage),
    /// As [`Event::Ping`].
    Ping(Bytes),
    /// As [`Event::Pong`].
    Pong(Bytes),
}

/// A whole message to keep.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OwnedMessage {
    /// Bytes.
    Binary(Bytes),
    /// UTF-8, validated.
    Text(Utf8Bytes),
}

/// A piece of a message to keep, see [`Chunk`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnedChunk {
    /// Which kind of message this is a piece of.
    pub kind: Kind,
    /// Whether the message begins with it.
    pub first: bool,
    /// Whether the message ends with it; such a piece may be empty.
    pub last: bool,
    /// The bytes.
    pub payload: Bytes,
}

/// Shared bytes that are known to be UTF-8. Derefs to [`str`], which looks at the bytes once more, as
/// safe code must; who passes the text on takes its [bytes](Self::as_bytes), or [sends](Body) it.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Utf8Bytes(Bytes);

impl OwnedEvent {
    /// Owns `event`; what lies in the read buffer is owned by `own`, which is called once at the most.
    pub(crate) fn new(event: Event<'_>, own: impl FnOnce(&[u8]) -> Bytes) -> Self {
        match event {
            Event::Chunk(Chunk { kind, first, last, payload }) => {
                Self::Chunk(OwnedChunk { kind, first, last, payload: own(payload) })
            }
            Event::Close(close) => Self::Close(close.map(|CloseFrame { code, reason }| {
                CloseFrame { code, reason: Text::owned(reason.into_string()) }
            })),
            Event::Fail(error) => Self::Fail(error),
            Event::Message(message) => Self::Message(OwnedMessage::new(message, own)),
            Event::Ping(payload) => Self::Ping(payload.into_bytes(own)),
            Event::Pong(payload) => Self::Pong(payload.into_bytes(own)),
        }
    }

    /// The payload, where there is one.
    pub(crate) const fn payload_mut(&mut self) -> Option<&mut Bytes> {
        match self {
            Self::Chunk(OwnedChunk { payload, .. })
            | Self::Message(
                OwnedMessage::Binary(payload) | OwnedMessage::Text(Utf8Bytes(payload)),
            )
            | Self::Ping(payload)
            | Self::Pong(payload) => Some(payload),
            Self::Close(_) | Self::Fail(_) => None,
        }
    }
}

impl From<Event<'_>> for OwnedEvent {
    fn from(event: Event<'_>) -> Self {
        Self::new(event, Bytes::copy_from_slice)
    }
}

impl OwnedMessage {
    fn new(message: Message<'_>, own: impl FnOnce(&[u8]) -> Bytes) -> Self {
        match message {
            Message::Binary(Payload::Borrowed(bytes)) => Self::Binary(own(bytes)),
            Message::Binary(Payload::Owned(bytes)) => Self::Binary(bytes.into()),
            Message::Text(text) => Self::Text(Utf8Bytes(text.into_bytes(own))),
        }
    }

    /// A message whose `bytes` are UTF-8 if it is a text.
    #[inline]
    pub(crate) const fn known(kind: Kind, bytes: Bytes) -> Self {
        match kind {
            Kind::Binary => Self::Binary(bytes),
            Kind::Text => Self::Text(Utf8Bytes(bytes)),
        }
    }

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
            Self::Binary(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
        }
    }

    /// The text, if it is one. It is looked at once more, see [`Utf8Bytes`].
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Binary(_) => None,
            Self::Text(text) => Some(text),
        }
    }

    /// The message's bytes, to be shared.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Binary(bytes) => bytes,
            Self::Text(text) => text.into_bytes(),
        }
    }
}

impl From<&str> for OwnedMessage {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned().into())
    }
}

impl From<String> for OwnedMessage {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Utf8Bytes> for OwnedMessage {
    fn from(text: Utf8Bytes) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for OwnedMessage {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(bytes))
    }
}

impl From<Vec<u8>> for OwnedMessage {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Bytes> for OwnedMessage {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Message<'_>> for OwnedMessage {
    fn from(message: Message<'_>) -> Self {
        Self::new(message, Bytes::copy_from_slice)
    }
}

impl From<OwnedMessage> for Body<'_> {
    fn from(message: OwnedMessage) -> Self {
        Self::Shared(message.into_bytes())
    }
}

impl Utf8Bytes {
    /// The text's bytes, the fastest way to it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text's bytes, to be shared.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for Utf8Bytes {
    type Target = str;

    fn deref(&self) -> &str {
        simdutf8::basic::from_utf8(&self.0).unwrap_or_default()
    }
}

impl TryFrom<Bytes> for Utf8Bytes {
    type Error = NotUtf8;

    /// Checks that `bytes` are UTF-8.
    fn try_from(bytes: Bytes) -> Result<Self, NotUtf8> {
        match simdutf8::basic::from_utf8(&bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(_) => Err(NotUtf8(bytes)),
        }
    }
}

/// Bytes that are not UTF-8.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotUtf8(pub Bytes);

impl fmt::Display for NotUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes are not UTF-8")
    }
}

impl core::error::Error for NotUtf8 {}

impl From<String> for Utf8Bytes {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&'static str> for Utf8Bytes {
    fn from(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }
}

impl From<Utf8Bytes> for Body<'_> {
    fn from(text: Utf8Bytes) -> Self {
        Self::Shared(text.0)
    }
}

impl fmt::Display for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl fmt::Debug for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec::Vec;

    use super::*;
    use crate::{CloseCode, Control};

    #[test]
    fn whatever_an_event_borrows_is_copied() {
        let mut bytes = *b"abc";
        let shared = Bytes::from_static(b"abc");
        let close = || CloseFrame { code: CloseCode::NORMAL, reason: Text::borrowed("abc") };
        let chunk = Chunk { kind: Kind::Text, first: true, last: false, payload: &mut bytes };
        let pairs: Vec<(OwnedEvent, OwnedEvent)> = [
            (
                Event::Chunk(chunk),
                OwnedEvent::Chunk(OwnedChunk {
                    kind: Kind::Text,
                    first: true,
                    last: false,
                    payload: shared.clone(),
                }),
            ),
            (Event::Close(Some(close())), OwnedEvent::Close(Some(close()))),
            (Event::Fail(Error::BadUtf8), OwnedEvent::Fail(Error::BadUtf8)),
            (
                Event::Message(Message::Binary(Payload::Borrowed(&mut b"abc".to_vec()))),
                OwnedEvent::Message(OwnedMessage::Binary(shared.clone())),
            ),
            (
                Event::Message(Message::Text(Text::borrowed("abc"))),
                OwnedEvent::Message(OwnedMessage::Text("abc".into())),
            ),
            (Event::Ping(Control::borrowed(b"abc")), OwnedEvent::Ping(shared.clone())),
            (Event::Pong(Control::borrowed(b"abc")), OwnedEvent::Pong(shared)),
        ]
        .map(|(event, owned)| (event.into(), owned))
        .into();
        for (mut event, owned) in pairs {
            assert_eq!(event, owned);
            assert!(event.payload_mut().is_none_or(|payload| payload == "abc"));
        }
    }

    /// What is on the heap already stays where it is.
    #[test]
    fn what_an_event_owns_is_kept() {
        let (bytes, text, control) = (b"abc".to_vec(), String::from("abc"), b"abc".to_vec());
        let places = [bytes.as_ptr(), text.as_ptr(), control.as_ptr()];
        let events = [
            Event::Message(Message::Binary(Payload::Owned(bytes))),
            Event::Message(Message::Text(Text::owned(text))),
            Event::Ping(Control::owned(control.into())),
        ];
        let owned = events.map(|event| OwnedEvent::new(event, |_| panic!("copied")));
        let kept = owned.map(|mut event| event.payload_mut().map(|bytes| bytes.as_ptr()));
        assert_eq!(kept, places.map(Some));
    }

    #[test]
    fn a_message_can_be_kept_looked_at_and_sent_on() {
        let mut bytes = *b"\x00\xFF";
        let binary = OwnedMessage::from(Message::Binary(Payload::Borrowed(&mut bytes)));
        let text = OwnedMessage::from(Message::Text(Text::ascii(b"a\n")));
        for (message, kind, bytes) in
            [(binary, Kind::Binary, &b"\x00\xFF"[..]), (text, Kind::Text, b"a\n")]
        {
            assert_eq!((message.kind(), message.as_bytes()), (kind, bytes));
            assert_eq!(message.clone().into_bytes(), bytes);
            assert!(matches!(Body::from(message), Body::Shared(shared) if shared == bytes));
        }
    }

    #[test]
    fn whatever_is_a_text_or_bytes_becomes_a_message() {
        let text = OwnedMessage::Text("é".into());
        assert_eq!(OwnedMessage::from("é"), text);
        assert_eq!(OwnedMessage::from(String::from("é")), text);
        assert_eq!(OwnedMessage::from(Utf8Bytes::from("é")), text);
        let binary = OwnedMessage::Binary(Bytes::from_static("é".as_bytes()));
        assert_eq!(OwnedMessage::from("é".as_bytes()), binary);
        assert_eq!(OwnedMessage::from(Vec::from("é")), binary);
        assert_eq!(OwnedMessage::from(Bytes::from("é")), binary);
        assert_eq!((text.as_text(), binary.as_text()), (Some("é"), None));

        // What is on the heap already stays where it is.
        let (string, vec) = (String::from("é"), Vec::from("é"));
        let places = [string.as_ptr(), vec.as_ptr()];
        let messages = [OwnedMessage::from(string), OwnedMessage::from(vec)];
        assert_eq!(messages.each_ref().map(|message| message.as_bytes().as_ptr()), places);
    }

    #[test]
    fn bytes_become_a_text_if_they_are_one_and_come_back_if_not() {
        let text = Bytes::from(Vec::from("é"));
        let kept = Utf8Bytes::try_from(text.clone()).unwrap();
        assert_eq!((&*kept, kept.as_bytes().as_ptr()), ("é", text.as_ptr()));
        for bad in [&b"\xC3"[..], b"a\xFF", b"\xED\xA0\x80"] {
            let bad = Bytes::from_static(bad);
            let error = Utf8Bytes::try_from(bad.clone()).unwrap_err();
            assert_eq!(error, NotUtf8(bad));
            assert_eq!(format!("{error}"), "the bytes are not UTF-8");
        }
    }

    #[test]
    fn a_text_is_shown_as_text() {
        for text in [Utf8Bytes::from("é\n"), Utf8Bytes::from(String::from("é\n"))] {
            assert_eq!(format!("{text} {text:?}"), "é\n \"é\\n\"");
            assert_eq!((&*text, text.as_bytes()), ("é\n", "é\n".as_bytes()));
            assert!(matches!(Body::from(text.clone()), Body::Shared(bytes) if bytes == "é\n"));
            assert_eq!(text.into_bytes(), "é\n");
        }
    }
}
