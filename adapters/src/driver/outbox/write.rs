//! Writing under the lock: only what the socket takes at once.

use std::io::{self, ErrorKind, IoSlice};

use bytes::Bytes;
use wsforge_core::frame::{Header, MAX_HEADER_LEN};
use wsforge_core::hub::Class;
use wsforge_core::{Body, Output};

use super::{Backlog, Outbox, Phase, State, Tick};
use crate::runtime::Transport;

impl<T: Transport + ?Sized> Outbox<T> {
    /// Writes `output` and a frame behind it, and keeps what the socket does not take. Nothing waits
    /// before it. What others have shared and is written goes to `spent`, as it may not be dropped here.
    pub(super) fn write(
        &self,
        state: &mut State,
        output: &mut Output,
        head: &[u8],
        body: &Body<'_>,
        spent: &mut Vec<Bytes>,
    ) {
        match self.write_now(output, head, body, spent) {
            Ok(written) if written == head.len() + body.len() && output.is_empty() => {}
            Ok(written) => {
                let backlog = state.backlog.insert(Backlog::spare());
                backlog.begin(output.take_unsent());
                backlog.put(head, body.clone(), written);
                self.block(state);
            }
            Err(_) => self.fail(state, Phase::Broken),
        }
    }

    /// Writes a frame, unmasked, and keeps what the socket does not take. Nothing waits before it.
    pub(super) fn write_frame(&self, state: &mut State, header: &Header, body: &Body<'_>) {
        /// To copy so much takes less time than the system takes to look at two pieces.
        const SHORT: usize = 256;
        let mut head = [0; MAX_HEADER_LEN];
        let head_len = header.encode(&mut head);
        let head = &head[..head_len];
        if body.len() > SHORT {
            return self.write_pieces(state, head, body);
        }
        let len = head.len() + body.len();
        let mut frame = [0; MAX_HEADER_LEN + SHORT];
        frame[..head.len()].copy_from_slice(head);
        frame[head.len()..len].copy_from_slice(body);
        self.write_pieces(state, &[], &Body::Copy(&frame[..len]));
    }

