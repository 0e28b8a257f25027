//! A message that is larger than the memory it takes.
#![cfg(target_os = "linux")]

mod support;

use support::Process;

#[test]
fn a_message_of_any_length_takes_little_memory() {
    let size = 64 * 1024 * 1024;
    let program = env!("CARGO_BIN_EXE_streaming");
    let finished = Process::start(program, &["--size", &size.to_string()]).finish();
    assert_eq!((finished.code, &*finished.stderr), (Some(0), ""));
    let [received, memory] = &finished.stdout[..] else { panic!("{finished:?}") };
    assert!(received.starts_with(&format!("received {size} bytes with checksum ")), "{received}");
    let grown = memory.split(", ").nth(1).and_then(|rest| rest.split_once(" kB more"));
    let grown: usize = grown.expect("a number of kB").0.parse().expect("a number");
    assert!(grown < 16 * 1024, "{memory}");
}

#[test]
fn a_message_need_not_end_with_a_whole_piece() {
    for size in ["0", "1", "65537"] {
        let program = env!("CARGO_BIN_EXE_streaming");
        let finished = Process::start(program, &["--size", size]).finish();
        assert_eq!((finished.code, &*finished.stderr), (Some(0), ""));
        assert!(finished.stdout[0].starts_with(&format!("received {size} bytes")), "{finished:?}");
    }
}
