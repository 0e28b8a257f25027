//! What one poll of a task gathers to send, which leaves when the poll returns.

use std::cell::{Cell, RefCell};
use std::mem;
use std::sync::Arc;

use wsforge_core::{Body, Kind, Output};

use super::outbox::{Outbox, server_header};

/// Sends to many, when its time has come.
pub(crate) trait Plans: Send + Sync {
    /// Sends what has been planned. What is sent next does not overtake it.
    fn run(&self);

    /// Tells one from others.
    fn id(&self) -> usize;
}

#[derive(Default)]
struct Turn {
    /// Peers for whom frames have been gathered. They leave before the plans are executed: what is sent
    /// while there are plans executes these first.
    outboxes: Vec<Arc<Outbox>>,
    plans: Vec<Box<dyn Plans>>,
}

/// What the owner of one peer gathers: others who send to that peer know of it, and go behind.
struct Cork {
    of: Option<Arc<Outbox>>,
    output: Output,
}

thread_local! {
    static CORK: RefCell<Cork> = const { RefCell::new(Cork { of: None, output: Output::new() }) };
    static CORKED: Cell<bool> = const { Cell::new(false) };
    static TURN: RefCell<Turn> = const { RefCell::new(Turn { outboxes: Vec::new(), plans: Vec::new() }) };
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static GATHERED: Cell<bool> = const { Cell::new(false) };
    static PLANNED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a part of a task; what it gathers leaves when it returns.
pub(crate) fn scope<T>(part: impl FnOnce() -> T) -> T {
    /// Also when it panics.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            let depth = DEPTH.get() - 1;
            DEPTH.set(depth);
            if depth == 0 {
                flush();
            }
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let _end = End;
    part()
}

/// Gathers a message of a server for a peer whose owner this task is, until the turn ends. `false` if
/// there is no turn, or something else goes before it.
#[inline]
pub(crate) fn gather(outbox: &Arc<Outbox>, kind: Kind, body: &[u8]) -> bool {
    if DEPTH.get() == 0 {
        return false;
    }
    CORK.with_borrow_mut(|Cork { of, output }| {
        match of {
            Some(of) => {
                let much = output.len() + body.len() > outbox.endpoint.config.high_water;
                if much || !Arc::ptr_eq(of, outbox) || outbox.wants_attention() {
                    return false;
                }
            }
            None if outbox.cork() => {
                *of = Some(outbox.clone());
                GATHERED.set(true);
                CORKED.set(true);
            }
            None => return false,
        }
        output.put_frame(&server_header(kind, body.len()), Body::Copy(body));
        true
    })
}

/// Whether something has been [gathered](gather).
#[inline]
pub(crate) fn is_corked() -> bool {
    CORKED.get()
}

/// Sends what has been [gathered](gather).
#[inline]
pub(crate) fn uncork() {
    if is_corked() {
        uncork_something();
    }
}

fn uncork_something() {
    CORKED.set(false);
    // Nothing is borrowed while others are woken.
    let (of, mut output) =
        CORK.with_borrow_mut(|cork| (cork.of.take(), mem::take(&mut cork.output)));
    if let Some(outbox) = of {
        outbox.uncork(&mut output, &[], &Body::Copy(&[]), false);
    }
    CORK.with_borrow_mut(|cork| cork.output = output);
}

/// Something has been gathered for a peer, which leaves when the turn ends: if there is none, when the
/// task that runs now has yielded.
pub(crate) fn gathered(outbox: &Arc<Outbox>) {
    if DEPTH.get() == 0 {
        return outbox.endpoint.timer.flush_soon(outbox);
    }
    GATHERED.set(true);
    TURN.with_borrow_mut(|turn| {
        if !turn.outboxes.iter().any(|known| Arc::ptr_eq(known, outbox)) {
            turn.outboxes.push(outbox.clone());
        }
    });
}

/// Something has been planned, which is executed when the turn ends: if there is none, now.
pub(crate) fn planned<P: Plans + Clone + 'static>(plans: &P) {
    if DEPTH.get() == 0 {
        return plans.run();
    }
    PLANNED.set(true);
    TURN.with_borrow_mut(|turn| {
        if !turn.plans.iter().any(|known| known.id() == plans.id()) {
            turn.plans.push(Box::new(plans.clone()));
        }
    });
}

/// Whether something has been planned that goes before whatever is sent now.
#[inline]
pub(crate) fn has_plans() -> bool {
    PLANNED.get()
}

