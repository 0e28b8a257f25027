//! Some who never read, among many who do.

use std::error::Error;
use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::Arguments;
use crate::crowd::Crowd;
use crate::peer::{self, Stamp};
use crate::server::Server;

/// The least that a system allows.
const TINY: Option<usize> = Some(1);

pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let server = Server::of(arguments)?;
    let members = arguments.members.unwrap_or(1_000).min(server.room()?);
    let members = members.saturating_sub(arguments.stalled).max(1);
    let mut crowd = Crowd::gather(arguments, &server, members)?;
    println!(
        "{members} members read, {} bytes each time, {} at a time",
        arguments.size, arguments.window
    );
    println!(
        "\n| stalled | of them closed | deliveries/s | p50 us | p99 us | max us | server's ns/delivery | MiB |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|");
    for _ in 0..arguments.rounds {
        for stalled in [0, arguments.stalled] {
            part(arguments, &server, &mut crowd, members, stalled)?;
        }
    }
    Ok(())
}

/// Sends for a while, beside so many who stall from then on.
fn part(
    arguments: &Arguments,
    server: &Server,
    crowd: &mut Crowd,
    members: usize,
    stalled: usize,
) -> Result<(), Box<dyn Error>> {
    let connect = |_| peer::connect(server.address, "/", Ipv4Addr::LOCALHOST, TINY);
    let stall = (0..stalled).map(connect).collect::<io::Result<Vec<_>>>()?;
    let (cpu, begun) = (server.cpu()?, Instant::now());
    let (mut broadcasts, mut memory, mut look) = (0, 0, begun);
    for _ in 0..arguments.window {
        crowd.send(false)?;
    }
    while begun.elapsed() < arguments.part() {
        crowd.arrived()?;
        crowd.send(false)?;
        broadcasts += 1;
        if look.elapsed() > Duration::from_millis(50) {
            look = Instant::now();
            memory = memory.max(server.memory()?);
        }
    }
    let (secs, cpu) = (begun.elapsed().as_secs_f64(), server.cpu()? - cpu);
    for _ in 0..arguments.window {
        crowd.arrived()?;
    }
    crowd.send(true)?;
    crowd.arrived()?;
    let latency = crowd.latencies()?.join(", ");
    let mut closed = 0;
    for stream in stall {
        closed += usize::from(is_closed(stream, arguments.size)?);
    }
    let deliveries = broadcasts * members;
    let (rate, each) = (deliveries as f64 / secs, cpu as f64 / deliveries.max(1) as f64);
    let mib = memory as f64 / 1024.0;
    println!("| {stalled} | {closed} | {rate:.0} | {latency} | {each:.0} | {mib:.1} |");
    Ok(())
}

/// Reads what has waited for one who stalled; says whether the server has closed it. That is what comes
/// behind whole messages.
fn is_closed(mut stream: TcpStream, size: usize) -> io::Result<bool> {
    SockRef::from(&stream).set_recv_buffer_size(1 << 20)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    let message = peer::frame(&vec![0; size.max(Stamp::LEN)], false).len();
    let (mut buffer, mut len) = (vec![0; 1 << 16], 0);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(n) => len += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(!len.is_multiple_of(message));
            }
            Err(error) => return Err(error),
        }
    }
}
