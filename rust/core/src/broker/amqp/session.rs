//! A worker's connection: its consumers, what they were given, what is held.
//!
//! A session lives as long as its connection. When that ends, the server puts back all that was not
//! acknowledged, by itself and at once: the session is what other brokers call an epoch with its
//! lease. Consumers have credit of their own (never one for the whole channel, which quorum queues
//! do not have); it follows what the worker asks for.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_core::Stream;
use lapin::{
    Channel,
    message::Delivery as Given,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};

use super::{
    acks::Settled,
    client::Link,
    error,
    native::{Content, short},
};
use crate::{
    broker::{Delivery, Tag, Want, order::Turns},
    error::{Error, ErrorKind, Result},
};

/// A message that this worker holds.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) queue: Arc<str>,
    pub(super) content: Content,
}

/// One subscription to a queue, and what it was given and nobody took yet.
pub(super) struct Source {
    pub(super) queue: Arc<str>,
    tag: ShortString,
    stream: lapin::Consumer,
    waiting: VecDeque<Given>,
    /// How many the server gives before some are settled.
    credit: u16,
    /// Whether it was cancelled here: it ends, and gives what is on its way.
    cancelled: bool,
    /// Whether it has given all.
    over: bool,
}

/// What changes while a session lives.
#[derive(Default)]
pub(super) struct State {
    /// What is consumed from.
    queues: Vec<Arc<str>>,
    pub(super) sources: Vec<Source>,
    /// What was handed out and is not settled, by its number on the channel.
    pub(super) held: BTreeMap<u64, Held>,
    pub(super) settled: Settled,
    /// Queues whose credit is being changed.
    changing: Vec<Arc<str>>,
    /// Why it has ended.
    ended: Option<String>,
    /// Who waits for deliveries.
    waker: Option<Waker>,
    /// How many fetches are under way, and whether one was since the last look.
    fetches: usize,
    fetched: bool,
}

/// One connection of a worker.
pub(super) struct Session {
    pub(super) link: Link,
    pub(super) channel: Channel,
    /// Where it is asked whether the connection stands: a channel that consumes keeps its own
    /// settings.
    pub(super) probe: Channel,
    /// Distinguishes its deliveries from those of other sessions.
    pub(super) number: u32,
    pub(super) epoch: String,
    /// Behind a std mutex because no section awaits.
    state: Mutex<State>,
    names: AtomicU32,
    /// The credit that is asked for is that of whoever consumes next: one at a time.
    consuming: tokio::sync::Mutex<()>,
}

