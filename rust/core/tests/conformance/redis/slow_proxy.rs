//! A proxy to a server that is slow, or swallows what the server says.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Bytes that pass a slow proxy in each direction per [`TICK`].
const PIECE: usize = 32 << 10;
const TICK: Duration = Duration::from_millis(50);

pub(super) struct SlowProxy {
    port: u16,
    swallows: Arc<AtomicBool>,
}

impl SlowProxy {
    /// One to the server at this port.
    pub(super) fn to(server: u16) -> Self {
        Self::start(server, None)
    }

    /// One of some 5 Mbit/s for each connection.
    pub(super) fn slow(server: u16) -> Self {
        Self::start(server, Some(TICK))
    }

    fn start(server: u16, tick: Option<Duration>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let swallows = Arc::new(AtomicBool::new(false));
        let swallowing = Arc::clone(&swallows);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(("127.0.0.1", server)).unwrap();
                let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
                let swallowing = Arc::clone(&swallowing);
                thread::spawn(move || carry(near, &far, tick, &AtomicBool::new(false)));
                thread::spawn(move || carry(back.0, &back.1, tick, &swallowing));
            }
        });
        Self { port, swallows }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Whether nothing of what the server says arrives.
    pub(super) fn swallow(&self, all: bool) {
        self.swallows.store(all, Ordering::Relaxed);
    }
}

fn carry(mut from: TcpStream, mut to: &TcpStream, tick: Option<Duration>, swallow: &AtomicBool) {
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece).unwrap_or(0);
        let swallowed = swallow.load(Ordering::Relaxed);
        if count == 0 || !swallowed && to.write_all(&piece[..count]).is_err() {
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
        if let Some(tick) = tick.filter(|_| count == PIECE) {
            thread::park_timeout(tick);
        }
    }
}
