//! Peers in memory, as there can be more of them than a process has descriptors.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use wsforge::proto::frame::{Header, Opcode};
use wsforge::runtime::{self, Transport};

use super::raw::REQUEST;
use super::rt::Listener;

/// Those who ask for a WebSocket, say nothing more, and take whatever they are sent.
pub struct Crowd(Vec<Arc<Quiet>>);

struct Quiet {
    asked: AtomicBool,
    got: Mutex<Vec<u8>>,
    reader: Mutex<Option<Waker>>,
    gone: AtomicBool,
}

impl Crowd {
    pub fn of(n: usize) -> Self {
        let quiet = || Quiet {
            asked: AtomicBool::new(false),
            got: Mutex::default(),
            reader: Mutex::default(),
            gone: AtomicBool::new(false),
        };
        Self((0..n).map(|_| Arc::new(quiet())).collect())
    }

    /// A listener at whom they come first.
    pub fn before(&self, listener: Listener) -> Crowded {
        let address = |n: usize| SocketAddr::from((Ipv4Addr::from(n as u32), 0));
        let coming = self.0.iter().enumerate().map(|(n, quiet)| (quiet.clone(), address(n)));
        Crowded { coming: coming.collect(), listener }
    }

    /// All texts that one of them has got.
    pub fn texts(&self, n: usize) -> Vec<String> {
        let got = self.0[n].got.lock().unwrap();
        let head = got.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an answer");
        let (mut rest, mut texts) = (&got[head + 4..], Vec::new());
        while let Some((header, at)) = Header::parse(rest).unwrap() {
            let (frame, behind) = rest.split_at(at + header.len as usize);
            if header.opcode == Opcode::Text {
                texts.push(String::from_utf8(frame[at..].to_vec()).unwrap());
            }
            rest = behind;
        }
        assert_eq!(rest, b"");
        texts
    }

    /// Whether one of them has got this text last.
    pub fn has_last(&self, n: usize, text: &str) -> bool {
        self.0[n].got.lock().unwrap().ends_with(text.as_bytes())
    }

    /// How many of them have got this text last.
    pub fn reached(&self, text: &str) -> usize {
        (0..self.0.len()).filter(|n| self.has_last(*n, text)).count()
    }
}

/// See [`Crowd::before`].
pub struct Crowded {
    /// With an address each, in their order.
    coming: VecDeque<(Arc<Quiet>, SocketAddr)>,
    listener: Listener,
}

impl runtime::Listener for Crowded {
    type Io = Box<dyn Transport>;

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Io, Option<SocketAddr>)>> {
        match self.coming.pop_front() {
            Some((quiet, address)) => Poll::Ready(Ok((Box::new(Seat(quiet)), Some(address)))),
            None => self.listener.poll_accept(cx),
        }
    }
}

/// Where one of them sits.
struct Seat(Arc<Quiet>);

impl Transport for Seat {
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.0.asked.swap(true, Ordering::SeqCst) {
            buf[..REQUEST.len()].copy_from_slice(REQUEST);
            return Poll::Ready(Ok(REQUEST.len()));
        }
        *self.0.reader.lock().unwrap() = Some(cx.waker().clone());
        if self.0.gone.load(Ordering::SeqCst) { Poll::Ready(Ok(0)) } else { Poll::Pending }
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut got = self.0.got.lock().unwrap();
        let before = got.len();
        slices.iter().for_each(|slice| got.extend_from_slice(slice));
        Ok(got.len() - before)
    }

    fn poll_write(&self, _: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.try_write(slices))
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn abort(&self) {
        self.0.gone.store(true, Ordering::SeqCst);
        if let Some(reader) = self.0.reader.lock().unwrap().take() {
            reader.wake();
        }
    }
}
