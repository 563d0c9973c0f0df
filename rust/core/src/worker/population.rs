//! How large the pool is: grown and shrunk by command or by what there is to do, and made anew.

use std::sync::Arc;

use crate::{
    clock::Micros,
    config::TaskSpec,
    error::{Error, ErrorKind, Result},
    worker::{
        Now, Worker,
        autoscale::{Autoscale, Bounds, Scale},
    },
};

impl Worker {
    /// With a pool that grows and shrinks by itself between these bounds; it shrinks when all of it
    /// was not needed for so many microseconds.
    #[must_use]
    pub fn scaling(mut self, bounds: Bounds, keepalive: Micros) -> Self {
        self.autoscale = Some(Autoscale::new(bounds, keepalive));
        self.fit_window();
        self
    }

    /// Lets the pool grow or shrink as there is to do.
    pub(super) fn scale(&mut self, now: Now) {
        let Some(scaler) = &mut self.autoscale else { return };
        let resized = match scaler.decide(self.inflight.claimed(), self.pool.slots(), now.mono) {
            Scale::Stay => return,
            Scale::Grow(by) => self.pool.grow(by),
            Scale::Shrink(by) => self.pool.shrink(by),
        };
        match resized {
            Ok(slots) => tracing::info!(slots, "the pool is scaled to so many tasks at a time"),
            Err(error) => {
                tracing::warn!(%error, "the pool cannot be scaled and stays as it is");
                self.autoscale = None;
                self.fit_window();
            }
        }
        self.children_changed = true;
    }

    /// How many tasks could run at a time, after growing by itself.
    pub(super) fn most_slots(&self) -> usize {
        self.autoscale.map_or_else(|| self.pool.slots(), |scaler| scaler.bounds.most)
    }

    /// The window is for all that could run, or nothing would ever call for a larger pool.
    fn fit_window(&mut self) {
        self.window.resize(self.most_slots());
    }

    pub(super) fn resize(&mut self, by: usize, grow: bool) -> Result<usize> {
        self.must_work()?;
        let slots = if grow { self.pool.grow(by)? } else { self.pool.shrink(by)? };
        if let Some(scaler) = &mut self.autoscale {
            // Whoever asks means it: the next turn must not undo it.
            let (least, most) = (scaler.bounds.least, scaler.bounds.most);
            scaler.bounds = if grow {
                Bounds { least, most: most.max(slots) }
            } else {
                scaler.bounds.including(slots)
            };
        }
        self.fit_window();
        self.children_changed = true;
        tracing::info!(slots, "the pool runs so many tasks at a time from now on");
        Ok(slots)
    }

    pub(super) fn set_autoscale(
        &mut self,
        most: Option<usize>,
        least: Option<usize>,
    ) -> Result<Bounds> {
        self.must_work()?;
        let Some(scaler) = &mut self.autoscale else {
            let text = "the pool does not scale by itself, expected a worker that was started with --autoscale";
            return Err(Error::new(ErrorKind::Unsupported, text));
        };
        let bounds = scaler.bounds.changed(most, least)?;
        // Before it is agreed: a pool has its own idea of how large it may be.
        crate::pool::grown(bounds.most, 0)?;
        scaler.bounds = bounds;
        self.fit_window();
        tracing::info!(least = bounds.least, most = bounds.most, "the pool scales between these");
        Ok(bounds)
    }

    /// Makes the pool's processes anew, with these tasks beside those that there were.
    pub(super) fn restart(
        &mut self,
        modules: &str,
        tasks: Vec<(Arc<str>, TaskSpec)>,
        now: Now,
    ) -> Result<()> {
        self.must_work()?;
        self.pool.restart(modules)?;
        let mut released = Vec::new();
        for (name, spec) in tasks {
            let limit = spec.rate_limit.filter(|_| !self.config.disable_rate_limits);
            let task = self.registry.put(name, spec);
            self.rates.set(task, limit, now.mono, &mut released);
        }
        self.total.resize(self.registry.len(), 0);
        for key in released {
            self.make_ready(key);
        }
        self.children_changed = true;
        tracing::info!("the processes of the pool are replaced");
        Ok(())
    }
}
