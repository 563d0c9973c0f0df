//! Forks under load. A binary of its own with one test, because a fork must not meet other tests in
//! the middle of something.

#![cfg(unix)]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use taskcore::{
    assemble::{self, Options},
    broker::{Broker, Outgoing},
    clock,
    message::{Encoding, Message},
};

fn publish(broker: &dyn Broker, body: &str) -> bool {
    let mut message = Message { body: Bytes::from(body.to_owned()), ..Message::default() };
    message.headers.task = "proj.task".into();
    message.headers.id = body.into();
    let outgoing = Outgoing::new(message, "q".into(), Encoding::Compact);
    broker.publish(&[outgoing], clock::instant() + Duration::from_secs(20)).is_ok()
}

/// A forked child finds connections of its own, and its parent's threads notice nothing.
#[test]
#[allow(unsafe_code)]
fn a_forked_child_publishes_and_so_does_its_parent() {
    const CHILDREN: usize = 20;
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:///{}", dir.path().join("queue.db").display());
    let broker = assemble::broker(&url, &Options::default()).unwrap();
    assert!(publish(&*broker, "first"));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Other threads are in the middle of writing and reading at every fork.
        let writer = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                assert!(publish(&*broker, "busy"));
                count += 1;
            }
            count
        });
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert!(broker.stats("q").unwrap().depth > 0);
            }
        });
        for _ in 0..CHILDREN {
            // SAFETY: the child only uses the broker, which is what is tested, and leaves.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: ends a child that hangs, which then counts as failed.
                unsafe { libc::alarm(20) };
                let broker = assemble::broker(&url, &Options::default()).unwrap();
                let done =
                    publish(&*broker, "child") && broker.stats("q").is_ok_and(|s| s.depth > 1);
                // SAFETY: leaves without the destructors of its parent's threads.
                unsafe { libc::_exit(i32::from(!done)) };
            }
            let mut status = -1;
            // SAFETY: `status` is a writable integer.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            assert_eq!(status, 0, "the child could not publish");
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        let count: u64 = writer.join().unwrap();
        assert_eq!(broker.stats("q").unwrap().depth, 1 + CHILDREN as u64 + count);
    });
    drop(broker);
    let file = rusqlite::Connection::open(dir.path().join("queue.db")).unwrap();
    let check: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}
