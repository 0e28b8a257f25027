use std::future::{Future, poll_fn};
use std::task::Poll;

/// Waits for Ctrl-C, on tokio. It listens when this returns: whoever reads an announcement that comes
/// behind may interrupt us.
pub async fn ctrl_c() -> impl Future<Output = ()> + Send + 'static {
    let mut pressed = Box::pin(async { drop(tokio::signal::ctrl_c().await) });
    let mut over = poll_fn(|cx| Poll::Ready(pressed.as_mut().poll(cx).is_ready())).await;
    async move {
        if !std::mem::replace(&mut over, true) {
            pressed.await;
        }
    }
}
