use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use wsforge_core::{Message as Lent, OwnedChunk};

use crate::{CloseInfo, Message, Replies, Sender, WebSocket};

/// The half of a [`WebSocket`] that receives, and that has to be polled: it also answers pings and
/// writes what the peer was slow to take. There is one for each connection.
#[derive(Debug)]
pub struct Receiver(WebSocket);

impl Receiver {
    pub(crate) const fn new(socket: WebSocket) -> Self {
        Self(socket)
    }

    /// As [`WebSocket::recv`].
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, nothing is lost.
    pub async fn recv(&mut self) -> Option<Message> {
        self.0.recv().await
    }

    /// As [`WebSocket::recv_with`].
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, nothing is lost.
    pub async fn recv_with<R>(&mut self, f: impl FnOnce(Lent<'_>) -> R) -> Option<R> {
        self.0.recv_with(f).await
    }

    /// As [`WebSocket::recv_chunk`].
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, nothing is lost.
    pub async fn recv_chunk(&mut self) -> Option<OwnedChunk> {
        self.0.recv_chunk().await
    }

    /// As [`WebSocket::for_each`].
    ///
    /// # Cancel safety
    ///
    /// If it is dropped before it is ready, nothing is lost.
    pub async fn for_each<B>(
        &mut self,
        f: impl FnMut(Lent<'_>, &mut Replies<'_>) -> ControlFlow<B>,
    ) -> Option<B> {
        self.0.for_each(f).await
    }

    /// How the connection ended, once it has.
    pub fn close_info(&self) -> Option<&CloseInfo> {
        self.0.close_info()
    }

    /// A way to send.
    pub fn sender(&self) -> Sender {
        self.0.sender()
    }

    /// The two halves in one again.
    pub fn into_socket(self) -> WebSocket {
        self.0
    }
}

impl Stream for Receiver {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.get_mut().0.poll_recv(cx)
    }
}
