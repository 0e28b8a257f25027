use core::fmt;

use super::head::HeadError;

/// Why a request was refused: it is no WebSocket opening handshake, or a broken one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RequestError {
    /// `Sec-WebSocket-Extensions` breaks its grammar.
    BadExtensions,
    /// There is no `Host`, more than one, or one that is malformed.
    BadHost,
    /// `Sec-WebSocket-Key` is missing, repeated, or not the base64 of 16 bytes.
    BadKey,
    /// A handshake must be a GET.
    BadMethod,
    /// This is not well-formed HTTP.
    BadRequest,
    /// `Sec-WebSocket-Protocol` is not a list of tokens.
    BadSubprotocols,
    /// `Upgrade` asks for a WebSocket, `Connection` does not ask for an upgrade.
    BadUpgrade,
    /// The head is longer than [`Limits::max_head_len`](super::Limits::max_head_len).
    HeadTooLong,
    /// The application's answer cannot be sent.
    Invalid(Invalid),
    /// The request does not ask for a WebSocket.
    NotUpgrade,
    /// The head has more than [`MAX_HEADERS`](super::MAX_HEADERS) header fields.
    TooManyHeaders,
    /// This is not HTTP/1.1.
    UnsupportedHttpVersion,
    /// `Sec-WebSocket-Version` is not 13.
    UnsupportedVersion,
}

impl RequestError {
    /// The status of the answer that it gets.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadExtensions
            | Self::BadHost
            | Self::BadKey
            | Self::BadRequest
            | Self::BadSubprotocols
            | Self::BadUpgrade => 400,
            Self::BadMethod => 405,
            Self::NotUpgrade | Self::UnsupportedVersion => 426,
            Self::HeadTooLong | Self::TooManyHeaders => 431,
            Self::Invalid(_) => 500,
            Self::UnsupportedHttpVersion => 505,
        }
    }

    /// What the answer's body says, too.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::BadExtensions => "malformed Sec-WebSocket-Extensions",
            Self::BadHost => "missing, repeated or malformed Host",
            Self::BadKey => "missing, repeated or malformed Sec-WebSocket-Key",
            Self::BadMethod => "the method must be GET",
            Self::BadRequest => "malformed HTTP request",
            Self::BadSubprotocols => "malformed Sec-WebSocket-Protocol",
            Self::BadUpgrade => "Connection does not ask for an upgrade",
            Self::HeadTooLong => "the request head is too long",
            Self::Invalid(_) => "the server's answer is invalid",
            Self::NotUpgrade => "this is a WebSocket endpoint",
            Self::TooManyHeaders => "too many header fields",
            Self::UnsupportedHttpVersion => "the HTTP version must be 1.1",
            Self::UnsupportedVersion => "Sec-WebSocket-Version must be 13",
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())?;
        match self {
            Self::Invalid(invalid) => write!(f, ": {invalid}"),
            _ => Ok(()),
        }
    }
}

impl core::error::Error for RequestError {}

impl From<HeadError> for RequestError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Malformed => Self::BadRequest,
            HeadError::TooLong => Self::HeadTooLong,
            HeadError::TooManyHeaders => Self::TooManyHeaders,
            HeadError::Version => Self::UnsupportedHttpVersion,
        }
    }
}

impl From<Invalid> for RequestError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// Why an answer is no completed handshake: the client must close the transport (RFC 6455 section 4.1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ResponseError {
    /// `Sec-WebSocket-Accept` is missing, repeated, or not the answer to our key.
    BadAccept,
    /// `Connection` does not list `Upgrade`.
    BadConnection,
    /// `Sec-WebSocket-Extensions` breaks its grammar or is repeated.
    BadExtensions,
    /// This is not well-formed HTTP.
    BadResponse,
    /// `Upgrade` is missing or names something else.
    BadUpgrade,
    /// The head is longer than [`Limits::max_head_len`](super::Limits::max_head_len).
    HeadTooLong,
    /// The head has more than [`MAX_HEADERS`](super::MAX_HEADERS) header fields.
    TooManyHeaders,
    /// An extension is named that was not offered.
    UnknownExtension,
    /// A subprotocol is named that was not offered, or more than one.
    UnknownSubprotocol,
    /// This is not HTTP/1.1.
    UnsupportedHttpVersion,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadAccept => "missing, repeated or wrong Sec-WebSocket-Accept",
            Self::BadConnection => "Connection does not list Upgrade",
            Self::BadExtensions => "malformed Sec-WebSocket-Extensions",
            Self::BadResponse => "malformed HTTP response",
            Self::BadUpgrade => "Upgrade is not websocket",
            Self::HeadTooLong => "the response head is too long",
            Self::TooManyHeaders => "too many header fields",
            Self::UnknownExtension => "an extension that was not offered",
            Self::UnknownSubprotocol => "a subprotocol that was not offered",
            Self::UnsupportedHttpVersion => "the HTTP version must be 1.1",
        })
    }
}

impl core::error::Error for ResponseError {}

impl From<HeadError> for ResponseError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Malformed => Self::BadResponse,
            HeadError::TooLong => Self::HeadTooLong,
            HeadError::TooManyHeaders => Self::TooManyHeaders,
            HeadError::Version => Self::UnsupportedHttpVersion,
        }
    }
}

/// What the caller gave cannot stand in a head. Nothing was queued.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Invalid {
    /// An extension offer breaks the grammar of RFC 6455 section 9.1.
    Extension,
    /// A header's name is not a token.
    HeaderName,
    /// A header's value has control characters, such as a line break.
    HeaderValue,
    /// A host is empty or has characters that none has.
    Host,
    /// A path does not begin with a slash, or has blanks, control characters, `#` or non-ASCII.
    Path,
    /// A header that the library writes itself was given.
    ReservedHeader,
    /// The status of a rejection must be from 200 to 599.
    Status,
    /// A subprotocol is not a token, or is offered twice.
    Subprotocol,
    /// The client did not offer this subprotocol.
    UnofferedSubprotocol,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Extension => "malformed extension offer",
            Self::HeaderName => "a header's name is not a token",
            Self::HeaderValue => "a header's value has control characters",
            Self::Host => "malformed host",
            Self::Path => "malformed path",
            Self::ReservedHeader => "the library writes this header itself",
            Self::Status => "a rejection's status must be from 200 to 599",
            Self::Subprotocol => "a subprotocol is not a token, or is offered twice",
            Self::UnofferedSubprotocol => "the client did not offer this subprotocol",
        })
    }
}

impl core::error::Error for Invalid {}

#[cfg(feature = "std")]
mod io {
    use std::io::{Error, ErrorKind};

    use super::{Invalid, RequestError, ResponseError};

    impl From<RequestError> for Error {
        fn from(error: RequestError) -> Self {
            Self::new(ErrorKind::InvalidData, error)
        }
    }

    impl From<ResponseError> for Error {
        fn from(error: ResponseError) -> Self {
            Self::new(ErrorKind::InvalidData, error)
        }
    }

    impl From<Invalid> for Error {
        fn from(error: Invalid) -> Self {
            Self::new(ErrorKind::InvalidInput, error)
        }
    }
}
