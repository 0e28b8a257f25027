//! Two threads at one outbox, in every order that matters: `loom` tries them.
//!
//! After each model, whatever was accepted has to be written by what would happen next: by the owner if
//! it is awake, was woken, or waits for the transport.

use std::sync::Arc;
use std::task::{Context, Poll};

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use wsforge_core::frame::Opcode::{Binary, Close};
use wsforge_core::{Body, CloseCode, Output};

use super::mock::{Count, Pipe, alone, bundle, frame, frames, offer};
use super::{Fate, Outbox, Piece, Refusal, Room};
use crate::Options;

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}

fn opened() -> (Arc<Outbox<Pipe>>, Pipe) {
    alone(Options::default())
}

fn push(outbox: &Outbox<Pipe>, body: &[u8]) -> Result<(), Refusal> {
    outbox.push(Piece::Message, Binary, &body.into(), Room::Any).map(drop)
}

/// What a session does before it sleeps; whether it does.
fn rest(outbox: &Outbox<Pipe>, cx: &mut Context<'_>) -> bool {
    if outbox.wants_attention() && outbox.poll_flush(cx).is_pending() {
        return true;
    }
    outbox.sleep(cx) || outbox.poll_flush(cx).is_pending()
}

/// The peer reads everything, and the owner is polled only if somebody has woken it. What was written?
fn end(outbox: &Outbox<Pipe>, pipe: &Pipe, owner: &Count) -> Vec<Vec<u8>> {
    pipe.room(usize::MAX);
    if owner.get() > 0 {
        assert_eq!(outbox.poll_flush(&mut owner.context()), Poll::Ready(Ok(())));
    }
    assert_eq!(outbox.pending(), 0, "nobody writes what waits");
    frames(&pipe.written()).into_iter().map(|(.., body)| body).collect()
}

#[test]
fn a_push_beside_a_flush_is_written_behind_what_waited() {
    // From nothing to all of it, and in between.
    for room in [0, 2, 7] {
        model(move || {
            let (outbox, pipe) = opened();
            pipe.room(1);
            push(&outbox, b"first").unwrap();
            pipe.room(room);
            let other = thread::spawn({
                let outbox = outbox.clone();
                move || push(&outbox, b"second").unwrap()
            });
            let owner = Count::default();
            assert!(rest(&outbox, &mut owner.context()));
            other.join().unwrap();
            assert_eq!(end(&outbox, &pipe, &owner), [&b"first"[..], b"second"]);
        });
    }
}

#[test]
fn a_look_beside_a_flush_loses_nothing() {
    model(|| {
        let (outbox, pipe) = opened();
        pipe.room(1);
        push(&outbox, b"first").unwrap();
        pipe.room(2);
        let other = thread::spawn({
            let outbox = outbox.clone();
            move || outbox.flush_now()
        });
        let owner = Count::default();
        assert!(rest(&outbox, &mut owner.context()));
        other.join().unwrap();
        assert_eq!(end(&outbox, &pipe, &owner), [b"first"]);
    });
}

#[test]
fn a_guest_that_writes_beside_the_owner_leaves_nothing_to_nobody() {
    for room in [0, 2, usize::MAX] {
        model(move || {
            let (outbox, pipe) = opened();
            pipe.room(1);
            push(&outbox, b"first").unwrap();
            pipe.room(room);
            let other = thread::spawn({
                let outbox = outbox.clone();
                // What it waits for, the owner writes now.
                move || {
                    let _ = outbox.poll_flush_for_owner(&mut Count::default().context());
                }
            });
            let owner = Count::default();
            assert!(rest(&outbox, &mut owner.context()));
            other.join().unwrap();
            assert_eq!(end(&outbox, &pipe, &owner), [b"first"]);
        });
    }
}

#[test]
fn nothing_follows_a_close() {
    for room in [0, 1, usize::MAX] {
        model(move || {
            let (outbox, pipe) = opened();
            pipe.room(room);
            let other = thread::spawn({
                let outbox = outbox.clone();
                move || push(&outbox, b"first").is_ok()
            });
            assert!(outbox.close(CloseCode::NORMAL, ""));
            let sent = other.join().unwrap();
            pipe.room(usize::MAX);
            assert!(outbox.poll_flush(&mut Count::default().context()).is_ready());
            let opcodes: Vec<_> = frames(&pipe.written()).into_iter().map(|f| f.1).collect();
            assert_eq!(opcodes, if sent { &[Binary, Close][..] } else { &[Close] });
        });
    }
}

