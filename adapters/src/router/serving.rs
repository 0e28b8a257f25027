//! One connection of a router, from its first message to its end.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};

use wsforge_core::frame::Opcode;
use wsforge_core::{CloseCode, Message as Lent, Text};

use super::app::{App, guarded};
use super::bucket::Bucket;
use super::handler::Spare;
use super::{
    Answering, Connection, Error, Extensions, Handler, Lagged, Message, MessageType, Outcome,
    Received, Reply, Result, Routes,
};
use crate::driver::opening::poll_end;
use crate::driver::outbox::Phase;
use crate::driver::receive::{Aim, Receive};
use crate::driver::replies::Replies;
use crate::driver::session::Session;
use crate::driver::timer::{TICK, Tick};
use crate::driver::turn;
use crate::runtime::{Stage, Task};
use crate::{CloseInfo, Options};

/// The task of a connection. There is one for each, so it is small: both this and what a
/// [`Connection`] is fit into one gap between a runtime's blocks.
pub(crate) struct Serving {
    connection: Connection,
    session: Box<Session>,
    /// The handler that goes on with the last message.
    later: Option<Box<Later>>,
    bucket: Bucket,
    /// Which of the app's tables of routes is this connection's.
    table: u16,
    mood: Mood,
}

struct Later {
    answer: Answering<'static>,
    /// By when it has to be there.
    due: Tick,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mood {
    Handling,
    /// A handler has panicked or was given up, so nothing more is handled.
    Deaf,
    /// It is over, and everybody knows.
    Over,
}

/// Why no more messages are handled for now.
enum Stop {
    /// A handler goes on; it has been polled once.
    Later(Answering<'static>),
    Panicked,
    /// There were too many.
    TooFast,
}

impl Serving {
    pub(crate) fn new(connection: Connection, session: Box<Session>, table: u16) -> Self {
        let options = &connection.outbox().endpoint.options;
        let bucket = Bucket::full(
            options.message_rate,
            Tick::floor(connection.outbox().endpoint.timer.now()),
        );
        connection.outbox().endpoint.serving.fetch_add(1, Ordering::Relaxed);
        Self { connection, session, later: None, bucket, table, mood: Mood::Handling }
    }

    /// Says that the connection is there.
    pub(crate) fn begin(&mut self) {
        let app = self.connection.app();
        if let Some(connect) = &app.hooks.connect
            && guarded(|| connect(&app.manager, self.connection.id_text())).is_none()
        {
            self.fail(FAILED);
        }
    }

    fn work(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.mood == Mood::Deaf {
                ready!(poll_end(&mut self.session, self.connection.outbox(), cx));
                return Poll::Ready(());
            }
            if let Some(later) = &mut self.later {
                let polled = guarded(|| later.answer.as_mut().poll(cx));
                let (due, abandoned) = (later.due, self.is_abandoned());
                if matches!(polled, Some(Poll::Pending)) && !abandoned && due > self.now() {
                    return self.rest(cx, due);
                }
                self.forget();
                match polled {
                    Some(Poll::Ready(answer)) => self.answer(answer),
                    // Nobody waits for it any more, nor for a Close.
                    Some(Poll::Pending) if abandoned => self.mood = Mood::Deaf,
                    Some(Poll::Pending) => self.fail("the server was too slow"),
                    None => self.fail(FAILED),
                }
                continue;
            }
            let now = self.now();
            let rate = self.options().message_rate;
            if !self.bucket.refill(rate, now) {
                return self.rest(cx, now + TICK);
            }
            let Self { connection, session, bucket, table, .. } = self;
            let (app, waker) = (connection.app(), cx.waker());
            let routes = app.paths.table(*table);
            let mut dispatch =
                Dispatch { app, routes, connection, bucket, waker, spare: Spare::default() };
            let outbox = connection.outbox();
            match ready!(session.poll_each(outbox, cx, Aim::Whole, &mut dispatch)) {
                None => return Poll::Ready(()),
                Some(Stop::Later(answer)) => {
                    let timeout = self.options().handler_timeout;
                    let due = timeout.map_or(Tick::NEVER, |timeout| self.now() + timeout);
                    self.later = Some(Box::new(Later { answer, due }));
                    return self.rest(cx, due);
                }
                Some(Stop::Panicked) => self.fail(FAILED),
                Some(Stop::TooFast) => {}
            }
        }
    }

