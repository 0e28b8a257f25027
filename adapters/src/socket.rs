use std::future::poll_fn;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;

use bytes::Bytes;
use wsforge_core::{Chunk, CloseCode, Message as Lent, Output, OwnedChunk};

use crate::driver::halves::{Half, Tasks};
use crate::driver::opening::poll_end;
use crate::driver::outbox::{Outbox, Piece, Pushed, Refusal, Room};
use crate::driver::receive::{Aim, Nothing, Receive};
use crate::driver::replies::Replies;
use crate::driver::session::Session;
use crate::driver::turn;
use crate::error::{Closed, PingError, SendError};
use crate::runtime::Task;
use crate::sender::push;
use crate::{ByteStream, CloseInfo, Message, MessageWriter, Receiver, Sender};

/// A WebSocket connection, a server's or a client's.
///
/// It has no task of its own: it reads, answers pings and writes what the peer was slow to take only
/// while one of [`recv`](Self::recv), [`send`](Self::send), [`flush`](Self::flush),
/// [`close`](Self::close) and their like is polled. So keep receiving, even if nothing is expected. While
/// nobody polls, what was sent is written ten times a second, as much as the socket takes then (over TLS and
/// the like, where only the owner writes, nothing is); and the connection is still cut off when its peer takes
/// nothing for [`Options::write_timeout`](crate::Options::write_timeout). Its peer's silence counts only while
/// somebody receives.
///
/// `while let Some(message) = socket.recv().await { socket.send(message).await? }` is a fast echo: what is
/// sent while messages of the same read wait to be received leaves with the last of them, in one write.
///
/// Dropping it within its runtime closes the connection with 1000 (1011 if the thread panics), in the background and within
/// [`Config::close_timeout`](crate::proto::Config::close_timeout).
#[derive(Debug)]
pub struct WebSocket {
    outbox: Arc<Outbox>,
    /// There is one until it is dropped.
    session: Option<Box<Session>>,
}

impl WebSocket {
    pub(crate) fn new(outbox: Arc<Outbox>, session: Box<Session>) -> Self {
        Self { outbox, session: Some(session) }
    }

