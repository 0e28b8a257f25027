//! The guide's code as it stands there. What it leaves out stands behind a `//+`: imports, types that it
//! names only, and what the tests make values with.
#![allow(
    clippy::uninlined_format_args,
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    unused_must_use,
    unused_variables
)]

#[cfg(feature = "tokio")]
pub mod connection_limit {
    use super::super::live::Router; //+
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use wsforge::prelude::*;

    struct ConnectionLimiter {
        count: AtomicUsize,
        max: usize,
    }

    impl ConnectionLimiter {
        fn try_acquire(&self) -> bool {
            let current = self.count.fetch_add(1, Ordering::SeqCst);
            if current >= self.max {
                self.count.fetch_sub(1, Ordering::SeqCst);
                false
            } else {
                true
            }
        }

        fn release(&self) {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[tokio::main]
    pub async fn main() -> Result<()> {
        let limiter = Arc::new(ConnectionLimiter { count: AtomicUsize::new(0), max: 10000 });

        let router = Router::new()
            .on_connect({
                let limiter = limiter.clone();
                move |_manager, conn_id| {
                    if !limiter.try_acquire() {
                        println!("Connection limit reached, rejecting {}", conn_id);
                    }
                }
            })
            .on_disconnect({
                let limiter = limiter.clone();
                move |_manager, _conn_id| {
                    limiter.release();
                }
            });

        router.listen("0.0.0.0:8080").await
    }
}

#[cfg(feature = "tokio")]
pub mod heartbeats {
    use super::super::live::Router; //+
    use std::sync::Arc; //+
    use tokio::time::{Duration, interval};
    use wsforge::prelude::*; //+

    pub async fn heartbeat_monitor(manager: Arc<ConnectionManager>) {
        let mut ticker = interval(Duration::from_secs(30));

        loop {
            ticker.tick().await;

            // Send ping to all connections
            manager.broadcast(Message::ping(vec![]));

            println!("Heartbeat sent to {} connections", manager.count());
        }
    }

    #[tokio::main]
    pub async fn main() -> Result<()> {
        let router = Router::new();
        let manager = router.connection_manager();

        // Spawn heartbeat task
        tokio::spawn(heartbeat_monitor(manager.clone()));

        router.listen("0.0.0.0:8080").await
    }
}

pub mod binary_formats {
    use wsforge::prelude::*;

    // Instead of JSON
    pub async fn json_handler(Json(data): Json<serde_json::Value>) -> Result<String> {
        Ok(format!("{}", data))
    }

    // Use MessagePack or Protocol Buffers
    pub async fn binary_handler(Data(bytes): Data) -> Result<Vec<u8>> {
        // Process binary data directly
        Ok(bytes)
    }
}

pub mod batching {
    use std::sync::Arc;
    use tokio::sync::Mutex;
    #[cfg(feature = "tokio")] //+
    use tokio::time::{Duration, interval};
    use wsforge::prelude::*; //+

    pub struct MessageBatcher {
        buffer: Arc<Mutex<Vec<Message>>>,
        max_size: usize,
    }

    impl MessageBatcher {
        pub async fn add(&self, msg: Message, manager: &ConnectionManager) {
            let mut buffer = self.buffer.lock().await;
            buffer.push(msg);

            if buffer.len() >= self.max_size {
                let batched = self.create_batch(&buffer);
                manager.broadcast(batched);
                buffer.clear();
            }
        }

        fn create_batch(&self, messages: &[Message]) -> Message {
            // Combine messages into single payload
            let combined =
                messages.iter().filter_map(|m| m.as_text()).collect::<Vec<_>>().join("\n");
            Message::text(combined)
        }
    }

    #[cfg(feature = "tokio")] //+
    pub async fn flush_batch_periodically(
        batcher: Arc<MessageBatcher>,
        manager: Arc<ConnectionManager>,
    ) {
        let mut ticker = interval(Duration::from_millis(100));

        loop {
            ticker.tick().await;
            let mut buffer = batcher.buffer.lock().await;
            if !buffer.is_empty() {
                let batched = batcher.create_batch(&buffer);
                manager.broadcast(batched);
                buffer.clear();
            }
        }
    }

    //+
    impl MessageBatcher {
        pub fn new(max_size: usize) -> Self {
            Self { buffer: Arc::default(), max_size }
        }
    }
}

pub mod compression {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;
    use wsforge::prelude::*; //+

