use std::io::{self, ErrorKind, IoSlice};
use std::mem;

use wsforge_core::handshake::{Accept, Opening, Reject, Request, RequestError, Response};
use wsforge_core::{
    CloseCode, Event, Input, Message, Output, SendThroughError, ServerConnection, Shutdown, State,
    Timestamp,
};

use crate::{Scratch, Server};

/// A socket as a session sees it; one that would block, or has waited long enough, says so with
/// [`ErrorKind::WouldBlock`].
pub trait Socket {
    /// Reads before it is somebody else's turn.
    const READS_PER_TURN: usize = 16;

    /// Reads what is there; 0 at the end.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes some of it.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ends the writing side.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

/// What a session waits for after a turn, its [next timeout](Session::next_timeout) aside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Nothing: there is more to do, when others have had their turn.
    Again,
    /// The end: close the socket.
    End,
    /// The socket can be read.
    Read,
    /// The socket can be written.
    Write,
}

/// A peer of an echo server, from its first byte to its last.
///
/// It drives the core and takes the decisions that the core leaves to a driver: how to answer which
/// request, what to do with a message, and how long to wait for a peer that does not read.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    /// What the socket would not take.
    backlog: Option<Box<Output>>,
    /// Input that waits until the output has been written.
    parked: Option<Box<Parked>>,
    /// When the opening handshake takes too long, or, after it, a write.
    deadline: Option<Timestamp>,
    half_closed: bool,
}

#[derive(Debug)]
enum Phase {
    Opening(Accept),
    Open(ServerConnection),
}

#[derive(Debug)]
struct Parked {
    bytes: Vec<u8>,
    at: usize,
}

/// Messages from this length on are offered to the socket before they are copied. Below, copying
/// costs less than a system call of their own.
const SEND_THROUGH: usize = 1024;

impl Session {
    /// Waits for a request.
    pub fn new(server: &Server) -> Self {
        Self {
            phase: Phase::Opening(Accept::default()),
            backlog: None,
            parked: None,
            deadline: Some(server.now() + server.handshake_timeout),
            half_closed: false,
        }
    }

    /// Does all that can be done without waiting: what is due, then writing and reading in turns until
    /// the socket has nothing to give, or takes nothing more.
    ///
    /// # Errors
    ///
    /// The socket failed, or the peer took too long to read: close it.
    pub fn turn<S: Socket>(
        &mut self,
        socket: &mut S,
        server: &Server,
        now: Timestamp,
        scratch: &mut Scratch,
    ) -> io::Result<Next> {
        // A backlog takes the thread's place for the turn; nothing of it is copied.
        let mut backlog = self.backlog.take();
        if let Some(backlog) = &mut backlog {
            mem::swap(&mut **backlog, &mut scratch.output);
        }
        let next = self.work(socket, server, now, scratch);
        if let Some(mut backlog) = backlog {
            mem::swap(&mut *backlog, &mut scratch.output);
            self.backlog = (!backlog.is_empty()).then_some(backlog);
        } else if !scratch.output.is_empty() {
            self.backlog = Some(Box::new(scratch.output.take_unsent()));
        }
        next
    }

