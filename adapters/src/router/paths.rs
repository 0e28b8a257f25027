//! Which routes a connection has: those of the URL's path that it asked for.

use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::{Middleware, Routes};

/// Routes by path.
#[derive(Clone, Default)]
pub(crate) struct Paths {
    tree: matchit::Router<u16>,
    /// Those for a path, and first those for any other.
    tables: Vec<Routes>,
    others: bool,
}

/// What a path leads to.
pub(crate) struct Found {
    pub(crate) table: u16,
    pub(crate) params: Vec<(String, String)>,
}

impl Paths {
    pub(crate) fn new(
        mut others: Routes,
        paths: Vec<(String, Routes)>,
        layers: &[Arc<dyn Middleware>],
    ) -> Self {
        let mut this = Self { others: paths.is_empty() || !others.is_empty(), ..Self::default() };
        others.build(layers);
        this.tables.push(others);
        for (path, mut routes) in paths {
            routes.build(layers);
            // It was tried when it was given, and they were counted.
            if this.tree.insert(path, this.tables.len() as u16).is_ok() {
                this.tables.push(routes);
            }
        }
        this
    }

    /// Finds a path; parameters are decoded.
    pub(crate) fn find(&self, path: &str) -> Option<Found> {
        let Ok(found) = self.tree.at(path) else {
            return self.others.then(|| Found { table: 0, params: Vec::new() });
        };
        let param = |(name, value): (&str, &str)| {
            let value = percent_decode_str(value).decode_utf8().ok()?;
            Some((name.to_owned(), value.into_owned()))
        };
        let params = found.params.iter().map(param).collect::<Option<_>>()?;
        Some(Found { table: *found.value, params })
    }

    pub(crate) fn table(&self, table: u16) -> &Routes {
        &self.tables[usize::from(table)]
    }

    pub(crate) fn wants_request(&self) -> bool {
        self.tables.iter().any(Routes::wants_request)
    }
}

/// Whether these paths can stand beside each other.
pub(crate) fn check<'a>(paths: impl Iterator<Item = &'a str>) -> Result<(), matchit::InsertError> {
    let mut tree = matchit::Router::new();
    paths.into_iter().try_for_each(|path| tree.insert(path, ()))
}
