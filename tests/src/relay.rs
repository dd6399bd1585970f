//! A relay between a device and what it connects to: its broker, its TPM.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// Bytes that are about to pass.
#[derive(Debug, Clone, Copy)]
pub struct Passing {
    /// Over which connection, counted from the first.
    pub connection: usize,
    /// Which way.
    pub to_device: bool,
    /// How many.
    pub bytes: usize,
    /// When they came.
    pub at: Instant,
}

/// Relays what comes to `listener` to `target`, and returns where it listens. `passing` is told of everything first, and
/// until it returns, that waits.
pub fn relay(
    listener: TcpListener,
    target: SocketAddr,
    passing: impl Fn(Passing) + Send + Sync + 'static,
) -> SocketAddr {
    let address = listener.local_addr().expect("it is bound");
    let passing = Arc::new(passing);
    thread::spawn(move || {
        for (connection, device) in listener.incoming().flatten().enumerate() {
            // A target that is away is for the device to notice.
            let Ok(server) = TcpStream::connect(target) else { continue };
            for (from, to, to_device) in [(&device, &server, false), (&server, &device, true)] {
                from.set_nodelay(true).expect("a socket");
                let twin = |stream: &TcpStream| stream.try_clone().expect("a socket can be shared");
                let (from, to, passing) = (twin(from), twin(to), Arc::clone(&passing));
                thread::spawn(move || {
                    copy(from, to, |bytes| {
                        passing(Passing { connection, to_device, bytes, at: Instant::now() });
                    });
                });
            }
        }
    });
    address
}

fn copy(mut from: TcpStream, mut to: TcpStream, passing: impl Fn(usize)) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        passing(read);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // Whichever side ended, the other hears of it.
    drop(to.shutdown(Shutdown::Write));
}
