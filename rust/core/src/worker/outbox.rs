//! Outbox: messages that follow tasks, published before the records and settlements that wait for
//! them.
//!
//! One publish is under way at a time (`publishing`); what comes meanwhile makes the next batch, and
//! none waits for company. Nothing is dropped while the broker is away, is full or cannot write for another reason. Where it
//! refuses a batch, the entries are sent one by one, so that one that it will never take holds up no
//! other: each waits for its next attempt by itself, and all wait when two in a row are refused. One
//! is given back at once when the refusal is about the message, or after [`REFUSALS`] of them
//! between which others went through.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    broker::{Answer, Broker, Consumer, Settlement, Tag},
    clock::Micros,
    error::{Error, ErrorKind},
    pool::FollowUp,
    result::{JoinClaim, Record, ResultStore},
    worker::{
        kept::SettleAfter,
        publishing::{Answers, Reply, attempt, publish, publish_lone},
        retry::Retry,
    },
};

/// Most entries in one batch.
const MOST: usize = 500;
/// A batch takes no more entries when it has so many bytes.
const BYTES: usize = 4 << 20;
/// How often an entry is refused, with others going through meanwhile, before it is given back as one
/// that the broker will never take.
const REFUSALS: u32 = 8;
/// What a kept message costs beside its bytes.
const OVERHEAD: usize = 256;

/// What follows one task, and what is stored and settled after it is published.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) follow: Vec<FollowUp>,
    pub(super) record: Option<Record>,
    pub(super) after: SettleAfter,
    /// Its place among all entries.
    number: u64,
    /// How often it was refused although others went through since it was refused before.
    refusals: u32,
    /// How many batches had gone through when that was last looked at.
    seen: u64,
    /// When it may be sent alone again, once it was refused.
    retry: Option<Retry>,
}

/// What came of a batch.
#[derive(Debug)]
pub(super) enum Sent {
    /// It is published.
    All(Vec<Entry>),
    /// What follows this join is another worker's to publish: that took over when the claim lapsed.
    Superseded(Box<Entry>),
    /// The broker will never take this one.
    Refused(Box<Entry>, Error),
    /// It will be tried again.
    Failed(Error),
}

/// What waits to be published.
pub(super) struct Outbox {
    broker: Arc<dyn Broker>,
    results: Option<Arc<dyn ResultStore>>,
    waiting: VecDeque<Entry>,
    /// How many at the front of `waiting` are sent alone.
    alone: usize,
    /// What was sent alone and refused.
    refused: Vec<Entry>,
    /// Whether it is the turn of one that was refused.
    refused_next: bool,
    sending: Option<(Vec<Entry>, Reply)>,
    bytes: usize,
    /// How many entries there were.
    numbered: u64,
    /// How many batches went through.
    published: u64,
    /// Number of the last entry that was refused, and how many batches had gone through.
    last_refused: Option<(u64, u64)>,
    /// When anything may be sent.
    retry: Retry,
}

impl Outbox {
    pub(super) fn new(broker: Arc<dyn Broker>, results: Option<Arc<dyn ResultStore>>) -> Self {
        Self {
            broker,
            results,
            waiting: VecDeque::new(),
            alone: 0,
            refused: Vec::new(),
            refused_next: false,
            sending: None,
            bytes: 0,
            numbered: 0,
            published: 0,
            last_refused: None,
            retry: Retry::default(),
        }
    }

    /// Takes what follows a task, and what is stored and settled after it.
    pub(super) fn push(
        &mut self,
        follow: Vec<FollowUp>,
        record: Option<Record>,
        after: SettleAfter,
    ) {
        let (number, seen) = (self.numbered, self.published);
        let entry = Entry { follow, record, after, number, refusals: 0, seen, retry: None };
        self.numbered += 1;
        self.bytes += weight(&entry);
        self.waiting.push_back(entry);
    }

    /// How many are not published.
    pub(super) fn len(&self) -> usize {
        let sending = self.sending.as_ref().map_or(0, |(batch, _)| batch.len());
        self.waiting.len() + self.refused.len() + sending
    }

    /// Bytes of what is kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the messages whose settlements wait here.
    pub(super) fn held(&self, tags: &mut Vec<Tag>) {
        let sending = self.sending.iter().flat_map(|(batch, _)| batch);
        for entry in self.waiting.iter().chain(&self.refused).chain(sending) {
            entry.after.held(tags);
        }
    }

