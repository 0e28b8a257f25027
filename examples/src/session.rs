use std::io::{self, ErrorKind, IoSlice};

use wsforge_core::frame::{Header, MAX_HEADER_LEN};
use wsforge_core::handshake::{Accept, Opening, Reject, Request, RequestError, Response};
use wsforge_core::{
    CloseCode, Event, Input, Message, Output, ServerConnection, Shutdown, State, Timestamp,
};

use crate::{Scratch, Server};

/// A socket as a session sees it; one that would block, or has waited long enough, says so with
/// [`ErrorKind::WouldBlock`].
pub trait Socket {
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
const IN_PLACE: usize = 1024;

/// Reads before others get their turn.
const READS_PER_TURN: usize = 16;

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
    pub fn turn(
        &mut self,
        socket: &mut impl Socket,
        server: &Server,
        now: Timestamp,
        scratch: &mut Scratch,
    ) -> io::Result<Next> {
        if let Some(backlog) = self.backlog.take() {
            scratch.output = *backlog;
        }
        let next = self.work(socket, server, now, scratch);
        if !scratch.output.is_empty() {
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

    fn work(
        &mut self,
        socket: &mut impl Socket,
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
        for _ in 0..READS_PER_TURN {
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
                    Phase::Open(conn) => drop(conn.handle_eof()),
                },
                Ok(n) => {
                    // Where reading waits, it is later now.
                    now = server.now();
                    self.receive(&mut buf[..n], socket, server, now, output)?;
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
        let late = self.deadline.is_some_and(|deadline| deadline <= now);
        match &mut self.phase {
            Phase::Opening(_) if late => {
                let slow = Reject { status: 408, headers: &[], body: b"too slow" };
                slow.write(output).expect("a valid answer");
                let refused = ServerConnection::refused(server.config.clone(), now);
                self.phase = Phase::Open(refused);
                self.deadline = None;
            }
            Phase::Open(_) if late => return Err(ErrorKind::TimedOut.into()),
            Phase::Opening(_) => {}
            Phase::Open(conn) if conn.wants_shutdown() != Some(Shutdown::Both) => {
                drop(conn.handle_timeout(now, output));
                // No time is left, not even for what is still to be written.
                if conn.wants_shutdown() == Some(Shutdown::Both) {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
            Phase::Open(_) => {}
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
        } else {
            // While we do not read, its pongs cannot arrive.
            conn.pause(now);
            if output.len() < before || self.deadline.is_none() {
                self.deadline = Some(now + server.write_timeout);
            }
        }
        Ok(done)
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
    let body = message.as_bytes();
    if body.len() < IN_PLACE || !output.is_empty() || conn.state() != State::Open {
        // This fails only when we are closing, and then nobody waits for an echo.
        let _ = conn.send(message.kind(), body, output);
        return Ok(());
    }
    let header = Header {
        fin: true,
        rsv1: false,
        opcode: message.kind().into(),
        mask: None,
        len: body.len() as u64,
    };
    let mut head = [0; MAX_HEADER_LEN];
    let head_len = header.encode(&mut head);
    let head = &head[..head_len];
    let written = match socket.write(&[IoSlice::new(head), IoSlice::new(body)]) {
        Ok(written) => written,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
        Err(error) => return Err(error),
    };
    output.put(&head[written.min(head_len)..]);
    output.put(&body[written.saturating_sub(head_len)..]);
    Ok(())
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
