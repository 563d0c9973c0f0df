//! What time asks of the calls that run at one child: starts are reported, limits enforced, what
//! waits behind a long one given to others, what was terminated killed at last.
//!
//! A limit is looked at again right before it is enforced, because the call may have ended without
//! the bell having rung; nothing new can begin while this is found out, so that no other call is
//! blamed.
//!
//! Where several calls run in one child, which then has an event loop, none is ended by killing them
//! all: the child is asked to cancel the one, and is killed only if that does not end.

use super::{
    child::{Child, Ending, Phase, Report, Sent},
    page::Ask,
};
use crate::{
    Result,
    clock::Micros,
    pool::{Lost, PoolNews},
};

/// A call that runs longer than this is reported as started, and nothing more is queued behind it.
const LONG_US: Micros = 1_000;
/// What a task that is to end has for it before its process is killed.
const END_GRACE_US: Micros = 10_000_000;
/// What a coroutine that was cancelled has for its end before its process is killed.
const CANCEL_GRACE_US: Micros = 5_000_000;

impl Sent {
    fn due(&self, limit: Option<u64>) -> Option<Micros> {
        Some(self.started?.1.saturating_add(limit?))
    }

    fn soft_due(&self, now: Micros) -> bool {
        self.due(self.soft_us).is_some_and(|at| at <= now)
    }

    fn hard_due(&self, now: Micros) -> bool {
        self.due(self.hard_us).is_some_and(|at| at <= now)
    }

    /// When something is due next.
    fn next_due(&self) -> Option<Micros> {
        let limits = [self.due(self.soft_us), self.due(self.hard_us)];
        limits.into_iter().chain([self.ending.as_ref().map(|e| e.kill_at)]).flatten().min()
    }
}

impl Child {
    /// Whether [`Child::scan`] may still find something.
    pub(super) fn wants_scan(&self) -> bool {
        self.seen < self.calls.len().min(self.lanes)
    }

    /// Reports calls as started, once they have run for a while. Returns the signal for one that
    /// was to end and could not be told before.
    pub(super) fn scan(&mut self, now: Micros, report: &mut Report) -> Option<i32> {
        let mut signal = None;
        for lane in 0..self.lanes {
            let Some(running) = self.cell.running(lane).filter(|r| r.at + LONG_US <= now) else {
                continue;
            };
            let Some(at) = self.find(running.seq) else { continue };
            let (call, pid) = (&mut self.calls[at], self.pid);
            if call.started.is_some() {
                continue;
            }
            call.started = Some((lane, running.at));
            self.seen += 1;
            self.long += usize::from(!std::mem::replace(&mut call.long, true));
            self.limit_at = [self.limit_at, call.next_due()].into_iter().flatten().min();
            report.news.push(PoolNews::Started { key: call.key, pid, at: running.at });
            if let Some(ending) = call.ending.as_mut().filter(|ending| !ending.told) {
                ending.told = true;
                self.cell.ask(lane, call.seq, Ask::End);
                signal = Some(ending.signal);
            }
        }
        signal
    }

    /// The signal that due time limits ask for. Each limit is asked for once.
    pub(super) fn enforce(&mut self, now: Micros, report: &mut Report) -> Result<Option<i32>> {
        if self.limit_at.is_none_or(|at| at > now) {
            return Ok(None);
        }
        let cancelled = self.cancel_overdue(now);
        let over =
            |c: &Sent| c.hard_due(now) || c.ending.as_ref().is_some_and(|e| e.kill_at <= now);
        if self.calls.iter().any(over) {
            self.take_back(report);
        }
        self.collect(report)?;
        if let Some(call) = self.calls.iter().find(|c| over(c)) {
            let why = match (&call.ending, call.hard_us) {
                (Some(ending), _) => ending.why.clone(),
                (None, limit) => Lost::TimeLimit(limit.unwrap_or_default()),
            };
            let culprit = call.seq;
            self.kill(why, Some(culprit), report);
            self.limit_at = None;
            return Ok(Some(libc::SIGKILL));
        }
        let mut signal = cancelled;
        for call in self.calls.iter_mut().filter(|c| c.soft_due(now)) {
            call.soft_us = None;
            if let Some((lane, _)) = call.started {
                self.cell.ask(lane, call.seq, Ask::Soft);
                signal = Some(libc::SIGUSR1);
            }
        }
        self.limit_at = self.calls.iter().filter_map(Sent::next_due).min();
        Ok(signal)
    }

