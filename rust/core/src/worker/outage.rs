//! Outages: the broker, the lease or the result store goes away and comes back.
//!
//! An outage of the broker is a warning when it begins, every ten seconds and when its reason
//! changes, and one line when it is over, however many attempts fail; one of the store is one
//! warning. What runs goes on, what is finished is kept. What was claimed may begin while the lease
//! certainly stands; after that it waits, for another worker may have been given it. A lapsed lease
//! voids everything that was held under it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::{
    broker::{Settle, Settlement, epoch, lease::LEASE_MS},
    clock::Micros,
    error::{Error, ErrorKind},
    result::State,
    worker::{
        Now, Standing, Worker,
        connection::ConnectionNews,
        flush::FlushNews,
        inflight::{Place, Request},
        kept::Refused,
        outbox::Entry,
        settle,
    },
};

/// A document of fewer bytes is not replaced when it is refused for its size: its replacement would
/// not be smaller.
const OVERSIZED: usize = 4 << 10;
/// How often a lasting outage of the broker is said again.
const AGAIN_US: Micros = 10_000_000;

/// An outage of the broker.
#[derive(Debug, Default)]
struct Outage {
    /// Failures since it began.
    attempts: u32,
    /// What was said last, and when.
    said: Option<(String, Micros)>,
}

impl Outage {
    /// Notes a failure; whether it is to be said.
    fn fails(&mut self, error: &str, now: Micros) -> bool {
        self.attempts += 1;
        let known = |(text, at): &(String, Micros)| text == error && now < at + AGAIN_US;
        if self.said.as_ref().is_some_and(known) {
            return false;
        }
        self.said = Some((error.to_owned(), now));
        true
    }
}

/// How much is kept for servers that are away or slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Backlog {
    /// So little that tasks are begun.
    #[default]
    Small,
    /// Too much; it may be a matter of a moment.
    Full,
    /// Too much, and the log says so.
    Reported,
}

/// What is away.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // independent facts
pub(super) struct Away {
    broker: Option<Outage>,
    store: bool,
    /// Whether the last publish of what follows tasks failed.
    outbox: bool,
    /// Whether the last step of a join failed.
    joins: bool,
    kept: Backlog,
    /// Whether the broker said that the lease is over.
    lapsed: bool,
}

impl Away {
    /// Whether no task is begun because too much is kept, and the log says so.
    pub(super) fn is_overloaded(&self) -> bool {
        self.kept == Backlog::Reported
    }

    /// Whether the store failed last.
    pub(super) fn is_store_away(&self) -> bool {
        self.store
    }
}

impl Worker {
    /// Takes what the connection reports.
    pub(super) fn connection_news(&mut self, news: ConnectionNews, now: Now) {
        match news {
            ConnectionNews::Deliveries(deliveries) => self.receive(deliveries, now),
            ConnectionNews::Renewed(took) => {
                self.leased(now, took);
                self.children_changed = true;
                self.mark_long(now);
            }
            ConnectionNews::Marked => self.marked(),
            ConnectionNews::Recovered(found) => {
                if found.requeued > 0 {
                    tracing::warn!(requeued = found.requeued, "put back what a lost worker held");
                }
            }
            ConnectionNews::Retained(found) => {
                if found.requeued > 0 {
                    tracing::warn!(
                        requeued = found.requeued,
                        "the broker came back in an older state, what was settled since is in its queue again"
                    );
                }
            }
            ConnectionNews::Epochs(epochs) => self.look_for_namesakes(&epochs),
            ConnectionNews::Up(took) => {
                self.connected();
                self.leased(now, took);
            }
            ConnectionNews::Down(error) => self.disconnected(&error),
            ConnectionNews::Fatal(_) => {}
        }
    }

    /// A name of two workers is no harm to their messages, but whoever reads their logs takes them
    /// for one.
    fn look_for_namesakes(&self, epochs: &[String]) {
        let hostname = self.config.hostname.as_str();
        if epochs
            .iter()
            .any(|epoch| epoch::is_namesake(epoch, hostname, self.connection.own_epoch()))
        {
            tracing::warn!(
                note = hostname,
                "another worker has the same name, give one of them another with -n"
            );
        }
    }

