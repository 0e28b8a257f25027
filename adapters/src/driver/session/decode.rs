//! What becomes of the bytes that a session has read: events, handed on to its receiver.

use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;

use wsforge_core::frame::Opcode;
use wsforge_core::{Chunk, Connection, Event, Input, Output, Role, State, Timestamp};

use super::{Conn, Session};
use crate::driver::outbox::Outbox;
use crate::driver::receive::{Aim, Receive};
use crate::driver::replies::Replies;
use crate::driver::slack::{Kept, Slack};

impl Session {
    /// Decodes what was read, and parks what is left of it.
    pub(super) fn receive<R: Receive>(
        &mut self,
        outbox: &Arc<Outbox>,
        output: &mut Output,
        bytes: &mut [u8],
        aim: Aim,
        now: Timestamp,
        receiver: &mut R,
    ) -> ControlFlow<R::Break> {
        let (flow, left) = self.decode(outbox, output, bytes, aim, now, receiver);
        if left > 0 {
            let slack = self.slack();
            slack.parked.clear();
            slack.parked.extend_from_slice(&bytes[bytes.len() - left..]);
            slack.at = 0;
        }
        flow
    }

    /// Hands on what was kept, then what was parked.
    pub(super) fn hand_on_waiting<R: Receive>(
        &mut self,
        outbox: &Arc<Outbox>,
        output: &mut Output,
        aim: Aim,
        now: Timestamp,
        receiver: &mut R,
    ) -> ControlFlow<R::Break> {
        let slack = self.slack();
        if !aim.keeps()
            && let Some(mut kept) = slack.inbox.pop_front()
        {
            slack.inbox_bytes -= kept.size();
            let mut replies = self.replies(outbox, output, false);
            let flow = match kept {
                Kept::Message(message) => {
                    aim.hand_on(message, &mut self.slack, &mut replies, receiver)
                }
                Kept::Chunk { kind, first, last, ref mut payload } => {
                    let chunk = Chunk { kind, first, last, payload };
                    aim.hand_on_chunk(chunk, &mut self.slack, &mut replies, receiver)
                }
            };
            replies.end(false);
            return flow;
        }
        let mut parked = mem::take(&mut slack.parked);
        let at = slack.at;
        let (flow, left) = self.decode(outbox, output, &mut parked[at..], aim, now, receiver);
        let slack = self.slack();
        slack.parked = parked;
        slack.unpark(left);
        flow
    }

    /// Decodes what was read, until `receiver` has had enough or too much waits to be written; says how many
    /// bytes are left.
    fn decode<R: Receive>(
        &mut self,
        outbox: &Arc<Outbox>,
        output: &mut Output,
        bytes: &mut [u8],
        aim: Aim,
        now: Timestamp,
        receiver: &mut R,
    ) -> (ControlFlow<R::Break>, usize) {
        let mut input = Input::new(bytes, now);
        let slack = &mut self.slack;
        let flow = match &mut self.conn {
            Conn::Client(conn) => decode(conn, slack, outbox, output, &mut input, aim, receiver),
            Conn::Server(conn) => decode(conn, slack, outbox, output, &mut input, aim, receiver),
        };
        (flow, input.len())
    }
}

#[inline]
fn decode<Side: Role, R: Receive>(
    conn: &mut Connection<Side>,
    slack: &mut Option<Box<Slack>>,
    outbox: &Arc<Outbox>,
    output: &mut Output,
    input: &mut Input<'_>,
    aim: Aim,
    receiver: &mut R,
) -> ControlFlow<R::Break> {
    let outbox: &Outbox = outbox;
    let high_water = outbox.endpoint.config.high_water;
    let mut flow = ControlFlow::Continue(());
    let mut replies = Replies::new(outbox, output, conn.state() == State::Open, false);
    while replies.output.len() <= high_water && (owes_little(outbox) || !replies.is_slow()) {
        let Some(event) = conn.next_event(input, replies.output) else { break };
        replies.last = input.is_empty();
        match event {
            Event::Message(message) => flow = aim.hand_on(message, slack, &mut replies, receiver),
            Event::Chunk(chunk) => flow = aim.hand_on_chunk(chunk, slack, &mut replies, receiver),
            Event::Close(close) => {
                if let Some(close) = close {
                    slack.get_or_insert_with(Slack::spare).reason = close.reason.into_string();
                }
                part(slack, aim, replies.output);
            }
            Event::Fail(_) => part(slack, aim, replies.output),
            Event::Ping(payload) if !aim.keeps() => {
                flow = receiver.control(Opcode::Ping, &payload, &mut replies);
            }
            Event::Pong(payload) if !aim.keeps() => {
                flow = receiver.control(Opcode::Pong, &payload, &mut replies);
            }
            _ => {}
        }
        if flow.is_break() || aim.keeps() && is_full(slack, outbox) {
            break;
        }
    }
    replies.end(conn.state() != State::Open);
    flow
}

/// Keeps the answer to a peer that has closed until what is being sent, or kept, has had its turn.
fn part(slack: &mut Option<Box<Slack>>, aim: Aim, output: &mut Output) {
    let kept = slack.as_ref().is_some_and(|slack| !slack.inbox.is_empty());
    if !output.is_empty() && (matches!(aim, Aim::Room(..)) || aim.keeps() && kept) {
        slack.get_or_insert_with(Slack::spare).parting = Some(output.take_unsent());
    }
}

/// Whether no more may be kept for a receiver that is sending.
pub(super) fn is_full(slack: &Option<Box<Slack>>, outbox: &Outbox) -> bool {
    let kept = slack.as_ref().map_or(0, |slack| slack.inbox_bytes);
    kept >= outbox.endpoint.options.inbox_bytes
}

/// Whether little enough waits because of what the peer has sent that there may be more.
#[inline]
pub(super) fn owes_little(outbox: &Outbox) -> bool {
    !outbox.wants_attention() || outbox.owed() <= outbox.endpoint.config.high_water
}
