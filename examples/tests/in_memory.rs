//! A runtime of our own, in a process of its own.

use std::process::Command;

#[test]
fn a_server_and_its_clients_need_neither_sockets_nor_another_runtime() {
    let output = Command::new(env!("CARGO_BIN_EXE_in_memory")).output().expect("it runs");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let expected: String =
        (0..3).map(|n| format!("{n}: HELLO, and 1000000 bytes\n{n}: 1000 clean\n")).collect();
    assert_eq!(said, expected);
}
