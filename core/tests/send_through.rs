//! Sending from where the bytes lie, through a writer that takes as much as it likes.

mod support;

use std::convert::Infallible;

use allocation_counter::measure;
use support::{MASK, client, masked, plain, server};
use wsforge_core::frame::Opcode;
use wsforge_core::{Config, Kind, SendError, SendThroughError};

const LEN: usize = 5000;

/// Whatever the writer takes, header and body cut anywhere, the same bytes go out in the same order.
#[test]
fn what_is_not_taken_goes_out_later() {
    let body: Vec<u8> = (0..LEN).map(|i| i as u8).collect();
    let from_server = plain(Opcode::Binary, true, &body);
    let from_client = masked(Opcode::Binary, true, &body);
    for taken in [0, 1, 3, 4, 5, 8, 9, 2000, LEN, LEN + 4, LEN + 8, usize::MAX] {
        let mut written = Vec::new();
        let mut write = |slices: [&[u8]; 2]| {
            written.extend(slices.concat().iter().take(taken));
            // More than there was is too much, but no reason to panic.
            Ok::<_, Infallible>(taken)
        };
        let mut end = server(&Config::default());
        end.conn.send_through(Kind::Binary, &body, &mut end.output, &mut write).unwrap();
        written.extend(end.written());
        assert_eq!(written, from_server, "{taken}");

        let (mut end, mut written) = (client(&Config::default()), Vec::new());
        let mut write = |slices: [&[u8]; 2]| {
            written.extend(slices.concat().iter().take(taken));
            Ok::<_, Infallible>(taken)
        };
        let mut own = body.clone();
        end.conn.send_in_place(Kind::Binary, &mut own, &mut end.output, &mut write).unwrap();
        written.extend(end.written());
        assert_eq!(written, from_client, "{taken}");
    }
}

#[test]
fn a_message_goes_behind_what_is_waiting() {
    let mut end = server(&Config::default());
    end.send(Kind::Text, b"first");
    let never = |_: [&[u8]; 2]| -> Result<usize, Infallible> { panic!("out of order") };
    end.conn.send_through(Kind::Text, b"second", &mut end.output, never).unwrap();
    let sent: Vec<_> = end.sent().into_iter().map(|(_, _, body)| body).collect();
    assert_eq!(sent, [&b"first"[..], b"second"]);
}

#[test]
fn mistakes_and_failures_are_told_apart() {
    let mut end = client(&Config::default());
    end.conn.send_fragment(Kind::Text, b"a", false, &mut end.output).unwrap();
    end.written();
    let mut body = *b"body";
    let write = |_: [&[u8]; 2]| Err("broken");
    let error = end.conn.send_in_place(Kind::Text, &mut body, &mut end.output, write);
    assert_eq!(error, Err(SendThroughError::Send(SendError::FragmentInProgress)));
    assert_eq!(&body, b"body", "not masked");

    end.conn.send_fragment(Kind::Text, b"", true, &mut end.output).unwrap();
    end.written();
    let error = end.conn.send_in_place(Kind::Text, &mut body, &mut end.output, write);
    assert_eq!(error, Err(SendThroughError::Write("broken")));
    let unmasked: Vec<u8> = body.iter().zip(MASK).map(|(byte, key)| byte ^ key).collect();
    assert_eq!(unmasked, b"body");

    end.eof();
    let error = end.conn.send_in_place(Kind::Text, &mut body, &mut end.output, write);
    assert_eq!(error, Err(SendThroughError::Send(SendError::Closed)));
    assert_eq!(error.unwrap_err().to_string(), SendError::Closed.to_string());
}

/// The writer sees the caller's own bytes, and nothing is allocated.
#[test]
fn a_message_that_is_taken_is_never_copied() {
    let mut body = vec![7; 1 << 20];
    let place = body.as_ptr();
    let write = |[head, body]: [&[u8]; 2]| {
        assert_eq!(body.as_ptr(), place);
        Ok::<_, Infallible>(head.len() + body.len())
    };
    let (mut from, mut to) = (server(&Config::default()), client(&Config::default()));
    let info = measure(|| {
        from.conn.send_through(Kind::Binary, &body, &mut from.output, write).unwrap();
        to.conn.send_in_place(Kind::Binary, &mut body, &mut to.output, write).unwrap();
    });
    assert_eq!(info.count_total, 0, "{info:?}");
    assert!(from.output.is_empty() && to.output.is_empty());
}