    /// Takes what came of a batch.
    pub(super) fn flush_news(&mut self, news: FlushNews, now: Now) {
        match news {
            FlushNews::Stored(refused, full) => {
                if let Some(error) = full {
                    self.store_fails(&error);
                } else if std::mem::take(&mut self.away.store) {
                    tracing::info!("the result store is back");
                }
                for one in refused {
                    self.refused(one, now);
                }
            }
            FlushNews::Composed(completed, composed) => self.composed(completed, composed),
            FlushNews::JoinFailed(error) => {
                if !std::mem::replace(&mut self.away.joins, true) {
                    tracing::warn!(%error, "what follows joins cannot be composed or they not be closed, it is tried again");
                }
            }
            FlushNews::Closed => {
                if std::mem::take(&mut self.away.joins) {
                    tracing::info!("what follows joins is composed again");
                }
            }
            FlushNews::Published => {
                if std::mem::take(&mut self.away.outbox) {
                    tracing::info!("what follows tasks is published again");
                }
            }
            FlushNews::Unpublishable(entry, error) => self.unpublishable(*entry, &error, now),
            FlushNews::PublishFailed(error) => {
                if !std::mem::replace(&mut self.away.outbox, true) {
                    tracing::warn!(%error, "what follows tasks cannot be published, it is kept and tried again");
                }
            }
            FlushNews::Settled => {}
            FlushNews::StoreFailed(error) => self.store_fails(&error),
            FlushNews::SettleFailed(error) => {
                self.connection.fail(error.kind());
                self.disconnected(&error);
            }
        }
    }

    fn store_fails(&mut self, error: &Error) {
        if !std::mem::replace(&mut self.away.store, true) {
            tracing::warn!(%error, "results cannot be stored, they are kept and tried again");
        }
    }

    /// Whether so much is kept for servers that are away, or slow, that nothing more is begun.
    pub(super) fn is_overloaded(&mut self) -> bool {
        let was = self.away.kept;
        if !self.flush.is_full() {
            self.away.kept = Backlog::Small;
            if was == Backlog::Reported {
                tracing::info!("tasks are begun again");
            }
            return false;
        }
        if was == Backlog::Small {
            // What waits behind a running call would add its result as well.
            self.pool.recall();
            self.away.kept = Backlog::Full;
        }
        let away = self.away.store || self.away.outbox || self.away.broker.is_some();
        if was != Backlog::Reported && away {
            self.away.kept = Backlog::Reported;
            let (entries, bytes) = (self.flush.len(), self.flush.bytes());
            tracing::warn!(
                entries,
                bytes,
                "so much waits to be published, stored or settled that no task is begun"
            );
        }
        true
    }

    /// The broker will never take what follows a task: one that has not failed ends as a failure that
    /// says so, and its own message is parked where it is still held, so that it can run again. So does
    /// what was to follow, with all that was to follow that.
    fn unpublishable(&mut self, mut entry: Entry, error: &Error, now: Now) {
        if let Some(completed) = entry.after.join.take() {
            return self.unpublishable_join(completed, entry.record, error);
        }
        let id = Arc::from(entry.record.as_ref().map_or("", |record| &record.id));
        let parked = settle::park_unpublishable(&mut entry.after, Arc::clone(&id), error);
        for message in &entry.follow {
            let (task_id, queue) = (&*message.id, &*message.queue);
            if parked {
                tracing::error!(task_id, queue, %error, "the broker refuses a message that follows a task, that task is parked");
            } else {
                tracing::error!(task_id, queue, %error, "the broker refuses a message that follows a task, it is lost");
            }
        }
        let record = entry.record.map(|record| match record.state {
            State::Success | State::Retry => settle::unpublishable(&record, error, now.wall),
            _ => record,
        });
        self.flush.push(record, entry.after);
        for message in entry.follow {
            self.unpublished(message, &id, error, now);
        }
    }

    /// The store will never take a record. For its size it ends as a failure that says so; else
    /// only the log can say it.
    fn refused(&mut self, Refused { record, after, error }: Refused, now: Now) {
        let task_id = record.id.as_str();
        if error.kind() == ErrorKind::TooLarge && record.document.len() > OVERSIZED {
            tracing::error!(task_id, %error, "the result store refuses a result for its size, the task ends as a failure");
            self.flush.push(Some(settle::oversized(&record, &error, now.wall)), after);
        } else {
            tracing::error!(task_id, %error, "the result store refuses a result, it is lost");
            self.flush.push(None, after);
        }
    }

    /// The lease is good from when it was asked for: the answer may have been long on its way.
    fn leased(&mut self, now: Now, took: Duration) {
        self.renewed = now.mono.saturating_sub(took.as_micros() as u64);
    }

