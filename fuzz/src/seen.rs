use wsforge_core::frame::{Header, Opcode};
use wsforge_core::{Error, Event, Kind, OwnedChunk, OwnedEvent, OwnedMessage, mask};

/// An event with all its fields, to keep and to compare.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Seen {
    Binary(Vec<u8>),
    Chunk { kind: Kind, first: bool, last: bool, payload: Vec<u8> },
    Close(Option<(u16, String)>),
    Fail(Error),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Text(String),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        OwnedEvent::from(event).into()
    }
}

impl From<OwnedEvent> for Seen {
    fn from(event: OwnedEvent) -> Self {
        match event {
            OwnedEvent::Chunk(OwnedChunk { kind, first, last, payload }) => {
                Self::Chunk { kind, first, last, payload: payload.into() }
            }
            OwnedEvent::Close(close) => {
                Self::Close(close.map(|close| (close.code.get(), close.reason.into_string())))
            }
            OwnedEvent::Fail(error) => Self::Fail(error),
            OwnedEvent::Message(OwnedMessage::Binary(payload)) => Self::Binary(payload.into()),
            OwnedEvent::Message(OwnedMessage::Text(text)) => {
                // What it derefs to is empty if the bytes are not UTF-8.
                Self::Text(String::from_utf8(text.as_bytes().into()).expect("a text is UTF-8"))
            }
            OwnedEvent::Ping(payload) => Self::Ping(payload.into()),
            OwnedEvent::Pong(payload) => Self::Pong(payload.into()),
            event => panic!("an event that the fuzz targets do not know: {event:?}"),
        }
    }
}

/// A frame that was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Frame {
    pub(crate) opcode: Opcode,
    pub(crate) fin: bool,
    pub(crate) payload: Vec<u8>,
}

/// Takes apart what an endpoint has written: whole frames in their shortest form, masked by a client
/// and by nobody else.
pub(crate) fn frames(mut bytes: &[u8], masked: bool) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (header, len) = Header::parse(bytes).expect("valid").expect("whole");
        assert_eq!(header.encoded_len(), len, "the shortest form");
        assert_eq!(header.mask.is_some(), masked);
        assert!(!header.rsv1);
        let (payload, rest) = bytes[len..].split_at(header.len as usize);
        let mut payload = payload.to_vec();
        if let Some(key) = header.mask {
            mask::apply(&mut payload, key);
        }
        frames.push(Frame { opcode: header.opcode, fin: header.fin, payload });
        bytes = rest;
    }
    frames
}