    /// Takes the settlements of tasks that must not run again.
    pub(super) fn once(&mut self) -> impl Iterator<Item = Settlement> {
        let entries = self.waiting.iter_mut().chain(&mut self.refused);
        entries.filter(|entry| entry.after.once).filter_map(|entry| entry.after.settlement.take())
    }

    /// The lease lapsed: settlements are void. What follows is still published: the work was done.
    pub(super) fn fenced(&mut self) {
        let sending = self.sending.iter_mut().flat_map(|(batch, _)| batch);
        for entry in self.waiting.iter_mut().chain(&mut self.refused).chain(sending) {
            entry.after.fenced();
        }
    }

    /// Takes out all that is not known to be published.
    pub(super) fn give_up(&mut self) -> Vec<Entry> {
        let mut entries = self.sending.take().map_or_else(Vec::new, |(batch, _)| batch);
        entries.append(&mut self.refused);
        entries.extend(self.waiting.drain(..));
        (self.alone, self.bytes) = (0, 0);
        entries
    }

    /// Sends what should leave now; where `consumer` takes it and no attempt failed before, over its
    /// connection.
    pub(super) fn kick(&mut self, consumer: Option<&Arc<dyn Consumer>>, now: Micros) {
        if self.sending.is_some() || now < self.retry.at {
            return;
        }
        let batch = self.take(now);
        if batch.is_empty() {
            return;
        }
        let claim = batch.first().and_then(|entry| entry.stale(now)).cloned();
        let claim = claim.zip(self.results.clone());
        // A claim that is renewed first lasts for longer than any attempt.
        let lefts = batch.iter().filter_map(|entry| entry.claim_left(now));
        let attempt = attempt(lefts.min().filter(|_| claim.is_none()));
        let lone = consumer.filter(|_| claim.is_none()).and_then(|consumer| {
            let [Entry { follow, refusals: 0, retry: None, .. }] = &batch[..] else { return None };
            let [message] = &follow[..] else { return None };
            self.retry.is_first().then(|| publish_lone(consumer, message, attempt))?
        });
        let reply = lone.unwrap_or_else(|| {
            let follow = batch.iter().flat_map(|entry| &entry.follow).cloned().collect();
            publish(Arc::clone(&self.broker), claim, follow, attempt)
        });
        self.sending = Some((batch, reply));
    }

