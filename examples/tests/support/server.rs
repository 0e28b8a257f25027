use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::thread;

use super::{Finished, Peer, Process};

/// A server that runs. When this is dropped it is killed, and must not have complained before.
#[derive(Debug)]
pub struct Server {
    process: Option<Process>,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(program: &str, options: &[&str]) -> Self {
        Self::new(Process::start(program, &[&["--port", "0"], options].concat()))
    }

    /// A server on this port.
    pub fn start_at(program: &str, port: u16) -> Self {
        Self::new(Process::start(program, &["--port", &port.to_string()]))
    }

    /// A server that may have no more than `count` descriptors.
    pub fn start_with_descriptors(program: &str, count: usize) -> Self {
        let script = format!("ulimit -n {count} && exec \"$0\" --port 0");
        Self::new(Process::start("sh", &["-c", &script, program]))
    }

    fn new(process: Process) -> Self {
        let line = process.line();
        let address = line.strip_prefix("listening on ws://").and_then(|rest| rest.split_once('/'));
        let address = address.and_then(|(address, _)| address.parse().ok());
        Self { process: Some(process), address: address.unwrap_or_else(|| panic!("{line}")) }
    }

    /// A client that has not said anything yet.
    pub fn dial(&self) -> Peer {
        Peer::dial(self.address)
    }

    /// A client after its handshake.
    pub fn connect(&self) -> Peer {
        let mut peer = self.dial();
        peer.open();
        peer
    }

    /// A client after its handshake, whose system holds little of what it does not read.
    pub fn connect_narrow(&self) -> Peer {
        let mut peer = Peer::dial_narrow(self.address);
        peer.open();
        peer
    }

    /// A new client gets its echo.
    pub fn assert_serves(&self) {
        let mut peer = self.connect();
        peer.assert_echo(b"still there?");
        peer.close();
    }

    /// A hand on its Ctrl-C.
    pub fn ctrl_c(&self) -> CtrlC {
        let script = format!("read line && kill -INT {}", self.process().id());
        CtrlC(Process::start("sh", &["-c", &script]))
    }

    /// Waits until it has ended by itself.
    pub fn finish(mut self) -> Finished {
        self.process.take().expect("not finished before").finish()
    }

    /// Kills it. Returns what it said on its standard error.
    pub fn kill(mut self) -> String {
        self.process.take().expect("not finished before").kill()
    }

    /// The most memory that it has ever used, in bytes.
    pub fn peak_memory(&self) -> usize {
        let path = format!("/proc/{}/status", self.process().id());
        let status = fs::read_to_string(path).expect("it runs, on Linux");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|line| line.trim().strip_suffix(" kB")).expect("in kB");
        peak.parse::<usize>().expect("a number") * 1024
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("not finished")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let stderr = process.kill();
        if !thread::panicking() {
            assert_eq!(stderr, "", "the server complained");
        }
    }
}

/// A process that waits to interrupt a server, so that it does not take the time to start one.
#[derive(Debug)]
pub struct CtrlC(Process);

impl CtrlC {
    pub fn press(mut self) {
        self.0.take_stdin().write_all(b"\n").expect("it reads");
        assert_eq!(self.0.finish().code, Some(0));
    }
}
