use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use wsforge_core::Text;

use super::{
    AppState, Connection, Extensions, Handler, Message, MessageType, Outcome, Received, Reply,
    Result,
};

/// What stands around handlers: it sees a message before they do, and their answer before the peer does.
///
/// [`from_fn`] makes one of a function. On a type of your own, `#[async_trait]` of the crate `async-trait`
/// lets `handle` be an `async fn`.
///
/// ```
/// use wsforge::router::{Error, from_fn};
///
/// let quiet = from_fn(|message, connection, state, extensions, next| async move {
///     if message.as_bytes().len() > 1024 {
///         return Err(Error::custom("too loud"));
///     }
///     next.run(message, connection, state, extensions).await
/// });
/// # drop(quiet);
/// ```
pub trait Middleware: Send + Sync + 'static {
    /// Handles a message: by itself, or by giving it, or another one, to `next`.
    // As `#[async_trait]` writes `async fn handle(&self, ..)`, so that an implementation may use it.
    fn handle<'life0, 'async_trait>(
        &'life0 self,
        message: Message,
        connection: Connection,
        state: AppState,
        extensions: Extensions,
        next: Next,
    ) -> Answering<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait;

    /// Whether it looks at [`Connection::request`], which is kept only then.
    fn wants_request(&self) -> bool {
        false
    }
}

/// An answer that is not there yet, or none.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Option<Message>>> + Send + 'a>>;

/// What comes after a middleware: the next one, or the handler.
pub struct Next {
    chain: Arc<MiddlewareChain>,
    at: usize,
}

impl Next {
    /// What begins with the middleware `at` this place of the chain.
    pub const fn new(chain: Arc<MiddlewareChain>, at: usize) -> Self {
        Self { chain, at }
    }

    /// Handles the message, and gives the answer.
    ///
    /// # Errors
    ///
    /// What the handler, or middleware, has failed with.
    pub async fn run(
        self,
        message: Message,
        connection: Connection,
        state: AppState,
        extensions: Extensions,
    ) -> Result<Option<Message>> {
        if let Some(middleware) = self.chain.middlewares.get(self.at) {
            let next = Self::new(self.chain.clone(), self.at + 1);
            return middleware.handle(message, connection, state, extensions, next).await;
        }
        let mut slot = None;
        match self.chain.call(message, &connection, &state, &extensions, &mut slot) {
            Outcome::Done(result) => result.map(|()| slot),
            Outcome::Later(future) => {
                // Nothing of it is wanted any more.
                drop((self, connection, state, extensions));
                future.await
            }
        }
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("at", &self.at).finish_non_exhaustive()
    }
}

/// Middleware in its order, the outermost first, and the handler behind it.
#[derive(Clone, Default)]
pub struct MiddlewareChain {
    /// The outermost first.
    pub middlewares: Vec<Arc<dyn Middleware>>,
    /// What handles the messages in the end; without one, nothing does.
    pub handler: Option<Arc<dyn Handler>>,
    /// The word that has chosen the handler, or nothing.
    word: Box<str>,
}

impl MiddlewareChain {
    /// An empty chain.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a middleware inside the others.
    pub fn layer(mut self, middleware: Arc<dyn Middleware>) -> Self {
        self.middlewares.push(middleware);
        self
    }

    /// Sets the handler.
    pub fn handler(mut self, handler: Arc<dyn Handler>) -> Self {
        self.handler = Some(handler.clone().shared().unwrap_or(handler));
        self
    }

    /// Sets the word that a text begins with if this handler was chosen by it.
    pub(super) fn word(mut self, word: &str) -> Self {
        self.word = word.into();
        self
    }

    /// Handles a message.
    ///
    /// # Errors
    ///
    /// What the handler, or middleware, has failed with.
    pub async fn execute(
        &self,
        message: Message,
        connection: Connection,
        state: AppState,
        extensions: Extensions,
    ) -> Result<Option<Message>> {
        Next::new(Arc::new(self.clone()), 0).run(message, connection, state, extensions).await
    }

    /// Calls the handler.
    fn call(
        &self,
        message: Message,
        connection: &Connection,
        state: &AppState,
        extensions: &Extensions,
        slot: &mut Option<Message>,
    ) -> Outcome {
        let Some(handler) = &self.handler else { return Outcome::Done(Ok(())) };
        let Message { data, msg_type: kind } = message;
        let (data, text) = if kind == MessageType::Text {
            // Middleware may have made anything of it.
            match String::from_utf8(data) {
                Ok(text) => (Vec::new(), Some(Text::from(text))),
                Err(error) => return Outcome::Done(Err(error.into())),
            }
        } else {
            (data, None)
        };
        let bytes = text.as_ref().map_or(&*data, Text::as_bytes);
        // It need not begin with that word any more.
        let routed = if text.is_some() { routed(&self.word, bytes) } else { 0 };
        let lent = text.as_ref();
        let received =
            Received { kind, bytes, lent, spare: None, routed, connection, state, extensions };
        handler.call(&received, &mut Reply::slot(slot))
    }
}

/// The length of `word` and of the space behind it, if a text begins with them.
fn routed(word: &str, text: &[u8]) -> usize {
    match text.strip_prefix(word.as_bytes()) {
        Some([b' ', ..]) if !word.is_empty() => word.len() + 1,
        Some([]) => word.len(),
        _ => 0,
    }
}

impl fmt::Debug for MiddlewareChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MiddlewareChain")
            .field("middlewares", &self.middlewares.len())
            .finish_non_exhaustive()
    }
}

