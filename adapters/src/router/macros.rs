/// A [`Router`](crate::router::Router) with these routes: words with the functions that handle their
/// messages, and `_` with the one that handles all others.
///
/// ```
/// use wsforge::prelude::*;
///
/// async fn echo(message: Message) -> Result<Message> {
///     Ok(message)
/// }
///
/// let router = wsforge::routes! {
///     "/echo" => echo,
///     "/len" => |text: &str| text.len().to_string(),
///     _ => |_: Message| "what?",
/// };
/// let empty = wsforge::routes!();
/// # drop((router, empty));
/// ```
#[macro_export]
macro_rules! routes {
    ($($routes:tt)*) => {
        $crate::__routes!($crate::router::Router::new(); $($routes)*)
    };
}

/// Adds one route after another.
#[doc(hidden)]
#[macro_export]
macro_rules! __routes {
    ($router:expr;) => {
        $router
    };
    ($router:expr; _ => $f:expr $(, $($routes:tt)*)?) => {
        $crate::__routes!($router.default_handler($crate::router::handler($f)); $($($routes)*)?)
    };
    ($router:expr; $word:expr => $f:expr $(, $($routes:tt)*)?) => {
        $crate::__routes!($router.route($word, $crate::router::handler($f)); $($($routes)*)?)
    };
}
