//! Leaving: a request to stop and the end, carried out.
//!
//! Order matters at the end: the pool dies before the lease is released, so that nothing runs here
//! that another worker has been given. Every wait is bounded; what could not be handed back in time
//! comes back when the lease lapses.

use std::{collections::VecDeque, task::Poll, time::Duration};

use crate::{
    broker::Settle,
    error::{Error, ErrorKind, Result},
    message::Message,
    pool::{FollowUp, Lost},
    result::{Record, State},
    worker::{
        Now, Worker,
        inflight::{Place, Request},
        kept::{GivenUp, SettleAfter},
        settle::{self, Context},
        shutdown::{Step, Stop},
        suspect::Suspects,
    },
};

/// How long the pool's end and the release of the lease may take.
const LAST: Duration = Duration::from_secs(5);
/// Before a failed batch is looked at again.
const PATIENCE: Duration = Duration::from_millis(50);

impl Worker {
    /// Carries out a change of phase; whether the loop ends.
    pub(super) async fn step(&mut self, step: Step) -> bool {
        match step {
            Step::Nothing => {}
            Step::HandBack => {
                tracing::info!("warm shutdown, running tasks may finish");
                self.hand_back_unbegun();
            }
            Step::Kill => {
                if self.pool.kills() {
                    tracing::warn!("cold shutdown, running tasks are killed");
                } else {
                    tracing::warn!("cold shutdown, running tasks are interrupted");
                }
                self.hand_back_unbegun();
                self.kill().await;
            }
            Step::Leave => return true,
        }
        false
    }

    /// Gives one request back to the head of its queue.
    pub(super) fn hand_back(&mut self, key: u64) {
        let Some(request) = self.inflight.remove(key) else { return };
        if request.ended.is_some() {
            self.leave_to_another(request);
        } else if request.lease == self.lease {
            self.give(request.tag, Settle::HandBack);
        }
    }

    /// The loop cannot go on: what runs is lost, but what is finished is still stored and settled,
    /// in a bounded time.
    pub(super) async fn salvage(&mut self) {
        let now = self.now();
        self.phase.ask(Stop::Cold, now.mono, None);
        self.hand_back_unbegun();
        self.kill().await;
        self.drain().await;
    }

