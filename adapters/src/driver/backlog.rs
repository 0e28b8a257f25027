use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use bytes::Bytes;
use wsforge_core::frame::Header;
use wsforge_core::hub::{Class, Mailbox, MailboxLimits, Offer, Run};
use wsforge_core::{Body, Output};

use super::budget::Charge;

/// What waits to be written to one peer, in the order in which it will be.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// What the socket has begun to take, and what must follow in any case; never dropped.
    front: Output,
    /// The front is the rest of something that the socket has begun to take.
    torn: bool,
    /// Whole runs behind it.
    queue: Mailbox,
    /// Data that waits for the end of somebody's fragmented message.
    held: Mailbox,
    /// How much of the front its owner has in hand, to write it.
    in_hand: usize,
    /// How much of it the peer has made us send, by its messages and pings.
    owed: usize,
    /// Those who wait for room.
    waiting: BTreeMap<Ticket, Waker>,
    /// How much there was when the last of them began to.
    full: usize,
    /// The transport has taken everything, but keeps some of it.
    unflushed: bool,
    /// What was shared and is written, to be dropped when nothing is locked.
    spent: Vec<Bytes>,
    /// What it counts for among all.
    pub(crate) charge: Charge,
}

/// What one who waits for room is known by: nobody else has it, then or later.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Ticket(u64);

impl Backlog {
    /// How much is moved from the queue to the front at a time. More would take fewer writes; but of a peer
    /// that does not read it is what a policy can drop no more, however old it gets.
    const BATCH: usize = 16 * 1024;

    /// An empty one: what this thread used last, with its memory, if there is one.
    pub(crate) fn spare() -> Box<Self> {
        SPARE.take().unwrap_or_default()
    }

    /// Keeps its memory for the next on this thread.
    pub(crate) fn recycle(mut self: Box<Self>) {
        if !self.is_idle() {
            *self = Self::default();
        }
        self.in_hand = 0;
        // Queues that were used have memory that is rarely needed.
        (self.queue, self.held) = (Mailbox::new(), Mailbox::new());
        self.charge = Charge::default();
        SPARE.set(Some(self));
    }