/// Sends what has been gathered, and executes what has been planned, before something else is done.
#[inline]
pub(crate) fn flush() {
    if GATHERED.get() || PLANNED.get() {
        flush_something();
    }
}

fn flush_something() {
    // The peers first, see `Turn`.
    flush_peers();
    PLANNED.set(false);
    let plans = TURN.with_borrow_mut(|turn| mem::take(&mut turn.plans));
    for plans in plans {
        plans.run();
    }
}

/// Sends what has been gathered for single peers.
pub(crate) fn flush_peers() {
    if !GATHERED.replace(false) {
        return;
    }
    uncork();
    // User code does not run in here, but what it has put into buffers is dropped, and might do anything.
    let outboxes = TURN.with_borrow_mut(|turn| mem::take(&mut turn.outboxes));
    for outbox in outboxes {
        outbox.flush_now();
    }
}

#[cfg(all(test, not(wsforge_loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use wsforge_core::Kind;
    use wsforge_core::hub::Audience;

    use super::*;
    use crate::driver::outbox::mock::{Pipe, frames, opened};
    use crate::{FanOut, Member, Options, Sender};

    fn member(of: &FanOut) -> (Sender, Member, Pipe) {
        let (outbox, pipe) = opened(Options::default());
        let sender = Sender { outbox };
        let member = of.join(&sender).unwrap();
        (sender, member, pipe)
    }

    fn bodies(pipe: &Pipe) -> Vec<u8> {
        frames(&pipe.written()).into_iter().flat_map(|(.., body)| body).collect()
    }

    /// Rule 10.
    #[test]
    fn to_one_to_many_and_to_one_arrive_in_that_order_inside_of_a_turn_and_outside() {
        let fan_out = FanOut::new();
        let (sender, _member, pipe) = member(&fan_out);
        let part = || {
            sender.try_send(b"a"[..].to_vec()).unwrap();
            fan_out.send(Audience::All, Kind::Binary, b"b");
            sender.try_send(b"c"[..].to_vec()).unwrap();
        };
        scope(part);
        part();
        assert_eq!(bodies(&pipe), b"abcabc");
    }

    #[test]
    fn what_is_sent_to_many_in_a_turn_leaves_in_one_write_for_each_when_it_ends() {
        let fan_out = FanOut::new();
        let members = [member(&fan_out), member(&fan_out)];
        scope(|| {
            for n in 0..9 {
                scope(|| fan_out.send(Audience::All, Kind::Binary, &[n]));
            }
            assert!(has_plans() && bodies(&members[0].2).is_empty());
        });
        for (.., pipe) in &members {
            assert_eq!((bodies(pipe), pipe.writes()), ((0..9).collect(), 1));
        }
    }

    #[test]
    fn who_joins_gets_nothing_of_what_was_sent_before_and_who_leaves_all_of_it() {
        let fan_out = FanOut::new();
        let (_, first, pipe) = member(&fan_out);
        scope(|| {
            fan_out.send(Audience::All, Kind::Binary, b"a");
            let (_, _second, other) = member(&fan_out);
            fan_out.send(Audience::All, Kind::Binary, b"b");
            drop(first);
            fan_out.send(Audience::All, Kind::Binary, b"c");
            flush();
            assert_eq!((bodies(&pipe), bodies(&other)), (b"ab".to_vec(), b"bc".to_vec()));
        });
    }

    #[test]
    fn much_does_not_wait_for_the_end_of_a_turn() {
        let fan_out = FanOut::new();
        let (_, first, pipe) = member(&fan_out);
        scope(|| {
            fan_out.send(Audience::All, Kind::Binary, &[0; 70_000]);
            assert_eq!(frames(&pipe.written()).len(), 1);
            for n in 0..70 {
                // Of different audiences, so that they are not one.
                let ids = vec![first.id(); 1 + n % 2];
                fan_out.send(Audience::Only(&ids), Kind::Binary, b"a");
            }
            assert!(frames(&pipe.written()).len() > 64);
        });
    }

    /// Rule 23.
    #[test]
    fn what_was_sent_before_a_panic_leaves() {
        let fan_out = FanOut::new();
        let (_, _member, pipe) = member(&fan_out);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            scope(|| {
                fan_out.send(Audience::All, Kind::Binary, b"a");
                panic!("as it should");
            })
        }));
        assert!(panicked.is_err() && !has_plans());
        assert_eq!(bodies(&pipe), b"a");
    }
}