#[test]
fn of_two_closes_one_is_sent() {
    model(|| {
        let (outbox, pipe) = opened();
        let other = thread::spawn({
            let outbox = outbox.clone();
            move || outbox.close(CloseCode::NORMAL, "")
        });
        let mut own = Output::new();
        own.put(&frame(Close, &[3, 232]));
        outbox.cork();
        outbox.uncork(&mut own, &[], &Body::Copy(&[]), true);
        other.join().unwrap();
        assert_eq!(outbox.poll_flush(&mut Count::default().context()), Poll::Ready(Ok(())));
        assert_eq!(frames(&pipe.written()).len(), 1);
    });
}

#[test]
fn a_push_wakes_the_task_that_owns_the_connection_now() {
    model(|| {
        let (outbox, pipe) = opened();
        let (before, now) = (Count::default(), Count::default());
        assert!(outbox.sleep(&before.context()));
        pipe.room(0);
        let other = thread::spawn({
            let outbox = outbox.clone();
            move || push(&outbox, b"first").unwrap()
        });
        assert!(rest(&outbox, &mut now.context()));
        other.join().unwrap();
        assert_eq!(end(&outbox, &pipe, &now), [b"first"]);
    });
}

#[test]
fn a_push_beside_a_cork_is_written_and_leaves_no_frame_torn() {
    for room in [0, 3, usize::MAX] {
        model(move || {
            let (outbox, pipe) = opened();
            let owner = Count::default();
            pipe.room(room);
            let other = thread::spawn({
                let outbox = outbox.clone();
                move || push(&outbox, b"other").unwrap()
            });
            let mut own = Output::new();
            if outbox.cork() {
                own.put(&frame(Binary, b"own"));
                outbox.uncork(&mut own, &[], &Body::Copy(&[]), false);
            } else {
                push(&outbox, b"own").unwrap();
            }
            assert!(rest(&outbox, &mut owner.context()));
            other.join().unwrap();
            let mut written = end(&outbox, &pipe, &owner);
            written.sort();
            assert_eq!(written, [&b"other"[..], b"own"]);
        });
    }
}

#[test]
fn an_eviction_beside_a_flush_is_learned_of_and_tears_no_frame() {
    model(|| {
        let mut options = Options::default();
        options.mailbox.max_bytes = 8;
        let (outbox, pipe) = alone(options);
        pipe.room(1);
        push(&outbox, b"first").unwrap();
        assert!(offer(&outbox, b"").is_taken());
        pipe.room(3);
        let other = thread::spawn({
            let outbox = outbox.clone();
            move || offer(&outbox, &[2; 9])
        });
        let owner = Count::default();
        assert!(rest(&outbox, &mut owner.context()));
        let knows = outbox.is_closed();
        let offered = other.join().unwrap();
        if offered == Fate::Evicted {
            assert!(knows || owner.get() > 0, "nobody told the owner");
        }
        pipe.room(usize::MAX);
        assert_eq!(outbox.poll_flush(&mut owner.context()), Poll::Ready(Ok(())));
        let evicted = frames(&pipe.written()).last().unwrap().1 == Close;
        assert_eq!(evicted, offered == Fate::Evicted);
    });
}

/// Of two who are to send something that goes to many, one claims it under the lock.
#[test]
fn what_one_sends_after_a_catch_up_follows_what_the_other_has_claimed() {
    for room in [3, usize::MAX] {
        model(move || {
            let (outbox, pipe) = opened();
            let owner = Count::default();
            pipe.room(room);
            let slot = Arc::new(AtomicBool::new(true));
            let reach = |outbox: &Outbox<Pipe>, slot: &AtomicBool| {
                let bundle = bundle(b"to many");
                if slot.load(Ordering::Relaxed) {
                    outbox.offer(|| slot.swap(false, Ordering::Relaxed).then_some(&bundle));
                }
            };
            let other = thread::spawn({
                let (outbox, slot) = (outbox.clone(), slot.clone());
                move || reach(&outbox, &slot)
            });
            reach(&outbox, &slot);
            push(&outbox, b"to one").unwrap();
            assert!(rest(&outbox, &mut owner.context()));
            other.join().unwrap();
            assert_eq!(end(&outbox, &pipe, &owner), [&b"to many"[..], b"to one"]);
        });
    }
}
