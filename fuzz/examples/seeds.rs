//! Writes the seeds: `cargo run --example seeds`.

use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    let mut seeds: Vec<(&str, &str, Vec<u8>)> = Vec::new();
    seeds.extend(headers());
    seeds.extend(requests());
    seeds.extend(answers());
    seeds.extend(streams());
    seeds.extend(connections());
    seeds.extend(queues());
    for (target, name, bytes) in seeds {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(name), bytes)?;
    }
    Ok(())
}

type Seed = (&'static str, &'static str, Vec<u8>);

fn headers() -> [Seed; 4] {
    [
        ("frame_header", "short", b"\x81\x05".into()),
        ("frame_header", "masked", b"\x82\xFE\x01\x00\x01\x02\x03\x04".into()),
        ("frame_header", "long", b"\x02\x7F\0\0\0\0\0\x01\0\0".into()),
        ("frame_header", "close", b"\x88\x82\xAA\xBB\xCC\xDD\x03\xE8".into()),
    ]
}

/// The length of the pieces, the limit of the head, and the head.
fn requests() -> [Seed; 4] {
    let upgrade = "\x07\0GET /chat?room=1 HTTP/1.1\r\nHost: server.example.com\r\n\
        Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    let offers = "Sec-WebSocket-Protocol: chat, superchat\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, b; q=\"1\"\r\n";
    [
        ("handshake_server", "upgrade", format!("{upgrade}\r\n\u{1}\0").into()),
        ("handshake_server", "offers", format!("{upgrade}{offers}\r\n").into()),
        ("handshake_server", "plain", b"\x01\x40HEAD * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n".into()),
        (
            "handshake_server",
            "body",
            b"\x03\0\r\nPOST http://a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi".into(),
        ),
    ]
}

/// As [`requests`].
fn answers() -> [Seed; 4] {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    let agreed = "Sec-WebSocket-Protocol: superchat\r\nSec-WebSocket-Extensions: b; y, a\r\n";
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    [
        ("handshake_client", "accepted", format!("\x05\0{switching}\r\n\u{1}\0").into()),
        ("handshake_client", "agreed", format!("\x09\0{early}{switching}{agreed}\r\n").into()),
        (
            "handshake_client",
            "refused",
            b"\x04\0HTTP/1.1 401 \r\nContent-Length: 4\r\nWWW-Authenticate: Basic\r\n\r\nwho?"
                .into(),
        ),
        ("handshake_client", "old", b"\x02\x20HTTP/1.0 404 Not Found\r\n\r\n".into()),
    ]
}

/// A part of a client's stream, see `src/stream.rs`.
fn part(pick: u8, twist: u8, payload: &[u8]) -> Vec<u8> {
    [&[pick, twist, 1, 2, 3, 4, payload.len() as u8][..], payload].concat()
}

/// Parts with most of what there is: twists, Closes, and fragments with a ping between. The text of
/// `src/stream.rs` has 51 bytes; the fragments cut a character of it.
fn parts() -> [(&'static str, Vec<Vec<u8>>); 6] {
    let long = b"\x01\x04\x01\x02\x03\x04\xFF\x05\x00abcdefgh";
    [
        ("messages", vec![part(0, 12, &[0; 51]), part(1, 4, b"\0\xFF\x80"), part(1, 4, b"")]),
        (
            "fragments",
            vec![
                part(0x02, 12, &[0; 8]),
                part(8, 4, b"between"),
                part(0x84, 12, &[0; 10]),
                part(5, 4, b""),
                part(9, 4, b"pong"),
                part(0x0A, 4, b"\x03\xE8bye"),
            ],
        ),
        ("long", vec![part(1, 4, b"\x01"), long.into()]),
        ("lengths", vec![part(1, 1, b"abc"), part(1, 2, b"abc")]),
        ("close", vec![part(8, 4, b"ping"), part(0x0B, 8, b"reason"), part(8, 4, b"late")]),
        ("cut", vec![part(0, 8, b"whole"), part(1, 0xE4, b"not whole"), part(14, 4, b"\x83")]),
    ]
}

fn streams() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, parts) in parts() {
        // The limits of the default, lent, seven bytes at a time.
        seeds.push(("splits", name, [&[0x00, 0, 7][..], &parts.concat()].concat()));
        seeds.push(("differential", name, [&[1][..], &parts.concat()].concat()));
    }
    seeds.push(("differential", "torn", [&[0][..], &part(2, 4, b"begun")].concat()));
    seeds
}

