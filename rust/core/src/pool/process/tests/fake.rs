//! A zygote of threads: its "children" run the real [`Channel`] and do what the message says.
//!
//! No process is forked, so that the test can decide when a call ends and when a child dies.

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

use super::{
    super::{
        ProcessConfig, ProcessPool, QUIET,
        channel::Channel,
        page::{Ask, Cell},
    },
    lanes,
};
use crate::{
    clock,
    pool::{Call, Outcome, Pool, PoolNews, Status},
};

/// What test and children share: gates that calls wait at, and who was asked what.
#[derive(Default)]
pub(super) struct Stage {
    open: Mutex<HashMap<String, bool>>,
    changed: Condvar,
    pub(super) soft: AtomicU32,
    pub(super) forks: AtomicU32,
    /// How many calls a child runs at once; 0 for one after the other.
    pub(super) lanes: AtomicU32,
    pub(super) stillborn: AtomicBool,
    pub(super) no_zygote: AtomicBool,
}

impl Stage {
    pub(super) fn open(&self, gate: &str) {
        self.open.lock().unwrap().insert(gate.to_owned(), true);
        self.changed.notify_all();
    }

    /// Waits until the gate is open or the process is dead; false when dead.
    pub(super) fn pass(&self, gate: &str, dead: &AtomicBool) -> bool {
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
    /// Whether a signal ends it: its task has no handler.
    mortal: Arc<AtomicBool>,
    socket: OwnedFd,
    thread: std::thread::JoinHandle<()>,
}

fn say(control: &OwnedFd, words: [u32; 4]) {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let _ = rustix::net::send(control, &bytes, QUIET);
}

/// The next record and the files that came with it; `None` at the end.
fn hear(control: &OwnedFd) -> Option<([u32; 3], Vec<OwnedFd>)> {
    let mut data = [0; 16];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [IoSliceMut::new(&mut data)];
    let got = recvmsg(control.as_fd(), &mut iov, &mut ancillary, RecvFlags::empty()).unwrap();
    let files = ancillary.drain().flat_map(|m| match m {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
        _ => Vec::new(),
    });
    let files = files.collect();
    let word = |i: usize| u32::from_le_bytes(data[i * 4..i * 4 + 4].try_into().unwrap());
    (got.bytes > 0).then(|| ([word(0), word(1), word(2)], files))
}

/// Serves the control socket until its end, forking threads.
fn serve_zygote(control: OwnedFd, stage: &Arc<Stage>) {
    let mut processes: HashMap<u32, FakeProcess> = HashMap::new();
    let control = Arc::new(control);
    let mut pid = 100;
    while let Some(([kind, a, b], files)) = hear(&control) {
        if stage.no_zygote.load(Ordering::Acquire) {
            break;
        }
        if let [socket, page] = &files[..] {
            pid += 1;
            stage.forks.fetch_add(1, Ordering::AcqRel);
            say(&control, [1, a, pid, 0]);
            let cell = Cell::open(page).unwrap();
            let dead = Arc::new(AtomicBool::new(false));
            let mortal = Arc::new(AtomicBool::new(false));
            let theirs = socket.try_clone().unwrap();
            let socket = socket.try_clone().unwrap();
            let thread = std::thread::spawn({
                let (dead, stage, control) = (dead.clone(), stage.clone(), control.clone());
                let mortal = mortal.clone();
                move || {
                    let stillborn = stage.stillborn.load(Ordering::Acquire);
                    let status = if stillborn {
                        Some(1 << 8)
                    } else if stage.lanes.load(Ordering::Acquire) > 0 {
                        lanes::live(theirs, cell, &stage, &dead)
                    } else {
                        live(theirs, cell, &stage, (&dead, &mortal))
                    };
                    if let Some(status) = status {
                        say(&control, [2, pid, status as u32, 0]);
                    }
                }
            });
            processes.insert(pid, FakeProcess { dead, mortal, socket, thread });
        } else if kind == 2 && b == libc::SIGKILL as u32 {
            let Some(process) = processes.remove(&a) else { continue };
            process.end(stage);
            say(&control, [2, a, libc::SIGKILL as u32, 0]);
        } else {
            stage.soft.store(a, Ordering::Release);
            if b != libc::SIGUSR1 as u32
                && let Some(process) =
                    processes.get(&a).filter(|p| p.mortal.load(Ordering::Acquire))
            {
                process.end(stage);
                processes.remove(&a);
                say(&control, [2, a, b, 0]);
            }
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
fn live(
    socket: OwnedFd,
    cell: Cell,
    stage: &Stage,
    (dead, mortal): (&AtomicBool, &AtomicBool),
) -> Option<i32> {
    let mut channel = Channel::new(socket, cell).ok()?;
    loop {
        while let Some((seq, call)) = channel.next_call().unwrap() {
            if dead.load(Ordering::Acquire) {
                return None;
            }
            channel.start(0, seq, clock::mono_us());
            let text =
                String::from_utf8(call.message[..call.message.len().min(40)].to_vec()).unwrap();
            if text == "segfault" {
                return Some(libc::SIGSEGV);
            }
            if let Some(gate) = text.strip_prefix("open:") {
                stage.open(gate);
            }
            mortal.store(text.starts_with("mortal:"), Ordering::Release);
            if let Some(gate) = text.strip_prefix("wait:").or(text.strip_prefix("mortal:"))
                && !stage.pass(gate, dead)
            {
                return None;
            }
            let soft = channel.cell().is_asked(0, seq, Ask::Soft);
            let note = if soft { "soft".to_owned() } else { text };
            let outcome = outcome(&call, note);
            if !channel.reply(seq, &outcome, clock::mono_us()).unwrap() && channel.send().is_err() {
                return None;
            }
        }
        channel.ring().ok()?;
        match channel.fill() {
            Ok(true) => {}
            _ if dead.load(Ordering::Acquire) => return None,
            _ => return Some(0),
        }
    }
}

/// How a call of the test ends.
pub(super) fn outcome(call: &Call, note: String) -> Outcome {
    Outcome {
        key: call.key,
        pid: 0,
        status: Status::Success,
        runtime_us: 1,
        document: (call.message.len() > 40).then(|| call.message.clone()),
        note,
        traceback: String::new(),
        follow: Vec::new(),
        ended: Vec::new(),
    }
}

pub(super) struct Bench {
    pub(super) pool: ProcessPool,
    pub(super) stage: Arc<Stage>,
    pub(super) notices: Vec<String>,
    pub(super) started: Vec<u32>,
    /// News not asked for yet.
    pub(super) seen: Vec<PoolNews>,
}

impl Bench {
    pub(super) fn new(slots: usize, max_tasks_per_child: Option<u32>) -> Self {
        Self::with(slots, max_tasks_per_child, Arc::default())
    }

    /// Children that run so many calls at once.
    pub(super) fn with_lanes(children: usize, lanes: usize) -> Self {
        let stage = Arc::new(Stage::default());
        stage.lanes.store(lanes as u32, Ordering::Release);
        Self::with(children, None, stage)
    }

    pub(super) fn with(slots: usize, max_tasks_per_child: Option<u32>, stage: Arc<Stage>) -> Self {
        let calls_per_child = stage.lanes.load(Ordering::Acquire).max(1) as usize;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        std::thread::spawn({
            let stage = stage.clone();
            move || serve_zygote(theirs.into(), &stage)
        });
        let mut pool = ProcessPool::new(ProcessConfig {
            children: slots,
            calls_per_child,
            zygote: ours.into(),
            zygote_pid: 0,
            max_tasks_per_child,
        })
        .unwrap();
        // As if calls of a millisecond had been seen, so that two are queued at each child.
        pool.report.mean_us = Some(1_000.0);
        Self { pool, stage, notices: Vec::new(), started: Vec::new(), seen: Vec::new() }
    }

    pub(super) async fn more(&mut self) {
        let news = tokio::time::timeout(Duration::from_secs(20), self.pool.news());
        for n in news.await.expect("news within 20 s").unwrap() {
            match n {
                PoolNews::Notice(text) => self.notices.push(text),
                PoolNews::Started { key, pid, at } => {
                    self.started.push(pid);
                    self.seen.push(PoolNews::Started { key, pid, at });
                }
                other => self.seen.push(other),
            }
        }
    }

    /// Submits as the loop does: as much as there is room for, and again what came back.
    pub(super) async fn run(&mut self, mut calls: Vec<Call>) -> Vec<PoolNews> {
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

    pub(super) async fn until(&mut self, what: impl Fn(&PoolNews) -> bool) -> PoolNews {
        loop {
            if let Some(i) = self.seen.iter().position(&what) {
                return self.seen.remove(i);
            }
            self.more().await;
        }
    }

    /// The children that were heard to have started something.
    pub(super) fn pids_of_started(&self) -> Vec<u32> {
        let mut pids = self.started.clone();
        pids.sort_unstable();
        pids
    }

    pub(super) async fn until_room(&mut self, room: usize) {
        while self.pool.room() < room {
            self.more().await;
        }
    }
}

pub(super) fn call(key: u64, message: &str) -> Call {
    Call {
        key,
        queue: "q".into(),
        redeliveries: 0,
        soft_us: None,
        hard_us: None,
        message: Bytes::copy_from_slice(message.as_bytes()),
        ended: None,
    }
}

pub(super) fn done(key: u64) -> impl Fn(&PoolNews) -> bool {
    move |n| matches!(n, PoolNews::Done(o) if o.key == key)
}
