//! Pings, silence and time. Clocks are numbers here: no test waits.

mod support;

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use support::{End, Seen, client, client_at, masked, plain, server, server_at, text};
use wsforge_core::frame::Opcode;
use wsforge_core::{
    CloseCode, Config, Error, Input, Outcome, Output, Role, ServerConnection, Shutdown, State,
    Timestamp, Wheel,
};

const MS: Duration = Duration::from_millis(1);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// When connections begin: with the clock, before 32 bits of milliseconds run over, and late.
const STARTS: [u64; 5] = [0, 1, (1 << 32) - 35_000, (1 << 32) - 1, u64::MAX - 86_400_000];

fn config(ping: Option<u64>, pong: u64, idle: Option<u64>) -> Config {
    let mut config = Config::default();
    config.ping_interval = ping.map(ms);
    config.pong_timeout = ms(pong);
    config.idle_timeout = idle.map(ms);
    config
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Fail(Error),
    Over,
    Ping,
}

/// Drives `end` by its deadlines alone until `until` ms after its start, while the peer answers pings
/// after `answers` ms. Tells what happened and when; looking one millisecond early must do nothing.
fn drive<R: Role>(mut end: End<R>, until: u64, answers: Option<u64>) -> Vec<(u64, What)> {
    let pong: &[u8] = if R::CLIENT { b"\x8A\x00" } else { b"\x8A\x80\x01\x02\x03\x04" };
    let (start, mut answer, mut happened) = (end.now, None, Vec::new());
    let until = start + ms(until);
    while let Some(at) = end.conn.next_timeout() {
        let at = at.max(end.now);
        if let Some(reply) = answer
            && reply <= at.min(until)
        {
            (end.now, answer) = (reply, None);
            assert_eq!(end.receive(pong), [Seen::Pong(vec![])]);
            continue;
        }
        if at > until {
            break;
        }
        if at > end.now {
            let early = Timestamp::from_millis(at.as_millis() - 1);
            assert!(end.conn.handle_timeout(early, &mut end.output).is_none());
            assert!(end.output.is_empty() && end.conn.next_timeout() == Some(at));
        }
        end.now = at;
        let what = match end.wait(Duration::ZERO) {
            Some(Seen::Fail(error)) => What::Fail(error),
            Some(event) => panic!("{event:?}"),
            None if end.conn.wants_shutdown() == Some(Shutdown::Both) => What::Over,
            None if end.output.is_empty() => continue,
            None => What::Ping,
        };
        match what {
            What::Fail(error) => {
                let code = if error == Error::PongTimeout { 1011 } else { 1008 };
                assert_eq!(end.sent_close(), Some((code, error.to_string())));
                assert_eq!(end.conn.outcome(), Some(Outcome::Failed(error)));
            }
            What::Ping => {
                assert_eq!(end.sent(), [(Opcode::Ping, true, vec![])]);
                answer = answers.map(|after| end.now + ms(after));
            }
            What::Over => assert!(end.output.is_empty()),
        }
        happened.push((at.since(start).as_millis() as u64, what));
    }
    happened
}

#[test]
fn a_silent_peer_is_asked_and_given_up_to_the_millisecond() {
    use What::{Fail, Over, Ping};
    let (pong, idle) = (Fail(Error::PongTimeout), Fail(Error::IdleTimeout));
    let cases: [(Config, &[(u64, What)]); 8] = [
        (Config::default(), &[(30_000, Ping), (50_000, pong), (55_000, Over)]),
        (config(Some(1), 1, None), &[(1, Ping), (2, pong), (5_002, Over)]),
        (config(Some(5_000), 20_000, None), &[(5_000, Ping), (25_000, pong), (30_000, Over)]),
        (config(None, 1, Some(60_000)), &[(60_000, idle), (65_000, Over)]),
        // Whichever comes first.
        (config(Some(30), 20, Some(40)), &[(30, Ping), (40, idle), (5_040, Over)]),
        (config(Some(30), 20, Some(60)), &[(30, Ping), (50, pong), (5_050, Over)]),
        (config(Some(30), 20, Some(10)), &[(10, idle), (5_010, Over)]),
        (config(None, 1, None), &[]),
    ];
    for (config, expected) in cases {
        for start in STARTS.map(Timestamp::from_millis) {
            assert_eq!(drive(server_at(&config, start), 80_000_000, None), expected);
            assert_eq!(drive(client_at(&config, start), 80_000_000, None), expected);
        }
    }
    assert_eq!(server(&config(None, 1, None)).conn.next_timeout(), None);
}

