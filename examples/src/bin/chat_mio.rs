//! A chat with rooms on one thread with mio: `cargo run --release --bin chat_mio`.
//!
//! `/join ROOM` and `/leave ROOM` change the rooms that a client is in; every other text goes to all
//! others in them. What a turn of the loop produces for a peer leaves in one write at the turn's end.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use wsforge_core::handshake::{Accept, Opening, Response};
use wsforge_core::hub::{Audience, Class, Hub, Mailbox, MailboxLimits, MemberId, Offer, Run};
use wsforge_core::hub::{SharedFrame, SubscribeError};
use wsforge_core::{
    CloseCode, Config, Event, Input, Kind, Message, Output, ServerConnection, Shutdown, State,
    Timestamp, Wheel,
};

/// How exact deadlines are.
const TICK: Duration = Duration::from_millis(500);
/// How long a peer may take for its handshake, and to read anything of what it is sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest message, in bytes.
const MAX_MESSAGE: u64 = 64 * 1024;
const LISTENER: Token = Token(usize::MAX);

/// A chat with rooms.
#[derive(Debug, Parser)]
struct Arguments {
    /// The port to listen on; 0 takes any that is free.
    #[arg(long, default_value_t = 9001)]
    port: u16,
}

fn main() -> io::Result<()> {
    let Arguments { port } = Arguments::parse();
    let mut listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on ws://{}/", listener.local_addr()?);
    Chat::new().run(poll, &listener)
}

struct Chat {
    peers: Slab<Peer>,
    hub: Hub,
    /// Where the members of the hub are among the peers.
    keys: Vec<usize>,
    wheel: Wheel<usize>,
    /// Peers that have something to write, or may have something to read.
    touched: Vec<usize>,
    ready: Vec<usize>,
    buf: Vec<u8>,
    config: Arc<Config>,
    limits: MailboxLimits,
    epoch: Instant,
    /// Whether peers may be waiting that could not be accepted.
    accept_again: bool,
}

impl Chat {
    fn new() -> Self {
        let mut config = Config::default();
        config.max_frame_len = MAX_MESSAGE;
        config.max_message_len = MAX_MESSAGE;
        Self {
            peers: Slab::new(),
            hub: Hub::new(),
            keys: Vec::new(),
            wheel: Wheel::new(TICK, 256, Timestamp::ZERO),
            touched: Vec::new(),
            ready: Vec::new(),
            buf: vec![0; 128 * 1024],
            config: Arc::new(config),
            limits: MailboxLimits::default(),
            epoch: Instant::now(),
            accept_again: false,
        }
    }