    /// Writes a frame that is there already, and keeps what the socket does not take.
    pub(super) fn write_pieces(&self, state: &mut State, head: &[u8], body: &Body<'_>) {
        let written = match head {
            [] => self.transport.try_write(&[IoSlice::new(body)]),
            head => self.transport.try_write(&[IoSlice::new(head), IoSlice::new(body)]),
        };
        match written {
            Ok(written) if written == head.len() + body.len() => {}
            Ok(0) => self.fail(state, Phase::Broken),
            Ok(written) => {
                state.backlog.insert(Backlog::spare()).put(head, body.clone(), written);
                self.write_unless_corked(state);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                state.backlog.insert(Backlog::spare()).put(head, body.clone(), 0);
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
        body: &Body<'_>,
        class: Class,
        held: bool,
        gathered: bool,
    ) {
        let backlog = state.backlog.get_or_insert_with(Backlog::spare);
        if held || state.corked || backlog.has_queue() {
            backlog.push_frame(header, body.clone(), class, held);
        } else {
            backlog.put_frame(header, body.clone());
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
            match backlog.write_front(|slices| self.transport.try_write(slices)) {
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
        if state.phase == Phase::Opening {
            // The handshake has a deadline of its own.
            state.wakes = true;
        } else if state.deadline == Tick::NEVER {
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
    fn write_now(
        &self,
        output: &mut Output,
        head: &[u8],
        body: &[u8],
        spent: &mut Vec<Bytes>,
    ) -> io::Result<usize> {
        let frame = head.len() + body.len();
        if frame == 0 {
            let write = |slices: &[IoSlice<'_>]| self.transport.try_write(slices);
            output.write_to_with(write, |chunk| spent.push(chunk))?;
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
                    output.advance_with(gathered, |chunk| spent.push(chunk));
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
            return self.transport.try_write(&[IoSlice::new(head), IoSlice::new(body)]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        // If there are more pieces before the frame, it has its turn when they are gone.
        for (slot, piece) in slices.iter_mut().zip(output.slices().chain([head, body])) {
            *slot = IoSlice::new(piece);
        }
        self.transport.try_write(&slices)
    }
}

#[cfg(all(test, not(wsforge_loom)))]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use wsforge_core::CloseCode;
    use wsforge_core::frame::Opcode::{self, Binary, Close, Continuation, Ping};

    use super::super::mock::{Count, frame, frames, offer, opened};
    use super::super::{Fate, Piece, Pushed, Room};
    use super::*;
    use crate::Options;

    #[test]
    fn a_write_may_end_at_every_byte() {
        let large = Bytes::from(vec![7; 2000]);
        let whole = [frame(Binary, b"a"), frame(Binary, &large), frame(Ping, b"b")].concat();
        let whole = [&whole[..], &frame(Binary, &large), &frame(Binary, b"own"), b"head", &large];
        let whole = whole.concat();
        for cut in 0..=whole.len() {
            let (outbox, pipe) = opened(Options::default());
            pipe.room(cut);
            pipe.at_a_time(1 + cut % 1500);
            let push = |piece, opcode, body: Body<'_>| {
                let pushed = outbox.push(piece, opcode, &body, Room::Any);
                assert_eq!(pushed, Ok(Pushed::Sent));
            };
            push(Piece::Message, Binary, b"a"[..].into());
            push(Piece::Message, Binary, Body::Shared(large.clone()));
            push(Piece::Control, Ping, b"b"[..].into());
            assert!(offer(&outbox, &large).is_taken());
            let mut own = Output::new();
            own.put(&frame(Binary, b"own"));
            outbox.uncork(&mut own, b"head", &Body::Shared(large.clone()), false);
            assert_eq!(pipe.written().len() + outbox.pending(), whole.len());
            pipe.room(usize::MAX);
            assert!(outbox.poll_flush(&mut Count::default().context()).is_ready());
            assert!(pipe.written() == whole, "cut at {cut}");
            assert!(!outbox.wants_attention());
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Close,
        Cork,
        Flush,
        FlushNow,
        Fragment { len: usize, last: bool },
        Offer(usize),
        Own(usize),
        Ping,
        Push { len: usize, shared: bool, fed: bool },
        Room { bytes: usize, at_a_time: usize },
        Stream,
        Uncork,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let len = || prop_oneof![0..200usize, 1000..2000usize];
        let push = (len(), any::<bool>(), any::<bool>());
        let op = prop_oneof![
            1 => Just(Op::Close),
            4 => Just(Op::Cork),
            4 => Just(Op::Flush),
            4 => Just(Op::FlushNow),
            4 => (len(), any::<bool>()).prop_map(|(len, last)| Op::Fragment { len, last }),
            8 => len().prop_map(Op::Offer),
            4 => len().prop_map(Op::Own),
            2 => Just(Op::Ping),
            12 => push.prop_map(|(len, shared, fed)| Op::Push { len, shared, fed }),
            12 => (0..4000usize, 1..3000usize)
                .prop_map(|(bytes, at_a_time)| Op::Room { bytes, at_a_time }),
            2 => Just(Op::Stream),
            4 => Just(Op::Uncork),
        ];
        prop::collection::vec(op, 1..80)
    }

    /// What should be written: the order in which frames were accepted, but for what waits for the end
    /// of a message, and what the owner had gathered before.
    #[derive(Default)]
    struct Model {
        order: Vec<(Opcode, Vec<u8>)>,
        held: Vec<(Opcode, Vec<u8>)>,
        /// Where the owner's next frame goes.
        corked: Option<usize>,
        streaming: bool,
        closed: bool,
        evicted: bool,
    }

    impl Model {
        fn data(&mut self, body: Vec<u8>) {
            let list = if self.streaming { &mut self.held } else { &mut self.order };
            list.push((Binary, body));
        }
    }

    proptest! {
        #[test]
        fn each_accepted_frame_is_written_whole_once_and_in_order(ops in ops()) {
            let mut options = Options::default();
            options.mailbox.max_bytes = 6000;
            let (outbox, pipe) = opened(options);
            let (mut model, mut own, mut opcode) = (Model::default(), Output::new(), Binary);
            for (n, op) in ops.into_iter().enumerate() {
                let body = |len| [&(n as u32).to_be_bytes()[..], &vec![n as u8; len]].concat();
                match op {
                    Op::Close => {
                        prop_assert_eq!(outbox.close(CloseCode::NORMAL, ""), !model.closed);
                        if !model.closed {
                            model.closed = true;
                            model.order.push((Close, vec![3, 232]));
                        }
                    }
                    Op::Cork => {
                        if model.corked.is_none() && outbox.cork() {
                            model.corked = Some(model.order.len());
                        }
                    }
                    // The owner is one: it does not do so inside of its turn.
                    Op::Flush if model.corked.is_none() => {
                        let _ = outbox.poll_flush(&mut Count::default().context());
                    }
                    Op::Flush => {}
                    Op::FlushNow => outbox.flush_now(),
                    Op::Fragment { len, last } => {
                        if model.streaming && !model.closed {
                            let body = body(len);
                            let piece = Piece::Fragment { last };
                            outbox.push(piece, opcode, &body.as_slice().into(), Room::Any).unwrap();
                            model.order.push((opcode, body));
                            opcode = Continuation;
                            if last {
                                model.streaming = false;
                                model.order.append(&mut model.held);
                            }
                        }
                    }
                    Op::Offer(len) => {
                        let body = body(len);
                        match offer(&outbox, &body) {
                            Fate::Evicted => (model.closed, model.evicted) = (true, true),
                            Fate::Closed => prop_assert!(model.closed),
                            fate => {
                                prop_assert!(fate.is_taken());
                                model.data(body);
                            }
                        }
                    }
                    Op::Own(len) => {
                        if let Some(at) = &mut model.corked {
                            let body = body(len);
                            own.put(&frame(Binary, &body));
                            model.order.insert(*at, (Binary, body));
                            *at += 1;
                        }
                    }
                    Op::Ping => {
                        let pushed = outbox.push(Piece::Control, Ping, &(&[]).into(), Room::Any);
                        prop_assert_eq!(pushed.is_err(), model.closed);
                        if pushed.is_ok() {
                            model.order.push((Ping, vec![]));
                        }
                    }
                    Op::Push { len, shared, fed } => {
                        let body = body(len);
                        let sent = match shared {
                            true => Body::Shared(body.clone().into()),
                            false => Body::Copy(&body),
                        };
                        let piece = if fed { Piece::Fed } else { Piece::Message };
                        let pushed = outbox.push(piece, Binary, &sent, Room::Any);
                        prop_assert_eq!(pushed.is_err(), model.closed);
                        if pushed.is_ok() {
                            model.data(body);
                        }
                    }
                    Op::Room { bytes, at_a_time } => {
                        pipe.at_a_time(at_a_time);
                        pipe.room(bytes);
                    }
                    Op::Stream => {
                        // It is the owner who begins one, and not inside of its turn.
                        if model.corked.is_none() && outbox.begin_stream().is_ok() {
                            prop_assert!(!model.streaming && !model.closed);
                            (model.streaming, opcode) = (true, Binary);
                        }
                    }
                    Op::Uncork => {
                        if model.corked.take().is_some() {
                            outbox.uncork(&mut own, &[], &Body::Copy(&[]), false);
                        }
                    }
                }
            }
            if model.corked.is_some() {
                outbox.uncork(&mut own, &[], &Body::Copy(&[]), false);
            }
            pipe.room(usize::MAX);
            prop_assert!(outbox.poll_flush(&mut Count::default().context()).is_ready());
            let mut written: Vec<_> =
                frames(&pipe.written()).into_iter().map(|(_, opcode, body)| (opcode, body)).collect();
            if model.evicted {
                let close = written.pop().unwrap();
                prop_assert_eq!((close.0, &close.1[..2]), (Close, &1013u16.to_be_bytes()[..]));
                prop_assert!(written.len() <= model.order.len());
                model.order.truncate(written.len());
            }
            prop_assert_eq!(written, model.order);
        }
    }
}
