//! What takes a process of its own: many peers at once, memory that is measured, a process that is stopped.
#![cfg(target_os = "linux")]

mod raw;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write, stdin};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use raw::{FOREVER, Flavor, REQUEST, Raw, echo_server, frame};
use wsforge::Options;
use wsforge::proto::frame::Opcode;

/// Set in a process that a test has made.
const CHILD: &str = "WSFORGE_TEST_CHILD";

/// What writing to a peer that is gone may say.
const CUT_OFF: [ErrorKind; 2] = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];

/// This test, in another process.
fn again(flavor: Flavor, name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", &flavor.test_name(name)]).env(CHILD, "1");
    command
}

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// So many peers, or as many as this process may have, with the server's ends in it.
fn at_most(peers: usize) -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let open = line.split_whitespace().next().unwrap().parse().unwrap_or(usize::MAX);
    peers.min(open.saturating_sub(100) / 2)
}

/// The memory that this process may write to.
fn data_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A server without heartbeats, whose peers may be silent for so long.
fn silent_for(idle_timeout: Duration) -> Options {
    let mut options = Options::default();
    options.protocol.ping_interval = None;
    options.protocol.idle_timeout = Some(idle_timeout);
    options
}

on_each_runtime! {
    /// A deadline for all of it: a byte now and then does not put it off.
    fn thousands_of_slow_handshakes_keep_nobody_out(flavor: Flavor) {
        if !is_child() {
            let again = again(flavor, "thousands_of_slow_handshakes_keep_nobody_out").status();
            return assert!(again.unwrap().success());
        }
        let mut options = Options::default();
        options.handshake_timeout = Duration::from_secs(3);
        let (server, _ends) = echo_server(flavor, options);
        let request = REQUEST.replace("\r\n\r\n", &format!("\r\nX: {}\r\n\r\n", "x".repeat(1000)));
        let mut slow: Vec<_> = (0..at_most(5000))
            .map(|_| {
                let peer = Raw::connect(server.address);
                peer.0.set_nonblocking(true).unwrap();
                peer
            })
            .collect();
        let begun = Instant::now();
        for byte in request.bytes() {
            assert!(begun.elapsed() < FOREVER, "{} are left", slow.len());
            slow.retain_mut(|peer| {
                let mut answer = [0; 12];
                match peer.0.write(&[byte]).and_then(|_| peer.0.read(&mut answer)) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                    // On a busy machine there is no time to tell all of them before they are cut off.
                    Ok(0) => {}
                    Err(error) => assert!(CUT_OFF.contains(&error.kind()), "{error}"),
                    Ok(n) => assert_eq!(&answer[..n], b"HTTP/1.1 408"),
                }
                false
            });
            if slow.is_empty() {
                break;
            }
            let mut good = Raw::open(server.address);
            good.echoes("hello");
            good.close();
            thread::sleep(Duration::from_millis(200));
        }
        assert!(slow.is_empty());
        server.stop();
    }

    /// Memory is for what has arrived, not for what a header claims.
    fn lengths_that_are_only_claimed_cost_nothing(flavor: Flavor) {
        if !is_child() {
            let again = again(flavor, "lengths_that_are_only_claimed_cost_nothing").status();
            return assert!(again.unwrap().success());
        }
        let (server, ends) = echo_server(flavor, silent_for(Duration::from_secs(4)));
        Raw::open(server.address).close();
        ends.recv_timeout(FOREVER).unwrap();
        let before = data_kib();
        let start = frame(true, Opcode::Binary, &[0; 1024 * 1024]);
        let mut peers: Vec<_> = (0..at_most(1000)).map(|_| Raw::open(server.address)).collect();
        for peer in &mut peers {
            peer.send(&start[..15]);
            peer.send(&start[15..16]);
        }
        // They are cut off, as they are idle; all of them were there.
        for peer in &mut peers {
            assert_eq!(peer.frame().code(), 1008);
        }
        let grown = data_kib().saturating_sub(before);
        // 64 KiB ahead of what has arrived are allowed, beside what a connection takes.
        assert!(grown < peers.len() * 128, "{grown} KiB");
        for peer in peers {
            drop(peer);
            assert!(ends.recv_timeout(FOREVER).unwrap().is("IdleTimeout"));
        }
        assert_eq!(server.stop().cut, 0);
    }

    /// What a peer says meanwhile is heard, and silence that nobody could have heard does not count.
    fn a_process_that_was_stopped_blames_nobody(flavor: Flavor) {
        if is_child() {
            let (server, _ends) = echo_server(flavor, silent_for(Duration::from_secs(3)));
            println!("\nlistens: {}", server.address);
            stdin().read_to_end(&mut Vec::new()).unwrap();
            server.stop();
            return;
        }
        let server = Process::start(again(flavor, "a_process_that_was_stopped_blames_nobody"));
        let (mut speaks, mut is_silent) = (Raw::open(server.address), Raw::open(server.address));
        is_silent.echoes("hello");
        speaks.echoes("hello");
        server.signal("-STOP");
        speaks.send_frame(Opcode::Text, "are you there?");
        thread::sleep(Duration::from_secs(5));
        server.signal("-CONT");
        assert_eq!(speaks.frame().payload, b"are you there?");
        is_silent.echoes("so am I");
        speaks.echoes("hello again");
        // Time goes on for those who say nothing more.
        assert_eq!(is_silent.frame().code(), 1008);
        assert_eq!(speaks.frame().code(), 1008);
        drop((speaks, is_silent));
        server.stop();
    }
}

/// A server in another process.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
        let address = lines.find_map(|line| line.strip_prefix("listens: ").map(str::parse));
        let address = address.expect("it says so").unwrap();
        Self { child, address }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Over already, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
