use crate::driver::fan::{Flow, Sums};

/// What has become of frames that were sent to many, counted once for each peer.
///
/// A frame is *accepted* when it is on its way or waits for its peer, where it counts against the peer's
/// limit; else it is *refused*.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Sent {
    /// Frames that were accepted: those that are [written](Self::written) and those that are
    /// [queued](Self::queued).
    pub accepted: u64,
    /// Frames that were not: the peer was closing, or too much waits for it.
    pub refused: u64,
    /// Frames that the sockets have taken at once.
    pub written: u64,
    /// Frames that were left to wait for peers to read.
    pub queued: u64,
    /// Frames that [policies](crate::SlowConsumer) have dropped: new ones, which were refused, and older ones,
    /// which had been accepted.
    pub dropped: u64,
    /// Peers that were closed as too much waited for them.
    pub evicted: u64,
    /// Peers of whom it is not known yet: very many are not sent to at once, and those of another thread are
    /// sent to by that one.
    pub pending: u64,
}

impl From<Flow> for Sent {
    fn from(Flow { sums, pending }: Flow) -> Self {
        Self { pending, ..sums.into() }
    }
}

impl From<Sums> for Sent {
    fn from(sums: Sums) -> Self {
        let Sums { written, queued, dropped, refused, evicted, .. } = sums;
        Self { accepted: written + queued, refused, written, queued, dropped, evicted, pending: 0 }
    }
}
