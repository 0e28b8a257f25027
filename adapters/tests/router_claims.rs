//! Routers: what they tell those who run them, and what is told about them.

mod raw;
mod router;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use raw::{Flavor, REQUEST, frame};
use router::{Notes, Started, text};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use wsforge::proto::frame::Opcode;
use wsforge::proto::hub::Audience;
use wsforge::router::{Error, LoggerMiddleware, Message, Metrics, Result, Router, handler};

/// What is logged in this process by what is tested.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("wsforge")
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

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() != "took" {
            self.0 += &format!(" {}={value:?}", field.name());
        }
    }
}

/// Defect C19. One test for all kinds of runtime, as there is one log in a process.
#[test]
fn nothing_is_logged_unless_it_is_asked_for_and_everything_is_counted() {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    for flavor in Flavor::ALL.iter().copied() {
        let (note, notes) = Notes::new();
        let metrics = Arc::new(Metrics::new());
        let router = Router::new()
            .max_connections(3)
            .route("/fail", handler(|| -> Result<()> { Err(Error::custom("as it should")) }))
            .route("/panic", handler(|| -> () { panic!("as it should") }))
            .default_handler(handler(|message: Message| message))
            .on_disconnect(move |_, _| note.send(()).unwrap());
        let manager = router.connection_manager();
        let server = Started::new(flavor, router.clone().layer(metrics.clone()));
        let (mut peer, mut panics, breaks) = (server.open(), server.open(), server.open());
        assert_eq!(server.ask(REQUEST).0, 503);
        peer.echoes("hello");
        peer.send_frame(Opcode::Text, "/fail");
        assert_eq!(text(&mut peer), "Error: as it should");
        manager.send_to(Audience::All, Message::text("to all")).unwrap();
        panics.send_frame(Opcode::Text, "/panic");
        breaks.reset();
        assert_eq!((text(&mut peer), text(&mut panics)), ("to all".into(), "to all".into()));
        assert_eq!(panics.frame().code(), 1011);
        panics.send_frame(Opcode::Close, 1011_u16.to_be_bytes());
        peer.close();
        (0..3).for_each(|_| notes.next());
        let (counters, stats, report) = (manager.counters(), metrics.stats(), server.stop());
        assert_eq!(*log.0.lock().unwrap(), [""; 0]);
        assert_eq!((counters.accepted, counters.evicted, counters.unhandled), (3, 0, 0));
        assert_eq!((stats.messages_received, stats.bytes_received), (3, 16));
        assert_eq!((stats.messages_sent, stats.bytes_sent), (1, 5));
        assert_eq!((report.opened, report.turned_away, report.cut), (3, 1, 0));

        let server = Started::new(flavor, router.layer(LoggerMiddleware::new()));
        let mut peer = server.open();
        peer.send([frame(true, Opcode::Ping, b""), frame(true, Opcode::Text, b"hello")].concat());
        assert_eq!(peer.frame().opcode, Opcode::Pong);
        assert_eq!(text(&mut peer), "hello");
        peer.close();
        server.stop();
        let lines = std::mem::take(&mut *log.0.lock().unwrap());
        let [line] = &*lines else { panic!("one line for each message: {lines:?}") };
        assert!(line.starts_with("INFO ") && line.ends_with("kind=Text len=5 answer=5"), "{line}");
    }
}

/// Defect C21: words that promise more than a test can show.
#[test]
fn what_is_written_promises_nothing_that_nobody_can_test() {
    const WORDS: [&str; 8] = [
        "lock-free",
        "wait-free",
        "zero-copy",
        "blazing",
        "linear scaling",
        "scales linearly",
        "production-ready",
        "enterprise",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut left = vec![root.join("README.md"), root.join("docs"), root.join("src")];
    let mut read = 0;
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap().to_lowercase();
        for word in WORDS {
            assert!(!text.contains(word), "{word} in {}", path.display());
        }
        // Dingbats and pictures.
        let picture = text.chars().find(|c| matches!(c, '\u{2600}'..='\u{27BF}' | '\u{1F000}'..));
        assert_eq!(picture, None, "{}", path.display());
        read += 1;
    }
    assert!(read > 50);
}
