//! `Sec-WebSocket-Extensions`, RFC 6455 section 9.1.

use super::fields::{Lookup, is_token_char, token};

const NAME: &str = "Sec-WebSocket-Extensions";

/// An extension that a client offers or a server agrees to, viewed in place.
#[derive(Clone, Copy, Debug)]
pub struct ExtensionOffer<'a> {
    name: &'a str,
    /// What stands behind the name; its grammar has been checked.
    params: &'a [u8],
}

impl<'a> ExtensionOffer<'a> {
    /// The extension's name.
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// The parameters in their order, with their values if they have any.
    pub fn params(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        let mut parser = Parser(self.params);
        core::iter::from_fn(move || parser.param().ok().flatten())
    }
}

/// All offers of a head in order; `Err` for one that breaks the grammar.
pub(super) fn offers<'a>(
    fields: impl Lookup<'a>,
) -> impl Iterator<Item = Result<ExtensionOffer<'a>, BadGrammar>> {
    fields.all(NAME).flat_map(parse)
}

/// The offers in one header's value.
pub(super) fn parse(value: &[u8]) -> impl Iterator<Item = Result<ExtensionOffer<'_>, BadGrammar>> {
    let mut parser = Parser(value);
    core::iter::from_fn(move || {
        let offer = parser.offer();
        if offer.is_err() {
            parser.0 = &[];
        }
        offer.transpose()
    })
}

/// A list that breaks the grammar: the handshake fails (RFC 6455 section 9.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct BadGrammar;

struct Parser<'a>(&'a [u8]);

impl<'a> Parser<'a> {
    /// `extension = token *( ";" param )`, and the commas around it.
    fn offer(&mut self) -> Result<Option<ExtensionOffer<'a>>, BadGrammar> {
        while self.eat(b',') {}
        if self.0.is_empty() {
            return Ok(None);
        }
        let name = self.token()?;
        let params = self.0;
        while self.param()?.is_some() {}
        let params = &params[..params.len() - self.0.len()];
        if self.eat(b',') || self.0.is_empty() {
            Ok(Some(ExtensionOffer { name, params }))
        } else {
            Err(BadGrammar)
        }
    }

    /// `";" token [ "=" ( token | quoted token ) ]`.
    fn param(&mut self) -> Result<Option<(&'a str, Option<&'a str>)>, BadGrammar> {
        if !self.eat(b';') {
            return Ok(None);
        }
        let name = self.token()?;
        if !self.eat(b'=') {
            return Ok(Some((name, None)));
        }
        let value = match self.0.strip_prefix(b"\"") {
            None => self.token()?,
            Some(quoted) => {
                self.0 = quoted;
                let value = self.bare_token()?;
                self.0 = self.0.strip_prefix(b"\"").ok_or(BadGrammar)?;
                value
            }
        };
        Ok(Some((name, Some(value))))
    }

    /// A token, and blanks before it.
    fn token(&mut self) -> Result<&'a str, BadGrammar> {
        self.skip_blanks();
        self.bare_token()
    }

    fn bare_token(&mut self) -> Result<&'a str, BadGrammar> {
        let len = self.0.iter().take_while(|byte| is_token_char(**byte)).count();
        let (front, rest) = self.0.split_at(len);
        self.0 = rest;
        token(front).ok_or(BadGrammar)
    }

    /// Whether `byte` comes next; if so, takes it and the blanks around it.
    fn eat(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let Some(rest) = self.0.strip_prefix(&[byte]) else { return false };
        self.0 = rest;
        self.skip_blanks();
        true
    }

    /// Blanks are these two (RFC 9110 section 5.6.3): a line break would end the header.
    fn skip_blanks(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;
    use core::fmt::Write;

    use super::*;

    /// The offers, written in one form; `None` if the grammar is broken.
    fn normal(value: &str) -> Option<String> {
        let mut text = String::new();
        for offer in parse(value.as_bytes()) {
            let offer = offer.ok()?;
            write!(text, "[{}", offer.name()).unwrap();
            for (name, value) in offer.params() {
                write!(
                    text,
                    ";{name}{}{}",
                    if value.is_some() { "=" } else { "" },
                    value.unwrap_or("")
                )
                .unwrap();
            }
            text.push(']');
        }
        Some(text)
    }

    #[test]
    fn reads_offers_and_their_parameters() {
        let cases = [
            ("", ""),
            (" , ,", ""),
            ("a", "[a]"),
            ("a, b ,c", "[a][b][c]"),
            ("a; x; y=1 ;z=\"q\" , b", "[a;x;y=1;z=q][b]"),
            (
                "permessage-deflate; server_max_window_bits=10, permessage-deflate",
                "[permessage-deflate;server_max_window_bits=10][permessage-deflate]",
            ),
            // Odd, but of the right form: whoever negotiates declines them.
            ("d; x=8; x=8; constructor", "[d;x=8;x=8;constructor]"),
        ];
        for (value, expected) in cases {
            assert_eq!(normal(value).as_deref(), Some(expected), "{value}");
        }
        for broken in [
            "a b",
            "a;",
            "a;=8",
            "a;x=",
            "a;x=\"",
            "a;x=\"b c\"",
            "a;x=\"\"",
            "a;x=\" b\"",
            "a\r\n",
            "a;\nb",
            ";a",
            "a=1",
            "é",
        ] {
            assert_eq!(normal(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_flood_of_offers_is_read_in_one_pass() {
        let flood = "permessage-deflate; client_max_window_bits, ".repeat(1_000);
        assert_eq!(parse(flood.as_bytes()).filter(Result::is_ok).count(), 1_000);
        let spaces = alloc::format!("b{}x", " ".repeat(8_000));
        assert_eq!(parse(spaces.as_bytes()).collect::<Vec<_>>().len(), 1);
        assert!(normal(&spaces).is_none());
    }
}
