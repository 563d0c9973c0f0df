//! The parent's picture of one child: what it was sent, what of that has begun, and how it ends.
//!
//! A child goes Starting -> Ready -> (Retiring) -> Closing -> gone. Only the zygote's word that the
//! process exited makes it gone: an end of file on the socket may come earlier (or never, when a
//! grandchild inherited it). At that moment the ring tells which calls finished; those that had
//! begun are lost, the rest is the parent's again.
//!
//! A child has lanes, each of which runs one call at a time; a child of plain functions has one.
//! Calls begin in the order in which they were sent, so what has begun is the front of `calls`, and
//! never more than there are lanes.
//!
//! Everything here is bookkeeping of one child; which child gets which call is decided in `mod.rs`,
//! what time asks of what runs in `watch.rs`.

use std::{collections::VecDeque, task::Context};

use bytes::{Bytes, BytesMut};

use super::{frame, page::Cell, wire::Wire};
use crate::{
    Error, ErrorKind, Result,
    clock::Micros,
    pool::{Call, Lost, PoolNews, Status},
};

/// How long a child that closed its socket by itself may take to exit.
const EOF_GRACE_US: Micros = 1_000_000;
/// How long a child that was told to exit may take, user's hooks included.
const EXIT_GRACE_US: Micros = 10_000_000;

/// A call at a child.
pub(super) struct Sent {
    pub(super) seq: u32,
    pub(super) key: u64,
    pub(super) soft_us: Option<u64>,
    pub(super) hard_us: Option<u64>,
    /// Where and when user code began, once it was seen and reported.
    pub(super) started: Option<(usize, Micros)>,
    /// Runs for so long that nothing should wait behind it.
    pub(super) long: bool,
    /// How it is to end before its time.
    pub(super) ending: Option<Ending>,
}

/// The end of a call that is terminated, or that a child with an event loop is to cancel.
pub(super) struct Ending {
    /// What becomes of the call.
    pub(super) why: Lost,
    /// What tells the child.
    pub(super) signal: i32,
    /// When its process is killed.
    pub(super) kill_at: Micros,
    /// Whether the child has been told; before, it was not seen to run.
    pub(super) told: bool,
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
    /// Mean run time in microseconds, moving; none before the first outcome.
    pub(super) mean_us: Option<f64>,
    /// Whether a child became able to take calls.
    pub(super) ready: bool,
}

pub(super) struct Child {
    /// Number of this child since the pool began.
    pub(super) number: u32,
    /// 0 until the zygote forked it.
    pub(super) pid: u32,
    pub(super) phase: Phase,
    /// Whether it was ever ready.
    pub(super) greeted: bool,
    /// Whether the pool told it to exit.
    pub(super) told: bool,
    /// Why the pool killed it, and for which of its running calls; `None` for all of them.
    pub(super) doom: Option<(Lost, Option<u32>)>,
    /// When it is killed if it is still there.
    pub(super) kill_at: Option<Micros>,
    /// At most this many more calls before it retires.
    left: Option<u32>,
    pub(super) cell: Cell,
    wire: Wire,
    /// In the order of sending. Written here and by `watch`.
    pub(super) calls: VecDeque<Sent>,
    next: u32,
    /// How many calls run at once.
    pub(super) lanes: usize,
    /// How many of `calls` have been seen to start, and how many are long.
    pub(super) seen: usize,
    pub(super) long: usize,
    /// No limit of what runs is due before.
    pub(super) limit_at: Option<Micros>,
    /// The call in the last lane and since when it has been there with others behind it while
    /// another child idled.
    pub(super) watched: Option<(u32, Micros)>,
}

impl Child {
    pub(super) fn new(number: u32, cell: Cell, wire: Wire, max_tasks: Option<u32>) -> Self {
        Self {
            number,
            pid: 0,
            phase: Phase::Starting,
            greeted: false,
            told: false,
            doom: None,
            kill_at: None,
            left: max_tasks,
            lanes: cell.lanes(),
            cell,
            wire,
            calls: VecDeque::new(),
            next: 0,
            seen: 0,
            long: 0,
            limit_at: None,
            watched: None,
        }
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
        if self.long >= self.lanes {
            return 0;
        }
        quota.saturating_sub(self.calls.len()).min(self.left.map_or(usize::MAX, |l| l as usize))
    }

