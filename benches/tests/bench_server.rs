//! The server for load clients does what it says.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use wsforge::tokio::connect;
use wsforge::{Message, WebSocket};

/// Nothing that works takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(20);

/// It runs until this is dropped.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_bench-server"))
            .args(["--port", "0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").expect("where it listens").into();
        Self { process, url }
    }

    async fn connect(&self) -> WebSocket {
        connect(&*self.url).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Runs a test on each runtime and each of the ways to serve.
fn on_each_api(mode: &str, test: impl AsyncFn(&Server)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for api in ["lent", "router", "router-lent", "socket"] {
        for on in ["smol", "tokio"] {
            for threads in ["1", "2"] {
                let arguments =
                    ["--runtime", on, "--api", api, "--threads", threads, "--mode", mode];
                let server = Server::start(&arguments);
                let test = async { tokio::time::timeout(PATIENCE, test(&server)).await };
                runtime.block_on(test).expect("in time");
            }
        }
    }
}

#[test]
fn it_echoes() {
    on_each_api("echo", async |server| {
        let mut socket = server.connect().await;
        let messages: [Message; 3] = ["hello".into(), vec![7; 100_000].into(), "".into()];
        for message in messages {
            socket.send(message.clone()).await.unwrap();
            assert!(socket.recv().await == Some(message));
        }
    });
}

#[test]
fn it_sends_to_everybody() {
    on_each_api("broadcast", async |server| {
        let mut sockets = Vec::new();
        for n in 0..3 {
            let mut socket = server.connect().await;
            // It has joined when it gets its own.
            socket.send(n.to_string()).await.unwrap();
            assert_eq!(socket.recv().await, Some(n.to_string().into()));
            sockets.push(socket);
        }
        sockets[0].send("hello").await.unwrap();
        for (n, socket) in sockets.iter_mut().enumerate() {
            let joined = (n + 1..3).map(|n| n.to_string());
            for expected in joined.chain(["hello".into()]) {
                assert_eq!(socket.recv().await, Some(expected.into()));
            }
        }
    });
}

#[test]
fn it_answers_json_with_what_it_has_understood() {
    on_each_api("json", async |server| {
        let mut socket = server.connect().await;
        socket.send("no JSON").await.unwrap();
        let message = r#" {"id": 7, "data": "x", "other": [], "type": "note"} "#;
        socket.send(message).await.unwrap();
        let answer = r#"{"type":"note","id":7,"data":"x"}"#;
        assert_eq!(socket.recv().await, Some(answer.into()));
    });
}
