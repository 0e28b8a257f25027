//! A process that holds members, and says on its output what they get.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{ErrorKind, Read};
use std::net::Ipv4Addr;

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::peer::{self, Stamp};
use crate::{Arguments, histogram, now, quantiles};

/// So many share an address: it has some 28,000 ports, and those of earlier runs are not free at once.
const PER_ADDRESS: usize = 5_000;

/// More than many messages, or a part of a large one.
const BUFFER: usize = 256 * 1024;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    // Whoever measures echoes is to have the core when it needs it.
    rustix::process::nice(5)?;
    let (to, members) = (arguments.address()?, arguments.members.unwrap_or_default());
    let mut poll = Poll::new()?;
    let mut peers = Vec::with_capacity(members);
    for n in arguments.first..arguments.first + members {
        let stream = peer::connect(to, "/", address(n), None)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(peers.len()), Interest::READABLE)?;
        peers.push(Peer { stream, kept: Vec::new() });
    }
    println!("ready");
    let frame = peer::frame(&vec![0; arguments.size.max(Stamp::LEN)], false);
    let header = frame.len() - arguments.size.max(Stamp::LEN);
    let mut seen = Seen { members, counts: BTreeMap::new(), latency: histogram() };
    let (mut events, mut buffer) =
        (Events::with_capacity(1024), vec![0; BUFFER.max(2 * frame.len())]);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            peers[event.token().0].read(&mut buffer, frame.len(), |frame| {
                let stamp = Stamp::of(&frame[header..]).filter(|_| frame[0] == 0x82);
                seen.count(stamp.ok_or("not what was sent")?);
                Ok(())
            })?;
        }
    }
}

/// The `n`th's. Each run has others, as ports are not free at once.
fn address(n: usize) -> Ipv4Addr {
    let run = std::os::unix::process::parent_id() % 250 + 1;
    Ipv4Addr::new(127, run as u8, (n / PER_ADDRESS) as u8, 1)
}

struct Peer {
    stream: TcpStream,
    /// The beginning of a frame.
    kept: Vec<u8>,
}

impl Peer {
    /// Reads what is there, which is frames of `len` bytes.
    fn read(
        &mut self,
        buffer: &mut [u8],
        len: usize,
        mut each: impl FnMut(&[u8]) -> Result<(), Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        loop {
            let kept = self.kept.len();
            buffer[..kept].copy_from_slice(&self.kept);
            let room = &mut buffer[kept..];
            let n = match self.stream.read(room) {
                Ok(0) => return Err("the server has closed a member".into()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let emptied = n < room.len();
            let frames = buffer[..kept + n].chunks_exact(len);
            self.kept.clear();
            self.kept.extend(frames.remainder());
            frames.into_iter().try_for_each(&mut each)?;
            if emptied {
                return Ok(());
            }
        }
    }
}

/// What all members have got.
struct Seen {
    members: usize,
    /// How many have got which message.
    counts: BTreeMap<u32, usize>,
    latency: Histogram<u64>,
}

impl Seen {
    fn count(&mut self, stamp: Stamp) {
        let now = now();
        self.latency.saturating_record(now.saturating_sub(stamp.sent));
        let count = self.counts.entry(stamp.number).or_default();
        *count += 1;
        if *count < self.members {
            return;
        }
        self.counts.remove(&stamp.number);
        println!("got {} {now}", stamp.number);
        if stamp.report {
            println!("latency {}", quantiles(&self.latency));
            self.latency.reset();
        }
    }
}