    fn run(&mut self, mut poll: Poll, listener: &TcpListener) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = if self.ready.is_empty() { TICK } else { Duration::ZERO };
            match poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = Timestamp::from_millis(self.epoch.elapsed().as_millis() as u64);
            for event in &events {
                match event.token() {
                    LISTENER => self.accept_again = true,
                    Token(key) => self.ready.push(key),
                }
            }
            if self.accept_again {
                self.accept_again = self.accept(&poll, listener, now).is_err();
            }
            self.touched.extend(self.wheel.expire(now));
            for key in mem::take(&mut self.ready) {
                self.read(key, now);
            }
            // The end of the turn: each peer gets all that it produced in one write.
            while let Some(key) = self.touched.pop() {
                self.write(key, now);
            }
        }
    }

    fn accept(&mut self, poll: &Poll, listener: &TcpListener, now: Timestamp) -> io::Result<()> {
        loop {
            let mut socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                // Out of descriptors: tried again when connections have had the time to end.
                Err(error) => return Err(error),
            };
            socket.set_nodelay(true)?;
            let entry = self.peers.vacant_entry();
            let interests = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut socket, Token(entry.key()), interests)?;
            let deadline = now + PATIENCE;
            self.wheel.insert(entry.key(), deadline);
            entry.insert(Peer::new(socket, deadline));
        }
    }

    /// Reads once, unless the peer has not read what it was sent before.
    fn read(&mut self, key: usize, now: Timestamp) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        self.touched.push(key);
        if peer.is_blocked {
            return;
        }
        let mut input = match peer.socket.read(&mut self.buf) {
            Ok(0) => return peer.has_ended = true,
            Ok(n) => Input::new(&mut self.buf[..n], now),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                return self.ready.push(key);
            }
            Err(_) => return peer.has_ended = true,
        };
        // There may be more, but others come first.
        self.ready.push(key);
        if let Phase::Opening(accept) = &mut peer.phase {
            let conn = match accept.receive(&mut input, &mut peer.output) {
                Opening::More => return,
                Opening::Refused(_) => None,
                Opening::Request(request) => {
                    request.accept(&Response::default(), self.config.clone(), &mut peer.output).ok()
                }
            };
            peer.deadline = None;
            peer.id = conn.as_ref().map(|conn| self.hub.join(conn.variant()));
            if let Some(id) = peer.id {
                self.keys.resize(self.keys.len().max(id.index() + 1), 0);
                self.keys[id.index()] = key;
            }
            peer.phase = Phase::Open(
                conn.unwrap_or_else(|| ServerConnection::refused(self.config.clone(), now)),
            );
        }
        let mut said = Vec::new();
        if let Phase::Open(conn) = &mut peer.phase {
            while let Some(event) = conn.next_event(&mut input, &mut peer.output) {
                if let Event::Message(Message::Text(text)) = event {
                    said.push(text.into_string());
                }
            }
        }
        if let Some(id) = peer.id {
            for text in said {
                self.handle(key, id, &text, now);
            }
        }
    }

    fn handle(&mut self, key: usize, id: MemberId, text: &str, now: Timestamp) {
        match text.split_once(' ') {
            Some(("/join", room)) => match self.hub.subscribe(id, room) {
                Ok(_) => {}
                Err(error) => self.refuse(key, error),
            },
            Some(("/leave", room)) => drop(self.hub.unsubscribe(id, room)),
            _ => {
                let rooms: Vec<String> = self.hub.groups(id).map(Into::into).collect();
                for room in rooms {
                    self.broadcast(&room, id, text, now);
                }
            }
        }
    }

    fn refuse(&mut self, key: usize, error: SubscribeError) {
        let peer = &mut self.peers[key];
        if let Phase::Open(conn) = &mut peer.phase {
            let _ = conn.send(Kind::Text, &error.to_string(), &mut peer.output);
        }
    }

    /// Says `text` to the others in `room`: encoded once, queued for each, written at the turn's end.
    fn broadcast(&mut self, room: &str, from: MemberId, text: &str, now: Timestamp) {
        let frame = SharedFrame::new(Kind::Text, format!("{room}: {text}").as_bytes());
        for target in self.hub.plan(Audience::GroupExcept(room, from)) {
            let key = self.keys[target.member.index()];
            let Some(peer) = self.peers.get_mut(key) else { continue };
            let bytes = frame.get(target.variant).clone();
            let run = Run { bytes, frames: 1, class: Class::Broadcast, key: None, policy: None };
            match peer.mailbox.offer(run, &self.limits) {
                Offer::Queued { wake: true, .. } => self.touched.push(key),
                Offer::Queued { .. } | Offer::Dropped(_) | Offer::Refused(_) => {}
                Offer::Evict(_, code) => {
                    peer.close(code, "too slow", now);
                    self.touched.push(key);
                }
            }
        }
    }

    /// Writes what waits for a peer, looks at its deadlines, and lets it go when its time has come.
    fn write(&mut self, key: usize, now: Timestamp) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let was_blocked = peer.is_blocked;
        let lives = peer.turn(now).unwrap_or(false);
        if was_blocked && !peer.is_blocked {
            self.ready.push(key);
        }
        // A peer that is closing is told nothing more.
        if (!lives || !peer.is_open())
            && let Some(id) = peer.id.take()
        {
            self.hub.leave(id);
        }
        if !lives {
            drop(self.peers.remove(key));
        } else if let Some(at) = peer.next_timeout()
            && (at < peer.alarm || peer.alarm <= now)
        {
            peer.alarm = at;
            self.wheel.insert(key, at);
        }
    }
}

