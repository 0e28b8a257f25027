//! A transport and a runtime without an operating system.
#![cfg_attr(wsforge_loom, allow(dead_code))]

use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::buf::Limit;
use bytes::{BufMut, Bytes};
use wsforge_core::frame::{Header, MAX_HEADER_LEN, Opcode};
use wsforge_core::hub::{Bundle, Class, Run};

use super::{Fate, Outbox};
use crate::Options;
use crate::driver::endpoint::Endpoint;
use crate::driver::timer::Timer;
use crate::runtime::{BoxFuture, Runtime, Task, Transport};

/// A peer in memory: it takes and sends what it is told to.
#[derive(Clone)]
pub(crate) struct Pipe(Arc<Mutex<Inner>>);

struct Inner {
    /// What it has sent, and nobody has read.
    arrived: Vec<u8>,
    written: Vec<u8>,
    /// How many bytes it takes before it blocks.
    room: usize,
    /// How many it takes at a time.
    most: usize,
    /// How many reads were into memory of a message's own.
    apart: usize,
    /// How often it was written to, whether or not it took something.
    writes: usize,
    /// Whether only the owner may write.
    owned: bool,
    /// Whether it keeps what it was given, and so cannot be flushed.
    keeps: bool,
    aborted: bool,
    waker: Option<Waker>,
    /// Runs while the owner writes, and no lock is held.
    meanwhile: Option<Box<dyn FnOnce() + Send>>,
    /// Runs while anybody else does.
    first: Option<Box<dyn FnOnce() + Send>>,
}

