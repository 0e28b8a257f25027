use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use wsforge_core::frame::Opcode;
use wsforge_core::{
    ClientConnection, CloseCode, Config, Connection, Delivery, Initiator, Input, KeySource, Kind,
    Outcome, Output, Role, SendError, SendThroughError, ServerConnection, Shutdown, State,
    Timestamp,
};

use crate::Source;
use crate::seen::{Frame, Seen, frames};
use crate::stream::{limited, part};

/// A server that gets anything, in any pieces, with any calls between, keeps what it promises.
pub fn server_connection(data: &[u8]) {
    let mut source = Source::new(data);
    let config = Arc::new(config(&mut source));
    run(ServerConnection::after_handshake(config, Timestamp::ZERO), source);
}

/// As [`server_connection`], for a client.
pub fn client_connection(data: &[u8]) {
    let mut source = Source::new(data);
    let config = Arc::new(config(&mut source));
    let mut key = 0x9E37_79B9_u32;
    let keys = move || {
        key = key.rotate_left(7).wrapping_mul(5);
        key.to_be_bytes()
    };
    run(ClientConnection::after_handshake(keys, config, Timestamp::ZERO), source);
}

fn config(source: &mut Source<'_>) -> Config {
    let flags = source.u8();
    let is = |bit: u8| flags >> bit & 1 != 0;
    let mut config = limited(flags);
    config.max_linger_len = if is(3) { 40 } else { u64::MAX };
    config.idle_timeout = is(4).then_some(Duration::from_secs(45));
    config.ping_interval = (!is(5)).then_some(Duration::from_secs(30));
    if is(6) {
        (config.max_linger_len, config.max_fragments) = (0, 0);
    }
    config
}

