use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use wsforge_core::{Kind, Output, SendError};

use super::handler::Spare;
use super::{Connection, Error, Message, MessageType, Received, Result};
use crate::Replies;

/// Where an answer goes: to the peer, or back to the middleware that called.
pub struct Reply<'a>(To<'a>);

enum To<'a> {
    Peer { wire: &'a mut (dyn Wire + 'a), connection: &'a Connection, spare: Option<&'a Spare> },
    Slot(&'a mut Option<Message>),
}

/// [`Replies`], whatever it borrows from.
pub(super) trait Wire {
    fn copy(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), SendError>;

    fn share(&mut self, kind: Kind, bytes: Bytes) -> Result<(), SendError>;
}

impl Wire for Replies<'_> {
    fn copy(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), SendError> {
        self.send(kind, bytes)
    }

    fn share(&mut self, kind: Kind, bytes: Bytes) -> Result<(), SendError> {
        self.send(kind, bytes)
    }
}

impl<'a> Reply<'a> {
    /// To the peer; the memory of what is sent is put aside.
    pub(super) fn new(
        replies: &'a mut Replies<'_>,
        connection: &'a Connection,
        spare: &'a Spare,
    ) -> Self {
        Self(To::Peer { wire: replies, connection, spare: Some(spare) })
    }

    /// To the peer.
    #[cfg(test)]
    pub(super) fn to(wire: &'a mut (dyn Wire + 'a), connection: &'a Connection) -> Self {
        Self(To::Peer { wire, connection, spare: None })
    }

    /// Into `slot`, where the last answer stays.
    pub(crate) const fn slot(slot: &'a mut Option<Message>) -> Self {
        Self(To::Slot(slot))
    }

    /// Answers with a text.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the connection is closing.
    pub fn text(&mut self, text: &str) -> Result<()> {
        self.copy(Kind::Text, text.as_bytes())
    }

    /// Answers with bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the connection is closing.
    pub fn binary(&mut self, bytes: &[u8]) -> Result<()> {
        self.copy(Kind::Binary, bytes)
    }

    /// Answers with what was received, as what it is. Whether a text is one is not looked at again.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the connection is closing.
    pub fn echo(&mut self, received: &Received<'_>) -> Result<()> {
        match received.kind {
            MessageType::Text => self.copy(Kind::Text, received.bytes),
            MessageType::Binary => self.copy(Kind::Binary, received.bytes),
            MessageType::Ping | MessageType::Pong | MessageType::Close => {
                self.message(received.to_message())
            }
        }
    }

    /// Answers with a message.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the connection is closing, [`Error::InvalidMessage`] if it is a text that is
    /// not UTF-8, or a ping or pong of more than 125 bytes.
    pub fn message(&mut self, message: Message) -> Result<()> {
        let kind = match (&self.0, message.msg_type) {
            (To::Slot(_), _) => None,
            (_, MessageType::Text) => Some(Kind::Text),
            (_, MessageType::Binary) => Some(Kind::Binary),
            (_, MessageType::Ping | MessageType::Pong | MessageType::Close) => None,
        };
        match (&mut self.0, kind) {
            (To::Peer { wire, spare, .. }, Some(kind)) => {
                if !message.is_valid() {
                    return Err(Error::InvalidMessage);
                }
                if message.data.len() > Output::COPY_LIMIT {
                    return Ok(wire.share(kind, message.data.into())?);
                }
                wire.copy(kind, &message.data)?;
                if let Some(spare) = spare {
                    spare.put(message.data);
                }
                Ok(())
            }
            (To::Peer { connection, .. }, None) => connection.send(message),
            (To::Slot(slot), _) => {
                **slot = Some(message);
                Ok(())
            }
        }
    }

    /// Text's bytes are UTF-8.
    #[inline]
    fn copy(&mut self, kind: Kind, bytes: &[u8]) -> Result<()> {
        match &mut self.0 {
            To::Peer { wire, .. } => Ok(wire.copy(kind, bytes)?),
            To::Slot(_) => self.share(kind, Bytes::copy_from_slice(bytes)),
        }
    }

    /// As [`copy`](Self::copy), of bytes that can be shared.
    fn share(&mut self, kind: Kind, bytes: Bytes) -> Result<()> {
        match &mut self.0 {
            To::Peer { wire, .. } => wire.share(kind, bytes)?,
            To::Slot(slot) => {
                **slot = Some(Message { data: bytes.into(), msg_type: kind.into() });
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            To::Peer { .. } => "Reply(to the peer)",
            To::Slot(_) => "Reply(to middleware)",
        })
    }
}

