//! Which pages may connect: a browser says where the page is from that asks, and lets any ask.

use url::{Host, Url};
use wsforge_core::handshake::Request;

/// The origins that are allowed. A request without one does not come from a page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    /// Any is.
    pub(crate) any: bool,
    /// This machine's are.
    pub(crate) loopback: bool,
    /// These are.
    pub(crate) listed: Vec<Origin>,
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
        let Some(origin) = str::from_utf8(origin).ok().and_then(Origin::parse) else {
            return false;
        };
        if origins.next().is_some() {
            return false;
        }
        self.listed.contains(&origin)
            || self.loopback && origin.is_loopback()
            || origin.is_of(request.host())
    }
}

/// Where a page is from, RFC 6454 section 4.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// What pages have in common that hide where they are from.
    Null,
    /// A scheme, a host and a port, in the one way to write them: that is what the parser makes of all.
    Of(Url),
}

impl Origin {
    /// `None` of what says more, or less, than an origin does.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        if text == "null" {
            return Some(Self::Null);
        }
        // The parser forgives more than is meant here.
        if !text.contains("://") || text.contains(['\\', '@', '?', '#', '*']) {
            return None;
        }
        let mut url = Url::parse(&text).ok()?;
        if url.host_str().is_none_or(str::is_empty) || !matches!(url.path(), "" | "/") {
            return None;
        }
        // Some schemes have one by themselves.
        url.set_path("");
        Some(Self::Of(url))
    }

    /// Whether it is that of the pages of this host, which may be reached with encryption or without.
    fn is_of(&self, host: &str) -> bool {
        let Self::Of(url) = self else { return false };
        matches!(url.scheme(), "http" | "https" | "ws" | "wss")
            && Self::parse(&format!("{}://{host}", url.scheme())).as_ref() == Some(self)
    }

    fn is_loopback(&self) -> bool {
        let Self::Of(url) = self else { return false };
        match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            // RFC 6761 section 6.3.
            Some(Host::Domain(name)) => name.rsplit('.').next() == Some("localhost"),
            None => false,
        }
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

    fn listed(origin: &str) -> Origins {
        Origins { listed: vec![Origin::parse(origin).expect(origin)], ..Origins::default() }
    }

    #[test]
    fn a_page_may_connect_to_where_it_is_from() {
        let own = Origins::default();
        assert!(allows(&own, "a.example", ""));
        for (host, origin) in [
            ("a.example", "https://a.example"),
            ("a.example", "http://A.Example"),
            ("A.Example", "HTTP://a.example"),
            ("a.example:443", "https://a.example"),
            ("a.example", "https://a.example:443"),
            ("a.example:8080", "http://a.example:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("[0:0::1]", "http://[::1]"),
        ] {
            assert!(allows_one(&own, host, origin), "{host} {origin}");
        }
        for (host, origin) in [
            ("a.example", "https://b.example"),
            ("a.example", "https://a.example.b.example"),
            ("a.example", "https://b.example#a.example"),
            ("a.example", "https://b.example@a.example"),
            ("a.example", "https://a.example https://b.example"),
            ("a.example", "https://a.example:8080"),
            ("a.example", "https://a.example:+443"),
            ("a.example:8080", "http://a.example"),
            ("a.example:80", "https://a.example"),
            ("a.example", "app://a.example"),
            ("a.example", "null"),
            ("null", "null"),
            ("a.example", "a.example"),
            ("a.example", ""),
            ("a.example", "https://"),
            ("[::1]:8080", "http://[::1]:8081"),
        ] {
            assert!(!allows_one(&own, host, origin), "{host} {origin}");
        }
        let two = "Origin: http://a\r\nOrigin: http://a\r\n";
        assert!(!allows(&own, "a", two));
    }

    #[test]
    fn others_may_that_are_listed_however_they_are_written() {
        for written in ["https://b.example", "HTTPS://B.example/", "https://b.example:443"] {
            let listed = listed(written);
            for origin in ["https://b.example", "https://B.EXAMPLE:443", "http://a"] {
                assert!(allows_one(&listed, "a", origin), "{written} {origin}");
            }
            for origin in
                ["http://b.example", "https://b.example:80", "https://x.b.example", "null"]
            {
                assert!(!allows_one(&listed, "a", origin), "{written} {origin}");
            }
        }
        assert!(allows_one(
            &listed("https://bücher.example"),
            "a",
            "https://xn--bcher-kva.example"
        ));
        assert!(allows_one(&listed("app://Some-Name/"), "a", "app://some-name"));
        assert!(!allows_one(&listed("app://some-name:80"), "a", "app://some-name"));
        assert!(allows_one(&listed("null"), "a", "null"));
    }

    #[test]
    fn what_is_no_origin_is_told_apart() {
        for text in [
            "",
            "*",
            "b.example",
            "b.example:443",
            "https:b.example",
            "https://",
            "https://*",
            "https://b.example/chat",
            "https://b.example?",
            "https://b.example#",
            "https://name@b.example",
            "https://b.example\\",
            "https://b.example:+443",
            "https://b.example:65536",
            "https://b example",
            "https://[::1",
            "https://b.example, https://c.example",
            "app://",
            "file:///",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
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
        assert!(!allows_one(&loopback, "a", "null"));
        assert!(allows_one(&Origins { any: true, ..Origins::default() }, "a", "null"));
    }
}
