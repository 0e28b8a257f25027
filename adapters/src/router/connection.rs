//! A stand-in.
#![allow(missing_docs)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use super::{Message, Request, Result};

pub type ConnectionId = String;

#[derive(Clone, Debug)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    info: ConnectionInfo,
    request: Option<Arc<Request>>,
    sent: Mutex<Vec<Message>>,
}

#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    pub id: ConnectionId,
    pub addr: SocketAddr,
}

impl Connection {
    #[cfg(test)]
    pub(crate) fn stand_in(request: Option<Request>) -> Self {
        let info = ConnectionInfo { id: "conn_1".into(), addr: ([127, 0, 0, 1], 80).into() };
        let request = request.map(Arc::new);
        Self(Arc::new(Inner { info, request, sent: Mutex::default() }))
    }

    #[cfg(test)]
    pub(crate) fn sent(&self) -> Vec<Message> {
        self.0.sent.lock().unwrap().clone()
    }

    pub fn id(&self) -> &ConnectionId {
        &self.0.info.id
    }

    pub fn info(&self) -> &ConnectionInfo {
        &self.0.info
    }

    pub fn request(&self) -> Option<&Arc<Request>> {
        self.0.request.as_ref()
    }

    pub fn send(&self, message: Message) -> Result<()> {
        self.0.sent.lock().unwrap().push(message);
        Ok(())
    }
}