    /// Waits for something else than the peer, which may be silent meanwhile; at the latest until `at`.
    fn rest(&mut self, cx: &mut Context<'_>, at: Tick) -> Poll<()> {
        let outbox = self.connection.outbox();
        outbox.set_gathering(false);
        self.session.leave(outbox);
        if at != Tick::NEVER {
            outbox.arm(at);
        }
        // What waits for the peer is written on.
        if !outbox.sleep(cx) {
            let _ = outbox.poll_flush(cx);
        }
        // Now that it is known whom to wake.
        if self.later.is_some() && self.is_abandoned() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Somebody may want to know.
    fn tell_what_it_missed(&self) {
        let outbox = self.connection.outbox();
        if outbox.endpoint.slow.has_some()
            && let Some(lagged) = &self.connection.app().hooks.lagged
        {
            let missed = outbox.take_lagged();
            if missed > 0 {
                let _ = guarded(|| lagged(&self.connection, Lagged { missed }));
            }
        }
    }

    /// Sends what a handler has given that took its time.
    fn answer(&mut self, answer: Result<Option<Message>>) {
        let answered = answer.and_then(|message| match message {
            Some(message) => self.connection.reply(&message),
            None => Ok(()),
        });
        let Err(error) = answered else { return };
        match tell(self.connection.app(), &self.connection, &error) {
            // It may be closing.
            Some(message) => {
                let _ = message.map(|message| self.connection.reply(&message));
            }
            None => self.fail(FAILED),
        }
    }

    /// The handler is done, one way or the other.
    fn forget(&mut self) {
        let later = self.later.take();
        let _ = guarded(|| drop(later));
    }

    /// Something of the application's has panicked, or takes too long.
    fn fail(&mut self, reason: &str) {
        self.connection.close(CloseCode::INTERNAL, reason);
        self.mood = Mood::Deaf;
    }

    /// Lets everybody know that it is over.
    fn finish(&mut self) {
        if self.mood == Mood::Over {
            return;
        }
        self.mood = Mood::Over;
        self.forget();
        self.connection.end();
        let App { hooks, manager, .. } = self.connection.app();
        if let Some(close) = &hooks.close {
            let dropped = CloseInfo::new(None, String::new(), None);
            let info = self.session.info().unwrap_or(&dropped);
            let _ = guarded(|| close(&self.connection, info));
        }
        if let Some(disconnect) = &hooks.disconnect {
            let _ = guarded(|| disconnect(manager, self.connection.id_text()));
        }
        let _ = guarded(|| self.connection.clear());
        self.connection.outbox().endpoint.serving.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the server has ended, and its patience too.
    fn is_abandoned(&self) -> bool {
        self.connection.outbox().endpoint.abandoned.load(Ordering::Acquire)
    }

    fn now(&self) -> Tick {
        Tick::floor(self.connection.outbox().endpoint.timer.now())
    }

    fn options(&self) -> &Options {
        &self.connection.outbox().endpoint.options
    }
}

impl Stage for Serving {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Task>> {
        let this = self.get_mut();
        turn::scope(|| {
            this.tell_what_it_missed();
            ready!(this.work(cx));
            this.finish();
            Poll::Ready(None)
        })
    }
}

/// Also when its runtime has ended before it.
impl Drop for Serving {
    fn drop(&mut self) {
        if self.mood != Mood::Over {
            let outbox = self.connection.outbox().clone();
            outbox.end(Phase::Ended);
            outbox.transport.abort();
            self.finish();
        }
    }
}

/// Hands messages to handlers.
struct Dispatch<'a> {
    app: &'a App,
    routes: &'a Routes,
    connection: &'a Connection,
    bucket: &'a mut Bucket,
    waker: &'a Waker,
    spare: Spare,
}

impl Dispatch<'_> {
    fn handle(
        &mut self,
        kind: MessageType,
        bytes: &[u8],
        lent: Option<&Text<'_>>,
        replies: &mut Replies<'_>,
    ) -> ControlFlow<Stop> {
        if !replies.ignores_peer() {
            match self.routes.find(kind, bytes) {
                Some((handler, routed)) => {
                    self.call(handler, kind, bytes, lent, routed, replies)?;
                }
                None => self.app.manager.miss(),
            }
        }
        match self.bucket.take() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(Stop::TooFast),
        }
    }

    fn call(
        &mut self,
        handler: &dyn Handler,
        kind: MessageType,
        bytes: &[u8],
        lent: Option<&Text<'_>>,
        routed: usize,
        replies: &mut Replies<'_>,
    ) -> ControlFlow<Stop> {
        let Self { app, connection, waker, .. } = *self;
        let extensions = Extensions::new();
        let (state, extensions) = (&app.state, &extensions);
        let spare = Some(&self.spare);
        let received = Received { kind, bytes, lent, spare, routed, connection, state, extensions };
        let reply = &mut Reply::new(replies, connection, &self.spare);
        let handled = guarded(|| match handler.call(&received, reply) {
            Outcome::Done(result) => ControlFlow::Continue(result),
            Outcome::Later(mut later) => match later.as_mut().poll(&mut Context::from_waker(waker))
            {
                Poll::Ready(Ok(None)) => ControlFlow::Continue(Ok(())),
                Poll::Ready(Ok(Some(message))) => ControlFlow::Continue(reply.message(message)),
                Poll::Ready(Err(error)) => ControlFlow::Continue(Err(error)),
                Poll::Pending => ControlFlow::Break(later),
            },
        });
        match handled {
            Some(ControlFlow::Continue(Ok(()))) => ControlFlow::Continue(()),
            Some(ControlFlow::Continue(Err(error))) => match tell(app, connection, &error) {
                Some(message) => {
                    // It may be closing.
                    let _ = message.map(|message| reply.message(message));
                    ControlFlow::Continue(())
                }
                None => ControlFlow::Break(Stop::Panicked),
            },
            Some(ControlFlow::Break(later)) => {
                self.bucket.take();
                ControlFlow::Break(Stop::Later(later))
            }
            None => ControlFlow::Break(Stop::Panicked),
        }
    }
}