    fn connected(&mut self) {
        let epoch = self.connection.consumer().map(|c| c.epoch().to_owned()).unwrap_or_default();
        let lapsed = std::mem::take(&mut self.away.lapsed);
        if self.away.broker.take().is_some() {
            tracing::info!("the broker is back");
            self.count_reconnect();
        }
        if lapsed || epoch != self.epoch {
            self.lease += 1;
            let first = std::mem::replace(&mut self.epoch, epoch).is_empty();
            if !first {
                self.fenced();
            } else if !self.config.awaits_revoked {
                self.say_ready();
            }
        } else {
            self.retain();
        }
        self.shared.reach(Standing::Started);
        self.events.online();
    }

    /// The broker may have come back in an older state: it learns what is held, and once more what is
    /// acknowledged and runs. What it has beyond that goes back.
    fn retain(&mut self) {
        let mut held = Vec::with_capacity(self.inflight.len());
        for key in self.inflight.keys(|_| true) {
            match self.inflight.get(key).filter(|request| request.lease == self.lease) {
                Some(Request { tag, acked: true, .. }) => {
                    let again = Settlement { tag: *tag, how: Settle::Ack };
                    self.flush.push(None, Some(again).into());
                }
                Some(Request { ended: Some(ended), .. }) if ended.settle.is_none() => {
                    ended.chord.iter().for_each(|chord| chord.completed.held(&mut held));
                }
                Some(request) => held.push(request.tag),
                None => {}
            }
        }
        self.flush.held(&mut held);
        self.connection.retain(held);
    }

    fn disconnected(&mut self, error: &Error) {
        self.flush.disconnected();
        let (inflight, max) = (&self.inflight, self.config.max_deliveries);
        self.suspects.disconnected(|key| {
            inflight.get(key).is_some_and(|request| request.redeliveries + 1 >= max)
        });
        if error.kind() == ErrorKind::Fenced && !std::mem::replace(&mut self.away.lapsed, true) {
            // At once, and not when the connection stands again: others may have these messages
            // already.
            self.fenced();
        }
        let now = self.now().mono;
        let outage = self.away.broker.get_or_insert_default();
        if outage.fails(&error.to_string(), now) {
            let attempt = outage.attempts;
            if attempt == 1 {
                tracing::error!(%error, "the broker is away, reconnecting until it is back");
            } else {
                tracing::error!(attempt, %error, "the broker is still away");
            }
        }
    }

    /// Whether what was claimed is certainly still this worker's. Not because the connection
    /// stands: a process that was stopped for long, or a machine that slept, finds its connections
    /// as they were.
    pub(super) fn holds_lease(&self, now: Now) -> bool {
        !self.away.lapsed && now.mono < self.renewed + LEASE_MS as u64 * 1_000
    }

    /// It takes tasks from now on, and may be asked.
    pub(super) fn say_ready(&self) {
        tracing::info!(note = self.config.hostname, "ready");
    }

    /// The lease lapsed: what had not begun belongs to others now; what runs finishes, but its
    /// settlement is void.
    fn fenced(&mut self) {
        let lost = self.inflight.keys(|place| !matches!(place, Place::Pool | Place::Running));
        if !self.inflight.is_empty() {
            tracing::warn!(
                dropped = lost.len(),
                running = self.inflight.at_pool(),
                "lease lapsed, others have its messages"
            );
        }
        let mut kept = VecDeque::new();
        for key in lost {
            if self.inflight.get(key).is_some_and(Request::is_unheld) {
                kept.push_back(key);
            } else {
                self.forget(key);
            }
        }
        self.forget_waiting();
        self.ready = kept;
        self.inflight.fenced();
        self.flush.fenced();
        self.pool.recall();
    }

    /// Drops a request whose message others have.
    pub(super) fn forget(&mut self, key: u64) {
        self.inflight.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_again_after_a_while_and_when_its_reason_changes() {
        let mut outage = Outage::default();
        assert!(outage.fails("refused", 0));
        assert!(!outage.fails("refused", AGAIN_US - 1));
        assert!(outage.fails("refused", AGAIN_US));
        assert!(outage.fails("wrong password", AGAIN_US + 1));
        assert!(!outage.fails("wrong password", AGAIN_US + 2));
        assert_eq!(outage.attempts, 5);
    }
}
