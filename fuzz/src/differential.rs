//! What tungstenite makes of the same bytes, as a server.
//!
//! | known difference | wsforge | tungstenite | RFC 6455 |
//! |---|---|---|---|
//! | a length that is not in its shortest form | refuses it, unless told otherwise | accepts it | 5.2 |
//! | ... of a control frame | refuses it always | accepts it | 5.5 |
//! | when a frame is judged | by its header; text byte for byte | once it is whole | 5.2, 8.1 |
//! | a frame with two faults | looks at its length last | looks at its length early | 7.1.7 |
//! | a Close with a code that must not be sent | fails with 1002 | answers 1002 as if all was well | 7.4 |
//! | ... and a reason that is not UTF-8 | it is the code that is wrong | it is the reason | 5.5.1 |
//! | code 1014, which was registered later | is a code | must not be sent | 11.7 |
//! | the answer to a Close | has its code | has its reason too | 5.5.1 |
//! | failing a connection | sends a Close | sends nothing | 7.1.7 |
//!
//! So that it matters little when a frame is judged, zeros follow most streams: they end the last
//! frame, and then are one that is not masked.

use std::io::{self, Cursor, Read, Write};

use tungstenite::Message;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use wsforge_core::frame::Opcode;
use wsforge_core::{Config, Error, Input, Output, ServerConnection, Timestamp};

use crate::Source;
use crate::seen::{Frame, Seen, frames};
use crate::stream::part;

const MAX_FRAME_LEN: usize = 1000;
const MAX_MESSAGE_LEN: usize = 1500;

/// The same bytes give the same messages, the same pongs, and the same end.
pub fn differential(data: &[u8]) {
    let mut source = Source::new(data);
    let flags = source.u8();
    let mut bytes = Vec::new();
    // No more than is quickly done.
    while !source.is_empty() && bytes.len() < 1 << 14 {
        part(&mut source, true, &mut bytes);
    }
    let padded = flags & 3 != 0;
    if padded {
        bytes.resize(bytes.len() + MAX_FRAME_LEN + 14, 0);
    }
    let (ours, theirs) = (ours(&bytes, true), theirs(&bytes));
    compare(ours.clone(), theirs, padded);
    let strict = self::ours(&bytes, false);
    if strict.end == End::Failed(Fault::Protocol(Error::LengthNotMinimal)) {
        assert!(ours.messages.starts_with(&strict.messages));
    } else {
        assert_eq!(strict, ours, "only lengths make a difference");
    }
}

/// What a server made of a stream.
#[derive(Clone, Debug, PartialEq)]
struct Made {
    messages: Vec<Seen>,
    end: End,
    sent: Vec<Frame>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Closed,
    Failed(Fault),
    /// The stream ended without a Close.
    Torn,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The error is not compared: there are more than one for some streams.
    Protocol(Error),
    TooBig,
    Utf8,
}

fn compare(mut ours: Made, mut theirs: Made, padded: bool) {
    let both = (ours.clone(), theirs.clone());
    let shown = || format!("{both:#?}");
    let answers = (close_code(&mut ours.sent), close_code(&mut theirs.sent));
    let violation = Seen::Close(Some((1002, "Protocol violation".into())));
    match (ours.end, theirs.end) {
        // They may go on, so what they saw until then is all there is to compare.
        (End::Failed(Fault::Protocol(Error::ControlTooLong)), _) => {
            theirs.messages.truncate(ours.messages.len());
            theirs.sent.truncate(ours.sent.len());
        }
        (End::Closed, End::Closed) => match (ours.messages.last_mut(), theirs.messages.last()) {
            (Some(Seen::Close(Some((1014, _)))), Some(close)) if *close == violation => {
                assert_eq!(answers, (Some(Some(1014)), Some(Some(1002))), "{}", shown());
                ours.messages.pop();
                theirs.messages.pop();
            }
            _ => assert!(answers.0.is_some() && answers.0 == answers.1, "{}", shown()),
        },
        (End::Failed(Fault::Protocol(Error::BadClose)), End::Closed) => {
            assert_eq!(theirs.messages.pop(), Some(violation), "{}", shown());
            assert_eq!(answers, (Some(Some(1002)), Some(Some(1002))), "{}", shown());
        }
        (End::Failed(ours), theirs) => {
            let code = match ours {
                Fault::Protocol(_) => 1002,
                Fault::TooBig => 1009,
                Fault::Utf8 => 1007,
            };
            assert_eq!(answers, (Some(Some(code)), None), "{}", shown());
            match (ours, theirs) {
                (_, End::Torn) => assert!(!padded, "{}", shown()),
                (Fault::Protocol(Error::BadClose), End::Failed(Fault::Utf8))
                | (Fault::Protocol(_), End::Failed(Fault::Protocol(_) | Fault::TooBig))
                | (Fault::TooBig, End::Failed(Fault::TooBig))
                | (Fault::Utf8, End::Failed(Fault::Utf8)) => {}
                _ => panic!("{}", shown()),
            }
        }
        (ours, theirs) => {
            assert_eq!(ours, theirs, "{}", shown());
            assert_eq!(answers, (None, None), "{}", shown());
        }
    }
    assert_eq!(ours.messages, theirs.messages);
    assert_eq!(ours.sent, theirs.sent);
}

