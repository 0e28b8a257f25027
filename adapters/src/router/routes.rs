use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::middleware::Layered;
use super::{Handler, MessageType, Middleware, MiddlewareChain};

/// Which handler a message is for.
///
/// A text that begins with a slash goes by its first word, the part up to the first space: to the
/// [route](Self::route) of exactly this word. Another text goes by the [fields](Self::route_json) of the
/// JSON object that it is, if it is one. Everything else, and what finds no route, goes to the
/// [default handler](Self::default_handler); without one it is dropped and counted.
///
/// ```
/// use wsforge::router::{Json, Message, Routes, handler};
///
/// let routes = Routes::new()
///     .route("/echo", handler(|text: &str| text.to_owned()))
///     .route("/sum", handler(|Json(n): Json<Vec<u32>>| n.iter().sum::<u32>().to_string()))
///     .route_json("type", "ping", handler(|| r#"{"type":"pong"}"#))
///     .default_handler(handler(|_: Message| "what?"));
/// # drop(routes);
/// ```
#[derive(Clone, Default)]
pub struct Routes {
    words: BTreeMap<Box<[u8]>, Entry>,
    /// Names of fields, and for each its values.
    fields: Vec<(String, BTreeMap<String, Entry>)>,
    default: Option<Entry>,
    layers: Vec<Arc<dyn Middleware>>,
}

#[derive(Clone)]
struct Entry {
    /// Its own ones.
    layers: Vec<Arc<dyn Middleware>>,
    handler: Arc<dyn Handler>,
    /// The handler with all middleware around it.
    built: Arc<dyn Handler>,
}

impl Routes {
    /// No routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Handles texts with this first word, in place of the handler that did. The word begins with a
    /// slash; else no text finds it.
    pub fn route(self, word: impl Into<String>, handler: Arc<dyn Handler>) -> Self {
        self.route_with_layers(word, Vec::new(), handler)
    }

    /// As [`route`](Self::route), with middleware of its own inside the middleware of all.
    pub fn route_with_layers(
        mut self,
        word: impl Into<String>,
        layers: Vec<Arc<dyn Middleware>>,
        handler: Arc<dyn Handler>,
    ) -> Self {
        self.words.insert(word.into().into_bytes().into(), Entry::new(layers, handler));
        self
    }

    /// Handles JSON objects in which `field` is `value`, such as `"type": "chat"`. A value that is no
    /// string counts as it is written, such as `7` for `"op": 7`.
    ///
    /// The first field in the message that has a route decides. What stands behind it is not looked at,
    /// so a handler may still find that the message is no JSON.
    pub fn route_json(
        mut self,
        field: impl Into<String>,
        value: impl Into<String>,
        handler: Arc<dyn Handler>,
    ) -> Self {
        let field = field.into();
        let at = self.fields.iter().position(|(name, _)| *name == field).unwrap_or_else(|| {
            self.fields.push((field, BTreeMap::new()));
            self.fields.len() - 1
        });
        self.fields[at].1.insert(value.into(), Entry::new(Vec::new(), handler));
        self
    }

    /// Handles everything else.
    pub fn default_handler(mut self, handler: Arc<dyn Handler>) -> Self {
        self.default = Some(Entry::new(Vec::new(), handler));
        self
    }

    /// Puts a middleware around all handlers, inside of those that are there already. It does not matter
    /// whether the handlers are added before or after.
    pub fn layer(mut self, middleware: Arc<dyn Middleware>) -> Self {
        self.layers.push(middleware);
        self
    }

    /// Puts the middleware around the handlers, that of `outer` outside. Called before the first message.
    pub(crate) fn build(&mut self, outer: &[Arc<dyn Middleware>]) {
        let layers: Vec<_> = outer.iter().chain(&self.layers).cloned().collect();
        for (word, entry) in &mut self.words {
            // It was made of a string.
            entry.build(&layers, str::from_utf8(word).unwrap_or_default());
        }
        let fields = self.fields.iter_mut().flat_map(|(_, values)| values.values_mut());
        fields.chain(&mut self.default).for_each(|entry| entry.build(&layers, ""));
    }

