use std::sync::Arc;

use wsforge_core::Config;

use super::timer::Timer;
use crate::Options;

/// What the connections of a server, or those that a client makes alike, share.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) options: Options,
    /// The part of the options that the core wants in an `Arc` of its own.
    pub(crate) config: Arc<Config>,
    pub(crate) timer: Arc<Timer>,
}

impl Endpoint {
    pub(crate) fn new(options: Options, timer: Arc<Timer>) -> Arc<Self> {
        let config = Arc::new(options.protocol.clone());
        Arc::new(Self { options, config, timer })
    }
}
