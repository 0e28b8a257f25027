//! The client that loads a server with messages to many gets them, and says what they cost.

use std::process::Command;

/// Runs a scenario for a moment; gives what it says.
fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_fan-out"))
        .args(["--secs", "0.2", "--rounds", "1", "--scenario"])
        .args(arguments)
        .output()
        .unwrap();
    let (said, complained) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{complained}");
    String::from_utf8(said).unwrap()
}

/// The cells of the line that begins with these.
fn line<'a>(said: &'a str, begins: &str) -> Vec<&'a str> {
    let line = said.lines().find(|line| line.starts_with(begins)).expect(begins);
    line.split('|').map(str::trim).collect()
}

#[test]
fn it_times_somebody_beside_a_broadcast_to_very_many() {
    let said = run(&["large", "--members", "50", "--every", "10"]);
    assert!(said.starts_with("50 members in 1 processes"), "{said}");
    for row in ["| without broadcasts", "| with broadcasts", "| while one is under way"] {
        assert_ne!(line(&said, row)[2], "0", "{said}");
    }
    let broadcasts: usize = line(&said, "| the last member")[2].parse().unwrap();
    assert!((1..=21).contains(&broadcasts), "{said}");
}

#[test]
fn it_times_those_who_read_beside_one_who_does_not() {
    let said = run(&["stalled", "--members", "20", "--window", "2", "--", "--api", "router"]);
    assert!(said.starts_with("19 members read"), "{said}");
    for row in ["| 0 |", "| 1 |"] {
        assert_ne!(line(&said, row)[3], "0", "{said}");
    }
}

/// Large messages, so that it is full soon.
#[test]
fn one_who_does_not_read_is_closed_or_not_as_the_servers_policy_says() {
    for (policy, closed) in [("disconnect", "1"), ("drop-oldest", "0")] {
        let few = ["stalled", "--members", "3", "--size", "200000", "--window", "16"];
        let said = run(&[&few[..], &["--", "--policy", policy]].concat());
        assert_eq!(line(&said, "| 1 |")[2], closed, "{said}");
    }
}