/// Parts, each in a turn of a driver, and what the driver does behind the first of them.
fn connections() -> Vec<Seed> {
    let calls: [(&str, &[u8]); 4] = [
        ("send", b"\x06\x05\x36\x03\x37\x02\x36\x01\x66\x04"),
        ("close", b"\x96\x0F\xA0\x04"),
        ("wait", b"\x05\x75\x31\xE6"),
        ("pause", b"\xA6\x05\xFF\xFF\xB6\xE6"),
    ];
    let mut seeds = Vec::new();
    for (name, calls) in calls {
        for (target, client) in [("server_connection", false), ("client_connection", true)] {
            // Long lengths are fine, and silence is not.
            let mut bytes = vec![0x11];
            for part in parts().iter().filter(|(name, _)| *name != "cut").flat_map(|(_, p)| p) {
                // In pieces of three bytes. Only what a client sends has a key.
                bytes.push(0x30);
                bytes.extend(&part[..2]);
                bytes.extend(&part[if client { 6 } else { 2 }..]);
                bytes.extend(calls);
            }
            seeds.push((target, name, bytes));
        }
    }
    seeds
}

fn queues() -> [Seed; 11] {
    [
        ("hub", "groups", b"\0\0\0\0\x02\x01\x05\x03\x02\x05\x02\0\x05\x06\x01\x05\x01\x01".into()),
        ("hub", "many", b"\0\0\x05\0\x02\0\x85\x06\0\x07\x02\0\x85\x01\0\x02\0\x01".into()),
        ("hub", "names", b"\x02\0\xFA\x02\0\xFB\x02\0\xFC\x06\0\xFA".into()),
        // Joins, patterns with and without wildcards, tags, and one who leaves.
        (
            "hub",
            "topics",
            b"\0\0\0\0\x08\0\x90\x09\x01\xA8\x0A\x02\xEA\x02\x01\x91\x0F\x01\x05\x0D\0\x90\x01\x01".into(),
        ),
        // Policies, classes and keys: eight bits, for all but the first run.
        ("mailbox", "drain", b"\x10\0\x08\0\x05\x01\0\xCA\x01\x16\x08\0\xCA\x01\0\x07\x01\0\xCA\x01\x01".into()),
        ("mailbox", "evict", b"\0\x10\x08\0\x05\0\x01\xCA\x01\x06\0\x01\xCA\x01\x07\0\x09\xCA\x01\0".into()),
        ("mailbox", "oldest", b"\0\x10\x08\x02\x05\0\x01\xCA\x01\x06\0\x01\x01\x01\x07\0\x09\xCA\x01\x04\0\x0C\0\0\xCA\x01\0".into()),
        ("mailbox", "newest", b"\0\x20\x08\x03\x05\0\x01\xC2\x01\x06\0\x01\xD2\x01\x07\0\x01\xC2\x01\x03\0\0\xC0\x01\x02\x01".into()),
        // Two groups of members, then frames for all, one group, and some by their names.
        (
            "turn",
            "bundles",
            b"\0\x05\x10\x15\x20\x15\x03\x7E\0\0\x04\x7E\x02\x01\x05\x7E\0\0\x06\x01\x09\xF2\x01".into(),
        ),
        (
            "output",
            "mixed",
            b"\0\x01\0\x02\x08\0\x00\0\x10\x04\x01\x05\x06\0\0\x07\x02\0\x07\xFF\xFF".into(),
        ),
        (
            "output",
            "large",
            b"\0\xFF\xFF\x02\xFF\xFF\x00\0\x09\x04\x80\0\x06\0\0\x04\xFF\xFF".into(),
        ),
    ]
}
