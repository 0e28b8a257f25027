use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

/// A peer's address in half the room of a [`SocketAddr`], as long as it is a short one.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(address),
            SocketAddr::V6(address) => Self::V6(Box::new(address)),
        }
    }
}

impl From<&Address> for SocketAddr {
    fn from(address: &Address) -> Self {
        match address {
            Address::V4(address) => Self::V4(*address),
            Address::V6(address) => Self::V6(**address),
        }
    }
}
