//! A stand-in.
#![allow(missing_docs)]

#[derive(Debug, Default)]
pub struct Request {
    pub(crate) query: Option<String>,
    pub(crate) params: Vec<(String, String)>,
}

impl Request {
    #[cfg(test)]
    pub(crate) fn stand_in(query: Option<&str>, params: &[(&str, &str)]) -> Self {
        let params = params.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Self { query: query.map(str::to_owned), params: params.collect() }
    }

    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    pub fn params(&self) -> &[(String, String)] {
        &self.params
    }
}
