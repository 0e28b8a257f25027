//! Writing under the lock: only what the socket takes at once.

use std::io::{self, ErrorKind, IoSlice};

use wsforge_core::frame::Header;
use wsforge_core::hub::Class;
use wsforge_core::{Body, Output};

use super::{Backlog, Outbox, Phase, State, Tick};
use crate::runtime::Transport;

impl<T: Transport + ?Sized> Outbox<T> {
    /// Writes `output` and a frame behind it, and keeps what the socket does not take. Nothing waits
    /// before it.
    pub(super) fn write(
        &self,
        state: &mut State,
        output: &mut Output,
        head: &[u8],
        body: Body<'_>,
    ) {
        match self.write_now(output, head, &body) {
            Ok(written) if written == head.len() + body.len() && output.is_empty() => {}
            Ok(written) => {
                let backlog = state.backlog.insert(Backlog::spare());
                backlog.begin(output.take_unsent());
                backlog.put(head, body, written);
                self.block(state);
            }
            Err(_) => self.fail(state, Phase::Broken),
        }
    }

    /// Puts a frame behind what waits, or behind what will.
    pub(super) fn queue(
        &self,
        state: &mut State,
        header: &Header,
        body: Body<'_>,
        class: Class,
        held: bool,
        gathered: bool,
    ) {
        let backlog = state.backlog.get_or_insert_with(Backlog::spare);
        if held || state.corked || backlog.has_queue() {
            backlog.push_frame(header, body, class, held);
        } else {
            backlog.put_frame(header, body);
        }
        let much = backlog.len() > self.endpoint.config.high_water;
        // What is blocked has its owner to go on.
        if state.deadline == Tick::NEVER && (!gathered || much) {
            self.write_unless_corked(state);
        }
    }

    /// Writes what waits, unless the owner has what stands before it.
    pub(super) fn write_unless_corked(&self, state: &mut State) {
        let Some(backlog) = state.backlog.as_mut().filter(|_| !state.corked) else { return };
        let before = backlog.len();
        let done = loop {
            match backlog.front().write_to(|slices| self.transport.try_write(slices)) {
                Ok(true) if !backlog.has_queue() => break true,
                Ok(true) => {}
                Ok(false) => break false,
                Err(_) => return self.fail(state, Phase::Broken),
            }
        };
        if backlog.len() < before {
            self.progressed(state);
        }
        if !done {
            self.block(state);
        }
    }

    /// The socket takes no more for now: the owner goes on, before the deadline.
    pub(super) fn block(&self, state: &mut State) {
        if state.deadline == Tick::NEVER {
            let timeout = self.endpoint.options.write_timeout;
            state.deadline = Tick::ceil(self.endpoint.timer.now() + timeout);
            state.wakes = true;
        }
    }

    /// Who reads a little at a time gets more time, but not for the rest when all is over.
    pub(super) fn progressed(&self, state: &mut State) {
        if state.phase == Phase::Open && state.deadline != Tick::NEVER {
            let timeout = self.endpoint.options.write_timeout;
            state.deadline = Tick::ceil(self.endpoint.timer.now() + timeout);
        }
    }

    /// Writes as much as the socket takes. `output`, which goes first, loses what is written of it; how
    /// much is of the frame is returned.
    #[inline]
    fn write_now(&self, output: &mut Output, head: &[u8], body: &[u8]) -> io::Result<usize> {
        let frame = head.len() + body.len();
        if frame == 0 {
            output.write_to(|slices| self.transport.try_write(slices))?;
            return Ok(0);
        }
        let mut written = 0;
        while written < frame {
            let rest =
                [&head[written.min(head.len())..], &body[written.saturating_sub(head.len())..]];
            match self.write_once(output, rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    let gathered = taken.min(output.len());
                    output.advance(gathered);
                    written += taken - gathered;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    fn write_once(&self, output: &Output, [head, body]: [&[u8]; 2]) -> io::Result<usize> {
        /// More pieces than a turn gathers before a large reply.
        const SLICES: usize = 8;
        if output.is_empty() {
            return match head {
                [] => self.transport.try_write(&[IoSlice::new(body)]),
                head => self.transport.try_write(&[IoSlice::new(head), IoSlice::new(body)]),
            };
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        // If there are more pieces before the frame, it has its turn when they are gone.
        for (slot, piece) in slices.iter_mut().zip(output.slices().chain([head, body])) {
            *slot = IoSlice::new(piece);
        }
        self.transport.try_write(&slices)
    }
}
