//! The worker's side: the lease, and the state that fetching, waiting and settling share.
//!
//! `connect` builds it, `fetch` claims and returns; `wait` blocks on empty lanes; `settle` and `recover` write. They meet in [`Shared`], and every
//! command of theirs goes through [`Shared::run`], which puts the recording of freshly landed messages in front: so it costs no
//! round trip of its own and nothing is settled before it is recorded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use redis::{Pipeline, Value, aio::ConnectionLike, pipe};
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinHandle},
};

use super::{
    fetch,
    keys::{Lane, split_count},
    ledger::{Landed, Ledger},
    recover,
    scripts::{ADOPT, REGISTER, RELEASE, UNCLAIM},
    settle, wait,
};
use crate::{
    broker::{BoxFuture, Consumer, Delivery, Recovered, Settlement, Tag, lease},
    clock::{self, Millis},
    error::{Error, ErrorKind, Result},
    redis_link::{Link, Multiplexed},
};

/// How long `release` may wait for blocked waits to end; they end by themselves after [`wait::BLOCK`].
const RELEASE_TIMEOUT: Duration = Duration::from_secs(7);

/// What the parts of a consumer share.
pub(super) struct Shared {
    pub(super) link: Arc<Link>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) epoch: String,
    pub(super) max_deliveries: u32,
    pub(super) con: Multiplexed,
    /// In the order of service: the first priority step of every queue, then the second.
    pub(super) lanes: Vec<Served>,
    /// The calls that fetch.
    pub(super) calls: fetch::Calls,
    /// Index into `lanes` by the lane number of a tag.
    pub(super) by_tag: HashMap<u32, usize>,
    pub(super) state: Mutex<State>,
    /// Wakes the one outstanding fetch: something is ready, failed or worth another claim.
    pub(super) news: Notify,
}

/// A lane and the names of its keys for this epoch.
pub(super) struct Served {
    pub(super) queue: Arc<str>,
    /// Its number in tags.
    pub(super) number: u32,
    pub(super) lane: Lane,
    pub(super) held: String,
    pub(super) inbox: String,
    /// Wakes the task that waits on this lane.
    pub(super) go: Notify,
}

/// Behind a std mutex because the parts run as tasks of one runtime and no section awaits.
pub(super) struct State {
    /// How many ready messages the outstanding fetch wants. Written by `fetch`, read by all.
    pub(super) wanted: Option<usize>,
    /// Whether a claim is on its way.
    pub(super) claiming: bool,
    /// Whether a fetch should claim again before it waits on: something came back that wakes no wait.
    pub(super) kick: bool,
    /// Whether somebody is about to hand back what nobody took.
    pub(super) lingering: bool,
    /// When to look into the due set again. Written by `fetch` and `settle`.
    pub(super) due_at: Instant,
    /// What each lane's wait is doing, and the server's number of its connection. Written by `fetch` and `wait`.
    pub(super) waits: Vec<(wait::Phase, Option<i64>)>,
    /// When a wait first landed a message after the last claim. Written by `wait` and `fetch`.
    pub(super) landed_at: Option<Instant>,
    /// When the lease was last renewed.
    pub(super) renewed: Instant,
    /// When it ends, by the server's clock. Read by `recover`.
    pub(super) until: Millis,
    /// Since when this connection has held the lease without a gap, by the server's clock. Read by `recover`.
    pub(super) mine: Millis,
    /// The oldest message of each lane's inbox at the last renewal, if nobody here knew it.
    pub(super) strays: Vec<Option<Vec<u8>>>,
    /// Written by whoever meets the end first.
    pub(super) life: Life,
}

/// Whether a consumer is of use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It is.
    Open,
    /// It was released or dropped.
    Closed,
    /// Its link broke or its lease was lost: why.
    Failed(ErrorKind, String),
}

