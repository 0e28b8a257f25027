use bytes::Bytes;

use crate::CloseCode;

/// Whole frames that stay together: queued whole, and dropped whole if at all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Run {
    /// The frames as they go over the wire.
    pub bytes: Bytes,
    /// How many frames that is.
    pub frames: usize,
    /// What kind of frames they are.
    pub class: Class,
    /// What the frames are about, if only the newest of that matters.
    pub key: Option<u64>,
    /// What becomes of them when too much waits, if it is not for the member's
    /// [limits](super::MailboxLimits) to say.
    pub policy: Option<SlowConsumer>,
}

/// What a run is, and so what a policy may do with it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// Sent to many; the only class that may be dropped for one of them.
    Broadcast,
    /// Control frames, and fragments: the connection breaks without them.
    Control,
    /// Sent to this member.
    Reply,
}

/// What to do about a member for whom too much waits.
///
/// Only runs of [`Class::Broadcast`] are ever dropped, and none that is under
/// [`Disconnect`](Self::Disconnect): who sent that wants no gaps. For a run of another class room is made
/// by dropping such runs; if that is not enough, the member is evicted under every policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SlowConsumer {
    /// It is disconnected with this code: what it gets has no gaps.
    Disconnect(CloseCode),
    /// What is new is dropped: for what can be asked for again.
    DropNewest,
    /// What has waited longest is dropped, until what is new fits: for what ages.
    DropOldest,
    /// What is new takes the place of what waits with the same [key](Run::key), whether too much waits
    /// or not, and stands at the end; as [`DropOldest`](Self::DropOldest) otherwise: for states, such as
    /// prices.
    KeepNewest,
}

/// [`Disconnect`](SlowConsumer::Disconnect) with [`CloseCode::TRY_AGAIN_LATER`].
impl Default for SlowConsumer {
    fn default() -> Self {
        Self::Disconnect(CloseCode::TRY_AGAIN_LATER)
    }
}