impl Receive for Dispatch<'_> {
    type Break = Stop;

    #[inline]
    fn message(&mut self, message: Lent<'_>, replies: &mut Replies<'_>) -> ControlFlow<Stop> {
        let (kind, text) = match &message {
            Lent::Binary(_) => (MessageType::Binary, None),
            Lent::Text(text) => (MessageType::Text, Some(text)),
        };
        self.handle(kind, message.as_bytes(), text, replies)
    }

    fn control(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        replies: &mut Replies<'_>,
    ) -> ControlFlow<Stop> {
        if !self.app.control_frames {
            return ControlFlow::Continue(());
        }
        let kind = if opcode == Opcode::Ping { MessageType::Ping } else { MessageType::Pong };
        self.handle(kind, payload, None, replies)
    }
}

/// Tells the application of an error; says what the peer is to be told. `None` if it panics.
fn tell(app: &App, connection: &Connection, error: &Error) -> Option<Option<Message>> {
    guarded(|| (app.hooks.error)(error, connection))
}

/// What the peer is told of a panic.
const FAILED: &str = "the server failed";

#[cfg(all(test, not(wsforge_loom)))]
mod tests {

    use wsforge_core::frame::{Header, Opcode};
    use wsforge_core::{Output, ServerConnection, Timestamp};

    use super::super::connection::Known;
    use super::super::{ConnectionManager, State, handler};
    use std::sync::Arc;

    use super::*;
    use crate::driver::outbox::mock::{Count, Pipe, frames, opened_of};
    use crate::driver::session::Conn;

    /// A connection with this handler, whose peer has sent the numbers to `n`.
    fn received(n: u8, handler: Arc<dyn Handler>) -> (Serving, Pipe) {
        let (outbox, pipe) = opened_of(App::stand_in(Routes::new().default_handler(handler)));
        for n in 0..n {
            let mut sent = Output::new();
            let mask = Some([1, 2, 3, 4]);
            let header = Header { fin: true, rsv1: false, opcode: Opcode::Binary, mask, len: 1 };
            sent.put_frame(&header, [n][..].into());
            sent.slices().for_each(|bytes| pipe.sends(bytes));
        }
        let config = outbox.endpoint.config.clone();
        let conn = Conn::Server(ServerConnection::after_handshake(config, Timestamp::ZERO));
        let connection = Connection::join_all(outbox, Known::default());
        (Serving::new(connection, Session::new(conn, &[]), 0), pipe)
    }

    #[test]
    fn it_fits_into_a_gap_with_its_connection() {
        assert_eq!((size_of::<Serving>(), Connection::SIZE), (40, 40));
    }

    fn bodies(pipe: &Pipe) -> Vec<u8> {
        frames(&pipe.written()).into_iter().flat_map(|(.., body)| body).collect()
    }

    #[test]
    fn what_handlers_give_at_once_leaves_in_one_write_async_or_not() {
        let plain = handler(|message: Message| message);
        let ready = handler(async |message: Message| message);
        for handler in [plain, ready] {
            let (mut serving, pipe) = received(9, handler);
            let count = Count::default();
            assert!(Pin::new(&mut serving).poll(&mut count.context()).is_pending());
            assert_eq!((bodies(&pipe), pipe.writes()), ((0..9).collect(), 1));
        }
    }

    /// Defect C9 of the API that this one is compatible with.
    #[test]
    fn what_a_handler_sends_to_all_leaves_in_one_write_for_each() {
        let speaks = handler(|message: Message, State(all): State<Arc<ConnectionManager>>| {
            (0..50).for_each(|_| all.broadcast(message.clone()));
        });
        let (mut serving, pipe) = received(2, speaks);
        let app = serving.connection.app();
        app.state.insert(app.manager.clone());
        assert!(Pin::new(&mut serving).poll(&mut Count::default().context()).is_pending());
        assert_eq!((bodies(&pipe), pipe.writes()), ([[0; 50], [1; 50]].concat(), 1));
    }

    #[test]
    fn what_was_given_before_a_handler_waits_leaves_before_it_is_done() {
        let (mut serving, pipe) = received(
            9,
            handler(async |message: Message| {
                if message.data == [4] {
                    std::future::pending::<()>().await;
                }
                message
            }),
        );
        let (manager, count) = (serving.connection.app().manager.clone(), Count::default());
        let endpoint = serving.connection.outbox().endpoint.clone();
        assert!(Pin::new(&mut serving).poll(&mut count.context()).is_pending());
        assert_eq!((bodies(&pipe), pipe.writes()), ((0..4).collect(), 1));
        // Nobody turns round and round for it.
        assert_eq!(
            (count.get(), manager.count(), endpoint.serving.load(Ordering::Relaxed)),
            (0, 1, 1)
        );
        drop(serving);
        assert_eq!((manager.count(), endpoint.serving.load(Ordering::Relaxed)), (0, 0));
        assert!(pipe.is_aborted());
    }
}
