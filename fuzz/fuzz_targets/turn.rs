#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| wsforge_fuzz::turn(data));

#[cfg(not(fuzzing))]
fn main() {}
