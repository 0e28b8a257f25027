use std::io;

use thiserror::Error;
use wsforge_core::handshake::{Invalid, RequestError, ResponseError};

use crate::Message;

/// Why a message was not taken; it comes back.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum SendError {
    /// One side has closed, or the connection has failed.
    #[error("the connection is closed")]
    Closed(Message),
    /// Too much waits for the peer, and this call does not wait for it.
    #[error("too much waits for the peer")]
    Full(Message),
}

impl SendError {
    /// The message that was to be sent.
    pub fn into_message(self) -> Message {
        match self {
            Self::Closed(message) | Self::Full(message) => message,
        }
    }
}

/// Nothing more can be sent: one side has closed, or the connection has failed.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the connection is closed")]
pub struct Closed;

/// Why a ping was not sent.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum PingError {
    /// One side has closed, or the connection has failed.
    #[error("the connection is closed")]
    Closed,
    /// A control frame carries at most 125 bytes (RFC 6455 section 5.5).
    #[error("a control frame carries at most 125 bytes")]
    TooLong,
}

/// Why a peer got no connection. It has been told, where it could be.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The peer went away before its request was complete.
    #[error("the peer went away")]
    Closed,
    /// The answer cannot be sent; the peer got a 500.
    #[error("the answer is invalid: {0}")]
    Invalid(Invalid),
    /// The transport failed.
    #[error("the transport failed: {0}")]
    Io(#[from] io::Error),
    /// The application refused, with this status.
    #[error("refused with {0}")]
    Rejected(u16),
    /// This is no opening handshake, or a broken one.
    #[error("{0}")]
    Request(RequestError),
    /// The request, or our answer to it, took longer than
    /// [`Options::handshake_timeout`](crate::Options::handshake_timeout).
    #[error("the handshake took too long")]
    TimedOut,
}

/// Why there is no connection to a server.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// What is to be sent cannot stand in a request.
    #[error("the request is invalid: {0}")]
    Invalid(#[from] Invalid),
    /// The server cannot be reached, or went away.
    #[error("the server cannot be reached: {0}")]
    Io(#[from] io::Error),
    /// The server answered with something else than an upgrade.
    #[error("the server refused: {} {}", .0.status, .0.reason)]
    Refused(Box<Refused>),
    /// The server's answer is no proper one.
    #[error("the server does not speak WebSocket: {0}")]
    Response(#[from] ResponseError),
    /// There was no answer in time.
    #[error("the server took too long")]
    TimedOut,
    /// This is no URL of a WebSocket.
    #[error("bad URL: {0}")]
    Url(String),
}

/// An answer that opens no connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refused {
    /// The status, such as 404.
    pub status: u16,
    /// What it is called, often nothing.
    pub reason: String,
    /// The headers in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, or the start of a long one.
    pub body: Vec<u8>,
}
