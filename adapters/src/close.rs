use std::io;

use thiserror::Error;
use wsforge_core::{Error as ProtocolError, Initiator, Outcome};

/// How a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct CloseInfo {
    /// The code of the Close that arrived; 1005 if it had none, 1006 if no Close arrived (RFC 6455
    /// section 7.1.5).
    pub code: u16,
    /// What the Close that arrived gave as its reason.
    pub reason: String,
    /// Who began to close. If no Close arrived: who gave up.
    pub initiator: Initiator,
    /// Whether both sides have sent a Close (RFC 6455 section 7.1.4).
    pub clean: bool,
    /// What went wrong, if something did.
    pub error: Option<ConnectionError>,
}

/// What ended a connection that was not closed by a Close of each side.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// Too much waited for the peer, so it was closed.
    #[error("too much waited for the peer")]
    Evicted,
    /// The transport failed.
    #[error("the transport failed")]
    Io(#[from] io::Error),
    /// The protocol was broken, or one of its deadlines passed.
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
    /// The peer took nothing for [`Options::write_timeout`](crate::Options::write_timeout).
    #[error("the peer does not read")]
    Stalled,
    /// The end took too long.
    #[error("the end took too long")]
    TimedOut,
}

impl CloseInfo {
    pub(crate) fn new(
        outcome: Option<Outcome>,
        reason: String,
        error: Option<ConnectionError>,
    ) -> Self {
        match outcome {
            Some(outcome @ Outcome::Closed { initiator, .. }) => {
                Self { code: outcome.code(), reason, initiator, clean: true, error }
            }
            Some(outcome @ Outcome::Failed(failure)) => {
                let initiator = match failure {
                    ProtocolError::UnexpectedEof => Initiator::Peer,
                    _ => Initiator::Local,
                };
                let error = error.or_else(|| Some(failure.into()));
                Self { code: outcome.code(), reason, initiator, clean: false, error }
            }
            None => {
                let initiator = Initiator::Local;
                Self { code: 1006, reason, initiator, clean: false, error }
            }
        }
    }
}
