use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use wsforge_core::Timestamp;
use wsforge_core::handshake;

use super::data::Data;

/// The request that a connection began with: what was asked for, and by whom.
///
/// [`Router::on_upgrade`](super::Router::on_upgrade) sees it before it is answered. Handlers whose extractors
/// look at it make a connection [keep](super::Connection::request) it.
pub struct Request {
    /// It has been read before, so it can be read again.
    head: Box<[u8]>,
    peer_addr: Option<SocketAddr>,
    params: Vec<(String, String)>,
    data: Mutex<Data>,
}

impl Request {
    pub(crate) fn new(
        request: &handshake::Request<'_>,
        peer_addr: Option<SocketAddr>,
        params: Vec<(String, String)>,
    ) -> Self {
        Self { head: request.head().into(), peer_addr, params, data: Mutex::default() }
    }

    /// All there is to see, read once: for those who look at more than one part.
    pub fn view(&self) -> handshake::Request<'_> {
        handshake::Request::parse(&self.head, Timestamp::ZERO).expect("it was read before")
    }

    /// The path, without the query, as it was sent.
    pub fn path(&self) -> &str {
        self.view().path()
    }

    /// What stands behind the `?`, as it was sent.
    pub fn query(&self) -> Option<&str> {
        self.view().query()
    }

    /// The value of the first header called `name`, in any case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.view().header(name)
    }

    /// All headers in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.view().headers()
    }

    /// The cookies, as they were sent.
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.view().cookies()
    }

    /// The value of the first cookie called `name`.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// The subprotocols that the client offers, the one it likes best first.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.view().subprotocols()
    }

    /// Who asks, where peers have addresses.
    pub const fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer_addr
    }

    /// What the parameters of the path are, decoded, in their order.
    pub fn params(&self) -> &[(String, String)] {
        &self.params
    }

    /// What the parameter of the path called `name` is, decoded.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }

    /// Leaves something for the connection, as [`Connection::set_data`](super::Connection::set_data) does;
    /// gives what there was of this type.
    pub fn set_data<T: Any + Send + Sync>(&self, value: T) -> Option<Arc<T>> {
        Data::insert(&self.data, value)
    }

    /// What has been left so far.
    pub(crate) fn take_data(&self) -> Data {
        Data::take(&self.data)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer_addr, params, .. } = self;
        f.debug_struct("Request")
            .field("request", &self.view())
            .field("peer_addr", peer_addr)
            .field("params", params)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Request {
    /// A request for `/` with this query, on a path with these parameters.
    pub(crate) fn stand_in(query: Option<&str>, params: &[(&str, &str)]) -> Self {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let head = format!("GET /{query} HTTP/1.1\r\nHost: a\r\n\r\n");
        let request = handshake::Request::parse(head.as_bytes(), Timestamp::ZERO).unwrap();
        let params = params.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Self::new(&request, None, params.collect())
    }
}
