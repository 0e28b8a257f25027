//! Messages to many, over real sockets.

mod support;

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use support::{Rt, Task, Wire, yield_now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Barrier, mpsc};
use wsforge::proto::hub::Audience;
use wsforge::runtime::{Listener, Transport};
use wsforge::{Answer, ClientsCannotJoin, Connect, FanOut, Incoming, Kind, Options, WebSocket};

/// Runs a test on each runtime, as a task, so that it runs where the others do.
fn on_each_runtime<F: Future<Output = ()> + Send + 'static>(test: impl Fn() -> F) {
    for rt in Rt::ALL {
        let test = test();
        rt.run(|rt| async move { rt.spawn(test).await });
    }
}

fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Task<T> {
    Rt::here().spawn(task)
}

fn connect(url: String) -> Connect {
    Rt::here().connect(url)
}

fn options() -> Options {
    let mut options = Options::default();
    // Nobody is to be evicted here, however slow the machine.
    (options.mailbox.max_bytes, options.mailbox.max_frames) = (usize::MAX, usize::MAX);
    options
}

/// Serves in the background.
fn start<L, F>(listener: L, handle: impl Fn(WebSocket) -> F + Send + Sync + 'static)
where
    L: Listener,
    F: Future<Output = ()> + Send + 'static,
{
    let decide = |_: &Incoming<'_>| Answer::accept();
    spawn(Rt::here().serve(listener, decide, handle).options(options()).into_future());
}

fn local() -> (support::Listener, SocketAddr) {
    let listener = Rt::here().listen_on("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.address;
    (listener, address)
}

/// A client that looks at every byte.
struct Client {
    stream: Wire,
    bytes: Vec<u8>,
    at: usize,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let mut stream = Rt::here().wire(address);
        let request = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut client = Self { stream, bytes: Vec::new(), at: 0 };
        loop {
            let end = client.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                assert!(client.bytes.starts_with(b"HTTP/1.1 101 "));
                client.at = end + 4;
                return client;
            }
            client.read().await;
        }
    }

    async fn read(&mut self) {
        self.bytes.drain(..self.at);
        self.at = 0;
        assert!(self.stream.read_buf(&mut self.bytes).await.unwrap() > 0, "the end");
    }

    /// Sends these messages, which are shorter than 126 bytes.
    async fn send(&mut self, messages: impl IntoIterator<Item = String>) {
        let mut wire = Vec::new();
        for message in messages {
            wire.extend([0x82, 0x80 | message.len() as u8, 0, 0, 0, 0]);
            wire.extend(message.bytes());
        }
        self.stream.write_all(&wire).await.unwrap();
    }

    /// The next message, which has to be one unmasked frame shorter than 126 bytes.
    async fn message(&mut self) -> String {
        loop {
            if let [first, len, rest @ ..] = &self.bytes[self.at..] {
                assert!(*first == 0x82 && *len < 126, "{first:#x} {len}");
                if let Some(body) = rest.get(..usize::from(*len)) {
                    let body = String::from_utf8(body.to_vec()).unwrap();
                    self.at += 2 + body.len();
                    return body;
                }
            }
            self.read().await;
        }
    }

    async fn messages(&mut self, n: usize) -> Vec<String> {
        let mut messages = Vec::new();
        while messages.len() < n {
            messages.push(self.message().await);
        }
        messages
    }
}

fn text(message: &wsforge::Message) -> String {
    String::from_utf8(message.as_bytes().to_vec()).unwrap()
}

#[test]
fn each_audience_gets_what_is_for_it() {
    on_each_runtime(|| async {
        let (listener, address) = local();
        let fan_out = FanOut::new();
        let (joined, mut members) = mpsc::unbounded_channel();
        start(listener, {
            let fan_out = fan_out.clone();
            move |mut socket| {
                let member = fan_out.join(&socket.sender()).unwrap();
                joined.send(member).unwrap();
                async move { while socket.recv().await.is_some() {} }
            }
        });
        let (mut clients, mut ids) = (Vec::new(), Vec::new());
        for n in 0..3 {
            clients.push(Client::connect(address).await);
            let member = members.recv().await.unwrap();
            if n < 2 {
                assert_eq!(member.subscribe("two"), Ok(true));
            }
            ids.push(member);
        }
        assert_eq!((fan_out.len(), fan_out.group_len("two")), (3, 2));
        let id = |n: usize| ids[n].id();
        let send = |to: Audience<'_>, text: &str| fan_out.send(to, Kind::Binary, text.as_bytes());
        send(Audience::All, "all");
        send(Audience::Except(id(0)), "all but 0");
        send(Audience::Group("two"), "two");
        send(Audience::GroupExcept("two", id(0)), "two but 0");
        send(Audience::Group("none"), "nobody");
        send(Audience::Only(&[id(2), id(0)]), "2 and 0");
        assert!(ids[1].unsubscribe("two"));
        send(Audience::Group("two"), "only 0");
        send(Audience::All, "end");
        let got = [
            &["all", "two", "2 and 0", "only 0", "end"][..],
            &["all", "all but 0", "two", "two but 0", "end"],
            &["all", "all but 0", "2 and 0", "end"],
        ];
        for (client, got) in clients.iter_mut().zip(got) {
            assert_eq!(client.messages(got.len()).await, got);
        }
    });
}