/// A handler with middleware around it.
pub(super) struct Layered(Arc<MiddlewareChain>);

impl Layered {
    pub(super) fn new(chain: MiddlewareChain) -> Self {
        Self(Arc::new(chain))
    }
}

impl Handler for Layered {
    fn call(&self, received: &Received<'_>, _: &mut Reply<'_>) -> Outcome {
        // A clone would need memory to share with it what is left here later, by nobody.
        let extensions = if received.extensions.is_empty() {
            Extensions::new()
        } else {
            received.extensions.clone()
        };
        let (connection, state) = (received.connection.clone(), received.state.clone());
        let next = Next::new(self.0.clone(), 0);
        Outcome::Later(Box::pin(next.run(received.to_message(), connection, state, extensions)))
    }

    fn wants_request(&self) -> bool {
        self.0.middlewares.iter().any(|middleware| middleware.wants_request())
            || self.0.handler.as_ref().is_some_and(|handler| handler.wants_request())
    }
}

/// Makes a middleware of a function.
pub fn from_fn<F, U>(f: F) -> Arc<FnMiddleware<F>>
where
    F: Fn(Message, Connection, AppState, Extensions, Next) -> U + Send + Sync + 'static,
    U: Future<Output = Result<Option<Message>>> + Send + 'static,
{
    Arc::new(FnMiddleware(f))
}

/// A function as a middleware, see [`from_fn`].
pub struct FnMiddleware<F>(F);

impl<F, U> Middleware for FnMiddleware<F>
where
    F: Fn(Message, Connection, AppState, Extensions, Next) -> U + Send + Sync + 'static,
    U: Future<Output = Result<Option<Message>>> + Send + 'static,
{
    fn handle<'life0, 'async_trait>(
        &'life0 self,
        message: Message,
        connection: Connection,
        state: AppState,
        extensions: Extensions,
        next: Next,
    ) -> Answering<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin((self.0)(message, connection, state, extensions, next))
    }
}

impl<F> fmt::Debug for FnMiddleware<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnMiddleware").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::router::testing::{Around, now};
    use crate::router::{Data, Error, Extension, handler};

    /// Written as for the API that this one is compatible with.
    struct Limit(usize);

    #[async_trait]
    impl Middleware for Limit {
        async fn handle(
            &self,
            message: Message,
            conn: Connection,
            state: AppState,
            extensions: Extensions,
            next: Next,
        ) -> Result<Option<Message>> {
            if message.as_bytes().len() > self.0 {
                return Ok(Some(Message::text("too long")));
            }
            extensions.insert("limit", self.0);
            next.run(message, conn, state, extensions).await
        }
    }

    fn run(chain: &MiddlewareChain, message: Message) -> Result<Option<Message>> {
        let Around { connection, state, extensions, .. } = Around::new();
        now(chain.execute(message, connection, state, extensions))
    }

    #[test]
    fn a_middleware_answers_by_itself_or_goes_on() {
        let limit = |Extension(n): Extension<usize>| n.to_string();
        let chain = MiddlewareChain::new().layer(Arc::new(Limit(3))).handler(handler(limit));
        assert_eq!(run(&chain, "abc".into()).unwrap(), Some("3".into()));
        assert_eq!(run(&chain, "abcd".into()).unwrap(), Some("too long".into()));
    }

    #[test]
    fn handlers_of_both_kinds_answer_and_fail_through_it() {
        let all = [
            handler(|Data(data): Data| data),
            handler(async |Data(data): Data| data),
            handler(|message: Message| Ok(message)),
            handler(async |message: Message| Ok(message)),
        ];
        for handler in all {
            let chain = MiddlewareChain::new().layer(Arc::new(Limit(3))).handler(handler);
            let message = Message::binary("abc");
            assert_eq!(run(&chain, message.clone()).unwrap(), Some(message));
        }
        for handler in
            [handler(|| Err::<(), _>(Error::Full)), handler(async || Err::<(), _>(Error::Full))]
        {
            let chain = MiddlewareChain::new().layer(Arc::new(Limit(3))).handler(handler);
            assert!(matches!(run(&chain, "abc".into()), Err(Error::Full)));
        }
        assert_eq!(
            run(&MiddlewareChain::new().layer(Arc::new(Limit(3))), "a".into()).unwrap(),
            None
        );
    }

    #[test]
    fn a_text_that_middleware_spoils_does_not_reach_the_handler() {
        let spoil =
            from_fn(|mut message: Message, connection, state, extensions, next| async move {
                message.data.push(0xFF);
                next.run(message, connection, state, extensions).await
            });
        let handler = handler(|_: Message| -> () { panic!("called") });
        let chain = MiddlewareChain::new().layer(spoil).handler(handler);
        assert!(matches!(run(&chain, "a".into()), Err(Error::InvalidMessage)));
    }

    #[test]
    fn what_is_left_before_is_there_and_what_is_left_later_is_seen_outside() {
        let around = Around::new();
        around.extensions.insert("before", 1_u8);
        let inner =
            from_fn(|message, connection, state, extensions: Extensions, next| async move {
                extensions.insert("later", 2_u16);
                next.run(message, connection, state, extensions).await
            });
        let both = |Extension(a): Extension<u8>, Extension(b): Extension<u16>| format!("{a} {b}");
        let layered = Layered::new(MiddlewareChain::new().layer(inner).handler(handler(both)));
        assert_eq!(around.call(&layered, "a").unwrap(), [Message::text("1 2")]);
        assert_eq!(around.extensions.get::<u16>("later").as_deref(), Some(&2));
    }
}