    /// When [`Outbox::kick`] should be called again, if nothing happens before.
    pub(super) fn next_wake(&self) -> Option<Micros> {
        if self.sending.is_some() {
            return None;
        }
        let refused = || self.refused.iter().map(Entry::at).min();
        let next = if self.waiting.is_empty() { refused()? } else { 0 };
        Some(next.max(self.retry.at))
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
            Ok(None) => {
                self.bytes -= batch.iter().map(weight).sum::<usize>();
                batch
                    .into_iter()
                    .next()
                    .map_or(Sent::All(Vec::new()), |entry| Sent::Superseded(Box::new(entry)))
            }
            Ok(Some(answers)) => {
                self.retry = Retry::default();
                let went =
                    |answer: &Answer| matches!(answer, Answer::Confirmed | Answer::Duplicate);
                self.published += u64::from(answers.answers.iter().any(went));
                self.answered(batch, answers, now, random)
            }
            Err(error) => self.failed(batch, error, now, random()),
        })
    }

    /// Takes the answers. What the broker does not have is sent alone, where it is not alone
    /// already, without the messages beside it that the broker has.
    fn answered(
        &mut self,
        batch: Vec<Entry>,
        Answers { answers, kept }: Answers,
        now: Micros,
        random: &mut dyn FnMut() -> f64,
    ) -> Sent {
        let refused = answers.iter().all(|answer| matches!(answer, Answer::Refused(_)));
        let (mut sent, mut lost, mut answers) = (Vec::new(), Vec::new(), answers.into_iter());
        for mut entry in batch {
            let own: Vec<Answer> = answers.by_ref().take(entry.follow.len()).collect();
            let has = |answer: &Answer| matches!(answer, Answer::Confirmed | Answer::Duplicate);
            if own.iter().all(has) {
                self.bytes -= weight(&entry);
                sent.push(entry);
                continue;
            }
            let before = weight(&entry);
            let mut own = own.iter();
            entry.follow.retain(|_| own.next().is_some_and(|answer| !has(answer)));
            self.bytes -= before - weight(&entry);
            lost.push(entry);
        }
        match kept {
            Err(error)
                if error.kind() == ErrorKind::Unroutable && sent.is_empty() && lost.len() == 1 =>
            {
                let entry = lost.swap_remove(0);
                self.bytes -= weight(&entry);
                return Sent::Refused(Box::new(entry), error);
            }
            // Nothing is left beside it that could be the reason.
            Err(error) if sent.is_empty() && lost.len() == 1 && refused => {
                return self.failed(lost, error, now, random());
            }
            _ => {}
        }
        for entry in lost.into_iter().rev() {
            self.put_back(entry, true);
        }
        Sent::All(sent)
    }

    fn failed(&mut self, mut batch: Vec<Entry>, error: Error, now: Micros, random: f64) -> Sent {
        if error.is_retryable() {
            // Nobody has judged it yet.
            self.retry.later(now, random);
            let alone = self.alone > 0 && batch.len() == 1;
            batch.into_iter().rev().for_each(|entry| self.put_back(entry, alone));
            return Sent::Failed(error);
        }
        if batch.len() > 1 {
            // One of them is the reason, and is found at once.
            self.retry = Retry::default();
            batch.into_iter().rev().for_each(|entry| self.put_back(entry, true));
            return Sent::Failed(error);
        }
        let Some(mut entry) = batch.pop() else { return Sent::Failed(error) };
        // A broker that takes nothing at all says nothing of this one.
        entry.refusals += u32::from(entry.seen < self.published);
        entry.seen = self.published;
        if is_about_message(error.kind()) || entry.refusals >= REFUSALS {
            self.bytes -= weight(&entry);
            return Sent::Refused(Box::new(entry), error);
        }
        let last = self.last_refused.replace((entry.number, self.published));
        if last.is_some_and(|(number, then)| number != entry.number && then == self.published) {
            self.retry.later(now, random);
        } else {
            self.retry = Retry::default();
        }
        entry.retry.get_or_insert_default().later(now, random);
        self.refused.push(entry);
        Sent::Failed(error)
    }

    /// Puts an entry back that was sent, to be sent alone or not.
    fn put_back(&mut self, entry: Entry, alone: bool) {
        if entry.retry.is_some() {
            return self.refused.push(entry);
        }
        self.alone += usize::from(alone);
        self.waiting.push_front(entry);
    }

    /// Takes what is sent next; nothing when all that is left was refused and waits for its time.
    fn take(&mut self, now: Micros) -> Vec<Entry> {
        if self.alone > 0 {
            self.alone -= 1;
            return self.waiting.pop_front().into_iter().collect();
        }
        self.refused_next = !self.refused_next || self.waiting.is_empty();
        if self.refused_next
            && let Some(at) = self.refused.iter().position(|entry| entry.at() <= now)
        {
            return vec![self.refused.remove(at)];
        }
        let (mut count, mut bytes) = (0, 0);
        for entry in self.waiting.iter().take(MOST) {
            bytes += weight(entry);
            // One whose claim must be looked at again is sent alone.
            let stale = entry.stale(now).is_some();
            if count > 0 && (bytes > BYTES || stale) {
                break;
            }
            count += 1;
            if stale {
                break;
            }
        }
        self.waiting.drain(..count).collect()
    }
}

impl Entry {
    /// The claim of the join that these messages follow, if that may have lapsed.
    fn stale(&self, now: Micros) -> Option<&JoinClaim> {
        let join = self.after.join.as_deref().filter(|join| join.is_stale(now))?;
        Some(&join.joined)
    }

    /// For how long the claim of the join that these messages follow stands.
    fn claim_left(&self, now: Micros) -> Option<Micros> {
        self.after.join.as_deref().map(|join| join.claim_left(now))
    }

    /// When it may be sent, if it was refused.
    fn at(&self) -> Micros {
        self.retry.map_or(0, |retry| retry.at)
    }
}

/// Whether an error is about the message, so that it comes again however often that is sent.
fn is_about_message(kind: ErrorKind) -> bool {
    use ErrorKind::{Decode, Encode, Refused, TooLarge, Unroutable, Unsupported};
    matches!(kind, TooLarge | Encode | Decode | Refused | Unsupported | Unroutable)
}

fn weight(entry: &Entry) -> usize {
    let follow = entry.follow.iter().map(|message| message.data.len() + OVERHEAD).sum::<usize>();
    follow + entry.record.as_ref().map_or(0, |record| record.document.len() + OVERHEAD)
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