impl Pipe {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            arrived: Vec::new(),
            written: Vec::new(),
            apart: 0,
            room: usize::MAX,
            most: usize::MAX,
            writes: 0,
            owned: false,
            keeps: false,
            aborted: false,
            waker: None,
            meanwhile: None,
            first: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it takes so many bytes until it blocks; who waits to write is woken.
    pub(crate) fn room(&self, bytes: usize) {
        let mut inner = self.lock();
        inner.room = bytes;
        let waker = if bytes > 0 { inner.waker.take() } else { None };
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn at_a_time(&self, bytes: usize) {
        self.lock().most = bytes;
    }

    pub(crate) fn only_for_its_owner(&self) {
        self.lock().owned = true;
    }

    pub(crate) fn keeps(&self, keeps: bool) {
        self.lock().keeps = keeps;
    }

    pub(crate) fn meanwhile(&self, f: impl FnOnce() + Send + 'static) {
        self.lock().meanwhile = Some(Box::new(f));
    }

    pub(crate) fn first(&self, f: impl FnOnce() + Send + 'static) {
        self.lock().first = Some(Box::new(f));
    }

    /// Nobody is woken: who reads is polled by hand.
    pub(crate) fn sends(&self, bytes: &[u8]) {
        self.lock().arrived.extend_from_slice(bytes);
    }

    pub(crate) fn written(&self) -> Vec<u8> {
        self.lock().written.clone()
    }

    pub(crate) fn read_apart(&self) -> usize {
        self.lock().apart
    }

    pub(crate) fn writes(&self) -> usize {
        self.lock().writes
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.lock().aborted
    }

    fn write(&self, inner: &mut Inner, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        inner.writes += 1;
        if inner.aborted {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let before = inner.written.len();
        for slice in slices {
            let room = inner.room.min(inner.most - (inner.written.len() - before));
            let taken = slice.len().min(room);
            inner.written.extend_from_slice(&slice[..taken]);
            inner.room -= taken;
        }
        match inner.written.len() - before {
            0 => Err(ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }
}

impl Transport for Pipe {
    fn poll_read(&self, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        if inner.aborted {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        let len = inner.arrived.len().min(buf.len());
        for (to, byte) in buf.iter_mut().zip(inner.arrived.drain(..len)) {
            *to = byte;
        }
        if len > 0 { Poll::Ready(Ok(len)) } else { Poll::Pending }
    }

    fn poll_read_buf(
        &self,
        cx: &mut Context<'_>,
        buf: &mut Limit<&mut Vec<u8>>,
    ) -> Poll<io::Result<usize>> {
        let mut bytes = vec![0; buf.remaining_mut()];
        let read = ready!(self.poll_read(cx, &mut bytes))?;
        buf.put_slice(&bytes[..read]);
        self.lock().apart += 1;
        Poll::Ready(Ok(read))
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let first = mem::take(&mut self.lock().first);
        first.into_iter().for_each(|f| f());
        let mut inner = self.lock();
        if inner.owned {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.write(&mut inner, slices)
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let meanwhile = mem::take(&mut self.lock().meanwhile);
        meanwhile.into_iter().for_each(|f| f());
        let mut inner = self.lock();
        match self.write(&mut inner, slices) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                inner.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        if inner.keeps {
            inner.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn abort(&self) {
        self.lock().aborted = true;
    }
}

/// Runs nothing: time stands still.
#[derive(Debug)]
struct Idle;

impl Runtime for Idle {
    /// Dropped, a task would say that it has ended.
    fn spawn(&self, task: Task) {
        mem::forget(task);
    }

    fn sleep(&self, _: Duration) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }

    fn connect(&self, _: String, _: u16) -> BoxFuture<io::Result<Box<dyn Transport>>> {
        Box::pin(std::future::pending())
    }
}

pub(crate) fn endpoint(options: Options) -> Arc<Endpoint> {
    Endpoint::new(options, Timer::new(Arc::new(Idle)))
}

/// A server's outbox whose handshake is not done.
pub(crate) fn opening(options: Options) -> (Arc<Outbox>, Pipe) {
    let pipe = Pipe::new();
    (Outbox::register(&endpoint(options), pipe.clone(), false), pipe)
}

/// A server's outbox.
pub(crate) fn opened(options: Options) -> (Arc<Outbox>, Pipe) {
    opened_at(&endpoint(options))
}

/// As [`opened`], of an endpoint that may have others.
pub(crate) fn opened_at(endpoint: &Arc<Endpoint>) -> (Arc<Outbox>, Pipe) {
    let pipe = Pipe::new();
    let outbox = Outbox::register(endpoint, pipe.clone(), false);
    outbox.open();
    (outbox, pipe)
}

/// As [`opened`], of an owner's endpoint.
#[cfg(feature = "router")]
pub(crate) fn opened_of(owner: Arc<dyn std::any::Any + Send + Sync>) -> (Arc<Outbox>, Pipe) {
    let timer = Timer::new(Arc::new(Idle));
    opened_at(&Endpoint::of(owner, Arc::default(), Options::default(), timer))
}

/// As [`opened`], of a type that the models can do with, and that no timer knows.
#[cfg(wsforge_loom)]
pub(crate) fn alone(options: Options) -> (Arc<Outbox<Pipe>>, Pipe) {
    let pipe = Pipe::new();
    let outbox = Arc::new(Outbox::new(endpoint(options), 0, false, pipe.clone()));
    outbox.open();
    (outbox, pipe)
}

/// A waker that counts.
#[derive(Clone)]
pub(crate) struct Count {
    wakes: Arc<Wakes>,
    waker: Waker,
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Default for Count {
    fn default() -> Self {
        let wakes = Arc::<Wakes>::default();
        Self { waker: wakes.clone().into(), wakes }
    }
}

impl Count {
    pub(crate) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// How many there are of it.
    pub(crate) fn held(&self) -> usize {
        Arc::strong_count(&self.wakes)
    }

    pub(crate) fn get(&self) -> usize {
        self.wakes.0.load(Ordering::SeqCst)
    }
}

/// A frame of a server.
pub(crate) fn frame(opcode: Opcode, body: &[u8]) -> Vec<u8> {
    let mut head = [0; MAX_HEADER_LEN];
    let len = Header { fin: true, rsv1: false, opcode, mask: None, len: body.len() as u64 }
        .encode(&mut head);
    [&head[..len], body].concat()
}

/// Whether it is the last of its message, what it is, and its body: of each frame, all of which have to
/// be whole.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<(bool, Opcode, Vec<u8>)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (header, len) = Header::parse(bytes).expect("a header").expect("a whole one");
        let (body, rest) =
            bytes[len..].split_at_checked(header.len as usize).expect("a whole body");
        frames.push((header.fin, header.opcode, body.to_vec()));
        bytes = rest;
    }
    frames
}

/// What is sent to many: a frame of a server.
pub(crate) fn bundle(body: &[u8]) -> Bundle {
    let bytes = Bytes::from(frame(Opcode::Binary, body));
    let class = Class::Broadcast;
    let run = Run { bytes: bytes.clone(), frames: 1, class, key: None, policy: None };
    Bundle { within: bytes.len(), bytes, runs: vec![run], frames: 1 }
}

/// Offers it.
pub(crate) fn offer<T: Transport + ?Sized>(outbox: &Outbox<T>, body: &[u8]) -> Fate {
    let bundle = bundle(body);
    outbox.offer(|| Some(&bundle)).unwrap().fate
}

impl Fate {
    /// Whether all of it has left, or waits.
    pub(crate) fn is_taken(self) -> bool {
        matches!(self, Self::Queued | Self::Written)
    }
}
