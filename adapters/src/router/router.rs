//! A stand-in.
#![allow(missing_docs)]

use std::sync::Arc;

use super::{ConnectionId, ConnectionManager, Handler, Result};

#[derive(Clone, Debug, Default)]
pub struct Router {}

impl Router {
    pub fn new() -> Self {
        Self {}
    }

    pub fn with_state<T: Send + Sync + 'static>(self, _: Arc<T>) -> Self {
        self
    }

    pub fn route(self, _: impl Into<String>, _: Arc<dyn Handler>) -> Self {
        self
    }

    pub fn default_handler(self, _: Arc<dyn Handler>) -> Self {
        self
    }

    pub fn on_connect<F>(self, _: F) -> Self
    where
        F: Fn(&Arc<ConnectionManager>, ConnectionId) + Send + Sync + 'static,
    {
        self
    }

    pub fn on_disconnect<F>(self, _: F) -> Self
    where
        F: Fn(&Arc<ConnectionManager>, ConnectionId) + Send + Sync + 'static,
    {
        self
    }

    pub fn connection_manager(&self) -> Arc<ConnectionManager> {
        Arc::default()
    }

    #[allow(clippy::unused_async)]
    pub async fn listen(self, _: impl AsRef<str>) -> Result<()> {
        Ok(())
    }
}