    /// Receives the next message; `None` is the end, see [`close_info`](Self::close_info).
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, nothing is lost.
    pub fn recv(&mut self) -> Recv<'_> {
        Recv { socket: self }
    }

    /// Receives the next message where it lies, without owning it: `f` looks at it and says what comes
    /// of it. `None` is the end.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, `f` has not been called, and nothing is lost.
    pub async fn recv_with<R>(&mut self, f: impl FnOnce(Lent<'_>) -> R) -> Option<R> {
        Receiving { socket: self, aim: Aim::Whole, receiver: Once(Some(f)) }.await
    }

    /// Hands every message to `f`, lent from the read buffer, with a way to [reply](Replies), until `f`
    /// breaks or the connection ends: then it gives `None`.
    ///
    /// The fastest way to serve a connection: nothing is copied or allocated, and all replies to what
    /// came in one read leave in one write.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, nothing is lost: what `f` has not seen is received next.
    pub async fn for_each<B>(
        &mut self,
        f: impl FnMut(Lent<'_>, &mut Replies<'_>) -> ControlFlow<B>,
    ) -> Option<B> {
        Receiving { socket: self, aim: Aim::Whole, receiver: Each(f) }.await
    }

    /// Receives the next piece of a message, for messages that are larger than memory should hold: with
    /// [`Delivery::Chunks`](crate::proto::Delivery::Chunks), what has arrived; otherwise whole messages.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, nothing is lost.
    pub async fn recv_chunk(&mut self) -> Option<OwnedChunk> {
        Receiving { socket: self, aim: Aim::Pieces, receiver: Piecewise }.await
    }

    /// Sends a message. It waits as long as too much waits for the peer, and reads on meanwhile: up to
    /// [`Options::inbox_bytes`](crate::Options::inbox_bytes) of messages are kept to be received.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] with the message, if the connection is closing.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, the message has not been sent.
    pub fn send(&mut self, message: impl Into<Message>) -> Send<'_> {
        Send { socket: self, message: Some(message.into()) }
    }

    /// As [`send`](Self::send), but the message may wait for the next [`flush`](Self::flush), `send` or
    /// wait for a message.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn feed(&mut self, message: impl Into<Message>) -> Result<(), SendError> {
        let mut message = Some(message.into());
        self.attend(|socket, cx| socket.poll_send(cx, Piece::Fed, &mut message)).await
    }

    /// Waits until all that was sent has been written to the transport, and reads on meanwhile, as
    /// [`send`](Self::send) does.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the connection ended before.
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn flush(&mut self) -> Result<(), Closed> {
        self.attend(Self::poll_flushed).await
    }

    /// Sends a ping, see [`Sender::ping`].
    ///
    /// # Errors
    ///
    /// [`PingError`].
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), PingError> {
        self.sender().ping(payload)
    }

    /// Closes the connection and waits for the end, at most for
    /// [`Config::close_timeout`](crate::proto::Config::close_timeout) and a little. Messages that still
    /// arrive are dropped; who wants them calls [`Sender::close`] and receives to the end.
    ///
    /// `reason` is cut at 123 bytes, between characters.
    ///
    /// # Cancel safety
    ///
    /// The Close is queued by the first poll; to wait for the end, receive or call it again.
    pub async fn close(&mut self, code: CloseCode, reason: &str) -> &CloseInfo {
        self.sender().close(code, reason);
        poll_fn(|cx| {
            let session = self.session.as_mut().expect("until it is dropped");
            poll_end(session, &self.outbox, cx)
        })
        .await;
        self.close_info().expect("it is over")
    }

    /// Begins a message whose length need not be known, and that need not be in memory as a whole.
    /// Messages that others send meanwhile wait for its end.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the connection is closing.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, nothing has begun.
    pub async fn stream(&mut self, kind: wsforge_core::Kind) -> Result<MessageWriter<'_>, Closed> {
        MessageWriter::begin(self, kind)
    }

    /// A way to send from elsewhere.
    pub fn sender(&self) -> Sender {
        Sender { outbox: self.outbox.clone() }
    }

    /// Splits it into two parts for two tasks. The receiver is the one who has to be polled.
    ///
    /// A task that passes on what it receives to another peer does not poll its receiver while it waits for
    /// that one. What is sent the other way is then written by whoever waits to send more; what is left when
    /// nobody does may wait for a tenth of a second, or, where only the owner writes as over TLS, for the
    /// receiver. A proxy that must not wait has both sockets whole in one task, and polls them in turns as a
    /// [`Stream`](futures_core::Stream) and a [`Sink`](futures_sink::Sink).
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender(), Receiver::new(self))
    }

    /// Makes a stream of bytes of it, for tunnels.
    pub fn into_io(self) -> ByteStream {
        ByteStream::new(self)
    }

    /// How the connection ended, once it has.
    pub fn close_info(&self) -> Option<&CloseInfo> {
        self.session.as_ref()?.info()
    }

    /// The peer's address, where peers have one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.outbox.transport.peer_addr()
    }

    /// Polls [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let session = self.session.as_mut().expect("until it is dropped");
        match session.next_parked(&self.outbox) {
            Some(message) => Poll::Ready(Some(message)),
            None => self.poll_own(cx),
        }
    }

    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let mut own = Own(None);
        let session = self.session.as_mut().expect("until it is dropped");
        if session.next_waiting(&self.outbox, &mut own).is_none() {
            ready!(session.poll_each(&self.outbox, cx, Aim::Whole, &mut own));
        }
        Poll::Ready(own.0)
    }

    /// See [`poll_half`](Self::poll_half).
    pub(crate) fn tasks(&mut self, half: Half, cx: &Context<'_>) -> Option<Arc<Tasks>> {
        self.session.as_mut()?.tasks_of(&self.outbox, half, cx)
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Whether receiving would give something, be it the end.
    pub(crate) fn has_news(&self) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.has_waiting() || session.info().is_some())
    }

    pub(crate) fn poll_each<R: Receive>(
        &mut self,
        cx: &mut Context<'_>,
        aim: Aim,
        receiver: &mut R,
    ) -> Poll<Option<R::Break>> {
        let session = self.session.as_mut().expect("until it is dropped");
        session.poll_each(&self.outbox, cx, aim, receiver)
    }

    /// Waits for `poll`. Whoever gives up is not waited for to write what the peer has yet to take.
    pub(crate) async fn attend<T>(
        &mut self,
        mut poll: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<T>,
    ) -> T {
        let attending = Attending(self);
        poll_fn(|cx| poll(attending.0, cx)).await
    }

    /// Nobody waits for the peer any more, so it may be silent.
    fn leave(&mut self) {
        if let Some(session) = &mut self.session {
            session.leave(&self.outbox);
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        piece: Piece,
        message: &mut Option<Message>,
    ) -> Poll<Result<(), SendError>> {
        while let Some(sent) = message.as_ref() {
            if self.gather(cx, piece, sent) {
                *message = None;
                break;
            }
            // A writer would borrow the socket.
            self.outbox.abandon_stream();
            match push(&self.outbox, piece, sent, Room::Needed) {
                Ok(pushed) => {
                    *message = None;
                    if pushed == Pushed::Sent {
                        self.outbox.write_through(cx);
                    }
                }
                Err(Refusal::Full) => {
                    let len = sent.as_bytes().len();
                    ready!(self.poll_room(cx, piece, len));
                }
                Err(_) => {
                    return Poll::Ready(
                        message.take().map_or(Ok(()), |m| Err(SendError::Closed(m))),
                    );
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends a short message the short way, if it goes with others: those of the last read that still
    /// wait to be received will have answers, too, or it is the last of them.
    #[inline]
    fn gather(&self, cx: &mut Context<'_>, piece: Piece, message: &Message) -> bool {
        let bytes = message.as_bytes();
        let more = self.outbox.is_gathering() || piece == Piece::Fed;
        if !more && !turn::is_corked() || turn::has_plans() {
            return false;
        }
        let short = bytes.len() <= Output::COPY_LIMIT && !self.outbox.is_client();
        let gathered = short && turn::gather(&self.outbox, message.kind(), bytes);
        if gathered && !more {
            turn::uncork();
            self.outbox.write_through(cx);
        }
        gathered
    }

    /// Waits until there is room for `len` bytes, or the connection is over.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>, piece: Piece, len: usize) -> Poll<()> {
        ready!(self.poll_each(cx, Aim::Room(piece, len), &mut Nothing));
        self.leave();
        Poll::Ready(())
    }

    pub(crate) fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        turn::flush();
        self.outbox.flush_now();
        // What is left then waits for something else than the transport.
        if self.outbox.pending() > 0 {
            ready!(self.poll_each(cx, Aim::Empty, &mut Nothing));
        }
        Poll::Ready(if self.outbox.phase().is_gone() { Err(Closed) } else { Ok(()) })
    }
}

/// See [`WebSocket::attend`].
struct Attending<'a>(&'a mut WebSocket);

impl Drop for Attending<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Waits for what a receiver wants.
struct Receiving<'a, R> {
    socket: &'a mut WebSocket,
    aim: Aim,
    receiver: R,
}

