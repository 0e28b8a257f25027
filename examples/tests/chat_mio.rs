//! The chat on real sockets: who gets what, in which order, and what becomes of those who do not read.

mod support;

use support::{Peer, Server, plain, plain_close};
use wsforge_core::frame::Opcode;

const CHAT: &str = env!("CARGO_BIN_EXE_chat_mio");

/// Clients after their handshake, in these rooms.
fn join<const N: usize>(server: &Server, rooms: [&[&str]; N]) -> [Peer; N] {
    rooms.map(|rooms| {
        let mut peer = server.connect();
        for room in rooms {
            peer.say(&format!("/join {room}"));
        }
        peer.is_heard();
        peer
    })
}

#[test]
fn a_message_goes_to_all_others_in_the_room_and_to_nobody_else() {
    let server = Server::start(CHAT, &[]);
    let [mut ann, mut bob, mut eve] = join(&server, [&["a", "b"], &["a"], &["b", "c"]]);
    ann.say("hello");
    bob.hears("a: hello");
    eve.hears("b: hello");
    bob.say("hi, ann");
    ann.hears("a: hi, ann");

    ann.say("/leave a");
    ann.say("are you there?");
    eve.hears("b: are you there?");
    bob.say("nobody hears this");
    bob.say("/join b");
    bob.is_heard();
    eve.say("good-bye");
    bob.hears("b: good-bye");
    ann.hears("b: good-bye");
    // Neither of them has heard anything else, nor itself.
    ann.is_heard();
    bob.is_heard();
    eve.is_heard();
}

#[test]
fn a_room_forgets_who_has_left_in_whatever_way() {
    let server = Server::start(CHAT, &[]);
    let [mut ann, bob, eve] = join(&server, [&["a"], &["a"], &["a"]]);
    bob.close();
    eve.reset();
    for round in 0..20 {
        ann.say(&format!("round {round}"));
        ann.is_heard();
        let [new] = join(&server, [&["a"]]);
        ann.say("welcome");
        new.hears("a: welcome");
        new.reset();
    }
}

#[test]
fn a_room_with_too_long_a_name_is_refused() {
    let server = Server::start(CHAT, &[]);
    let [mut ann] = join(&server, [&[]]);
    ann.say(&format!("/join {}", "x".repeat(256)));
    ann.hears("the group's name is too long");
}

/// The others get everything, in order; the one who does not read gets whole messages up to some point,
/// and then learns why there are no more.
#[test]
fn one_who_does_not_read_is_closed_and_costs_the_others_nothing() {
    const MESSAGES: usize = 400;
    let server = Server::start(CHAT, &[]);
    let [mut ann, mut bob] = join(&server, [&["a"], &["a"]]);
    let mut slow = server.connect_narrow();
    slow.say("/join a");
    slow.is_heard();

    let text = |i: usize| format!("{i:03}{}", "x".repeat(50_000));
    for i in 0..MESSAGES {
        ann.say(&text(i));
        bob.hears(&format!("a: {}", text(i)));
    }
    ann.is_heard();
    bob.is_heard();

    let got = slow.rest();
    let mut expected = Vec::new();
    let mut count = 0;
    while got.len() - expected.len() > 50_000 {
        expected.extend(plain(Opcode::Text, true, format!("a: {}", text(count)).as_bytes()));
        count += 1;
    }
    assert!(count < MESSAGES, "it was never too slow");
    expected.extend(plain_close(1013, "too slow"));
    assert!(got == expected, "{count} whole messages and a Close, in {} bytes", got.len());
    let memory = server.peak_memory();
    assert!(memory < 64 * 1024 * 1024, "{memory} bytes");
}
