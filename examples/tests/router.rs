//! The small programs on the framework, each talked to.

mod support;

use serde_json::{Value, json};
use support::{Finished, Peer, Server, http, masked, masked_close, plain, plain_close};
use wsforge_core::frame::Opcode;

fn json_of(peer: &Peer) -> Value {
    peer.text().parse().expect("JSON")
}

#[test]
fn echo_sends_back_what_it_gets() {
    for program in [env!("CARGO_BIN_EXE_echo"), env!("CARGO_BIN_EXE_router_smol")] {
        let server = Server::start(program, &[]);
        let mut peer = server.connect();
        for text in ["", "hello", "/no route", "{\"no\": \"route\"}"] {
            peer.assert_echo(text.as_bytes());
        }
        peer.assert_echo(&support::text(300_000));
        peer.close();
    }
}

#[test]
fn embedded_state_is_one_for_all_connections() {
    let server = Server::start(env!("CARGO_BIN_EXE_embedded_state"), &[]);
    let (mut ann, mut bob) = (server.connect(), server.connect());
    ann.say("/hello Ann");
    ann.hears("Good morning, Ann!");
    bob.say("/hello Bob");
    bob.hears("Good morning, Bob!");
    ann.say("/hello");
    ann.hears("Error: say who you are");
    ann.say("/count");
    ann.hears("2 have said hello");
    ann.close();
    bob.close();
}

#[test]
fn every_call_of_json_rpc_gets_the_reply_with_its_id() {
    let server = Server::start(env!("CARGO_BIN_EXE_json_rpc"), &[]);
    let mut peer = server.connect();
    let call = |id: u64, method: &str, params: Value| {
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
    };
    let result = |id: u64, result: Value| json!({ "jsonrpc": "2.0", "id": id, "result": result });
    let error = |id: Value, code: i32, message: &str| json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } });
    let exchanges = [
        (call(1, "divide", json!({ "a": 3, "b": 2 })), result(1, json!(1.5))),
        (call(2, "divide", json!({ "a": 3, "b": 0 })), error(json!(2), 1, "division by zero")),
        (
            call(u64::MAX, "join", json!({ "words": ["a", "b"], "between": "-" })),
            result(u64::MAX, json!("a-b")),
        ),
        (call(4, "dance", json!([])), error(json!(4), -32601, "no such method")),
    ];
    for (call, _) in &exchanges {
        peer.say(call);
    }
    for (call, reply) in &exchanges {
        assert_eq!(json_of(&peer), *reply, "{call}");
    }
    for malformed in [call(5, "divide", json!({ "a": 3 })), "{".into(), "hello".into()] {
        peer.say(&malformed);
        let reply = json_of(&peer);
        assert_eq!((&reply["id"], &reply["error"]["code"]), (&Value::Null, &json!(-32600)));
    }
    peer.close();
}

#[test]
fn all_hear_the_same_ticks_one_after_the_other() {
    let server = Server::start(env!("CARGO_BIN_EXE_broadcast_ticker"), &["--every", "5"]);
    let ann = server.connect();
    let first = json_of(&ann);
    assert_eq!(first["connections"], 1);
    let bob = server.connect();
    let theirs: Vec<Value> = (0..10).map(|_| json_of(&bob)).collect();
    let numbers: Vec<u64> = theirs.iter().map(|tick| tick["tick"].as_u64().expect("one")).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert!(theirs.iter().all(|tick| tick["connections"] == 2), "{theirs:?}");
    // What the first one has missed while we looked at the second, it still gets.
    let hers: Vec<Value> = std::iter::repeat_with(|| json_of(&ann))
        .skip_while(|tick| tick["tick"] != theirs[0]["tick"])
        .take(10)
        .collect();
    assert_eq!(hers, theirs);
}

#[test]
fn auth_opens_connections_for_those_it_knows_and_nobody_else() {
    let server = Server::start(env!("CARGO_BIN_EXE_auth"), &[]);
    let get = |query: &str| format!("GET /{query} HTTP/1.1");
    let known = [
        (get("?a=b&token=of-ann"), "", "Ann"),
        (get("?token=%6ff-ann"), "Cookie: token=of-bob", "Ann"),
        (get(""), "Cookie: a=b; token=of-bob", "Bob"),
    ];
    let request = |line: &str, cookie: &str| {
        let lines = if cookie.is_empty() { vec![line] } else { vec![line, cookie] };
        http::request("GET", &lines)
    };
    for (line, cookie, name) in &known {
        let mut peer = server.dial();
        peer.send(&request(line, cookie));
        peer.expect(&http::answer("", &[]));
        peer.say("hello");
        peer.hears(&format!("{name} says hello"));
        peer.close();
    }
    let unknown = [
        (get(""), ""),
        (get("?token="), "Cookie: token="),
        (get("?token=of-eve"), "Cookie: token=of-bob"),
        (get("?Token=of-ann"), "Cookie: a=token=of-bob"),
    ];
    for (line, cookie) in &unknown {
        let answer = server.dial().ask(&request(line, cookie));
        assert_eq!(answer.status, "401 Unauthorized", "{line}, {cookie}");
        assert_eq!(answer.header("WWW-Authenticate"), "Bearer");
    }
}

#[test]
fn graceful_lets_a_handler_finish_and_closes_all_with_1001() {
    let server = Server::start(env!("CARGO_BIN_EXE_graceful"), &[]);
    let ctrl_c = server.ctrl_c();
    let (mut ann, mut bob) = (server.connect(), server.connect());
    let [one, two] = ["one", "two"].map(|text| masked(Opcode::Text, true, text.as_bytes()));
    ann.send(&[one, two].concat());
    ann.hears("saved one");
    // The other one is at work now.
    ctrl_c.press();
    let close = plain_close(1001, "the server stops");
    bob.expect(&close);
    let got = ann.take(close.len());
    if got != close {
        // It was done before the server heard of it.
        let both = [plain(Opcode::Text, true, b"saved two"), close].concat();
        assert!(both.starts_with(&got), "{}", got.escape_ascii());
        ann.expect(&both[got.len()..]);
    }
    for peer in [&mut ann, &mut bob] {
        peer.send(&masked_close(1001, ""));
        peer.expect_last(b"");
    }
    let report = "2 connections, 2 closed in time, 0 cut off";
    let stdout = ["saved one", "saved two", report].map(Into::into).to_vec();
    assert_eq!(server.finish(), Finished { code: Some(0), stdout, stderr: String::new() });
}
