use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::{Error, Extract, Handler, IntoResponse, Message, Outcome, Received, Reply, Result};

/// Makes a handler of a function or closure, `async` or not, of up to eight arguments that implement
/// [`Extract`] and a result that implements [`IntoResponse`].
///
/// The first argument of a plain function may also be `&str` or `&[u8]`: the message where it lies.
/// [`handlers`](super::handlers) tells more, and what to do if it does not compile.
///
/// ```
/// use wsforge::router::{Connection, Json, Message, Result, handler};
///
/// async fn echo(message: Message) -> Result<Message> {
///     Ok(message)
/// }
///
/// fn shout(text: &str) -> String {
///     text.to_uppercase()
/// }
///
/// handler(echo);
/// handler(shout);
/// handler(|Json(n): Json<u32>, connection: Connection| format!("{}: {n}", connection.id()));
/// ```
pub fn handler<F, M>(f: F) -> Arc<dyn Handler>
where
    HandlerService<F, M>: Handler,
{
    Arc::new(HandlerService::new(f))
}

/// A function as a handler. `M` says what kind of function it is, and what it takes.
pub struct HandlerService<F, M> {
    f: F,
    kind: PhantomData<fn() -> M>,
}

impl<F, M> HandlerService<F, M> {
    /// Makes a handler of a function.
    pub const fn new(f: F) -> Self {
        Self { f, kind: PhantomData }
    }
}

impl<F, M> fmt::Debug for HandlerService<F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerService").finish_non_exhaustive()
    }
}

/// Functions that are over when they return.
#[derive(Debug)]
pub enum Plain {}

/// Functions that give a future.
#[derive(Debug)]
pub enum Async {}

/// Plain functions whose first argument is lent: a `&B`.
#[derive(Debug)]
pub struct Lent<B: ?Sized>(PhantomData<fn(&B)>);

/// What can be lent of a message.
pub trait Lend: 'static {
    /// The message where it lies.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidMessage`] if it is something else.
    fn lend<'a>(received: &Received<'a>) -> Result<&'a Self>;
}

impl Lend for str {
    fn lend<'a>(received: &Received<'a>) -> Result<&'a Self> {
        received.text().ok_or(Error::InvalidMessage)
    }
}

impl Lend for [u8] {
    fn lend<'a>(received: &Received<'a>) -> Result<&'a Self> {
        Ok(received.bytes)
    }
}

/// A function of something lent and of the extractors `T`; its result may borrow from what was lent.
pub trait LentFn<'a, B: ?Sized, T> {
    /// What it gives.
    type Response: IntoResponse;

    /// Calls it.
    fn call_lent(&self, lent: &'a B, extracted: T) -> Self::Response;
}

pin_project! {
    /// Makes a response of what a future gives.
    struct Responding<U> {
        #[pin]
        future: U,
    }
}

impl<U: Future<Output: IntoResponse>> Future for Responding<U> {
    type Output = Result<Option<Message>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map(IntoResponse::into_response)
    }
}

/// Extracts each of these, or ends the call.
macro_rules! extract {
    ($received:ident $($T:ident)*) => {$(
        #[allow(non_snake_case)]
        let $T = match $T::extract($received) {
            Ok(extracted) => extracted,
            Err(error) => return Outcome::Done(Err(error)),
        };
    )*};
}

macro_rules! functions_of {
    ($($T:ident)*) => {
        #[diagnostic::do_not_recommend]
        impl<F, R, $($T,)*> Handler for HandlerService<F, (Plain, $($T,)*)>
        where
            F: Fn($($T),*) -> R + Send + Sync + 'static,
            R: IntoResponse,
            $($T: Extract,)*
        {
            #[allow(unused_variables)]
            fn call(&self, received: &Received<'_>, reply: &mut Reply<'_>) -> Outcome {
                extract!(received $($T)*);
                Outcome::Done((self.f)($($T),*).respond(reply))
            }

            fn wants_request(&self) -> bool {
                false $(|| $T::WANTS_REQUEST)*
            }
        }

        #[diagnostic::do_not_recommend]
        impl<F, U, $($T,)*> Handler for HandlerService<F, (Async, $($T,)*)>
        where
            F: Fn($($T),*) -> U + Send + Sync + 'static,
            U: Future<Output: IntoResponse> + Send + 'static,
            $($T: Extract,)*
        {
            #[allow(unused_variables)]
            fn call(&self, received: &Received<'_>, _: &mut Reply<'_>) -> Outcome {
                extract!(received $($T)*);
                Outcome::Later(Box::pin(Responding { future: (self.f)($($T),*) }))
            }

            fn wants_request(&self) -> bool {
                false $(|| $T::WANTS_REQUEST)*
            }
        }
    };
}

