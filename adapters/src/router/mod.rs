//! A server of handlers: functions that take what they need of a message and give its answer.
//!
//! It begins with a [`Router`].

pub(crate) mod app;

mod batcher;
pub use batcher::MessageBatcher;

mod bucket;

mod conflater;
pub use conflater::Conflater;

mod connection;
pub use connection::{Connection, ConnectionInfo};

mod data;

mod error;
pub use error::{Error, Result};

mod extensions;
pub use extensions::Extensions;

mod extract;
pub use extract::{ConnectInfo, Data, Extension, Extract, Json, Path, Query, State};

#[cfg(feature = "files")]
mod files;
#[cfg(feature = "files")]
pub use files::StaticFileHandler;

mod handler;
pub use handler::{Handler, Outcome, Received};

mod id;
pub use id::{ConnectionId, ConnectionRef};

mod into_handler;
pub use into_handler::{Async, HandlerService, Lend, Lent, LentFn, Plain, handler};

mod logger;
pub use logger::{LogLevel, LoggerMiddleware};

mod macros;

mod manager;
pub use crate::Sent;
pub use manager::{ConnectionManager, Counters};

mod message;
pub use message::{Message, MessageType};

mod metrics;
pub use metrics::{Metrics, Rates, Stats};

mod middleware;
pub use middleware::{Answering, FnMiddleware, Middleware, MiddlewareChain, Next, from_fn};

mod origin;

mod params;

mod paths;

mod rate;
pub use rate::RateLimiter;

mod request;
pub use request::Request;

mod response;
pub use response::{IntoResponse, JsonResponse, Reply};

// Named like the type.
#[allow(clippy::module_inception)]
mod router;
pub use router::{Lagged, Presence, Router};

mod routes;
pub use routes::Routes;

mod serving;

mod state;
pub use state::AppState;

#[cfg(test)]
mod testing;

#[doc = include_str!("../../docs/handlers.md")]
pub mod handlers {}

/// What macros write names.
#[doc(hidden)]
pub mod __private {
    pub use serde::Serialize;
    pub use serde::de::DeserializeOwned;

    use super::{Extract, IntoResponse};

    /// Does nothing but compile.
    pub const fn extracts<T: Extract>() {}

    /// Does nothing but compile.
    pub const fn responds<T: IntoResponse>() {}
}
