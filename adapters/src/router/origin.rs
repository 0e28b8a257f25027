//! Which pages may connect: a browser says where the page is from that asks, and lets any ask.

use wsforge_core::handshake::Request;

/// The origins that are allowed. A request without one does not come from a page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    /// Any is.
    pub(crate) any: bool,
    /// This machine's are.
    pub(crate) loopback: bool,
    /// These are, each `scheme://host[:port]`.
    pub(crate) listed: Vec<String>,
}

impl Origins {
    /// Whether the page may connect that this request comes from, if it does from one.
    pub(crate) fn allow(&self, request: &Request<'_>) -> bool {
        if self.any {
            return true;
        }
        let mut origins = request.headers().filter(|(name, _)| name.eq_ignore_ascii_case("Origin"));
        let Some((_, origin)) = origins.next() else { return true };
        // There is one, or somebody plays tricks.
        let Ok(origin) = str::from_utf8(origin) else { return false };
        if origins.next().is_some() {
            return false;
        }
        if self.listed.iter().any(|listed| listed.eq_ignore_ascii_case(origin)) {
            return true;
        }
        // `null` is what pages have in common that hide where they are from.
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let Some(origin) = Authority::parse(authority, default_port(scheme)) else { return false };
        self.loopback && origin.is_loopback()
            || Authority::parse(request.host(), default_port(scheme))
                .is_some_and(|host| host == origin)
    }
}

/// A host and its port.
struct Authority<'a> {
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    fn parse(authority: &'a str, default_port: Option<u16>) -> Option<Self> {
        let end = authority.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match authority[end..].rfind(':') {
            Some(colon) => {
                let (host, port) = authority.split_at(end + colon);
                (host, Some(port[1..].parse().ok()?))
            }
            None => (authority, default_port),
        };
        (!host.is_empty()).then_some(Self { host, port })
    }

    fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        match host.parse::<std::net::IpAddr>() {
            Ok(address) => address.is_loopback(),
            // RFC 6761 section 6.3.
            Err(_) => {
                host.rsplit('.').next().is_some_and(|top| top.eq_ignore_ascii_case("localhost"))
            }
        }
    }
}

impl PartialEq for Authority<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.host.eq_ignore_ascii_case(other.host) && self.port == other.port
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use wsforge_core::Timestamp;

    use super::*;

    fn allows(origins: &Origins, host: &str, origin: &str) -> bool {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{origin}\r\n");
        origins.allow(&Request::parse(head.as_bytes(), Timestamp::ZERO).unwrap())
    }

    fn allows_one(origins: &Origins, host: &str, origin: &str) -> bool {
        allows(origins, host, &format!("origin: {origin}\r\n"))
    }

    #[test]
    fn a_page_may_connect_to_where_it_is_from() {
        let own = Origins::default();
        assert!(allows(&own, "a.example", ""));
        for (host, origin) in [
            ("a.example", "https://a.example"),
            ("a.example", "http://A.Example"),
            ("a.example:443", "https://a.example"),
            ("a.example", "https://a.example:443"),
            ("a.example:8080", "http://a.example:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("[::1]", "http://[::1]"),
        ] {
            assert!(allows_one(&own, host, origin), "{host} {origin}");
        }
        for (host, origin) in [
            ("a.example", "https://b.example"),
            ("a.example", "https://a.example.b.example"),
            ("a.example", "https://b.example#a.example"),
            ("a.example", "https://a.example:8080"),
            ("a.example:8080", "http://a.example"),
            ("a.example:80", "https://a.example"),
            ("a.example", "null"),
            ("a.example", "a.example"),
            ("a.example", ""),
            ("a.example", "https://"),
            ("[::1]:8080", "http://[::1]:8081"),
        ] {
            assert!(!allows_one(&own, host, origin), "{host} {origin}");
        }
        let two = "Origin: http://a\r\nOrigin: http://b\r\n";
        assert!(!allows(&own, "a", two));
    }

    #[test]
    fn others_may_that_are_listed() {
        let listed = Origins { listed: vec!["https://b.example".into()], ..Origins::default() };
        assert!(allows_one(&listed, "a", "https://b.example"));
        assert!(allows_one(&listed, "a", "http://a"));
        assert!(!allows_one(&listed, "a", "http://b.example"));
        let null = Origins { listed: vec!["null".into()], ..Origins::default() };
        assert!(allows_one(&null, "a", "null"));
    }

    #[test]
    fn this_machine_may_where_that_is_wanted_and_all_may_where_that_is() {
        let loopback = Origins { loopback: true, ..Origins::default() };
        for origin in
            ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:1", "http://app.localhost"]
        {
            assert!(allows_one(&loopback, "a", origin), "{origin}");
        }
        assert!(!allows_one(&loopback, "a", "http://localhost.b.example"));
        assert!(!allows_one(&loopback, "a", "http://10.0.0.1"));
        assert!(allows_one(&Origins { any: true, ..Origins::default() }, "a", "null"));
    }
}
