//! Publishing: one batch of what follows tasks on its way to the broker.
//!
//! Publishing blocks, so it happens on a thread that the runtime keeps for such calls. A lone
//! message, which the next step of a chain is, goes over the consumer's connection where that takes
//! it: waking a thread and being woken by it costs more than the server needs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    broker::{Answer, Broker, Consumer, Outgoing, answer},
    clock::{self, Micros},
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
    message::{Encoding, Message},
    pool::FollowUp,
    result::{JoinClaim, ResultStore, join::CLAIM_MS},
};

/// What one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(5);
// A claim that is renewed first outlives the attempt.
const _: () = assert!(ATTEMPT.as_millis() <= CLAIM_MS as u128);

/// What the broker answered for each message of a batch, and the error about what it does not have.
pub(super) struct Answers {
    pub(super) answers: Vec<Answer>,
    pub(super) kept: Result<()>,
}

/// The answers to what is being sent; `None` when it is another worker's to publish.
pub(super) type Reply = BoxFuture<'static, Result<Option<Answers>>>;

/// How long an attempt may take, when the claims under which it publishes stand for so many
/// microseconds: another worker may publish the same when one has lapsed.
pub(super) fn attempt(claims_left: Option<Micros>) -> Duration {
    claims_left.map_or(ATTEMPT, |left| ATTEMPT.min(Duration::from_micros(left)))
}

/// Publishes a batch on a thread, after it has renewed the claim under which it may.
pub(super) fn publish(
    broker: Arc<dyn Broker>,
    claim: Option<(JoinClaim, Arc<dyn ResultStore>)>,
    follow: Vec<FollowUp>,
    attempt: Duration,
) -> Reply {
    Box::pin(async move {
        if follow.is_empty() {
            return Ok(Some(Answers { answers: Vec::new(), kept: Ok(()) }));
        }
        let deadline = clock::instant() + attempt;
        let work = move || {
            // A store that is away keeps everybody from taking over.
            if claim.is_some_and(|(claim, store)| !store.renew(&claim).unwrap_or(true)) {
                return Ok(None);
            }
            publish_now(&*broker, follow, deadline).map(Some)
        };
        match spawn_blocking(work).await {
            Ok(result) => result,
            Err(e) => Err(Error::caused(ErrorKind::Internal, "the publish was broken off", e)),
        }
    })
}

/// Publishes a message over the connection of a consumer; `None` where that does not take it.
pub(super) fn publish_lone(
    consumer: &Arc<dyn Consumer>,
    follow: &FollowUp,
    attempt: Duration,
) -> Option<Reply> {
    let reply = consumer.publish(&outgoing(follow.clone()).ok()?)?;
    Some(Box::pin(async move {
        let Ok(done) = timeout(attempt, reply).await else {
            let text = format!("no answer to a publish within `{}` seconds", attempt.as_secs_f32());
            return Err(Error::new(ErrorKind::Connection, text));
        };
        done.map(|()| Some(Answers { answers: vec![Answer::Confirmed], kept: Ok(()) }))
    }))
}

/// No id is claimed to be new: an attempt before may have gone through.
fn outgoing(FollowUp { queue, data, .. }: FollowUp) -> Result<Outgoing> {
    Ok(Outgoing::new(Message::decode(&data)?, queue, Encoding::of(&data)))
}

fn publish_now(broker: &dyn Broker, follow: Vec<FollowUp>, deadline: Instant) -> Result<Answers> {
    let batch = follow.into_iter().map(outgoing).collect::<Result<Vec<_>>>()?;
    let answers = broker.publish(&batch, deadline)?;
    let kept = answer::kept(&batch, &answers, broker.url());
    Ok(Answers { answers, kept })
}
