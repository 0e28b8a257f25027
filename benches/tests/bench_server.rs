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

    /// Somebody who is no member.
    async fn connect_plain(&self) -> WebSocket {
        connect(format!("{}plain", self.url)).await.unwrap()
    }

    /// How many sockets listen at its port.
    fn listeners(&self) -> usize {
        let port = self.url.trim_end_matches('/').rsplit(':').next().unwrap();
        let local = format!("0100007F:{:04X}", port.parse::<u16>().unwrap());
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        sockets.lines().filter(|line| line.contains(&format!(": {local} 00000000:0000 0A"))).count()
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
    /// The runtime, and how many threads do what with it.
    const HOSTS: [&[&str]; 5] = [
        &["smol"],
        &["smol", "--threads", "2"],
        &["tokio"],
        &["tokio", "--threads", "2"],
        &["tokio", "--threads", "2", "--spread", "stealing"],
    ];
    for api in ["lent", "router", "router-lent", "socket"] {
        for on in HOSTS {
            let arguments = [&["--api", api, "--mode", mode, "--runtime"], on].concat();
            run(&arguments, &test);
        }
    }
}

fn run(arguments: &[&str], test: impl AsyncFn(&Server)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start(arguments);
    let test = async { tokio::time::timeout(PATIENCE, test(&server)).await };
    runtime.block_on(test).expect("in time");
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

#[test]
fn it_sends_what_begins_with_a_mark_to_members_only_and_gives_back_the_rest() {
    on_each_api("mixed", async |server| {
        let (mut member, mut plain) = (server.connect().await, server.connect_plain().await);
        for socket in [&mut member, &mut plain] {
            socket.send("hello").await.unwrap();
            assert_eq!(socket.recv().await, Some("hello".into()));
        }
        plain.send("!all").await.unwrap();
        assert_eq!(member.recv().await, Some("!all".into()));
        // What it would have got comes before this.
        plain.send("bye").await.unwrap();
        assert_eq!(plain.recv().await, Some("bye".into()));
    });
}

#[cfg(target_os = "linux")]
#[test]
fn tokios_threads_listen_each_for_themselves_unless_they_take_tasks_from_each_other() {
    for api in ["lent", "router"] {
        for (spread, listeners) in [("cores", 3), ("stealing", 1)] {
            let arguments = ["--api", api, "--threads", "3", "--spread", spread];
            run(&arguments, async |server| assert_eq!(server.listeners(), listeners));
        }
    }
}

#[test]
fn a_policy_says_what_becomes_of_who_does_not_read() {
    /// Far more than may wait for a peer, and than sockets take.
    const MESSAGES: u8 = 64;
    // Whether it gets the last message, and stays.
    let policies = [
        ("disconnect", (false, false)),
        ("drop-newest", (false, true)),
        ("drop-oldest", (true, true)),
        ("keep-newest", (true, true)),
    ];
    for api in ["lent", "router"] {
        for (policy, expected) in policies {
            let arguments = ["--api", api, "--mode", "mixed", "--policy", policy];
            run(&arguments, async |server| {
                let (mut slow, mut plain) = (server.connect().await, server.connect_plain().await);
                slow.send("here").await.unwrap();
                assert_eq!(slow.recv().await, Some("here".into()));
                for n in 0..MESSAGES {
                    let mut message = vec![n; 256 * 1024];
                    message[0] = b'!';
                    plain.send(message).await.unwrap();
                }
                // All have been sent when this comes back.
                plain.send("done").await.unwrap();
                assert_eq!(plain.recv().await, Some("done".into()));
                // What it says is behind all that it has missed.
                let _ = slow.send("there").await;
                let mut got = Vec::new();
                let stays = loop {
                    match slow.recv().await {
                        Some(message) if message.as_bytes() == b"there" => break true,
                        Some(message) => got.push(message.as_bytes()[1]),
                        None => break false,
                    }
                };
                assert_eq!((got.last() == Some(&(MESSAGES - 1)), stays), expected, "{policy}");
                assert!(got.len() < usize::from(MESSAGES), "{policy}");
            });
        }
    }
}
