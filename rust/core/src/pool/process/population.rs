//! Keeping the number of children: forked when one is missing, buried when the zygote says so,
//! replaced.
//!
//! A child that is to be replaced counts no more, so its successor starts while it finishes. Deaths
//! before a child was ready say that the app or the system, not a task, is at fault: after a few in
//! a row the next attempts wait ever longer. What a death means for the calls is the child's own
//! bookkeeping; what it means for the tasks is the worker's business.

use std::task::{Context, Poll};

use super::{
    ProcessPool,
    child::{Child, Phase},
    page::Cell,
    wire::Wire,
    zygote::{self, ZygoteNews},
};
use crate::{
    Error, Result,
    clock::Micros,
    pool::{Lost, PoolNews},
};

/// Deaths in a row before a child was ready, after which replacing slows down.
const FAST_DEATHS: u32 = 5;

impl ProcessPool {
    /// Forks what is missing, when it may. Returns when to try again.
    pub(super) fn populate(&mut self, now: Micros) -> Result<Option<Micros>> {
        let alive = |c: &&Child| matches!(c.phase, Phase::Starting | Phase::Ready);
        while !self.stopping && self.children.iter().filter(alive).count() < self.slots {
            if now < self.respawn_at {
                return Ok(Some(self.respawn_at));
            }
            let Some(index) =
                (0..self.pages.cells()).find(|i| self.children.iter().all(|c| c.cell() != *i))
            else {
                return Ok(None); // all are closing; the end of one of them leads here again
            };
            let cell =
                Cell::new(self.pages.clone(), index).expect("an index below the number of cells");
            let pair = (self.pair)().and_then(|(ours, theirs)| Ok((Wire::new(ours)?, theirs)));
            let (ours, theirs) = match pair {
                Ok(pair) => pair,
                Err(error) => {
                    // Out of open files, say: no reason to give up the children that work.
                    self.early_death(&format!("no socket can be made: {error}"), now);
                    continue;
                }
            };
            self.births = self.births.wrapping_add(1);
            self.children.push(Child::new(self.births, cell, ours, self.max_tasks));
            self.zygote.fork(index, self.births, theirs.into())?;
        }
        Ok(None)
    }

    pub(super) fn hear_zygote(&mut self, cx: &mut Context<'_>, now: Micros) {
        while let Poll::Ready(news) = self.zygote.poll(cx) {
            match news {
                Ok(ZygoteNews::Forked { birth, pid }) => {
                    if let Some(child) = self.children.iter_mut().find(|c| c.birth == birth) {
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
                Ok(ZygoteNews::ForkFailed { birth, errno }) => {
                    if let Some(i) = self.children.iter().position(|c| c.birth == birth) {
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
        child.reap(how, &mut self.scratch, &mut self.report);
        self.report.ready = true; // its cell is free
        if child.told || self.stopping {
            return;
        }
        if child.greeted {
            self.early_deaths = 0;
            let why = match &child.doom {
                Some(Lost::TimeLimit(us)) => {
                    format!("a task ran past its time limit of {} s", *us as f64 / 1e6)
                }
                Some(Lost::Died(why)) => why.clone(),
                Some(Lost::Terminated(signal)) => {
                    format!("its task was terminated by signal {signal}")
                }
                Some(Lost::Shutdown) | None => how.to_owned(),
            };
            self.report.news.push(PoolNews::Notice(format!(
                "child `{}` ended ({why}) and is replaced",
                child.pid
            )));
            return;
        }
        self.early_death(how, now);
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
