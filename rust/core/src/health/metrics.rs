//! All that is measured, written down.

use std::{process, sync::Arc};

use super::{
    check::Health,
    families as f,
    process::{figures, open_files},
    queues::Queues,
    text::{Text, seconds},
};
use crate::{
    broker::{Admin, QueueStats},
    clock::{self, Millis},
    worker::{
        Command, condition,
        metrics::{End, Settled, Snapshot},
    },
};

/// What does not change.
pub(super) struct Metrics {
    hostname: Arc<str>,
    pool: String,
    started: Millis,
    queues: Queues,
}

impl Metrics {
    pub(super) fn new(hostname: &str, pool: &str, broker: Arc<dyn Admin>) -> Self {
        Self {
            hostname: hostname.into(),
            pool: pool.to_owned(),
            started: clock::wall_ms(),
            queues: Queues::new(broker),
        }
    }

    /// The text that is scraped.
    pub(super) async fn write(&self, health: &Health, open_metrics: bool) -> String {
        let ask = health.ask(|reply| Command::Metrics { reply });
        let (snapshot, store) = tokio::join!(ask, health.store());
        let names = snapshot.as_ref().map(|snapshot| snapshot.queues.clone()).unwrap_or_default();
        let depths = if names.is_empty() { None } else { self.queues.depths(names).await };
        let mut text = Text::new(open_metrics);
        let labels = [
            ("worker", &*self.hostname),
            ("version", env!("CARGO_PKG_VERSION")),
            ("pool", &*self.pool),
        ];
        text.family(f::WORKER).sample(&labels, 1);
        text.family(f::START).sample(&[], self.started as f64 / 1e3);
        let condition = snapshot.as_ref().map(|snapshot| &snapshot.condition);
        let ready = condition::reasons(condition, store.clone()).is_empty();
        text.family(f::LIVE).sample(&[], u8::from(snapshot.is_some()));
        text.family(f::READY).sample(&[], u8::from(ready));
        text.family(f::STORE).sample(&[], u8::from(store.is_none()));
        write_queues(&mut text, depths.as_deref());
        // Of a loop that does not answer nothing is known, and what was known before is old.
        if let Some(snapshot) = &snapshot {
            write_broker(&mut text, snapshot);
            write_tasks(&mut text, snapshot);
            write_sent(&mut text, snapshot);
            write_pool(&mut text, snapshot);
        }
        write_process(&mut text);
        text.finish()
    }
}

fn write_queues(text: &mut Text, depths: Option<&[(Arc<str>, QueueStats)]>) {
    text.family(f::QUEUES).sample(&[], u8::from(depths.is_some()));
    text.family(f::QUEUE);
    for (queue, stats) in depths.unwrap_or_default() {
        for (state, count) in [
            ("ready", stats.depth),
            ("unacked", stats.in_flight),
            ("scheduled", stats.scheduled),
            ("dead", stats.dead),
        ] {
            text.sample(&[("queue", queue), ("state", state)], count);
        }
    }
}

fn write_broker(text: &mut Text, snapshot: &Snapshot) {
    text.family(f::BROKER).sample(&[], u8::from(snapshot.condition.connected));
    text.family(f::RECONNECTS).sample(&[], snapshot.reconnects);
    text.family(f::LEASE).maybe(snapshot.lease_age_us.map(seconds));
}

fn write_tasks(text: &mut Text, snapshot: &Snapshot) {
    // Who has not come has no series.
    let tasks = || snapshot.tasks.iter().filter(|(_, counts)| counts.received > 0);
    text.family(f::RECEIVED);
    for (task, counts) in tasks() {
        text.sample(&[("task", task)], counts.received);
    }
    text.family(f::ENDED);
    for (task, counts) in tasks() {
        for (end, count) in End::ALL.into_iter().zip(counts.ended) {
            text.sample(&[("task", task), ("state", end.name())], count);
        }
    }
    text.family(f::RUNTIME);
    for (task, counts) in tasks() {
        text.histogram(&[("task", task)], &counts.runtime);
    }
    text.family(f::WAITING);
    for (task, counts) in tasks() {
        text.histogram(&[("task", task)], &counts.waiting);
    }
    let stats = &snapshot.stats;
    text.family(f::ACTIVE).sample(&[], stats.active);
    text.family(f::RESERVED).sample(&[], stats.reserved);
    text.family(f::LIMITED).sample(&[], snapshot.limited);
    text.family(f::SCHEDULED).sample(&[], stats.scheduled);
    text.family(f::REVOKED).sample(&[], snapshot.revoked);
    text.family(f::PREFETCH).sample(&[], stats.prefetch);
}

fn write_sent(text: &mut Text, snapshot: &Snapshot) {
    text.family(f::SETTLED);
    for (how, count) in Settled::NAMES.into_iter().zip(snapshot.settled.0) {
        text.sample(&[("how", how)], count);
    }
    text.family(f::STORED).sample(&[], snapshot.results.0);
    text.family(f::REFUSED).sample(&[], snapshot.results.1);
    text.family(f::KEPT).sample(&[], snapshot.kept.0);
    text.family(f::KEPT_BYTES).sample(&[], snapshot.kept.1);
    text.family(f::EVENTS).sample(&[], snapshot.events.0);
    text.family(f::EVENTS_DROPPED).sample(&[], snapshot.events.1);
}

fn write_pool(text: &mut Text, snapshot: &Snapshot) {
    let (children, census) = (&snapshot.stats.children, &snapshot.census);
    text.family(f::SLOTS).sample(&[], snapshot.slots);
    text.family(f::CHILDREN).sample(&[], children.len());
    text.family(f::STARTS).sample(&[], census.started);
    text.family(f::EXITS);
    for (why, count) in [
        ("died", census.died),
        ("time_limit", census.timed_out),
        ("terminated", census.terminated),
        ("retired", census.retired),
    ] {
        text.sample(&[("why", why)], count);
    }
    let memory: Vec<u64> =
        children.iter().filter_map(|pid| Some(figures(*pid)?.resident)).collect();
    text.family(f::POOL_MEMORY).sample(&[], memory.iter().sum::<u64>());
}

fn write_process(text: &mut Text) {
    let own = figures(process::id());
    text.family(f::MEMORY).maybe(own.map(|own| own.resident));
    text.family(f::CPU).maybe(own.map(|own| own.cpu));
    text.family(f::FILES).maybe(open_files());
}
