//! What the examples share.
//!
//! An echo server is a [`Session`] for each peer, which drives the core, and an event loop around it:
//! `src/bin/echo_*.rs` are four of them; `echo_socket.rs` leaves all of that to `wsforge`. A blocking client is [`connect`] and a loop.
//! The programs on top of `wsforge` need little of this, and those on its framework next to nothing.
#![forbid(unsafe_code)]

mod options;
pub use options::Options;

mod place;
pub use place::Place;

mod server;
pub use server::Server;

mod session;
pub use session::{Next, Session, Socket};

mod request;
pub use request::Request;

mod scratch;
pub use scratch::Scratch;

mod alarms;
pub use alarms::Alarms;

mod ctrl_c;
pub use ctrl_c::ctrl_c;

mod client;
pub use client::{ConnectError, Connected, Keys, connect};
