//! A WebSocket stack: a sans-IO protocol core with thin adapters.
//!
//! For now this crate re-exports the core as [`proto`]; the runtimes' adapters and the server framework
//! come on top of it. To drive the core from an event loop of your own, start at [`proto`].
#![forbid(unsafe_code)]

pub use wsforge_core as proto;
