//! What a router has become that serves.

use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use wsforge_core::handshake::RequestError;

use super::connection::Known;
use super::origin::Origins;
use super::paths::Paths;
use super::serving::Serving;
use super::{
    AppState, Connection, ConnectionId, ConnectionManager, Error, Lagged, Message, Request,
};
use crate::driver::address::Address;
use crate::driver::endpoint::{Endpoint, Places};
use crate::driver::outbox::Outbox;
use crate::driver::session::Session;
use crate::driver::timer::Timer;
use crate::driver::turn;
use crate::runtime::{BoxFuture, Task};
use crate::server::{Application, Decision};
use crate::{Answer, CloseInfo, Incoming, Options};

pub(crate) struct App {
    pub(crate) manager: Arc<ConnectionManager>,
    pub(crate) state: AppState,
    pub(crate) paths: Paths,
    pub(crate) origins: Origins,
    pub(crate) hooks: Hooks,
    pub(crate) keeps_requests: bool,
    pub(crate) control_frames: bool,
}

/// What is called on the way; each is there at most once.
#[derive(Clone)]
pub(crate) struct Hooks {
    pub(crate) listen: Option<Arc<OnListen>>,
    pub(crate) connect: Option<Arc<OnConnect>>,
    pub(crate) disconnect: Option<Arc<OnConnect>>,
    pub(crate) close: Option<Arc<OnClose>>,
    pub(crate) error: Arc<OnError>,
    pub(crate) lagged: Option<Arc<OnLagged>>,
    pub(crate) upgrade: Option<Arc<Ask>>,
    pub(crate) http: Option<Arc<Ask>>,
}

pub(crate) type OnListen = dyn Fn(SocketAddr) + Send + Sync;
pub(crate) type OnConnect = dyn Fn(&Arc<ConnectionManager>, ConnectionId) + Send + Sync;
pub(crate) type OnClose = dyn Fn(&Connection, &CloseInfo) + Send + Sync;
pub(crate) type OnError = dyn Fn(&Error, &Connection) -> Option<Message> + Send + Sync;
pub(crate) type OnLagged = dyn Fn(&Connection, Lagged) + Send + Sync;
pub(crate) type Ask = dyn Fn(Arc<Request>) -> BoxFuture<Answer> + Send + Sync;

impl Default for Hooks {
    fn default() -> Self {
        Self {
            listen: None,
            connect: None,
            disconnect: None,
            close: None,
            error: Arc::new(|error, _| match error {
                Error::Closed => None,
                error => Some(Message::text(format!("Error: {}", error.public()))),
            }),
            lagged: None,
            upgrade: None,
            http: None,
        }
    }
}

/// Calls something of the application's; `None` if it panics.
pub(crate) fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(value) => Some(value),
        Err(panic) => {
            // What was thrown may panic as it is dropped, and so may that.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(panic))).map_err(std::mem::forget);
            None
        }
    }
}

/// What is remembered of a request that has been accepted.
#[derive(Default)]
pub(crate) struct Ticket {
    table: u16,
    /// Most are not kept.
    asked: Option<Box<Asked>>,
}

/// A request that is kept, and what was agreed on.
struct Asked {
    request: Arc<Request>,
    subprotocol: Option<String>,
}

impl App {
    /// The one whose connections an endpoint has.
    pub(crate) fn of(endpoint: &Endpoint) -> &Self {
        endpoint.owner.downcast_ref().expect("a router's endpoint")
    }

    /// An endpoint for its connections.
    pub(crate) fn endpoint(
        self: &Arc<Self>,
        places: Arc<Places>,
        options: Options,
        timer: Arc<Timer>,
    ) -> Arc<Endpoint> {
        let endpoint = Endpoint::of(self.clone(), places, options, timer);
        if self.hooks.lagged.is_some() {
            endpoint.slow.tell();
        }
        endpoint
    }

    #[cfg(test)]
    pub(crate) fn stand_in(routes: super::Routes) -> Arc<Self> {
        Arc::new(Self {
            manager: Arc::new(ConnectionManager::new()),
            state: AppState::new(),
            paths: Paths::new(routes, Vec::new(), &[]),
            origins: Origins::default(),
            hooks: Hooks::default(),
            keeps_requests: false,
            control_frames: false,
        })
    }
}

impl Application for App {
    type Ticket = Ticket;

    fn decide(self: &Arc<Self>, incoming: &Incoming<'_>) -> Decision<Ticket> {
        let Incoming { request, peer_addr } = *incoming;
        match (request.check(), &self.hooks.http) {
            (Ok(()), _) => {}
            (Err(RequestError::NotUpgrade | RequestError::BadMethod), Some(http)) => {
                let asked = Arc::new(Request::new(&request, peer_addr, Vec::new()));
                return later(http.clone(), asked, |_, _| Ticket::default());
            }
            // It is told what is wrong with it.
            (Err(_), _) => return Decision::Now(Answer::accept(), Ticket::default()),
        }
        let Some(found) = self.paths.find(request.path()) else {
            return Decision::Now(Answer::reject(404).body("not found"), Ticket::default());
        };
        if !self.origins.allow(&request) {
            let body = "this page may not connect: its origin is another than the server's, and is not \
                 listed in Router::allow_origins";
            return Decision::Now(Answer::reject(403).body(body), Ticket::default());
        }
        let table = found.table;
        if self.hooks.upgrade.is_none() && !self.keeps_requests {
            return Decision::Now(Answer::accept(), Ticket { table, asked: None });
        }
        let request = Arc::new(Request::new(&request, peer_addr, found.params));
        let ticket = move |request, subprotocol| {
            let asked = Asked { request, subprotocol };
            Ticket { table, asked: Some(Box::new(asked)) }
        };
        match &self.hooks.upgrade {
            None => Decision::Now(Answer::accept(), ticket(request, None)),
            Some(upgrade) => later(upgrade.clone(), request, move |answer, request| {
                ticket(request, answer.picked().map(Into::into))
            }),
        }
    }

    fn serve(
        self: &Arc<Self>,
        outbox: Arc<Outbox>,
        session: Box<Session>,
        address: Option<Address>,
        Ticket { table, asked }: Ticket,
    ) -> Task {
        let mut known = Known { address, ..Known::default() };
        if let Some(asked) = asked {
            known.data = asked.request.take_data();
            known.subprotocol = asked.subprotocol;
            known.request = Some(asked.request).filter(|_| self.keeps_requests);
        }
        let connection = Connection::join_all(outbox, known);
        let mut serving = Serving::new(connection, session, table);
        turn::scope(|| serving.begin());
        Task::staged(serving)
    }
}

/// Asks a hook, which may panic already when it is called.
fn later(
    hook: Arc<Ask>,
    asked: Arc<Request>,
    ticket: impl FnOnce(&Answer, Arc<Request>) -> Ticket + Send + 'static,
) -> Decision<Ticket> {
    Decision::Later(Box::pin(async move {
        let answer = hook(asked.clone()).await;
        let ticket = ticket(&answer, asked);
        (answer, ticket)
    }))
}

/// What a hook for requests is kept as.
pub(crate) fn ask<F, Fut>(hook: F) -> Arc<Ask>
where
    F: Fn(Arc<Request>) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Into<Answer>,
{
    let hook = Arc::new(hook);
    Arc::new(move |request| {
        let hook = hook.clone();
        Box::pin(async move { hook(request).await.into() })
    })
}