impl<R: Receive> Future for Receiving<'_, R> {
    type Output = Option<R::Break>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<R::Break>> {
        let Self { socket, aim, receiver } = self.get_mut();
        socket.poll_each(cx, *aim, receiver)
    }
}

/// Nothing is pinned.
impl<R> Unpin for Receiving<'_, R> {}

impl<R> Drop for Receiving<'_, R> {
    fn drop(&mut self) {
        self.socket.leave();
    }
}

/// Hands on every message.
struct Each<F>(F);

impl<B, F: FnMut(Lent<'_>, &mut Replies<'_>) -> ControlFlow<B>> Receive for Each<F> {
    type Break = B;

    #[inline(always)] // As `hand_on`: the move would be as long as the rest of the way.
    fn message(&mut self, message: Lent<'_>, replies: &mut Replies<'_>) -> ControlFlow<B> {
        (self.0)(message, replies)
    }
}

/// Hands on one.
struct Once<F>(Option<F>);

impl<B, F: FnOnce(Lent<'_>) -> B> Receive for Once<F> {
    type Break = B;

    fn message(&mut self, message: Lent<'_>, _: &mut Replies<'_>) -> ControlFlow<B> {
        match self.0.take() {
            Some(f) => ControlFlow::Break(f(message)),
            None => ControlFlow::Continue(()),
        }
    }
}

/// Owns one.
struct Own(Option<Message>);

impl Receive for Own {
    type Break = ();

    const KEEPS: bool = true;

    fn keep(&mut self, message: Message) -> ControlFlow<()> {
        self.0 = Some(message);
        ControlFlow::Break(())
    }

    fn kept(&self) -> usize {
        self.0.as_ref().map_or(0, |message| message.as_bytes().len())
    }

    #[inline]
    fn message(&mut self, message: Lent<'_>, _: &mut Replies<'_>) -> ControlFlow<()> {
        self.0 = Some(message.into());
        ControlFlow::Break(())
    }
}

