//! The parent's picture of one child: what it was sent, what of that has begun, and how it ends.
//!
//! A child goes Starting -> Ready -> (Retiring) -> Closing -> gone. Only the zygote's word that the
//! process exited makes it gone: an end of file on the socket may come earlier (or never, when a
//! grandchild inherited it). At that moment the ring tells which calls finished; the one that had
//! begun is lost, the rest is the parent's again.
//!
//! Everything here is bookkeeping of one child; which child gets which call is decided in `mod.rs`.

use std::{collections::VecDeque, task::Context};

use bytes::BytesMut;

use super::{frame, page::Cell, wire::Wire};
use crate::{
    Error, ErrorKind, Result,
    clock::Micros,
    pool::{Call, Lost, PoolNews},
};

/// A call that runs longer than this is reported as started, and nothing more is queued behind it.
const LONG_US: Micros = 1_000;
/// How long a child that closed its socket by itself may take to exit.
const EOF_GRACE_US: Micros = 1_000_000;
/// How long a child that was told to exit may take, user's hooks included.
const EXIT_GRACE_US: Micros = 10_000_000;

/// A call at a child.
struct Sent {
    seq: u32,
    key: u64,
    soft_us: Option<u64>,
    hard_us: Option<u64>,
    /// When user code began, once it was seen and reported.
    started: Option<Micros>,
    /// Runs for so long that nothing should wait behind it.
    long: bool,
}

impl Sent {
    fn due(&self, limit: Option<u64>) -> Option<Micros> {
        Some(self.started?.saturating_add(limit?))
    }

    fn hard_due(&self, now: Micros) -> bool {
        self.due(self.hard_us).is_some_and(|at| at <= now)
    }
}

/// Where a child is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Asked for; it has not said that it is ready.
    Starting,
    /// Takes calls.
    Ready,
    /// Finishes what it has and takes no more.
    Retiring,
    /// Told to exit, killed, or closing by itself.
    Closing,
}

/// What a round over the children found; shared by them.
#[derive(Default)]
pub(super) struct Report {
    /// For the loop.
    pub(super) news: Vec<PoolNews>,
    /// Mean run time in microseconds, moving.
    pub(super) mean_us: f64,
    /// Whether a child became able to take calls.
    pub(super) ready: bool,
}

pub(super) struct Child {
    /// Number of this child since the pool began.
    pub(super) birth: u32,
    /// 0 until the zygote forked it.
    pub(super) pid: u32,
    pub(super) phase: Phase,
    /// Whether it was ever ready.
    pub(super) greeted: bool,
    /// Whether the pool told it to exit.
    pub(super) told: bool,
    /// Why the pool killed it, for its running call.
    pub(super) doom: Option<Lost>,
    /// When it is killed if it is still there.
    pub(super) kill_at: Option<Micros>,
    /// At most this many more calls before it retires.
    left: Option<u32>,
    cell: Cell,
    wire: Wire,
    calls: VecDeque<Sent>,
    next: u32,
    /// The call at the front and since when it has been there with others behind it while another
    /// child idled.
    watched: Option<(u32, Micros)>,
}

impl Child {
    pub(super) fn new(birth: u32, cell: Cell, wire: Wire, max_tasks: Option<u32>) -> Self {
        cell.reset();
        Self {
            birth,
            pid: 0,
            phase: Phase::Starting,
            greeted: false,
            told: false,
            doom: None,
            kill_at: None,
            left: max_tasks,
            cell,
            wire,
            calls: VecDeque::new(),
            next: 0,
            watched: None,
        }
    }

    pub(super) fn cell(&self) -> usize {
        self.cell.index()
    }

    /// How many calls are at it.
    pub(super) fn load(&self) -> usize {
        self.calls.len()
    }

    /// How many more it takes when `quota` calls may be at a child.
    pub(super) fn free(&self, quota: usize) -> usize {
        if self.phase != Phase::Ready || self.wire.is_full() {
            return 0;
        }
        if self.calls.front().is_some_and(|c| c.long) {
            return 0;
        }
        quota.saturating_sub(self.calls.len()).min(self.left.map_or(usize::MAX, |l| l as usize))
    }

