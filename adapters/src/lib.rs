#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub use wsforge_core as proto;
pub use wsforge_core::hub::SlowConsumer;
pub use wsforge_core::{CloseCode, Kind, OwnedMessage as Message};

mod answer;
pub use answer::Answer;

mod byte_stream;
pub use byte_stream::ByteStream;

mod close;
pub use close::{CloseInfo, ConnectionError};

mod connect;
pub use connect::{Connect, Response};

mod driver;
pub use driver::budget::Budget;
pub use driver::replies::Replies;

mod error;
pub use error::{AcceptError, Closed, ConnectError, PingError, Refused, SendError};

mod fan_out;
pub use fan_out::{ClientsCannotJoin, FanOut, Member};

mod handshake;
pub use handshake::{Acceptor, Handshake};

mod options;
pub use options::{Options, Rate, Tcp};

#[cfg(feature = "router")]
pub mod prelude;

mod receiver;
pub use receiver::Receiver;

#[cfg(feature = "router")]
pub mod router;

pub mod runtime;

#[cfg(feature = "smol")]
pub use runtime::smol;
#[cfg(feature = "tokio")]
pub use runtime::tokio;

mod sender;
pub use sender::Sender;

mod sent;
pub use sent::Sent;

mod serve;
#[cfg_attr(not(feature = "router"), allow(dead_code, reason = "the framework uses all of it"))]
mod server;
pub use serve::{Incoming, Report, Serve};

mod sink;
pub use sink::SinkError;

mod socket;
pub use socket::{Recv, Send, WebSocket};

#[cfg(feature = "macros")]
pub use wsforge_macros::{WebSocketHandler, WebSocketMessage, websocket_handler};

mod writer;
pub use writer::MessageWriter;
