//! A disk that the queue itself has filled: what is on it can be claimed and settled, and then
//! there is room again.
//!
//! The disk is a small tmpfs that only the thread of the test sees, so nothing is left behind.
//! Mounting takes root; without it the test is skipped.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::{ffi::CString, path::Path, ptr, time::Duration};

use bytes::Bytes;
use taskcore::{
    ErrorKind,
    assemble::{self, Options},
    broker::{Broker, Outgoing, QueueOrder, QueueStats, Settle, Settlement, Subscription, Want},
    clock,
    message::{Encoding, Message},
};

/// Mounts a disk of that size; whether this process may.
#[allow(unsafe_code)]
fn mount(at: &Path, size: &str) -> bool {
    let text = |text: &str| CString::new(text).unwrap();
    let (kind, root, size) = (text("tmpfs"), text("/"), text(&format!("size={size}")));
    let at = text(at.to_str().unwrap());
    // SAFETY: the pointers are to strings that outlive the calls; the namespace is this thread's
    // own from here on.
    unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                ptr::null(),
                root.as_ptr(),
                ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                ptr::null(),
            ) == 0
            && libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, size.as_ptr().cast()) == 0
    }
}

fn batch(from: usize) -> Vec<Outgoing> {
    let message = |n: usize| {
        let mut message = Message { body: Bytes::from(vec![b'x'; 2_000]), ..Message::default() };
        message.headers.task = "proj.task".into();
        message.headers.id = format!("id-{n}");
        Outgoing { new_id: true, ..Outgoing::new(message, "q".into(), Encoding::Compact) }
    };
    (from..from + 100).map(message).collect()
}

/// Publishes until that is refused; how many were accepted.
fn fill(broker: &dyn Broker) -> usize {
    let mut count = 0;
    loop {
        match broker.publish(&batch(count), clock::instant() + Duration::from_secs(20)) {
            Ok(_) => count += 100,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Storage, "{error}");
                assert!(error.to_string().contains("free some space"), "{error}");
                return count;
            }
        }
    }
}

#[tokio::test]
async fn what_fills_the_disk_can_be_claimed_and_settled() {
    let dir = tempfile::tempdir().unwrap();
    if !mount(dir.path(), "48m") {
        eprintln!("skipped: mounting a small disk takes root");
        return;
    }
    let url = format!("sqlite:///{}", dir.path().join("queue.db").display());
    let broker = assemble::broker(&url, &Options::default()).unwrap();
    let count = fill(&*broker);
    assert!(count > 5_000, "{count} messages are no full disk");
    let subscription = Subscription {
        queues: vec!["q".into()],
        declarations: Vec::new(),
        order: QueueOrder::default(),
        epoch: "w".into(),
        max_deliveries: 3,
    };
    let worker = broker.consume(subscription).await.unwrap();
    let mut done = 0;
    while done < count {
        let got = worker.fetch(Want::of(500, 0)).await.unwrap();
        done += got.len();
        let ack = |tag| Settlement { tag, how: Settle::Ack };
        worker.settle(got.iter().map(|d| ack(d.tag)).collect()).await.unwrap();
    }
    assert_eq!(broker.stats("q").unwrap(), QueueStats::default());
    assert!(fill(&*broker) > count / 2, "there is room again");
}