    /// Whether the zygote has still to say that it was forked, or that it is gone.
    pub(super) fn awaits_zygote(&self) -> bool {
        self.pid == 0 || self.phase == Phase::Closing
    }

    /// Queues a call; [`Child::flush`] follows.
    pub(super) fn push(&mut self, call: &Call) {
        frame::put_call(self.wire.output(), self.next, call);
        let (soft_us, hard_us) = (call.soft_us, call.hard_us);
        self.calls.push_back(Sent {
            seq: self.next,
            key: call.key,
            soft_us,
            hard_us,
            started: None,
            long: false,
        });
        self.next = self.next.wrapping_add(1);
        if let Some(left) = &mut self.left {
            *left -= 1;
            if *left == 0 {
                self.phase = Phase::Retiring;
            }
        }
    }

    /// Sends what was pushed, as far as it goes.
    pub(super) fn flush(&mut self) {
        self.wire.flush();
    }

    /// Moves bytes both ways as far as they go, registers for more, and takes what came.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        now: Micros,
        report: &mut Report,
    ) -> Result<()> {
        let heard = self.wire.poll(cx, scratch);
        if heard.over {
            self.closed(now, report);
        }
        if heard.bytes { self.hear(report) } else { Ok(()) }
    }

    /// Takes what it said.
    fn hear(&mut self, report: &mut Report) -> Result<()> {
        self.collect(report)?;
        while let Some(payload) = self.wire.next_frame() {
            if !payload.is_empty() {
                self.answer(payload, report)?;
            } else if self.phase == Phase::Starting {
                self.phase = Phase::Ready;
                self.greeted = true;
                report.ready = true;
            }
        }
        Ok(())
    }

    /// Takes what is in the ring.
    pub(super) fn collect(&mut self, report: &mut Report) -> Result<()> {
        let mut ring = BytesMut::new();
        self.cell.drain(&mut ring)?;
        while let Some(payload) = frame::next_frame(&mut ring) {
            self.answer(payload, report)?;
        }
        if ring.is_empty() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Internal, "a child left a cut frame in its ring"))
        }
    }

    /// An outcome that did not fit the ring comes through the socket, and may be overtaken there by
    /// the next ones in the ring.
    fn answer(&mut self, payload: BytesMut, report: &mut Report) -> Result<()> {
        let (seq, mut outcome) = frame::read_outcome(payload.freeze())?;
        outcome.pid = self.pid;
        let ran = |call: &Sent| call.seq == seq && call.key == outcome.key;
        match self.calls.iter().position(ran).filter(|_| self.cell.has_begun(seq)) {
            Some(at) => {
                self.calls.remove(at);
                report.mean_us += (f64::from(outcome.runtime_us) - report.mean_us) / 16.0;
                report.news.push(PoolNews::Done(outcome));
                Ok(())
            }
            None => Err(Error::new(
                ErrorKind::Internal,
                format!("a child answered call `{seq}`, which it was not running"),
            )),
        }
    }

    /// It closed its socket by itself, or cannot be reached: what has not begun comes back at once,
    /// the rest when it is gone.
    fn closed(&mut self, now: Micros, report: &mut Report) {
        if self.phase != Phase::Closing {
            self.phase = Phase::Closing;
            self.take_back(report);
        }
        self.wire.drop_output();
        self.kill_at.get_or_insert(now + EOF_GRACE_US);
    }

    /// Tells it to exit when it has nothing more to do.
    pub(super) fn close(&mut self, now: Micros) {
        self.phase = Phase::Closing;
        self.told = true;
        self.kill_at.get_or_insert(now + EXIT_GRACE_US);
        self.wire.close();
    }

    /// Takes back what has not begun.
    pub(super) fn take_back(&mut self, report: &mut Report) {
        let first = self.cell.take_back(self.next);
        let mut back = Vec::new();
        while self.calls.back().is_some_and(|c| c.seq.wrapping_sub(first) as i32 >= 0) {
            back.extend(self.calls.pop_back().map(|c| PoolNews::Returned { key: c.key }));
        }
        if let Some(left) = &mut self.left {
            *left += back.len() as u32; // one that retires stays so: its successor is on the way
        }
        report.news.extend(back.into_iter().rev());
    }

    /// Reports the call at the front as started, once it has run for a while.
    pub(super) fn scan(&mut self, now: Micros, report: &mut Report) {
        let Some(front) = self.calls.front_mut().filter(|c| c.started.is_none()) else { return };
        if let Some(running) =
            self.cell.running().filter(|r| r.is(front.seq) && r.at + LONG_US <= now)
        {
            front.started = Some(running.at);
            front.long = true;
            report.news.push(PoolNews::Started { key: front.key, pid: self.pid, at: running.at });
        }
    }

    /// Whether [`Child::scan`] may still find something.
    pub(super) fn wants_scan(&self) -> bool {
        self.calls.front().is_some_and(|c| c.started.is_none())
    }

    /// When the next time limit of what runs is due.
    pub(super) fn next_limit(&self) -> Option<Micros> {
        let call = self.calls.front()?;
        [call.due(call.soft_us), call.due(call.hard_us)].into_iter().flatten().min()
    }

    /// The signal that a due time limit asks for. Each limit is asked for once.
    pub(super) fn enforce(&mut self, now: Micros, report: &mut Report) -> Result<Option<i32>> {
        if self.next_limit().is_none_or(|at| at > now) {
            return Ok(None);
        }
        // It may have finished in time without the bell having rung. Nothing new can begin while
        // this is found out, so that no other call is blamed.
        let seq = self.calls[0].seq;
        if self.calls[0].hard_due(now) {
            self.take_back(report);
        }
        self.collect(report)?;
        let Some(call) = self.calls.front_mut().filter(|c| c.seq == seq) else { return Ok(None) };
        if call.hard_due(now) {
            let limit = call.hard_us.take().unwrap_or_default();
            self.kill(Lost::TimeLimit(limit), report);
            return Ok(Some(libc::SIGKILL));
        }
        call.soft_us = None;
        self.cell.ask_soft(seq);
        Ok(Some(libc::SIGUSR1))
    }

    /// It will be killed. What has not begun comes back first, so that nothing else can begin and
    /// be blamed.
    pub(super) fn kill(&mut self, why: Lost, report: &mut Report) {
        self.phase = Phase::Closing;
        self.doom.get_or_insert(why);
        self.take_back(report);
    }

    /// Another child idles: takes back what waits behind a call that has been running for a while,
    /// now or at the time returned.
    pub(super) fn relieve(&mut self, now: Micros, report: &mut Report) -> Option<Micros> {
        let front = self.calls.front().filter(|_| self.calls.len() > 1)?;
        let since = match self.watched {
            Some((seq, since)) if seq == front.seq => since,
            _ => {
                self.watched = Some((front.seq, now));
                now
            }
        };
        if now < since + LONG_US {
            return Some(since + LONG_US);
        }
        // One that has not begun waits for a processor, not for the call before it.
        if self.cell.has_begun(front.seq) {
            self.calls[0].long = true;
            self.take_back(report);
            return None;
        }
        self.watched = Some((front.seq, now));
        Some(now + LONG_US)
    }

    /// Whether the call `key` is here, and if so whether it has begun.
    pub(super) fn holds(&self, key: u64) -> Option<bool> {
        let call = self.calls.iter().find(|c| c.key == key)?;
        Some(self.cell.has_begun(call.seq))
    }

    /// The process is gone. What it finished is in the ring and in the socket; the call it had
    /// begun is lost; the rest never began.
    pub(super) fn reap(&mut self, how: &str, scratch: &mut [u8], report: &mut Report) {
        self.wire.read_rest(scratch);
        let _ = self.hear(report); // what a dying child wrote wrongly is lost with it
        self.take_back(report);
        let why = self.doom.clone().unwrap_or_else(|| Lost::Died(how.to_owned()));
        let pid = self.pid;
        report.news.extend(self.calls.drain(..).map(|c| PoolNews::Lost {
            key: c.key,
            pid,
            why: why.clone(),
        }));
    }

    /// Whether it has done all it was sent and may be told to exit.
    pub(super) fn is_spent(&self) -> bool {
        self.phase == Phase::Retiring && self.calls.is_empty()
    }
}
