use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wsforge_core::{Kind, Utf8Bytes};

use super::{Error, Result};

/// What handlers are given and give: a message with bytes of its own.
///
/// ```
/// use wsforge::router::Message;
///
/// let message = Message::text("hello");
/// assert_eq!((message.as_text(), message.as_bytes()), (Some("hello"), &b"hello"[..]));
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct Message {
    /// What it carries, UTF-8 if it is a text.
    pub data: Vec<u8>,
    /// What it is.
    pub msg_type: MessageType,
}

/// What a [`Message`] is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MessageType {
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
    /// Asks the peer for a pong.
    Ping,
    /// Answers a ping.
    Pong,
    /// Closes the connection.
    Close,
}

impl Message {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { data: text.into().into_bytes(), msg_type: MessageType::Text }
    }

    /// Bytes.
    pub fn binary(data: impl Into<Vec<u8>>) -> Self {
        Self { data: data.into(), msg_type: MessageType::Binary }
    }

    /// A ping; it carries at most 125 bytes.
    pub fn ping(data: impl Into<Vec<u8>>) -> Self {
        Self { data: data.into(), msg_type: MessageType::Ping }
    }

    /// A pong that nobody has asked for; it carries at most 125 bytes.
    pub fn pong(data: impl Into<Vec<u8>>) -> Self {
        Self { data: data.into(), msg_type: MessageType::Pong }
    }

    /// Closes the connection, with code 1000.
    pub const fn close() -> Self {
        Self { data: Vec::new(), msg_type: MessageType::Close }
    }

    /// A text that is the JSON of `value`.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if `value` has no JSON, such as a map whose keys are no strings.
    pub fn from_json(value: &(impl Serialize + ?Sized)) -> Result<Self> {
        Ok(Self { data: serde_json::to_vec(value)?, msg_type: MessageType::Text })
    }

    /// What it is.
    pub const fn message_type(&self) -> MessageType {
        self.msg_type
    }

    /// Whether it is a text.
    pub fn is_text(&self) -> bool {
        self.msg_type == MessageType::Text
    }

    /// Whether it is binary.
    pub fn is_binary(&self) -> bool {
        self.msg_type == MessageType::Binary
    }

    /// Whether it is a ping.
    pub fn is_ping(&self) -> bool {
        self.msg_type == MessageType::Ping
    }

    /// Whether it is a pong.
    pub fn is_pong(&self) -> bool {
        self.msg_type == MessageType::Pong
    }

    /// Whether it closes the connection.
    pub fn is_close(&self) -> bool {
        self.msg_type == MessageType::Close
    }

    /// The text, if it is one. [`data`](Self::data) may have been changed, so it is looked at each time.
    pub fn as_text(&self) -> Option<&str> {
        if self.is_text() { simdutf8::basic::from_utf8(&self.data).ok() } else { None }
    }

    /// Whether it is UTF-8, if it is a text: [`data`](Self::data) is everybody's to change.
    ///
    /// Most are ASCII, and short, which is seen sooner than that something is UTF-8.
    pub(crate) fn is_valid(&self) -> bool {
        !self.is_text() || is_ascii(&self.data) || self.as_text().is_some()
    }

    /// What it carries, whatever it is.
    pub fn as_bytes(&self) -> &[u8] {
        &self.data
    }

    /// Reads the JSON that it is.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidMessage`] if it is no text, [`Error::Json`] if it is not the JSON of a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        if !self.is_text() {
            return Err(Error::InvalidMessage);
        }
        Ok(serde_json::from_slice(&self.data)?)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple(match self.msg_type {
            MessageType::Text => "Text",
            MessageType::Binary => "Binary",
            MessageType::Ping => "Ping",
            MessageType::Pong => "Pong",
            MessageType::Close => "Close",
        });
        match self.as_text() {
            Some(text) => tuple.field(&text),
            None => tuple.field(&self.data),
        };
        tuple.finish()
    }
}

impl From<Kind> for MessageType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Binary => Self::Binary,
            Kind::Text => Self::Text,
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<Vec<u8>> for Message {
    fn from(data: Vec<u8>) -> Self {
        Self::binary(data)
    }
}

