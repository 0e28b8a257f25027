use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use wsforge::runtime::{Listener, Transport};

use crate::world::lock;

/// An end of a connection in memory.
///
/// Writing wakes who reads, so there is no `try_write`, which must not: what others send leaves in the turn
/// of the connection's own task.
pub(crate) struct End {
    reads: Arc<Pipe>,
    writes: Arc<Pipe>,
}

impl End {
    pub(crate) fn pair() -> (Self, Self) {
        let (a, b) = (Arc::<Pipe>::default(), Arc::<Pipe>::default());
        (Self { reads: a.clone(), writes: b.clone() }, Self { reads: b, writes: a })
    }
}

impl Transport for End {
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.reads.poll_read(cx, buf)
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.writes.poll_write(cx, slices)
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writes.change(|pipe| pipe.has_end = true);
        Poll::Ready(Ok(()))
    }

    fn abort(&self) {
        for pipe in [&self.reads, &self.writes] {
            pipe.change(|pipe| (pipe.has_end, pipe.is_broken) = (true, true));
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.reads.change(|pipe| pipe.is_broken = true);
        self.writes.change(|pipe| pipe.has_end = true);
    }
}

/// One direction of a connection.
#[derive(Default)]
struct Pipe(Mutex<Content>);

#[derive(Default)]
struct Content {
    bytes: VecDeque<u8>,
    has_end: bool,
    /// Nobody will read, or is to read, any more.
    is_broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    const CAPACITY: usize = 64 * 1024;

    fn poll_read(&self, cx: &Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut content = lock(&self.0);
        if content.is_broken {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        if content.bytes.is_empty() && !content.has_end {
            content.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let read = content.bytes.read(buf);
        let writer = content.writer.take();
        drop(content);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(read)
    }

    fn poll_write(&self, cx: &Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut content = lock(&self.0);
        if content.is_broken || content.has_end {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let before = content.bytes.len();
        if before == Self::CAPACITY {
            content.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        for slice in slices {
            let room = Self::CAPACITY - content.bytes.len();
            content.bytes.extend(&slice[..room.min(slice.len())]);
        }
        let written = content.bytes.len() - before;
        let reader = content.reader.take();
        drop(content);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(written))
    }

    /// Does this to it, and wakes whoever waits.
    fn change(&self, change: impl FnOnce(&mut Content)) {
        let mut content = lock(&self.0);
        change(&mut content);
        let wakers = [content.reader.take(), content.writer.take()];
        drop(content);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// Who has connected, and is not accepted yet.
#[derive(Default)]
pub(crate) struct Calls(Mutex<(VecDeque<End>, Option<Waker>)>);

impl Calls {
    pub(crate) fn push(&self, end: End) {
        let mut calls = lock(&self.0);
        calls.0.push_back(end);
        let waker = calls.1.take();
        drop(calls);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// The world's listener.
pub(crate) struct Door(pub(crate) Arc<Calls>);

impl Listener for Door {
    type Io = End;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(End, Option<SocketAddr>)>> {
        let mut calls = lock(&self.0.0);
        match calls.0.pop_front() {
            Some(end) => Poll::Ready(Ok((end, None))),
            None => {
                calls.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
