//! What everyone may do who sends.

use std::sync::{Weak, mpsc};
use std::time::Duration;

use bytes::Bytes;
use wsforge_core::frame::Opcode::{Binary, Close, Continuation, Ping};
use wsforge_core::{Output, Timestamp};

use super::mock::{Count, Pipe, frame, frames, offer, opened};
use super::*;
use crate::Options;

fn push(outbox: &Outbox, body: &[u8]) -> Result<Pushed, Refusal> {
    outbox.push(Piece::Message, Binary, &body.into(), Room::Needed)
}

fn fragment(outbox: &Outbox, opcode: Opcode, body: &[u8], last: bool) {
    let pushed = outbox.push(Piece::Fragment { last }, opcode, &body.into(), Room::Needed);
    assert_eq!(pushed, Ok(Pushed::Sent));
}

/// The code of a Close.
fn code(body: &[u8]) -> u16 {
    u16::from_be_bytes([body[0], body[1]])
}

/// Rule 11.
#[test]
fn others_data_waits_for_the_end_of_a_streamed_message_and_control_frames_pass() {
    let (outbox, pipe) = opened(Options::default());
    outbox.begin_stream().unwrap();
    assert_eq!(outbox.begin_stream(), Err(Refusal::Streaming));
    fragment(&outbox, Binary, b"1", false);
    push(&outbox, b"reply").unwrap();
    assert!(offer(&outbox, b"broadcast").is_taken());
    outbox.push(Piece::Control, Ping, &(&[]).into(), Room::Any).unwrap();
    fragment(&outbox, Continuation, b"2", true);
    assert!(offer(&outbox, b"behind").is_taken());
    let written = frames(&pipe.written());
    let opcodes: Vec<_> = written.iter().map(|(_, opcode, _)| *opcode).collect();
    assert_eq!(opcodes, [Binary, Ping, Continuation, Binary, Binary, Binary]);
    let bodies: Vec<_> = written.iter().map(|(.., body)| &body[..]).collect();
    assert_eq!(bodies, [&b"1"[..], b"", b"2", b"reply", b"broadcast", b"behind"]);
    assert_eq!(outbox.pending(), 0);
}

/// What was begun while the socket was full is not held against a peer that has read it.
#[test]
fn a_stream_that_was_once_blocked_goes_on_at_once_and_is_not_stalled() {
    let write_timeout = Duration::from_secs(1);
    let (outbox, pipe) = opened(Options { write_timeout, ..Options::default() });
    outbox.begin_stream().unwrap();
    pipe.room(1);
    fragment(&outbox, Binary, b"1", false);
    push(&outbox, b"held").unwrap();
    pipe.room(usize::MAX);
    assert!(outbox.poll_flush(&mut Count::default().context()).is_ready());
    fragment(&outbox, Continuation, b"2", false);
    assert_eq!(frames(&pipe.written()).len(), 2);
    let late = Timestamp::from_millis(60_000);
    assert!(outbox.ring(late, Tick::floor(late)).is_some());
    assert_eq!(outbox.phase(), Phase::Open);
    fragment(&outbox, Continuation, b"3", true);
    assert_eq!(frames(&pipe.written()).len(), 4);
}

/// Rule 12.
#[test]
fn who_is_evicted_gets_what_was_begun_then_a_close_and_nothing_more() {
    let mut options = Options::default();
    options.mailbox.max_bytes = 100;
    let (outbox, pipe) = opened(options);
    let count = Count::default();
    outbox.sleep(&count.context());
    pipe.room(3);
    assert!(offer(&outbox, &[1; 60]).is_taken());
    assert!(offer(&outbox, &[2; 30]).is_taken());
    assert_eq!(offer(&outbox, &[3; 30]), Fate::Evicted);
    assert_eq!(outbox.phase(), Phase::Evicted);
    assert_eq!(offer(&outbox, &[4; 30]), Fate::Closed);
    assert_eq!(push(&outbox, &[5; 30]), Err(Refusal::Closed));
    assert!(!outbox.close(CloseCode::NORMAL, ""));
    pipe.room(usize::MAX);
    assert!(outbox.poll_flush(&mut count.context()).is_ready());
    let written = frames(&pipe.written());
    assert_eq!(written.len(), 2, "{written:?}");
    assert_eq!((written[0].1, &*written[0].2), (Binary, &[1; 60][..]));
    assert_eq!((written[1].1, code(&written[1].2)), (Close, 1013));
}

