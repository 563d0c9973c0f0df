//! Outbox: messages that follow tasks, published before the records and settlements that wait for
//! them.
//!
//! One publish is under way at a time; what comes meanwhile makes the next batch, and none waits for
//! company. Publishing blocks, so it happens on a thread that the runtime keeps for such calls.
//! Nothing is dropped while the broker is away. Where it refuses a batch, the entries are sent one by
//! one, so that one that it will never take holds up no other; that one is given back after
//! [`REFUSALS`] attempts, or at once when the refusal is final.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::task::spawn_blocking;

use crate::{
    broker::{Answer, Broker, Outgoing, Tag, answer},
    clock::{self, Micros},
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
    message::{Encoding, Message},
    pool::FollowUp,
    result::Record,
    worker::{kept::After, retry::Retry},
};

/// Most entries in one batch.
const MOST: usize = 500;
/// A batch takes no more entries when it has so many bytes.
const BYTES: usize = 4 << 20;
/// What one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How often an entry is sent alone before it is given back as one that the broker will never take.
const REFUSALS: u32 = 8;
/// What a kept message costs beside its bytes.
const OVERHEAD: usize = 256;

/// What follows one task, and what is stored and settled after it is published.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) follow: Vec<FollowUp>,
    pub(super) record: Option<Record>,
    pub(super) after: After,
    /// How often it was sent alone and refused.
    refusals: u32,
}

/// What came of a batch.
#[derive(Debug)]
pub(super) enum Sent {
    /// It is published.
    All(Vec<Entry>),
    /// The broker will never take this one.
    Refused(Box<Entry>, Error),
    /// It will be tried again.
    Failed(Error),
}

/// What the broker answered for each message of a batch, and the error about what has no queue.
struct Answers {
    answers: Vec<Answer>,
    routed: Result<()>,
}

/// What waits to be published.
pub(super) struct Outbox {
    broker: Arc<dyn Broker>,
    waiting: VecDeque<Entry>,
    /// How many at the front of `waiting` are sent alone.
    alone: usize,
    sending: Option<(Vec<Entry>, BoxFuture<'static, Result<Answers>>)>,
    bytes: usize,
    retry: Retry,
}

impl Outbox {
    pub(super) fn new(broker: Arc<dyn Broker>) -> Self {
        Self {
            broker,
            waiting: VecDeque::new(),
            alone: 0,
            sending: None,
            bytes: 0,
            retry: Retry::default(),
        }
    }

    /// Takes what follows a task, and what is stored and settled after it.
    pub(super) fn push(&mut self, follow: Vec<FollowUp>, record: Option<Record>, after: After) {
        let entry = Entry { follow, record, after, refusals: 0 };
        self.bytes += weight(&entry);
        self.waiting.push_back(entry);
    }

    /// How many are not published.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.sending.as_ref().map_or(0, |(batch, _)| batch.len())
    }

    /// Bytes of what is kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the settlement of this message waits here.
    pub(super) fn holds(&self, tag: Tag) -> bool {
        let sending = self.sending.iter().flat_map(|(batch, _)| batch);
        let settlements = self.waiting.iter().chain(sending).map(|entry| &entry.after.settlement);
        settlements.flatten().any(|settlement| settlement.tag == tag)
    }

    /// The lease lapsed: settlements are void. What follows is still published: the work was done.
    pub(super) fn fenced(&mut self) {
        let sending = self.sending.iter_mut().flat_map(|(batch, _)| batch);
        for entry in self.waiting.iter_mut().chain(sending) {
            entry.after.settlement = None;
        }
    }

    /// Takes out all that is not known to be published.
    pub(super) fn give_up(&mut self) -> Vec<Entry> {
        let mut entries = self.sending.take().map_or_else(Vec::new, |(batch, _)| batch);
        entries.extend(self.waiting.drain(..));
        (self.alone, self.bytes) = (0, 0);
        entries
    }

    /// Sends what should leave now.
    pub(super) fn kick(&mut self, now: Micros) {
        if self.sending.is_some() || self.waiting.is_empty() || now < self.retry.at {
            return;
        }
        let batch = self.take();
        let follow: Vec<FollowUp> = batch.iter().flat_map(|entry| &entry.follow).cloned().collect();
        let broker = Arc::clone(&self.broker);
        let reply = Box::pin(async move {
            if follow.is_empty() {
                return Ok(Answers { answers: Vec::new(), routed: Ok(()) });
            }
            let deadline = clock::instant() + ATTEMPT;
            match spawn_blocking(move || publish(&*broker, follow, deadline)).await {
                Ok(result) => result,
                Err(e) => Err(Error::caused(ErrorKind::Internal, "the publish was broken off", e)),
            }
        });
        self.sending = Some((batch, reply));
    }