    /// Who handles a message, and how much of it says so. Texts are UTF-8.
    pub(crate) fn find(&self, kind: MessageType, bytes: &[u8]) -> Option<(&dyn Handler, usize)> {
        let routed = if kind == MessageType::Text { self.find_text(bytes) } else { None };
        let (entry, len) = routed.or_else(|| Some((self.default.as_ref()?, 0)))?;
        Some((&*entry.built, len))
    }

    fn find_text(&self, text: &[u8]) -> Option<(&Entry, usize)> {
        if text.first() == Some(&b'/') && !self.words.is_empty() {
            let space = text.iter().position(|byte| *byte == b' ');
            let entry = self.words.get(&text[..space.unwrap_or(text.len())])?;
            return Some((entry, space.map_or(text.len(), |at| at + 1)));
        }
        if self.fields.is_empty() || text.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        let mut found = None;
        let object = Object { fields: &self.fields, found: &mut found };
        // It ends with an error when it has found something: it does not look at the rest.
        let _ = serde_json::Deserializer::from_slice(text).deserialize_map(object);
        Some((found?, 0))
    }

    /// Whether a handler or middleware looks at the request.
    pub(crate) fn wants_request(&self) -> bool {
        let fields = self.fields.iter().flat_map(|(_, values)| values.values());
        let mut all = self.words.values().chain(fields).chain(&self.default);
        all.any(|entry| entry.built.wants_request())
    }

    /// Whether there are no handlers.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty() && self.fields.is_empty() && self.default.is_none()
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.words.keys().map(|word| String::from_utf8_lossy(word)).collect();
        let field = |(name, values): &(String, BTreeMap<_, _>)| {
            (name.clone(), Vec::from_iter(values.keys().cloned()))
        };
        let fields: Vec<(String, Vec<String>)> = self.fields.iter().map(field).collect();
        f.debug_struct("Routes")
            .field("words", &words)
            .field("fields", &fields)
            .field("default", &self.default.is_some())
            .finish_non_exhaustive()
    }
}

impl Entry {
    fn new(layers: Vec<Arc<dyn Middleware>>, handler: Arc<dyn Handler>) -> Self {
        let handler = handler.clone().shared().unwrap_or(handler);
        Self { layers, built: handler.clone(), handler }
    }

    fn build(&mut self, outer: &[Arc<dyn Middleware>], word: &str) {
        let middlewares: Vec<_> = outer.iter().chain(&self.layers).cloned().collect();
        self.built = if middlewares.is_empty() {
            self.handler.clone()
        } else {
            let mut chain = MiddlewareChain::new().handler(self.handler.clone()).word(word);
            chain.middlewares = middlewares;
            Arc::new(Layered::new(chain))
        };
    }
}

/// Looks through an object for a field that has a route.
struct Object<'r, 'f> {
    fields: &'r [(String, BTreeMap<String, Entry>)],
    found: &'f mut Option<&'r Entry>,
}

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(values) = map.next_key_seed(Name(self.fields))? {
            let Some(values) = values else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value::<&RawValue>()?.get();
            let entry = match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
                None => values.get(value),
                Some(text) if !text.contains('\\') => values.get(text),
                Some(_) => {
                    serde_json::from_str::<String>(value).ok().and_then(|text| values.get(&text))
                }
            };
            if entry.is_some() {
                *self.found = entry;
                break;
            }
        }
        Ok(())
    }
}

/// The values of the field of this name, if it has routes.
struct Name<'r>(&'r [(String, BTreeMap<String, Entry>)]);