#[test]
fn many_frames_are_too_much_too() {
    let mut options = Options::default();
    options.mailbox.max_frames = 3;
    let (outbox, pipe) = opened(options);
    pipe.room(0);
    let offers: Vec<_> = (0..5).map(|n| offer(&outbox, &[n])).collect();
    assert_eq!(offers, [[Fate::Queued; 3].as_slice(), &[Fate::Evicted, Fate::Closed]].concat());
}

#[test]
fn who_is_evicted_is_woken_and_cut_off_after_the_time_to_close() {
    let mut options = Options::default();
    options.mailbox.max_bytes = 100;
    options.protocol.close_timeout = Duration::from_secs(5);
    let (outbox, pipe) = opened(options);
    let count = Count::default();
    pipe.room(3);
    assert!(offer(&outbox, &[1; 200]).is_taken());
    outbox.sleep(&count.context());
    assert_eq!((offer(&outbox, &[2; 30]), count.get()), (Fate::Evicted, 1));
    let ring = |ms| {
        let now = Timestamp::from_millis(ms);
        outbox.ring(now, Tick::floor(now)).is_some()
    };
    assert!(ring(5_000) && !pipe.is_aborted());
    assert!(!ring(5_300) && pipe.is_aborted());
    assert_eq!(outbox.phase(), Phase::TimedOut);
}

/// A shared body is queued apart from its header, and both are dropped or none.
#[test]
fn an_eviction_tears_no_frame_whatever_the_length_of_what_was_taken_before() {
    let large = Bytes::from(vec![7; 2000]);
    for first in 16_340..16_400 {
        let mut options = Options::default();
        options.mailbox.max_bytes = 80_000;
        let (outbox, pipe) = opened(options);
        // So that the queue is used: its front is the owner's.
        assert!(outbox.cork());
        assert!(offer(&outbox, &vec![1; first]).is_taken());
        let body = Body::Shared(large.clone());
        outbox.push(Piece::Message, Binary, &body, Room::Any).unwrap();
        pipe.room(3);
        outbox.uncork(&mut Output::new(), &[], &Body::Copy(&[]), false);
        assert_eq!(offer(&outbox, &vec![1; 80_000]), Fate::Evicted);
        pipe.room(usize::MAX);
        assert!(outbox.poll_flush(&mut Count::default().context()).is_ready());
        assert_eq!(frames(&pipe.written()).last().unwrap().1, Close);
    }
}

/// Rule 13, and what a close means to those who wait.
#[test]
fn who_waits_for_room_is_woken_when_there_is_some_or_never_will_be() {
    for closes in [false, true] {
        let (outbox, pipe) = opened(Options::default());
        pipe.room(0);
        push(&outbox, &vec![0; 1 << 20]).unwrap();
        let count = Count::default();
        let mut ticket = None;
        for _ in 0..3 {
            let room = Room::Awaited(&mut ticket, &mut count.context());
            let refused = outbox.push(Piece::Message, Binary, &b"x"[..].into(), room);
            assert_eq!((refused, count.get()), (Err(Refusal::Full), 0));
        }
        if closes {
            outbox.close(CloseCode::NORMAL, "");
        } else {
            pipe.room(usize::MAX);
            outbox.flush_now();
        }
        assert_eq!(count.get(), 1, "closes: {closes}");
    }
}

#[test]
fn a_second_close_is_none() {
    let (outbox, pipe) = opened(Options::default());
    assert!(outbox.close(CloseCode::NORMAL, &"é".repeat(70)));
    assert!(!outbox.close(CloseCode::GOING_AWAY, ""));
    // As the session would that has not learned of it.
    let mut own = Output::new();
    own.put(&frame(Close, &[3, 232]));
    outbox.uncork(&mut own, &[], &Body::Copy(&[]), true);
    let written = frames(&pipe.written());
    assert_eq!(written.len(), 1);
    // At most 123 bytes of reason, and whole characters.
    assert_eq!(str::from_utf8(&written[0].2[2..]), Ok(&*"é".repeat(61)));
}

