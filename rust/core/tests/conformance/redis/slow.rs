//! Links that are slow: what moves is waited for.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use bytes::Bytes;
use taskcore::{
    assemble::{self, Options},
    result::{Record, State},
};

use super::server::*;
use crate::{run, skipped, unique};

/// Bytes that pass in each direction per [`TICK`].
const PIECE: usize = 32 << 10;
const TICK: Duration = Duration::from_millis(50);

/// A link of some 5 Mbit/s to a server; its port.
fn slow_link(server: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let far = TcpStream::connect(("127.0.0.1", server)).unwrap();
            let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
            for (from, to) in [(near, far), back] {
                thread::spawn(move || carry(from, &to));
            }
        }
    });
    port
}

fn carry(mut from: TcpStream, mut to: &TcpStream) {
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece).unwrap_or(0);
        if count == 0 || to.write_all(&piece[..count]).is_err() {
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
        if count == PIECE {
            thread::park_timeout(TICK);
        }
    }
}

#[test]
fn a_large_result_passes_a_slow_link() {
    let Some(server) = Server::start(&[]) else { return skipped("redis") };
    let url = format!("redis://127.0.0.1:{}/0", slow_link(server.port));
    let results = assemble::results(&url, &Options::default()).unwrap();
    let record = |bytes: usize| Record {
        id: unique("t").to_string(),
        state: State::Success,
        document: Bytes::from(vec![b'x'; bytes]),
        reply_to: None,
        expires_ms: None,
    };
    let batch: Vec<_> = [4 << 20, 10, 10].map(record).into();
    run(results.store(&batch)).unwrap();
    let ids: Vec<&str> = batch.iter().map(|record| &*record.id).collect();
    let near = assemble::results(&server.url(), &Options::default()).unwrap();
    assert!(near.get(&ids).unwrap().iter().all(Option::is_some));
    let got = results.get(&ids).unwrap();
    assert!(got.into_iter().eq(batch.into_iter().map(|record| Some(record.document))));
}