    /// When the next turn is due, even if the socket stays as it is.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let conn = match &self.phase {
            Phase::Opening(_) => None,
            Phase::Open(conn) => conn.next_timeout(),
        };
        [self.deadline, conn].into_iter().flatten().min()
    }

    fn work<S: Socket>(
        &mut self,
        socket: &mut S,
        server: &Server,
        mut now: Timestamp,
        Scratch { buf, output }: &mut Scratch,
    ) -> io::Result<Next> {
        if server.is_stopping() {
            match &mut self.phase {
                Phase::Opening(_) => return Ok(Next::End),
                Phase::Open(conn) => {
                    conn.close(CloseCode::GOING_AWAY, "the server stops", now, output);
                }
            }
        }
        self.handle_timeout(server, now, output)?;
        for _ in 0..S::READS_PER_TURN {
            // A peer that does not read is not read from: what it owes us stays bounded.
            if !self.write(socket, server, now, output)? {
                return Ok(Next::Write);
            }
            if let Some(parked) = self.parked.take() {
                self.resume(parked, socket, server, now, output)?;
                continue;
            }
            match self.wants_shutdown() {
                Some(Shutdown::Both) => return Ok(Next::End),
                Some(Shutdown::Write) if !self.half_closed => {
                    self.half_closed = true;
                    socket.shutdown_write()?;
                }
                Some(Shutdown::Write) | None => {}
            }
            match socket.read(buf) {
                Ok(0) => match &mut self.phase {
                    Phase::Opening(_) => return Ok(Next::End),
                    Phase::Open(conn) => {
                        let _ = conn.handle_eof();
                    }
                },
                Ok(n) => {
                    // Where reading waits, it is later now.
                    now = server.now();
                    // A socket that claims more than there is room for is no socket.
                    let bytes = buf.get_mut(..n).ok_or(ErrorKind::InvalidData)?;
                    self.receive(bytes, socket, server, now, output)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::Read),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Next::Again)
    }

    fn handle_timeout(
        &mut self,
        server: &Server,
        now: Timestamp,
        output: &mut Output,
    ) -> io::Result<()> {
        match &mut self.phase {
            Phase::Opening(_) if self.deadline.is_some_and(|deadline| deadline <= now) => {
                let slow = Reject { status: 408, headers: &[], body: b"too slow" };
                slow.write(output).expect("a valid answer");
                let refused = ServerConnection::refused(server.config.clone(), now);
                self.phase = Phase::Open(refused);
                self.deadline = None;
            }
            Phase::Open(conn) if conn.wants_shutdown() != Some(Shutdown::Both) => {
                let _ = conn.handle_timeout(now, output);
                // No time is left, not even for what is still to be written.
                if conn.wants_shutdown() == Some(Shutdown::Both) {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
            Phase::Opening(_) | Phase::Open(_) => {}
        }
        Ok(())
    }

    /// Writes the output; whether all of it is gone.
    fn write(
        &mut self,
        socket: &mut impl Socket,
        server: &Server,
        now: Timestamp,
        output: &mut Output,
    ) -> io::Result<bool> {
        let before = output.len();
        if before == 0 {
            return Ok(true);
        }
        let done = output.write_to(|slices| socket.write(slices))?;
        let Phase::Open(conn) = &mut self.phase else { return Ok(done) };
        if done {
            self.deadline = None;
            conn.resume(now);
            return Ok(true);
        }
        // While we do not read, its pongs cannot arrive.
        conn.pause(now);
        // Who reads a little at a time gets more time, but not for the rest when all is over.
        let progress = output.len() < before && conn.state() != State::Closed;
        match self.deadline {
            // Judged only now: the socket may have taken something since it last said so.
            Some(deadline) if !progress => {
                if deadline <= now {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
            _ => self.deadline = Some(now + server.write_timeout),
        }
        Ok(false)
    }

    fn receive(
        &mut self,
        bytes: &mut [u8],
        socket: &mut impl Socket,
        server: &Server,
        now: Timestamp,
        output: &mut Output,
    ) -> io::Result<()> {
        let mut input = Input::new(bytes, now);
        self.handle_input(&mut input, socket, server, output)?;
        if !input.is_empty() {
            let bytes = input.remaining().to_vec();
            self.parked = Some(Box::new(Parked { bytes, at: 0 }));
        }
        Ok(())
    }

    fn resume(
        &mut self,
        mut parked: Box<Parked>,
        socket: &mut impl Socket,
        server: &Server,
        now: Timestamp,
        output: &mut Output,
    ) -> io::Result<()> {
        let mut input = Input::new(&mut parked.bytes[parked.at..], now);
        self.handle_input(&mut input, socket, server, output)?;
        let left = input.len();
        if left > 0 {
            parked.at = parked.bytes.len() - left;
            self.parked = Some(parked);
        }
        Ok(())
    }

    fn handle_input(
        &mut self,
        input: &mut Input<'_>,
        socket: &mut impl Socket,
        server: &Server,
        output: &mut Output,
    ) -> io::Result<()> {
        if let Phase::Opening(accept) = &mut self.phase {
            let conn = match accept.receive(input, output) {
                Opening::More => return Ok(()),
                Opening::Refused(_) => None,
                Opening::Request(request) => answer(&request, server, output),
            };
            self.phase = Phase::Open(conn.unwrap_or_else(|| {
                // Some other answer is in the output.
                ServerConnection::refused(server.config.clone(), input.now())
            }));
            self.deadline = None;
        }
        let Phase::Open(conn) = &mut self.phase else { return Ok(()) };
        while output.len() <= server.config.high_water
            && let Some(event) = conn.next_event(input, output)
        {
            if let Event::Message(message) = event {
                echo(&message, conn, socket, output)?;
            }
        }
        Ok(())
    }

    const fn wants_shutdown(&self) -> Option<Shutdown> {
        match &self.phase {
            Phase::Opening(_) => None,
            Phase::Open(conn) => conn.wants_shutdown(),
        }
    }
}

/// Sends a message back, a large one from where it lies.
#[inline]
fn echo(
    message: &Message<'_>,
    conn: &mut ServerConnection,
    socket: &mut impl Socket,
    output: &mut Output,
) -> io::Result<()> {
    let (kind, body) = (message.kind(), message.as_bytes());
    if body.len() < SEND_THROUGH {
        // This fails only when we are closing, and then nobody waits for an echo.
        let _ = conn.send(kind, body, output);
        return Ok(());
    }
    let sent = conn.send_through(kind, body, output, |[head, body]| {
        match socket.write(&[IoSlice::new(head), IoSlice::new(body)]) {
            Err(error) if would_block(&error) => Ok(0),
            written => written,
        }
    });
    match sent {
        Ok(()) | Err(SendThroughError::Send(_)) => Ok(()),
        Err(SendThroughError::Write(error)) => Err(error),
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Answers a request: an upgrade with a connection, a browser with a page.
fn answer(request: &Request<'_>, server: &Server, output: &mut Output) -> Option<ServerConnection> {
    const HTML: (&str, &[u8]) = ("Content-Type", b"text/html; charset=utf-8");
    let page = match (request.upgrade(), request.path()) {
        (Err(RequestError::NotUpgrade), "/") => {
            Reject { status: 200, headers: &[HTML], body: include_bytes!("page.html") }
        }
        (Err(RequestError::NotUpgrade), _) => {
            Reject { status: 404, headers: &[], body: b"the page is at /" }
        }
        // If it fails, the output says why.
        _ => return request.accept(&Response::default(), server.config.clone(), output).ok(),
    };
    request.reject(&page, output).expect("a valid answer");
    None
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use clap::Parser;
    use wsforge_core::frame::{Header, MAX_HEADER_LEN, Opcode};
    use wsforge_core::mask;

    use super::*;
    use crate::Options;

    /// A socket in memory.
    #[derive(Default)]
    struct Memory {
        input: VecDeque<Vec<u8>>,
        /// How much more it takes.
        room: usize,
        taken: usize,
        /// What it claims beyond what it reads.
        lie: usize,
    }

    impl Socket for Memory {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let bytes = self.input.pop_front().ok_or(ErrorKind::WouldBlock)?;
            buf[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len() + self.lie)
        }

        fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            let taken = offered.min(self.room);
            self.room -= taken;
            self.taken += taken;
            if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
        }

        fn shutdown_write(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LEN: usize = 300_000;

    /// A client that asks for an echo of `LEN` bytes and has read nothing yet.
    fn blocked(write_timeout: &str) -> (Session, Memory, Server, Scratch) {
        blocked_by(LEN, &[], write_timeout)
    }

    /// As [`blocked`], with an echo of `len` bytes, and `behind` in the same read.
    fn blocked_by(
        len: usize,
        behind: &[u8],
        write_timeout: &str,
    ) -> (Session, Memory, Server, Scratch) {
        let options = ["echo", "--write-timeout", write_timeout, "--idle-timeout", "1000"];
        let server = Server::new(&Options::parse_from(options));
        let head = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let mut bytes = [0; MAX_HEADER_LEN];
        let opcode = Opcode::Binary;
        let header =
            Header { fin: true, rsv1: false, opcode, mask: Some([1, 2, 3, 4]), len: len as u64 };
        let head_len = header.encode(&mut bytes);
        let mut frame = bytes[..head_len].to_vec();
        frame.resize(head_len + len, 7);
        mask::apply(&mut frame[head_len..], [1, 2, 3, 4]);
        frame.extend_from_slice(behind);

        let (session, scratch) = (Session::new(&server), Scratch::default());
        let socket = Memory { input: [head.into(), frame].into(), room: 1000, ..Memory::default() };
        (session, socket, server, scratch)
    }

    #[test]
    fn a_backlog_stays_where_it_is_until_it_is_written() {
        let (mut session, mut socket, server, mut scratch) = blocked("10");
        let now = server.now();
        let next = session.turn(&mut socket, &server, now, &mut scratch).unwrap();
        assert_eq!(next, Next::Write);
        let place = |session: &Session| {
            let backlog = session.backlog.as_deref().unwrap();
            backlog.slices().map(|slice| slice.as_ptr_range().end).collect::<Vec<_>>()
        };
        let before = place(&session);
        for _ in 0..100 {
            socket.room = 10;
            let next = session.turn(&mut socket, &server, now, &mut scratch).unwrap();
            assert_eq!((next, place(&session)), (Next::Write, before.clone()));
            assert!(scratch.output.is_empty());
        }
        socket.room = usize::MAX;
        let next = session.turn(&mut socket, &server, now, &mut scratch).unwrap();
        assert_eq!((next, session.backlog.is_none()), (Next::Read, true));
        assert!(socket.taken > LEN);
    }

    #[test]
    fn a_peer_that_reads_slowly_is_not_cut_off_but_one_that_stops_is() {
        let (mut session, mut socket, server, mut scratch) = blocked("10");
        let mut now = server.now();
        let mut turn = |socket: &mut Memory, now| session.turn(socket, &server, now, &mut scratch);
        assert_eq!(turn(&mut socket, now).unwrap(), Next::Write);
        for _ in 0..10 {
            now = now + server.write_timeout;
            socket.room = 1;
            assert_eq!(turn(&mut socket, now).unwrap(), Next::Write);
        }
        now = now + server.write_timeout;
        assert_eq!(turn(&mut socket, now).unwrap_err().kind(), ErrorKind::TimedOut);
    }

    /// All has been said, so nobody waits for long until it has been read.
    #[test]
    fn a_peer_that_has_closed_cannot_read_for_ever() {
        let close = [0x88, 0x80, 0, 0, 0, 0];
        let (mut session, mut socket, server, mut scratch) = blocked_by(100_000, &close, "10");
        let mut now = server.now();
        let mut turn = |socket: &mut Memory, now| session.turn(socket, &server, now, &mut scratch);
        assert_eq!(turn(&mut socket, now).unwrap(), Next::Write);
        now = now + server.write_timeout / 2;
        socket.room = 1;
        assert_eq!(turn(&mut socket, now).unwrap(), Next::Write);
        now = now + server.write_timeout;
        socket.room = 1;
        assert_eq!(turn(&mut socket, now).unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_socket_that_lies_about_its_length_is_an_error() {
        let (mut session, mut socket, server, mut scratch) = blocked("10");
        socket.lie = 1 << 30;
        let error = session.turn(&mut socket, &server, server.now(), &mut scratch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
}
