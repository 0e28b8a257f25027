use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
#[cfg(feature = "files")]
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[cfg(feature = "files")]
use super::StaticFileHandler;
use super::app::{App, Hooks, ask, guarded};
use super::origin::{Origin, Origins};
use super::paths::{self, Paths};
use super::{
    AppState, Connection, ConnectionId, ConnectionManager, Error, Handler, Message, Middleware,
    Request, Routes,
};
use crate::driver::fan::Event;
use crate::runtime::BoxFuture;
use crate::{Answer, CloseInfo, Options};

mod limits;

mod listen;

mod workers;

#[doc = include_str!("../../docs/router.md")]
#[derive(Clone)]
#[must_use = "a router serves when it listens"]
pub struct Router {
    routes: Routes,
    paths: Vec<(String, Routes)>,
    layers: Vec<Arc<dyn Middleware>>,
    state: AppState,
    manager: Arc<ConnectionManager>,
    hooks: Hooks,
    origins: Origins,
    options: Options,
    keeps_requests: bool,
    control_frames: bool,
    workers: Option<usize>,
    patience: Duration,
    /// The clone that listens first takes it.
    shutdown: Arc<Mutex<Option<BoxFuture<()>>>>,
}

impl Router {
    /// A router without routes.
    pub fn new() -> Self {
        let (state, manager) = (AppState::new(), Arc::new(ConnectionManager::new()));
        state.insert(manager.clone());
        Self {
            routes: Routes::default(),
            paths: Vec::new(),
            layers: Vec::new(),
            state,
            manager,
            hooks: Hooks::default(),
            origins: Origins::default(),
            options: Options::default(),
            keeps_requests: false,
            control_frames: false,
            workers: None,
            patience: Duration::from_secs(10),
            shutdown: Arc::default(),
        }
    }

    /// A router for the machine that it is written on: pages of this machine may connect, whatever their
    /// port, as those of a development server have another.
    pub fn dev() -> Self {
        let mut this = Self::new();
        this.origins.loopback = true;
        this
    }
}

/// Who handles what.
impl Router {
    /// Handles texts whose first word is `word`, which begins with a slash.
    pub fn route(mut self, word: impl Into<String>, handler: Arc<dyn Handler>) -> Self {
        self.routes = self.routes.route(word, handler);
        self
    }

    /// As [`route`](Self::route), with middleware of its own behind that of all.
    pub fn route_with_layers(
        mut self,
        word: impl Into<String>,
        layers: Vec<Arc<dyn Middleware>>,
        handler: Arc<dyn Handler>,
    ) -> Self {
        self.routes = self.routes.route_with_layers(word, layers, handler);
        self
    }

    /// Handles texts that are JSON objects whose `field` is the string `value`.
    pub fn route_json(
        mut self,
        field: impl Into<String>,
        value: impl Into<String>,
        handler: Arc<dyn Handler>,
    ) -> Self {
        self.routes = self.routes.route_json(field, value, handler);
        self
    }

    /// Handles what no route takes.
    pub fn default_handler(mut self, handler: Arc<dyn Handler>) -> Self {
        self.routes = self.routes.default_handler(handler);
        self
    }

    /// Puts middleware before all handlers, wherever it stands among the routes; the first that is put
    /// there is the first to be called.
    pub fn layer(mut self, layer: Arc<dyn Middleware>) -> Self {
        self.layers.push(layer);
        self
    }

    /// Serves connections to a URL's path with routes of their own: `/rooms/{room}` has a parameter, and
    /// `/files/{*path}` one that takes all that follows.
    ///
    /// A router without such paths serves any. With some, its own routes serve all other paths, and if it
    /// has none these get a 404.
    ///
    /// # Panics
    ///
    /// If the path is malformed, or the same as one before but for the names of its parameters, and if it
    /// is one of more than 65,535.
    pub fn at(mut self, path: impl Into<String>, routes: Routes) -> Self {
        assert!(self.paths.len() < usize::from(u16::MAX), "there are too many paths");
        self.paths.push((path.into(), routes));
        if let Err(error) = paths::check(self.paths.iter().map(|(path, _)| &**path)) {
            panic!("{error}");
        }
        self
    }

    /// Lets pings and pongs go to the handlers, too, as
    /// [`MessageType::Ping`](super::MessageType::Ping) and `Pong`. Pings have been answered by then.
    pub fn control_frames(mut self) -> Self {
        self.control_frames = true;
        self
    }

    /// Lets handlers have a value as `State<T>` or `State<Arc<T>>`, in place of the one of this type.
    pub fn with_state<T: Send + Sync + 'static>(self, value: Arc<T>) -> Self {
        self.state.insert(value);
        self
    }

    /// The connections that there are, and will be. Handlers have it as `State<Arc<ConnectionManager>>`.
    pub fn connection_manager(&self) -> Arc<ConnectionManager> {
        self.manager.clone()
    }
}

/// What is called on the way of a connection.
impl Router {
    /// Is called when [`listen`](Self::listen) listens, with the address: it has found the port, if it was
    /// given 0.
    pub fn on_listen<F>(mut self, hook: F) -> Self
    where
        F: Fn(SocketAddr) + Send + Sync + 'static,
    {
        self.hooks.listen = Some(Arc::new(hook));
        self
    }

