use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{super::floor::before, *};

fn cell() -> Cell {
    Cell::make(1).unwrap().0
}

/// Every order of steps of both sides over a few calls: the child begins its numbers in order,
/// the parent sends and takes back.
#[test]
fn every_interleaving_runs_or_takes_back_each_call_exactly_once() {
    // A step is (parent?, action); orders are enumerated as bit strings over both scripts.
    let cell = cell();
    for script in 0..3u32.pow(5) {
        for order in 0..1u32 << 10 {
            run_model(&cell, script, order, 0);
            run_model(&cell, script, order, u32::MAX - 2); // across the wrap
        }
    }
}

fn run_model(cell: &Cell, mut script: u32, order: u32, start: u32) {
    cell.head().floor.0.store(start, Ordering::Relaxed);
    let (mut sent, mut child_next) = (start, start);
    let mut parents: BTreeSet<u32> = BTreeSet::new(); // sent and believed to be at the child
    let (mut ran, mut back) = (BTreeSet::new(), BTreeSet::new());
    for step in 0..10 {
        if order >> step & 1 == 0 {
            // The parent sends, sends, or takes back, as its script says.
            if script % 3 < 2 {
                parents.insert(sent);
                sent = sent.wrapping_add(1);
            } else {
                let first = cell.take_back(sent);
                let taken: Vec<_> =
                    parents.iter().copied().filter(|s| !before(*s, first)).collect();
                for s in taken {
                    parents.remove(&s);
                    assert!(back.insert(s), "{s} taken back twice");
                }
            }
            script /= 3;
        } else if child_next != sent {
            if cell.begin(child_next) {
                assert!(ran.insert(child_next), "{child_next} ran twice");
            }
            child_next = child_next.wrapping_add(1);
        }
    }
    while child_next != sent {
        if cell.begin(child_next) {
            assert!(ran.insert(child_next));
        }
        child_next = child_next.wrapping_add(1);
    }
    assert!(ran.is_disjoint(&back), "{ran:?} {back:?}");
    assert_eq!(ran.len() + back.len(), sent.wrapping_sub(start) as usize, "a call was lost");
    assert_eq!(parents, ran, "the parent waits for exactly what ran");
}

#[test]
fn two_threads_agree_on_every_call() {
    let cell = cell();
    let sent = Arc::new(AtomicU32::new(0));
    let child = std::thread::spawn({
        let (cell, sent) = (cell.clone(), sent.clone());
        move || {
            let mut ran = Vec::new();
            for seq in 0..20_000 {
                while sent.load(Ordering::Acquire) <= seq {
                    std::hint::spin_loop();
                }
                if cell.begin(seq) {
                    ran.push(seq);
                }
            }
            ran
        }
    });
    let mut back: Vec<u32> = Vec::new();
    let mut waiting: Vec<u32> = Vec::new();
    for next in (4..=20_000).step_by(4) {
        waiting.extend(next - 4..next);
        sent.store(next, Ordering::Release);
        let first = cell.take_back(next);
        back.extend(waiting.iter().copied().filter(|s| !before(*s, first)));
        waiting.clear();
    }
    let mut all = child.join().unwrap();
    all.extend(back);
    all.sort_unstable();
    assert_eq!(all, (0..20_000).collect::<Vec<_>>());
}

#[test]
fn each_lane_says_what_it_runs_and_is_asked_once() {
    let cell = Cell::make(3).unwrap().0;
    assert_eq!(cell.running(0), None);
    cell.start(0, 70_000, 1_234_567_890_123);
    cell.start(2, 70_001, 1_234_567_890_124);
    let running = |lane| cell.running(lane).map(|r| (r.seq, r.at));
    assert_eq!(running(0), Some((70_000, 1_234_567_890_123)));
    assert_eq!((running(1), running(2)), (None, Some((70_001, 1_234_567_890_124))));
    cell.ask(2, 70_001, Ask::Soft);
    assert!(!cell.is_asked(0, 70_000, Ask::Soft));
    assert!(!cell.is_asked(2, 70_000, Ask::Soft), "meant for another call");
    assert!(!cell.is_asked(2, 70_001, Ask::End), "another thing is asked");
    assert!(cell.is_asked(2, 70_001, Ask::Soft));
    assert!(!cell.is_asked(2, 70_001, Ask::Soft));
}

#[test]
fn both_sides_see_the_same_memory_however_many_lanes_it_has() {
    for lanes in [1, 2, 100, 126, 127, 1_000, MOST_LANES] {
        let (ours, file) = Cell::make(lanes).unwrap();
        let theirs = Cell::open(&file).unwrap();
        drop(file);
        assert!(theirs.lanes() >= lanes && theirs.lanes() < lanes + PAGE / size_of::<Lane>());
        theirs.start(lanes - 1, 7, 9);
        assert_eq!(ours.running(lanes - 1), Some(Running { seq: 7, at: 9 }));
        assert!(theirs.push(&vec![1; 60_000]) && theirs.begin(3) && ours.has_begun(3));
        let mut got = BytesMut::new();
        assert_eq!(ours.drain(&mut got).unwrap(), 60_000);
        assert!(got.iter().all(|byte| *byte == 1));
        assert_eq!(ours.running(lanes - 1), Some(Running { seq: 7, at: 9 }), "the ring is apart");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_child_cannot_cut_the_memory_under_its_parent() {
    let (_cell, file) = Cell::make(1).unwrap();
    assert!(rustix::fs::ftruncate(&file, 0).is_err());
}

#[test]
fn scribbled_counters_are_an_error() {
    let cell = cell();
    cell.head().written.store(RING + 1, Ordering::Relaxed);
    assert_eq!(cell.drain(&mut BytesMut::new()).unwrap_err().kind(), ErrorKind::Internal);
}

proptest! {
    #[test]
    fn the_ring_is_a_queue_of_bytes(chunks in prop::collection::vec((0usize..30_000, any::<bool>()), 1..40)) {
        let cell = cell();
        let (mut expected, mut got) = (Vec::new(), BytesMut::new());
        for (i, (len, drain)) in chunks.into_iter().enumerate() {
            let chunk: Vec<u8> = (0..len).map(|j| (i * 31 + j) as u8).collect();
            let free = RING as usize - (expected.len() - got.len());
            prop_assert_eq!(cell.push(&chunk), len <= free);
            if len <= free {
                expected.extend(chunk);
            }
            if drain {
                cell.drain(&mut got).unwrap();
                prop_assert_eq!(&got[..], &expected[..]);
            }
        }
    }
}