#[test]
fn only_the_handshake_is_written_before_it_is_done() {
    let (outbox, pipe) = mock::opening(Options::default());
    assert_eq!(push(&outbox, b"a"), Err(Refusal::Closed));
    assert_eq!(offer(&outbox, b"a"), Fate::Closed);
    assert!(!outbox.close(CloseCode::NORMAL, ""));
    let mut answer = Output::new();
    answer.put(b"HTTP/1.1 101");
    pipe.room(5);
    outbox.uncork(&mut answer, &[], &Body::Copy(&[]), false);
    outbox.open();
    push(&outbox, b"a").unwrap();
    pipe.room(usize::MAX);
    assert!(outbox.poll_flush(&mut Count::default().context()).is_ready());
    assert_eq!(pipe.written(), [b"HTTP/1.1 101", &*frame(Binary, b"a")].concat());
}

/// Bytes that say, when the last reference to them is dropped, whether their peer's outbox was locked then.
struct Watched {
    outbox: Weak<Outbox>,
    bytes: Vec<u8>,
    dropped: mpsc::Sender<bool>,
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let outbox = self.outbox.upgrade();
        let locked = outbox.is_some_and(|outbox| outbox.state.try_lock().is_err());
        self.dropped.send(locked).unwrap();
    }
}

/// Rule 13: what is a user's may do anything when it is dropped, such as to send.
#[test]
fn what_was_shared_is_dropped_when_nothing_is_locked() {
    type Ways = [fn(&Outbox, &Pipe, Bytes); 7];
    let ways: Ways = [
        // At once.
        |outbox, _, bytes| {
            outbox.push(Piece::Message, Binary, &Body::Shared(bytes), Room::Any).unwrap();
        },
        // A part at once, and the rest by another sender, by the timer, or by the owner.
        |outbox, pipe, bytes| {
            pipe.room(100);
            outbox.push(Piece::Message, Binary, &Body::Shared(bytes), Room::Any).unwrap();
            pipe.room(usize::MAX);
            outbox.flush_now();
        },
        |outbox, pipe, bytes| {
            pipe.room(0);
            outbox.push(Piece::Message, Binary, &Body::Shared(bytes), Room::Any).unwrap();
            pipe.room(usize::MAX);
            let now = Timestamp::from_millis(100);
            assert!(outbox.ring(now, Tick::floor(now)).is_some());
        },
        |outbox, pipe, bytes| {
            pipe.room(0);
            outbox.push(Piece::Message, Binary, &Body::Shared(bytes), Room::Any).unwrap();
            pipe.room(usize::MAX);
            assert!(outbox.poll_flush(&mut Count::default().context()).is_ready());
        },
        // What the owner has gathered, in one write or two.
        |outbox, _, bytes| {
            assert!(outbox.cork());
            let mut own = Output::new();
            own.put_shared(bytes);
            outbox.uncork(&mut own, &[], &Body::Copy(&[]), false);
        },
        |outbox, pipe, bytes| {
            assert!(outbox.cork());
            let mut own = Output::new();
            own.put_shared(bytes);
            pipe.room(2500);
            outbox.uncork(&mut own, b"head", &Body::Copy(&[0; 2000]), false);
        },
        // Never.
        |outbox, pipe, bytes| {
            pipe.room(0);
            outbox.push(Piece::Message, Binary, &Body::Shared(bytes), Room::Any).unwrap();
            pipe.abort();
            outbox.flush_now();
        },
    ];
    for (n, way) in ways.into_iter().enumerate() {
        let (outbox, pipe) = opened(Options::default());
        let (dropped, drops) = mpsc::channel();
        let watched = Watched { outbox: Arc::downgrade(&outbox), bytes: vec![7; 2000], dropped };
        way(&outbox, &pipe, Bytes::from_owner(watched));
        assert_eq!(drops.try_recv(), Ok(false), "way {n}");
    }
}
