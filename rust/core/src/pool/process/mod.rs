//! The pool of processes: dispatches calls to children that a zygote forks, and keeps their number.
//!
//! A child gets several short calls at once, so that it never waits for the parent between two of
//! them: about two milliseconds of work, by the run times of the last ones. A long call delays
//! nothing: when a child idles while another has calls waiting behind a running one, these are
//! taken back (see [`page`]) and given to whoever is free. Time limits are signals sent through the
//! zygote. A child that dies is replaced at once; one that dies before it is ready, after a few
//! attempts, ever more slowly.
//!
//! An idle pool costs nothing: there is no timer while nothing runs, and none either while
//! everything that runs is known to be long. What it does not do: fork (the zygote does) and decide
//! what a lost call means (the worker does).

mod child;
mod watch;
pub mod frame;
pub mod channel;
mod atomic;
mod floor;
mod ring;
pub mod page;
mod population;
mod tend;
mod socket;
pub mod resident;
mod wire;
mod zygote;

#[cfg(test)]
mod tests;

use std::{
    future::poll_fn,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rustix::net::SendFlags;
use tokio::time::{Instant, Sleep};

use self::{
    child::{Child, Phase, Report},
    zygote::Zygote,
};
use super::{Call, Census, Lost, Pool, PoolNews, grown, shrunk};
use crate::{
    Error, ErrorKind, Result,
    clock::{self, Micros},
    future::BoxFuture,
};

/// How much work, by the mean run time, is queued at one child.
const QUEUED_US: f64 = 2_000.0;
/// Never more calls than this at one child.
const QUOTA: f64 = 64.0;
/// Calls that take longer than this are not queued behind one another, so that they start in the
/// order in which they came: the wait for the next one, a tenth of a millisecond, costs a hundredth
/// of their time at most.
const ALONE_US: f64 = 10_000.0;
/// How often the cells are read while a call runs that is not known to be long.
const SCAN_US: Micros = 5_000;
/// The signals that a task can be ended with. SIGUSR1 raises the exception of the soft limit.
const ENDING: [(&str, i32); 7] = [
    ("SIGTERM", libc::SIGTERM),
    ("SIGKILL", libc::SIGKILL),
    ("SIGINT", libc::SIGINT),
    ("SIGQUIT", libc::SIGQUIT),
    ("SIGHUP", libc::SIGHUP),
    ("SIGABRT", libc::SIGABRT),
    ("SIGUSR1", libc::SIGUSR1),
];
/// How long a shutdown by force waits for the processes to be reaped.
const REAP: Duration = Duration::from_secs(5);

/// A write to a process that is gone is an error, never SIGPIPE. Where the flag does not exist, it
/// takes an app that restored the signal's default to be killed by one.
#[cfg(not(target_vendor = "apple"))]
const QUIET: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const QUIET: SendFlags = SendFlags::empty();

/// What a process pool is made of.
pub struct ProcessConfig {
    /// How many children.
    pub children: usize,
    /// How many calls a child runs at once: more than one where it has an event loop.
    pub calls_per_child: usize,
    /// The control socket of the zygote.
    pub zygote: OwnedFd,
    /// Its process id; a child of this process.
    pub zygote_pid: u32,
    /// A child is replaced after this many calls.
    pub max_tasks_per_child: Option<u32>,
}

/// The pool of processes.
pub struct ProcessPool {
    /// How many children there are to be. Written by growing and shrinking.
    size: usize,
    lanes: usize,
    max_tasks: Option<u32>,
    zygote: Zygote,
    /// Makes the two ends of a child's socket; a test has its own.
    pair: fn() -> io::Result<(UnixStream, UnixStream)>,
    children: Vec<Child>,
    report: Report,
    made: u32,
    /// What became of the children. `up` is whether one was ever ready. Written by population.
    census: Census,
    /// Deaths in a row before a child was ready, and when the next attempt may be made.
    early_deaths: u32,
    respawn_at: Micros,
    /// When the cells are read next.
    scan_at: Option<Micros>,
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Micros>,
    /// No child is replaced any more.
    stopping: bool,
    /// Why the pool cannot go on; said after everything else.
    broken: Option<Error>,
    scratch: Box<[u8]>,
}

impl ProcessPool {
    /// Takes over the zygote and asks for the children. Inside a runtime.
    pub fn new(config: ProcessConfig) -> Result<Self> {
        let ProcessConfig { children, calls_per_child, zygote, zygote_pid, .. } = config;
        if children == 0 {
            let text = "a pool of `0` processes, expected at least 1";
            return Err(Error::new(ErrorKind::Config, text));
        }
        if calls_per_child == 0 || calls_per_child > page::MOST_LANES {
            let most = page::MOST_LANES;
            let text = format!(
                "`{calls_per_child}` calls at once in a child, expected 1 to {most}; start more children instead"
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        let mut pool = Self {
            size: children,
            lanes: calls_per_child,
            max_tasks: config.max_tasks_per_child.map(|n| n.max(1)),
            zygote: Zygote::new(zygote, zygote_pid)?,
            pair: UnixStream::pair,
            children: Vec::new(),
            report: Report { news: Vec::new(), mean_us: None, ready: false },
            made: 0,
            census: Census::default(),
            early_deaths: 0,
            respawn_at: 0,
            scan_at: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timer_at: None,
            stopping: false,
            broken: None,
            scratch: vec![0; 64 * 1024].into_boxed_slice(),
        };
        pool.populate(clock::mono_us())?;
        Ok(pool)
    }

    /// How many calls may be at one child.
    fn quota(&self) -> usize {
        let most = match self.report.mean_us {
            Some(mean) if mean <= ALONE_US => {
                (QUEUED_US / mean.max(1.0)).clamp(2.0, QUOTA) as usize
            }
            // Nor before the first outcome, so that the first calls start in their order.
            _ => 1,
        };
        most + self.lanes - 1
    }

    /// How many idle children may begin, while some that are to be replaced still run.
    fn idle_allowance(&self) -> usize {
        self.size.saturating_sub(self.children.iter().filter(|c| c.load() > 0).count())
    }

    /// The child for the next call: idle, else the one with the least.
    fn pick(&self, quota: usize) -> Option<usize> {
        let idle_too = self.idle_allowance() > 0;
        let may = |c: &Child| c.free(quota) > 0 && (idle_too || c.load() > 0);
        let candidates = self.children.iter().enumerate().filter(|(_, c)| may(c));
        candidates.min_by_key(|(_, c)| c.load()).map(|(i, _)| i)
    }

    fn signal(&mut self, pid: u32, signal: i32) {
        // Before the zygote answered there is no pid; its children then die with their sockets. A
        // zygote that is gone shows in `poll`.
        if pid != 0 {
            let _ = self.zygote.kill(pid, signal);
        }
    }

    fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<PoolNews>>> {
        loop {
            let now = clock::mono_us();
            self.hear_zygote(cx, now);
            self.hear_children(cx, now);
            let wake = match self.tend(now) {
                Ok(wake) => wake,
                Err(e) => {
                    self.zygote_gone(e);
                    continue;
                }
            };
            if !self.report.news.is_empty() || std::mem::take(&mut self.report.ready) {
                return Poll::Ready(Ok(std::mem::take(&mut self.report.news)));
            }
            if let Some(e) = self.broken.take() {
                return Poll::Ready(Err(e));
            }
            if !self.wake_passed(cx, now, wake) {
                return Poll::Pending;
            }
        }
    }

    /// Arms the timer for `wake`. An earlier one is left to fire: it costs less than moving it at
    /// every call.
    fn wake_passed(&mut self, cx: &mut Context<'_>, now: Micros, wake: Option<Micros>) -> bool {
        let Some(wake) = wake else { return false };
        if self.timer_at.is_none_or(|at| wake < at) {
            self.timer
                .as_mut()
                .reset(Instant::now() + Duration::from_micros(wake.saturating_sub(now)));
            self.timer_at = Some(wake);
        }
        let passed = self.timer.as_mut().poll(cx).is_ready();
        if passed {
            self.timer_at = None;
        }
        passed
    }

    fn hear_children(&mut self, cx: &mut Context<'_>, now: Micros) {
        for i in 0..self.children.len() {
            let child = &mut self.children[i];
            if let Err(e) = child.poll(cx, &mut self.scratch, now, &mut self.report) {
                self.break_off(i, &e);
            }
        }
    }
}

impl Pool for ProcessPool {
    fn slots(&self) -> usize {
        self.size * self.lanes
    }

    fn room(&self) -> usize {
        let (quota, mut idle) = (self.quota(), self.idle_allowance());
        let mut room = 0;
        for child in &self.children {
            let free = child.free(quota);
            if child.load() > 0 {
                room += free;
            } else if free > 0 && idle > 0 {
                idle -= 1;
                room += free;
            }
        }
        room
    }

    fn submit(&mut self, calls: Vec<Call>) -> Result<()> {
        let quota = self.quota();
        for call in &calls {
            if let Some(i) = self.pick(quota) {
                self.children[i].push(call);
            } else {
                self.report.news.push(PoolNews::Returned { key: call.key });
            }
        }
        for child in &mut self.children {
            child.flush();
        }
        Ok(())
    }

    fn news(&mut self) -> BoxFuture<'_, Result<Vec<PoolNews>>> {
        Box::pin(poll_fn(|cx| self.poll_news(cx)))
    }

    fn recall(&mut self) {
        for child in &mut self.children {
            child.take_back(&mut self.report);
        }
    }

    fn pids(&self) -> Vec<u32> {
        self.children.iter().map(|c| c.pid).filter(|pid| *pid != 0).collect()
    }

    fn census(&self) -> Census {
        let ready = |child: &Child| child.greeted && child.phase != Phase::Closing;
        let replaced = self.census.up && self.early_deaths == 0;
        Census { up: self.children.iter().any(ready) || replaced, ..self.census }
    }

    fn cancel(&mut self, key: u64) -> bool {
        let holds = |c: &&mut Child| c.holds(key) == Some(false);
        let Some(child) = self.children.iter_mut().find(holds) else { return false };
        child.take_back(&mut self.report);
        child.holds(key).is_none()
    }

    fn can_terminate(&self, signal: i32) -> Result<()> {
        if ENDING.iter().any(|(_, number)| *number == signal) {
            return Ok(());
        }
        let names: Vec<&str> = ENDING.iter().map(|(name, _)| *name).collect();
        let text =
            format!("signal `{signal}`, expected one that ends a task: {}", names.join(", "));
        Err(Error::new(ErrorKind::Config, text))
    }

    fn terminate(&mut self, key: u64, signal: i32) {
        let holds = |c: &Child| c.holds(key) == Some(true);
        let Some(i) = self.children.iter().position(holds) else { return };
        let child = &mut self.children[i];
        match child.terminate(key, signal, clock::mono_us(), &mut self.report) {
            Ok(None) => {}
            Ok(Some(signal)) => {
                let pid = child.pid;
                self.signal(pid, signal);
            }
            Err(e) => self.break_off(i, &e),
        }
    }

    fn grow(&mut self, by: usize) -> Result<usize> {
        self.size = grown(self.size, by)?;
        self.populate(clock::mono_us())?;
        Ok(self.slots())
    }

    fn shrink(&mut self, by: usize) -> Result<usize> {
        self.size = shrunk(self.size, by)?;
        self.retire_surplus();
        Ok(self.slots())
    }

    fn restart(&mut self, modules: &str) -> Result<()> {
        self.zygote.prepare(modules)?;
        for child in &mut self.children {
            child.retire(&mut self.report);
        }
        self.report.ready = true;
        self.populate(clock::mono_us()).map(drop)
    }

    fn shutdown(&mut self, force: bool) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.stopping = true;
            let now = clock::mono_us();
            for i in 0..self.children.len() {
                let child = &mut self.children[i];
                if force {
                    child.kill(Lost::Shutdown, None, &mut self.report);
                    let pid = child.pid;
                    self.signal(pid, libc::SIGKILL);
                } else {
                    child.close(now);
                }
            }
            let mut finished = Vec::new();
            let gone = poll_fn(|cx| {
                while let Poll::Ready(news) = self.poll_news(cx) {
                    let done = |one: &PoolNews| matches!(one, PoolNews::Done(_));
                    finished.extend(news.into_iter().flatten().filter(done));
                }
                if self.children.is_empty() { Poll::Ready(()) } else { Poll::Pending }
            });
            if force {
                let _ = tokio::time::timeout(REAP, gone).await;
            } else {
                gone.await;
            }
            self.report.news = finished;
        })
    }

    fn name(&self) -> &'static str {
        "prefork"
    }
}