/// What a handler may give.
///
/// Nothing is sent for `()` and `None`. Texts and bytes are sent as what they are, [`JsonResponse`] as a
/// text. An error's [public words](Error::public) are for the application to send, or not.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that a handler may give",
    label = "no response",
    note = "a handler gives `()`, a `Message`, text, bytes, a `JsonResponse`, or an `Option` or `Result` of one of these"
)]
pub trait IntoResponse: Sized {
    /// The answer, if there is one.
    ///
    /// # Errors
    ///
    /// What went wrong instead.
    fn into_response(self) -> Result<Option<Message>>;

    /// Writes the answer where it goes, which for some is possible without a message in between.
    ///
    /// # Errors
    ///
    /// As [`into_response`](Self::into_response), and [`Error::Closed`] if the connection is closing.
    fn respond(self, reply: &mut Reply<'_>) -> Result<()> {
        match self.into_response()? {
            Some(message) => reply.message(message),
            None => Ok(()),
        }
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Result<Option<Message>> {
        Ok(None)
    }
}

impl IntoResponse for Message {
    fn into_response(self) -> Result<Option<Message>> {
        Ok(Some(self))
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Result<Option<Message>> {
        Ok(Some(self.into()))
    }

    fn respond(self, reply: &mut Reply<'_>) -> Result<()> {
        if self.len() > Output::COPY_LIMIT {
            return reply.share(Kind::Text, self.into());
        }
        reply.text(&self)
    }
}

impl IntoResponse for &str {
    fn into_response(self) -> Result<Option<Message>> {
        Ok(Some(self.into()))
    }

    fn respond(self, reply: &mut Reply<'_>) -> Result<()> {
        reply.text(self)
    }
}

impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Result<Option<Message>> {
        Ok(Some(self.into()))
    }
}

impl IntoResponse for &[u8] {
    fn into_response(self) -> Result<Option<Message>> {
        Ok(Some(self.into()))
    }

    fn respond(self, reply: &mut Reply<'_>) -> Result<()> {
        reply.binary(self)
    }
}

impl IntoResponse for Bytes {
    fn into_response(self) -> Result<Option<Message>> {
        Ok(Some(Message::binary(self)))
    }

    fn respond(self, reply: &mut Reply<'_>) -> Result<()> {
        reply.share(Kind::Binary, self)
    }
}

impl<T: IntoResponse> IntoResponse for Option<T> {
    fn into_response(self) -> Result<Option<Message>> {
        self.map_or(Ok(None), T::into_response)
    }

    fn respond(self, reply: &mut Reply<'_>) -> Result<()> {
        self.map_or(Ok(()), |response| response.respond(reply))
    }
}

/// Only of our own error: with others, too, that of `Ok(message)` in a closure would be anybody's guess.
impl<T: IntoResponse> IntoResponse for Result<T> {
    fn into_response(self) -> Result<Option<Message>> {
        self?.into_response()
    }

    fn respond(self, reply: &mut Reply<'_>) -> Result<()> {
        self?.respond(reply)
    }
}

/// Answers with the JSON of a value, as a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct JsonResponse<T>(pub T);

impl<T: Serialize> IntoResponse for JsonResponse<T> {
    fn into_response(self) -> Result<Option<Message>> {
        Message::from_json(&self.0).map(Some)
    }

    fn respond(self, reply: &mut Reply<'_>) -> Result<()> {
        if matches!(reply.0, To::Slot(_)) {
            return reply.message(Message::from_json(&self.0)?);
        }
        thread_local! {
            static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
        }
        // Taken and put back, as what is serialised may run anything.
        let mut buffer = BUFFER.take();
        buffer.clear();
        let written = serde_json::to_writer(&mut buffer, &self.0);
        let replied = written.map_err(Error::from).and_then(|()| reply.copy(Kind::Text, &buffer));
        if buffer.capacity() <= KEPT {
            BUFFER.set(buffer);
        }
        replied
    }
}

/// A thread's buffer for JSON that has grown beyond this is not kept.
const KEPT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::testing::Around;

