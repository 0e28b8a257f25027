use std::any::Any;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use once_cell::race::OnceBox;
use serde::{Deserialize, Serialize};
use wsforge_core::frame::{MAX_CONTROL_LEN, Opcode};
use wsforge_core::hub::{MemberId, SlowConsumer, SubscribeError, Tags};
use wsforge_core::{Body, CloseCode};

use super::app::App;
use super::data::Data;
use super::id;
use super::{ConnectionId, ConnectionRef, Error, Message, MessageType, Request, Result};
use crate::driver::address::Address;
use crate::driver::fan::{Fan, Peer};
use crate::driver::outbox::{Outbox, Piece, Refusal, Room};
use crate::driver::turn;
use crate::sender::{push_body, push_within};

/// One of a server's connections: clone it to send to its peer from anywhere.
///
/// Whoever keeps one keeps a socket, also when the connection is over; so rather keep its
/// [id](Self::id), and [ask](super::ConnectionManager::get) for it.
#[derive(Clone)]
pub struct Connection(Arc<Shared>);

/// There is one for each connection, so it is small.
struct Shared {
    outbox: Arc<Outbox>,
    id: MemberId,
    /// Where it is not this short, it is in the other part.
    address: Option<SocketAddrV4>,
    rare: OnceBox<Rare>,
}

/// What is there only if somebody wants it.
#[derive(Default)]
struct Rare {
    address: Option<Address>,
    subprotocol: Option<String>,
    request: Option<Arc<Request>>,
    data: Mutex<Data>,
    id: OnceLock<ConnectionId>,
    info: OnceLock<ConnectionInfo>,
}

/// What is known of a connection.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// What it is called.
    pub id: ConnectionId,
    /// The peer's address; `[::]:0` where peers have none, as on a Unix socket.
    pub addr: SocketAddr,
    /// When it was made, in seconds since 1970.
    pub connected_at: u64,
    /// The subprotocol that was agreed on.
    pub protocol: Option<String>,
}

/// What is known of a connection that begins.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) address: Option<Address>,
    pub(crate) subprotocol: Option<String>,
    pub(crate) request: Option<Arc<Request>>,
    pub(crate) data: Data,
}

impl Connection {
    /// Makes a connection a member.
    pub(crate) fn join_all(outbox: Arc<Outbox>, known: Known) -> Self {
        let Known { address, subprotocol, request, data } = known;
        let (address, long) = match address {
            Some(Address::V4(address)) => (Some(address), None),
            long => (None, long),
        };
        let rare = OnceBox::new();
        if long.is_some() || subprotocol.is_some() || request.is_some() || !data.is_empty() {
            let data = Mutex::new(data);
            rare.get_or_init(|| {
                Box::new(Rare { address: long, subprotocol, request, data, ..Rare::default() })
            });
        }
        let endpoint = outbox.endpoint.clone();
        let join = |id| Self(Arc::new(Shared { outbox, id, address, rare }));
        App::of(&endpoint).manager.fan().join(join).1
    }

    /// What it is called.
    pub fn id(&self) -> &ConnectionId {
        self.rare().id.get_or_init(|| id::text(self.0.id))
    }

    pub(crate) fn id_text(&self) -> ConnectionId {
        id::text(self.0.id)
    }

    /// What an [`Audience`](crate::proto::hub::Audience) names it by.
    pub fn member_id(&self) -> MemberId {
        self.0.id
    }

    /// What is known of it.
    pub fn info(&self) -> &ConnectionInfo {
        let rare = self.rare();
        rare.info.get_or_init(|| {
            let age = self.0.outbox.endpoint.timer.age(self.0.outbox.key());
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let nowhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
            ConnectionInfo {
                id: self.id().clone(),
                addr: self.peer_addr().unwrap_or(nowhere),
                connected_at: now.saturating_sub(age).as_secs(),
                protocol: rare.subprotocol.clone(),
            }
        })
    }

