//! Sends itself a message that is larger than memory should hold: `cargo run --release --bin streaming`.

use std::error::Error;
use std::fs;

use bytes::Bytes;
use clap::Parser;
use tokio::net::TcpListener;
use wsforge::proto::{Delivery, Kind};
use wsforge::tokio::{acceptor, connect, listen};
use wsforge::{CloseCode, Options};

/// Sends one message in pieces over a connection to itself, and receives it as it comes.
#[derive(Debug, Parser)]
struct Arguments {
    /// The message's length in bytes.
    #[arg(long, default_value_t = 1 << 30)]
    size: u64,
    /// The length of a piece, which is sent as a fragment.
    #[arg(long, default_value_t = 64 * 1024, value_parser = clap::value_parser!(u64).range(1..))]
    piece: u64,
}

/// The bytes that went by on one side.
#[derive(Debug, PartialEq)]
struct Seen {
    len: u64,
    checksum: u64,
}

impl Seen {
    /// The offset basis and the prime are those of the hash FNV-1a.
    const NOTHING: Self = Self { len: 0, checksum: 0xcbf2_9ce4_8422_2325 };

    fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        for &byte in bytes {
            self.checksum = (self.checksum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let before = peak_memory();
    let listener = listen(([127, 0, 0, 1], 0).into())?;
    let url = format!("ws://{}/", listener.local_addr()?);
    let (sent, received) = tokio::try_join!(send(&url, &arguments), receive(listener, &arguments))?;
    println!("received {} bytes with checksum {:016x}", received.len, received.checksum);
    if sent != received {
        return Err(format!("but sent were {sent:x?}").into());
    }
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        println!("used {after} kB of memory at most, {} kB more than at the start", after - before);
    }
    Ok(())
}

async fn send(url: &str, arguments: &Arguments) -> Result<Seen, Box<dyn Error>> {
    let mut socket = connect(url).await?;
    let mut seen = Seen::NOTHING;
    let mut message = socket.stream(Kind::Binary).await?;
    while seen.len < arguments.size {
        let len = arguments.piece.min(arguments.size - seen.len);
        // Pieces differ, or it would go unnoticed if their order changed.
        let seed = seen.len / arguments.piece;
        let piece: Bytes = (0..len).map(|at| (at ^ (at >> 8) ^ seed ^ (seed >> 8)) as u8).collect();
        seen.add(&piece);
        message.write(piece).await?;
    }
    message.finish().await?;
    socket.close(CloseCode::NORMAL, "").await;
    Ok(seen)
}

async fn receive(listener: TcpListener, arguments: &Arguments) -> Result<Seen, Box<dyn Error>> {
    let mut options = Options::default();
    options.protocol.delivery = Delivery::Chunks;
    // The defaults are for messages that are received whole.
    options.protocol.max_message_len = arguments.size;
    options.protocol.max_frame_len = arguments.piece;
    options.protocol.max_fragments = u32::MAX;
    let (socket, _) = listener.accept().await?;
    let mut socket = acceptor(options).accept(socket).await?.accept().await?;
    let mut seen = Seen::NOTHING;
    while let Some(chunk) = socket.recv_chunk().await {
        seen.add(&chunk.payload);
    }
    Ok(seen)
}

/// The most memory that this process has ever had, in kB, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    peak.trim().strip_suffix(" kB")?.parse().ok()
}