/// Owns a piece of one.
struct Piecewise;

impl Receive for Piecewise {
    type Break = OwnedChunk;

    fn message(&mut self, message: Lent<'_>, _: &mut Replies<'_>) -> ControlFlow<OwnedChunk> {
        let kind = message.kind();
        let payload = message.into_bytes();
        ControlFlow::Break(OwnedChunk { kind, first: true, last: true, payload })
    }

    fn chunk(
        &mut self,
        Chunk { kind, first, last, payload }: Chunk<'_>,
    ) -> ControlFlow<OwnedChunk> {
        let payload = Bytes::copy_from_slice(payload);
        ControlFlow::Break(OwnedChunk { kind, first, last, payload })
    }
}

/// Waits for a message, see [`WebSocket::recv`].
#[derive(Debug)]
#[must_use = "it receives when it is awaited"]
pub struct Recv<'a> {
    socket: &'a mut WebSocket,
}

impl Future for Recv<'_> {
    type Output = Option<Message>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.get_mut().socket.poll_recv(cx)
    }
}

impl Drop for Recv<'_> {
    fn drop(&mut self) {
        self.socket.leave();
    }
}

/// Waits until a message has been taken, see [`WebSocket::send`].
#[derive(Debug)]
#[must_use = "it sends when it is awaited"]
pub struct Send<'a> {
    socket: &'a mut WebSocket,
    /// Until it has been taken.
    message: Option<Message>,
}

impl Future for Send<'_> {
    type Output = Result<(), SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let Self { socket, message } = self.get_mut();
        socket.poll_send(cx, Piece::Message, message)
    }
}

impl Drop for Send<'_> {
    fn drop(&mut self) {
        if self.message.is_some() {
            self.socket.leave();
        }
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        turn::flush();
        let outbox = self.outbox.clone();
        if session.info().is_some() {
            // Somebody may hold a sender, and with it the socket.
            if Arc::strong_count(&self.outbox) > 2 {
                outbox.transport.abort();
            }
            return;
        }
        let code = if thread::panicking() { CloseCode::INTERNAL } else { CloseCode::NORMAL };
        outbox.close(code, "");
        let timer = outbox.endpoint.timer.clone();
        timer.spawn(Task::new(async move {
            poll_fn(|cx| poll_end(&mut session, &outbox, cx)).await;
            outbox.transport.abort();
        }));
    }
}

#[cfg(all(test, not(wsforge_loom)))]
mod tests {
    use std::pin::pin;

    use wsforge_core::frame::Opcode;
    use wsforge_core::{Kind, ServerConnection, Timestamp};

    use super::*;
    use crate::Options;
    use crate::driver::outbox::mock::{Count, Pipe, frames, opened};
    use crate::driver::session::Conn;

    fn socket() -> (WebSocket, Pipe) {
        let (outbox, pipe) = opened(Options::default());
        let config = outbox.endpoint.config.clone();
        let conn = ServerConnection::after_handshake(config, Timestamp::ZERO);
        (WebSocket::new(outbox, Session::new(Conn::Server(conn), &[])), pipe)
    }

    /// RFC 6455 section 5.5.2: until the peer's Close, which is not answered once more.
    #[test]
    fn pings_are_answered_behind_a_close_of_ours() {
        let (mut socket, pipe) = socket();
        let count = Count::default();
        socket.sender().close(CloseCode::NORMAL, "");
        for n in 1..3 {
            assert!(socket.poll_recv(&mut count.context()).is_pending());
            assert_eq!(frames(&pipe.written()).len(), n);
            // Masked with zeros.
            pipe.sends(b"\x89\x82\0\0\0\0hi");
        }
        pipe.sends(b"\x88\x82\0\0\0\0\x03\xE8");
        assert_eq!(socket.poll_recv(&mut count.context()), Poll::Ready(None));
        let written = frames(&pipe.written());
        let opcodes: Vec<_> = written.iter().map(|(_, opcode, _)| *opcode).collect();
        assert_eq!(opcodes, [Opcode::Close, Opcode::Pong, Opcode::Pong]);
        assert_eq!(written[1].2, b"hi");
        assert!(socket.close_info().unwrap().clean);
    }

