use std::any::Any;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use wsforge_core::Config;

use super::slow::Slow;
use super::sync::lock_plain;
use super::timer::Timer;
use crate::Options;

/// What the connections of a server, or those that a client makes alike, share.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// What its connections are for. It is here, as they have no room for it.
    #[cfg_attr(
        not(feature = "router"),
        expect(dead_code, reason = "the framework's connections ask")
    )]
    pub(crate) owner: Arc<dyn Any + Send + Sync>,
    pub(crate) options: Options,
    /// The part of the options that the core wants in an `Arc` of its own.
    pub(crate) config: Arc<Config>,
    pub(crate) timer: Arc<Timer>,
    pub(crate) places: Arc<Places>,
    pub(crate) slow: Slow,
    /// Connections of a router whose end has not been told.
    pub(crate) serving: AtomicUsize,
    /// Whether nobody waits for them any more.
    pub(crate) abandoned: AtomicBool,
    /// Where a place was taken from, by the key of the connection.
    taken: Mutex<HashMap<u32, IpAddr>>,
}

/// How many connections there are, and from where: of one endpoint, or of several that share their limits.
#[derive(Debug, Default)]
pub(crate) struct Places {
    count: AtomicUsize,
    /// Where that is limited, by what [counts as one](network).
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Places {
    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Endpoint {
    pub(crate) fn new(options: Options, timer: Arc<Timer>) -> Arc<Self> {
        Self::of(Arc::new(()), Arc::default(), options, timer)
    }

    /// One of an owner's, which may share their places.
    pub(crate) fn of(
        owner: Arc<dyn Any + Send + Sync>,
        places: Arc<Places>,
        options: Options,
        timer: Arc<Timer>,
    ) -> Arc<Self> {
        let config = Arc::new(options.protocol.clone());
        options.budget.join(&timer);
        let (serving, abandoned) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (slow, taken) = (Slow::default(), Mutex::default());
        Arc::new(Self { owner, options, config, timer, places, slow, serving, abandoned, taken })
    }

    /// Counts a connection, until it [leaves](Self::leave).
    pub(crate) fn enter(&self) {
        self.places.count.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection is over and gone.
    pub(crate) fn leave(&self, key: u32) {
        self.places.count.fetch_sub(1, Ordering::Relaxed);
        self.slow.forget(key);
        if self.options.max_connections_per_address.is_none() {
            return;
        }
        let address = lock_plain(&self.taken).remove(&key);
        let mut by_address = lock_plain(&self.places.by_address);
        if let Some(address) = address
            && let Some(count) = by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
        }
    }

    /// Takes one of an address's places, if there is one left.
    pub(crate) fn take_place(&self, key: u32, address: Option<IpAddr>) -> bool {
        if let (Some(most), Some(address)) = (self.options.max_connections_per_address, address) {
            let address = network(address);
            let mut by_address = lock_plain(&self.places.by_address);
            let count = by_address.entry(address).or_default();
            if *count >= most {
                return false;
            }
            *count += 1;
            drop(by_address);
            lock_plain(&self.taken).insert(key, address);
        }
        true
    }
}

/// What counts as one address. Of IPv6 that is a network of 2^64: whoever has one has all of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}
