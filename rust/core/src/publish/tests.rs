//! What a publish promises, against a broker that fails as told.

use super::*;
use crate::{
    broker::{Capability, Consumer, Subscription},
    future::BoxFuture,
    message::{Encoding, Message},
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
    fn publish(&self, batch: &[Outgoing], deadline: Instant) -> Result<Vec<Answer>> {
        self.new_id.lock().unwrap().extend(batch.iter().map(|message| message.new_id));
        self.calls.lock().unwrap().push(deadline);
        match self.errors.lock().unwrap().pop() {
            Some(kind) => Err(Error::new(kind, "refused")),
            None => Ok(batch.iter().map(answer).collect()),
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

/// It has one exchange beside the default one, to which no queue is bound, and refuses a second
/// message of an id that ends in 9.
fn answer(outgoing: &Outgoing) -> Answer {
    match &outgoing.message {
        message if !message.properties.exchange.is_empty() => Answer::Unroutable,
        message if message.headers.id.ends_with('9') => Answer::Duplicate,
        _ => Answer::Confirmed,
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
    publisher.send(&mut [], &at_once(Some(3)), &mut || false).unwrap();
    assert_eq!(broker.calls(), 4);
    let deadlines = broker.calls.lock().unwrap();
    assert!(deadlines.iter().all(|d| *d == deadlines[0]));
}

#[test]
fn a_second_attempt_does_not_rely_on_fresh_ids() {
    let (broker, publisher) = Failing::publisher(&[DOWN, DOWN]);
    let message = outgoing(None, Encoding::Compact);
    let mut batch = [Outgoing { new_id: true, ..message.clone() }, message];
    publisher.send(&mut batch, &at_once(None), &mut || false).unwrap();
    assert_eq!(*broker.new_id.lock().unwrap(), [true, false, false, false, false, false]);
}

#[test]
fn retries_end_and_the_error_says_where_and_how_often() {
    let (broker, publisher) = Failing::publisher(&[DOWN; 9]);
    let error = publisher.send(&mut [], &at_once(Some(2)), &mut || false).unwrap_err();
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
    let error = publisher.send(&mut [], &effort, &mut || false).unwrap_err();
    assert_eq!(broker.calls(), 1);
    assert!(error.to_string().contains("gave up after 1 attempt in"), "{error}");
}

#[test]
fn what_trying_again_cannot_mend_is_not_tried_again() {
    let (broker, publisher) = Failing::publisher(&[ErrorKind::Storage; 2]);
    let error = publisher.send(&mut [], &at_once(None), &mut || false).unwrap_err();
    assert_eq!((broker.calls(), error.kind()), (1, ErrorKind::Storage));
}

#[test]
fn the_deadline_ends_endless_retries() {
    let (_, publisher) = Failing::publisher(&vec![DOWN; 100_000]);
    let mut effort = at_once(None);
    effort.timeout = Duration::from_millis(20);
    effort.retry.as_mut().unwrap().interval_start = Duration::from_millis(1);
    effort.retry.as_mut().unwrap().interval_max = Duration::from_millis(1);
    assert_eq!(publisher.send(&mut [], &effort, &mut || false).unwrap_err().kind(), DOWN);
}

#[test]
fn an_interrupt_ends_it() {
    let (broker, publisher) = Failing::publisher(&[DOWN; 9]);
    let mut asked = 0;
    publisher
        .send(&mut [], &at_once(None), &mut || {
            asked += 1;
            asked == 2
        })
        .unwrap_err();
    assert_eq!(broker.calls(), 2);
}

fn outgoing(eta: Option<i64>, encoding: Encoding) -> Outgoing {
    let mut message = Message::default();
    message.headers.task = "proj.add".into();
    message.headers.id = "an-id".into();
    message.headers.eta = eta;
    message.properties.routing_key = "q".into();
    Outgoing::new(message, "q".into(), encoding)
}

#[test]
fn only_compact_messages_go_to_the_due_set() {
    let eta = Some(1_700_000_000_000_001);
    assert_eq!(outgoing(eta, Encoding::Compact).due(), Some(1_700_000_000_001));
    assert_eq!(outgoing(None, Encoding::Compact).due(), None);
    assert_eq!(outgoing(eta, Encoding::Celery).due(), None);
}

#[test]
fn each_message_is_answered_for_and_the_unroutable_are_an_error() {
    let (_, publisher) = Failing::publisher(&[DOWN]);
    let mut batch: Vec<Outgoing> = (0..4).map(|_| outgoing(None, Encoding::Compact)).collect();
    batch[1].message.headers.id = "id-9".into();
    let answers = publisher.send(&mut batch, &at_once(None), &mut || false).unwrap();
    assert_eq!(answers[..2], [Answer::Confirmed, Answer::Duplicate]);
    publisher.kept(&batch, &answers).unwrap();
    batch[2].message.properties.exchange = "logs".into();
    batch[2].message.headers.id = "lost".into();
    let answers = publisher.send(&mut batch, &at_once(None), &mut || false).unwrap();
    assert_eq!(answers[2..], [Answer::Unroutable, Answer::Confirmed]);
    let error = publisher.kept(&batch, &answers).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unroutable);
    assert_eq!(
        error.to_string(),
        "message `lost` of task `proj.add` is unroutable: no queue of `test://user:**@host` receives what is \
         published to exchange `logs` with routing key `q`; name the queue instead, or bind one where the broker \
         has exchanges"
    );
    batch[3].message.properties.exchange = "logs".into();
    let answers = publisher.send(&mut batch, &at_once(None), &mut || false).unwrap();
    let error = publisher.kept(&batch, &answers).unwrap_err().to_string();
    assert!(error.starts_with("`2` of `4` messages are unroutable, the first is message `lost`"));
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
        let due = outgoing(Some(eta), Encoding::Compact).due().expect("it has one");
        let due = i128::from(due) * 1000;
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