#[test]
fn who_leaves_gets_what_was_sent_before_and_nothing_that_was_sent_after() {
    on_each_runtime(|| async {
        let (listener, address) = local();
        let fan_out = FanOut::new();
        start(listener, move |mut socket| {
            let fan_out = fan_out.clone();
            async move {
                let member = fan_out.join(&socket.sender()).unwrap();
                socket.recv().await.unwrap();
                fan_out.send(Audience::All, Kind::Binary, b"before");
                drop(member);
                fan_out.send(Audience::All, Kind::Binary, b"between");
                let _member = fan_out.join(&socket.sender()).unwrap();
                fan_out.send(Audience::All, Kind::Binary, b"behind");
                socket.send(&b"end"[..]).await.unwrap();
                while socket.recv().await.is_some() {}
            }
        });
        let mut client = Client::connect(address).await;
        client.send(["go".into()]).await;
        assert_eq!(client.messages(3).await, ["before", "behind", "end"]);
    });
}

#[test]
fn a_clients_socket_cannot_join() {
    on_each_runtime(|| async {
        let (listener, address) = local();
        start(listener, |mut socket| async move { while socket.recv().await.is_some() {} });
        let socket = connect(format!("ws://{address}")).await.unwrap();
        let fan_out = FanOut::new();
        assert_eq!(fan_out.join(&socket.sender()).err(), Some(ClientsCannotJoin));
        assert!(fan_out.is_empty());
    });
}

const CLIENTS: usize = 4;
const MESSAGES: usize = 500;
const NEWS: usize = 2000;

/// What a handler sends for each message: to its peer, to all, to its peer.
#[derive(Clone, Copy)]
enum Way {
    /// Each message is received and answered.
    Loop,
    /// Each message is lent, and answered by replies.
    Lent,
}

