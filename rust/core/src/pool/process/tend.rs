//! What the pool does as time passes: limits, starts, relief of busy children, late exits, missing
//! children, a silent zygote. Everything is looked at in one walk, which says when the next is due.

use super::{
    ProcessPool, SCAN_US,
    child::{Child, Phase},
};
use crate::{Error, Result, clock::Micros, pool::Lost};

impl ProcessPool {
    /// A child that does not keep to the protocol is killed.
    pub(super) fn break_off(&mut self, i: usize, error: &Error) {
        let child = &mut self.children[i];
        if child.doom.is_none() {
            child.kill(Lost::Died(error.to_string()), None, &mut self.report);
            let pid = child.pid;
            self.signal(pid, libc::SIGKILL);
        }
    }

    /// Does what time asks for; when to be called again.
    pub(super) fn tend(&mut self, now: Micros) -> Result<Option<Micros>> {
        let mut wake = Wake(None);
        self.scan(now, &mut wake);
        let someone_idles = self.idle_allowance() > 0
            && self.children.iter().any(|c| c.phase == Phase::Ready && c.load() == 0);
        for i in 0..self.children.len() {
            let child = &mut self.children[i];
            match child.enforce(now, &mut self.report) {
                Ok(None) => {}
                Ok(Some(signal)) => {
                    let pid = child.pid;
                    self.signal(pid, signal);
                }
                Err(e) => self.break_off(i, &e),
            }
            let child = &mut self.children[i];
            wake.at(child.limit_at);
            // Only when there is nothing to report has the worker had its chance to give the idle
            // child something.
            if someone_idles && self.report.news.is_empty() {
                wake.at(child.relieve(now, &mut self.report));
            }
            if child.is_spent() {
                child.close(now);
            }
            if let Some(at) = child.kill_at {
                if at <= now {
                    child.kill_at = None;
                    let pid = child.pid;
                    self.signal(pid, libc::SIGKILL);
                } else {
                    wake.at(Some(at));
                }
            }
        }
        wake.at(self.populate(now)?);
        let awaited = self.children.iter().any(Child::awaits_zygote);
        wake.at(self.zygote.watch(awaited, now, &mut self.report)?);
        Ok(wake.0)
    }

    /// Reads the cells every few milliseconds while a call runs that is not known to be long.
    fn scan(&mut self, now: Micros, wake: &mut Wake) {
        if self.scan_at.is_some_and(|at| at <= now) {
            self.scan_at = None;
            for i in 0..self.children.len() {
                let child = &mut self.children[i];
                if child.wants_scan() {
                    // Calls that finished may lie in the ring of a child that is busy with the
                    // next.
                    if let Err(e) = child.collect(&mut self.report) {
                        self.break_off(i, &e);
                        continue;
                    }
                    if let Some(signal) = child.scan(now, &mut self.report) {
                        let pid = child.pid;
                        self.signal(pid, signal);
                    }
                }
            }
        }
        if self.scan_at.is_none() && self.children.iter().any(Child::wants_scan) {
            self.scan_at = Some(now + SCAN_US);
        }
        wake.at(self.scan_at);
    }
}

/// The earliest of several times.
struct Wake(Option<Micros>);

impl Wake {
    fn at(&mut self, at: Option<Micros>) {
        self.0 = [self.0, at].into_iter().flatten().min();
    }
}