    /// One is expected as long as the last one was; whatever comes then is received as ever.
    #[test]
    fn large_messages_to_keep_are_read_into_memory_of_their_own() {
        let (mut socket, pipe) = socket();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // What is sent at once, and how many reads were into memory of their own by then.
        let reads: [(&[usize], usize); 9] = [
            (&[20_000], 0),
            (&[20_000], 1),
            (&[15_000], 2),
            (&[20_001], 3),
            // Its beginning, and then its rest, which are put together.
            (&[40_000], 5),
            (&[200], 5),
            (&[20_000], 5),
            (&[200, 20_000, 300], 6),
            (&[20_000, 20_000], 6),
        ];
        for (lens, apart) in reads {
            for len in lens {
                // Masked with zeros.
                pipe.sends(&[0x82, 0xFE]);
                pipe.sends(&(*len as u16).to_be_bytes());
                pipe.sends(&[0; 4]);
                pipe.sends(&vec![*len as u8; *len]);
            }
            for len in lens {
                let Poll::Ready(Some(message)) = socket.poll_recv(&mut cx) else {
                    panic!("no message of {len}")
                };
                assert_eq!(
                    (message.kind(), message.as_bytes()),
                    (Kind::Binary, &vec![*len as u8; *len][..])
                );
                // What is kept keeps little more than itself.
                let capacity = message.into_bytes().try_into_mut().unwrap().capacity();
                assert!(capacity <= 2 * len, "{capacity} for {len}");
            }
            assert!(socket.poll_recv(&mut cx).is_pending());
            assert_eq!(pipe.read_apart(), apart, "{lens:?}");
        }
    }

    /// Else each of those that follow would be read in two, and put together.
    #[test]
    fn the_rest_of_a_large_message_is_not_what_the_next_one_is_expected_to_be() {
        let (mut socket, pipe) = socket();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // How long a text is, and how many reads were into memory of their own when it was there.
        for (len, apart) in [(20_000, 0), (60_000, 1), (60_000, 1), (60_000, 2), (60_000, 3)] {
            // Masked with zeros.
            pipe.sends(&[0x81, 0xFE]);
            pipe.sends(&(len as u16).to_be_bytes());
            pipe.sends(&[0; 4]);
            pipe.sends(&vec![b'a'; len]);
            let Poll::Ready(Some(message)) = socket.poll_recv(&mut cx) else { panic!("none") };
            assert_eq!((message.as_bytes().len(), pipe.read_apart()), (len, apart));
        }
    }

    /// As in a proxy, which waits for its other side then.
    #[test]
    fn who_does_something_else_is_not_waited_for_to_write() {
        type Wait = fn(&mut WebSocket, &mut Context<'_>, &Pipe);
        let waits: [Wait; 6] = [
            |socket, cx, pipe| {
                assert!(socket.poll_recv(cx).is_pending());
                // Masked with zeros.
                pipe.sends(b"\x82\x82\0\0\0\0hi");
                assert!(socket.poll_recv(cx).is_ready());
            },
            |socket, cx, _| assert!(pin!(socket.recv()).poll(cx).is_pending()),
            |socket, cx, _| assert!(pin!(socket.send(vec![0; 10_000])).poll(cx).is_pending()),
            |socket, cx, _| assert!(pin!(socket.feed(vec![0; 10_000])).poll(cx).is_pending()),
            |socket, cx, _| assert!(pin!(socket.flush()).poll(cx).is_pending()),
            |socket, cx, _| {
                let Poll::Ready(Ok(mut writer)) = pin!(socket.stream(Kind::Binary)).poll(cx) else {
                    panic!("it is open")
                };
                assert!(pin!(writer.write(vec![0; 10_000])).poll(cx).is_pending());
                // Else it would close the connection.
                std::mem::forget(writer);
            },
        ];
        for (n, wait) in waits.into_iter().enumerate() {
            let (mut socket, pipe) = socket();
            let (sender, owner, count) = (socket.sender(), Count::default(), Count::default());
            pipe.room(0);
            while sender.try_send(vec![0; 10_000]).is_ok() {}
            wait(&mut socket, &mut owner.context(), &pipe);
            let mut sending = pin!(sender.send(vec![0; 10_000]));
            assert!(sending.as_mut().poll(&mut count.context()).is_pending());
            pipe.room(usize::MAX);
            assert_eq!((owner.get(), count.get()), (0, 1), "the wait {n}");
            assert!(sending.as_mut().poll(&mut count.context()).is_ready());
            assert!(frames(&pipe.written()).len() > 2);
        }
    }
}
