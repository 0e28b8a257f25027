//! Members, held by other processes of this program.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use std::{env, thread};

use crate::Arguments;
use crate::peer::{self, Stamp};
use crate::server::{self, Server};

/// Nothing that works takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Crowd {
    holders: Vec<Child>,
    lines: Receiver<String>,
    /// By message: how many processes have it everywhere, and since when.
    arrived: BTreeMap<u32, (usize, u64)>,
    publisher: TcpStream,
    size: usize,
    number: u32,
}

impl Crowd {
    /// Lets so many join.
    pub(crate) fn gather(
        arguments: &Arguments,
        server: &Server,
        members: usize,
    ) -> Result<Self, Box<dyn Error>> {
        let (tell, lines) = channel();
        let publisher = peer::connect(server.address, "/plain", Ipv4Addr::LOCALHOST, None)?;
        let (arrived, size) = (BTreeMap::new(), arguments.size);
        let mut this = Self { holders: Vec::new(), lines, arrived, publisher, size, number: 0 };
        let each = server::descriptors(None)?;
        for first in (0..members).step_by(each) {
            let mut holder = Command::new(env::current_exe()?)
                .args(["--scenario", "hold", "--url", &format!("ws://{}/", server.address)])
                .args(["--pid", &server.pid.to_string(), "--size", &size.to_string()])
                .args(["--first", &first.to_string()])
                .args(["--members", &each.min(members - first).to_string()])
                .stdout(Stdio::piped())
                .spawn()?;
            let output = holder.stdout.take().ok_or("no output")?;
            this.holders.push(holder);
            let tell: Sender<_> = tell.clone();
            thread::spawn(move || {
                let lines = BufReader::new(output).lines().map_while(Result::ok);
                lines.chain(["over".to_owned()]).try_for_each(|line| tell.send(line))
            });
        }
        for _ in 0..this.holders.len() {
            this.hear("ready")?;
        }
        Ok(this)
    }

    /// How many processes hold them.
    pub(crate) fn processes(&self) -> usize {
        self.holders.len()
    }

    /// Sends to all. After the last one of a part it is to be known how long all took.
    pub(crate) fn send(&mut self, report: bool) -> Result<u64, Box<dyn Error>> {
        self.number += 1;
        let stamp = Stamp { number: self.number, report, sent: crate::now() };
        self.publisher.write_all(&peer::frame(&stamp.message(self.size), true))?;
        Ok(stamp.sent)
    }

    /// Waits until the oldest message that is under way has arrived everywhere; says when the last one got it.
    pub(crate) fn arrived(&mut self) -> Result<u64, Box<dyn Error>> {
        loop {
            let line = self.hear("got ")?;
            let (number, at) = line.split_once(' ').ok_or_else(|| line.clone())?;
            let (number, at): (u32, u64) = (number.parse()?, at.parse()?);
            let (processes, last) = self.arrived.entry(number).or_default();
            (*processes, *last) = (*processes + 1, at.max(*last));
            let last = *last;
            if *processes == self.holders.len() {
                self.arrived.remove(&number);
                return Ok(last);
            }
        }
    }

    /// What is known of how long messages took, when the last of a part has arrived: of each process.
    pub(crate) fn latencies(&self) -> Result<Vec<String>, Box<dyn Error>> {
        (0..self.holders.len()).map(|_| self.hear("latency ")).collect()
    }

    fn hear(&self, what: &str) -> Result<String, Box<dyn Error>> {
        let line = self.lines.recv_timeout(PATIENCE)?;
        match line.strip_prefix(what) {
            Some(rest) => Ok(rest.to_owned()),
            None => Err(format!("in the place of {what:?}: {line:?}").into()),
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}
