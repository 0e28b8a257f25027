#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| wsforge_fuzz::frame_header(data));

#[cfg(not(fuzzing))]
fn main() {}
