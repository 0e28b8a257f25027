//! What the codec costs, in memory: no sockets, no system calls. See `README.md`.

// For `text`, which takes in a file of the core.
extern crate alloc;

mod handshake;
mod messages;
mod plan;
mod text;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args();
    messages::measure(&mut criterion);
    text::measure(&mut criterion);
    handshake::measure(&mut criterion);
    plan::measure(&mut criterion);
    criterion.final_summary();
}