impl Served {
    /// A message of this lane as it is handed out.
    pub(super) fn delivery(&self, seq: u64, value: Bytes) -> Delivery {
        let (count, raw) = split_count(value);
        Delivery {
            tag: Tag { lane: self.number, seq },
            queue: Arc::clone(&self.queue),
            redeliveries: count.unwrap_or(0),
            suspect: count.is_some(),
            raw,
        }
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the commands behind those that record freshly landed messages; the replies, errors taken out.
    pub(super) async fn run(&self, what: &str, commands: Pipeline) -> Result<Vec<Value>> {
        let landed = self.ledger.to_adopt();
        let commands = if landed.is_empty() { commands } else { self.adopting(&landed, &commands) };
        let count = commands.len();
        let sent = self.con.clone().req_packed_commands(&commands, 0, count).await;
        let replies = sent.and_then(|replies| {
            replies.into_iter().map(Value::extract_error).collect::<Result<_, _>>()
        });
        let mut replies: Vec<Value> = replies.map_err(|e| self.link.error(what, e))?;
        if !landed.is_empty() {
            let tags: Vec<Tag> = landed.iter().map(|message| message.tag).collect();
            self.ledger.adopted(&tags);
            replies.drain(..landed.len());
        }
        Ok(replies)
    }

    /// The commands behind one for each landed message that records it as held.
    fn adopting(&self, landed: &[Landed], commands: &Pipeline) -> Pipeline {
        let mut all = Pipeline::with_capacity(landed.len() + commands.len());
        for message in landed {
            match self.by_tag.get(&message.tag.lane).map(|at| &self.lanes[*at]) {
                Some(served) => {
                    let mut call = ADOPT.call(&[
                        &served.inbox,
                        &served.held,
                        &served.lane.leases(),
                        &served.lane.list,
                    ]);
                    all.add_command(
                        call.arg(&self.epoch).arg(message.tag.seq).arg(&*message.raw).take(),
                    );
                }
                // Of a queue that is not consumed any more; a reply is counted for every message.
                None => drop(all.cmd("PING")),
            }
        }
        for command in commands.cmd_iter() {
            all.add_command(command.clone());
        }
        all
    }

    /// Reads a reply.
    pub(super) fn read<T: redis::FromRedisValue>(
        &self,
        what: &str,
        reply: Option<Value>,
    ) -> Result<T> {
        redis::from_redis_value(reply.unwrap_or(Value::Nil))
            .map_err(|e| self.link.error(what, e.into()))
    }

    /// Marks the consumer as of no more use and wakes the fetch, which says why.
    pub(super) fn fail(&self, error: &Error) {
        let mut state = self.state();
        if state.life == Life::Open {
            state.life = Life::Failed(error.kind(), error.to_string());
        }
        drop(state);
        self.news.notify_one();
        self.lanes.iter().for_each(|served| served.go.notify_one());
    }

    /// The failure, if there was one.
    pub(super) fn check(&self) -> Result<()> {
        match &self.state().life {
            Life::Open => Ok(()),
            Life::Failed(kind, text) => Err(Error::new(*kind, text.clone())),
            Life::Closed => {
                let epoch = &self.epoch;
                let text = format!("the consumer of epoch `{epoch}` was released; consume again");
                Err(Error::new(ErrorKind::Fenced, text))
            }
        }
    }

    /// Takes or renews the lease.
    pub(super) async fn register(&self, mode: &str) -> Result<()> {
        let leases = self.lanes.iter().map(|served| served.lane.leases());
        let keys: Vec<String> =
            leases.chain(self.lanes.iter().map(|served| served.inbox.clone())).collect();
        let mut call = REGISTER.call(&keys);
        call.arg(&self.epoch).arg(lease::LEASE_MS).arg(mode);
        let mut commands = pipe();
        commands.add_command(call);
        let asked = clock::instant();
        let reply = self.run("renew the lease", commands).await?.pop();
        let (now, previous, oldest): (Millis, Millis, Vec<Vec<u8>>) = {
            let mut values: Vec<Value> = self.read("renew the lease", reply)?;
            let oldest = values
                .split_off(2.min(values.len()))
                .into_iter()
                .map(redis::from_redis_value)
                .collect::<Result<_, _>>();
            let previous = self.read("renew the lease", values.pop())?;
            let now = self.read("renew the lease", values.pop())?;
            (now, previous, oldest.map_err(|e| self.link.error("renew the lease", e.into()))?)
        };
        {
            let mut state = self.state();
            state.renewed = asked;
            state.until = now + lease::LEASE_MS;
            if previous < now || state.mine == 0 {
                // New here, or lapsed but not yet missed by anybody: others may have been cut off as well, and get the time of
                // a lease to come back too.
                state.mine = now;
            }
        }
        self.lanes.iter().for_each(|served| served.go.notify_one());
        self.return_strays(oldest).await
    }

    /// Puts back what lies in an inbox for longer than between two renewals: a wait of a link that broke landed it after
    /// its successor had looked.
    async fn return_strays(&self, oldest: Vec<Vec<u8>>) -> Result<()> {
        let mut commands = pipe();
        for ((index, served), raw) in self.lanes.iter().enumerate().zip(oldest) {
            let stray = if raw.is_empty() || self.ledger.expects(served.number, &raw) {
                None
            } else {
                Some(raw)
            };
            let before = std::mem::replace(&mut self.state().strays[index], stray.clone());
            if let Some(raw) = stray.filter(|raw| before.as_ref() == Some(raw)) {
                let mut call = UNCLAIM.call(&[&served.inbox, &served.lane.list]);
                call.arg(raw);
                commands.add_command(call);
            }
        }
        if !commands.is_empty() {
            self.run("return a message", commands).await?;
        }
        Ok(())
    }

    async fn release(&self) -> Result<()> {
        let mut keys = Vec::with_capacity(self.lanes.len() * 5);
        for served in &self.lanes {
            keys.extend([
                served.lane.list.clone(),
                served.lane.again(),
                served.held.clone(),
                served.inbox.clone(),
                served.lane.leases(),
            ]);
        }
        let mut call = RELEASE.call(&keys);
        call.arg(&self.epoch);
        let mut commands = pipe();
        commands.add_command(call);
        self.run("release the lease", commands).await.map(drop)
    }
}

/// The port's consumer: the shared state and the tasks that wait.
pub(super) struct RedisConsumer {
    shared: Arc<Shared>,
    /// Taken by `release`, which joins them.
    waits: Mutex<Vec<JoinHandle<()>>>,
    aborts: Vec<AbortHandle>,
}

impl RedisConsumer {
    pub(super) fn new(shared: Arc<Shared>, waits: Vec<JoinHandle<()>>) -> Self {
        let aborts = waits.iter().map(JoinHandle::abort_handle).collect();
        Self { shared, waits: Mutex::new(waits), aborts }
    }
}

impl Consumer for RedisConsumer {
    fn fetch(&self, want: usize, want_due: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(fetch::fetch(&self.shared, want, want_due))
    }

