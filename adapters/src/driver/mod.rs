//! What drives connections, the same on every runtime.
//!
//! A connection is two parts. Its [`Session`](session::Session) belongs to whoever receives: it reads,
//! decodes, and answers what the protocol wants answered. Its [`Outbox`](outbox::Outbox) belongs to all
//! who send. What they share with other connections is in an [`Endpoint`](endpoint::Endpoint).

pub(crate) mod address;
pub(crate) mod backlog;
pub(crate) mod budget;
pub(crate) mod content;
pub(crate) mod endpoint;
pub(crate) mod entropy;
#[cfg_attr(not(feature = "router"), allow(dead_code, reason = "the framework uses all of it"))]
pub(crate) mod fan;
pub(crate) mod halves;
pub(crate) mod opening;
pub(crate) mod outbox;
pub(crate) mod receive;
pub(crate) mod replies;
pub(crate) mod scratch;
pub(crate) mod session;
pub(crate) mod slack;
pub(crate) mod slow;
pub(crate) mod sync;
#[cfg_attr(not(feature = "router"), allow(dead_code, reason = "the framework uses all of it"))]
pub(crate) mod timer;
pub(crate) mod turn;
