use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::thread::{self, Builder};

/// Works on each of `shares` in a thread of its own, and gives what comes of them when all are done. If not
/// all threads can be started, none begins.
pub(crate) fn share_out<S: Send, T: Send>(
    shares: Vec<S>,
    thread: impl Fn(usize) -> Builder,
    work: impl Fn(S) -> T + Sync,
) -> io::Result<Vec<T>> {
    let work = &work;
    thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut inboxes = Vec::new();
        for n in 0..shares.len() {
            let (inbox, share) = mpsc::sync_channel(1);
            // Without a share, as after the failure of another, it is over at once.
            let work = move || share.recv().ok().map(work);
            threads.push(thread(n).spawn_scoped(scope, work)?);
            inboxes.push(inbox);
        }
        for (inbox, share) in inboxes.into_iter().zip(shares) {
            // It waits for that and for nothing else.
            let _ = inbox.send(share);
        }
        let joined = threads.into_iter().filter_map(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => resume_unwind(panic),
        });
        Ok(joined.collect())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_thread_that_cannot_be_started_keeps_the_others_from_beginning() {
        let begun = AtomicUsize::new(0);
        let work = |share| {
            begun.fetch_add(1, Ordering::Relaxed);
            share
        };
        let thread = |n| match n {
            // Nothing has room for such a stack.
            2 => Builder::new().stack_size(1 << (usize::BITS - 4)),
            _ => Builder::new(),
        };
        share_out(vec![1, 2, 3], thread, work).expect_err("no thread");
        assert_eq!(begun.load(Ordering::Relaxed), 0);
        assert_eq!(share_out(vec![1, 2], thread, work).unwrap(), [1, 2]);
    }
}