#[test]
fn a_peer_that_answers_is_asked_again_after_the_interval() {
    for start in STARTS.map(Timestamp::from_millis) {
        for answers in [0, 1, 700, 19_999, 20_000] {
            let pings = [1, 2, 3].map(|n| (n * 30_000 + (n - 1) * answers, What::Ping));
            let until = 90_000 + 2 * answers;
            assert_eq!(drive(server_at(&Config::default(), start), until, Some(answers)), pings);
            assert_eq!(drive(client_at(&Config::default(), start), until, Some(answers)), pings);
        }
        // Too late by a millisecond.
        let happened = drive(server_at(&Config::default(), start), 50_000, Some(20_001));
        assert_eq!(happened, [(30_000, What::Ping), (50_000, What::Fail(Error::PongTimeout))]);
    }
}

/// However long the peer may take to answer, one that has answered is asked again in time.
#[test]
fn the_interval_may_be_shorter_than_the_pong_timeout() {
    for config in [
        config(Some(5_000), 20_000, None),
        config(Some(5_000), 20_000, Some(21_000)),
        config(Some(5_000), 20_000, Some(60_000)),
    ] {
        let pings = [5_000, 10_100, 15_200, 20_300].map(|at| (at, What::Ping));
        assert_eq!(drive(server(&config), 25_000, Some(100)), pings);
    }
}

/// Silence is counted in time that has passed: a deadline between two milliseconds is the next one.
#[test]
fn deadlines_finer_than_the_clock_come_up_once() {
    let micros = Duration::from_micros;
    let mut config = Config::default();
    config.ping_interval = Some(micros(1_500));
    config.pong_timeout = micros(2_500);
    let mut end = server(&config);
    assert_eq!(end.conn.next_timeout(), Some(Timestamp::from_millis(2)));
    assert_eq!((end.wait(ms(2)), end.sent().len()), (None, 1));
    assert_eq!(end.conn.next_timeout(), Some(Timestamp::from_millis(5)));
    assert_eq!(end.wait(ms(3)), Some(Seen::Fail(Error::PongTimeout)));

    config.ping_interval = None;
    config.idle_timeout = Some(micros(1_001));
    let mut end = server(&config);
    assert_eq!(end.conn.next_timeout(), Some(Timestamp::from_millis(2)));
    assert_eq!(end.wait(ms(2)), Some(Seen::Fail(Error::IdleTimeout)));
}

/// Every received byte is a sign of life, and receiving does not touch the deadline: it moves when it
/// comes.
#[test]
fn any_byte_counts_as_life_and_deadlines_move_late() {
    let config = config(Some(1_000), 500, Some(1_400));
    let wire = masked(Opcode::Text, true, &[b'x'; 300]);
    let mut end = server(&config);
    let mut looks = 0;
    for byte in &wire {
        let at = end.conn.next_timeout().unwrap();
        end.pass(ms(999));
        if at <= end.now {
            assert_eq!(end.wait(Duration::ZERO), None);
            looks += 1;
        }
        let at = end.conn.next_timeout();
        end.receive(&[*byte]);
        assert_eq!((end.conn.next_timeout(), end.output.len()), (at, 0));
    }
    assert!(looks <= wire.len(), "{looks}");
    // Moved by the last byte.
    end.pass(ms(999));
    assert_eq!((end.wait(Duration::ZERO), end.output.len()), (None, 0));
    assert_eq!(end.conn.next_timeout(), Some(end.now + MS));
    assert_eq!((end.wait(MS), end.sent().len()), (None, 1));
    // A byte after the ping is as good as a pong.
    end.pass(ms(399));
    end.receive(&wire[..1]);
    assert_eq!((end.wait(ms(101)), end.output.len()), (None, 0));
    assert_eq!(end.conn.next_timeout(), Some(end.now + ms(899)));
}

/// Whole messages go by a shorter road; they are heard as well.
#[test]
fn messages_count_as_life() {
    fn run<R: Role>(mut end: End<R>, message: &[u8]) {
        for n in 0..10 {
            end.pass(ms(29_999));
            let mut bytes = message.to_vec();
            match n % 3 {
                0 if message.len() >= 8 => {
                    let mut input = Input::new(&mut bytes, end.now);
                    assert!(end.conn.next_copied(&mut input).is_some());
                }
                1 => assert!(end.conn.next_whole(bytes, end.now).is_ok()),
                _ => assert_eq!(end.receive(message).len(), 1),
            }
            assert_eq!((end.wait(Duration::ZERO), end.output.len()), (None, 0));
        }
        assert_eq!((end.wait(ms(29_999)), end.output.len()), (None, 0));
        assert_eq!((end.wait(MS), end.sent().len()), (None, 1));
    }
    for len in [5, 50, 5_000] {
        let body = vec![b'x'; len];
        run(server(&Config::default()), &masked(Opcode::Binary, true, &body));
        run(client(&Config::default()), &plain(Opcode::Text, true, &body));
    }
}

