use crate::{Config, Timestamp};

/// The one deadline of a connection.
///
/// What is received is only noted. When the deadline comes, it is looked whether something was heard
/// in the meantime, and if so the deadline moves: an active peer costs one look per interval.
#[derive(Debug)]
pub(super) struct Timers {
    /// When something last arrived; how long ago that was while paused.
    heard: Timestamp,
    /// When something is due; how long after `heard` that was while paused.
    at: Timestamp,
    due: Due,
    paused: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Due {
    /// The transport is to end.
    End,
    /// The peer has been silent for too long.
    Idle,
    Nothing,
    /// The peer is to be asked whether it lives.
    Ping,
    /// The peer did not answer.
    Pong,
}

/// What has come due.
pub(super) enum Expired {
    End,
    Idle,
    Ping,
    Pong,
}

impl Timers {
    pub(super) fn new(config: &Config, now: Timestamp) -> Self {
        let mut this = Self { heard: now, at: now, due: Due::Nothing, paused: false };
        this.wait_for_silence(config);
        this
    }

    /// Something has arrived.
    #[inline]
    pub(super) const fn heard(&mut self, now: Timestamp) {
        self.heard = now;
    }

    /// Something has arrived, perhaps what was waited for.
    pub(super) fn received(&mut self, config: &Config, now: Timestamp) {
        self.resume(now);
        self.heard(now);
        if matches!(self.due, Due::Idle | Due::Pong) {
            self.wait_for_silence(config);
        }
    }

    /// From now on only the transport's end is due.
    pub(super) const fn end_at(&mut self, at: Timestamp) {
        (self.at, self.due, self.paused) = (at, Due::End, false);
    }

    pub(super) const fn stop(&mut self) {
        (self.due, self.paused) = (Due::Nothing, false);
    }

    pub(super) fn pause(&mut self, now: Timestamp) {
        if !self.paused && self.due != Due::End {
            self.paused = true;
            self.at = Timestamp::ZERO + self.at.since(self.heard);
            self.heard = Timestamp::ZERO + now.since(self.heard);
        }
    }

    pub(super) fn resume(&mut self, now: Timestamp) {
        if self.paused {
            self.paused = false;
            self.heard = Timestamp::ZERO + now.since(self.heard);
            self.at = self.heard + self.at.since(Timestamp::ZERO);
        }
    }

    pub(super) const fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        (self.due != Due::Nothing && !self.paused).then_some(self.at)
    }

    /// What is due at `now`; what follows from it is armed already.
    pub(super) fn expire(&mut self, config: &Config, now: Timestamp) -> Option<Expired> {
        if now < self.next()? {
            return None;
        }
        let silence = now.since(self.heard);
        match self.due {
            Due::Nothing => None,
            Due::End => Some(Expired::End),
            Due::Idle if config.idle_timeout.is_some_and(|most| silence >= most) => {
                Some(Expired::Idle)
            }
            Due::Ping if config.ping_interval.is_some_and(|most| silence >= most) => {
                self.wait_for_pong(config, now);
                Some(Expired::Ping)
            }
            // An answer would have moved the deadline.
            Due::Pong => Some(Expired::Pong),
            Due::Idle | Due::Ping => {
                self.wait_for_silence(config);
                None
            }
        }
    }

    fn wait_for_silence(&mut self, config: &Config) {
        let ping = config.ping_interval.map(|after| (self.heard + after, Due::Ping));
        self.wait_for_first(ping, config);
    }

    fn wait_for_pong(&mut self, config: &Config, now: Timestamp) {
        self.wait_for_first(Some((now + config.pong_timeout, Due::Pong)), config);
    }

    /// Waits for `alive` or for the idle deadline, whichever comes first.
    fn wait_for_first(&mut self, alive: Option<(Timestamp, Due)>, config: &Config) {
        let idle = config.idle_timeout.map(|after| (self.heard + after, Due::Idle));
        let first = alive.into_iter().chain(idle).min_by_key(|(at, _)| *at);
        (self.at, self.due) = first.unwrap_or((self.heard, Due::Nothing));
    }
}
