use std::sync::Arc;
use std::time::Instant;

use super::{Answering, AppState, Connection, Extensions, Message, Middleware, Next};

/// A middleware that logs each message with `tracing`: who sent it, its kind and length, how long it
/// took, and the answer's length or the error.
#[derive(Clone, Copy, Debug)]
pub struct LoggerMiddleware {
    level: LogLevel,
}

/// How important it is what a [`LoggerMiddleware`] says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogLevel {
    /// `tracing`'s `TRACE`.
    Trace,
    /// `tracing`'s `DEBUG`.
    Debug,
    /// `tracing`'s `INFO`.
    #[default]
    Info,
}

impl LoggerMiddleware {
    /// Logs at [`LogLevel::Info`].
    pub fn new() -> Arc<Self> {
        Self::with_level(LogLevel::default())
    }

    /// Logs at this level.
    pub fn with_level(level: LogLevel) -> Arc<Self> {
        Arc::new(Self { level })
    }
}

impl Middleware for LoggerMiddleware {
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
        let level = self.level;
        Box::pin(async move {
            let (kind, len) = (message.msg_type, message.data.len());
            let (begun, from) = (Instant::now(), connection.clone());
            let result = next.run(message, connection, state, extensions).await;
            let took = begun.elapsed();
            let answer =
                result.as_ref().ok().and_then(Option::as_ref).map(|answer| answer.data.len());
            // Some errors quote the peer, who is not to write lines of its own.
            let error = result.as_ref().err().map(|error| escaped(&error.to_string()));
            let error = error.as_deref().map(tracing::field::display);
            // The level of an event is a part of its program.
            macro_rules! log {
                ($event:ident) => {
                    tracing::$event!(
                        connection = %from.id(), ?kind, len, ?took, answer, error, "message"
                    )
                };
            }
            match level {
                LogLevel::Trace => log!(trace),
                LogLevel::Debug => log!(debug),
                LogLevel::Info => log!(info),
            }
            result
        })
    }
}

/// A text without control characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;
    use crate::router::testing::{Around, now};
    use crate::router::{Error, MiddlewareChain, handler};

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            if field.name() != "took" {
                self.0 += &format!(" {}={value:?}", field.name());
            }
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut line = Line(event.metadata().level().to_string());
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_message_is_logged_with_what_became_of_it() {
        let echo = || handler(|message: Message| message);
        let fail = handler(|| Err::<(), _>(Error::Full));
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            for (logger, handler) in [
                (LoggerMiddleware::new(), echo()),
                (LoggerMiddleware::with_level(LogLevel::Debug), fail),
                (LoggerMiddleware::with_level(LogLevel::Trace), handler(|| ())),
            ] {
                let chain = MiddlewareChain::new().layer(logger).handler(handler);
                let Around { connection, state, extensions, .. } = Around::new();
                let _ = now(chain.execute("abc".into(), connection, state, extensions));
            }
        });
        let id = Around::new().connection.id().clone();
        let lines = log.0.lock().unwrap();
        assert_eq!(
            *lines,
            [
                format!("INFO message=message connection={id} kind=Text len=3 answer=3"),
                format!(
                    "DEBUG message=message connection={id} kind=Text len=3 \
                     error=too much waits for the peer"
                ),
                format!("TRACE message=message connection={id} kind=Text len=3"),
            ]
        );
    }
    /// Attack D12.
    #[test]
    fn what_an_error_quotes_of_the_peer_is_escaped() {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            let fail = handler(|message: Message| {
                Err::<(), _>(Error::handler(message.as_text().unwrap_or_default()))
            });
            let chain = MiddlewareChain::new().layer(LoggerMiddleware::new()).handler(fail);
            let Around { connection, state, extensions, .. } = Around::new();
            let sent = "a\nINFO b\u{1b}[31m\u{9b}é";
            let _ = now(chain.execute(sent.into(), connection, state, extensions));
        });
        let lines = log.0.lock().unwrap();
        assert!(lines[0].ends_with(r"error=a\nINFO b\u{1b}[31m\u{9b}é"), "{lines:?}");
    }
}
