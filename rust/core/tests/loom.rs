//! What parent and child agree on in shared memory, in every order of their steps and of what the
//! memory model lets them see: the very files of the pool, with loom's atomics in place of the
//! processor's. A byte that both sides touch at once fails the test.

#![cfg(unix)]
#![allow(unsafe_code, clippy::unwrap_used)] // the ring's contract; a test

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU32, Ordering};
}
#[path = "../src/pool/process/floor.rs"]
mod floor;
#[path = "../src/pool/process/ring.rs"]
mod ring;

use bytes::BytesMut;
use loom::{cell::UnsafeCell, sync::Arc, thread};

use self::{
    atomic::{AtomicU32, Ordering},
    floor::{Floor, before},
    ring::{Memory, Ring},
};

/// Where numbers and counters begin: at zero, and where they wrap in the middle.
const STARTS: [u32; 2] = [0, u32::MAX - 1];

#[test]
fn each_call_is_begun_or_taken_back() {
    for start in STARTS {
        loom::model(move || {
            let floor = Arc::new(Floor(AtomicU32::new(start)));
            let number = move |n: u32| start.wrapping_add(n);
            // Two calls were sent before, a third one is in the middle.
            let sent = Arc::new(AtomicU32::new(2));
            let child = thread::spawn({
                let (floor, sent) = (Arc::clone(&floor), Arc::clone(&sent));
                move || {
                    let there = (0..3).take_while(|n| *n < sent.load(Ordering::Acquire));
                    there.filter(|n| floor.begin(number(*n))).collect::<Vec<_>>()
                }
            });
            let known = floor.has_begun(number(1));
            let mut taken = Vec::new();
            for (from, to) in [(0, 2), (2, 3)] {
                sent.store(to, Ordering::Release);
                let first = floor.take_back(number(to));
                taken.extend((from..to).filter(|n| !before(number(*n), first)));
            }
            let mut all = child.join().unwrap();
            assert!(!known || all.contains(&1), "has begun, and was not run");
            all.extend(taken);
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2]);
        });
    }
}

/// So few that they wrap around soon.
const SIZE: usize = 4;

struct Bytes([UnsafeCell<u8>; SIZE]);

impl Memory for Arc<Bytes> {
    const SIZE: u32 = SIZE as u32;

    unsafe fn write(&self, at: usize, data: &[u8]) {
        for (cell, byte) in self.0[at..].iter().zip(data) {
            // SAFETY: loom fails the test when somebody else is there.
            cell.with_mut(|place| unsafe { *place = *byte });
        }
    }

    unsafe fn read(&self, at: usize, len: usize, into: &mut BytesMut) {
        for cell in &self.0[at..at + len] {
            // SAFETY: as above.
            into.extend_from_slice(&[cell.with(|place| unsafe { *place })]);
        }
    }
}

struct Shared {
    written: AtomicU32,
    read: AtomicU32,
    bytes: Arc<Bytes>,
}

impl Shared {
    fn ring(&self) -> Ring<'_, Arc<Bytes>> {
        Ring { written: &self.written, read: &self.read, memory: Arc::clone(&self.bytes) }
    }
}

#[test]
fn what_fits_into_the_ring_comes_out_once_and_in_order() {
    for start in STARTS {
        loom::model(move || {
            let shared = Arc::new(Shared {
                written: AtomicU32::new(start),
                read: AtomicU32::new(start),
                bytes: Arc::new(Bytes(Default::default())),
            });
            let child = thread::spawn({
                let shared = Arc::clone(&shared);
                move || {
                    let pieces: [&[u8]; 3] = [b"abc", b"de", b"fgh"];
                    let fit = pieces.into_iter().filter(|piece| shared.ring().push(piece));
                    fit.collect::<Vec<_>>().concat()
                }
            });
            let mut got = BytesMut::new();
            for _ in 0..2 {
                shared.ring().drain(&mut got).unwrap();
            }
            let sent = child.join().unwrap();
            shared.ring().drain(&mut got).unwrap();
            assert_eq!(got, sent);
        });
    }
}

#[test]
fn counters_that_make_no_sense_are_refused() {
    loom::model(|| {
        let shared = Shared {
            written: AtomicU32::new(SIZE as u32 + 1),
            read: AtomicU32::new(0),
            bytes: Arc::new(Bytes(Default::default())),
        };
        assert_eq!(shared.ring().drain(&mut BytesMut::new()), None);
        shared.written.store(0, Ordering::Relaxed);
        assert_eq!(shared.ring().drain(&mut BytesMut::new()), Some(0));
    });
}
