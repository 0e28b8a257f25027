//! Sockets that Linux tells of each change once, by an epoll of their own within smol's reactor.
//!
//! The reactor itself is asked anew for every wait: a system call for each message.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem::{self, MaybeUninit};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker, ready};

use atomic_waker::AtomicWaker;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use slab::Slab;
use smol::{Async, Executor, future};
use socket2::SockRef;

use super::Smol;
use super::executor::current;
use crate::driver::sync::lock_plain;
use crate::runtime::{Runtime, Task, Transport};

/// A socket of TCP or of Unix, as servers accept them.
pub struct Socket<S> {
    io: S,
    slot: Arc<Slot>,
    key: u32,
    edges: Arc<Edges>,
}

impl<S: AsFd> Socket<S> {
    /// Takes a socket, which does not block any more then. Call it within a task.
    ///
    /// # Errors
    ///
    /// The system has no memory for it, or for the first one's epoll.
    pub fn new(io: S) -> io::Result<Self> {
        SockRef::from(&io).set_nonblocking(true)?;
        let edges = Edges::current()?;
        let (slot, key) = edges.add(&io)?;
        Ok(Self { io, slot, key, edges })
    }
}

impl<S> Socket<S> {
    /// The socket itself.
    pub const fn get_ref(&self) -> &S {
        &self.io
    }
}

impl<S: AsFd> AsFd for Socket<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl<S> Drop for Socket<S> {
    fn drop(&mut self) {
        // That it is closed takes it out of the epoll.
        self.edges.remove(self.key);
    }
}

impl<S: fmt::Debug> fmt::Debug for Socket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

impl<S: Send + Sync + 'static> Transport for Socket<S>
where
    for<'a> &'a S: Read + Write,
    for<'a> SockRef<'a>: From<&'a S>,
{
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            // What comes after this is told of again.
            let before = self.slot.take(Slot::READABLE | Slot::ENDED);
            match (&self.io).read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.slot.poll_readable(cx));
                }
                read => {
                    // Of an end that came with the last bytes one learns but once.
                    let ended = before & Slot::ENDED;
                    let is_short = matches!(read, Ok(n) if n < buf.len());
                    self.slot.put(if is_short { ended } else { Slot::READABLE | ended });
                    return Poll::Ready(read);
                }
            }
        }
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.slot.poll_readable(cx).map(Ok)
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        super::socket::write(&self.io, slices)
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            self.slot.take(Slot::WRITABLE);
            match self.try_write(slices) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.slot.poll_writable(cx));
                }
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.io).shutdown(Shutdown::Write))
    }

    fn poll_close(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn abort(&self) {
        super::socket::abort(&self.io);
    }

    fn prepare(&self) {
        super::socket::prepare(&self.io);
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        super::socket::peer_addr(&self.io)
    }
}

/// What is known of a socket, and who waits for more.
#[derive(Debug, Default)]
struct Slot {
    ready: AtomicU8,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Slot {
    const READABLE: u8 = 1;
    const WRITABLE: u8 = 2;
    /// Nothing comes behind what is there.
    const ENDED: u8 = 4;

    fn take(&self, bits: u8) -> u8 {
        self.ready.fetch_and(!bits, Ordering::AcqRel)
    }

    fn put(&self, bits: u8) {
        if bits != 0 {
            self.ready.fetch_or(bits, Ordering::AcqRel);
        }
    }

    fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(Self::READABLE | Self::ENDED, &self.reader, cx)
    }

    fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll(Self::WRITABLE, &self.writer, cx)
    }

    fn poll(&self, bits: u8, waker: &AtomicWaker, cx: &Context<'_>) -> Poll<()> {
        if self.ready.load(Ordering::Acquire) & bits == 0 {
            waker.register(cx.waker());
            // It may have come before it could be told to anybody.
            if self.ready.load(Ordering::Acquire) & bits == 0 {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// Notes what the system says, and gives those who have waited for it.
    fn note(&self, flags: EventFlags) -> impl Iterator<Item = Waker> {
        let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        let ended = failed || flags.contains(EventFlags::RDHUP);
        let reads = ended || flags.contains(EventFlags::IN);
        let writes = failed || flags.contains(EventFlags::OUT);
        let bits = [(ended, Self::ENDED), (reads, Self::READABLE), (writes, Self::WRITABLE)];
        self.put(bits.iter().filter(|(is, _)| *is).map(|(_, bit)| bit).sum());
        let reader = if reads { self.reader.take() } else { None };
        let writer = if writes { self.writer.take() } else { None };
        reader.into_iter().chain(writer)
    }
}

/// An epoll, and the sockets in it. A task waits for it while there are any.
struct Edges {
    epoll: Async<OwnedFd>,
    sockets: Mutex<Sockets>,
    task: AtomicWaker,
}

#[derive(Default)]
struct Sockets {
    slots: Slab<Arc<Slot>>,
    has_task: bool,
}

impl Edges {
    /// How many events are taken at a time.
    const EVENTS: usize = 512;

    /// That of this thread's executor; the last socket ends it.
    fn current() -> io::Result<Arc<Self>> {
        thread_local! {
            // Neither keeps the sockets, nor the executor.
            static EDGES: RefCell<(Weak<Executor<'static>>, Weak<Edges>)> =
                const { RefCell::new((Weak::new(), Weak::new())) };
        }
        let executor = current();
        EDGES.with_borrow_mut(|(of, known)| {
            if of.ptr_eq(&executor)
                && let Some(edges) = known.upgrade()
            {
                return Ok(edges);
            }
            let edges = Arc::new(Self {
                epoll: Async::new_nonblocking(epoll::create(CreateFlags::CLOEXEC)?)?,
                sockets: Mutex::default(),
                task: AtomicWaker::new(),
            });
            (*of, *known) = (executor, Arc::downgrade(&edges));
            Ok(edges)
        })
    }

    fn add(self: &Arc<Self>, socket: &impl AsFd) -> io::Result<(Arc<Slot>, u32)> {
        let slot = Arc::new(Slot::default());
        let mut sockets = lock_plain(&self.sockets);
        // A quarter of slack at the most, where doubling would take as much again.
        let len = sockets.slots.len();
        if len == sockets.slots.capacity() {
            sockets.slots.reserve_exact(len / 4 + 16);
        }
        let key = sockets.slots.insert(slot.clone()) as u32;
        let starts = !mem::replace(&mut sockets.has_task, true);
        drop(sockets);
        if starts {
            Smol::default().spawn(Task::new(self.clone().run()));
        }
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let added = epoll::add(&self.epoll, socket, EventData::new_u64(key.into()), flags);
        if let Err(error) = added {
            self.remove(key);
            return Err(error.into());
        }
        Ok((slot, key))
    }

    fn remove(&self, key: u32) {
        let mut sockets = lock_plain(&self.sockets);
        let slot = sockets.slots.remove(key as usize);
        let last = sockets.slots.is_empty();
        drop(sockets);
        // With it goes the waker of whoever has waited.
        drop(slot);
        if last {
            self.task.wake();
        }
    }

    async fn run(self: Arc<Self>) {
        let mut wakers = Vec::new();
        loop {
            match poll_fn(|cx| self.poll_events(cx)).await {
                Ok(true) => {}
                Ok(false) => return,
                // Should the reactor fail there is nobody to be told: it is asked again, after others.
                Err(_) => future::yield_now().await,
            }
            // The reactor is a long way round: where much happens, more has come in the meantime.
            loop {
                self.take_events(&mut wakers);
                let are_many = wakers.len() > 1;
                for waker in wakers.drain(..) {
                    // Anybody may have made it. It is not to keep the others asleep, nor to end this.
                    let _ = panic::catch_unwind(|| waker.wake());
                }
                if !are_many {
                    break;
                }
                future::yield_now().await;
            }
        }
    }

    /// Waits for events; there are none any more when there are no sockets.
    fn poll_events(&self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.task.register(cx.waker());
        let mut sockets = lock_plain(&self.sockets);
        if sockets.slots.is_empty() {
            sockets.has_task = false;
            return Poll::Ready(Ok(false));
        }
        drop(sockets);
        self.epoll.poll_readable(cx).map_ok(|()| true)
    }

    /// Notes what has happened, and gives those who have waited for it.
    fn take_events(&self, wakers: &mut Vec<Waker>) {
        let mut events = [const { MaybeUninit::uninit() }; Self::EVENTS];
        // It is the reactor that waits.
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, Some(&now)) else { return };
        let sockets = lock_plain(&self.sockets);
        for event in events {
            // It may be that of a socket that is gone, and another's by now: that one looks in vain.
            let (data, flags) = (event.data, event.flags);
            if let Some(slot) = sockets.slots.get(data.u64() as usize) {
                wakers.extend(slot.note(flags));
            }
        }
    }
}