    /// Whether it takes calls, or will.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Ready)
    }

    /// How many of its calls have begun.
    pub(super) fn begun(&self) -> usize {
        self.calls.iter().take_while(|c| self.cell.has_begun(c.seq)).count()
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
            ending: None,
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
                let payload = payload.freeze();
                self.answer(&payload, &payload, report)?;
            } else if self.phase == Phase::Starting {
                self.phase = Phase::Ready;
                self.greeted = true;
                report.ready = true;
            }
        }
        if let Some(kib) = self.cell.outgrown().filter(|_| self.is_alive()) {
            let text = format!(
                "child `{}` has taken `{kib}` KiB of memory, more than it may, and is replaced",
                self.pid
            );
            report.news.push(PoolNews::Notice(text));
            self.retire(report);
        }
        Ok(())
    }

    /// Takes what is in the ring.
    pub(super) fn collect(&mut self, report: &mut Report) -> Result<()> {
        let mut ring = BytesMut::new();
        self.cell.drain(&mut ring)?;
        let ring = ring.freeze();
        let mut rest = &ring[..];
        while let Some(payload) = frame::split_frame(&mut rest) {
            self.answer(payload, &ring, report)?;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Internal, "a child left a cut frame in its ring"))
        }
    }

    /// An outcome that did not fit the ring comes through the socket, and may be overtaken there by
    /// the next ones in the ring.
    fn answer(&mut self, payload: &[u8], bytes: &Bytes, report: &mut Report) -> Result<()> {
        let (seq, mut outcome) = frame::read_outcome(payload, bytes)?;
        outcome.pid = self.pid;
        let ran = |at: &usize| self.calls[*at].key == outcome.key && self.cell.has_begun(seq);
        match self.find(seq).filter(ran) {
            Some(at) => {
                let Some(call) = self.forget(at) else { return Ok(()) };
                // One that was cancelled has no outcome of its own.
                let ending = call.ending.filter(|_| outcome.status == Status::Ignore);
                if let Some(Ending { why, .. }) = ending {
                    let (key, pid) = (outcome.key, self.pid);
                    report.news.push(PoolNews::Lost { key, pid, why });
                    return Ok(());
                }
                let ran_us = f64::from(outcome.runtime_us);
                let mean = report.mean_us.get_or_insert(ran_us);
                *mean += (ran_us - *mean) / 16.0;
                report.news.push(PoolNews::Done(outcome));
                Ok(())
            }
            None => Err(Error::new(
                ErrorKind::Internal,
                format!("a child answered call `{seq}`, which it was not running"),
            )),
        }
    }

    /// Where the call with this number is in `calls`, whose numbers ascend.
    pub(super) fn find(&self, seq: u32) -> Option<usize> {
        let first = self.calls.front()?.seq;
        if first == seq {
            return Some(0);
        }
        let after = |number: u32| number.wrapping_sub(first);
        self.calls.binary_search_by_key(&after(seq), |c| after(c.seq)).ok()
    }

    /// A call that had begun has ended.
    fn forget(&mut self, at: usize) -> Option<Sent> {
        let call = self.calls.remove(at)?;
        self.long -= usize::from(call.long);
        if call.started.is_some() {
            self.seen -= 1;
            if self.seen == 0 {
                self.limit_at = None;
            }
        }
        Some(call)
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

    /// It will be killed. What has not begun comes back first, so that nothing else can begin and
    /// be blamed.
    pub(super) fn kill(&mut self, why: Lost, culprit: Option<u32>, report: &mut Report) {
        self.phase = Phase::Closing;
        self.doom.get_or_insert((why, culprit));
        self.take_back(report);
    }

    /// Whether the call `key` is here, and if so whether it has begun.
    pub(super) fn holds(&self, key: u64) -> Option<bool> {
        let call = self.calls.iter().find(|c| c.key == key)?;
        Some(self.cell.has_begun(call.seq))
    }

    /// Takes no more calls and ends when it has none; what has not begun comes back.
    pub(super) fn retire(&mut self, report: &mut Report) {
        if self.is_alive() {
            self.phase = Phase::Retiring;
            self.take_back(report);
        }
    }

    /// The process is gone. What it finished is in the ring and in the socket; the calls it had
    /// begun are lost; the rest never began.
    pub(super) fn reap(&mut self, how: &str, scratch: &mut [u8], report: &mut Report) {
        self.wire.read_rest(scratch);
        let _ = self.hear(report); // what a dying child wrote wrongly is lost with it
        self.take_back(report);
        let pid = self.pid;
        // Killed for one of its calls, or by the signal that was to end one.
        let blamed = match &self.doom {
            Some((_, culprit)) => culprit.is_some(),
            None => self.calls.iter().any(|c| c.ending.is_some()),
        };
        let doom = self.doom.as_ref();
        let why = |call: &Sent| match (doom, &call.ending) {
            (Some((why, culprit)), _) if culprit.is_none_or(|seq| seq == call.seq) => why.clone(),
            (_, Some(ending)) => ending.why.clone(),
            _ if blamed => Lost::Beside,
            _ => Lost::Died(how.to_owned()),
        };
        report.news.extend(self.calls.drain(..).map(|c| PoolNews::Lost {
            key: c.key,
            pid,
            why: why(&c),
        }));
    }

    /// Whether it has done all it was sent and may be told to exit.
    pub(super) fn is_spent(&self) -> bool {
        self.phase == Phase::Retiring && self.calls.is_empty()
    }
}