    /// The peer's address, where peers have one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        let short = self.0.address.map(SocketAddr::V4);
        short.or_else(|| self.0.rare.get()?.address.as_ref().map(SocketAddr::from))
    }

    /// The request that it began with, if it is kept: when a handler's extractors look at it, or
    /// [`Router::keep_requests`](super::Router::keep_requests) says so.
    pub fn request(&self) -> Option<&Arc<Request>> {
        self.0.rare.get()?.request.as_ref()
    }

    /// Sends a message. It never waits; the peer gets what was sent in the order in which it was.
    ///
    /// A Close is [`close`](Self::close) with 1000 and no reason.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if one side has closed, [`Error::Full`] if too much waits for the peer,
    /// [`Error::InvalidMessage`] for a text that is not UTF-8 and for a ping or pong of more than 125
    /// bytes. The message has not been sent, and [counts](super::ConnectionManager::counters) as refused.
    pub fn send(&self, message: Message) -> Result<()> {
        self.offer(&message)
    }

    /// As [`send`](Self::send), but gives a message back that is refused.
    ///
    /// # Errors
    ///
    /// Why it was not sent, and the message.
    pub fn try_send(&self, message: Message) -> Result<(), (Error, Message)> {
        self.offer(&message).map_err(|error| (error, message))
    }

    /// Sends a text.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_text(&self, text: impl Into<String>) -> Result<()> {
        self.send(Message::text(text))
    }

    /// Sends bytes.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_binary(&self, data: impl Into<Vec<u8>>) -> Result<()> {
        self.send(Message::binary(data))
    }

    /// Sends the JSON of a value as a text.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`Error::Json`] if the value has no JSON.
    pub fn send_json<T: Serialize + ?Sized>(&self, value: &T) -> Result<()> {
        self.send(Message::from_json(value)?)
    }

    /// Starts the closing handshake behind all that has been sent; nothing can be sent any more. It does
    /// nothing if one side has closed before.
    ///
    /// `reason` is cut at 123 bytes, between characters.
    pub fn close(&self, code: CloseCode, reason: &str) {
        turn::flush();
        self.0.outbox.close(code, reason);
    }

    /// Whether nothing more can be sent.
    pub fn is_closed(&self) -> bool {
        self.0.outbox.is_closed()
    }

    /// How many bytes wait for the peer.
    pub fn pending(&self) -> usize {
        self.0.outbox.pending()
    }

    /// Joins a group, which is made if there is none. `false` if it was in it before.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the connection is over, [`Error::Custom`] if the group's name is longer than
    /// 255 bytes, or it is in 128 groups already.
    pub fn join(&self, group: &str) -> Result<bool> {
        self.of().subscribe(self.0.id, group).map_err(not_subscribed)
    }

    /// Leaves a group. `false` if it was not in it. It leaves all of them when it ends.
    pub fn leave(&self, group: &str) -> bool {
        self.of().unsubscribe(self.0.id, group)
    }

    /// The groups that it is in, in no particular order.
    pub fn groups(&self) -> Vec<String> {
        self.of().with_hub(|hub| hub.groups(self.0.id).map(Into::into).collect())
    }

    /// Lets it have what is sent to [topics](super::ConnectionManager::broadcast_topic) that match a pattern: `a.*`,
    /// or `a.>` for all below `a`. `false` if it had it before.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join), and [`Error::Custom`] if the pattern is malformed.
    pub fn subscribe(&self, pattern: &str) -> Result<bool> {
        self.of().change(|hub| hub.subscribe_pattern(self.0.id, pattern)).map_err(not_subscribed)
    }

    /// Takes that back. `false` if there was nothing to take.
    pub fn unsubscribe(&self, pattern: &str) -> bool {
        self.of().change(|hub| hub.unsubscribe_pattern(self.0.id, pattern))
    }

    /// Sets what [`Audience::Tagged`](crate::proto::hub::Audience::Tagged) looks at. `false` if it is over.
    pub fn set_tags(&self, tags: Tags) -> bool {
        self.of().change(|hub| hub.set_tags(self.0.id, tags))
    }

    /// What was [set](Self::set_tags).
    pub fn tags(&self) -> Tags {
        self.of().with_hub(|hub| hub.tags(self.0.id)).unwrap_or_default()
    }

    /// Says what happens when too much waits for this peer, whatever the policies of its groups and its
    /// server are; `None` for those.
    pub fn set_slow_consumer(&self, policy: Option<SlowConsumer>) {
        self.0.outbox.set_policy(policy);
    }

    /// How many messages to many this peer has missed, as they were dropped, since this was asked. With
    /// [`Router::on_lagged`](super::Router::on_lagged), that asks.
    pub fn take_lagged(&self) -> u64 {
        self.0.outbox.take_lagged()
    }

    /// As [`send`](Self::send), but waits for so long if too much waits for the peer.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send).
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, the message has not been sent.
    pub async fn send_within(
        &self,
        message: Message,
        patience: Duration,
    ) -> Result<(), (Error, Message)> {
        let opcode = match opcode(&message) {
            Ok(opcode) if !opcode.is_control() => opcode,
            // These do not wait.
            _ => return self.try_send(message),
        };
        let sent = push_within(&self.0.outbox, opcode, &Body::Copy(&message.data), patience).await;
        sent.map_err(|refusal| {
            self.of().tally().refuse(1);
            (refused(refusal), message)
        })
    }

    /// What was [set](Self::set_data) of this type.
    pub fn data<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Data::get(&self.0.rare.get()?.data)
    }

    /// Keeps a value with the connection until that ends, in place of the one of this type, which it
    /// gives.
    pub fn set_data<T: Any + Send + Sync>(&self, value: T) -> Option<Arc<T>> {
        Data::insert(&self.rare().data, value)
    }

    /// Sends what a handler has answered, however much waits: the peer is not read from meanwhile.
    pub(crate) fn reply(&self, message: &Message) -> Result<()> {
        self.push(message, Room::Owed)
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.0.outbox
    }

    /// It is over. `false` if it was before.
    pub(crate) fn end(&self) -> bool {
        self.of().leave(self.0.id)
    }

    /// Nobody is to find anything here any more.
    pub(crate) fn clear(&self) {
        if let Some(rare) = self.0.rare.get() {
            drop(Data::take(&rare.data));
        }
    }

    fn offer(&self, message: &Message) -> Result<()> {
        self.push(message, Room::Needed).inspect_err(|_| self.of().tally().refuse(1))
    }

    fn push(&self, message: &Message, room: Room<'_, '_>) -> Result<()> {
        let outbox = &self.0.outbox;
        let opcode = opcode(message)?;
        if opcode == Opcode::Close {
            turn::flush();
            return if outbox.close(CloseCode::NORMAL, "") { Ok(()) } else { Err(Error::Closed) };
        }
        let piece = if opcode.is_control() { Piece::Control } else { Piece::Message };
        match push_body(outbox, piece, opcode, Body::Copy(&message.data), room) {
            Ok(_) => Ok(()),
            Err(refusal) => Err(refused(refusal)),
        }
    }

    pub(crate) fn app(&self) -> &App {
        App::of(&self.0.outbox.endpoint)
    }

    /// Those of which it is one.
    fn of(&self) -> &Fan<Self> {
        self.app().manager.fan()
    }

    fn rare(&self) -> &Rare {
        self.0.rare.get_or_init(Box::default)
    }
}

fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Full => Error::Full,
        _ => Error::Closed,
    }
}

fn not_subscribed(error: SubscribeError) -> Error {
    match error {
        SubscribeError::UnknownMember => Error::Closed,
        error => Error::custom(error),
    }
}

/// What a message is sent as.
///
/// # Errors
///
/// [`Error::InvalidMessage`] if it cannot be: its fields are everybody's to change.
pub(crate) fn opcode(message: &Message) -> Result<Opcode> {
    let (opcode, valid) = match message.msg_type {
        MessageType::Text => (Opcode::Text, message.is_valid()),
        MessageType::Binary => (Opcode::Binary, true),
        MessageType::Ping => (Opcode::Ping, message.data.len() <= MAX_CONTROL_LEN),
        MessageType::Pong => (Opcode::Pong, message.data.len() <= MAX_CONTROL_LEN),
        MessageType::Close => (Opcode::Close, true),
    };
    if valid { Ok(opcode) } else { Err(Error::InvalidMessage) }
}

impl Peer for Connection {
    fn outbox(&self) -> &Arc<Outbox> {
        &self.0.outbox
    }
}

impl ConnectionRef for Connection {
    fn member_id(&self) -> Option<MemberId> {
        Some(self.0.id)
    }
}

/// The same connection, not one like it.
impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Connection {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&id::text(self.0.id)).finish()
    }
}

#[cfg(test)]
impl Connection {
    /// Of what clones share.
    #[cfg(not(wsforge_loom))]
    pub(crate) const SIZE: usize = size_of::<Shared>();

    /// One that nobody is connected to.
    pub(crate) fn stand_in(request: Option<Request>) -> Self {
        let app = App::stand_in(crate::router::Routes::new());
        let (outbox, pipe) = crate::driver::outbox::mock::opened_of(app);
        let known = Known { request: request.map(Arc::new), ..Known::default() };
        let connection = Self::join_all(outbox, known);
        connection.set_data(pipe);
        connection
    }

    /// What has been sent to it.
    pub(crate) fn sent(&self) -> Vec<Message> {
        use crate::driver::outbox::mock::{Pipe, frames};
        let written = self.data::<Pipe>().unwrap().written();
        let message = |(_, opcode, data)| match opcode {
            Opcode::Text => Message { data, msg_type: MessageType::Text },
            Opcode::Ping => Message::ping(data),
            Opcode::Pong => Message::pong(data),
            Opcode::Close => Message::close(),
            _ => Message::binary(data),
        };
        frames(&written).into_iter().map(message).collect()
    }
}
