//! A proxy that simulates network latency to the database: it delays each direction by half of the round trip.
//! It uses threads, because tokio's timers have a resolution of one millisecond.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

/// Starts a proxy to a socket, which runs until this process ends. Returns the port that it listens on.
pub fn to(socket: PathBuf, round_trip: Duration) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for near in listener.incoming() {
            let joined = near.and_then(|near| join(near, UnixStream::connect(&socket)?, round_trip / 2));
            if let Err(error) = joined {
                eprintln!("the distant database: {error}");
            }
        }
    });
    Ok(port)
}

fn join(near: TcpStream, far: UnixStream, delay: Duration) -> std::io::Result<()> {
    // A small message that waits for an acknowledgement would be late by more than is asked for.
    near.set_nodelay(true)?;
    let (near_in, far_in) = (near.try_clone()?, far.try_clone()?);
    thread::spawn(move || pass(near_in, &far, delay, || drop(far.shutdown(Shutdown::Write))));
    thread::spawn(move || pass(far_in, &near, delay, || drop(near.shutdown(Shutdown::Write))));
    Ok(())
}

fn pass(mut from: impl Read + Send, mut to: impl Write + Send, delay: Duration, end: impl FnOnce() + Send) {
    let (sender, pieces) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::scope(|scope| {
        scope.spawn(move || {
            for (due, piece) in pieces {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&piece).is_err() {
                    return;
                }
            }
            end();
        });
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
                return;
            }
        }
        drop(sender);
    });
}
