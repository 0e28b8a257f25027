use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::buf::Limit;

use crate::event::Control;
use crate::frame::{MAX_CONTROL_LEN, Opcode};
use crate::hub::Variant;
use crate::{
    Chunk, Client, CloseCode, CloseFrame, Config, Error, Event, Initiator, Input, KeySource, Kind,
    Message, Outcome, Output, Payload, Role, Server, Text, Timestamp, mask,
};

mod next_owned;

mod receive;
use receive::{Receiver, Step};

mod send;
pub use send::Body;

mod send_through;
pub use send_through::SendThroughError;

mod short;
use short::ShortFrame;

mod timers;
use timers::Timers;

/// An open WebSocket connection: bytes in, events and bytes out.
///
/// Made by a handshake ([`Accept`](crate::handshake::Accept), [`Connect`](crate::handshake::Connect)).
/// It owns no buffer: a driver hands it what it reads and writes what it finds in the [`Output`]. The
/// five steps of a driver are on the crate's front page.
#[derive(Debug)]
pub struct Connection<R> {
    config: Arc<Config>,
    role: R,
    receiver: Receiver,
    timers: Timers,
    stage: Stage,
    /// Open, reading, and before a frame that begins a message: it may take the short road.
    plain: bool,
    /// The kind of the fragmented message that we have begun to send.
    sending: Option<Kind>,
    outcome: Option<Outcome>,
}

/// A connection that this end accepted.
pub type ServerConnection = Connection<Server>;

/// A connection that this end opened, with `K` as the source of its masking keys.
pub type ClientConnection<K> = Connection<Client<K>>;

/// Where a connection stands (RFC 6455 sections 4.1 and 7.1; before it is open it is another type).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Messages go both ways.
    Open,
    /// We have sent a Close. Messages still arrive, until the peer's Close does.
    Closing,
    /// Nothing goes either way; what the peer still sends is dropped.
    Closed,
}

/// What a connection wants done with its transport.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shutdown {
    /// Close it.
    Both,
    /// Shut down its writing side and read on: the peer may still be sending, and closing on unread
    /// bytes would keep it from reading why the connection ended.
    Write,
}

/// [`State`], and who is to end the transport.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Open,
    Closing,
    /// The peer may still be sending, see [`Shutdown::Write`].
    Lingering,
    /// A client whose closing handshake is done waits for the server to end TCP (RFC 6455 section 7.1.1).
    AwaitingEof,
    Over,
}

impl ServerConnection {
    /// An open connection whose handshake somebody else did: an HTTP library, or a test.
    pub fn after_handshake(config: Arc<Config>, now: Timestamp) -> Self {
        Self::open(Server, config, now)
    }

    /// A connection that never opens: for a driver that has queued an HTTP answer instead of a 101.
    ///
    /// It gives no events and drops what the peer still sends, until the peer has had the time to
    /// read the answer: driven like any other, it ends well.
    pub fn refused(config: Arc<Config>, now: Timestamp) -> Self {
        let mut this = Self::open(Server, config, now);
        this.linger(Stage::Lingering, now);
        this
    }
}

impl<K: KeySource> ClientConnection<K> {
    /// As [`ServerConnection::after_handshake`].
    pub fn after_handshake(keys: K, config: Arc<Config>, now: Timestamp) -> Self {
        Self::open(Client(keys), config, now)
    }
}

impl<R: Role> Connection<R> {
    pub(crate) fn open(role: R, config: Arc<Config>, now: Timestamp) -> Self {
        let mut this = Self {
            timers: Timers::new(&config, now),
            config,
            role,
            receiver: Receiver::default(),
            stage: Stage::Open,
            plain: false,
            sending: None,
            outcome: None,
        };
        this.update_plain();
        this
    }