impl From<&[u8]> for Message {
    fn from(data: &[u8]) -> Self {
        Self::binary(data)
    }
}

/// Bytes that nobody else has are not copied.
impl From<crate::Message> for Message {
    fn from(message: crate::Message) -> Self {
        Self { msg_type: message.kind().into(), data: message.into_bytes().into() }
    }
}

/// Nothing is copied.
impl TryFrom<Message> for crate::Message {
    type Error = Error;

    /// [`Error::InvalidMessage`] for a text that is not UTF-8, and for what is neither text nor binary.
    fn try_from(message: Message) -> Result<Self> {
        let data = Bytes::from(message.data);
        match message.msg_type {
            MessageType::Text => {
                Ok(Self::Text(Utf8Bytes::try_from(data).map_err(|_| Error::InvalidMessage)?))
            }
            MessageType::Binary => Ok(Self::Binary(data)),
            MessageType::Ping | MessageType::Pong | MessageType::Close => {
                Err(Error::InvalidMessage)
            }
        }
    }
}

/// As that of slices, in a fifth of the instructions: many words at a time, the last one overlapping.
fn is_ascii(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else { return bytes.is_ascii() };
    let words = bytes.as_chunks().0.iter().copied().map(u64::from_ne_bytes);
    words.fold(u64::from_ne_bytes(*last), |seen, word| seen | word) & 0x8080_8080_8080_8080 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_constructor_makes_what_it_says() {
        use MessageType::*;
        let all: [(Message, MessageType, &[u8]); 9] = [
            (Message::text("é"), Text, "é".as_bytes()),
            ("é".into(), Text, "é".as_bytes()),
            (String::from("é").into(), Text, "é".as_bytes()),
            (Message::binary([1]), Binary, &[1]),
            (vec![1].into(), Binary, &[1]),
            ([1][..].into(), Binary, &[1]),
            (Message::ping(*b"p"), Ping, b"p"),
            (Message::pong(vec![1]), Pong, &[1]),
            (Message::close(), Close, b""),
        ];
        for (message, kind, bytes) in all {
            assert_eq!((message.message_type(), message.as_bytes()), (kind, bytes));
            let is = [
                message.is_text(),
                message.is_binary(),
                message.is_ping(),
                message.is_pong(),
                message.is_close(),
            ];
            assert_eq!(is, [Text, Binary, Ping, Pong, Close].map(|other| other == kind));
            assert_eq!(message.as_text(), (kind == Text).then_some("é"));
        }
    }

    #[test]
    fn json_is_written_and_read() {
        let message = Message::from_json(&[1, 2]).unwrap();
        assert_eq!(message, Message::text("[1,2]"));
        assert_eq!(message.json::<Vec<u8>>().unwrap(), [1, 2]);
        assert!(matches!(message.json::<String>(), Err(Error::Json(_))));
        assert!(matches!(Message::binary(*b"1").json::<u8>(), Err(Error::InvalidMessage)));
    }

    #[test]
    fn a_message_goes_to_the_direct_api_and_back_where_it_lies() {
        for message in [Message::text("a longer text"), Message::binary(*b"some more bytes")] {
            let (at, kept) = (message.data.as_ptr(), message.clone());
            let direct = crate::Message::try_from(message).unwrap();
            assert_eq!(direct.as_bytes().as_ptr(), at);
            let back = Message::from(direct);
            assert_eq!((back.data.as_ptr(), back), (at, kept));
        }
        let bad = Message { data: vec![0xFF], msg_type: MessageType::Text };
        assert_eq!(bad.as_text(), None);
        for message in [bad, Message::ping(""), Message::pong(""), Message::close()] {
            assert!(matches!(crate::Message::try_from(message), Err(Error::InvalidMessage)));
        }
    }

    #[test]
    fn it_is_shown_as_what_it_is() {
        assert_eq!(format!("{:?}", Message::text("é")), "Text(\"é\")");
        let all = [Message::binary([1]), Message::ping([1]), Message::pong([1]), Message::close()];
        assert_eq!(format!("{all:?}"), "[Binary([1]), Ping([1]), Pong([1]), Close([])]");
    }
}
