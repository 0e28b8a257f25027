use std::io;
use std::sync::Arc;

use bytes::Bytes;
use wsforge_core::handshake::{Reject, Request, RequestError, Response};
use wsforge_core::{Config, Output, ServerConnection};

use crate::AcceptError;
use crate::driver::content::{Content, PIECE};
use crate::driver::opening::Refused;
use crate::runtime::BoxFuture;

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
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Streamed(Content),
    Whole(Bytes),
}

impl Answer {
    /// Opens the connection, if the request is a proper opening handshake. One that is not gets an
    /// answer that says why.
    pub const fn accept() -> Self {
        Self::new(None)
    }

    /// Answers with plain HTTP and closes: a refusal, or what a browser gets that asks for a page.
    ///
    /// The status is one from 200 to 599; for any other the peer gets a 500.
    pub const fn reject(status: u16) -> Self {
        Self::new(Some(status))
    }

    const fn new(status: Option<u16>) -> Self {
        let body = Body::Whole(Bytes::new());
        Self { status, subprotocol: None, headers: Vec::new(), body }
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
        self.body = Body::Whole(body.into());
        self
    }

    /// Sets a body of `len` bytes that is read while the peer takes it, so that not all of it is in
    /// memory: `read` gets an offset, and gives a piece of the body from there on. It is asked again when
    /// the piece has been taken.
    ///
    /// If it fails, or gives nothing before the end, the peer gets no more, and knows that it did not
    /// get all.
    ///
    /// ```
    /// use wsforge::Answer;
    ///
    /// // As many bytes of the alphabet as somebody wants.
    /// let answer = Answer::reject(200).stream(1_000_000_000, |at| {
    ///     let piece: Vec<u8> = (at..at + 10_000).map(|n| b'a' + (n % 26) as u8).collect();
    ///     Box::pin(async move { Ok(piece.into()) })
    /// });
    /// # drop(answer);
    /// ```
    pub fn stream(
        mut self,
        len: u64,
        read: impl Fn(u64) -> BoxFuture<io::Result<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        self.body = Body::Streamed(Content::new(len, read));
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
    ) -> Result<ServerConnection, Refused> {
        let headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let Some(status) = self.status else {
            let response = Response { subprotocol: self.subprotocol.as_deref(), headers: &headers };
            return request.accept(&response, config.clone(), output).map_err(|error| {
                let error = match error {
                    RequestError::Invalid(invalid) => AcceptError::Invalid(invalid),
                    error => AcceptError::Request(error),
                };
                error.into()
            });
        };
        let (body, content) = match &self.body {
            Body::Whole(bytes) if bytes.len() <= PIECE => (&**bytes, None),
            // Else a peer that reads slowly would have as much time for it as for a short one.
            Body::Whole(bytes) => (&[][..], Some(Content::from(bytes.clone()))),
            Body::Streamed(content) => (&[][..], Some(content.clone())),
        };
        let reject = Reject { status, headers: &headers, body };
        let rest = content.as_ref().map_or(0, |content| content.len);
        match request.reject_streamed(&reject, rest, output) {
            Ok(follows) => {
                let content = content.filter(|_| follows);
                Err(Refused { error: AcceptError::Rejected(status), content })
            }
            Err(invalid) => {
                request.refuse(RequestError::Invalid(invalid), output);
                Err(AcceptError::Invalid(invalid).into())
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
