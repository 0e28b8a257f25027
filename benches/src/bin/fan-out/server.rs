//! The server, and what is known of its process.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::{env, fs, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Arguments;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    started: Option<Child>,
}

impl Server {
    /// The one that runs, or one that ends when this is dropped.
    pub(crate) fn of(arguments: &Arguments) -> Result<Self, Box<dyn Error>> {
        raise_limit()?;
        if let Some(pid) = arguments.pid {
            return Ok(Self { address: arguments.address()?, pid, started: None });
        }
        let program = env::current_exe()?.with_file_name("bench-server");
        let mut command = match &arguments.server_cpus {
            // It becomes the program, so the process is the server's.
            Some(cpus) => {
                let mut taskset = Command::new("taskset");
                taskset.args(["-c", cpus]).arg(program);
                taskset
            }
            None => Command::new(program),
        };
        command.args(["--port", "0", "--mode", "mixed"]).args(&arguments.server);
        let started = Some(command.stdout(Stdio::piped()).spawn()?);
        let mut this = Self { address: ([0; 4], 0).into(), pid: 0, started };
        if let Some(started) = &mut this.started {
            this.pid = started.id();
            let mut line = String::new();
            BufReader::new(started.stdout.take().ok_or("no output")?).read_line(&mut line)?;
            let url = line.trim().strip_prefix("listening on ").map(Into::into);
            this.address = Arguments { url, ..arguments.clone() }.address()?;
        }
        Ok(this)
    }

    /// How many members it can have.
    pub(crate) fn room(&self) -> Result<usize, Box<dyn Error>> {
        descriptors(Some(self.pid))
    }

    /// The nanoseconds for which its threads have run.
    pub(crate) fn cpu(&self) -> io::Result<u64> {
        let mut sum = 0;
        for thread in fs::read_dir(self.file("task"))? {
            let known = fs::read_to_string(thread?.path().join("schedstat"))?;
            sum += known.split(' ').next().and_then(|ran| ran.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(sum)
    }

    /// Its memory, in KiB.
    pub(crate) fn memory(&self) -> io::Result<u64> {
        let status = fs::read_to_string(self.file("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        Ok(number.unwrap_or_default())
    }

    fn file(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.pid).into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(started) = &mut self.started {
            let _ = started.kill();
            let _ = started.wait();
        }
    }
}

/// How many connections a process can have, this one without `pid`.
pub(crate) fn descriptors(pid: Option<u32>) -> Result<usize, Box<dyn Error>> {
    /// Enough for what else it has open.
    const OTHERS: usize = 64;
    let pid = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let limit = line.and_then(|line| line.split_whitespace().next()).ok_or("no limit")?;
    Ok(limit.parse::<usize>().unwrap_or(usize::MAX).saturating_sub(OTHERS).max(1))
}

/// As far as it may, for those that this starts too.
fn raise_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    // Only who is privileged may go further.
    let more = Some(1 << 20);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: more, maximum: more });
    Ok(())
}
