use super::host::is_host;

/// What a request asks for, RFC 9112 section 3.2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Target<'a> {
    /// Only proxies are sent it, but every server must understand it.
    pub(super) authority: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Reads the target of a request with this method; `None` if it has none of the four forms.
    pub(super) fn parse(method: &str, target: &'a str) -> Option<Self> {
        match method {
            "CONNECT" => {
                return is_host(target.as_bytes()).then_some(Self {
                    authority: Some(target),
                    path: "",
                    query: None,
                });
            }
            "OPTIONS" if target == "*" => {
                return Some(Self { authority: None, path: "*", query: None });
            }
            // RFC 9110 section 4.2.5: a fragment is never sent.
            _ if target.contains('#') => return None,
            _ => {}
        }
        let (authority, rest) = if target.starts_with('/') {
            (None, target)
        } else {
            let (scheme, rest) = target.split_once("://")?;
            if !is_scheme(scheme.as_bytes()) {
                return None;
            }
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            if !is_host(authority.as_bytes()) {
                return None;
            }
            (Some(authority), rest)
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        Some(Self { authority, path: if path.is_empty() { "/" } else { path }, query })
    }
}

fn is_scheme(bytes: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    bytes.first().is_some_and(u8::is_ascii_alphabetic) && bytes.iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_four_forms() {
        let parse =
            |method, target| Target::parse(method, target).map(|t| (t.authority, t.path, t.query));
        assert_eq!(parse("GET", "/"), Some((None, "/", None)));
        assert_eq!(parse("GET", "/a/b?c?d"), Some((None, "/a/b", Some("c?d"))));
        assert_eq!(parse("GET", "/a://b"), Some((None, "/a://b", None)));
        assert_eq!(parse("GET", "http://h:8/a?b"), Some((Some("h:8"), "/a", Some("b"))));
        assert_eq!(parse("GET", "ws://h?b"), Some((Some("h"), "/", Some("b"))));
        assert_eq!(parse("CONNECT", "h:80"), Some((Some("h:80"), "", None)));
        assert_eq!(parse("OPTIONS", "*"), Some((None, "*", None)));
        for bad in
            ["", "a", "*", "?a", "h:80", "://h/", "1a://h/", "http:///a", "http://u@h/", "/a#b"]
        {
            assert_eq!(parse("GET", bad), None, "{bad}");
        }
    }
}