/// Takes the Close off the end of what was sent: its code, if it has one.
fn close_code(sent: &mut Vec<Frame>) -> Option<Option<u16>> {
    let close = sent.pop_if(|frame| frame.opcode == Opcode::Close)?;
    Some(close.payload.first_chunk().map(|code| u16::from_be_bytes(*code)))
}

fn ours(bytes: &[u8], accept_long_lengths: bool) -> Made {
    let mut config = Config::default();
    config.accept_long_lengths = accept_long_lengths;
    config.max_fragments = u32::MAX;
    config.max_frame_len = MAX_FRAME_LEN as u64;
    config.max_message_len = MAX_MESSAGE_LEN as u64;
    let mut conn = ServerConnection::after_handshake(config.into(), Timestamp::ZERO);
    let (mut bytes, mut output) = (bytes.to_vec(), Output::new());
    let mut input = Input::new(&mut bytes, Timestamp::ZERO);
    let mut messages: Vec<Seen> = Vec::new();
    while let Some(event) = conn.next_event(&mut input, &mut output) {
        messages.push(event.into());
    }
    messages.extend(conn.handle_eof().map(Seen::from));
    let end = match messages.pop_if(|event| matches!(event, Seen::Fail(_))) {
        Some(Seen::Fail(Error::BadUtf8)) => End::Failed(Fault::Utf8),
        Some(Seen::Fail(Error::FrameTooLong | Error::MessageTooLong)) => End::Failed(Fault::TooBig),
        Some(Seen::Fail(Error::UnexpectedEof)) => End::Torn,
        Some(Seen::Fail(error)) => End::Failed(Fault::Protocol(error)),
        _ => End::Closed,
    };
    let written: Vec<u8> = output.slices().flatten().copied().collect();
    Made { messages, end, sent: frames(&written, false) }
}

fn theirs(bytes: &[u8]) -> Made {
    let config = WebSocketConfig::default()
        .max_frame_size(Some(MAX_FRAME_LEN))
        .max_message_size(Some(MAX_MESSAGE_LEN))
        .read_buffer_size(4096)
        .write_buffer_size(0);
    let stream = Stream { arrives: Cursor::new(bytes), written: Vec::new() };
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, Some(config));
    let mut messages = Vec::new();
    let end = loop {
        match socket.read() {
            Ok(Message::Binary(payload)) => messages.push(Seen::Binary(payload.into())),
            Ok(Message::Text(text)) => messages.push(Seen::Text(text.to_string())),
            Ok(Message::Ping(payload)) => messages.push(Seen::Ping(payload.into())),
            Ok(Message::Pong(payload)) => messages.push(Seen::Pong(payload.into())),
            Ok(Message::Close(close)) => messages.push(Seen::Close(
                close.map(|close| (close.code.into(), close.reason.to_string())),
            )),
            Ok(Message::Frame(_)) => unreachable!("never read, says its documentation"),
            Err(tungstenite::Error::ConnectionClosed) => break End::Closed,
            Err(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                break End::Torn;
            }
            // Which one it is does not matter.
            Err(tungstenite::Error::Protocol(_)) => {
                break End::Failed(Fault::Protocol(Error::BadOpcode));
            }
            Err(tungstenite::Error::Capacity(_)) => break End::Failed(Fault::TooBig),
            Err(tungstenite::Error::Utf8(_)) => break End::Failed(Fault::Utf8),
            Err(error) => panic!("an error that memory does not give: {error:?}"),
        }
    };
    Made { messages, end, sent: frames(&socket.get_ref().written, false) }
}

/// A socket whose peer has sent all that it will.
struct Stream<'a> {
    arrives: Cursor<&'a [u8]>,
    written: Vec<u8>,
}

impl Read for Stream<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.arrives.read(to)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