    /// When [`Outbox::kick`] should be called again, if nothing happens before.
    pub(super) fn next_wake(&self) -> Option<Micros> {
        (self.sending.is_none() && !self.waiting.is_empty()).then_some(self.retry.at)
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Micros,
        random: &mut dyn FnMut() -> f64,
    ) -> Poll<Sent> {
        let Some((_, reply)) = &mut self.sending else { return Poll::Pending };
        let Poll::Ready(result) = reply.as_mut().poll(cx) else { return Poll::Pending };
        let batch = self.sending.take().map_or_else(Vec::new, |(batch, _)| batch);
        Poll::Ready(match result {
            Ok(answers) => {
                self.retry = Retry::default();
                self.answered(batch, answers)
            }
            Err(error) => self.failed(batch, error, now, random()),
        })
    }

    /// Takes the answers; what has no queue is sent alone, where it is not alone already.
    fn answered(&mut self, batch: Vec<Entry>, Answers { answers, routed }: Answers) -> Sent {
        let (mut sent, mut lost, mut answers) = (Vec::new(), Vec::new(), answers.into_iter());
        for entry in batch {
            let mut own = answers.by_ref().take(entry.follow.len());
            let unroutable = own.any(|answer| answer == Answer::Unroutable);
            own.for_each(drop);
            if unroutable { lost.push(entry) } else { sent.push(entry) }
        }
        match routed {
            Err(error) if sent.is_empty() && lost.len() == 1 => {
                let entry = lost.swap_remove(0);
                self.bytes -= weight(&entry);
                return Sent::Refused(Box::new(entry), error);
            }
            _ => {}
        }
        self.alone += lost.len();
        lost.into_iter().rev().for_each(|entry| self.waiting.push_front(entry));
        self.bytes -= sent.iter().map(weight).sum::<usize>();
        Sent::All(sent)
    }

    fn failed(&mut self, mut batch: Vec<Entry>, error: Error, now: Micros, random: f64) -> Sent {
        self.retry.later(now, random);
        if error.is_retryable() {
            // Nobody has judged it yet.
            self.alone += usize::from(self.alone > 0 && batch.len() == 1);
            batch.into_iter().rev().for_each(|entry| self.waiting.push_front(entry));
            return Sent::Failed(error);
        }
        if batch.len() > 1 {
            // One of them is the reason, and is found at once.
            self.retry = Retry::default();
            self.alone = batch.len();
            batch.into_iter().rev().for_each(|entry| self.waiting.push_front(entry));
            return Sent::Failed(error);
        }
        let Some(mut entry) = batch.pop() else { return Sent::Failed(error) };
        entry.refusals += 1;
        if error.kind() != ErrorKind::Storage || entry.refusals >= REFUSALS {
            self.bytes -= weight(&entry);
            return Sent::Refused(Box::new(entry), error);
        }
        // A full server may have room again; meanwhile others go first.
        self.waiting.push_back(entry);
        Sent::Failed(error)
    }

    fn take(&mut self) -> Vec<Entry> {
        if self.alone > 0 {
            self.alone -= 1;
            return self.waiting.pop_front().into_iter().collect();
        }
        let (mut count, mut bytes) = (0, 0);
        for entry in self.waiting.iter().take(MOST) {
            bytes += weight(entry);
            // What was refused before is sent alone again.
            if count > 0 && (bytes > BYTES || entry.refusals > 0) {
                break;
            }
            count += 1;
            if entry.refusals > 0 {
                break;
            }
        }
        self.waiting.drain(..count).collect()
    }
}

fn weight(entry: &Entry) -> usize {
    let follow = entry.follow.iter().map(|message| message.data.len() + OVERHEAD).sum::<usize>();
    follow + entry.record.as_ref().map_or(0, |record| record.document.len() + OVERHEAD)
}

/// Publishes what follows. No id is claimed to be new: an attempt before may have gone through.
fn publish(broker: &dyn Broker, follow: Vec<FollowUp>, deadline: Instant) -> Result<Answers> {
    let outgoing = |FollowUp { queue, data, .. }| {
        Ok(Outgoing::new(Message::decode(&data)?, queue, Encoding::of(&data)))
    };
    let batch = follow.into_iter().map(outgoing).collect::<Result<Vec<_>>>()?;
    let answers = broker.publish(&batch, deadline)?;
    let routed = answer::routed(&batch, &answers, broker.url());
    Ok(Answers { answers, routed })
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
