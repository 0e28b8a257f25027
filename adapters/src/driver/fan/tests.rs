//! What goes to many at several places and in several slices.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;

use wsforge_core::hub::MemberId;

use super::inbox::{AT_A_TIME, AT_ONCE, SLICE};
use super::*;
use crate::Options;
use crate::driver::endpoint::Endpoint;
use crate::driver::outbox::mock::{Pipe, endpoint, frames, opened_at};
use crate::driver::outbox::{Piece, Room};

type Of = Arc<Fan<Arc<Outbox>>>;

struct One {
    outbox: Arc<Outbox>,
    pipe: Pipe,
    id: MemberId,
}

fn join(fan: &Of, endpoint: &Arc<Endpoint>) -> One {
    let (outbox, pipe) = opened_at(endpoint);
    let (id, outbox) = fan.join(|_| outbox);
    One { outbox, pipe, id }
}

fn join_many(fan: &Of, endpoint: &Arc<Endpoint>, n: usize) -> Vec<One> {
    (0..n).map(|_| join(fan, endpoint)).collect()
}

impl One {
    fn got(&self) -> Vec<u8> {
        frames(&self.pipe.written()).into_iter().flat_map(|(.., body)| body).collect()
    }

    fn push(&self, body: &[u8]) {
        turn::flush();
        self.outbox.push(Piece::Message, Opcode::Binary, &body.into(), Room::Any).unwrap();
    }
}

fn send(fan: &Of, body: &[u8]) {
    fan.send(Audience::All, Opcode::Binary, body, None);
}

/// What the timer's task does when it is woken.
fn slice(endpoint: &Endpoint) -> bool {
    let inbox = &endpoint.timer.inbox;
    inbox.begin() && inbox.run(SLICE)
}

#[test]
fn very_many_are_sent_to_in_slices() {
    let (fan, endpoint) = (Of::default(), endpoint(Options::default()));
    let all = join_many(&fan, &endpoint, AT_ONCE + 2 * SLICE + 1);
    let reached = || all.iter().filter(|one| !one.got().is_empty()).count();
    send(&fan, b"a");
    assert_eq!(reached(), AT_ONCE);
    assert!(slice(&endpoint) && slice(&endpoint) && endpoint.timer.inbox.is_behind());
    assert_eq!(reached(), AT_ONCE + 2 * SLICE);
    assert!(!slice(&endpoint) && !endpoint.timer.inbox.is_behind());
    assert!(all.iter().all(|one| one.got() == b"a"));
    assert_eq!(fan.tally().sums().written, all.len() as u64);
}

#[test]
fn large_messages_count_for_more() {
    let (fan, endpoint) = (Of::default(), endpoint(Options::default()));
    let all = join_many(&fan, &endpoint, AT_ONCE / 2 + 1);
    send(&fan, &vec![0; 16 * 1024]);
    let reached = all.iter().filter(|one| !one.got().is_empty()).count();
    assert_eq!(reached, AT_ONCE / 2);
    assert!(!slice(&endpoint));
}

/// Who sends to one alone, closes it, or takes it out, gives it first what it is to get with others.
#[test]
fn who_was_not_reached_yet_is_when_something_is_sent_to_it_alone() {
    let (fan, endpoint) = (Of::default(), endpoint(Options::default()));
    let mut all = join_many(&fan, &endpoint, AT_ONCE + 5);
    send(&fan, b"a");
    send(&fan, b"b");
    let last = &mut all[AT_ONCE..];
    last[0].push(b"c");
    assert!(last[1].outbox.close(CloseCode::NORMAL, ""));
    assert!(fan.leave(last[2].id));
    assert!(last[3].outbox.cork());
    let got: Vec<_> = last.iter().map(One::got).collect();
    assert_eq!(got, [&b"abc"[..], b"ab\x03\xE8", b"ab", b"ab", b""]);
    while slice(&endpoint) {}
    assert_eq!(last.iter().map(One::got).collect::<Vec<_>>()[..4], got[..4]);
    assert_eq!(last[4].got(), b"ab");
    assert_eq!(fan.tally().sums().written, 2 * all.len() as u64);
}

#[test]
fn who_gets_the_key_of_one_that_has_gone_gets_nothing_of_its_messages() {
    let (fan, endpoint) = (Of::default(), endpoint(Options::default()));
    // Few and many: their places are found in two ways.
    for more in [5, 500] {
        let mut all = join_many(&fan, &endpoint, AT_ONCE + more);
        send(&fan, b"a");
        let gone = all.pop().unwrap();
        let key = gone.outbox.key();
        write(&fan.members).leave(gone.id);
        drop(gone);
        let next = join(&fan, &endpoint);
        assert_eq!(next.outbox.key(), key);
        next.push(b"b");
        while slice(&endpoint) {}
        assert_eq!(next.got(), b"b");
        assert!(all.iter().all(|one| one.got() == b"a"));
        all.iter().for_each(|one| assert!(fan.leave(one.id)));
    }
}

