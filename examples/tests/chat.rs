//! The framework's chat on real sockets: who hears what, and what is refused.

mod support;

use std::iter;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Peer, Server};

/// Tests on each runtime.
macro_rules! on_both {
    ($(fn $name:ident($chat:ident: &str) $body:block)*) => {
        mod tokio {
            $(#[test] fn $name() { super::$name(env!("CARGO_BIN_EXE_chat")); })*
        }
        mod smol {
            $(#[test] fn $name() { super::$name(env!("CARGO_BIN_EXE_chat_smol")); })*
        }
        $(fn $name($chat: &str) $body)*
    };
}

fn join(server: &Server, name: &str, room: &str) -> Peer {
    let mut peer = server.connect();
    say(&mut peer, &json!({ "type": "join", "name": name, "room": room }));
    peer
}

fn say(peer: &mut Peer, message: &Value) {
    peer.say(&message.to_string());
}

#[track_caller]
fn hear(peers: &[&Peer], message: &Value) {
    for peer in peers {
        assert_eq!(peer.text().parse::<Value>().expect("JSON"), *message);
    }
}

fn joined(name: &str, here: &[&str]) -> Value {
    json!({ "type": "joined", "name": name, "here": here })
}

fn left(name: &str, here: &[&str]) -> Value {
    json!({ "type": "left", "name": name, "here": here })
}

fn said(name: &str, text: &str) -> Value {
    json!({ "type": "said", "name": name, "text": text })
}

on_both! {
    fn a_room_hears_who_comes_who_goes_and_what_is_said_in_it(chat: &str) {
        let server = Server::start(chat, &[]);
        let ann = join(&server, "ann", "tea");
        hear(&[&ann], &joined("ann", &["ann"]));
        let mut eve = join(&server, "eve", "coffee");
        hear(&[&eve], &joined("eve", &["eve"]));
        let mut bob = join(&server, "bob", "tea");
        hear(&[&ann, &bob], &joined("bob", &["ann", "bob"]));

        say(&mut bob, &json!({ "type": "say", "text": "<b>hello</b>" }));
        hear(&[&ann, &bob], &said("bob", "<b>hello</b>"));
        say(&mut eve, &json!({ "type": "say", "text": "nobody here?" }));
        hear(&[&eve], &said("eve", "nobody here?"));

        bob.close();
        hear(&[&ann], &left("bob", &["ann"]));
        eve.reset();
        let zoe = join(&server, "zoe", "coffee");
        // Whichever the server noticed first.
        let first: Value = zoe.text().parse().expect("JSON");
        if first == joined("zoe", &["eve", "zoe"]) {
            hear(&[&zoe], &left("eve", &["zoe"]));
        } else {
            assert_eq!(first, joined("zoe", &["zoe"]));
        }
    }

    fn who_joins_another_room_leaves_the_first(chat: &str) {
        let server = Server::start(chat, &[]);
        let zoe = join(&server, "zoe", "tea");
        hear(&[&zoe], &joined("zoe", &["zoe"]));
        let mut bob = join(&server, "bob", "tea");
        hear(&[&zoe, &bob], &joined("bob", &["bob", "zoe"]));
        say(&mut bob, &json!({ "type": "join", "name": "bobby", "room": "coffee" }));
        hear(&[&zoe], &left("bob", &["zoe"]));
        hear(&[&bob], &joined("bobby", &["bobby"]));
        say(&mut bob, &json!({ "type": "say", "text": "alone" }));
        hear(&[&bob], &said("bobby", "alone"));
    }

    fn what_is_no_message_of_the_chat_is_refused_and_nobody_else_hears_of_it(chat: &str) {
        let server = Server::start(chat, &[]);
        let mut ann = join(&server, "ann", "tea");
        hear(&[&ann], &joined("ann", &["ann"]));
        let mut eve = server.connect();
        let long = |len| "é".repeat(len);
        for message in [
            json!({ "type": "say", "text": "not in a room" }).to_string(),
            json!({ "type": "join", "name": "eve" }).to_string(),
            json!({ "type": "join", "name": "", "room": "tea" }).to_string(),
            json!({ "type": "join", "name": long(33), "room": "tea" }).to_string(),
            json!({ "type": "join", "name": "eve", "room": long(33) }).to_string(),
            json!({ "type": "join", "name": "eve\n", "room": "tea" }).to_string(),
            json!({ "type": "dance" }).to_string(),
            "hello".into(),
        ] {
            eve.say(&message);
            let answer: Value = eve.text().parse().expect("JSON");
            assert_eq!(answer["type"], "error", "{message}: {answer}");
        }
        let too_much = json!({ "type": "say", "text": long(2001) });
        say(&mut ann, &too_much);
        assert_eq!(ann.text().parse::<Value>().expect("JSON")["type"], "error");
        // As long as it may be.
        say(&mut ann, &json!({ "type": "say", "text": long(2000) }));
        hear(&[&ann], &said("ann", &long(2000)));
        say(&mut eve, &json!({ "type": "join", "name": long(32), "room": "tea" }));
        hear(&[&ann, &eve], &joined(&long(32), &["ann", &long(32)]));
    }

    fn who_sends_too_much_is_closed(chat: &str) {
        let server = Server::start(chat, &[]);
        let mut eve = server.connect();
        eve.say(&"x".repeat(16 * 1024 + 1));
        eve.expect_last_close(1009);
    }

    fn who_talks_too_fast_waits(chat: &str) {
        let server = Server::start(chat, &[]);
        let mut ann = join(&server, "ann", "tea");
        hear(&[&ann], &joined("ann", &["ann"]));
        let start = Instant::now();
        for n in 0..30 {
            say(&mut ann, &json!({ "type": "say", "text": n.to_string() }));
        }
        for n in 0..30 {
            hear(&[&ann], &said("ann", &n.to_string()));
        }
        // Twenty at once, and then twenty a second.
        assert!(start.elapsed() > Duration::from_millis(300), "{:?}", start.elapsed());
    }

    fn a_room_has_a_hundred_places(chat: &str) {
        let server = Server::start(chat, &[]);
        let names: Vec<String> = (0..100).map(|n| format!("{n:02}")).collect();
        let peers: Vec<Peer> = names.iter().map(|name| join(&server, name, "tea")).collect();
        // The notice of whoever came last names all.
        let whole = iter::repeat_with(|| peers[0].text().parse::<Value>().expect("JSON"))
            .find(|notice| notice["here"].as_array().is_some_and(|here| here.len() == names.len()));
        assert_eq!(whole.expect("it comes")["here"], json!(names));
        let late = join(&server, "late", "tea");
        hear(&[&late], &json!({ "type": "error", "text": "the room is full" }));
        let elsewhere = join(&server, "late", "coffee");
        hear(&[&elsewhere], &joined("late", &["late"]));
    }

    fn the_page_comes_from_the_same_port(chat: &str) {
        let server = Server::start(chat, &[]);
        for (path, kind, part) in [
            ("/", "text/html", "<title>wsforge chat</title>"),
            ("/chat.css", "text/css", "#log"),
            ("/chat.js", "text/javascript", "new WebSocket"),
        ] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
            let answer = server.dial().ask(request.as_bytes());
            assert_eq!(answer.status, "200 OK", "{path}");
            assert!(answer.header("Content-Type").starts_with(kind), "{path}: {answer:?}");
            assert!(String::from_utf8(answer.body).expect("UTF-8").contains(part), "{path}");
        }
    }
}
