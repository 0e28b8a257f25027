use std::sync::Arc;

use bytes::Bytes;
use wsforge_core::handshake::{Reject, Request, RequestError, Response};
use wsforge_core::{Config, Output, ServerConnection};

use crate::AcceptError;

/// What a server answers to an opening handshake, or to any other request.
///
/// ```
/// use wsforge::Answer;
///
/// let accept = Answer::accept().subprotocol("chat");
/// let refuse = Answer::reject(401).header("WWW-Authenticate", "Basic").body("who are you?");
/// # drop((accept, refuse));
/// ```
#[derive(Clone, Debug)]
pub struct Answer {
    /// That of a refusal.
    status: Option<u16>,
    subprotocol: Option<String>,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
}

impl Answer {
    /// Opens the connection, if the request is a proper opening handshake. One that is not gets an
    /// answer that says why.
    pub const fn accept() -> Self {
        Self { status: None, subprotocol: None, headers: Vec::new(), body: Bytes::new() }
    }

    /// Answers with plain HTTP and closes: a refusal, or what a browser gets that asks for a page.
    ///
    /// The status is one from 200 to 599; for any other the peer gets a 500.
    pub const fn reject(status: u16) -> Self {
        let status = Some(status);
        Self { status, subprotocol: None, headers: Vec::new(), body: Bytes::new() }
    }

    /// Picks a subprotocol, one of those that the client offers.
    pub fn subprotocol(mut self, subprotocol: impl Into<String>) -> Self {
        self.subprotocol = Some(subprotocol.into());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body of a refusal.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The subprotocol that has been picked.
    #[cfg(feature = "router")]
    pub(crate) fn picked(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Writes the answer to `request`. If it opens no connection, some other answer is in the output.
    pub(crate) fn write(
        &self,
        request: &Request<'_>,
        config: &Arc<Config>,
        output: &mut Output,
    ) -> Result<ServerConnection, AcceptError> {
        let headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let Some(status) = self.status else {
            let response = Response { subprotocol: self.subprotocol.as_deref(), headers: &headers };
            return request.accept(&response, config.clone(), output).map_err(
                |error| match error {
                    RequestError::Invalid(invalid) => AcceptError::Invalid(invalid),
                    error => AcceptError::Request(error),
                },
            );
        };
        let reject = Reject { status, headers: &headers, body: &self.body };
        match request.reject(&reject, output) {
            Ok(()) => Err(AcceptError::Rejected(status)),
            Err(invalid) => {
                request.refuse(RequestError::Invalid(invalid), output);
                Err(AcceptError::Invalid(invalid))
            }
        }
    }
}

/// So that what decides can leave early with `?`.
impl From<Result<Self, Self>> for Answer {
    fn from(answer: Result<Self, Self>) -> Self {
        answer.unwrap_or_else(|refusal| refusal)
    }
}