impl Session {
    pub(super) fn new(
        link: Link,
        (channel, probe): (Channel, Channel),
        number: u32,
        epoch: String,
    ) -> Self {
        let (state, names) = (Mutex::default(), AtomicU32::new(0));
        let consuming = tokio::sync::Mutex::default();
        Self { link, channel, probe, number, epoch, state, names, consuming }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it: what was held is the server's again.
    pub(super) fn end(&self, why: String) {
        let mut state = self.state();
        state.ended.get_or_insert(why);
        state.held.clear();
        state.wake();
    }

    /// Whether it goes on.
    pub(super) fn check(&self) -> Result<()> {
        if self.state().ended.is_none() && !self.channel.status().connected() {
            self.end("the connection was closed".to_owned());
        }
        match &self.state().ended {
            None => Ok(()),
            Some(why) => Err(self.fenced(why)),
        }
    }

    #[cold]
    fn fenced(&self, why: &str) -> Error {
        let epoch = &self.epoch;
        let text = format!(
            "the connection of epoch `{epoch}` to rabbitmq has ended, which puts back what it held: {why}; consume again"
        );
        Error::new(ErrorKind::Fenced, text)
    }

    #[cold]
    pub(super) fn failed(&self, error: &lapin::Error) -> Error {
        let why = error::reason(error);
        self.end(why.clone());
        self.fenced(&why)
    }

    /// Begins to consume from a queue with so much credit, in the place of what consumes from it.
    pub(super) async fn consume(&self, queue: &Arc<str>, credit: u16) -> Result<()> {
        let failed = |e: lapin::Error| self.failed(&e);
        let _alone = self.consuming.lock().await;
        let old = {
            let mut state = self.state();
            let mut sources = state.sources.iter_mut();
            let old = sources.find(|source| source.queue == *queue && !source.cancelled);
            old.map(|source| {
                source.cancelled = true;
                source.tag.clone()
            })
        };
        if let Some(tag) = old {
            let options = BasicCancelOptions { nowait: false };
            self.channel.basic_cancel(tag, options).await.map_err(failed)?;
        }
        let options = BasicQosOptions { global: false };
        self.channel.basic_qos(credit, options).await.map_err(failed)?;
        let name = format!("{}/{}", self.epoch, self.names.fetch_add(1, Ordering::Relaxed));
        let (tag, name) = (short("name of the consumer", &name)?, short("queue", queue)?);
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let stream = self.channel.basic_consume(name, tag.clone(), options, none).await;
        let stream = stream.map_err(|e| {
            let error = self.failed(&e);
            error.context(format!("cannot consume from the queue `{queue}`"))
        })?;
        let source = Source {
            queue: Arc::clone(queue),
            tag,
            stream,
            waiting: VecDeque::new(),
            credit,
            cancelled: false,
            over: false,
        };
        let mut state = self.state();
        state.sources.push(source);
        state.wake();
        Ok(())
    }

    /// Stops to consume from a queue; what nobody took goes back.
    pub(super) async fn leave(&self, queue: &str) -> Result<()> {
        let tags: Vec<_> = {
            let mut state = self.state();
            let mut tags = Vec::new();
            for source in state.sources.iter_mut().filter(|source| &*source.queue == queue) {
                if !std::mem::replace(&mut source.cancelled, true) {
                    tags.push(source.tag.clone());
                }
            }
            tags
        };
        for tag in tags {
            let options = BasicCancelOptions { nowait: false };
            self.channel.basic_cancel(tag, options).await.map_err(|e| self.failed(&e))?;
        }
        let mut waiting = Vec::new();
        {
            let mut state = self.state();
            let _ = state.pull(&mut Context::from_waker(Waker::noop()));
            let left = |source: &Source| &*source.queue == queue && source.cancelled;
            for source in state.sources.iter_mut().filter(|source| left(source)) {
                waiting.extend(source.waiting.drain(..).map(|given| given.delivery_tag));
            }
            state.settled.note(waiting.iter().copied());
            state.sources.retain(|source| !left(source));
            // A fetch that waits is not woken by consumers that were looked at here.
            state.wake();
        }
        for tag in waiting {
            let back = BasicNackOptions { multiple: false, requeue: true };
            self.channel.basic_nack(tag, back).await.map_err(|e| self.failed(&e))?;
        }
        Ok(())
    }

    /// Deliveries, once there are some; none when a queue has to be consumed from first.
    pub(super) fn poll(
        &self,
        cx: &mut Context<'_>,
        want: Want,
        turns: &mut Turns,
        queues: &[Arc<str>],
    ) -> Poll<Result<Vec<Delivery>>> {
        let mut state = self.state();
        if let Some(why) = &state.ended {
            return Poll::Ready(Err(self.fenced(why)));
        }
        if let Err(why) = state.pull(cx) {
            drop(state);
            self.end(why.clone());
            return Poll::Ready(Err(self.fenced(&why)));
        }
        let got = state.take(self.number, want, turns, queues);
        if got.is_empty() && !state.is_dry() {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(got))
    }

    /// The queues whose credit is less than what is asked for, and what it should be; they are
    /// marked as changing. `held` counts what is held as well.
    pub(super) fn lacking(&self, want: usize, held: bool) -> Vec<(Arc<str>, u16)> {
        let mut state = self.state();
        let mut lacking = Vec::new();
        for queue in &state.queues {
            let mut sources = state.sources.iter().filter(|source| !source.cancelled);
            let credit = sources.find(|source| source.queue == *queue).map_or(0, |s| s.credit);
            let of = |held: &&Held| held.queue == *queue;
            let have = if held { state.held.values().filter(of).count() } else { 0 };
            let need = u16::try_from((want + have).max(1)).unwrap_or(u16::MAX);
            if need > credit && !state.changing.contains(queue) {
                lacking.push((Arc::clone(queue), need));
            }
        }
        state.changing.extend(lacking.iter().map(|(queue, _)| Arc::clone(queue)));
        lacking
    }

    pub(super) fn changed(&self, queue: &str) {
        let mut state = self.state();
        state.changing.retain(|changing| &**changing != queue);
        state.wake();
    }

    /// A fetch is under way until this is dropped.
    pub(super) fn fetching(&self) -> Fetching<'_> {
        let mut state = self.state();
        (state.fetches, state.fetched) = (state.fetches + 1, true);
        Fetching(self)
    }

    /// Gives back what was delivered and nobody asks for any more: other workers may.
    pub(super) async fn relinquish(&self) -> Result<()> {
        let queues: Vec<_> = {
            let mut state = self.state();
            let asked = std::mem::take(&mut state.fetched) || state.fetches > 0;
            let sources = state.sources.iter().filter(|_| !asked);
            sources.map(|source| Arc::clone(&source.queue)).collect()
        };
        for queue in queues {
            self.leave(&queue).await?;
        }
        Ok(())
    }