    /// Answers opening handshakes that are well-formed: looks at the request, waits if it has to, and
    /// gives any [`Answer`]: it accepts, picks a subprotocol, adds headers, or refuses.
    ///
    /// [`Options::handshake_timeout`] is the time that it has. If it panics, the peer gets a 500.
    pub fn on_upgrade<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Arc<Request>) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Into<Answer>,
    {
        self.hooks.upgrade = Some(ask(hook));
        self
    }

    /// Is called for each connection that is open, before its first message is handled.
    ///
    /// If it panics, the connection is closed with 1011.
    pub fn on_connect<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Arc<ConnectionManager>, ConnectionId) + Send + Sync + 'static,
    {
        self.hooks.connect = Some(Arc::new(hook));
        self
    }

    /// Is called for each connection that has been open, when it is over, its messages are handled, and
    /// the manager does not have it any more. A handler that still waits is not cut short for it.
    pub fn on_disconnect<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Arc<ConnectionManager>, ConnectionId) + Send + Sync + 'static,
    {
        self.hooks.disconnect = Some(Arc::new(hook));
        self
    }

    /// Is called before [`on_disconnect`](Self::on_disconnect), with the connection and how it ended.
    pub fn on_close<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Connection, &CloseInfo) + Send + Sync + 'static,
    {
        self.hooks.close = Some(Arc::new(hook));
        self
    }

    /// Is called when messages to many were dropped for a connection, as too much waited for its peer: with how
    /// many it has missed since it was called. It may tell the peer, who then can ask for what it needs.
    pub fn on_lagged<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Connection, Lagged) + Send + Sync + 'static,
    {
        self.hooks.lagged = Some(Arc::new(hook));
        self
    }

    /// Is called for each connection that comes to a group or leaves it, as when it ends: one call after the
    /// other, in the order in which they do.
    pub fn on_presence<F>(self, hook: F) -> Self
    where
        F: Fn(&Presence<'_>) + Send + Sync + 'static,
    {
        let watch = move |event: &Event<Connection>| {
            let Event { peer: connection, group, joined, .. } = event;
            let _ = guarded(|| hook(&Presence { connection, group, joined: *joined }));
        };
        // Another router with this manager may have one.
        let _ = self.manager.fan().watch(Box::new(watch));
        self
    }

    /// Says what a peer is told when a handler fails: a message, or nothing. It may also close the
    /// connection.
    ///
    /// By itself it is `Error: ` and the error's [public words](Error::public).
    pub fn on_error<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Error, &Connection) -> Option<Message> + Send + Sync + 'static,
    {
        self.hooks.error = Arc::new(hook);
        self
    }

    /// Answers requests that are no opening handshakes, such as those for a page. Without, they get a 426.
    ///
    /// Their bodies are not read.
    pub fn on_http<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Arc<Request>) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Into<Answer>,
    {
        self.hooks.http = Some(ask(hook));
        self
    }

    /// Answers them with the files below a folder.
    #[cfg(feature = "files")]
    pub fn serve_static(self, root: impl Into<PathBuf>) -> Self {
        let files = StaticFileHandler::new(root);
        self.on_http(move |request| files.answer(&request.view()))
    }

    /// Keeps each connection's request, so that [`Connection::request`] has it also when no handler asks
    /// for it by its extractors.
    pub fn keep_requests(mut self) -> Self {
        self.keeps_requests = true;
        self
    }
}

/// Whose pages may connect. Requests that come from no page always may.
impl Router {
    /// Lets pages of these origins connect, too: `https://a.example`, with a port if it is not the usual
    /// one; `null` is that of pages that hide where they are from. By itself only those of the server's
    /// own host and port may.
    ///
    /// # Panics
    ///
    /// If one says more or less than a scheme, a host and at most a port.
    pub fn allow_origins(mut self, origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        for origin in origins {
            let origin = origin.into();
            let Some(origin) = Origin::parse(&origin) else {
                panic!("{origin:?} is no origin: that is a scheme and a host, as https://a.example")
            };
            self.origins.listed.push(origin);
        }
        self
    }

    /// Lets any page connect: only for servers whose peers are told apart by something else than what
    /// their browser sends by itself, such as cookies.
    pub fn any_origin(mut self) -> Self {
        self.origins.any = true;
        self
    }
}

/// That messages to many were dropped for a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Lagged {
    /// How many.
    pub missed: u64,
}

/// That a connection has come to a group, or left it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Presence<'a> {
    /// Which one. If it has left as it is over, it cannot be sent anything.
    pub connection: &'a Connection,
    /// The group's name.
    pub group: &'a str,
    /// Whether it has come.
    pub joined: bool,
}

impl Router {
    fn into_app(self) -> Arc<App> {
        let paths = Paths::new(self.routes, self.paths, &self.layers);
        Arc::new(App {
            manager: self.manager,
            state: self.state,
            keeps_requests: self.keeps_requests || paths.wants_request(),
            paths,
            origins: self.origins,
            hooks: self.hooks,
            control_frames: self.control_frames,
        })
    }
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("connections", &self.manager.count())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
