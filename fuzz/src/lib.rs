//! Fuzz targets: functions of bytes that panic when the core breaks a promise.
//!
//! Each is wrapped for libFuzzer in `fuzz_targets/`, and run over its corpus by `tests/corpus.rs`.
#![forbid(unsafe_code)]

mod connection;
pub use connection::{client_connection, server_connection};

mod differential;
pub use differential::differential;

mod frame_header;
pub use frame_header::frame_header;

mod handshake;
pub use handshake::{handshake_client, handshake_server};

mod hub;
pub use hub::hub;

mod mailbox;
pub use mailbox::mailbox;

mod output;
pub use output::output;

mod splits;
pub use splits::splits;

mod turn;
pub use turn::turn;

mod seen;

mod source;
pub use source::Source;

mod stream;

/// A target: it panics when what it tests is broken.
pub type Target = fn(&[u8]);

/// Every target by its name, which its corpus has too.
pub const TARGETS: [(&str, Target); 11] = [
    ("client_connection", client_connection),
    ("differential", differential),
    ("frame_header", frame_header),
    ("handshake_client", handshake_client),
    ("handshake_server", handshake_server),
    ("hub", hub),
    ("mailbox", mailbox),
    ("output", output),
    ("server_connection", server_connection),
    ("splits", splits),
    ("turn", turn),
];