    pub async fn compress_handler(msg: Message) -> Result<Vec<u8>> {
        if msg.as_bytes().len() > 1024 {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(msg.as_bytes())?;
            Ok(encoder.finish()?)
        } else {
            Ok(msg.as_bytes().to_vec())
        }
    }
}

pub mod needless_broadcasts {
    use std::sync::Arc; //+
    use wsforge::prelude::*; //+

    pub async fn smart_broadcast(
        msg: Message,
        conn: Connection,
        State(manager): State<Arc<ConnectionManager>>,
    ) -> Result<()> {
        // Only broadcast if there are other users
        if manager.count() > 1 {
            manager.broadcast_except(conn.id(), msg);
        }
        Ok(())
    }
}

pub mod targeted_broadcasts {
    use std::collections::HashMap;
    use std::sync::Arc; //+
    use tokio::sync::RwLock;
    use wsforge::prelude::*; //+

    pub struct RoomManager {
        rooms: Arc<RwLock<HashMap<String, Vec<String>>>>,
    }

    pub async fn room_broadcast(
        room: &str,
        msg: Message,
        room_mgr: &RoomManager,
        conn_mgr: &ConnectionManager,
    ) {
        let rooms = room_mgr.rooms.read().await;
        if let Some(members) = rooms.get(room) {
            conn_mgr.broadcast_to(members, msg);
        }
    }

    //+
    impl RoomManager {
        pub fn new(rooms: HashMap<String, Vec<String>>) -> Self {
            Self { rooms: Arc::new(RwLock::new(rooms)) }
        }
    }
}

pub mod async_operations {
    use wsforge::prelude::*; //+

    // Slow - multiple awaits
    pub async fn slow_handler(msg: Message) -> Result<String> {
        let data = msg.json::<serde_json::Value>()?;
        let result = process_data(data).await?;
        let formatted = format_result(result).await?;
        Ok(formatted)
    }

    // Fast - combine operations
    pub async fn fast_handler(msg: Message) -> Result<String> {
        let data = msg.json::<serde_json::Value>()?;
        Ok(process_and_format(data))
    }

    fn process_and_format(data: serde_json::Value) -> String {
        // Synchronous processing
        format!("{}", data)
    }

    //+
    async fn process_data(data: serde_json::Value) -> Result<serde_json::Value> {
        Ok(data)
    }

    //+
    async fn format_result(data: serde_json::Value) -> Result<String> {
        Ok(process_and_format(data))
    }
}

pub mod data_structures {
    use dashmap::DashMap;
    use std::collections::HashMap; //+
    use std::sync::Arc;
    use tokio::sync::RwLock; //+

    // Good for concurrent access
    #[derive(Default)] //+
    pub struct UserStore {
        pub users: Arc<DashMap<u64, User>>,
    }

    // For read-heavy workloads
    #[derive(Default)] //+
    pub struct CachedData {
        pub data: Arc<RwLock<HashMap<String, String>>>,
    }

    //+
    pub struct User {
        pub name: &'static str,
    }
}

pub mod buffers {
    use bytes::BytesMut;
    use std::sync::Arc; //+
    use tokio::sync::Mutex; //+

    #[derive(Default)] //+
    pub struct BufferPool {
        buffers: Arc<Mutex<Vec<BytesMut>>>,
    }

    impl BufferPool {
        pub async fn get(&self) -> BytesMut {
            let mut pool = self.buffers.lock().await;
            pool.pop().unwrap_or_else(|| BytesMut::with_capacity(4096))
        }

        pub async fn return_buffer(&self, mut buf: BytesMut) {
            buf.clear();
            let mut pool = self.buffers.lock().await;
            if pool.len() < 100 {
                pool.push(buf);
            }
        }
    }
}

pub mod size_limits {
    use wsforge::prelude::*; //+

    const MAX_MESSAGE_SIZE: usize = 1024 * 1024; // 1MB

    pub async fn size_limited_handler(msg: Message) -> Result<String> {
        if msg.as_bytes().len() > MAX_MESSAGE_SIZE {
            return Err(Error::custom("Message too large"));
        }
        Ok("processed".to_string())
    }
}

pub mod metrics {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;
    use wsforge::prelude::*; //+

    pub struct Metrics {
        messages_received: AtomicU64,
        messages_sent: AtomicU64,
        bytes_received: AtomicU64,
        bytes_sent: AtomicU64,
        start_time: Instant,
    }

    impl Metrics {
        pub fn record_message_received(&self, size: usize) {
            self.messages_received.fetch_add(1, Ordering::Relaxed);
            self.bytes_received.fetch_add(size as u64, Ordering::Relaxed);
        }

