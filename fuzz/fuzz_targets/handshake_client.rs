#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| wsforge_fuzz::handshake_client(data));

#[cfg(not(fuzzing))]
fn main() {}