    /// The last acts, in order.
    pub(super) async fn leave(&mut self) {
        let force = self.inflight.at_pool() > 0;
        if tokio::time::timeout(LAST, self.pool.shutdown(force)).await.is_err() {
            tracing::warn!("the pool did not end in time");
        }
        for key in self.inflight.keys(|_| true) {
            if let Some(request) = self.inflight.remove(key).filter(Request::is_unheld) {
                self.leave_to_another(request);
            }
        }
        self.give_up_results();
        self.drain().await;
        let Some(consumer) = self.connection.close() else {
            // A worker that was never connected holds nothing.
            if !self.epoch.is_empty() {
                tracing::warn!(
                    "the broker is away, what this worker held returns when its lease lapses"
                );
            }
            return;
        };
        match tokio::time::timeout(LAST, consumer.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease was not released, what it held returns when it lapses");
            }
            Err(_) => tracing::warn!(
                "the lease was not released in time, what it held returns when it lapses"
            ),
        }
    }

    /// Whether something is left that can be sent. Settlements need the broker.
    fn has_unsent(&self) -> bool {
        let connected = self.connection.consumer().is_some();
        if connected { self.flush.len() > 0 } else { self.flush.has_unstored() }
    }

    /// Sends what is left, in a bounded time.
    async fn drain(&mut self) {
        let last = async {
            while self.has_unsent() {
                let now = self.now();
                self.flush.kick(self.connection.consumer(), true, now.mono);
                tokio::select! {
                    news = self.flush.news(now.mono) => self.flush_news(news, now),
                    news = self.connection.news() => self.connection_news(news, now),
                    () = tokio::time::sleep(PATIENCE) => {}
                }
            }
        };
        if tokio::time::timeout(LAST, last).await.is_err() {
            tracing::warn!("results or acknowledgements could not be sent in time");
        }
    }

    /// Says what could not be published or stored. The messages of late-acked tasks are still held,
    /// and go back with the lease. A task that does not run again has its result stored without what
    /// follows it: the store may answer although the broker is away. A retry that is lost is a
    /// failure.
    fn give_up_results(&mut self) {
        let now = self.now().wall;
        for GivenUp { record, follow, held } in self.flush.give_up() {
            for message in &follow {
                log_unpublished(message, held);
            }
            if !held && record.as_ref().is_none_or(|record| record.state != State::Retry) {
                for message in follow.iter().filter_map(|one| Message::decode(&one.data).ok()) {
                    self.flush.push(self.given_up(&message, now), SettleAfter::default());
                }
            }
            let Some(record) = record else { continue };
            let (task_id, state) = (record.id.as_str(), record.state.as_str());
            if held {
                tracing::error!(
                    task_id,
                    state,
                    "a result could not be stored, the task goes back to its queue"
                );
            } else if !follow.is_empty() {
                let lost_retry = record.state == State::Retry;
                let record = if lost_retry { settle::retry_lost(&record, now) } else { record };
                self.flush.push(Some(record), SettleAfter::default());
            } else if record.state.is_ready() {
                tracing::error!(task_id, state, "a result could not be stored, it is lost");
            }
        }
    }

    /// How a task ends whose message follows another and is lost. What was to follow it in its turn is
    /// not known here.
    fn given_up(&self, message: &Message, now: i64) -> Option<Record> {
        let error =
            Error::new(ErrorKind::Connection, "the worker ended before it could publish it");
        let context = Context { now, ..self.context(self.now()) };
        let lost = !message.has_end();
        settle::unpublished(message, &error, context).store.filter(|_| lost)
    }

    /// Gives back what has not begun, but for what only tells of an end and still can.
    pub(super) fn hand_back_unbegun(&mut self) {
        self.pool.recall();
        let mut kept = VecDeque::new();
        for key in self.inflight.keys(|place| !matches!(place, Place::Pool | Place::Running)) {
            let request = self.inflight.get(key);
            if self.phase.tells() && request.is_some_and(|request| request.ended.is_some()) {
                kept.push_back(key);
            } else {
                self.hand_back(key);
            }
        }
        self.forget_waiting();
        self.ready = kept;
    }

    /// In a shutdown: what still waits only tells of ends. Without a lease others do that.
    pub(super) fn tell_the_rest(&mut self, now: Now) -> Result<()> {
        if self.ready.is_empty() || (self.phase.tells() && self.holds_lease(now)) {
            return self.dispatch(now);
        }
        while let Some(key) = self.ready.pop_front() {
            self.hand_back(key);
        }
        Ok(())
    }

    /// Empties the places where requests wait; the requests were taken out of the table before.
    pub(super) fn forget_waiting(&mut self) {
        self.eta.drain().for_each(drop);
        self.rates.drain();
        self.suspects = Suspects::default();
        self.ready.clear();
    }

    /// Kills the pool. What it returned before goes back, what it finished counts, up to the last
    /// moment; what it had begun is lost, each by its ack rule.
    async fn kill(&mut self) {
        self.take_pool_news().await;
        if tokio::time::timeout(LAST, self.pool.shutdown(true)).await.is_err() {
            tracing::warn!("the pool did not end in time");
        }
        self.take_pool_news().await;
        let now: Now = self.now();
        for key in self.inflight.keys(|_| true) {
            self.lost(key, (0, &Lost::Shutdown), now);
        }
    }

    /// Takes the news that need no waiting.
    async fn take_pool_news(&mut self) {
        loop {
            let mut news = self.pool.news();
            let at_once = std::future::poll_fn(|cx| match news.as_mut().poll(cx) {
                Poll::Ready(Ok(news)) if !news.is_empty() => Poll::Ready(Some(news)),
                _ => Poll::Ready(None),
            });
            let Some(at_once) = at_once.await else { return };
            drop(news);
            let now = self.now();
            self.pool_news(at_once, now);
        }
    }
}

/// Says that a message which follows a task is not published.
fn log_unpublished(message: &FollowUp, held: bool) {
    let (task_id, queue) = (&*message.id, &*message.queue);
    let read = Message::decode(&message.data).unwrap_or_default();
    let (task_name, follows) = (read.headers.task, read.headers.parent_id.unwrap_or_default());
    if held {
        tracing::error!(
            task_name,
            task_id,
            follows,
            queue,
            "a message that follows a task could not be published, that task goes back to its queue"
        );
    } else {
        tracing::error!(
            task_name,
            task_id,
            follows,
            queue,
            "a message that follows a task could not be published, it is lost"
        );
    }
}