#[test]
fn another_threads_members_are_left_to_it_once_for_each_turn() {
    let fan = Of::default();
    let (here, there) = (endpoint(Options::default()), endpoint(Options::default()));
    let (near, far) = (join_many(&fan, &here, 3), join_many(&fan, &there, 3));
    thread::scope(|scope| scope.spawn(|| there.timer.inbox.stay()).join()).unwrap();
    turn::scope(|| (0..9).for_each(|n| send(&fan, &[n])));
    assert!(near.iter().all(|one| one.got() == [0, 1, 2, 3, 4, 5, 6, 7, 8]));
    assert!(far.iter().all(|one| one.got().is_empty()));
    // Nothing overtakes it either.
    far[1].push(&[9]);
    assert_eq!((far[1].got(), far[1].pipe.writes()), ((0..10).collect(), 2));
    assert!(!slice(&there));
    assert!(far.iter().all(|one| one.got()[..9] == [0, 1, 2, 3, 4, 5, 6, 7, 8]));
    assert_eq!(far[0].pipe.writes(), 1);
}

#[test]
fn who_wants_to_know_what_comes_of_it_writes_for_other_threads_too() {
    let fan = Of::default();
    let there = endpoint(Options::default());
    let far = join_many(&fan, &there, 3);
    thread::scope(|scope| scope.spawn(|| there.timer.inbox.stay()).join()).unwrap();
    send(&fan, b"a");
    assert_eq!(far[0].got(), b"");
    let Flow { sums, pending } = fan.send_now(Audience::All, Opcode::Binary, b"b");
    // Somebody has been told to send the first.
    assert_eq!((sums.written, pending), (0, 3));
    assert!(!slice(&there));
    let Flow { sums, pending } = fan.send_now(Audience::All, Opcode::Binary, b"c");
    assert_eq!((sums.written, pending), (3, 0));
    assert!(far.iter().all(|one| one.got() == b"abc"));
}

#[test]
fn who_sends_more_than_is_sent_on_sends_it_on() {
    let (fan, there) = (Of::default(), endpoint(Options::default()));
    let far = join(&fan, &there);
    thread::scope(|scope| scope.spawn(|| there.timer.inbox.stay()).join()).unwrap();
    (0..64).for_each(|n| send(&fan, &[n]));
    assert_eq!(far.got(), b"");
    send(&fan, &[64]);
    assert_eq!(far.got(), (0..=64).collect::<Vec<_>>());
    assert!(!slice(&there));
    assert_eq!(far.got().len(), 65);
}

