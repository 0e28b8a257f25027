use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::params::{Fields, Params};
use super::{
    AppState, Connection, ConnectionInfo, Error, Extensions, Message, Received, Request, Result,
};

/// What a handler may take: made from a message that is still in the read buffer, and from what
/// surrounds it.
///
/// ```
/// use wsforge::router::{Extract, Received, Result, handler};
///
/// struct Len(usize);
///
/// impl Extract for Len {
///     fn extract(received: &Received<'_>) -> Result<Self> {
///         Ok(Self(received.bytes.len()))
///     }
/// }
///
/// handler(|Len(n): Len| format!("{n} bytes"));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that a handler may take",
    label = "cannot be extracted",
    note = "a handler takes `Message`, `Json`, `Data`, `Connection`, `State` and what else implements `Extract`"
)]
pub trait Extract: Sized + Send + 'static {
    /// Whether it looks at [`Connection::request`], which is kept only if some handler wants it.
    const WANTS_REQUEST: bool = false;

    /// Makes one.
    ///
    /// # Errors
    ///
    /// Why there is none; the handler is not called then.
    fn extract(received: &Received<'_>) -> Result<Self>;
}

impl Extract for Message {
    fn extract(received: &Received<'_>) -> Result<Self> {
        Ok(received.to_message())
    }
}

/// Reads the JSON that the message is, behind the route word if there is one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Json<T>(pub T);

impl<T: Serialize> Json<T> {
    /// A text that is the JSON of the value.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if it has none.
    pub fn into_message(self) -> Result<Message> {
        Message::from_json(&self.0)
    }
}

/// Fails with [`Error::InvalidMessage`] for what is no text, with [`Error::Json`] for what is not the JSON
/// of a `T`.
impl<T: DeserializeOwned + Send + 'static> Extract for Json<T> {
    fn extract(received: &Received<'_>) -> Result<Self> {
        let text = received.text().and_then(|text| text.get(received.routed..));
        Ok(Self(serde_json::from_str(text.ok_or(Error::InvalidMessage)?)?))
    }
}

/// The message's bytes, whatever it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Data(pub Vec<u8>);

impl Extract for Data {
    fn extract(received: &Received<'_>) -> Result<Self> {
        Ok(Self(received.bytes.to_vec()))
    }
}

impl Extract for Connection {
    fn extract(received: &Received<'_>) -> Result<Self> {
        Ok(received.connection.clone())
    }
}

/// Who the connection is to, and since when.
#[derive(Clone, Debug)]
pub struct ConnectInfo(pub ConnectionInfo);

impl Extract for ConnectInfo {
    fn extract(received: &Received<'_>) -> Result<Self> {
        Ok(Self(received.connection.info().clone()))
    }
}

/// The value of this type that [`Router::with_state`](super::Router::with_state) was given; `T` may be
/// an `Arc`, too.
#[derive(Clone, Debug)]
pub struct State<T>(pub Arc<T>);

impl<T: Send + Sync + 'static> Extract for State<T> {
    fn extract(received: &Received<'_>) -> Result<Self> {
        received.state.get().map(Self).ok_or_else(|| missing::<T>("state"))
    }
}

impl Extract for AppState {
    fn extract(received: &Received<'_>) -> Result<Self> {
        Ok(received.state.clone())
    }
}

impl Extract for Extensions {
    fn extract(received: &Received<'_>) -> Result<Self> {
        Ok(received.extensions.clone())
    }
}

/// The value of this type that middleware has left last.
#[derive(Clone, Debug)]
pub struct Extension<T>(pub Arc<T>);

impl<T: Send + Sync + 'static> Extract for Extension<T> {
    fn extract(received: &Received<'_>) -> Result<Self> {
        received.extensions.get_by_type().map(Self).ok_or_else(|| missing::<T>("extension"))
    }
}

/// What the parameters of the URL's path stand for: one value, a tuple of them in their order, or a
/// struct or map with their names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send + 'static> Extract for Path<T> {
    const WANTS_REQUEST: bool = true;

    fn extract(received: &Received<'_>) -> Result<Self> {
        T::deserialize(Params(request(received)?.params())).map(Self).map_err(Error::extractor)
    }
}

/// What the query of the URL says: a struct or map with the names that stand there, or a `Vec` of pairs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Send + 'static> Extract for Query<T> {
    const WANTS_REQUEST: bool = true;

    fn extract(received: &Received<'_>) -> Result<Self> {
        let query = request(received)?.query().unwrap_or_default();
        let fields = Fields::new(form_urlencoded::parse(query.as_bytes()));
        T::deserialize(fields).map(Self).map_err(Error::extractor)
    }
}

/// The request that the connection was opened with, for its headers and cookies.
impl Extract for Arc<Request> {
    const WANTS_REQUEST: bool = true;

    fn extract(received: &Received<'_>) -> Result<Self> {
        request(received).cloned()
    }
}

/// What is there, or not.
impl<E: Extract> Extract for Option<E> {
    const WANTS_REQUEST: bool = E::WANTS_REQUEST;

    fn extract(received: &Received<'_>) -> Result<Self> {
        Ok(E::extract(received).ok())
    }
}

/// What is there, or why not.
impl<E: Extract> Extract for Result<E> {
    const WANTS_REQUEST: bool = E::WANTS_REQUEST;

    fn extract(received: &Received<'_>) -> Result<Self> {
        Ok(E::extract(received))
    }
}

