//! The chat itself, which knows of no runtime.

use serde::{Deserialize, Serialize};
use wsforge::Rate;
use wsforge::prelude::*;
use wsforge::proto::hub::Audience;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin/chat/page");

/// Each who comes or goes is told to all who are there.
const MAX_IN_ROOM: usize = 100;

pub(crate) fn chat() -> Router {
    let router = Router::new();
    let manager = router.connection_manager();
    router
        .serve_static(PAGE)
        .route_json("type", "join", handler(join))
        .route_json("type", "say", handler(say))
        .default_handler(handler(other))
        .on_close(move |connection, _| leave(connection, &manager))
        .on_error(|error, _| Message::from_json(&Notice::Error { text: error.public() }).ok())
        .max_message_size(16 * 1024)
        .message_rate(Some(Rate::per_second(20)))
}

/// Who a connection is to, once it has said so.
#[derive(Deserialize)]
struct Seat {
    name: Text<32>,
    room: Text<32>,
}

fn join(
    Json(seat): Json<Seat>,
    connection: Connection,
    State(manager): State<ConnectionManager>,
) -> Result<()> {
    let Seat { name: Text(name), room: Text(room) } = &seat;
    if manager.group_count(room) >= MAX_IN_ROOM {
        return Err(Error::custom("the room is full"));
    }
    leave(&connection, &manager);
    connection.join(room)?;
    let (name, room) = (name.clone(), room.clone());
    connection.set_data(seat);
    tell(&manager, &room, &Notice::Joined { name: &name, here: here(&manager, &room) });
    Ok(())
}

/// Also when the connection is over, and in no group any more.
fn leave(connection: &Connection, manager: &ConnectionManager) {
    let Some(seat) = connection.data::<Seat>() else { return };
    let Seat { name: Text(name), room: Text(room) } = &*seat;
    connection.leave(room);
    tell(manager, room, &Notice::Left { name, here: here(manager, room) });
}

#[derive(Deserialize)]
struct Say {
    text: Text<2000>,
}

fn say(
    Json(Say { text: Text(text) }): Json<Say>,
    connection: Connection,
    State(manager): State<ConnectionManager>,
) -> Result<()> {
    let seat = connection.data::<Seat>().ok_or_else(|| Error::custom("join a room first"))?;
    let Seat { name: Text(name), room: Text(room) } = &*seat;
    tell(&manager, room, &Notice::Said { name, text: &text });
    Ok(())
}

fn other() -> Result<()> {
    Err(Error::custom("that is nothing that the chat knows"))
}

/// What clients are told.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Notice<'a> {
    Error { text: &'a str },
    Joined { name: &'a str, here: Vec<String> },
    Left { name: &'a str, here: Vec<String> },
    Said { name: &'a str, text: &'a str },
}

fn tell(manager: &ConnectionManager, room: &str, notice: &Notice<'_>) {
    manager.broadcast_group(room, Message::from_json(notice).expect("it has JSON"));
}

fn here(manager: &ConnectionManager, room: &str) -> Vec<String> {
    let connections = manager.connections(Audience::Group(room)).into_iter();
    let seats = connections.filter_map(|connection| connection.data::<Seat>());
    let mut names: Vec<String> = seats.map(|seat| seat.name.0.clone()).collect();
    names.sort();
    names
}

/// A line of at most `MAX` characters that shows something.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Text<const MAX: usize>(String);

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.trim().is_empty() || text.contains(char::is_control) {
            return Err("it has to be a line of text");
        }
        if text.chars().nth(MAX).is_some() { Err("it is too long") } else { Ok(Self(text)) }
    }
}