macro_rules! functions_of_lent_and {
    ($($T:ident)*) => {
        impl<'a, B, F, R, $($T,)*> LentFn<'a, B, ($($T,)*)> for F
        where
            B: ?Sized + 'a,
            F: Fn(&'a B, $($T),*) -> R,
            R: IntoResponse,
        {
            type Response = R;

            #[allow(non_snake_case)]
            fn call_lent(&self, lent: &'a B, ($($T,)*): ($($T,)*)) -> R {
                self(lent, $($T),*)
            }
        }

        #[diagnostic::do_not_recommend]
        impl<F, B, $($T,)*> Handler for HandlerService<F, (Lent<B>, $($T,)*)>
        where
            B: Lend + ?Sized,
            F: for<'a> LentFn<'a, B, ($($T,)*)> + Send + Sync + 'static,
            $($T: Extract,)*
        {
            fn call(&self, received: &Received<'_>, reply: &mut Reply<'_>) -> Outcome {
                extract!(received $($T)*);
                let lent = match B::lend(received) {
                    Ok(lent) => lent,
                    Err(error) => return Outcome::Done(Err(error)),
                };
                Outcome::Done(self.f.call_lent(lent, ($($T,)*)).respond(reply))
            }

            fn wants_request(&self) -> bool {
                false $(|| $T::WANTS_REQUEST)*
            }
        }
    };
}

functions_of!();
functions_of!(T1);
functions_of!(T1 T2);
functions_of!(T1 T2 T3);
functions_of!(T1 T2 T3 T4);
functions_of!(T1 T2 T3 T4 T5);
functions_of!(T1 T2 T3 T4 T5 T6);
functions_of!(T1 T2 T3 T4 T5 T6 T7);
functions_of!(T1 T2 T3 T4 T5 T6 T7 T8);

functions_of_lent_and!();
functions_of_lent_and!(T2);
functions_of_lent_and!(T2 T3);
functions_of_lent_and!(T2 T3 T4);
functions_of_lent_and!(T2 T3 T4 T5);
functions_of_lent_and!(T2 T3 T4 T5 T6);
functions_of_lent_and!(T2 T3 T4 T5 T6 T7);
functions_of_lent_and!(T2 T3 T4 T5 T6 T7 T8);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wsforge_core::{Kind, SendError};

    use super::*;
    use crate::router::response::Wire;
    use crate::router::testing::{Around, now};
    use crate::router::{Connection, Data, Json, Path, Query, State};

    /// What the peer gets when `handler` handles a text, or what the error says.
    fn answer(handler: &Arc<dyn Handler>, message: impl Into<Message>) -> String {
        let around = Around::new();
        around.state.insert(Arc::new(7_u8));
        match around.call(&**handler, message) {
            Ok(sent) => format!("{sent:?}"),
            Err(error) => error.to_string(),
        }
    }

    async fn echo(message: Message) -> Result<Message> {
        Ok(message)
    }

    fn upper(text: &str, State(n): State<Arc<u8>>, _: Connection) -> String {
        format!("{}{n}", text.to_uppercase())
    }

    fn second(text: &str) -> &str {
        text.split(' ').nth(1).unwrap_or_default()
    }

    fn number(text: &str) -> Result<&str> {
        if text.parse::<u8>().is_ok() { Ok(text) } else { Err(Error::custom("no number")) }
    }

    fn rest(bytes: &[u8]) -> Option<&[u8]> {
        bytes.get(1..)
    }

    #[test]
    fn functions_and_closures_of_all_kinds_are_handlers() {
        let all: [(Arc<dyn Handler>, &str); 14] = [
            (handler(echo), r#"[Text("a b")]"#),
            (handler(upper), r#"[Text("A B7")]"#),
            (handler(second), r#"[Text("b")]"#),
            (handler(number), "no number"),
            (handler(rest), "[Binary([32, 98])]"),
            (handler(|| async {}), "[]"),
            (handler(|| ()), "[]"),
            (handler(|message: Message| async move { Ok(message) }), r#"[Text("a b")]"#),
            (handler(|message: Message| message), r#"[Text("a b")]"#),
            (handler(async |Data(data): Data| data), "[Binary([97, 32, 98])]"),
            (handler(|text: &str| text.len().to_string()), r#"[Text("3")]"#),
            (handler(|bytes: &[u8], _: Message| bytes.to_vec()), "[Binary([97, 32, 98])]"),
            (handler(|Json(_): Json<u8>| ()), "expected value at line 1 column 1"),
            (handler(async || Err::<(), _>(Error::Full)), "too much waits for the peer"),
        ];
        for (handler, expected) in &all {
            assert_eq!(answer(handler, "a b"), *expected);
        }
        assert_eq!(answer(&all[3].0, "12"), r#"[Text("12")]"#);
        assert_eq!(answer(&all[2].0, &b"a b"[..]), "the message is invalid");
        assert_eq!(answer(&all[4].0, &b"a b"[..]), "[Binary([32, 98])]");
    }

    #[test]
    #[expect(clippy::too_many_arguments, reason = "that is the point")]
    fn up_to_eight_arguments_are_extracted_in_their_order() {
        type S = State<u8>;
        fn eight(a: &str, _: S, _: S, _: S, _: S, _: S, _: S, State(n): S) -> String {
            format!("{a} {n}")
        }
        async fn eight_later(a: Message, _: S, _: S, _: S, _: S, _: S, _: S, _: S) -> Message {
            a
        }
        fn first_fails(_: State<u16>, _: Json<u8>) {}
        fn last_fails(_: &str, _: State<u8>, _: State<u16>) {}
        assert_eq!(answer(&handler(eight), "a"), r#"[Text("a 7")]"#);
        assert_eq!(answer(&handler(eight_later), "a"), r#"[Text("a")]"#);
        let missing = "cannot extract: there is no state of type u16";
        assert_eq!(answer(&handler(first_fails), "a"), missing);
        assert_eq!(answer(&handler(last_fails), "a"), missing);
    }

    #[test]
    fn a_handler_knows_whether_it_wants_the_request() {
        assert!(handler(|_: Path<u8>| ()).wants_request());
        assert!(handler(|_: Message, _: Option<Query<()>>| async {}).wants_request());
        assert!(handler(|_: &str, _: Result<Path<u8>>| ()).wants_request());
        assert!(![handler(echo), handler(upper), handler(|| ())].iter().any(|h| h.wants_request()));
    }

    /// A peer that keeps nothing.
    struct Nowhere;

    impl Wire for Nowhere {
        fn copy(&mut self, _: Kind, _: &[u8]) -> Result<(), SendError> {
            Ok(())
        }

        fn share(&mut self, _: Kind, _: Bytes) -> Result<(), SendError> {
            Ok(())
        }
    }

    fn allocations(handler: &Arc<dyn Handler>) -> u64 {
        let around = Around::new();
        around.receive("a text of some length".into(), |received| {
            let count = allocation_counter::measure(|| {
                let mut nowhere = Nowhere;
                let mut reply = Reply::to(&mut nowhere, &around.connection);
                match handler.call(received, &mut reply) {
                    Outcome::Done(result) => result.unwrap(),
                    Outcome::Later(future) => {
                        reply.message(now(future).unwrap().unwrap()).unwrap();
                    }
                }
            });
            count.count_total
        })
    }

    #[test]
    fn plain_functions_allocate_nothing_and_async_ones_a_future_and_a_copy() {
        fn same(bytes: &[u8]) -> &[u8] {
            bytes
        }
        assert_eq!(allocations(&handler(second)), 0);
        assert_eq!(allocations(&handler(same)), 0);
        assert_eq!(allocations(&handler(|_: Connection| "a")), 0);
        assert_eq!(allocations(&handler(|message: Message| message)), 1);
        assert_eq!(allocations(&handler(echo)), 2);
    }
}
