//! The pool against a zygote of threads: "children" that run the real [`Link`] and do what the
//! message says.
//!
//! No process is forked, so that the test can decide when a call ends and when a child dies. The
//! real zygote is exercised from Python.

use std::{
    collections::HashMap,
    io::IoSliceMut,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{link::Link, page::Cell, *};
use crate::pool::{Outcome, Verdict};

/// What test and children share: gates that calls wait at, and who was asked what.
#[derive(Default)]
struct Stage {
    open: Mutex<HashMap<String, bool>>,
    changed: Condvar,
    soft: AtomicU32,
    forks: AtomicU32,
    stillborn: AtomicBool,
    no_zygote: AtomicBool,
}

impl Stage {
    fn open(&self, gate: &str) {
        self.open.lock().unwrap().insert(gate.to_owned(), true);
        self.changed.notify_all();
    }

    /// Waits until the gate is open or the process is dead; false when dead.
    fn pass(&self, gate: &str, dead: &AtomicBool) -> bool {
        let mut open = self.open.lock().unwrap();
        while !open.get(gate).copied().unwrap_or(false) {
            if dead.load(Ordering::Acquire) {
                return false;
            }
            open = self.changed.wait(open).unwrap();
        }
        !dead.load(Ordering::Acquire)
    }
}

struct FakeProcess {
    dead: Arc<AtomicBool>,
    socket: OwnedFd,
    thread: std::thread::JoinHandle<()>,
}

fn say(control: &OwnedFd, words: [u32; 4]) {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let _ = rustix::net::send(control, &bytes, QUIET);
}

/// The next record and the socket that came with it; `None` at the end.
fn hear(control: &OwnedFd) -> Option<([u32; 3], Option<OwnedFd>)> {
    let mut data = [0; 16];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [IoSliceMut::new(&mut data)];
    let got = recvmsg(control.as_fd(), &mut iov, &mut ancillary, RecvFlags::empty()).unwrap();
    let socket = ancillary.drain().find_map(|m| match m {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let word = |i: usize| u32::from_le_bytes(data[i * 4..i * 4 + 4].try_into().unwrap());
    (got.bytes > 0).then(|| ([word(0), word(1), word(2)], socket))
}

/// Serves the control socket until its end, forking threads.
fn serve_zygote(control: OwnedFd, pages: &Arc<Pages>, stage: &Arc<Stage>) {
    let mut processes: HashMap<u32, FakeProcess> = HashMap::new();
    let control = Arc::new(control);
    let mut pid = 100;
    while let Some(([kind, a, b], socket)) = hear(&control) {
        if stage.no_zygote.load(Ordering::Acquire) {
            break;
        }
        if let Some(socket) = socket {
            pid += 1;
            stage.forks.fetch_add(1, Ordering::AcqRel);
            say(&control, [1, b, pid, 0]);
            let cell = Cell::new(pages.clone(), a as usize).unwrap();
            let dead = Arc::new(AtomicBool::new(false));
            let theirs = socket.try_clone().unwrap();
            let thread = std::thread::spawn({
                let (dead, stage, control) = (dead.clone(), stage.clone(), control.clone());
                move || {
                    let stillborn = stage.stillborn.load(Ordering::Acquire);
                    let status =
                        if stillborn { Some(1 << 8) } else { live(theirs, cell, &stage, &dead) };
                    if let Some(status) = status {
                        say(&control, [2, pid, status as u32, 0]);
                    }
                }
            });
            processes.insert(pid, FakeProcess { dead, socket, thread });
        } else if kind == 2 && b == libc::SIGKILL as u32 {
            let Some(process) = processes.remove(&a) else { continue };
            process.end(stage);
            say(&control, [2, a, libc::SIGKILL as u32, 0]);
        } else {
            stage.soft.store(a, Ordering::Release);
        }
    }
    for (_, process) in processes {
        process.end(stage);
        let _ = process.thread.join();
    }
}

impl FakeProcess {
    fn end(&self, stage: &Stage) {
        self.dead.store(true, Ordering::Release);
        // Under the lock, so that a child between its look and its wait is not missed.
        drop(stage.open.lock().unwrap());
        stage.changed.notify_all();
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }
}

/// The life of a child; its wait status, or `None` when it was killed.
fn live(socket: OwnedFd, cell: Cell, stage: &Stage, dead: &AtomicBool) -> Option<i32> {
    let mut link = Link::new(socket, cell).ok()?;
    loop {
        while let Some((seq, call)) = link.next_call().unwrap() {
            if dead.load(Ordering::Acquire) {
                return None;
            }
            link.start(seq, clock::mono_us());
            let text =
                String::from_utf8(call.message[..call.message.len().min(40)].to_vec()).unwrap();
            if text == "segfault" {
                return Some(libc::SIGSEGV);
            }
            if let Some(gate) = text.strip_prefix("wait:")
                && !stage.pass(gate, dead)
            {
                return None;
            }
            let soft = link.cell().soft_due(seq);
            let note = if soft { "soft".to_owned() } else { text };
            let runtime_us = 1;
            let document = (call.message.len() > 40).then(|| call.message.clone());
            let traceback = String::new();
            let (key, verdict) = (call.key, Verdict::Success);
            let outcome = Outcome { key, verdict, runtime_us, document, note, traceback };
            if !link.reply(seq, &outcome, clock::mono_us()).unwrap() && link.send().is_err() {
                return None;
            }
        }
        link.ring().ok()?;
        match link.fill() {
            Ok(true) => {}
            _ if dead.load(Ordering::Acquire) => return None,
            _ => return Some(0),
        }
    }
}

struct Bench {
    pool: ProcessPool,
    stage: Arc<Stage>,
    notices: Vec<String>,
    /// News not asked for yet.
    seen: Vec<PoolNews>,
}

impl Bench {
    fn new(slots: usize, max_tasks_per_child: Option<u32>) -> Self {
        Self::with(slots, max_tasks_per_child, Arc::default())
    }

    fn with(slots: usize, max_tasks_per_child: Option<u32>, stage: Arc<Stage>) -> Self {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let pages = Arc::new(Pages::new(slots).unwrap());
        std::thread::spawn({
            let (pages, stage) = (pages.clone(), stage.clone());
            move || serve_zygote(theirs.into(), &pages, &stage)
        });
        let pool = ProcessPool::new(ProcessConfig {
            slots,
            pages,
            zygote: ours.into(),
            max_tasks_per_child,
        })
        .unwrap();
        Self { pool, stage, notices: Vec::new(), seen: Vec::new() }
    }

    async fn more(&mut self) {
        let news = tokio::time::timeout(Duration::from_secs(20), self.pool.news());
        for n in news.await.expect("news within 20 s").unwrap() {
            match n {
                PoolNews::Notice(text) => self.notices.push(text),
                other => self.seen.push(other),
            }
        }
    }

    /// Submits as the loop does: as much as there is room for, and again what came back.
    async fn run(&mut self, mut calls: Vec<Call>) -> Vec<PoolNews> {
        calls.reverse();
        let originals: HashMap<u64, Call> = calls.iter().map(|c| (c.key, c.clone())).collect();
        let mut open = calls.len();
        let mut all = Vec::new();
        while open > 0 {
            let room = self.pool.room().min(calls.len());
            if room > 0 {
                let batch = (0..room).filter_map(|_| calls.pop()).collect();
                self.pool.submit(batch).unwrap();
            }
            self.more().await;
            for n in std::mem::take(&mut self.seen) {
                match &n {
                    PoolNews::Done(_) | PoolNews::Lost { .. } => open -= 1,
                    PoolNews::Returned { key } => calls.push(originals[key].clone()),
                    _ => {}
                }
                all.push(n);
            }
        }
        all
    }

    async fn until(&mut self, what: impl Fn(&PoolNews) -> bool) -> PoolNews {
        loop {
            if let Some(i) = self.seen.iter().position(&what) {
                return self.seen.remove(i);
            }
            self.more().await;
        }
    }

    async fn until_room(&mut self, room: usize) {
        while self.pool.room() < room {
            self.more().await;
        }
    }
}

fn call(key: u64, message: &str) -> Call {
    Call {
        key,
        queue: "q".into(),
        redeliveries: 0,
        soft_us: None,
        hard_us: None,
        message: Bytes::copy_from_slice(message.as_bytes()),
    }
}

fn done(key: u64) -> impl Fn(&PoolNews) -> bool {
    move |n| matches!(n, PoolNews::Done(o) if o.key == key)
}

#[tokio::test]
async fn every_call_is_answered_once() {
    let mut bench = Bench::new(3, None);
    let news = bench.run((0..5_000).map(|k| call(k, "x")).collect()).await;
    let mut keys: Vec<u64> = news
        .iter()
        .filter_map(|n| if let PoolNews::Done(o) = n { Some(o.key) } else { None })
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..5_000).collect::<Vec<_>>());
    bench.pool.shutdown(false).await;
}

#[tokio::test]
async fn a_body_of_megabytes_passes_both_ways() {
    let mut bench = Bench::new(2, None);
    let big = "b".repeat(10 << 20);
    let news = bench.run((0..6).map(|k| call(k, &big)).collect()).await;
    let sizes: Vec<_> = news
        .iter()
        .filter_map(|n| {
            if let PoolNews::Done(o) = n { o.document.as_ref().map(Bytes::len) } else { None }
        })
        .collect();
    assert_eq!(sizes, [10 << 20; 6]);
}

#[tokio::test]
async fn a_long_call_delays_no_other() {
    let mut bench = Bench::new(2, None);
    bench.run((0..2_000).map(|k| call(k, "x")).collect()).await; // both children take many at once now
    assert!(bench.pool.quota() > 10);
    let mut calls = vec![call(5_000, "wait:long")];
    calls.extend((6_000..6_020).map(|k| call(k, "x")));
    bench.pool.submit(calls).unwrap();
    let (mut answered, mut again) = (0, Vec::new());
    while answered < 20 {
        bench.more().await;
        for n in std::mem::take(&mut bench.seen) {
            match n {
                PoolNews::Done(o) => {
                    assert_ne!(o.key, 5_000);
                    answered += 1;
                }
                PoolNews::Returned { key } => again.push(call(key, "x")),
                _ => {}
            }
        }
        again.truncate(again.len().min(bench.pool.room()));
        bench.pool.submit(std::mem::take(&mut again)).unwrap();
    }
    bench.stage.open("long");
    bench.until(done(5_000)).await;
}

#[tokio::test]
async fn outcomes_are_seen_although_the_child_went_on_to_a_long_call() {
    let mut bench = Bench::new(1, None);
    bench.until_room(2).await;
    bench.pool.submit(vec![call(1, "x"), call(2, "wait:gate")]).unwrap();
    bench.until(done(1)).await;
    let started = bench.until(|n| matches!(n, PoolNews::Started { key: 2, .. })).await;
    assert!(matches!(started, PoolNews::Started { pid: 101, .. }));
    assert_eq!(bench.pool.room(), 0, "nothing is queued behind a long call");
    bench.stage.open("gate");
    bench.until(done(2)).await;
}

#[tokio::test]
async fn a_hard_limit_kills_and_what_waited_comes_back() {
    let mut bench = Bench::new(1, None);
    bench.until_room(2).await;
    let slow = Call { hard_us: Some(20_000), ..call(1, "wait:never") };
    bench.pool.submit(vec![slow, call(2, "x")]).unwrap();
    bench.until(|n| matches!(n, PoolNews::Returned { key: 2 })).await;
    let lost = bench.until(|n| matches!(n, PoolNews::Lost { .. })).await;
    assert!(matches!(lost, PoolNews::Lost { key: 1, why: Lost::TimeLimit(20_000) }));
    let news = bench.run(vec![call(2, "x")]).await;
    assert!(news.iter().any(done(2)));
    assert!(bench.notices[0].contains("time limit of 0.02 s"), "{:?}", bench.notices);
}

#[tokio::test]
async fn a_soft_limit_is_a_signal_for_the_call_that_runs() {
    let mut bench = Bench::new(1, None);
    bench.until_room(1).await;
    bench.pool.submit(vec![Call { soft_us: Some(10_000), ..call(1, "wait:gate") }]).unwrap();
    let stage = bench.stage.clone();
    bench.until(|n| matches!(n, PoolNews::Started { .. })).await;
    let signalled = async {
        while stage.soft.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = signalled => {}
        _ = bench.pool.news() => panic!("a soft limit is no news"),
    }
    bench.stage.open("gate");
    let PoolNews::Done(outcome) = bench.until(done(1)).await else { unreachable!() };
    assert_eq!(outcome.note, "soft");
}

#[tokio::test]
async fn a_dead_child_loses_only_what_it_ran() {
    let mut bench = Bench::new(1, None);
    bench.run((0..500).map(|k| call(k, "x")).collect()).await;
    let room = bench.pool.room() as u64;
    assert!(room > 10);
    let mut calls: Vec<Call> = (1_000..1_000 + room).map(|k| call(k, "x")).collect();
    calls[5] = call(1_005, "segfault");
    let news = bench.run(calls).await;
    let lost: Vec<_> = news.iter().filter(|n| matches!(n, PoolNews::Lost { .. })).collect();
    assert_eq!(lost.len(), 1);
    assert!(
        matches!(lost[0], PoolNews::Lost { key: 1_005, why: Lost::Died(how) } if how == "signal 11 (SIGSEGV)")
    );
    assert_eq!(news.iter().filter(|n| matches!(n, PoolNews::Done(_))).count() as u64, room - 1);
    assert!(bench.notices[0].contains("SIGSEGV"));
}

#[tokio::test]
async fn children_are_replaced_after_their_number_of_calls() {
    let mut bench = Bench::new(2, Some(10));
    let news = bench.run((0..200).map(|k| call(k, "x")).collect()).await;
    assert_eq!(news.iter().filter(|n| matches!(n, PoolNews::Done(_))).count(), 200);
    assert!(bench.stage.forks.load(Ordering::Acquire) >= 20);
    assert_eq!(bench.notices, Vec::<String>::new());
}

#[tokio::test]
async fn children_that_die_at_birth_are_reported_and_retried_slowly() {
    let stage = Arc::new(Stage::default());
    stage.stillborn.store(true, Ordering::Release);
    let mut bench = Bench::with(1, None, stage);
    while bench.notices.is_empty() {
        bench.more().await;
    }
    assert!(bench.notices[0].starts_with("`5` children in a row ended"), "{:?}", bench.notices);
    assert_eq!(bench.stage.forks.load(Ordering::Acquire), 5);
    bench.stage.stillborn.store(false, Ordering::Release);
    bench.until_room(1).await;
}

#[tokio::test]
async fn recall_gives_back_what_has_not_begun() {
    let mut bench = Bench::new(1, None);
    bench.until_room(2).await;
    bench.pool.submit(vec![call(1, "wait:gate"), call(2, "x")]).unwrap();
    bench.until(|n| matches!(n, PoolNews::Started { key: 1, .. })).await;
    bench.pool.recall();
    bench.until(|n| matches!(n, PoolNews::Returned { key: 2 })).await;
    bench.stage.open("gate");
    bench.until(done(1)).await;
    assert!(bench.seen.is_empty(), "{:?}", bench.seen);
}

#[tokio::test]
async fn kill_ends_the_call_that_runs() {
    let mut bench = Bench::new(1, None);
    bench.until_room(1).await;
    bench.pool.submit(vec![call(1, "wait:never")]).unwrap();
    bench.until(|n| matches!(n, PoolNews::Started { .. })).await;
    bench.pool.kill(1);
    bench.until(|n| matches!(n, PoolNews::Lost { key: 1, why: Lost::Died(_) })).await;
    bench.until_room(1).await;
}

#[tokio::test]
async fn shutdown_by_force_ends_what_runs() {
    let mut bench = Bench::new(2, None);
    bench.until_room(2).await;
    bench.pool.submit(vec![call(1, "wait:never"), call(2, "wait:never")]).unwrap();
    bench.until(|n| matches!(n, PoolNews::Started { .. })).await;
    bench.pool.shutdown(true).await;
    assert_eq!(bench.pool.pids(), Vec::<u32>::new());
}

#[tokio::test]
async fn more_slots_than_shared_memory_is_refused() {
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let pages = Arc::new(Pages::new(2).unwrap());
    let config = ProcessConfig { slots: 3, pages, zygote: ours.into(), max_tasks_per_child: None };
    assert_eq!(ProcessPool::new(config).err().unwrap().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn without_its_zygote_the_pool_reports_what_was_lost_and_then_fails() {
    let mut bench = Bench::new(1, None);
    bench.until_room(2).await;
    bench.pool.submit(vec![call(1, "wait:never"), call(2, "x")]).unwrap();
    bench.until(|n| matches!(n, PoolNews::Started { key: 1, .. })).await;
    bench.stage.no_zygote.store(true, Ordering::Release);
    bench.pool.kill(1); // makes it look
    bench.until(|n| matches!(n, PoolNews::Returned { key: 2 })).await;
    bench.until(|n| matches!(n, PoolNews::Lost { key: 1, .. })).await;
    assert_eq!(bench.pool.room(), 0);
    let error = bench.pool.news().await.unwrap_err();
    assert!(error.to_string().starts_with("the zygote"), "{error}");
}