#[test]
fn looking_late_gives_the_peer_its_time_all_the_same() {
    let mut end = server(&Config::default());
    // The ping leaves ten seconds late: its answer may take as long as ever.
    assert_eq!((end.wait(ms(40_000)), end.sent().len()), (None, 1));
    assert_eq!(end.conn.next_timeout(), Some(Timestamp::from_millis(60_000)));
    end.pass(ms(100));
    end.receive(&masked(Opcode::Pong, true, b""));
    // Answered: nothing is due, however late that is found out.
    assert_eq!((end.wait(ms(25_000)), end.output.len()), (None, 0));
    assert_eq!(end.conn.next_timeout(), Some(Timestamp::from_millis(70_100)));
    assert_eq!((end.wait(ms(90_000)), end.sent().len()), (None, 1));
}

/// A handler that takes a minute costs nothing: what waits for the peer stands still meanwhile.
#[test]
fn deadlines_stand_still_while_paused() {
    let configs =
        [Config::default(), config(None, 1, Some(30_000)), config(Some(31_000), 1, Some(30_000))];
    for (config, start) in configs.iter().flat_map(|config| STARTS.map(|start| (config, start))) {
        let mut end = server_at(config, Timestamp::from_millis(start));
        end.pass(ms(10_000));
        end.conn.pause(end.now);
        assert_eq!(end.conn.next_timeout(), None);
        for _ in 0..3 {
            end.pass(ms(20_000));
            assert_eq!((end.wait(Duration::ZERO), end.output.len()), (None, 0));
            end.conn.pause(end.now);
        }
        end.conn.resume(end.now);
        assert_eq!(end.conn.next_timeout(), Some(end.now + ms(20_000)));
        end.conn.resume(end.now + ms(5_000));
        assert_eq!(end.conn.next_timeout(), Some(end.now + ms(20_000)), "nothing to resume");
        assert_eq!((end.wait(ms(19_999)), end.output.len()), (None, 0));
        end.wait(MS);
        assert!(!end.output.is_empty());
    }
}

#[test]
fn the_wait_for_a_pong_stands_still_while_paused() {
    let mut end = server(&Config::default());
    end.wait(ms(30_000));
    end.written();
    end.pass(ms(15_000));
    end.conn.pause(end.now);
    end.pass(ms(60_000));
    end.conn.resume(end.now);
    assert_eq!(end.conn.next_timeout(), Some(end.now + ms(5_000)));
    assert_eq!(end.wait(ms(4_999)), None);
    assert_eq!(end.wait(MS), Some(Seen::Fail(Error::PongTimeout)));
}

/// A driver may be late: its timers are coarse. That the peer has answered is not forgotten when
/// reading stops between a deadline and the look at it.
#[test]
fn a_pause_does_not_blame_a_peer_that_has_answered() {
    let mut end = server(&Config::default());
    end.wait(ms(30_000));
    end.written();
    end.pass(MS);
    end.receive(&masked(Opcode::Pong, true, b""));
    // Due at 50 s, not looked at yet.
    end.pass(ms(20_499));
    end.conn.pause(end.now);
    end.pass(ms(1_000));
    end.conn.resume(end.now);
    assert_eq!((end.wait(Duration::ZERO), end.output.len()), (None, 0));
    assert_eq!(end.conn.next_timeout(), Some(end.now + ms(9_501)));
}

#[test]
fn input_ends_a_pause() {
    for wire in [&masked(Opcode::Binary, true, b"whole message")[..], b"\x82"] {
        let mut end = server(&Config::default());
        end.pass(ms(10_000));
        end.conn.pause(end.now);
        end.pass(ms(60_000));
        // The deadline stands where it stood, and moves when it comes.
        end.receive(wire);
        assert_eq!(end.conn.next_timeout(), Some(end.now + ms(20_000)));
        assert_eq!((end.wait(ms(20_000)), end.output.len()), (None, 0));
        assert_eq!(end.conn.next_timeout(), Some(end.now + ms(10_000)));
    }
}