    /// The bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.front.len() + self.in_hand + self.queue.bytes() + self.held.bytes()
    }

    /// The frames that wait and that could still be dropped.
    pub(crate) fn frames(&self) -> usize {
        self.queue.frames() + self.held.frames()
    }

    /// The bytes that wait because of what the peer has sent, or fewer.
    pub(crate) fn owed(&self) -> usize {
        self.owed.min(self.len())
    }

    /// So many more of the bytes that wait are owed.
    pub(crate) fn owe(&mut self, bytes: usize) {
        self.owed = self.owed() + bytes;
    }

    /// The bytes that wait for the end of somebody's message.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.bytes()
    }

    /// The frames that do.
    pub(crate) fn held_frames(&self) -> usize {
        self.held.frames()
    }

    /// Whether nothing waits, and nobody.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_unsent() && self.held.is_empty() && self.waiting.is_empty()
    }

    /// Whether something waits for nothing but the transport.
    pub(crate) fn is_unsent(&self) -> bool {
        !self.front.is_empty() || !self.queue.is_empty() || self.unflushed
    }

    /// Whether something waits behind the front.
    pub(crate) fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What is to be written next.
    pub(crate) fn front(&mut self) -> &mut Output {
        self.torn = self.torn && !self.front.is_empty();
        if self.torn {
            // What follows may still be dropped, and the socket took no more before.
            return &mut self.front;
        }
        // A header that stands apart from its body does not get here without: the queue may be dropped.
        let mut apart = false;
        while (apart || self.front.len() < Self::BATCH)
            && let Some(run) = self.queue.pop()
        {
            apart = run.frames == 0;
            self.front.put_shared(run.bytes);
        }
        &mut self.front
    }

    /// Writes with `write` what is to be written next, see [`Output::write_to`].
    pub(crate) fn write_front(
        &mut self,
        write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        self.front();
        self.front.write_to_with(write, |chunk| self.spent.push(chunk))
    }

    /// What was written and is still to be dropped.
    pub(crate) fn take_spent(&mut self) -> Vec<Bytes> {
        mem::take(&mut self.spent)
    }

    /// Starts with the rest of a run whose beginning the socket has taken.
    pub(crate) fn begin_run(&mut self, rest: Bytes) {
        self.torn = true;
        self.front.put_shared(rest);
    }

    /// Starts with what the socket did not take.
    pub(crate) fn begin(&mut self, unsent: Output) {
        if unsent.is_empty() {
            return;
        }
        self.front = unsent;
    }

    /// Takes out what is to be written next. It still counts.
    pub(crate) fn take_front(&mut self) -> Output {
        let front = mem::take(self.front());
        self.in_hand = front.len();
        front
    }

    /// Puts back a front that was taken to be written.
    pub(crate) fn restore(&mut self, front: &mut Output, unflushed: bool) {
        self.in_hand = 0;
        mem::swap(&mut self.front, front);
        self.unflushed = unflushed;
    }

    /// Appends `output` to the front.
    pub(crate) fn append(&mut self, output: &Output) {
        output.slices().for_each(|slice| self.front.put(slice));
    }

    /// Appends a frame to the front, but for its first `skip` bytes.
    pub(crate) fn put(&mut self, head: &[u8], body: Body<'_>, skip: usize) {
        self.front.put(&head[skip.min(head.len())..]);
        let skip = skip.saturating_sub(head.len());
        match body {
            Body::Copy(bytes) => self.front.put(&bytes[skip..]),
            Body::Shared(bytes) => self.front.put_shared(bytes.slice(skip..)),
        }
    }

    /// Appends a frame to the front.
    #[inline]
    pub(crate) fn put_frame(&mut self, header: &Header, body: Body<'_>) {
        self.front.put_frame(header, body);
    }

    /// Appends a frame behind everything, or, if it is to be held, behind what is held.
    pub(crate) fn push_frame(&mut self, header: &Header, body: Body<'_>, class: Class, held: bool) {
        let run = |bytes, frames| Run { bytes, frames, class, key: None, policy: None };
        let mut head = Output::new();
        match body {
            // Two runs, of which the second is not copied; only that counts as a frame.
            Body::Shared(bytes) if header.mask.is_none() && bytes.len() > Output::COPY_LIMIT => {
                head.put_frame(header, Body::Copy(&[]));
                self.push_run(run(contents(&head), 0), held);
                self.push_run(run(bytes, 1), held);
            }
            body => {
                head.put_frame(header, Body::Copy(&body));
                self.push_run(run(contents(&head), 1), held);
            }
        }
    }

    /// Appends whole frames behind everything.
    pub(crate) fn push_output(&mut self, output: &Output, class: Class) {
        let bytes = contents(output);
        self.push_run(Run { bytes, frames: 1, class, key: None, policy: None }, false);
    }

    /// Appends whole frames behind everything, or, if they are to be held, behind what is held.
    pub(crate) fn push_run(&mut self, run: Run, held: bool) {
        let list = if held { &mut self.held } else { &mut self.queue };
        if !run.bytes.is_empty() {
            // Who is doomed has empty lists, which are not.
            let _ = list.push(run);
        }
    }

    /// As [`push_run`](Self::push_run), if it may wait with all that waits already.
    pub(crate) fn offer(&mut self, run: Run, held: bool, limits: &MailboxLimits) -> Offer {
        let before = self.front.len() + self.in_hand;
        if held {
            self.held.offer_behind(before + self.queue.bytes(), run, limits)
        } else {
            self.queue.offer_behind(before + self.held.bytes(), run, limits)
        }
    }

    /// Moves what was held behind everything else.
    pub(crate) fn release(&mut self) {
        for run in self.held.take() {
            self.push_run(run, false);
        }
    }

    /// Takes out what is held: the message that it waits for never ends.
    pub(crate) fn take_held(&mut self) -> impl Sized + use<> {
        mem::take(&mut self.held)
    }

    /// Takes out all but the front.
    pub(crate) fn clear(&mut self) -> impl Sized + use<> {
        (mem::take(&mut self.queue), mem::take(&mut self.held))
    }

    /// Remembers whom to wake when there is room.
    pub(crate) fn wait(&mut self, ticket: Ticket, cx: &Context<'_>) {
        self.full = self.len();
        self.waiting
            .entry(ticket)
            .and_modify(|waker| waker.clone_from(cx.waker()))
            .or_insert_with(|| cx.waker().clone());
    }

    /// Forgets one who waits no more.
    pub(crate) fn give_up(&mut self, ticket: Ticket) -> Option<Waker> {
        self.waiting.remove(&ticket)
    }

    /// Whether there is more room than there was for those who wait: who is woken without would come back at
    /// once, again and again.
    pub(crate) fn has_made_room(&self) -> bool {
        self.len() < self.full
    }

    pub(crate) fn take_waiting(&mut self) -> impl Iterator<Item = Waker> + use<> {
        mem::take(&mut self.waiting).into_values()
    }
}

impl Ticket {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

thread_local! {
    /// Bursts come and go with every read; their memory stays, up to what an output keeps.
    static SPARE: Cell<Option<Box<Backlog>>> = const { Cell::new(None) };
}

fn contents(output: &Output) -> Bytes {
    let mut bytes = Vec::with_capacity(output.len());
    output.slices().for_each(|slice| bytes.extend_from_slice(slice));
    bytes.into()
}
