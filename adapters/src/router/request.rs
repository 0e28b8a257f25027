//! A stand-in.
#![allow(missing_docs)]

#[derive(Debug, Default)]
pub struct Request {
    pub(crate) query: Option<String>,
    pub(crate) params: Vec<(String, String)>,
}

impl Request {
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    pub fn params(&self) -> &[(String, String)] {
        &self.params
    }
}