    /// Asks an event loop to cancel what is past its hard limit; the signal for that.
    fn cancel_overdue(&mut self, now: Micros) -> Option<i32> {
        if self.lanes == 1 {
            return None;
        }
        let mut signal = None;
        for call in self.calls.iter_mut().filter(|c| c.hard_due(now)) {
            let limit = call.hard_us.take().unwrap_or_default();
            let Some((lane, _)) = call.started.filter(|_| call.ending.is_none()) else { continue };
            let kill_at = now + CANCEL_GRACE_US;
            let why = Lost::TimeLimit(limit);
            call.ending = Some(Ending { why, signal: libc::SIGUSR1, kill_at, told: true });
            self.cell.ask(lane, call.seq, Ask::End);
            signal = Some(libc::SIGUSR1);
        }
        signal
    }

    /// Ends the call `key`, which has begun. The signal that asks for it, unless that must wait
    /// until the call is seen to run.
    pub(super) fn terminate(
        &mut self,
        key: u64,
        signal: i32,
        now: Micros,
        report: &mut Report,
    ) -> Result<Option<i32>> {
        let alone = self.lanes == 1;
        if alone {
            self.take_back(report);
        }
        self.collect(report)?;
        let Some(at) = self.calls.iter().position(|c| c.key == key) else { return Ok(None) };
        if alone && signal == libc::SIGKILL {
            let culprit = self.calls[at].seq;
            self.kill(Lost::Terminated(signal), Some(culprit), report);
            return Ok(Some(signal));
        }
        let call = &mut self.calls[at];
        let seq = call.seq;
        let runs = |lane: &usize| self.cell.running(*lane).is_some_and(|r| r.seq == seq);
        let lane = (0..self.lanes).find(runs);
        if signal == libc::SIGUSR1 {
            // As a soft limit that is due: the task decides what that means for it.
            call.soft_us = lane.is_none().then_some(0);
            return Ok(lane.map(|lane| {
                self.cell.ask(lane, seq, Ask::Soft);
                signal
            }));
        }
        let why = Lost::Terminated(signal);
        let (signal, grace) =
            if alone { (signal, END_GRACE_US) } else { (libc::SIGUSR1, CANCEL_GRACE_US) };
        call.ending = Some(Ending { why, signal, kill_at: now + grace, told: lane.is_some() });
        self.limit_at = [self.limit_at, call.next_due()].into_iter().flatten().min();
        if alone && self.phase != Phase::Closing {
            self.phase = Phase::Retiring;
        }
        Ok(lane.map(|lane| {
            self.cell.ask(lane, seq, Ask::End);
            signal
        }))
    }

    /// Another child idles: takes back what waits behind calls that have been running for a while,
    /// now or at the time returned.
    pub(super) fn relieve(&mut self, now: Micros, report: &mut Report) -> Option<Micros> {
        let last = self.calls.get(self.lanes - 1).filter(|_| self.calls.len() > self.lanes)?;
        let since = match self.watched {
            Some((seq, since)) if seq == last.seq => since,
            _ => {
                self.watched = Some((last.seq, now));
                now
            }
        };
        if now < since + LONG_US {
            return Some(since + LONG_US);
        }
        // One that has not begun waits for a processor, not for the calls before it.
        if self.cell.has_begun(last.seq) {
            for call in self.calls.iter_mut().take(self.lanes) {
                self.long += usize::from(!std::mem::replace(&mut call.long, true));
            }
            self.take_back(report);
            return None;
        }
        self.watched = Some((last.seq, now));
        Some(now + LONG_US)
    }
}
