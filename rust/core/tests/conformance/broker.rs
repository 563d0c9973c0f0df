//! The promises of `broker/mod.rs`, grouped as a message meets them.

mod delivery;
mod due;
mod exchanges;
mod lease;
mod operator;
mod settling;

use std::{
    borrow::Borrow,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use taskcore::{
    broker::{
        Broker, Consumer, DeadLetter, Delivery, Outgoing, QueueOrder, Settle, Settlement,
        Subscription,
    },
    clock::Millis,
    message::{Encoding, Message},
};

pub(crate) use taskcore::broker::Want;

pub(crate) use self::{delivery::*, due::*, exchanges::*, lease::*, operator::*, settling::*};
use crate::{PATIENCE, QUIET, unique};

/// Makes a test of every promise for one adapter.
#[macro_export]
macro_rules! broker_suite {
    ($adapter:ident, $start:path) => {
        $crate::broker_suite!(@ $adapter, $start,
            fifo, an_exchange_that_is_none_is_unroutable, priorities, queues_in_order_within_a_priority, queues_take_turns, a_strict_order_is_kept, fetch_many_claims_no_more_than_asked,
            bytes_are_untouched, a_delivery_holds_its_message, what_is_no_message_comes_with_the_reason, many_at_once, publish_wakes_a_blocked_fetch, one_message_goes_to_one_worker,
            a_dropped_fetch_loses_nothing, an_answered_fetch_that_is_dropped_loses_nothing, the_next_fetch_finds_what_a_dropped_one_was_given, two_workers_share_everything_once, an_empty_batch_is_nothing,
            a_topic_reaches_every_queue_whose_pattern_fits, a_direct_exchange_compares_the_key, a_headers_exchange_looks_at_the_headers,
            a_fanout_reaches_every_worker, a_consumer_knows_the_exchanges_of_its_queues,
            ack_forgets, hand_back_keeps_order_at_the_head, requeue_goes_to_the_tail, requeue_keeps_the_count, redeliver_is_counted_and_parks,
            redeliver_comes_before_what_is_queued, defer_goes_to_the_due_set, park_keeps_the_bytes, settle_many_in_order,
            a_tag_that_is_not_held_is_ignored, a_settlement_sent_again_leaves_a_newer_claim_alone, settling_wakes_another_worker,
            far_due_is_not_delivered, near_due_is_in_the_queue, due_is_delivered_within_the_horizon,
            due_wakes_a_blocked_fetch, scheduled_ones_cost_no_fetch, due_order, ready_only_and_due_only,
            what_is_put_back_overdue_is_the_next_to_be_claimed, what_is_put_back_overdue_wakes_another_worker, cancel_by_id, what_others_wait_for_comes_marked_when_it_is_cancelled, cancelling_wakes_a_blocked_fetch, due_bytes_are_untouched,
            release_returns_everything_in_order, a_released_consumer_is_refused, the_leases_that_stand_are_known, a_lapsed_lease_is_recovered, a_suspect_is_one_until_it_has_run, a_fetch_takes_no_more_suspects_than_it_wants, suspects_hold_up_nothing_else, a_renewed_lease_is_respected,
            who_is_late_itself_judges_nobody, a_consumer_is_replaced_under_its_lease, the_queues_of_a_consumer_change, a_lease_that_ended_is_followed_by_a_fresh_epoch,
            capabilities_are_true, stats_count, queues_are_listed, purge_drops_ready_and_scheduled, dead_letters_are_listed_newest_first,
            replay_goes_to_the_tail, replay_by_key, discard_by_key_and_all, the_url_is_redacted,
        );
    };
    (@ $adapter:ident, $start:path, $($test:ident),* $(,)?) => {
        mod $adapter {
            $(
                #[test]
                fn $test() {
                    match $start() {
                        Some(harness) => $crate::run($crate::broker::$test(&harness)),
                        None => $crate::skipped(stringify!($adapter)),
                    }
                }
            )*
        }
    };
}

/// Deadline of a blocking call.
pub(crate) fn soon() -> Instant {
    taskcore::clock::instant() + Duration::from_secs(10)
}

/// A message whose body names it.
pub(crate) fn message(queue: &Arc<str>, body: &str) -> Outgoing {
    let mut message = Message {
        content_type: "text/plain".into(),
        content_encoding: "utf-8".into(),
        body: Bytes::from(body.to_owned()),
        ..Message::default()
    };
    message.headers.task = "proj.task".into();
    message.headers.id = format!("id-{body}");
    message.properties.routing_key = queue.to_string();
    Outgoing::new(message, queue.clone(), Encoding::Compact)
}

/// The same otherwise.
pub(crate) trait Otherwise: Sized {
    /// What is changed.
    fn outgoing(self) -> Outgoing;

    fn priority(self, priority: u8) -> Outgoing {
        let mut outgoing = self.outgoing();
        outgoing.message.properties.priority = priority;
        outgoing
    }

    fn due(self, due: Millis) -> Outgoing {
        let mut outgoing = self.outgoing();
        outgoing.message.headers.eta = Some(due * 1_000);
        outgoing
    }

    fn id(self, id: &str) -> Outgoing {
        let mut outgoing = self.outgoing();
        outgoing.message.headers.id = id.into();
        outgoing
    }

    fn new_id(self, new_id: bool) -> Outgoing {
        Outgoing { new_id, ..self.outgoing() }
    }

    fn body(self, body: impl Into<Bytes>) -> Outgoing {
        let mut outgoing = self.outgoing();
        outgoing.message.body = body.into();
        outgoing
    }

    fn exchange(self, exchange: &str) -> Outgoing {
        let mut outgoing = self.outgoing();
        outgoing.message.properties.exchange = exchange.into();
        outgoing
    }
}

impl Otherwise for Outgoing {
    fn outgoing(self) -> Outgoing {
        self
    }
}

/// Publishes the bodies in one batch.
pub(crate) fn publish(broker: &dyn Broker, queue: &Arc<str>, bodies: &[&str]) {
    let batch: Vec<Outgoing> = bodies.iter().map(|b| message(queue, b)).collect();
    broker.publish(&batch, soon()).unwrap();
}

/// Publishes bodies `0`, `1`, ... `count - 1` in one batch.
pub(crate) fn publish_numbers(broker: &dyn Broker, queue: &Arc<str>, count: usize) {
    let batch: Vec<Outgoing> = (0..count).map(|n| message(queue, &n.to_string())).collect();
    broker.publish(&batch, soon()).unwrap();
}

/// A worker on these queues.
pub(crate) async fn worker(broker: &dyn Broker, queues: &[&Arc<str>]) -> Arc<dyn Consumer> {
    worker_with(broker, queues, 3).await
}

/// A worker that parks at `max_deliveries`.
pub(crate) async fn worker_with(
    broker: &dyn Broker,
    queues: &[&Arc<str>],
    max_deliveries: u32,
) -> Arc<dyn Consumer> {
    let queues = queues.iter().map(|q| (*q).clone()).collect();
    let (order, epoch) = (QueueOrder::default(), unique("epoch").to_string());
    broker
        .consume(Subscription { queues, declarations: Vec::new(), order, epoch, max_deliveries })
        .await
        .unwrap()
}

/// Fetches until `count` messages are there.
pub(crate) async fn take(consumer: &dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        let got = tokio::time::timeout(PATIENCE, consumer.fetch(Want::of(count - all.len(), 0)))
            .await
            .expect("a message arrives")
            .unwrap();
        assert!(!got.is_empty(), "fetch returns at least one delivery");
        all.extend(got);
    }
    all
}

