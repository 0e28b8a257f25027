//! The load test of the performance guide runs as it stands there, but for where it connects to.
#![cfg(feature = "tokio")]

use std::env;
use std::io::{BufRead, BufReader, Lines, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::handshake::client::Response;

/// Set in the process that is the server: it has descriptors of its own.
const CHILD: &str = "WSFORGE_TEST_CHILD";

static SERVER: OnceLock<SocketAddr> = OnceLock::new();

type WebSocket = tokio_tungstenite::WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

async fn connect_async(url: &str) -> tungstenite::Result<(WebSocket, Response)> {
    assert_eq!(url, "ws://localhost:8080");
    tokio_tungstenite::connect_async(format!("ws://{}", SERVER.get().unwrap())).await
}

mod snippet {
    use super::connect_async; // in place of tokio_tungstenite's
    #[allow(unused_imports)]
    use futures_util::StreamExt;

    #[tokio::test]
    async fn load_test() {
        let _server = super::Server::start(); // beyond the guide
        let mut tasks = vec![];

        #[allow(unused_variables)]
        for i in 0..1000 {
            let task = tokio::spawn(async move {
                let (ws, _) = connect_async("ws://localhost:8080").await.unwrap();
                // Send messages...
            });
            tasks.push(task);
        }

        for task in tasks {
            task.await.unwrap();
        }
    }
}

/// This program again, as a server; it ends with its input.
struct Server {
    child: Child,
    /// Held open, as it says more in the end.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "server", "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| Some(line.unwrap().split_once("listening on ")?.1.parse().unwrap()));
        SERVER.set(address.expect("an address")).unwrap();
        Self { child, _output: lines }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn server() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        drop(stop);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(async {
        let listener = wsforge::tokio::listen(([127, 0, 0, 1], 0).into()).unwrap();
        println!("\nlistening on {}", listener.local_addr().unwrap());
        let router = wsforge::router::Router::new().shutdown(async { drop(stopped.await) });
        router.listen_on(listener).await.unwrap()
    });
    assert_eq!(report.opened, 1000);
}
