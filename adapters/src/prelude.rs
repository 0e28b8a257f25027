//! What a server of handlers names: `use wsforge::prelude::*`.
//!
//! [`Message`] is that of handlers here; at the crate's root it is that of the direct API.

pub use crate::router::{
    AppState, Conflater, ConnectInfo, Connection, ConnectionId, ConnectionManager, Data, Error,
    Extension, Extensions, Extract, Handler, HandlerService, IntoResponse, Json, JsonResponse,
    LoggerMiddleware, Message, MessageBatcher, MessageType, Metrics, Middleware, MiddlewareChain,
    Next, Path, Query, RateLimiter, Result, Router, Routes, State, from_fn, handler,
};
pub use crate::routes;

#[cfg(feature = "files")]
pub use crate::router::StaticFileHandler;

#[cfg(feature = "macros")]
pub use wsforge_macros::{WebSocketHandler, WebSocketMessage, websocket_handler};
