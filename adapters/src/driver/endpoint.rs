use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use wsforge_core::Config;

use super::sync::lock_plain;
use super::timer::Timer;
use crate::Options;

/// What the connections of a server, or those that a client makes alike, share.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) options: Options,
    /// The part of the options that the core wants in an `Arc` of its own.
    pub(crate) config: Arc<Config>,
    pub(crate) timer: Arc<Timer>,
    places: Mutex<Places>,
}

/// Who is there from which address, where that is limited.
#[derive(Debug, Default)]
struct Places {
    by_address: HashMap<IpAddr, usize>,
    /// By the key of the connection.
    taken: HashMap<u32, IpAddr>,
}

impl Endpoint {
    pub(crate) fn new(options: Options, timer: Arc<Timer>) -> Arc<Self> {
        let config = Arc::new(options.protocol.clone());
        Arc::new(Self { options, config, timer, places: Mutex::default() })
    }

    /// Whether one more may come from this address.
    pub(crate) fn has_place(&self, address: Option<IpAddr>) -> bool {
        match (self.options.max_connections_per_address, address) {
            (Some(most), Some(address)) => {
                lock_plain(&self.places).by_address.get(&address).is_none_or(|taken| *taken < most)
            }
            _ => true,
        }
    }

    /// Counts a connection, until it [leaves](Self::leave_place).
    pub(crate) fn take_place(&self, key: u32, address: Option<IpAddr>) {
        if let (Some(_), Some(address)) = (self.options.max_connections_per_address, address) {
            let mut places = lock_plain(&self.places);
            *places.by_address.entry(address).or_default() += 1;
            places.taken.insert(key, address);
        }
    }

    /// A connection is over and gone.
    pub(crate) fn leave_place(&self, key: u32) {
        if self.options.max_connections_per_address.is_some() {
            let Places { by_address, taken } = &mut *lock_plain(&self.places);
            if let Some(address) = taken.remove(&key)
                && let Some(count) = by_address.get_mut(&address)
            {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(&address);
                }
            }
        }
    }
}
