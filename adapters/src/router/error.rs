use std::fmt;
use std::io;
use std::str::Utf8Error;
use std::string::FromUtf8Error;

use thiserror::Error as Described;

/// Why something was not done, as handlers and the rest of the framework say it.
///
/// A handler's `?` makes one of most errors there are. What the peer is told of it is the application's
/// choice: see [`public`](Self::public).
#[derive(Debug, Described)]
#[non_exhaustive]
pub enum Error {
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
    /// Nobody has this id.
    #[error("there is no connection {0}")]
    ConnectionNotFound(String),
    /// What the application says, for the peer to read.
    #[error("{0}")]
    Custom(String),
    /// A handler's argument could not be had.
    #[error("cannot extract: {0}")]
    Extractor(String),
    /// Too much waits for the peer already.
    #[error("too much waits for the peer")]
    Full,
    /// What the application says, for nobody but itself.
    #[error("{0}")]
    Handler(String),
    /// The message is not what it was taken for, such as binary instead of text.
    #[error("the message is invalid")]
    InvalidMessage,
    /// Something outside failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// This is not the JSON of what was to be read, or something has no JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Anything else.
    #[error("{0}")]
    Other(Box<dyn std::error::Error + Send + Sync>),
    /// Nothing handles it.
    #[error("there is no route {0}")]
    RouteNotFound(String),
    /// It took too long.
    #[error("it took too long")]
    TimedOut,
}

/// What the framework's functions and the handlers give.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error whose words the peer may read.
    pub fn custom(text: impl fmt::Display) -> Self {
        Self::Custom(text.to_string())
    }

    /// An error whose words stay here.
    pub fn handler(text: impl fmt::Display) -> Self {
        Self::Handler(text.to_string())
    }

    /// What an extractor says that has nothing to extract. Its words stay here.
    pub fn extractor(text: impl fmt::Display) -> Self {
        Self::Extractor(text.to_string())
    }

    /// What a peer may be told: the words given to [`custom`](Self::custom), and of everything else only
    /// whether the peer or the server is to blame.
    pub fn public(&self) -> &str {
        match self {
            Self::Custom(text) => text,
            Self::InvalidMessage | Self::Json(_) => "invalid message",
            Self::RouteNotFound(_) => "unknown route",
            Self::Full | Self::TimedOut => "try again later",
            _ => "internal error",
        }
    }
}

impl From<crate::SendError> for Error {
    fn from(error: crate::SendError) -> Self {
        match error {
            crate::SendError::Closed(_) => Self::Closed,
            crate::SendError::Full(_) => Self::Full,
        }
    }
}

impl From<crate::Closed> for Error {
    fn from(_: crate::Closed) -> Self {
        Self::Closed
    }
}

impl From<crate::PingError> for Error {
    fn from(error: crate::PingError) -> Self {
        match error {
            crate::PingError::Closed => Self::Closed,
            crate::PingError::TooLong => Self::InvalidMessage,
        }
    }
}

impl From<wsforge_core::SendError> for Error {
    #[cold]
    fn from(error: wsforge_core::SendError) -> Self {
        match error {
            wsforge_core::SendError::Closed => Self::Closed,
            error => Self::Other(error.into()),
        }
    }
}

impl From<Utf8Error> for Error {
    fn from(_: Utf8Error) -> Self {
        Self::InvalidMessage
    }
}

impl From<FromUtf8Error> for Error {
    fn from(_: FromUtf8Error) -> Self {
        Self::InvalidMessage
    }
}

impl From<fmt::Error> for Error {
    fn from(error: fmt::Error) -> Self {
        Self::Other(error.into())
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for Error {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self::Other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Message;

    /// What a handler's `?` makes of an error: how it is shown, and what the peer may read.
    fn raised<E: Into<Error>>(error: E) -> (String, String) {
        let error = error.into();
        (error.to_string(), error.public().to_owned())
    }

    fn says(shown: &str, public: &str) -> (String, String) {
        (shown.into(), public.into())
    }

    #[test]
    fn only_what_was_written_for_the_peer_is_told() {
        let internal = "internal error";
        let secret = || io::Error::other("/etc/secret");
        assert_eq!(raised(Error::custom("too large")), says("too large", "too large"));
        assert_eq!(raised(Error::handler("secret")), says("secret", internal));
        assert_eq!(raised(Error::extractor("secret")), says("cannot extract: secret", internal));
        assert_eq!(raised(secret()), says("/etc/secret", internal));
        let boxed: Box<dyn std::error::Error + Send + Sync> = secret().into();
        assert_eq!(raised(boxed), says("/etc/secret", internal));
        assert_eq!(raised(fmt::Error).1, internal);
        let json = serde_json::from_str::<u8>("[").unwrap_err();
        assert_eq!(raised(json).1, "invalid message");
        let gone = Error::ConnectionNotFound("conn_1".into());
        assert_eq!(raised(gone), says("there is no connection conn_1", internal));
        let route = Error::RouteNotFound("/a".into());
        assert_eq!(raised(route), says("there is no route /a", "unknown route"));
        assert_eq!(raised(Error::TimedOut), says("it took too long", "try again later"));
    }

    #[test]
    fn what_cannot_be_sent_says_why() {
        let message = || crate::Message::from("a");
        for closed in [
            Error::from(crate::SendError::Closed(message())),
            crate::Closed.into(),
            crate::PingError::Closed.into(),
            wsforge_core::SendError::Closed.into(),
        ] {
            assert!(matches!(closed, Error::Closed));
        }
        assert!(matches!(crate::SendError::Full(message()).into(), Error::Full));
        assert!(matches!(crate::PingError::TooLong.into(), Error::InvalidMessage));
        let long = wsforge_core::SendError::ControlTooLong;
        assert_eq!(raised(long).0, "a control frame carries at most 125 bytes");
    }

    #[test]
    fn what_is_not_utf_8_is_an_invalid_message() {
        let bytes = vec![0xFF];
        assert!(matches!(std::str::from_utf8(&bytes).unwrap_err().into(), Error::InvalidMessage));
        assert!(matches!(String::from_utf8(bytes).unwrap_err().into(), Error::InvalidMessage));
    }

    /// It is moved with every answer.
    #[test]
    fn it_is_small() {
        assert!(size_of::<Error>() <= 4 * size_of::<usize>());
        assert!(size_of::<Result<Option<Message>>>() <= 5 * size_of::<usize>());
    }
}
