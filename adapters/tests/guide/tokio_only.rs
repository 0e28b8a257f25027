//! The guide's code that is for tokio.

use std::sync::{Arc, mpsc};
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;
use wsforge::prelude::*;
use wsforge::proto::frame::Opcode;
use wsforge::runtime::BoxFuture;

use super::live::Program;
use super::raw::{Flavor, Raw};
use super::snippets::*;
use super::{stop, takes_a_second, text_answer, with_peers};

const FLAVOR: Flavor = Flavor::TokioThreads;

#[test]
fn connection_limit_counts_connections() {
    let program = Program::run(connection_limit::main);
    Raw::open(program.address).close();
    program.stop();
}

#[test]
fn heartbeats_run_beside_the_server() {
    let program = Program::run(heartbeats::main);
    Raw::open(program.address).close();
    program.stop();
}

#[test]
fn heartbeats_reach_all() {
    let monitors: [fn(Arc<ConnectionManager>) -> BoxFuture<()>; 2] = [
        |manager| Box::pin(heartbeats::heartbeat_monitor(manager)),
        |manager| Box::pin(keeping_alive::keep_alive_task(manager)),
    ];
    for monitor in monitors {
        let (server, manager, mut peers) = with_peers(FLAVOR, handler(|| ()), 2);
        // Its first tick is at once.
        let (abort, thread) = task(monitor(manager));
        for (peer, _) in &mut peers {
            let ping = peer.frame();
            assert_eq!((ping.opcode, ping.payload), (Opcode::Ping, vec![]));
        }
        abort.abort();
        thread.join().unwrap();
        stop(server, peers);
    }
}

#[test]
fn batches_leave_when_it_is_time() {
    let (server, manager, mut peers) = with_peers(FLAVOR, handler(|| ()), 2);
    let batcher = Arc::new(batching::MessageBatcher::new(2));
    run(batcher.add(Message::text("a"), &manager));
    let (abort, thread) = task(batching::flush_batch_periodically(batcher, manager));
    assert!(peers.iter_mut().all(|(peer, _)| peer.frame().payload == b"a"));
    abort.abort();
    thread.join().unwrap();
    stop(server, peers);
}

#[test]
fn blocking_work_is_done_elsewhere() {
    assert_eq!(text_answer(FLAVOR, handler(blocking_work::efficient_async), "[1, 2]"), "[1,2]");
}

#[test]
fn eight_threads_serve() {
    let program = Program::run(runtime::main);
    Raw::open(program.address).close();
    program.stop();
}

#[test]
fn a_configured_socket_can_be_listened_on() {
    let router = Router::new().default_handler(handler(|text: &str| text.to_owned()));
    let (listens, address) = mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = thread::spawn(move || {
        run(async move {
            let socket = sockets::configure_socket().await.unwrap();
            socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
            let listener = socket.listen(16).unwrap();
            listens.send(listener.local_addr().unwrap()).unwrap();
            router.shutdown(async { drop(stopped.await) }).listen_on(listener).await.unwrap()
        })
    });
    let mut peer = Raw::open(address.recv().unwrap());
    peer.echoes("a");
    peer.close();
    drop(stop);
    server.join().unwrap();
}

#[test]
fn a_handler_that_sleeps_answers_when_it_is_done() {
    takes_a_second(FLAVOR, handler(sleeping::async_handler));
}

fn tokio_runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio_runtime().block_on(future)
}

/// Runs a task on a thread of its own until it is aborted.
fn task(
    future: impl Future<Output = ()> + Send + 'static,
) -> (AbortHandle, thread::JoinHandle<()>) {
    let runtime = tokio_runtime();
    let task = runtime.spawn(future);
    let abort = task.abort_handle();
    (abort, thread::spawn(move || drop(runtime.block_on(task))))
}
