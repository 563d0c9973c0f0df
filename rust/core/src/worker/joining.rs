//! Joining: what follows joins that are complete, in three steps.
//!
//! It is composed, on a thread that may block; published, by the `outbox`; and then the join is
//! closed, after which the messages of the members that completed it are settled. A worker that is
//! lost on the way leaves those messages: whoever runs them again is told of the join once more, when
//! the claim has lapsed. Where publishing is given up, the claim is given back. One join is composed
//! and one is closed at a time.
//!
//! What cannot be composed, or not be published for what it is, is composed once more as what follows
//! a failure; what cannot be had even then is lost, and the log says so.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::{
    broker::Tag,
    clock::Micros,
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
    pool::FollowUp,
    result::{JoinClaim, Record, ResultStore, join::CLAIM_MS},
    worker::{
        compose::{Composed, Composer, Ending, ErrorCall, Fate},
        kept::SettleAfter,
        members,
        retry::Retry,
    },
};

/// A join that is complete.
#[derive(Debug)]
pub(super) struct Completed {
    /// The claim to publish what follows it.
    pub(super) joined: JoinClaim,
    /// The message of the member that completed it.
    pub(super) message: Bytes,
    /// What is settled after that: the messages of the members that completed it.
    pub(super) after: Vec<SettleAfter>,
    /// Since when it is claimed, at the latest.
    pub(super) claimed_at: Micros,
    /// When it may be composed again.
    retry: Retry,
    /// Why what follows could not be published, if that was tried.
    pub(super) lost: Option<String>,
}

/// What becomes of a chord that has failed, while its error callbacks are called.
#[derive(Debug)]
pub(super) struct FailedChord {
    /// The claim.
    pub(super) completed: Box<Completed>,
    /// Error callbacks that are still to be called in the pool.
    pub(super) calls: Vec<ErrorCall>,
    /// What is published after that.
    pub(super) follow: Vec<FollowUp>,
    /// What has ended with it.
    pub(super) ended: Vec<Record>,
}

/// What came of a step.
#[derive(Debug)]
pub(super) enum JoinNews {
    /// What follows a join is to be published.
    Composed(Box<Completed>, Composed),
    /// A join is closed; this may be settled.
    Closed(Vec<SettleAfter>),
    /// A server is away; it will be tried again.
    Failed(Error),
}

/// What a thread has composed, and the error for which it is not what was asked for first.
struct Work {
    composed: Result<Composed>,
    failure: Option<Error>,
}

/// How a claim ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Reopen,
}

