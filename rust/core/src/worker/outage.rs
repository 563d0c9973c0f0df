//! Outages: the broker, the lease or the result store goes away and comes back.
//!
//! An outage is one warning and one line when it is over, however long it lasts and however many attempts fail. What runs goes
//! on, what is finished is kept. What was claimed may begin while the lease certainly stands; after that it waits, for another
//! worker may have been given it. A lapsed lease voids everything that was held under it.

use std::time::Duration;

use crate::{
    broker::lease::LEASE_MS,
    error::{Error, ErrorKind},
    worker::{Now, Standing, Worker, flush::FlushNews, inflight::Place, link::LinkNews},
};

/// What is away, so that an outage is one line in the log.
#[derive(Debug, Default)]
pub(super) struct Away {
    broker: bool,
    store: bool,
    /// Whether the broker said that the lease is over.
    lapsed: bool,
}

impl Worker {
    /// Takes what the link reports.
    pub(super) fn link_news(&mut self, news: LinkNews, now: Now) {
        match news {
            LinkNews::Deliveries(deliveries) => self.receive(deliveries, now),
            LinkNews::Renewed(took) => {
                self.leased(now, took);
                self.children_changed = true;
                self.mark_long(now);
            }
            LinkNews::Marked => self.marked(),
            LinkNews::Recovered(found) => {
                if found.requeued > 0 {
                    tracing::warn!(requeued = found.requeued, "put back what a lost worker held");
                }
            }
            LinkNews::Up(took) => {
                self.connected();
                self.leased(now, took);
            }
            LinkNews::Down(error) => self.disconnected(&error),
            LinkNews::Fatal(_) => {}
        }
    }

    /// Takes what came of a batch.
    pub(super) fn flush_news(&mut self, news: FlushNews) {
        match news {
            FlushNews::Stored => {
                if std::mem::take(&mut self.away.store) {
                    tracing::info!("the result store is back");
                }
            }
            FlushNews::Settled => {}
            FlushNews::StoreFailed(error) => {
                if !std::mem::replace(&mut self.away.store, true) {
                    tracing::warn!(%error, "results cannot be stored, they are kept and tried again");
                }
            }
            FlushNews::Refused(id, error) => {
                tracing::error!(id, %error, "the result store refuses a result, it is dropped");
            }
            FlushNews::SettleFailed(error) => {
                self.link.fail(error.kind());
                self.disconnected(&error);
            }
        }
    }

    /// The lease is good from when it was asked for: the answer may have been long on its way.
    fn leased(&mut self, now: Now, took: Duration) {
        self.renewed = now.mono.saturating_sub(took.as_micros() as u64);
    }

    fn connected(&mut self) {
        let epoch = self.link.consumer().map(|c| c.epoch().to_owned()).unwrap_or_default();
        let lapsed = std::mem::take(&mut self.away.lapsed);
        if std::mem::take(&mut self.away.broker) {
            tracing::info!("the broker is back");
        }
        if lapsed || epoch != self.epoch {
            self.lease += 1;
            if std::mem::replace(&mut self.epoch, epoch).is_empty() {
                tracing::info!(note = self.config.hostname, "ready");
            } else {
                self.fenced();
            }
        }
        self.shared.reach(Standing::Started);
    }

    fn disconnected(&mut self, error: &Error) {
        self.flush.disconnected();
        let (inflight, max) = (&self.inflight, self.config.max_deliveries);
        self.suspects.disconnected(|key| {
            inflight.get(key).is_some_and(|request| request.redeliveries + 1 >= max)
        });
        if error.kind() == ErrorKind::Fenced && !std::mem::replace(&mut self.away.lapsed, true) {
            // At once, and not when the connection stands again: others may have these messages already.
            self.fenced();
        }
        if std::mem::replace(&mut self.away.broker, true) {
            tracing::debug!(%error, "the broker is still away");
        } else {
            tracing::warn!(%error, "the broker is away, reconnecting until it is back");
        }
    }

    /// Whether what was claimed is certainly still this worker's. Not because the connection stands: a process that was stopped
    /// for long, or a machine that slept, finds its connections as they were.
    pub(super) fn holds_lease(&self, now: Now) -> bool {
        !self.away.lapsed && now.mono < self.renewed + LEASE_MS as u64 * 1_000
    }

    /// The lease lapsed: what had not begun belongs to others now; what runs finishes, but its settlement is void.
    fn fenced(&mut self) {
        let lost = self.inflight.keys(|place| !matches!(place, Place::Pool | Place::Running));
        if !self.inflight.is_empty() {
            tracing::warn!(
                dropped = lost.len(),
                running = self.inflight.at_pool(),
                "lease lapsed, others have its messages"
            );
        }
        for key in lost {
            self.inflight.remove(key);
        }
        self.forget_waiting();
        self.flush.fenced();
        self.pool.recall();
    }
}
