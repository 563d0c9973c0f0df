//! Keeping the number of children: forked when one is missing, buried when the zygote says so,
//! replaced.
//!
//! A child that is to be replaced counts no more, so its successor starts while it finishes. Deaths
//! before a child was ready say that the app or the system, not a task, is at fault: after a few in
//! a row the next attempts wait ever longer. What a death means for the calls is the child's own
//! bookkeeping; what it means for the tasks is the worker's business.

use std::{
    os::fd::OwnedFd,
    task::{Context, Poll},
};

use super::{
    ProcessPool,
    child::{Child, Phase},
    page::Cell,
    wire::Wire,
    zygote::{self, ZygoteNews},
};
use crate::{
    Error, ErrorKind, Result,
    clock::Micros,
    pool::{Lost, PoolNews},
};

/// Deaths in a row before a child was ready, after which replacing slows down.
const FAST_DEATHS: u32 = 5;

impl ProcessPool {
    /// Forks what is missing, when it may. Returns when to try again. While as many as there are to
    /// be have still to end, none is forked, so that children which end slowly do not pile up.
    pub(super) fn populate(&mut self, now: Micros) -> Result<Option<Micros>> {
        while !self.stopping && self.alive() < self.size {
            if now < self.respawn_at {
                return Ok(Some(self.respawn_at));
            }
            let closing = |c: &&Child| c.phase == Phase::Closing;
            if self.children.iter().filter(closing).count() >= self.size {
                return Ok(None); // the end of one of them leads here again
            }
            match self.prepare() {
                Ok((cell, wire, files)) => {
                    self.made = self.made.wrapping_add(1);
                    self.census.started += 1;
                    self.children.push(Child::new(self.made, cell, wire, self.max_tasks));
                    self.zygote.fork(self.made, files)?;
                }
                // Out of open files, say: no reason to give up the children that work.
                Err(error) => self.early_death(&error.to_string(), now),
            }
        }
        Ok(None)
    }

    /// How many children are there to stay.
    fn alive(&self) -> usize {
        self.children.iter().filter(|c| c.is_alive()).count()
    }

    /// What parent and child share, and the child's ends of it.
    fn prepare(&self) -> Result<(Cell, Wire, [OwnedFd; 2])> {
        let pair = (self.pair)().and_then(|(ours, theirs)| Ok((Wire::new(ours)?, theirs)));
        let (wire, theirs) =
            pair.map_err(|e| Error::caused(ErrorKind::Internal, "no socket can be made", e))?;
        let (cell, file) = Cell::make(self.lanes)?;
        Ok((cell, wire, [theirs.into(), file]))
    }

    /// There are more children than there are to be: those that idle go first, and of the others
    /// those with the least to do, each when what it runs has ended.
    pub(super) fn retire_surplus(&mut self) {
        for _ in self.size..self.alive() {
            let candidates = self.children.iter_mut().filter(|c| c.is_alive());
            let Some(child) = candidates.min_by_key(|c| c.begun()) else { return };
            child.retire(&mut self.report);
        }
        // Whoever waits for news sees that the retired ones are told to exit.
        self.report.ready = true;
    }

    pub(super) fn hear_zygote(&mut self, cx: &mut Context<'_>, now: Micros) {
        while let Poll::Ready(news) = self.zygote.poll(cx) {
            match news {
                Ok(ZygoteNews::Forked { number, pid }) => {
                    if let Some(child) = self.children.iter_mut().find(|c| c.number == number) {
                        child.pid = pid;
                        if child.doom.is_some() {
                            self.signal(pid, libc::SIGKILL);
                        }
                    }
                }
                Ok(ZygoteNews::Exited { pid, status }) => {
                    if let Some(i) = self.children.iter().position(|c| c.pid == pid) {
                        self.reap(i, &zygote::in_words(status), now);
                    }
                }
                Ok(ZygoteNews::ForkFailed { number, errno }) => {
                    if let Some(i) = self.children.iter().position(|c| c.number == number) {
                        let error = std::io::Error::from_raw_os_error(errno);
                        self.reap(i, &format!("cannot be forked: {error}"), now);
                    }
                }
                Err(e) => return self.zygote_gone(e),
            }
        }
    }

    /// The process of a child is gone, or never came to be.
    fn reap(&mut self, i: usize, how: &str, now: Micros) {
        let mut child = self.children.swap_remove(i);
        self.count(&child);
        child.reap(how, &mut self.scratch, &mut self.report);
        self.report.ready = true; // its cell is free
        if child.told || self.stopping {
            return;
        }
        if child.greeted {
            self.early_deaths = 0;
            let why = match child.doom.as_ref().map(|(why, _)| why) {
                Some(Lost::TimeLimit(us)) => {
                    format!("a task ran past its time limit of {} s", *us as f64 / 1e6)
                }
                Some(Lost::Died(why)) => why.clone(),
                Some(Lost::Terminated(signal)) => {
                    format!("its task was terminated by signal {signal}")
                }
                Some(Lost::Shutdown | Lost::Beside) | None => how.to_owned(),
            };
            let follows = if self.alive() < self.size { " and is replaced" } else { "" };
            self.report
                .news
                .push(PoolNews::Notice(format!("child `{}` ended ({why}){follows}", child.pid)));
            return;
        }
        self.early_death(how, now);
    }

    /// Counts the end of a child, unless the pool ends.
    fn count(&mut self, child: &Child) {
        if self.stopping {
            return;
        }
        let census = &mut self.census;
        census.up |= child.greeted;
        let count = match child.doom.as_ref().map(|(why, _)| why) {
            Some(Lost::TimeLimit(_)) => &mut census.timed_out,
            Some(Lost::Terminated(_)) => &mut census.terminated,
            None if child.calls.iter().any(|c| c.ending.is_some()) => &mut census.terminated,
            None if child.told => &mut census.retired,
            Some(_) | None => &mut census.died,
        };
        *count += 1;
    }

    /// A child did not live to be ready.
    fn early_death(&mut self, how: &str, now: Micros) {
        self.early_deaths += 1;
        if self.early_deaths >= FAST_DEATHS {
            let wait = 1 << (self.early_deaths - FAST_DEATHS).min(5);
            self.respawn_at = now + wait * 1_000_000;
            let deaths = self.early_deaths;
            self.report.news.push(PoolNews::Notice(format!(
                "`{deaths}` children in a row ended before they were ready ({how}); their output says why; next attempt in {wait} s"
            )));
        }
    }

    /// Without the zygote its children are dead or dying and none can be made: everything ends,
    /// then the pool fails.
    pub(super) fn zygote_gone(&mut self, error: Error) {
        for mut child in self.children.drain(..) {
            child.reap("the zygote is gone", &mut self.scratch, &mut self.report);
        }
        if !self.stopping {
            self.stopping = true;
            self.broken = Some(error);
        }
    }
}