    /// Gives back deliveries of these queues. The server would give them to this worker again, ahead
    /// of what it has sent since, so all that nobody took goes back with them.
    pub(super) async fn give_back(&self, tags: Vec<u64>, queues: &[Arc<str>]) -> Result<()> {
        self.state().changing.extend(queues.iter().cloned());
        let result = async {
            for queue in queues {
                self.leave(queue).await?;
            }
            // The first first: each goes to its old place, or to whoever waits for it.
            for tag in tags {
                let back = BasicNackOptions { multiple: false, requeue: true };
                self.channel.basic_nack(tag, back).await.map_err(|e| self.failed(&e))?;
            }
            Ok(())
        };
        let result = result.await;
        for queue in queues {
            self.changed(queue);
        }
        result
    }

    /// Is given messages of these queues and of no others. None is given any before there is a fetch,
    /// which tells how many.
    pub(super) async fn watch(&self, queues: &[Arc<str>]) -> Result<()> {
        let left: Vec<_> = {
            let mut state = self.state();
            state.queues = queues.to_vec();
            let known = state.sources.iter().map(|source| Arc::clone(&source.queue));
            known.filter(|queue| !queues.contains(queue)).collect()
        };
        for queue in left {
            self.leave(&queue).await?;
        }
        Ok(())
    }
}

/// A fetch that is under way.
pub(super) struct Fetching<'a>(&'a Session);

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.0.state().fetches -= 1;
    }
}

impl State {
    /// Has a fetch that waits look again.
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether nothing is consumed from a queue, and that is not about to change.
    fn is_dry(&self) -> bool {
        let dry = |queue: &&Arc<str>| {
            !self.changing.contains(queue)
                && !self.sources.iter().any(|s| s.queue == **queue && !s.cancelled)
        };
        self.queues.iter().find(dry).is_some()
    }

    /// Takes what has arrived off the consumers.
    ///
    /// # Errors
    /// Why nothing more will come.
    fn pull(&mut self, cx: &mut Context<'_>) -> Result<(), String> {
        let mut ended = None;
        for source in &mut self.sources {
            while !source.over {
                match Pin::new(&mut source.stream).poll_next(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Some(Ok(given))) => source.waiting.push_back(given),
                    Poll::Ready(Some(Err(error))) => {
                        ended = Some(error::reason(&error));
                        break;
                    }
                    Poll::Ready(None) if source.cancelled => {
                        source.over = true;
                        break;
                    }
                    Poll::Ready(None) => {
                        let queue = &source.queue;
                        ended =
                            Some(format!("the queue `{queue}` was deleted, or its node is away"));
                        break;
                    }
                }
            }
        }
        self.sources.retain(|source| !source.over || !source.waiting.is_empty());
        ended.map_or(Ok(()), Err)
    }

    fn take(
        &mut self,
        number: u32,
        want: Want,
        turns: &mut Turns,
        queues: &[Arc<str>],
    ) -> Vec<Delivery> {
        let (mut got, mut suspects) = (Vec::new(), want.suspects);
        while got.len() < want.ready {
            let next = turns.queues().find_map(|at| {
                let mut sources = self.sources.iter_mut().filter(|s| s.queue == queues[at]);
                Some((at, sources.find_map(|source| source.next(suspects > 0))?))
            });
            let Some((at, given)) = next else { break };
            turns.served(at);
            let delivery = self.hand_out(number, &queues[at], given);
            suspects = suspects.saturating_sub(usize::from(delivery.suspect));
            got.push(delivery);
        }
        got
    }

    fn hand_out(&mut self, number: u32, queue: &Arc<str>, given: Given) -> Delivery {
        let Given { delivery_tag, exchange, routing_key, redelivered, properties, data, .. } =
            given;
        let content = Content { properties, body: Bytes::from(data) };
        let raw = content.raw(exchange.as_str(), routing_key.as_str());
        let redeliveries = content.redeliveries();
        self.held.insert(delivery_tag, Held { queue: Arc::clone(queue), content });
        Delivery {
            tag: Tag { lane: number, seq: delivery_tag },
            queue: Arc::clone(queue),
            redeliveries,
            suspect: redelivered,
            raw,
        }
    }
}

impl Source {
    /// The next delivery that nobody took, suspect or not.
    fn next(&mut self, suspects: bool) -> Option<Given> {
        let at = self.waiting.iter().position(|given| suspects || !given.redelivered)?;
        self.waiting.remove(at)
    }
}