/// Joins on their way.
pub(super) struct Joining {
    store: Option<Arc<dyn ResultStore>>,
    composer: Option<Arc<dyn Composer>>,
    waiting: VecDeque<Box<Completed>>,
    composing: Option<(Box<Completed>, BoxFuture<'static, Work>)>,
    published: VecDeque<(Box<Completed>, End)>,
    closing: Option<(Box<Completed>, End, BoxFuture<'static, Result<()>>)>,
    retry: Retry,
}

impl Joining {
    pub(super) fn new(store: Option<Arc<dyn ResultStore>>) -> Self {
        Self {
            store,
            composer: None,
            waiting: VecDeque::new(),
            composing: None,
            published: VecDeque::new(),
            closing: None,
            retry: Retry::default(),
        }
    }

    /// Who composes; without one, what follows a join is lost.
    pub(super) fn set_composer(&mut self, composer: Arc<dyn Composer>) {
        self.composer = Some(composer);
    }

    /// Takes a join that is complete.
    pub(super) fn push(&mut self, completed: Box<Completed>) {
        self.waiting.push_back(completed);
    }

    /// Takes a join of which all that follows is published and stored.
    pub(super) fn close(&mut self, completed: Box<Completed>) {
        self.published.push_back((completed, End::Close));
    }

    /// What follows can never be published. Unless that is what follows this very failure, it is
    /// composed again.
    pub(super) fn lost(&mut self, mut completed: Box<Completed>, error: &Error) {
        if completed.lost.replace(error.to_string()).is_some() {
            return self.close(completed);
        }
        self.waiting.push_back(completed);
    }

    /// How many are not closed, those not counted that are being published.
    pub(super) fn len(&self) -> usize {
        let under_way = usize::from(self.composing.is_some()) + usize::from(self.closing.is_some());
        self.waiting.len() + self.published.len() + under_way
    }

    /// Adds the messages whose settlements wait here.
    pub(super) fn held(&self, tags: &mut Vec<Tag>) {
        self.waiting
            .iter()
            .chain(self.composing.iter().map(|(completed, _)| completed))
            .chain(self.published.iter().map(|(completed, _)| completed))
            .chain(self.closing.iter().map(|(completed, ..)| completed))
            .for_each(|completed| completed.held(tags));
    }

    /// The lease lapsed: settlements are void. What follows is still published: the members have
    /// ended.
    pub(super) fn fenced(&mut self) {
        self.waiting
            .iter_mut()
            .chain(self.composing.iter_mut().map(|(completed, _)| completed))
            .chain(self.published.iter_mut().map(|(completed, _)| completed))
            .chain(self.closing.iter_mut().map(|(completed, ..)| completed))
            .for_each(|completed| completed.fenced());
    }

    /// Gives one claim back; what must be settled all the same. The other messages stay held, so that
    /// their tasks run again and complete the join.
    fn give_back(&mut self, mut completed: Box<Completed>) -> Vec<SettleAfter> {
        let after = std::mem::take(&mut completed.after);
        let (once, again): (Vec<_>, Vec<_>) = after.into_iter().partition(|after| after.once);
        if again.iter().all(|after| after.settlement.is_none()) {
            tracing::error!(
                join = completed.joined.id,
                "what follows a join could not be published, and none of its members runs again"
            );
        }
        self.published.push_back((completed, End::Reopen));
        once
    }

    /// The same for these and all that are not composed.
    pub(super) fn give_up(
        &mut self,
        published: impl IntoIterator<Item = Box<Completed>>,
    ) -> Vec<SettleAfter> {
        let composing = self.composing.take().map(|(completed, _)| completed);
        let waiting = std::mem::take(&mut self.waiting);
        let all = waiting.into_iter().chain(composing).chain(published);
        all.collect::<Vec<_>>().into_iter().flat_map(|one| self.give_back(one)).collect()
    }

    /// When [`Joining::kick`] should be called again, if nothing happens before.
    pub(super) fn next_wake(&self) -> Option<Micros> {
        let composes = self.waiting.iter().filter(|_| self.composing.is_none());
        let closes = self.closing.is_none() && !self.published.is_empty();
        composes.map(|completed| completed.retry.at).chain(closes.then_some(self.retry.at)).min()
    }

    /// Begins what can be begun.
    pub(super) fn kick(&mut self, now: Micros) {
        let Some(store) = &self.store else { return };
        if self.composing.is_none()
            && let Some(at) = self.waiting.iter().position(|one| one.retry.at <= now)
            && let Some(completed) = self.waiting.remove(at)
        {
            let work = compose(Arc::clone(store), self.composer.clone(), &completed);
            self.composing = Some((completed, work));
        }
        if self.closing.is_none()
            && now >= self.retry.at
            && let Some((completed, end)) = self.published.pop_front()
        {
            let (store, joined) = (Arc::clone(store), completed.joined.clone());
            let reply = Box::pin(async move {
                match end {
                    End::Close => store.close(&joined).await,
                    End::Reopen => store.reopen(&joined).await,
                }
            });
            self.closing = Some((completed, end, reply));
        }
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Micros,
        random: &mut dyn FnMut() -> f64,
    ) -> Poll<JoinNews> {
        if let Some((_, work)) = &mut self.composing
            && let Poll::Ready(work) = work.as_mut().poll(cx)
            && let Some((completed, _)) = self.composing.take()
        {
            return Poll::Ready(self.composed(completed, work, now, random));
        }
        if let Some((.., reply)) = &mut self.closing
            && let Poll::Ready(result) = reply.as_mut().poll(cx)
            && let Some((completed, end, _)) = self.closing.take()
        {
            return Poll::Ready(self.closed(completed, end, result, now, random));
        }
        Poll::Pending
    }

    fn composed(
        &mut self,
        mut completed: Box<Completed>,
        Work { composed, failure }: Work,
        now: Micros,
        random: &mut dyn FnMut() -> f64,
    ) -> JoinNews {
        let join = completed.joined.id.clone();
        match composed {
            Ok(composed) => {
                completed.retry = Retry::default();
                if let Some(error) = failure {
                    tracing::error!(join, %error, "what follows a join cannot be had, it ends as a failure");
                }
                JoinNews::Composed(completed, composed)
            }
            Err(error) if error.is_retryable() => {
                // It alone waits: the error may be about what is composed.
                completed.retry.later(now, random());
                self.waiting.push_back(completed);
                JoinNews::Failed(error)
            }
            Err(error) => {
                let error = failure.unwrap_or(error);
                tracing::error!(join, %error, "what follows a join cannot be told, it is lost");
                JoinNews::Composed(completed, Composed::default())
            }
        }
    }

    fn closed(
        &mut self,
        completed: Box<Completed>,
        end: End,
        result: Result<()>,
        now: Micros,
        random: &mut dyn FnMut() -> f64,
    ) -> JoinNews {
        match result {
            Err(error) if error.is_retryable() => {
                self.retry.later(now, random());
                self.published.push_front((completed, end));
                return JoinNews::Failed(error);
            }
            Err(error) => {
                let join = completed.joined.id.as_str();
                tracing::warn!(join, %error, "a join is not closed, what follows it may come again");
            }
            Ok(()) => self.retry = Retry::default(),
        }
        JoinNews::Closed(completed.after)
    }
}

impl Completed {
    /// Of a join that was claimed at this time, at the earliest.
    pub(super) fn new(joined: JoinClaim, claimed_at: Micros) -> Self {
        let (message, after, lost) = (Bytes::new(), Vec::new(), None);
        Self { joined, message, after, lost, claimed_at, retry: Retry::default() }
    }

    /// Whether its claim may have lapsed before what follows is published.
    pub(super) fn is_stale(&self, now: Micros) -> bool {
        now >= self.claimed_at + CLAIM_MS * 1_000 / 2
    }

    /// For how long its claim stands certainly, in microseconds.
    pub(super) fn claim_left(&self, now: Micros) -> Micros {
        (self.claimed_at + CLAIM_MS * 1_000).saturating_sub(now)
    }

    /// Whether the message of a member is still held that may run again.
    pub(super) fn runs_again(&self) -> bool {
        self.after.iter().any(|after| !after.once && after.settlement.is_some())
    }

    /// Adds the messages that are settled after it.
    pub(super) fn held(&self, tags: &mut Vec<Tag>) {
        self.after.iter().for_each(|after| after.held(tags));
    }

    /// The lease lapsed: settlements are void.
    pub(super) fn fenced(&mut self) {
        self.after.iter_mut().for_each(SettleAfter::fenced);
    }
}

/// Composes what follows a join.
fn compose(
    store: Arc<dyn ResultStore>,
    composer: Option<Arc<dyn Composer>>,
    completed: &Completed,
) -> BoxFuture<'static, Work> {
    let Some(composer) = composer else {
        let text = "this worker composes nothing, run the last member on one that does";
        let error = Error::new(ErrorKind::Unsupported, text);
        return Box::pin(async { Work { composed: Err(error), failure: None } });
    };
    let (group, message) = (completed.joined.id.clone(), completed.message.clone());
    let lost = completed.lost.clone();
    Box::pin(async move {
        let work = move || work(&*store, &*composer, (group, message), lost);
        spawn_blocking(work).await.unwrap_or_else(|e| {
            let error = Error::caused(ErrorKind::Internal, "the composition was broken off", e);
            Work { composed: Err(error), failure: None }
        })
    })
}

fn work(
    store: &dyn ResultStore,
    composer: &dyn Composer,
    (group, message): (String, Bytes),
    lost: Option<String>,
) -> Work {
    let mut failure = None;
    let fate = match lost {
        Some(why) => Fate::Lost(why),
        None => match members::fate(store, &group, composer.limit()) {
            Ok(Some(fate)) => fate,
            // It was closed by another.
            Ok(None) => return Work { composed: Ok(Composed::default()), failure },
            Err(error) if error.is_retryable() => return Work { composed: Err(error), failure },
            Err(error) => Fate::Lost(failure.insert(error).to_string()),
        },
    };
    let mut ending = Ending { group, message, fate };
    let first = composer.compose(&ending);
    match first {
        Err(error) if !error.is_retryable() && !matches!(ending.fate, Fate::Lost(_)) => {
            ending.fate = Fate::Lost(failure.insert(error).to_string());
            Work { composed: composer.compose(&ending), failure }
        }
        done => Work { composed: done, failure },
    }
}