        pub fn stats(&self) -> String {
            let elapsed = self.start_time.elapsed().as_secs_f64();
            let msg_rate = self.messages_received.load(Ordering::Relaxed) as f64 / elapsed;
            format!("Messages/sec: {:.2}", msg_rate)
        }
    }

    //+
    impl Metrics {
        pub fn new() -> Self {
            let [messages_received, messages_sent, bytes_received, bytes_sent] =
                [const { AtomicU64::new(0) }; 4];
            let start_time = Instant::now();
            Self { messages_received, messages_sent, bytes_received, bytes_sent, start_time }
        }
    }
}

pub mod monitoring {
    use std::sync::Arc; //+
    use tracing::{info, instrument, warn};
    use wsforge::prelude::*; //+

    #[instrument(skip(manager))]
    pub async fn monitored_handler(
        msg: Message,
        State(manager): State<Arc<ConnectionManager>>,
    ) -> Result<()> {
        info!("Processing message, {} connections active", manager.count());

        if manager.count() > 5000 {
            warn!("High connection count: {}", manager.count());
        }

        manager.broadcast(msg);
        Ok(())
    }
}

#[cfg(feature = "tokio")]
pub mod keeping_alive {
    use std::sync::Arc; //+
    use std::time::Duration; //+
    use wsforge::prelude::*; //+

    // Keep connections alive with periodic pings
    pub async fn keep_alive_task(manager: Arc<ConnectionManager>) {
        let mut interval = tokio::time::interval(Duration::from_secs(30));
        loop {
            interval.tick().await;
            manager.broadcast(Message::ping(vec![]));
        }
    }
}

pub mod degradation {
    use std::sync::Arc; //+
    use wsforge::prelude::*; //+

    pub async fn rate_limited_handler(
        msg: Message,
        State(limiter): State<Arc<RateLimiter>>,
    ) -> Result<String> {
        if !limiter.check_limit() {
            return Err(Error::custom("Rate limit exceeded"));
        }

        Ok("processed".to_string())
    }
}

#[cfg(feature = "tokio")]
pub mod blocking_work {
    use serde_json::Value; //+
    use wsforge::prelude::*; //+

    pub async fn efficient_async(msg: Message) -> Result<String> {
        // Quick async operation
        let data = msg.json::<Value>()?;

        // CPU-intensive work in blocking task
        let result = tokio::task::spawn_blocking(move || expensive_computation(data)).await?;

        Ok(result)
    }

    fn expensive_computation(data: Value) -> String {
        // Heavy CPU work here
        format!("{}", data)
    }
}

#[cfg(feature = "tokio")]
pub mod runtime {
    use super::super::live::Router; //+
    use wsforge::prelude::*; //+

    #[tokio::main(flavor = "multi_thread", worker_threads = 8)]
    pub async fn main() -> Result<()> {
        // 8 worker threads for CPU-bound tasks
        Router::new().listen("0.0.0.0:8080").await
    }
}

#[cfg(feature = "tokio")]
pub mod sockets {
    use tokio::net::TcpSocket;

    pub async fn configure_socket() -> std::io::Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;

        // Enable TCP_NODELAY to disable Nagle's algorithm
        socket.set_nodelay(true)?;

        // Set buffer sizes
        socket.set_send_buffer_size(262144)?; // 256KB
        socket.set_recv_buffer_size(262144)?;

        Ok(socket)
    }
}

pub mod cloning {
    use wsforge::prelude::*; //+

    // Bad - clones entire message for each connection
    pub async fn bad_broadcast(msg: Message, manager: &ConnectionManager) {
        for id in manager.all_ids() {
            let conn = manager.get(&id).unwrap();
            conn.send(msg.clone()); // Expensive!
        }
    }
}

pub mod not_cloning {
    use wsforge::prelude::*; //+

    // Good - optimized internal implementation
    pub async fn good_broadcast(msg: Message, manager: &ConnectionManager) {
        manager.broadcast(msg);
    }
}

pub mod blocking {
    use std::time::Duration; //+
    use wsforge::prelude::*; //+

    // Bad - blocks async runtime
    pub async fn blocking_handler(msg: Message) -> Result<String> {
        std::thread::sleep(Duration::from_secs(1)); // DON'T!
        Ok("done".to_string())
    }
}

#[cfg(feature = "tokio")]
pub mod sleeping {
    use std::time::Duration; //+
    use wsforge::prelude::*; //+

    // Good - yields to runtime
    pub async fn async_handler(msg: Message) -> Result<String> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok("done".to_string())
    }
}