struct Peer {
    socket: TcpStream,
    phase: Phase,
    id: Option<MemberId>,
    /// What the connection itself sends, and what the socket has begun to take.
    output: Output,
    /// What others have said.
    mailbox: Mailbox,
    /// When the handshake, or a blocked write, has taken too long.
    deadline: Option<Timestamp>,
    /// When the wheel wakes it.
    alarm: Timestamp,
    /// Whether the socket has refused some of the output. Then nothing is added to that but control
    /// frames, and nothing is read.
    is_blocked: bool,
    has_ended: bool,
    half_closed: bool,
}

enum Phase {
    Opening(Accept),
    Open(ServerConnection),
}

impl Peer {
    fn new(socket: TcpStream, deadline: Timestamp) -> Self {
        Self {
            socket,
            phase: Phase::Opening(Accept::default()),
            id: None,
            output: Output::new(),
            mailbox: Mailbox::new(),
            deadline: Some(deadline),
            alarm: deadline,
            is_blocked: false,
            has_ended: false,
            half_closed: false,
        }
    }

    fn is_open(&self) -> bool {
        matches!(&self.phase, Phase::Open(conn) if conn.state() == State::Open)
    }

    fn close(&mut self, code: CloseCode, reason: &str, now: Timestamp) {
        if let Phase::Open(conn) = &mut self.phase {
            conn.close(code, reason, now, &mut self.output);
        }
    }

    fn next_timeout(&self) -> Option<Timestamp> {
        let conn = match &self.phase {
            Phase::Opening(_) => None,
            Phase::Open(conn) => conn.next_timeout(),
        };
        [self.deadline, conn].into_iter().flatten().min()
    }

    /// Does what is due and writes what there is. `Ok(false)`: it is over.
    fn turn(&mut self, now: Timestamp) -> io::Result<bool> {
        let Phase::Open(conn) = &mut self.phase else {
            let is_late = self.deadline.is_some_and(|deadline| deadline <= now);
            return Ok(!is_late && !self.has_ended);
        };
        if self.has_ended {
            let _ = conn.handle_eof();
        } else if conn.wants_shutdown() != Some(Shutdown::Both) {
            let _ = conn.handle_timeout(now, &mut self.output);
            if conn.wants_shutdown() == Some(Shutdown::Both) {
                return Ok(false);
            }
        }
        if conn.state() != State::Open {
            // Nothing may follow a Close.
            drop(self.mailbox.take());
        }
        loop {
            if !self.is_blocked {
                self.mailbox.drain_into(&mut self.output);
            }
            let before = self.output.len();
            if !self.output.write_to(|slices| self.socket.write_vectored(slices))? {
                self.is_blocked = true;
                conn.pause(now);
                // Who reads a little at a time gets more time, but not for the rest when all is over.
                let progress = self.output.len() < before && conn.state() != State::Closed;
                match self.deadline {
                    Some(deadline) if !progress => return Ok(deadline > now),
                    _ => self.deadline = Some(now + PATIENCE),
                }
                return Ok(true);
            }
            if !mem::take(&mut self.is_blocked) {
                break;
            }
            self.deadline = None;
            conn.resume(now);
        }
        self.deadline = None;
        match conn.wants_shutdown() {
            Some(Shutdown::Both) => return Ok(false),
            Some(Shutdown::Write) if !self.half_closed => {
                self.half_closed = true;
                self.socket.shutdown(std::net::Shutdown::Write)?;
            }
            Some(Shutdown::Write) | None => {}
        }
        Ok(true)
    }
}