/// Watches for a while that nothing is delivered.
pub(crate) async fn nothing(consumer: &dyn Consumer) {
    let got = tokio::time::timeout(QUIET, consumer.fetch(Want::of(100, 100))).await;
    assert!(got.is_err(), "nothing was to be delivered, got {got:?}");
}

/// The bodies as text; of what is no message, all of it.
pub(crate) fn bodies(deliveries: &[impl Borrow<Delivery>]) -> Vec<String> {
    deliveries.iter().map(|delivery| body(delivery.borrow())).collect()
}

pub(crate) fn body(delivery: &Delivery) -> String {
    let body = delivery.message().map_or(delivery.raw.clone(), |message| message.body);
    String::from_utf8(body.to_vec()).unwrap()
}

/// The bodies of dead letters as text.
pub(crate) fn dead_bodies(dead: &[DeadLetter]) -> Vec<String> {
    let body = |letter: &DeadLetter| letter.message.as_ref().unwrap().body.to_vec();
    dead.iter().map(|letter| String::from_utf8(body(letter)).unwrap()).collect()
}

/// The numbers `from..to` as bodies.
pub(crate) fn numbers(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| n.to_string()).collect()
}

/// Settles all of them in one way.
pub(crate) async fn settle(
    consumer: &dyn Consumer,
    deliveries: &[Delivery],
    how: impl Fn(&Delivery) -> Settle,
) {
    let batch = deliveries.iter().map(|d| Settlement { tag: d.tag, how: how(d) }).collect();
    consumer.settle(batch).await.unwrap();
}

/// Acknowledges all of them.
pub(crate) async fn ack(consumer: &dyn Consumer, deliveries: &[Delivery]) {
    settle(consumer, deliveries, |_| Settle::Ack).await;
}