impl<'de, 'r> DeserializeSeed<'de> for Name<'r> {
    type Value = Option<&'r BTreeMap<String, Entry>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'r> Visitor<'_> for Name<'r> {
    type Value = Option<&'r BTreeMap<String, Entry>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|(field, _)| field == name).map(|(_, values)| values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::testing::Around;
    use crate::router::{Extension, Extensions, Json, Message, Path, from_fn, handler};

    /// Says its name and how much of the message has chosen it.
    struct Named(&'static str);

    impl Handler for Named {
        fn call(
            &self,
            received: &crate::router::Received<'_>,
            reply: &mut crate::router::Reply<'_>,
        ) -> crate::router::Outcome {
            let says = format!("{} {}", self.0, received.routed);
            crate::router::Outcome::Done(reply.text(&says))
        }
    }

    fn named(name: &'static str) -> Arc<dyn Handler> {
        Arc::new(Named(name))
    }

    /// What the handler of a message answers.
    fn answer(routes: &Routes, message: impl Into<Message>) -> Option<String> {
        let message = message.into();
        let (handler, routed) = routes.find(message.msg_type, &message.data)?;
        let sent = Around { routed, ..Around::new() }.call(handler, message).unwrap();
        sent.first()?.as_text().map(str::to_owned)
    }

    /// Leaves its name in front of those that are there already, and puts it around the answer.
    fn tag(name: &'static str) -> Arc<dyn Middleware> {
        from_fn(move |message, connection, state, extensions: Extensions, next| async move {
            let before =
                extensions.get::<String>("names").map_or_else(String::new, |s| (*s).clone());
            extensions.insert("names", before + name);
            let answer = next.run(message, connection, state, extensions).await?;
            Ok(answer.map(|answer: Message| {
                Message::text(format!("{name}({})", answer.as_text().unwrap_or_default()))
            }))
        })
    }

    #[test]
    fn a_text_goes_by_its_first_word_if_that_has_a_slash() {
        let routes = Routes::new()
            .route("/chat", named("old"))
            .route("/chat", named("chat"))
            .route("/é", named("é"))
            .default_handler(named("default"));
        for (text, expected) in [
            ("/chat", "chat 5"),
            ("/chat ", "chat 6"),
            ("/chat hello there", "chat 6"),
            ("/é é", "é 4"),
            ("/chats", "default 0"),
            ("/chat\nhello", "default 0"),
            ("/", "default 0"),
            ("chat", "default 0"),
            (" /chat", "default 0"),
            ("", "default 0"),
        ] {
            assert_eq!(answer(&routes, text).as_deref(), Some(expected), "{text:?}");
        }
        for message in [Message::binary("/chat"), Message::ping("/chat")] {
            assert_eq!(answer(&routes, message).as_deref(), Some("default 0"));
        }
    }

    #[test]
    fn an_object_goes_by_the_first_field_that_has_a_route() {
        let routes = Routes::new()
            .route("/chat", named("word"))
            .route_json("type", "chat", named("chat"))
            .route_json("type", "a\"b", named("quoted"))
            .route_json("op", "7", named("seven"));
        for (text, expected) in [
            (r#"{"type":"chat"}"#, Some("chat 0")),
            (r#" { "more": [{"type":"no"}, 1], "type" : "chat", "op": 7 } "#, Some("chat 0")),
            (r#"{"op": 7, "type": "chat"}"#, Some("seven 0")),
            (r#"{"op": "7"}"#, Some("seven 0")),
            (r#"{"op": 8, "type": "a\u0022b"}"#, Some("quoted 0")),
            (r#"{"t\u0079pe":"ch\u0061t"}"#, Some("chat 0")),
            // What is wrong behind it is the handler's to find.
            (r#"{"type":"chat" oops"#, Some("chat 0")),
            (r#"{"type":"cha"}"#, None),
            (r#"{"type":["chat"]}"#, None),
            (r#"{"type":{"type":"chat"}}"#, None),
            (r#"{"oops "type":"chat"}"#, None),
            (r#"[{"type":"chat"}]"#, None),
            (r#""type""#, None),
            ("/chat {}", Some("word 6")),
            ("", None),
        ] {
            assert_eq!(answer(&routes, text).as_deref(), expected, "{text:?}");
        }
        assert_eq!(answer(&routes, Message::binary(r#"{"type":"chat"}"#)), None);
    }

    /// It takes no memory for what it looks through.
    #[test]
    fn a_deep_object_is_no_trouble() {
        let routes = Routes::new().route_json("type", "chat", named("chat"));
        let deep = "[".repeat(100_000);
        assert_eq!(answer(&routes, format!(r#"{{"a":{deep}"#)), None);
        let shut = "]".repeat(100_000);
        let text = format!(r#"{{"a":{deep}{shut},"type":"chat"}}"#);
        assert_eq!(answer(&routes, text).as_deref(), Some("chat 0"));
    }

    /// Defect C17 of the API that this one is compatible with.
    #[test]
    fn middleware_stands_around_all_handlers_in_its_order_wherever_it_is_added() {
        let names = |Extension(names): Extension<String>| (*names).clone();
        let early = |routes: Routes| routes.layer(tag("b")).layer(tag("c"));
        let fill = |routes: Routes| {
            routes
                .route_with_layers("/own", vec![tag("d")], handler(names))
                .route_json("type", "chat", handler(names))
                .default_handler(handler(names))
        };
        for mut routes in [fill(early(Routes::new())), early(fill(Routes::new()))] {
            routes.build(&[tag("a")]);
            // What is built twice is not layered twice.
            routes.build(&[tag("a")]);
            assert_eq!(answer(&routes, "/own x").as_deref(), Some("a(b(c(d(abcd))))"));
            assert_eq!(answer(&routes, r#"{"type":"chat"}"#).as_deref(), Some("a(b(c(abc)))"));
            assert_eq!(answer(&routes, "x").as_deref(), Some("a(b(c(abc)))"));
        }
    }

    /// Defect C12, behind middleware too.
    #[test]
    fn a_routed_message_may_be_json() {
        let mut routes = Routes::new().route("/n", handler(|Json(n): Json<u8>| n.to_string()));
        assert_eq!(answer(&routes, "/n 7").as_deref(), Some("7"));
        routes.build(&[tag("a")]);
        assert_eq!(answer(&routes, "/n 7").as_deref(), Some("a(7)"));
        // Middleware may make it another message.
        let strip = from_fn(|_, connection, state, extensions, next| {
            next.run(Message::text("8"), connection, state, extensions)
        });
        routes.build(&[strip]);
        assert_eq!(answer(&routes, "/n 7").as_deref(), Some("8"));
    }

    #[test]
    fn the_request_is_wanted_if_anybody_wants_it() {
        struct Wants;
        impl Middleware for Wants {
            fn handle<'life0, 'async_trait>(
                &'life0 self,
                _: Message,
                _: crate::router::Connection,
                _: crate::router::AppState,
                _: Extensions,
                _: crate::router::Next,
            ) -> crate::router::Answering<'async_trait>
            where
                'life0: 'async_trait,
                Self: 'async_trait,
            {
                Box::pin(async { Ok(None) })
            }

            fn wants_request(&self) -> bool {
                true
            }
        }
        let wants = || handler(|_: Path<u8>| ());
        assert!(Routes::new().route("/a", wants()).wants_request());
        assert!(Routes::new().route_json("a", "b", wants()).wants_request());
        let mut routes = Routes::new().default_handler(wants());
        assert!(routes.wants_request());
        routes.build(&[tag("a")]);
        assert!(routes.wants_request());
        let mut routes = Routes::new().default_handler(named("a"));
        assert!(!routes.wants_request());
        routes.build(&[Arc::new(Wants)]);
        assert!(routes.wants_request());
    }

    #[test]
    fn it_says_whether_it_is_empty_and_what_it_has() {
        assert!(Routes::new().layer(tag("a")).is_empty());
        let routes = [
            Routes::new().route("/a", named("a")),
            Routes::new().route_json("a", "b", named("a")),
            Routes::new().default_handler(named("a")),
        ];
        assert!(!routes.iter().any(Routes::is_empty));
        assert_eq!(
            format!("{:?}", routes[0].clone().route_json("b", "c", named("a"))),
            r#"Routes { words: ["/a"], fields: [("b", ["c"])], default: false, .. }"#,
        );
    }
}