    /// What the peer gets, and what middleware gets.
    fn answers(make: impl Fn(&mut Reply<'_>) -> Result<()>) -> (Vec<Message>, Option<Message>) {
        let (mut sent, mut slot) = (Vec::new(), None);
        make(&mut Reply::to(&mut sent, &Around::new().connection)).unwrap();
        make(&mut Reply::slot(&mut slot)).unwrap();
        (sent, slot)
    }

    /// Checks all three ways of a response.
    fn check<T: IntoResponse>(make: impl Fn() -> T, expected: Option<Message>) {
        let (sent, slot) = answers(|reply| make().respond(reply));
        assert_eq!(sent, Vec::from_iter(expected.clone()));
        assert_eq!(slot, expected);
        assert_eq!(make().into_response().unwrap(), expected);
    }

    #[test]
    fn everything_that_a_handler_may_give_is_sent_as_what_it_is() {
        let text = || Some(Message::text("\"a\""));
        let binary = || Some(Message::binary(*b"a"));
        check(|| (), None);
        check(|| Message::binary(*b"a"), binary());
        check(|| "\"a\"", text());
        check(|| String::from("\"a\""), text());
        check(|| vec![b'a'], binary());
        check(|| &b"a"[..], binary());
        check(|| Bytes::from_static(b"a"), binary());
        check(|| JsonResponse("a"), text());
        check(|| Some("\"a\""), text());
        check(|| None::<String>, None);
        check(|| Ok("\"a\""), text());
        let long = "a".repeat(KEPT + 1);
        check(|| long.clone(), Some(Message::text(&*long)));
        check(|| Message::text(&*long), Some(Message::text(&*long)));
        check(|| JsonResponse(&long), Some(Message::text(format!("\"{long}\""))));
    }

    #[test]
    fn an_error_is_given_on() {
        fn fails(result: Result<()>) -> bool {
            matches!(result, Err(Error::Full))
        }
        let failed = || Err::<Option<String>, _>(Error::Full);
        assert!(fails(failed().into_response().map(drop)));
        let mut slot = None;
        assert!(fails(failed().respond(&mut Reply::slot(&mut slot))));
        assert_eq!(slot, None);
        // A map whose keys are no strings.
        let response = || JsonResponse(std::collections::HashMap::from([((1, 2), 3)]));
        assert!(matches!(response().into_response(), Err(Error::Json(_))));
        let mut sent = Vec::new();
        let around = Around::new();
        let mut reply = Reply::to(&mut sent, &around.connection);
        assert!(matches!(response().respond(&mut reply), Err(Error::Json(_))));
        assert!(matches!(response().respond(&mut Reply::slot(&mut slot)), Err(Error::Json(_))));
        assert_eq!(sent, []);
    }

    #[test]
    fn a_text_that_is_none_is_not_sent() {
        let mut sent = Vec::new();
        let around = Around::new();
        let bad = Message { data: vec![0xFF], msg_type: MessageType::Text };
        let replied = Reply::to(&mut sent, &around.connection).message(bad);
        assert!(matches!(replied, Err(Error::InvalidMessage)));
        assert_eq!(sent, []);
    }

    #[test]
    fn what_was_received_goes_back_as_what_it_is() {
        let around = Around::new();
        for message in [Message::text("é"), Message::binary([0xFF])] {
            let (sent, slot) =
                answers(|reply| around.receive(message.clone(), |received| reply.echo(received)));
            assert_eq!((sent, slot), (vec![message.clone()], Some(message)));
        }
        let (mut sent, ping) = (Vec::new(), Message::ping("a"));
        let mut reply = Reply::to(&mut sent, &around.connection);
        around.receive(ping.clone(), |received| reply.echo(received)).unwrap();
        assert_eq!((sent, around.connection.sent()), (vec![], vec![ping]));
    }

    #[test]
    fn control_goes_through_the_connection() {
        let all = || [Message::ping("a"), Message::pong("b"), Message::close()];
        let around = Around::new();
        let mut sent = Vec::new();
        for message in all() {
            Reply::to(&mut sent, &around.connection).message(message.clone()).unwrap();
            let mut slot = None;
            Reply::slot(&mut slot).message(message.clone()).unwrap();
            assert_eq!(slot, Some(message));
        }
        assert_eq!((sent, around.connection.sent()), (vec![], all().into()));
    }
}