fn request<'a>(received: &Received<'a>) -> Result<&'a Arc<Request>> {
    received.connection.request().ok_or_else(|| Error::extractor("the request was not kept"))
}

fn missing<T>(what: &str) -> Error {
    Error::extractor(format_args!("there is no {what} of type {}", std::any::type_name::<T>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::MessageType;
    use crate::router::testing::Around;

    fn extract<E: Extract>(around: &Around, message: impl Into<Message>) -> Result<E> {
        around.receive(message.into(), E::extract)
    }

    #[test]
    fn a_message_and_its_bytes_are_copied() {
        let around = Around { routed: 3, ..Around::new() };
        assert_eq!(extract::<Message>(&around, "/a b").unwrap(), Message::text("/a b"));
        assert_eq!(extract::<Data>(&around, "/a b").unwrap(), Data("/a b".into()));
        let binary = extract::<Message>(&around, vec![1]).unwrap();
        assert_eq!((binary.msg_type, binary.data), (MessageType::Binary, vec![1]));
    }

    #[test]
    fn json_is_read_behind_the_route_word() {
        let plain = Around::new();
        assert_eq!(extract::<Json<[u8; 2]>>(&plain, "[1,2]").unwrap(), Json([1, 2]));
        let routed = Around { routed: 3, ..Around::new() };
        assert_eq!(extract::<Json<u8>>(&routed, "/a 7").unwrap(), Json(7));
        let all_of_it = Around { routed: 2, ..Around::new() };
        assert!(matches!(extract::<Json<u8>>(&all_of_it, "/a"), Err(Error::Json(_))));
        assert!(matches!(extract::<Json<u8>>(&plain, "a"), Err(Error::Json(_))));
        assert!(matches!(extract::<Json<u8>>(&plain, vec![b'7']), Err(Error::InvalidMessage)));
        assert_eq!(Json("a").into_message().unwrap(), Message::text("\"a\""));
    }

    #[test]
    fn state_is_found_as_it_is_and_in_an_arc() {
        let around = Around::new();
        let value = Arc::new(String::from("a"));
        around.state.insert(value.clone());
        let State(found) = extract::<State<String>>(&around, "").unwrap();
        assert!(Arc::ptr_eq(&found, &value));
        let State(found) = extract::<State<Arc<String>>>(&around, "").unwrap();
        assert!(Arc::ptr_eq(&*found, &value));
        let all = extract::<AppState>(&around, "").unwrap();
        assert!(Arc::ptr_eq(&all.get().unwrap(), &value));
        let missing = extract::<State<u8>>(&around, "").unwrap_err().to_string();
        assert_eq!(missing, "cannot extract: there is no state of type u8");
    }

    #[test]
    fn an_extension_is_found_by_its_type() {
        let around = Around::new();
        let missing = extract::<Extension<u8>>(&around, "").unwrap_err().to_string();
        assert_eq!(missing, "cannot extract: there is no extension of type u8");
        around.extensions.insert("n", 7_u8);
        assert_eq!(*extract::<Extension<u8>>(&around, "").unwrap().0, 7);
        let all = extract::<Extensions>(&around, "").unwrap();
        assert_eq!(all.get::<u8>("n").as_deref(), Some(&7));
    }

    #[test]
    fn the_connection_is_the_one_of_the_message() {
        let around = Around::new();
        extract::<Connection>(&around, "").unwrap().send("a".into()).unwrap();
        assert_eq!(around.connection.sent(), [Message::text("a")]);
        let ConnectInfo(info) = extract(&around, "").unwrap();
        assert_eq!(&info.id, around.connection.id());
    }

    #[test]
    fn the_request_is_there_if_it_was_kept() {
        let request = Request::stand_in(Some("room=a%20b"), &[("id", "7")]);
        let kept = Around::with_request(Some(request));
        assert_eq!(extract::<Path<u8>>(&kept, "").unwrap(), Path(7));
        assert!(matches!(extract::<Query<u8>>(&kept, ""), Err(Error::Extractor(_))));
        let Query(pairs) = extract::<Query<Vec<(String, String)>>>(&kept, "").unwrap();
        assert_eq!(pairs, [("room".into(), "a b".into())]);
        let request = extract::<Arc<Request>>(&kept, "").unwrap();
        assert_eq!(request.query(), Some("room=a%20b"));
        assert!(matches!(extract::<Path<bool>>(&kept, ""), Err(Error::Extractor(_))));

        let not_kept = Around::new();
        assert!(matches!(extract::<Path<u8>>(&not_kept, ""), Err(Error::Extractor(_))));
        assert!(matches!(extract::<Query<()>>(&not_kept, ""), Err(Error::Extractor(_))));
        assert!(matches!(extract::<Arc<Request>>(&not_kept, ""), Err(Error::Extractor(_))));
    }

    #[test]
    fn what_may_be_missing_is_an_option_or_a_result() {
        let around = Around::new();
        assert_eq!(extract::<Option<Json<u8>>>(&around, "7").unwrap(), Some(Json(7)));
        assert_eq!(extract::<Option<Json<u8>>>(&around, "a").unwrap(), None);
        assert_eq!(extract::<Result<Json<u8>>>(&around, "7").unwrap().unwrap(), Json(7));
        let failed = extract::<Result<Json<u8>>>(&around, "a").unwrap();
        assert!(matches!(failed, Err(Error::Json(_))));
    }
}
