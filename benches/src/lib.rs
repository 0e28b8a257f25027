//! Measurements of the core and the adapters; each is a program or a benchmark of this crate.
