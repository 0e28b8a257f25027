//! Listening, and how that ends.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::Router;
use super::workers::Workers;
use crate::Report;
use crate::driver::endpoint::Places;
use crate::driver::sync::lock_plain;
use crate::driver::timer::Timer;
use crate::router::Result;
use crate::runtime::{self, BoxFuture, Door, Host, Listener, Runtime, tcp};
use crate::server::Server;

/// Listening. All of these but [`listen_with`](Router::listen_with) run on the runtime that they are called in.
impl Router {
    /// Serves whoever connects to `address`, such as `0.0.0.0:8080` or `localhost:8080`, until the future
    /// given to [`shutdown`](Self::shutdown) is ready and all connections are closed; for ever without one.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on, or there is no runtime.
    pub fn listen(self, address: impl AsRef<str>) -> BoxFuture<Result<()>> {
        let served = self.serve(address.as_ref().to_owned());
        Box::pin(async move { served.await.map(drop) })
    }

    /// As [`listen`](Self::listen), until `signal` is ready; then it accepts no more, closes all connections
    /// with 1001, waits for them and for their handlers, and says how they ended.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen).
    pub fn listen_until(
        self,
        address: impl AsRef<str>,
        signal: impl Future<Output = ()> + Send + 'static,
    ) -> BoxFuture<Result<Report>> {
        Box::pin(self.shutdown(signal).serve(address.as_ref().to_owned()))
    }

    /// As [`listen`](Self::listen), on a listener that is there: one of TCP, of Unix sockets, or any other.
    ///
    /// # Errors
    ///
    /// There is no runtime.
    pub fn listen_on(self, listener: impl Listener) -> BoxFuture<Result<Report>> {
        Box::pin(async move { Ok(self.listen_with(runtime::current()?, listener).await) })
    }

    /// As [`listen_on`](Self::listen_on), on a runtime that is not looked for: one of your own, see
    /// [`runtime`](crate::runtime).
    pub fn listen_with(
        self,
        runtime: Arc<dyn Runtime>,
        mut listener: impl Listener,
    ) -> BoxFuture<Report> {
        if self.options.tcp.nodelay {
            listener.prepare();
        }
        Box::pin(self.run(runtime, Box::new(listener)))
    }

    /// Stops listening when `signal` is ready.
    pub fn shutdown(self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        *lock_plain(&self.shutdown) = Some(Box::pin(signal));
        self
    }

    /// How long connections and handlers are waited for when it stops. Default: 10 s.
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Serves on `n` threads, each with a runtime of its own that has one: the kernel spreads connections
    /// over them, and a connection stays with its thread. Only where [`listen`](Self::listen) is given an
    /// address, and on Unix.
    ///
    /// By itself it serves on the runtime that it is called in.
    pub const fn workers(mut self, n: usize) -> Self {
        self.workers = Some(n);
        self
    }

    async fn serve(self, address: String) -> Result<Report> {
        let host = runtime::current()?;
        let addresses = host.resolve(address).await?;
        let (tcp, shared) = (self.options.tcp, self.workers.is_some());
        let socket = tcp::listen(&addresses, &tcp, shared)?;
        let address = socket.local_addr()?;
        let mut others = Vec::new();
        for _ in 1..self.workers.unwrap_or(1) {
            others.push(tcp::listen(&[address], &tcp, true)?);
        }
        if let Some(listen) = &self.hooks.listen {
            listen(address);
        }
        if shared {
            others.push(socket);
            return Ok(self.spread(&host, others).await?);
        }
        let door = host.door(socket)?;
        Ok(self.run(host, door).await)
    }

    async fn run(mut self, runtime: Arc<dyn Runtime>, door: Box<dyn Door>) -> Report {
        let (shutdown, patience) = (self.take_shutdown(), self.patience);
        let options = mem::take(&mut self.options);
        let app = self.into_app();
        let endpoint = app.endpoint(Arc::default(), options, Timer::new(runtime));
        Server::new(app, endpoint).run(door, shutdown, patience).await
    }

    /// Serves on a thread for each socket.
    async fn spread(
        mut self,
        host: &Arc<dyn Host>,
        sockets: Vec<std::net::TcpListener>,
    ) -> io::Result<Report> {
        let (mut shutdown, patience) = (self.take_shutdown(), self.patience);
        let (options, places) = (mem::take(&mut self.options), Arc::<Places>::default());
        let app = self.into_app();
        let workers = Arc::<Workers>::default();
        // Also if this is dropped.
        let stops = StopOnDrop(&workers);
        for socket in sockets {
            let (app, options, places) = (app.clone(), options.clone(), places.clone());
            let (host, workers) = (host.clone(), workers.clone());
            let make = move || -> io::Result<BoxFuture<Report>> {
                let on = runtime::current()?;
                let door = on.door(socket)?;
                let endpoint = app.endpoint(places, options, Timer::new(on));
                let stopped = poll_fn(move |cx| workers.poll_stopped(cx));
                Ok(Box::pin(Server::new(app, endpoint).run(door, Box::pin(stopped), patience)))
            };
            stops.0.spawn(move || host.run(Box::new(make)))?;
        }
        poll_fn(|cx| {
            if shutdown.as_mut().poll(cx).is_ready() {
                shutdown = Box::pin(pending());
                stops.0.stop();
            }
            stops.0.poll_ended(cx)
        })
        .await
    }

    fn take_shutdown(&self) -> BoxFuture<()> {
        lock_plain(&self.shutdown).take().unwrap_or_else(|| Box::pin(pending()))
    }
}

struct StopOnDrop<'a>(&'a Arc<Workers>);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