#[test]
fn nothing_is_kept_for_a_timer_that_has_ended() {
    let (fan, endpoint) = (Of::default(), endpoint(Options::default()));
    let all = join_many(&fan, &endpoint, AT_ONCE + 1);
    send(&fan, b"a");
    let weak = Arc::downgrade(&fan);
    drop(endpoint.timer.inbox.abandon());
    assert!(!endpoint.timer.inbox.is_behind());
    drop((fan, all));
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_flush_tells_what_came_of_the_turn() {
    let mut options = Options::default();
    options.mailbox.max_bytes = 100;
    let (fan, endpoint) = (Of::default(), endpoint(options));
    let all = join_many(&fan, &endpoint, 4);
    all[1].pipe.room(0);
    all[2].pipe.room(1);
    all[2].push(&[0; 80]);
    all[3].outbox.close(CloseCode::NORMAL, "");
    turn::scope(|| {
        send(&fan, &[1; 40]);
        send(&fan, &[2; 40]);
        let Flow { sums, pending } = fan.flush();
        let Sums { reached, written, queued, dropped, refused, evicted } = sums;
        assert_eq!((reached, written, queued, pending), (4, 2, 2, 0));
        assert_eq!((dropped, refused, evicted), (0, 4, 1));
        assert_eq!(fan.flush().sums, Sums::default());
    });
    assert_eq!(fan.with_hub(Hub::len), 2);
}

#[test]
fn who_watches_is_told_of_all_in_order_also_of_the_evicted() {
    let mut options = Options::default();
    options.mailbox.max_bytes = 10;
    let (fan, endpoint) = (Of::default(), endpoint(options));
    let log = Arc::new(Mutex::new(Vec::new()));
    let watch: Watch<_> = {
        let (log, fan) = (log.clone(), Arc::downgrade(&fan));
        Box::new(move |event: &Event<Arc<Outbox>>| {
            lock_plain(&log).push((event.group.to_string(), event.member, event.joined));
            // Nothing is locked; and what happens now is told behind it.
            let fan = fan.upgrade().unwrap();
            if &*event.group == "first" && event.joined {
                fan.subscribe(event.member, "then").unwrap();
            }
            assert!(fan.with_hub(Hub::len) < 4);
        })
    };
    assert!(fan.watch(watch));
    assert!(!fan.watch(Box::new(|_| unreachable!())));
    let all = join_many(&fan, &endpoint, 2);
    let [a, b] = [all[0].id, all[1].id];
    for (id, group) in [(a, "first"), (a, "first"), (b, "x")] {
        fan.subscribe(id, group).unwrap();
    }
    assert!(fan.unsubscribe(a, "first") && !fan.unsubscribe(a, "first"));
    all[1].pipe.room(0);
    (0..2).for_each(|_| send(&fan, &[0; 9]));
    assert!(fan.leave(a) && !fan.leave(b));
    let expected = [
        ("first", a, true),
        ("then", a, true),
        ("x", b, true),
        ("first", a, false),
        ("x", b, false),
        ("then", a, false),
    ];
    assert_eq!(
        *lock_plain(&log),
        expected.map(|(group, id, joined)| (group.to_owned(), id, joined))
    );
}

/// Many threads send to many and to single ones, others go through the inboxes, members come and go: each
/// member gets what each sender has sent in order, nothing twice, what goes to all in the same order as
/// everybody else, and all of it if it was there all the time.
#[test]
fn whatever_threads_do_nothing_is_lost_and_nothing_is_reordered() {
    const SENDERS: u8 = 3;
    const EACH: u32 = 200;
    let fan = Of::default();
    let mut options = Options::default();
    (options.mailbox.max_bytes, options.mailbox.max_frames) = (usize::MAX, usize::MAX);
    let endpoints = [(); 2].map(|()| endpoint(options.clone()));
    let all: Vec<_> = endpoints.iter().flat_map(|at| join_many(&fan, at, AT_A_TIME + 30)).collect();
    let (done, turns) = (AtomicBool::new(false), AtomicUsize::new(0));
    let message = |sender: u8, n: u32, to_all: bool| {
        [&[sender, u8::from(to_all)], &n.to_be_bytes()[..]].concat()
    };
    thread::scope(|scope| {
        for endpoint in &endpoints {
            scope.spawn(|| {
                endpoint.timer.inbox.stay();
                while !done.load(Ordering::Acquire) || endpoint.timer.inbox.is_behind() {
                    slice(endpoint);
                    turns.fetch_add(1, Ordering::Relaxed);
                    thread::yield_now();
                }
            });
        }
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (fan, all) = (&fan, &all);
                scope.spawn(move || {
                    for n in (0..EACH).step_by(2) {
                        let one = &all[(n as usize * 7 + usize::from(sender)) % all.len()];
                        let part = || {
                            send(fan, &message(sender, n, true));
                            one.push(&message(sender, n + 1, false));
                        };
                        if n % 8 == 0 { turn::scope(part) } else { part() }
                    }
                })
            })
            .collect();
        let coming = scope.spawn(|| {
            for n in 0..40 {
                let late = join_many(&fan, &endpoints[n % 2], 3);
                late.iter().for_each(|one| assert!(fan.leave(one.id)));
            }
        });
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        coming.join().unwrap();
        done.store(true, Ordering::Release);
    });
    let mut in_order: Option<Vec<(u8, u32)>> = None;
    let mut alone = HashSet::new();
    for one in &all {
        let (mut last, mut to_all) = (BTreeMap::new(), Vec::new());
        for (.., body) in frames(&one.pipe.written()) {
            let (sender, n) = (body[0], u32::from_be_bytes(body[2..].try_into().unwrap()));
            assert!(last.insert(sender, n).is_none_or(|before| before < n));
            match body[1] {
                1 => to_all.push((sender, n)),
                _ => assert!(alone.insert((sender, n))),
            }
        }
        assert_eq!(to_all.len(), usize::from(SENDERS) * EACH as usize / 2);
        assert_eq!(*in_order.get_or_insert_with(|| to_all.clone()), to_all);
    }
    assert_eq!(alone.len(), usize::from(SENDERS) * EACH as usize / 2);
}