fn run<R: Role>(conn: Connection<R>, mut source: Source<'_>)
where
    Connection<R>: Through,
{
    let mut driver = Driver {
        conn,
        output: Output::new(),
        now: Timestamp::ZERO,
        arrived: Vec::new(),
        written: Vec::new(),
        expected: Vec::new(),
        chunks: None,
        sending: None,
        closing: false,
        paused: false,
        outcome: None,
        last: (0, 0),
    };
    while !source.is_empty() {
        driver.turn(&mut source);
        driver.check();
    }
    driver.finish();
}

/// A driver that does everything at odd times, and what it expects.
struct Driver<R> {
    conn: Connection<R>,
    output: Output,
    now: Timestamp,
    /// What the peer has sent and we have not read.
    arrived: Vec<u8>,
    /// What the peer has been sent.
    written: Vec<u8>,
    /// The frames that it should find there.
    expected: Vec<Frame>,
    /// The bytes of a message that comes in chunks.
    chunks: Option<(Kind, Vec<u8>)>,
    sending: Option<Kind>,
    /// We have started the closing handshake.
    closing: bool,
    paused: bool,
    outcome: Option<Outcome>,
    /// The order of the state and the shutdown that were last seen.
    last: (u8, u8),
}

type Write<'a> = &'a mut dyn FnMut([&[u8]; 2]) -> usize;

type Sent = Result<(), SendThroughError<Infallible>>;

/// Sending through a writer, which each role does in its own way.
trait Through {
    fn through(&mut self, kind: Kind, body: &mut [u8], output: &mut Output, to: Write<'_>) -> Sent;
}

impl Through for ServerConnection {
    fn through(&mut self, kind: Kind, body: &mut [u8], output: &mut Output, to: Write<'_>) -> Sent {
        self.send_through(kind, body, output, |slices| Ok(to(slices)))
    }
}

impl<K: KeySource> Through for ClientConnection<K> {
    fn through(&mut self, kind: Kind, body: &mut [u8], output: &mut Output, to: Write<'_>) -> Sent {
        self.send_in_place(kind, body, output, |slices| Ok(to(slices)))
    }
}

impl<R: Role> Driver<R>
where
    Connection<R>: Through,
{
    fn turn(&mut self, source: &mut Source<'_>) {
        let op = source.u8();
        match op % 8 {
            0..=3 => {
                part(source, !R::CLIENT, &mut self.arrived);
                let piece = if op >> 4 == 0 { usize::MAX } else { usize::from(op >> 4) };
                // Some of it comes later, behind other calls.
                let most = if op & 8 == 0 { self.arrived.len() } else { usize::from(source.u8()) };
                self.read(most, piece, (op % 8 == 3).then_some(source));
            }
            4 => {
                let len = usize::from(op >> 3);
                self.arrived.extend(source.bytes(len));
                self.read(usize::MAX, usize::MAX, None);
            }
            5 => self.pass_time(u64::from(source.u16()) >> (op >> 4)),
            _ => self.call(op, source),
        }
    }

    /// Reads up to `most` bytes in pieces. If there is a `source`, calls something behind every event.
    fn read(&mut self, most: usize, piece: usize, mut source: Option<&mut Source<'_>>) {
        let rest = self.arrived.split_off(most.min(self.arrived.len()));
        let mut bytes = std::mem::replace(&mut self.arrived, rest);
        for piece in bytes.chunks_mut(piece) {
            let mut input = Input::new(piece, self.now);
            self.paused = false;
            while let Some(event) = self.conn.next_event(&mut input, &mut self.output) {
                self.see(event.into());
                self.check();
                if let Some(source) = &mut source {
                    let op = source.u8();
                    self.call(op, source);
                    self.check();
                }
            }
            assert!(input.is_empty(), "no event, and yet not all bytes were used or kept");
        }
    }

    fn see(&mut self, event: Seen) {
        assert_eq!(self.outcome, None, "nothing follows the end: {event:?}");
        let config = self.conn.config();
        let whole = config.delivery == Delivery::Messages;
        let fits = |len: usize| len as u64 <= config.max_message_len;
        match event {
            Seen::Binary(payload) => assert!(whole && fits(payload.len())),
            Seen::Text(text) => assert!(whole && fits(text.len())),
            Seen::Chunk { kind, first, last, payload } => {
                assert!(!whole && first == self.chunks.is_none());
                let (begun, message) = self.chunks.get_or_insert((kind, Vec::new()));
                assert_eq!(*begun, kind);
                message.extend(payload);
                assert!(fits(message.len()));
                if last {
                    assert!(kind == Kind::Binary || str::from_utf8(message).is_ok());
                    self.chunks = None;
                }
            }
            Seen::Ping(payload) => self.expect(Opcode::Pong, payload),
            Seen::Pong(payload) => assert!(payload.len() <= 125),
            Seen::Close(close) => {
                let code = close.map(|(code, _)| CloseCode::new(code).expect("may be sent"));
                if !self.closing {
                    let body = code.map_or(Vec::new(), |code| code.get().to_be_bytes().to_vec());
                    self.expect(Opcode::Close, body);
                }
                let initiator = if self.closing { Initiator::Local } else { Initiator::Peer };
                self.outcome = Some(Outcome::Closed { code, initiator });
            }
            Seen::Fail(error) => {
                if let (false, Some(code)) = (self.closing, error.close_code()) {
                    self.expect_close(code, &error.to_string());
                }
                self.outcome = Some(Outcome::Failed(error));
            }
        }
    }

    fn call(&mut self, op: u8, source: &mut Source<'_>) {
        let open = self.conn.state() == State::Open;
        let kind = if op & 8 == 0 { Kind::Binary } else { Kind::Text };
        let sent = |result: Result<(), SendError>, error: Option<SendError>| {
            let error = if open { error } else { Some(SendError::Closed) };
            assert_eq!(result.err(), error);
            error.is_none()
        };
        match op >> 4 {
            0..=2 => {
                let body = vec![b'a'; usize::from(source.u8()) << (op >> 4)];
                let result = if op & 1 == 0 {
                    self.conn.send(kind, &body, &mut self.output)
                } else {
                    self.conn.send(kind, bytes::Bytes::from(body.clone()), &mut self.output)
                };
                if sent(result, self.sending.map(|_| SendError::FragmentInProgress)) {
                    self.expect(kind.into(), body);
                }
            }
            3..=5 => {
                let (fin, body) = (op & 1 == 0, vec![b'b'; usize::from(source.u8())]);
                let result = self.conn.send_fragment(kind, &body, fin, &mut self.output);
                let wrong = self.sending.is_some_and(|begun| begun != kind);
                if sent(result, wrong.then_some(SendError::FragmentInProgress)) {
                    let opcode = self.sending.map_or(kind.into(), |_| Opcode::Continuation);
                    self.sending = (!fin).then_some(kind);
                    self.expected.push(Frame { opcode, fin, payload: body });
                }
            }
            6..=8 => {
                let body = vec![b'c'; usize::from(source.u8())];
                let (opcode, result) = if op & 1 == 0 {
                    (Opcode::Ping, self.conn.ping(&body, &mut self.output))
                } else {
                    (Opcode::Pong, self.conn.pong(&body, &mut self.output))
                };
                if sent(result, (body.len() > 125).then_some(SendError::ControlTooLong)) {
                    self.expect(opcode, body);
                }
            }
            9 => {
                let code = CloseCode::new(source.u16()).unwrap_or(CloseCode::NORMAL);
                let reason = ["é", "a✓"][usize::from(op & 1)].repeat(usize::from(source.u8()));
                self.conn.close(code, &reason, self.now, &mut self.output);
                if open {
                    self.closing = true;
                    self.expect_close(code, &reason);
                }
            }
            10 => {
                self.conn.pause(self.now);
                self.paused = true;
            }
            11 => {
                self.conn.resume(self.now);
                self.paused = false;
            }
            12 => {
                // A real end of the transport is rare among calls.
                if source.u8() == 0 {
                    let event = self.conn.handle_eof().map(Seen::from);
                    assert_eq!(event.is_some(), self.outcome.is_none());
                    event.into_iter().for_each(|event| self.see(event));
                    assert_eq!(self.conn.wants_shutdown(), Some(Shutdown::Both));
                }
            }
            13 => self.write(usize::from(source.u8())),
            14 => {
                let body = vec![b'd'; usize::from(source.u8()) << (op & 7)];
                let room = usize::from(source.u16());
                let mut take = |slices: [&[u8]; 2]| {
                    let taken = slices.concat().into_iter().take(room);
                    let before = self.written.len();
                    self.written.extend(taken);
                    self.written.len() - before
                };
                let result =
                    self.conn.through(kind, &mut body.clone(), &mut self.output, &mut take);
                let result = result.map_err(|error| match error {
                    SendThroughError::Send(error) => error,
                    SendThroughError::Write(never) => match never {},
                });
                if sent(result, self.sending.map(|_| SendError::FragmentInProgress)) {
                    self.expect(kind.into(), body);
                }
            }
            _ => {
                let due = self.conn.next_timeout().map_or(0, |at| at.since(self.now).as_millis());
                self.pass_time(due as u64);
            }
        }
    }

    fn pass_time(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        // What is due may make something else due, but a driver must get to sleep.
        for _ in 0..4 {
            let before = self.output.len();
            match self.conn.handle_timeout(self.now, &mut self.output) {
                Some(event) => self.see(event.into()),
                None if self.output.len() > before => self.expect(Opcode::Ping, Vec::new()),
                None => {}
            }
        }
        assert!(self.conn.next_timeout().is_none_or(|at| at > self.now), "nothing stays due");
    }

    fn expect(&mut self, opcode: Opcode, payload: Vec<u8>) {
        self.expected.push(Frame { opcode, fin: true, payload });
    }

    fn expect_close(&mut self, code: CloseCode, reason: &str) {
        let reason = &reason[..reason.floor_char_boundary(123)];
        self.expect(Opcode::Close, [&code.get().to_be_bytes(), reason.as_bytes()].concat());
    }

    fn write(&mut self, most: usize) {
        self.written.extend(self.output.slices().flatten().take(most));
        self.output.advance(most);
    }

    /// What is true at any time.
    fn check(&mut self) {
        let (state, shutdown) = (self.conn.state(), self.conn.wants_shutdown());
        assert_eq!(self.conn.outcome(), self.outcome);
        assert_eq!(state == State::Closed, self.outcome.is_some());
        assert_eq!(state == State::Closing, self.closing && self.outcome.is_none());
        let awaits_eof = R::CLIENT && self.outcome.is_some_and(Outcome::is_clean);
        assert!(shutdown.is_none() == (state != State::Closed) || shutdown.is_none() && awaits_eof);

        let state = match state {
            State::Open => 0,
            State::Closing => 1,
            State::Closed => 2,
        };
        let next = self.conn.next_timeout();
        let shutdown = match shutdown {
            // Nobody waits for ever for a transport to end.
            None => {
                assert!(next.is_some() || state == 0);
                0
            }
            Some(Shutdown::Write) => {
                assert!(next.is_some());
                1
            }
            Some(Shutdown::Both) => {
                assert!(next.is_none());
                2
            }
        };
        assert!(state >= self.last.0 && shutdown >= self.last.1, "nothing opens again");
        self.last = (state, shutdown);
        assert!(!(self.paused && state == 0) || next.is_none(), "a pause stops the deadlines");
    }

    fn finish(mut self) {
        self.write(usize::MAX);
        let sent = frames(&self.written, R::CLIENT);
        let closes = sent.iter().filter(|frame| frame.opcode == Opcode::Close).count();
        assert!(closes <= 1, "one Close at the most");
        // RFC 6455 section 5.5.2: until the peer's Close comes, its pings are answered.
        let mut behind = sent.iter().skip_while(|frame| frame.opcode != Opcode::Close).skip(1);
        assert!(behind.all(|frame| frame.opcode == Opcode::Pong), "no data behind a Close");
        assert_eq!(sent, self.expected);
    }
}
