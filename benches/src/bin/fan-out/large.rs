//! A broadcast to very many, and somebody else.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::crowd::Crowd;
use crate::server::Server;
use crate::{Arguments, histogram, now, peer, quantiles};

/// From when to when.
type Span = (u64, u64);

pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let server = Server::of(arguments)?;
    let (asked, room) = (arguments.members.unwrap_or(100_000), server.room()?);
    let members = asked.min(room);
    let mut crowd = Crowd::gather(arguments, &server, members)?;
    let mut echo = peer::connect(server.address, "/plain", Ipv4Addr::LOCALHOST, None)?;
    echo.set_read_timeout(Some(Duration::from_secs(60)))?;
    let memory = server.memory()? / 1024;
    print!("{members} members in {} processes, the server has {memory} MiB", crowd.processes());
    println!("{}", if asked > room { "; it may have no more descriptors" } else { "" });
    println!("\n| echo, us | echoes | p50 | p99 | max |\n|---|--:|--:|--:|--:|");
    let (mut latency, mut broadcasts, mut cpu) = (histogram(), 0, 0);
    for _ in 0..arguments.rounds {
        let (alone, _) = beside(&mut echo, || {
            thread::sleep(arguments.part());
            Ok(())
        })?;
        row("without broadcasts", &alone);
        let (pings, (spans, spent)) =
            beside(&mut echo, || broadcast(&mut crowd, &server, arguments))?;
        row("with broadcasts", &pings);
        let mut meanwhile = pings;
        meanwhile.retain(|ping| spans.iter().any(|span| ping.0 < span.1 && span.0 < ping.1));
        row("while one is under way", &meanwhile);
        spans.iter().for_each(|(sent, last)| latency.saturating_record(last - sent));
        (broadcasts, cpu) = (broadcasts + spans.len(), cpu + spent);
    }
    let each = cpu / (broadcasts * members).max(1) as u64;
    println!("\n| | broadcasts | p50 | p99 | max | server's ns/delivery |");
    println!("|---|--:|--:|--:|--:|--:|");
    println!("| the last member has it, us | {broadcasts} | {} | {each} |", quantiles(&latency));
    Ok(())
}

/// Pings while something is done.
fn beside<T>(
    echo: &mut TcpStream,
    work: impl FnOnce() -> Result<T, Box<dyn Error>>,
) -> Result<(Vec<Span>, T), Box<dyn Error>> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let pings = scope.spawn(|| ping(echo, &over));
        let done = work();
        over.store(true, Ordering::Relaxed);
        let pings = pings.join().map_err(|_| "the echo's thread panicked")??;
        Ok((pings, done?))
    })
}

/// One ping after the other.
fn ping(echo: &mut TcpStream, over: &AtomicBool) -> io::Result<Vec<Span>> {
    let payload = [b'.'; 64];
    let (sent, mut answer) = (peer::frame(&payload, true), peer::frame(&payload, false));
    let mut spans = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let begun = now();
        echo.write_all(&sent)?;
        echo.read_exact(&mut answer)?;
        spans.push((begun, now()));
    }
    Ok(spans)
}

/// From when they left to when the last member had them; and how long the server ran meanwhile, in nanoseconds.
fn broadcast(
    crowd: &mut Crowd,
    server: &Server,
    arguments: &Arguments,
) -> Result<(Vec<Span>, u64), Box<dyn Error>> {
    let (begun, every) = (Instant::now(), Duration::from_millis(arguments.every));
    let (mut spans, mut cpu) = (Vec::new(), 0);
    while begun.elapsed() < arguments.part() {
        let (next, before) = (Instant::now() + every, server.cpu()?);
        let sent = crowd.send(false)?;
        spans.push((sent, crowd.arrived()?));
        cpu += server.cpu()? - before;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok((spans, cpu))
}

fn row(what: &str, pings: &[Span]) {
    let mut times = histogram();
    pings.iter().for_each(|(begun, ended)| times.saturating_record(ended - begun));
    println!("| {what} | {} | {} |", pings.len(), quantiles(&times));
}
