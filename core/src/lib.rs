#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_alloc, clippy::std_instead_of_core)]
#![doc = include_str!("../README.md")]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod handshake;

pub mod hub;

// Its program writes to a socket of `std`.
#[cfg(feature = "std")]
#[doc = include_str!("../docs/driver.md")]
pub mod driver {}

mod connection;
pub use connection::{
    Body, ClientConnection, Connection, SendThroughError, ServerConnection, Shutdown, State,
};

mod input;
pub use input::Input;

mod output;
pub use output::Output;

mod event;
pub use event::{Chunk, Control, Event, Kind, Message, Payload, Text};

mod owned;
pub use owned::{NotUtf8, OwnedChunk, OwnedEvent, OwnedMessage, Utf8Bytes};

mod close;
pub use close::{CloseCode, CloseFrame, Initiator, Outcome};

mod config;
pub use config::{Config, Delivery};

mod error;
pub use error::{Error, SendError};

mod role;
pub use role::{Client, KeySource, Role, Server};

mod time;
pub use time::Timestamp;

mod wheel;
pub use wheel::Wheel;

pub mod frame;
pub mod mask;

mod utf8;
