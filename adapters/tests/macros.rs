//! What the macros write compiles and does what they say.

mod raw;
mod router;

use std::collections::BTreeMap;
use std::sync::Arc;

use raw::Flavor;
use router::Started;
use serde::{Deserialize, Serialize};
use tokio::sync::RwLock;
use wsforge::prelude::*;
use wsforge::proto::frame::Opcode;

/// What a peer gets for these texts.
fn answers(router: Router, texts: &[&str]) -> Vec<String> {
    let server = Started::new(Flavor::ANY, router);
    let mut peer = server.open();
    let answers = texts.iter().map(|text| {
        peer.send_frame(Opcode::Text, text);
        String::from_utf8(peer.frame().payload).unwrap()
    });
    let answers = answers.collect();
    peer.close();
    server.stop();
    answers
}

#[websocket_handler]
/// Kept, as are the attributes.
#[deprecated]
pub(crate) async fn documented(message: Message) -> Result<Message> {
    Ok(message)
}

#[websocket_handler]
#[allow(clippy::needless_lifetimes, reason = "they are no trouble either")]
fn lent<'a>(text: &'a str, _: Connection) -> &'a str {
    text
}

#[websocket_handler]
async fn generic<T>(Json(value): Json<T>) -> String
where
    T: for<'de> Deserialize<'de> + ToString + Send + 'static,
{
    value.to_string()
}

#[websocket_handler]
#[cfg(any())]
fn not_there(_: Nothing) {}

/// Defect C16.
#[test]
fn a_marked_function_stays_as_it_is() {
    #[expect(deprecated)]
    let documented = handler(documented);
    let router = Router::new()
        .route("/documented", documented)
        .route("/lent", handler(lent))
        .route("/generic", handler(generic::<u8>));
    let texts = ["/documented a", "/lent a", "/generic 7"];
    assert_eq!(answers(router, &texts), ["/documented a", "/lent a", "7"]);
}

#[derive(Debug, Deserialize, PartialEq, Serialize, WebSocketMessage)]
struct Chat {
    from: String,
    text: String,
}

#[derive(Debug, Deserialize, PartialEq, Serialize, WebSocketMessage)]
enum Tagged<T>
where
    T: Clone,
{
    One(T),
    Two { a: T },
}

/// Defect C16.
#[test]
fn a_message_of_a_type_is_its_json() {
    let chat = Chat { from: "Ada".into(), text: "hello".into() };
    let message = chat.into_message();
    assert_eq!(message, Message::text(r#"{"from":"Ada","text":"hello"}"#));
    assert_eq!(Chat::from_message(message).unwrap(), chat);
    assert!(matches!(Chat::from_message(Message::text("{}")), Err(Error::Json(_))));
    assert!(matches!(Chat::from_message(Message::binary("{}")), Err(Error::InvalidMessage)));
    for tagged in [Tagged::One(7), Tagged::Two { a: 8 }] {
        assert_eq!(Tagged::from_message(tagged.into_message()).unwrap(), tagged);
    }
}

#[test]
#[should_panic(expected = "no JSON")]
fn what_has_no_json_is_no_message() {
    #[derive(Deserialize, Serialize, WebSocketMessage)]
    struct Odd(BTreeMap<(u8, u8), u8>);
    Odd(BTreeMap::from([((1, 2), 3)])).into_message();
}

/// Nothing of it can be cloned.
#[derive(WebSocketHandler)]
struct Counter<T>
where
    T: Copy + Into<u64> + Send + Sync + 'static,
{
    count: RwLock<u64>,
    step: T,
}

impl<T: Copy + Into<u64> + Send + Sync + 'static> Counter<T> {
    async fn handle(
        &self,
        message: Message,
        _conn: Connection,
        _state: AppState,
        extensions: Extensions,
    ) -> Result<Option<Message>> {
        let mut count = self.count.write().await;
        *count += self.step.into();
        let name = extensions.get::<String>("name");
        let name = name.as_ref().map_or("nobody", |name| name);
        Ok(message.is_text().then(|| Message::text(format!("{name} {count}"))))
    }
}

/// Defect C16.
#[test]
fn a_type_that_handles_is_a_handler_which_is_shared() {
    let name =
        from_fn(|message, connection, state, extensions: Extensions, next: Next| async move {
            extensions.insert("name", String::from("Ada"));
            next.run(message, connection, state, extensions).await
        });
    let counter = Arc::new(Counter { count: RwLock::new(0), step: 2_u32 });
    let router = Router::new()
        .route("/count", counter.clone())
        .route_with_layers("/named", vec![name], counter.clone())
        .default_handler(counter.clone());
    let texts = ["/count", "/named", "other", "/count"];
    assert_eq!(answers(router, &texts), ["nobody 2", "Ada 4", "nobody 6", "nobody 8"]);
    assert_eq!(*counter.count.blocking_read(), 8);
}

/// Defect C16.
#[test]
fn a_table_of_routes_is_a_router() {
    let router = routes! {
        "/upper" => |text: &str| text.to_uppercase(),
        String::from("/later") => async || "later",
        _ => |_: Message| "default",
    };
    let texts = ["/upper a", "/later", "other"];
    assert_eq!(answers(router, &texts), ["/UPPER A", "later", "default"]);
    let router = routes!().default_handler(handler(|_: Message| "empty"));
    assert_eq!(answers(router, &["a"]), ["empty"]);
}
