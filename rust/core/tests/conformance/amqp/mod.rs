//! What only the RabbitMQ adapter promises, and the server that its suites use.

mod connections;
mod delays;
mod refusals;
mod server;

pub(crate) use server::harness;

// The promises that this broker keeps word for word. It keeps these in its own way, and its own tests say how:
//
// * It pushes, ahead of what is asked for: `fetch_many_claims_no_more_than_asked`,
//   `queues_take_turns`, `a_strict_order_is_kept`, `queues_in_order_within_a_priority` and
//   `settling_wakes_another_worker` speak of claims.
// * A higher priority is served first, on queues that were declared with `x-max-priority`:
//   `priorities`.
// * It recovers by itself, at once, when a connection ends, and knows no leases: what speaks of
//   lapsed ones, of suspects by lease and of the leases of others.
// * What is put back counted or overdue goes to the tail: `redeliver_comes_before_what_is_queued`,
//   `what_is_put_back_overdue_is_the_next_to_be_claimed`, `settle_many_in_order`.
// * What waits for its time cannot be listed, counted, cancelled or purged, and what workers hold is
//   not counted: all that look at these figures.
crate::broker_suite!(@ amqp_broker, crate::amqp::harness,
    fifo, bytes_are_untouched, what_is_no_message_comes_with_the_reason, many_at_once,
    publish_wakes_a_blocked_fetch, one_message_goes_to_one_worker, a_dropped_fetch_loses_nothing,
    an_answered_fetch_that_is_dropped_loses_nothing,
    the_next_fetch_finds_what_a_dropped_one_was_given, two_workers_share_everything_once,
    an_empty_batch_is_nothing, ack_forgets, hand_back_keeps_order_at_the_head,
    requeue_goes_to_the_tail, requeue_keeps_the_count, redeliver_is_counted_and_parks,
    park_keeps_the_bytes, near_due_is_in_the_queue, due_wakes_a_blocked_fetch,
    due_bytes_are_untouched, release_returns_everything_in_order, a_released_consumer_is_refused,
    a_lease_that_ended_is_followed_by_a_fresh_epoch, capabilities_are_true,
    dead_letters_are_listed_newest_first, replay_by_key, discard_by_key_and_all,
    the_url_is_redacted,
);
