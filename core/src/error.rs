use core::fmt;

use crate::CloseCode;

/// Why a connection was failed (RFC 6455 section 7.1.7): the peer's fault, or its silence.
///
/// Comes as [`Event::Fail`](crate::Event::Fail). The Close that tells the peer is in the output by then.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A Close had a body of one byte, or a code that must not be sent.
    BadClose,
    /// A frame had a reserved opcode.
    BadOpcode,
    /// A text or the reason of a Close was not UTF-8.
    BadUtf8,
    /// The peer did not answer our Close in time.
    CloseTimeout,
    /// A control frame was not final.
    ControlFragmented,
    /// A control frame was longer than 125 bytes.
    ControlTooLong,
    /// A frame was longer than [`Config::max_frame_len`](crate::Config::max_frame_len).
    FrameTooLong,
    /// Nothing arrived for [`Config::idle_timeout`](crate::Config::idle_timeout).
    IdleTimeout,
    /// A length was not in its shortest form.
    LengthNotMinimal,
    /// A message was longer than [`Config::max_message_len`](crate::Config::max_message_len).
    MessageTooLong,
    /// Nothing arrived for [`Config::pong_timeout`](crate::Config::pong_timeout) after our ping.
    PongTimeout,
    /// A reserved bit was set that no extension gives a meaning to.
    ReservedBits,
    /// A message had more fragments than [`Config::max_fragments`](crate::Config::max_fragments).
    TooManyFragments,
    /// A continuation came with no message to continue.
    UnexpectedContinuation,
    /// A new message began before the last one had ended.
    UnexpectedData,
    /// The transport ended without a Close.
    UnexpectedEof,
    /// A client's frame was not masked, or a server's was.
    WrongMasking,
}

impl Error {
    /// The code of the Close that tells the peer, or `None` where none is sent: there is nobody left
    /// to read it.
    pub const fn close_code(self) -> Option<CloseCode> {
        match self {
            Self::BadUtf8 => Some(CloseCode::INVALID_DATA),
            Self::CloseTimeout | Self::UnexpectedEof => None,
            Self::FrameTooLong | Self::MessageTooLong => Some(CloseCode::TOO_BIG),
            Self::IdleTimeout | Self::TooManyFragments => Some(CloseCode::POLICY),
            Self::PongTimeout => Some(CloseCode::INTERNAL),
            Self::BadClose
            | Self::BadOpcode
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::LengthNotMinimal
            | Self::ReservedBits
            | Self::UnexpectedContinuation
            | Self::UnexpectedData
            | Self::WrongMasking => Some(CloseCode::PROTOCOL),
        }
    }

    /// What the Close gives as its reason, too.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::BadClose => "a Close with an invalid body",
            Self::BadOpcode => "a frame with a reserved opcode",
            Self::BadUtf8 => "a text that is not UTF-8",
            Self::CloseTimeout => "no answer to our Close in time",
            Self::ControlFragmented => "a fragmented control frame",
            Self::ControlTooLong => "a control frame of more than 125 bytes",
            Self::FrameTooLong => "a frame over the limit",
            Self::IdleTimeout => "nothing received for too long",
            Self::LengthNotMinimal => "a frame length that is not in its shortest form",
            Self::MessageTooLong => "a message over the limit",
            Self::PongTimeout => "no answer to our ping in time",
            Self::ReservedBits => "a reserved bit without an extension",
            Self::TooManyFragments => "a message of too many fragments",
            Self::UnexpectedContinuation => "a continuation of no message",
            Self::UnexpectedData => "a message inside another message",
            Self::UnexpectedEof => "the transport ended without a Close",
            Self::WrongMasking => "a frame that should have been masked, or should not",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl core::error::Error for Error {}

/// Why something was not sent: the caller's mistake, or a connection that is over. Nothing was queued.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum SendError {
    /// A Close has been sent or received, or the connection has failed.
    Closed,
    /// A control frame carries at most 125 bytes.
    ControlTooLong,
    /// A fragmented message must be finished first, with fragments of its own kind.
    FragmentInProgress,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection is closed",
            Self::ControlTooLong => "a control frame carries at most 125 bytes",
            Self::FragmentInProgress => "a fragmented message must be finished first",
        })
    }
}

impl core::error::Error for SendError {}

#[cfg(feature = "std")]
impl From<SendError> for std::io::Error {
    fn from(error: SendError) -> Self {
        let kind = match error {
            SendError::Closed => std::io::ErrorKind::BrokenPipe,
            SendError::ControlTooLong | SendError::FragmentInProgress => {
                std::io::ErrorKind::InvalidInput
            }
        };
        Self::new(kind, error)
    }
}
