//! What one poll of a task gathers to send, which leaves when the poll returns.

use std::cell::{Cell, RefCell};
use std::mem;
use std::sync::Arc;

use wsforge_core::{Body, Kind, Output};

use super::outbox::{Outbox, server_header};

/// Sends to many, when its time has come.
pub(crate) trait Plans: Send + Sync {
    /// Executes what has been planned, unless somebody else is about to. Goes `through` with it: if
    /// somebody else is, it waits until that is done.
    fn run(&self, through: bool);
}

#[derive(Default)]
struct Turn {
    /// Peers for whom frames have been gathered. They leave before the plans are executed: what is sent
    /// while there are plans executes these first.
    outboxes: Vec<Arc<Outbox>>,
    plans: Vec<Arc<dyn Plans>>,
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
                leave(false);
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
pub(crate) fn uncork() {
    if !CORKED.replace(false) {
        return;
    }
    // Nothing is borrowed while others are woken.
    let (of, mut output) =
        CORK.with_borrow_mut(|cork| (cork.of.take(), mem::take(&mut cork.output)));
    if let Some(outbox) = of {
        outbox.uncork(&mut output, &[], (&[]).into(), false);
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
pub(crate) fn planned(plans: Arc<dyn Plans>) {
    if DEPTH.get() == 0 {
        return plans.run(false);
    }
    PLANNED.set(true);
    TURN.with_borrow_mut(|turn| {
        if !turn.plans.iter().any(|known| Arc::ptr_eq(known, &plans)) {
            turn.plans.push(plans);
        }
    });
}

/// Whether something has been planned that goes before whatever is sent now.
#[inline]
pub(crate) fn has_plans() -> bool {
    PLANNED.get()
}

/// Sends what has been gathered, and executes what has been planned, before something else is done.
pub(crate) fn flush() {
    leave(true);
}

#[inline]
fn leave(through: bool) {
    if GATHERED.get() || PLANNED.get() {
        leave_with_something(through);
    }
}

fn leave_with_something(through: bool) {
    GATHERED.set(false);
    uncork();
    // The peers first, see `Turn`. User code does not run in here, but what it has put into buffers is
    // dropped, and might do anything.
    let Turn { outboxes, plans } = TURN.with_borrow_mut(mem::take);
    PLANNED.set(false);
    for outbox in outboxes {
        outbox.flush_now();
    }
    for plans in plans {
        plans.run(through);
    }
}
