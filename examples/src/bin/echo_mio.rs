//! An echo server on one thread with mio: `cargo run --release --bin echo_mio`.
//!
//! One read buffer and one output serve all connections; a peer has an output of its own only while
//! it is slow. One wheel holds all deadlines.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use clap::Parser;
use examples::{Next, Options, Scratch, Server, Session, Socket};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use wsforge_core::{Timestamp, Wheel};

/// How exact deadlines are.
const TICK: Duration = Duration::from_millis(500);
const LISTENER: Token = Token(usize::MAX);
const STOP: Token = Token(usize::MAX - 1);

struct Peer {
    socket: TcpStream,
    session: Session,
    /// When the wheel wakes it.
    alarm: Timestamp,
}

struct Loop {
    poll: Poll,
    peers: Slab<Peer>,
    wheel: Wheel<usize>,
    scratch: Scratch,
    server: Server,
    /// Peers that have more to do.
    again: Vec<usize>,
    /// Whether peers may be waiting that could not be accepted.
    accept_again: bool,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let mut listener = TcpListener::bind(options.address())?;
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let waker = Waker::new(poll.registry(), STOP)?;
    ctrlc::set_handler(move || drop(waker.wake())).map_err(io::Error::other)?;
    Options::announce(listener.local_addr()?);

    let server = Server::new(&options);
    let wheel = Wheel::new(TICK, 256, server.now());
    let (peers, scratch, again) = (Slab::new(), Scratch::default(), Vec::new());
    Loop { poll, peers, wheel, scratch, server, again, accept_again: false }.run(listener)
}

impl Loop {
    fn run(&mut self, listener: TcpListener) -> io::Result<()> {
        let (mut events, mut listener) = (Events::with_capacity(1024), Some(listener));
        while listener.is_some() || !self.peers.is_empty() {
            let timeout = if !self.again.is_empty() {
                Some(Duration::ZERO)
            } else if self.accept_again {
                Some(Duration::from_millis(100))
            } else {
                (!self.wheel.is_empty()).then_some(TICK)
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let mut ready: Vec<usize> = std::mem::take(&mut self.again);
            for event in &events {
                match event.token() {
                    LISTENER => self.accept_again = true,
                    STOP => {
                        self.server.stop();
                        listener = None;
                        ready.extend(self.peers.iter().map(|(key, _)| key));
                    }
                    Token(key) => ready.push(key),
                }
            }
            if self.accept_again
                && let Some(listener) = &listener
            {
                self.accept_again = self.accept(listener).is_err();
            }
            let now = self.server.now();
            ready.extend(self.wheel.expire(now));
            ready.into_iter().for_each(|key| self.turn(key, now));
        }
        Ok(())
    }

    /// Accepts all that are waiting.
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let mut socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // It went away before its turn came.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    // Out of descriptors: connections that end give some back.
                    eprintln!("cannot accept: {error}");
                    return Err(error);
                }
            };
            socket.set_nodelay(true)?;
            let entry = self.peers.vacant_entry();
            let interests = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, Token(entry.key()), interests)?;
            let session = Session::new(&self.server);
            let alarm = session.next_timeout().unwrap_or_default();
            self.wheel.insert(entry.key(), alarm);
            entry.insert(Peer { socket, session, alarm });
        }
    }

    /// A turn of a peer, which may have gone since it was found ready.
    fn turn(&mut self, key: usize, now: Timestamp) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let socket = &mut Mio(&mut peer.socket);
        match peer.session.turn(socket, &self.server, now, &mut self.scratch) {
            Ok(Next::Read | Next::Write) => {}
            Ok(Next::Again) => self.again.push(key),
            // An error ends this connection and is its peer's affair.
            Ok(Next::End) | Err(_) => return drop(self.peers.remove(key)),
        }
        if peer.alarm <= now {
            peer.alarm = Timestamp::from_millis(u64::MAX);
        }
        if let Some(at) = peer.session.next_timeout()
            && at < peer.alarm
        {
            peer.alarm = at;
            self.wheel.insert(key, at);
        }
    }
}

struct Mio<'a>(&'a mut TcpStream);

impl Socket for Mio<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(slices)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }
}