/// Answers each message `n` of the peer `who` with `A n`, tells all `B who n`, and answers `C n`.
async fn answer(mut socket: WebSocket, fan_out: FanOut, everybody: Arc<Barrier>, way: Way) {
    let _member = fan_out.join(&socket.sender()).unwrap();
    let who = text(&socket.recv().await.unwrap());
    everybody.wait().await;
    let tell =
        |n: &str| fan_out.send(Audience::All, Kind::Binary, format!("B {who} {n}").as_bytes());
    match way {
        Way::Loop => {
            while let Some(message) = socket.recv().await {
                let n = text(&message);
                if socket.send(format!("A {n}").into_bytes()).await.is_err() {
                    return;
                }
                tell(&n);
                let _ = socket.send(format!("C {n}").into_bytes()).await;
            }
        }
        Way::Lent => {
            let answer = socket.for_each(|message, replies| {
                let n = str::from_utf8(message.as_bytes()).unwrap();
                let sent = replies.send(Kind::Binary, format!("A {n}").as_bytes());
                tell(n);
                let _ = replies.send(Kind::Binary, format!("C {n}").as_bytes());
                if sent.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            answer.await;
        }
    }
}

/// Reads all that this client should get; gives what it got of what was sent to all.
async fn listen_to_all(mut client: Client, who: usize) -> Vec<String> {
    client.send([who.to_string()]).await;
    client.send((0..MESSAGES).map(|n| n.to_string())).await;
    let (mut to_all, mut next) = (Vec::new(), BTreeMap::<String, usize>::new());
    // A, B, C, in a circle.
    let mut own = 0;
    for message in client.messages((2 + CLIENTS) * MESSAGES + NEWS).await {
        let (source, n) = message.rsplit_once(' ').unwrap();
        let n: usize = n.parse().unwrap();
        let expected = next.entry(source.into()).or_default();
        assert_eq!(n, *expected, "{message}");
        *expected += 1;
        let step = match source {
            "A" => Some(0),
            "C" => Some(2),
            _ => (source == format!("B {who}")).then_some(1),
        };
        if let Some(step) = step {
            assert_eq!((own / 3, own % 3), (n, step), "{message}");
            own += 1;
        }
        if !matches!(source, "A" | "C") {
            to_all.push(message);
        }
    }
    to_all
}

/// To one, to all, to one: in that order, whoever else sends to all meanwhile; and what is sent to all
/// arrives everywhere in the same order.
fn the_order_is_kept(way: Way) {
    on_each_runtime(move || async move {
        let (listener, address) = local();
        let (fan_out, everybody) = (FanOut::new(), Arc::new(Barrier::new(CLIENTS + 1)));
        start(listener, {
            let (fan_out, everybody) = (fan_out.clone(), everybody.clone());
            move |socket| answer(socket, fan_out.clone(), everybody.clone(), way)
        });
        let mut clients = Vec::new();
        for who in 0..CLIENTS {
            clients.push(spawn(listen_to_all(Client::connect(address).await, who)));
        }
        everybody.wait().await;
        for n in 0..NEWS {
            fan_out.send(Audience::All, Kind::Binary, format!("news {n}").as_bytes());
            if n % 7 == 0 {
                yield_now().await;
            }
        }
        let mut orders = Vec::new();
        for client in clients {
            orders.push(client.await);
        }
        assert_eq!(orders[0].len(), CLIENTS * MESSAGES + NEWS);
        assert!(orders.iter().all(|order| *order == orders[0]), "not the same order everywhere");
    });
}

#[test]
fn answers_and_messages_to_all_keep_their_order() {
    the_order_is_kept(Way::Loop);
}

#[test]
fn replies_and_messages_to_all_keep_their_order() {
    the_order_is_kept(Way::Lent);
}

/// A socket that counts how often it is written to.
struct Counting {
    inner: Box<dyn Transport>,
    writes: Arc<AtomicUsize>,
}

impl Transport for Counting {
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.inner.poll_read(cx, buf)
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.inner.try_write(slices)
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.inner.poll_write(cx, slices)
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_shutdown(cx)
    }

    fn abort(&self) {
        self.inner.abort();
    }
}

struct CountingListener {
    inner: support::Listener,
    counts: Arc<Mutex<Vec<Arc<AtomicUsize>>>>,
}

impl Listener for CountingListener {
    type Io = Counting;

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Counting, Option<SocketAddr>)>> {
        Listener::poll_accept(&mut self.inner, cx).map_ok(|(inner, address)| {
            let writes = Arc::<AtomicUsize>::default();
            self.counts.lock().unwrap().push(writes.clone());
            (Counting { inner, writes }, address)
        })
    }
}

#[test]
fn what_a_turn_sends_is_one_write_for_each_peer() {
    on_each_runtime(|| async {
        let (listener, address) = local();
        let (fan_out, everybody) = (FanOut::new(), Arc::new(Barrier::new(CLIENTS + 1)));
        let counts = Arc::<Mutex<Vec<Arc<AtomicUsize>>>>::default();
        let listener = CountingListener { inner: listener, counts: counts.clone() };
        start(listener, {
            let everybody = everybody.clone();
            move |mut socket| {
                let (fan_out, everybody) = (fan_out.clone(), everybody.clone());
                async move {
                    let _member = fan_out.join(&socket.sender()).unwrap();
                    everybody.wait().await;
                    while let Some(message) = socket.recv().await {
                        for n in 0..50 {
                            let news = format!("{} {n}", text(&message));
                            fan_out.send(Audience::All, Kind::Binary, news.as_bytes());
                        }
                    }
                }
            }
        });
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(Client::connect(address).await);
        }
        everybody.wait().await;
        for turn in 0..10 {
            clients[0].send([turn.to_string()]).await;
            let news: Vec<_> = (0..50).map(|n| format!("{turn} {n}")).collect();
            for client in &mut clients {
                assert_eq!(client.messages(50).await, news);
            }
        }
        let counts = counts.lock().unwrap();
        assert_eq!(counts.len(), CLIENTS);
        for writes in &*counts {
            // The answer to the handshake, and one for each turn.
            assert_eq!(writes.load(Ordering::SeqCst), 1 + 10);
        }
    });
}