#[test]
fn pausing_never_puts_off_the_end() {
    fn paused_over<R: Role>(mut end: End<R>, at: Timestamp) -> Option<Seen> {
        end.conn.pause(end.now);
        assert_eq!(end.conn.next_timeout(), Some(at));
        end.now = at;
        let event = end.wait(Duration::ZERO);
        let over = (State::Closed, Some(Shutdown::Both));
        assert_eq!((end.conn.state(), end.conn.wants_shutdown()), over);
        event
    }
    let at = Timestamp::from_millis(6_000);
    let mut closing = server(&Config::default());
    closing.pass(ms(1_000));
    closing.close(CloseCode::NORMAL, "");
    assert_eq!(paused_over(closing, at), Some(Seen::Fail(Error::CloseTimeout)));

    let mut paused = server(&Config::default());
    paused.conn.pause(paused.now);
    paused.pass(ms(1_000));
    paused.close(CloseCode::NORMAL, "");
    assert_eq!(paused_over(paused, at), Some(Seen::Fail(Error::CloseTimeout)));

    let mut failed = server(&Config::default());
    failed.pass(ms(1_000));
    failed.receive(&[0xFF; 2]);
    assert_eq!(paused_over(failed, at), None);

    let mut awaiting = client(&Config::default());
    awaiting.pass(ms(1_000));
    awaiting.receive(b"\x88\x00");
    assert_eq!(paused_over(awaiting, at), None);
}

/// Deadlines that never come, and a clock at its end: nothing overflows.
#[test]
fn time_saturates() {
    let mut config = config(Some(1), 1, Some(1));
    config.ping_interval = Some(Duration::MAX);
    config.pong_timeout = Duration::MAX;
    config.idle_timeout = Some(Duration::MAX);
    config.close_timeout = Duration::MAX;
    let never = Timestamp::from_millis(u64::MAX);
    let mut end = server(&config);
    assert_eq!(end.conn.next_timeout(), Some(never));
    assert_eq!((end.wait(ms(1 << 60)), end.output.len()), (None, 0));
    end.conn.pause(end.now);
    end.conn.resume(end.now);
    end.close(CloseCode::NORMAL, "");
    assert_eq!(end.conn.next_timeout(), Some(never));
    assert_eq!(end.wait(ms(1 << 61)), None);
    assert_eq!(end.conn.state(), State::Closing);

    for before in [0, 1, 29_999, 30_000, 54_999] {
        let start = Timestamp::from_millis(u64::MAX - before);
        let mut end = server_at(&Config::default(), start);
        for _ in 0..5 {
            end.pass(ms(20_000));
            end.wait(Duration::ZERO);
            end.conn.pause(end.now);
            end.conn.resume(end.now);
            end.receive(&[0x82]);
        }
        end.close(CloseCode::NORMAL, "");
        end.receive(b"\xFF");
        end.eof();
        assert_eq!(end.conn.state(), State::Closed);
    }
}

/// A thousand connections, one wheel: the silent ones end in time, the others live.
#[test]
fn a_wheel_drives_many_connections() {
    const TICK: u64 = 100;
    let config = Arc::new(config(Some(1_000), 500, None));
    let start = (1 << 32) - 2_000;
    let mut wheel = Wheel::new(ms(TICK), 32, Timestamp::from_millis(start));
    let mut conns: Vec<_> = (0..1_000)
        .map(|key| {
            let now = Timestamp::from_millis(start + key as u64);
            let conn = ServerConnection::after_handshake(config.clone(), now);
            wheel.insert(key, conn.next_timeout().unwrap());
            (conn, Output::new(), None, 0)
        })
        .collect();
    let is_silent = |key: usize| key.is_multiple_of(3);
    for now in (start..start + 10_000).step_by(20) {
        let now = Timestamp::from_millis(now);
        for key in wheel.expire(now).collect::<Vec<_>>() {
            let (conn, output, failed, pings) = &mut conns[key];
            if conn.handle_timeout(now, output).is_some() {
                *failed = Some(now.as_millis() - start - key as u64);
            } else if !output.is_empty() {
                *pings += 1;
                if !is_silent(key) {
                    let mut pong = *b"\x8A\x80\x00\x00\x00\x00";
                    let mut input = Input::new(&mut pong, now);
                    conn.next_event(&mut input, output).unwrap();
                }
            }
            output.advance(usize::MAX);
            if let (Some(at), None) = (conn.next_timeout(), &failed) {
                wheel.insert(key, at);
            }
        }
    }
    for (key, (_, _, failed, pings)) in conns.iter().enumerate() {
        match failed {
            Some(after) => {
                assert!(is_silent(key) && *pings == 1);
                assert!((1_500..=1_500 + 4 * TICK).contains(after), "{key}: {after}");
            }
            // In ten seconds, each ping at most two ticks late.
            None => assert!(!is_silent(key) && (7..=10).contains(pings), "{key}: {pings}"),
        }
    }
    assert_eq!(wheel.len(), (0..1_000).filter(|key| !is_silent(*key)).count());
}

