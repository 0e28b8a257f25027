use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use super::PATIENCE;

/// A program that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Its output, line by line; disconnected when it has ended.
    stdout: Receiver<String>,
    /// All that it says there, once it has ended.
    stderr: Receiver<String>,
}

/// What a program has left.
#[derive(Debug, Eq, PartialEq)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: Vec<String>,
    pub stderr: String,
}

impl Process {
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program is built");
        let (lines, stdout) = mpsc::channel();
        let from = BufReader::new(child.stdout.take().expect("piped"));
        thread::spawn(move || from.lines().map_while(Result::ok).try_for_each(|l| lines.send(l)));
        let (all, stderr) = mpsc::channel();
        let mut from = child.stderr.take().expect("piped");
        thread::spawn(move || {
            let mut text = Vec::new();
            let _ = from.read_to_end(&mut text);
            all.send(String::from_utf8_lossy(&text).into_owned())
        });
        Self { child, stdout, stderr }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its input, which ends when this is dropped.
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("taken once")
    }

    /// The next line of its output.
    pub fn line(&self) -> String {
        self.stdout.recv_timeout(PATIENCE).expect("a line of output")
    }

    /// Waits until it has ended by itself.
    pub fn finish(mut self) -> Finished {
        let mut stdout = Vec::new();
        loop {
            match self.stdout.recv_timeout(PATIENCE) {
                Ok(line) => stdout.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it neither talks nor ends"),
            }
        }
        let stderr = self.stderr.recv_timeout(PATIENCE).expect("its end");
        Finished { code: self.child.wait().expect("our child").code(), stdout, stderr }
    }

    /// Ends it, and returns what it said on its standard error.
    pub fn kill(&mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.stderr.recv_timeout(PATIENCE).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
