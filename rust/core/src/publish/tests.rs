//! What a publish promises, against a broker that fails as told.

use super::*;
use crate::{
    broker::{Capability, Consumer, Subscription},
    future::BoxFuture,
};
use proptest::prelude::*;
use std::sync::Mutex;

/// Fails each publish with the next of `errors`, then succeeds.
struct Failing {
    errors: Mutex<Vec<ErrorKind>>,
    calls: Mutex<Vec<Instant>>,
    /// Of each message of each attempt: whether its id was said to be made for it.
    new_id: Mutex<Vec<bool>>,
}

impl Failing {
    fn publisher(errors: &[ErrorKind]) -> (Arc<Self>, Publisher) {
        let mut errors = errors.to_vec();
        errors.reverse();
        let broker = Arc::new(Self {
            errors: Mutex::new(errors),
            calls: Mutex::default(),
            new_id: Mutex::default(),
        });
        (broker.clone(), Publisher::new(broker))
    }

    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

impl Broker for Failing {
    fn publish(&self, batch: &[Outgoing], deadline: Instant) -> Result<()> {
        self.new_id.lock().unwrap().extend(batch.iter().map(|message| message.new_id));
        self.calls.lock().unwrap().push(deadline);
        match self.errors.lock().unwrap().pop() {
            Some(kind) => Err(Error::new(kind, "refused")),
            None => Ok(()),
        }
    }
    fn consume(&self, _: Subscription) -> BoxFuture<'_, Result<Arc<dyn Consumer>>> {
        unimplemented!()
    }
    fn url(&self) -> &'static str {
        "test://user:**@host"
    }
    fn capabilities(&self) -> &'static [Capability] {
        &[]
    }
}

const DOWN: ErrorKind = ErrorKind::Connection;

fn at_once(max_retries: Option<u32>) -> Effort {
    let zero = Duration::ZERO;
    let retry =
        RetryPolicy { max_retries, interval_start: zero, interval_step: zero, interval_max: zero };
    Effort { timeout: Duration::from_secs(60), retry: Some(retry) }
}

#[test]
fn a_failed_connection_is_tried_again_with_the_same_deadline() {
    let (broker, publisher) = Failing::publisher(&[DOWN, ErrorKind::Timeout, DOWN]);
    publisher.send(&[], &at_once(Some(3)), &mut || false).unwrap();
    assert_eq!(broker.calls(), 4);
    let deadlines = broker.calls.lock().unwrap();
    assert!(deadlines.iter().all(|d| *d == deadlines[0]));
}

#[test]
fn a_second_attempt_does_not_rely_on_fresh_ids() {
    let (broker, publisher) = Failing::publisher(&[DOWN, DOWN]);
    let message = outgoing(&message(None), Encoding::Compact, "q".into());
    let batch = [Outgoing { new_id: true, ..message.clone() }, message];
    publisher.send(&batch, &at_once(None), &mut || false).unwrap();
    assert_eq!(*broker.new_id.lock().unwrap(), [true, false, false, false, false, false]);
}

#[test]
fn retries_end_and_the_error_says_where_and_how_often() {
    let (broker, publisher) = Failing::publisher(&[DOWN; 9]);
    let error = publisher.send(&[], &at_once(Some(2)), &mut || false).unwrap_err();
    assert_eq!((broker.calls(), error.kind()), (3, DOWN));
    assert_eq!(
        error.to_string(),
        "cannot publish to `test://user:**@host`: gave up after 3 attempts in 0.0 s: refused"
    );
}

#[test]
fn without_a_policy_there_is_one_attempt() {
    let (broker, publisher) = Failing::publisher(&[DOWN; 2]);
    let effort = Effort { retry: None, ..at_once(None) };
    let error = publisher.send(&[], &effort, &mut || false).unwrap_err();
    assert_eq!(broker.calls(), 1);
    assert!(error.to_string().contains("gave up after 1 attempt in"), "{error}");
}

#[test]
fn what_trying_again_cannot_mend_is_not_tried_again() {
    let (broker, publisher) = Failing::publisher(&[ErrorKind::Storage; 2]);
    let error = publisher.send(&[], &at_once(None), &mut || false).unwrap_err();
    assert_eq!((broker.calls(), error.kind()), (1, ErrorKind::Storage));
}

#[test]
fn the_deadline_ends_endless_retries() {
    let (_, publisher) = Failing::publisher(&vec![DOWN; 100_000]);
    let mut effort = at_once(None);
    effort.timeout = Duration::from_millis(20);
    effort.retry.as_mut().unwrap().interval_start = Duration::from_millis(1);
    effort.retry.as_mut().unwrap().interval_max = Duration::from_millis(1);
    assert_eq!(publisher.send(&[], &effort, &mut || false).unwrap_err().kind(), DOWN);
}

#[test]
fn an_interrupt_ends_it() {
    let (broker, publisher) = Failing::publisher(&[DOWN; 9]);
    let mut asked = 0;
    publisher
        .send(&[], &at_once(None), &mut || {
            asked += 1;
            asked == 2
        })
        .unwrap_err();
    assert_eq!(broker.calls(), 2);
}

fn message(eta: Option<i64>) -> Message {
    let mut message = Message::default();
    message.headers.task = "proj.add".into();
    message.headers.id = "an-id".into();
    message.headers.eta = eta;
    message.properties.priority = 7;
    message.properties.routing_key = "q".into();
    // Without one, every encoding in Celery's envelope would make up another.
    message.properties.delivery_tag = Some("a-tag".into());
    message
}

#[test]
fn only_compact_messages_go_to_the_due_set() {
    let message = message(Some(1_700_000_000_000_001));
    let compact = outgoing(&message, Encoding::Compact, "q".into());
    assert_eq!(compact.due, Some(1_700_000_000_001));
    assert_eq!((&*compact.queue, &*compact.id, compact.priority), ("q", "an-id", 7));
    assert_eq!(compact.data, message.encode(Encoding::Compact));
    let celery = outgoing(&message, Encoding::Celery, "q".into());
    assert_eq!(celery.due, None);
    assert_eq!(celery.data, message.encode(Encoding::Celery));
}

#[test]
fn a_body_may_be_as_large_as_the_limit_and_no_larger() {
    check_body("t", 10, 10).unwrap();
    let error = check_body("t", 11, 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("`task_max_body` of `10`"), "{error}");
}

proptest! {
    #[test]
    fn nothing_is_due_before_its_eta(eta: i64) {
        let due = i128::from(due(eta)) * 1000;
        prop_assert!(due >= i128::from(eta) && due - i128::from(eta) < 1000);
    }

    #[test]
    fn no_pause_reaches_the_deadline(retry in 0..20u32, left in 0..5_000u64, max in proptest::option::of(0..10u32)) {
        let policy = RetryPolicy { max_retries: max, ..RetryPolicy::default() };
        let left = Duration::from_millis(left);
        match pause(Some(&policy), retry, left) {
            Some(wait) => prop_assert!(wait < left && max.is_none_or(|m| retry < m)),
            None => prop_assert!(policy.wait(retry).is_none_or(|wait| wait >= left)),
        }
    }
}