#[derive(Clone, Debug)]
enum Op {
    Pause,
    Receive(bool),
    Resume,
    Wait(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        1 => Just(Op::Pause),
        3 => any::<bool>().prop_map(Op::Receive),
        1 => Just(Op::Resume),
        6 => (0..400u64).prop_map(Op::Wait),
    ];
    prop::collection::vec(op, 1..60)
}

/// How it should be: silence and the wait for a pong grow while time passes and nobody pauses.
#[derive(Default)]
struct Model {
    silence: u64,
    waiting: Option<u64>,
    paused: bool,
    failed: bool,
}

impl Model {
    fn wait(&mut self, mut time: u64, ping: u64, pong: u64, idle: u64) -> Vec<What> {
        let mut happened = Vec::new();
        while !self.paused && !self.failed {
            let to_idle = idle - self.silence;
            let to_act =
                self.waiting.map_or_else(|| ping.saturating_sub(self.silence), |w| pong - w);
            let step = time.min(to_idle).min(to_act);
            self.silence += step;
            self.waiting = self.waiting.map(|waiting| waiting + step);
            time -= step;
            if self.silence == idle {
                happened.push(What::Fail(Error::IdleTimeout));
                self.failed = true;
            } else if self.waiting == Some(pong) {
                happened.push(What::Fail(Error::PongTimeout));
                self.failed = true;
            } else if self.waiting.is_none() && self.silence >= ping {
                happened.push(What::Ping);
                self.waiting = Some(0);
            } else if time == 0 {
                break;
            }
        }
        happened
    }
}

proptest! {
    /// Nothing is ever due at the same time here: only one interval ends in a five.
    #[test]
    fn deadlines_behave_like_clocks_that_run(
        start in prop::sample::select(&STARTS[..]),
        ping in (1..40u64).prop_map(|n| n * 10),
        pong in 0..1_000u64,
        idle in (0..100u64).prop_map(|n| n * 10 + 5),
        ops in ops(),
    ) {
        let pong = pong / 10 * 10 + 10;
        let config = config(Some(ping), pong, Some(idle));
        let mut end = server_at(&config, Timestamp::from_millis(start));
        let mut model = Model::default();
        for op in ops {
            match op {
                Op::Pause => {
                    end.conn.pause(end.now);
                    model.paused = true;
                }
                Op::Resume => {
                    end.conn.resume(end.now);
                    model.paused = false;
                }
                Op::Receive(long) => {
                    let opcode = if long { Opcode::Binary } else { Opcode::Pong };
                    end.receive(&masked(opcode, true, if long { b"12345678" } else { b"" }));
                    model = Model::default();
                }
                Op::Wait(time) => {
                    let (until, mut happened) = (end.now + ms(time), Vec::new());
                    while let Some(at) = end.conn.next_timeout()
                        && at <= until
                    {
                        end.now = at.max(end.now);
                        if let Some(Seen::Fail(error)) = end.wait(Duration::ZERO) {
                            happened.push(What::Fail(error));
                            break;
                        }
                        happened.extend((!end.written().is_empty()).then_some(What::Ping));
                    }
                    end.now = until;
                    prop_assert_eq!(happened, model.wait(time, ping, pong, idle));
                    if model.failed {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// What was heard in the millisecond of the ping came before it.
#[test]
fn a_ping_right_behind_a_message_is_still_to_be_answered() {
    let mut config = Config::default();
    config.ping_interval = Some(Duration::ZERO);
    config.pong_timeout = Duration::from_secs(20);
    let mut end = server(&config);
    assert_eq!(end.receive(&masked(Opcode::Text, true, b"hi")), [text("hi")]);
    assert_eq!(end.wait(Duration::ZERO), None);
    assert_eq!(end.sent(), [(Opcode::Ping, true, vec![])]);
    assert_eq!(end.wait(Duration::from_millis(19_999)), None);
    assert_eq!(end.wait(Duration::from_millis(1)), Some(Seen::Fail(Error::PongTimeout)));
}