    fn settle(&self, batch: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        Box::pin(settle::settle(&self.shared, batch))
    }

    fn begin(&self, tags: Vec<Tag>) -> BoxFuture<'_, Result<()>> {
        Box::pin(settle::begin(&self.shared, tags))
    }

    fn renew(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.shared.check()?;
            self.shared.register("renew").await
        })
    }

    fn recover(&self) -> BoxFuture<'_, Result<Recovered>> {
        Box::pin(recover::recover(&self.shared))
    }

    fn release(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let mut waits =
                std::mem::take(&mut *self.waits.lock().unwrap_or_else(PoisonError::into_inner));
            self.shared.state().life = Life::Closed;
            // A wait that is cut off could still land a message after the lease is gone: they end first.
            let ended =
                tokio::time::timeout(RELEASE_TIMEOUT, wait::end(&self.shared, &mut waits)).await;
            waits.iter().for_each(JoinHandle::abort);
            if ended.is_err() {
                tracing::warn!(
                    "blocked waits did not end; what they land comes back when the lease lapses"
                );
                return Ok(());
            }
            self.shared.release().await
        })
    }

    fn epoch(&self) -> &str {
        &self.shared.epoch
    }
}

impl Drop for RedisConsumer {
    fn drop(&mut self) {
        self.shared.state().life = Life::Closed;
        self.aborts.iter().for_each(AbortHandle::abort);
    }
}