    /// The next event. `None` means that every byte was used or kept, or left in an input that
    /// [grows](Input::growing): write the output, then read more.
    ///
    /// Pings have been answered, and a Close too, by the time their events come. Between two events
    /// anything may be called; look at the output's length there and write it when it is above
    /// [`Config::high_water`].
    #[inline(always)] // An event that is moved through memory in pieces is waited for at each move.
    #[must_use = "an event may be a message"]
    pub fn next_event<'buf>(
        &mut self,
        input: &mut Input<'buf>,
        output: &mut Output,
    ) -> Option<Event<'buf>> {
        if self.plain
            && let Some(frame) = ShortFrame::parse::<R>(input.remaining())
        {
            self.timers.heard(input.now());
            let payload = &mut input.take(frame.payload.end)[frame.payload.start..];
            // Servers do not mask.
            let ascii = !R::CLIENT && mask::apply_ascii(payload, frame.key);
            return self.whole_message(frame.kind, payload, ascii, input, output);
        }
        if input.is_empty() {
            return None;
        }
        self.next_event_by_steps(input, output)
    }

    /// Memory to read the rest of a large binary message into: its bytes are then copied no more.
    ///
    /// Ask before reading. There is some, at most 64 KiB at a time, if at least 16 KiB of a frame are
    /// missing whose start has been kept, and it ends where the frame does. Read into it, once, and call
    /// [`direct_filled`](Self::direct_filled).
    pub fn direct_buf(&mut self) -> Option<Limit<&mut Vec<u8>>> {
        self.receiver.direct_buf()
    }

    /// Takes what was read into [`direct_buf`](Self::direct_buf), and gives the message if that was its
    /// end.
    #[must_use = "the event is a message"]
    pub fn direct_filled(&mut self, now: Timestamp) -> Option<Event<'static>> {
        self.timers.received(&self.config, now);
        let Step::BinaryOwned(bytes) = self.receiver.direct_filled() else { return None };
        self.update_plain();
        Some(Event::Message(Message::Binary(Payload::Owned(bytes))))
    }

    /// Tells that the transport has ended, or has failed: nothing will arrive any more.
    ///
    /// Gives [`Event::Fail`] if no Close had arrived.
    #[must_use = "the event tells a torn connection from a closed one"]
    pub fn handle_eof(&mut self) -> Option<Event<'static>> {
        let torn = matches!(self.stage, Stage::Open | Stage::Closing);
        self.end(Stage::Over);
        torn.then(|| self.failed(Error::UnexpectedEof))
    }

    /// Starts the closing handshake; does nothing if one side has started it already.
    ///
    /// `reason` is cut at 123 bytes, between characters. Messages that the peer had sent before it
    /// reads our Close still arrive.
    pub fn close(&mut self, code: CloseCode, reason: &str, now: Timestamp, output: &mut Output) {
        if self.stage == Stage::Open {
            self.send_close(code, reason, output);
            self.stage = Stage::Closing;
            self.plain = false;
            self.timers.end_at(now + self.config.close_timeout);
        }
    }

    /// Stops the deadlines that wait for the peer: call it when the driver stops reading.
    ///
    /// A handler that takes a minute must not cost a healthy peer its connection.
    pub fn pause(&mut self, now: Timestamp) {
        self.timers.pause(now);
        self.plain = false;
    }

    /// Starts them again where they stood; so does the next input.
    pub fn resume(&mut self, now: Timestamp) {
        self.timers.resume(now);
    }

    /// Does what is due: sends a ping, or gives up waiting. Call it at
    /// [`next_timeout`](Self::next_timeout) or later; earlier calls do nothing.
    #[must_use = "the event tells that the connection has failed"]
    pub fn handle_timeout(
        &mut self,
        now: Timestamp,
        output: &mut Output,
    ) -> Option<Event<'static>> {
        match self.timers.expire(&self.config, now)? {
            timers::Expired::End if self.stage == Stage::Closing => {
                self.end(Stage::Over);
                Some(self.failed(Error::CloseTimeout))
            }
            timers::Expired::End => {
                self.end(Stage::Over);
                None
            }
            timers::Expired::Idle => Some(self.fail(Error::IdleTimeout, now, output)),
            timers::Expired::Ping => {
                self.frame(true, Opcode::Ping, (&[]).into(), output);
                // What is heard next counts as the answer, which the short road does not look at.
                self.plain = false;
                None
            }
            timers::Expired::Pong => Some(self.fail(Error::PongTimeout, now, output)),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) should be called next. May change with every
    /// call; reading it costs nothing.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// Where the connection stands.
    pub const fn state(&self) -> State {
        match self.stage {
            Stage::Open => State::Open,
            Stage::Closing => State::Closing,
            Stage::Lingering | Stage::AwaitingEof | Stage::Over => State::Closed,
        }
    }

    /// What to do with the transport once the output is written; ask after every turn.
    pub const fn wants_shutdown(&self) -> Option<Shutdown> {
        match self.stage {
            Stage::Open | Stage::Closing | Stage::AwaitingEof => None,
            Stage::Lingering => Some(Shutdown::Write),
            Stage::Over => Some(Shutdown::Both),
        }
    }

    /// How the connection ended, once its [state](Self::state) is closed. Never for one that was
    /// [refused](Self::refused), as it never opened.
    pub const fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// The encoding of broadcasts that this peer takes.
    pub const fn variant(&self) -> Variant {
        Variant::Plain
    }

    /// The endpoint's settings.
    pub const fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Everything but the short road.
    #[inline(never)]
    fn next_event_by_steps<'buf>(
        &mut self,
        input: &mut Input<'buf>,
        output: &mut Output,
    ) -> Option<Event<'buf>> {
        let now = input.now();
        self.timers.received(&self.config, now);
        let mut event = None;
        while event.is_none() && !input.is_empty() && !self.leaves(input) {
            let (used, step) = match self.receiver.step(input.buf(), !R::CLIENT, &self.config) {
                Ok(step) => step,
                Err(error) => {
                    input.take_all();
                    return Some(self.fail(error, now, output));
                }
            };
            let bytes = input.take(used);
            event = match step {
                Step::More | Step::Continue => None,
                Step::Chunk { kind, first, last, payload } => {
                    Some(Event::Chunk(Chunk { kind, first, last, payload: &mut bytes[payload] }))
                }
                Step::Message { kind, payload, ascii } => {
                    self.whole_message(kind, &mut bytes[payload], ascii, input, output)
                }
                Step::BinaryOwned(bytes) => {
                    Some(Event::Message(Message::Binary(Payload::Owned(bytes))))
                }
                Step::TextOwned(text) => Some(Event::Message(Message::Text(Text::owned(text)))),
                Step::Control(opcode, payload) => {
                    let payload = Control::borrowed(&bytes[payload]);
                    Some(self.handle_control(opcode, payload, input, output))
                }
                Step::ControlOwned(opcode, payload) => {
                    Some(self.handle_control(opcode, Control::owned(payload), input, output))
                }
            };
        }
        if self.receiver.is_exhausted() {
            self.end(Stage::Over);
        }
        self.update_plain();
        event
    }

    /// Whether what is at the front is to stay there until the rest of it comes, see [`Input::growing`].
    fn leaves(&self, input: &Input<'_>) -> bool {
        matches!(self.stage, Stage::Open | Stage::Closing)
            && input.room() > 0
            && self.receiver.leaves(input.remaining(), input.room(), !R::CLIENT, &self.config)
    }

    /// Always gives an event: an option, so that it is made where it is to be.
    #[inline(always)]
    fn whole_message<'buf>(
        &mut self,
        kind: Kind,
        payload: &'buf mut [u8],
        ascii: bool,
        input: &mut Input<'buf>,
        output: &mut Output,
    ) -> Option<Event<'buf>> {
        if kind == Kind::Binary {
            return Some(Event::Message(Message::Binary(Payload::Borrowed(payload))));
        }
        if ascii {
            return Some(Event::Message(Message::Text(Text::ascii(payload))));
        }
        match simdutf8::basic::from_utf8(payload) {
            Ok(text) => Some(Event::Message(Message::Text(Text::borrowed(text)))),
            Err(_) => {
                input.take_all();
                Some(self.fail(Error::BadUtf8, input.now(), output))
            }
        }
    }

    fn handle_control<'buf>(
        &mut self,
        opcode: Opcode,
        payload: Control<'buf>,
        input: &mut Input<'buf>,
        output: &mut Output,
    ) -> Event<'buf> {
        match opcode {
            Opcode::Ping => {
                // RFC 6455 section 5.5.2: answered unless a Close was received, so in Closing too.
                self.frame(true, Opcode::Pong, (&*payload).into(), output);
                Event::Ping(payload)
            }
            Opcode::Pong => Event::Pong(payload),
            _ => match close_frame(payload) {
                Ok(close) => {
                    self.handle_close(close.as_ref().map(|close| close.code), input, output);
                    Event::Close(close)
                }
                Err(error) => {
                    input.take_all();
                    self.fail(error, input.now(), output)
                }
            },
        }
    }

    /// Completes the closing handshake; `code` is the one that the peer sent.
    fn handle_close(
        &mut self,
        code: Option<CloseCode>,
        input: &mut Input<'_>,
        output: &mut Output,
    ) {
        let initiator = match self.stage {
            Stage::Open => {
                // RFC 6455 section 5.5.1: the answer says what it answers.
                let code = code.map(|code| code.get().to_be_bytes());
                let body = code.as_ref().map_or(&[][..], |code| code);
                self.frame(true, Opcode::Close, body.into(), output);
                Initiator::Peer
            }
            _ => Initiator::Local,
        };
        self.outcome = Some(Outcome::Closed { code, initiator });
        // RFC 6455 section 7.1.1: the server ends TCP first. It does so at once, unless the peer goes
        // on sending behind its Close.
        let (now, behind) = (input.now(), input.take_all());
        match (R::CLIENT, behind.is_empty()) {
            (true, _) => self.linger(Stage::AwaitingEof, now),
            (false, true) => self.end(Stage::Over),
            (false, false) => self.linger(Stage::Lingering, now),
        }
    }

    /// _Fails the WebSocket Connection_, RFC 6455 section 7.1.7.
    #[cold]
    fn fail(&mut self, error: Error, now: Timestamp, output: &mut Output) -> Event<'static> {
        if let (Stage::Open, Some(code)) = (self.stage, error.close_code()) {
            self.send_close(code, error.reason(), output);
        }
        self.linger(Stage::Lingering, now);
        self.failed(error)
    }

    fn failed(&mut self, error: Error) -> Event<'static> {
        self.outcome = Some(Outcome::Failed(error));
        Event::Fail(error)
    }

    fn send_close(&mut self, code: CloseCode, reason: &str, output: &mut Output) {
        let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL_LEN - 2)];
        let mut body = [0; MAX_CONTROL_LEN];
        let len = 2 + reason.len();
        body[..2].copy_from_slice(&code.get().to_be_bytes());
        body[2..len].copy_from_slice(reason.as_bytes());
        self.frame(true, Opcode::Close, (&body[..len]).into(), output);
    }

    /// Drops what comes from now on, up to a limit and a deadline.
    fn linger(&mut self, stage: Stage, now: Timestamp) {
        self.end(stage);
        self.receiver.drop_up_to(self.config.max_linger_len);
        self.timers.end_at(now + self.config.close_timeout);
        if self.receiver.is_exhausted() {
            self.end(Stage::Over);
        }
    }

    fn end(&mut self, stage: Stage) {
        self.stage = stage;
        self.plain = false;
        self.timers.stop();
        self.receiver.drop_up_to(u64::MAX);
    }

    fn update_plain(&mut self) {
        self.plain = self.stage == Stage::Open
            && !self.timers.is_paused()
            && self.receiver.is_between_messages()
            && ShortFrame::is_allowed(&self.config);
    }
}

fn close_frame(payload: Control<'_>) -> Result<Option<CloseFrame<'_>>, Error> {
    let code = match *payload {
        [] => return Ok(None),
        [_] => return Err(Error::BadClose),
        [high, low, ..] => u16::from_be_bytes([high, low]),
    };
    let code = CloseCode::new(code).ok_or(Error::BadClose)?;
    let reason = payload.into_text(2).ok_or(Error::BadUtf8)?;
    Ok(Some(CloseFrame { code, reason }))
}
