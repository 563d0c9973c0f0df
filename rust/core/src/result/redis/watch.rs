//! Listening for a client that watches many tasks: one connection, on which the server pushes while
//! it is asked.
//!
//! The client's own channel is always subscribed; a task that a stock worker may run is announced
//! only on its own channel, which is subscribed for as long as it is watched. Apart from `waiters`,
//! whose connection is read by the threads that wait.

use std::{collections::HashSet, future, io, sync::Arc};

use bytes::Bytes;
use redis::{PushInfo, PushKind, RedisResult, Value, cmd};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{GET_CHUNK, TIMEOUT, is_ready, waiters::task_of};
use crate::{
    error::Result,
    redis_connection::{Multiplexed, Server},
    result::{
        Origin,
        watch::{Channel, Heard},
    },
};

/// Messages that are handed over at once.
const MANY: usize = 1_000;

/// One connection for all that is watched.
pub(super) struct Subscriptions {
    server: Arc<Server>,
    /// What stands before the id of a task in its key, which is also its channel.
    prefix: String,
    /// The client's own channel.
    channel: String,
    /// None before the first use and after an error.
    con: Option<(Multiplexed, UnboundedReceiver<PushInfo>)>,
    /// Tasks whose own channel is subscribed.
    foreign: HashSet<String>,
}

impl Subscriptions {
    pub(super) fn new(server: Arc<Server>, prefix: String, channel: String) -> Self {
        Self { server, prefix, channel, con: None, foreign: HashSet::new() }
    }

    /// The connection, opened when there is none.
    async fn connected(&mut self) -> Result<&mut Multiplexed> {
        if self.con.is_none() {
            let (sender, pushes) = unbounded_channel();
            let mut con = self.server.pushing(sender, TIMEOUT).await?;
            self.foreign.clear();
            let subscribed = con.subscribe(&[&*self.channel]).await;
            subscribed.map_err(|e| self.server.error("subscribe", e))?;
            self.con = Some((con, pushes));
        }
        Ok(&mut self.con.as_mut().expect("connected above").0)
    }

    /// The end of the connection, when there is an error.
    fn ended<T>(&mut self, what: &str, result: RedisResult<T>) -> Result<T> {
        result.map_err(|e| {
            self.con = None;
            self.server.error(what, e)
        })
    }

    fn channels<'a>(&self, ids: impl Iterator<Item = &'a String>) -> Vec<String> {
        ids.map(|id| format!("{}{id}", self.prefix)).collect()
    }

    /// What a message says.
    fn heard(&self, push: PushInfo, documents: &mut Vec<(String, Bytes)>) -> Meaning {
        match push.kind {
            PushKind::Message => {}
            PushKind::Disconnection => return Meaning::Ended,
            _ => return Meaning::Told,
        }
        let mut data = push.data.into_iter();
        let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
            (data.next(), data.next())
        else {
            return Meaning::Unclear;
        };
        let payload = Bytes::from(payload);
        if channel != self.channel.as_bytes() {
            let id = channel.strip_prefix(self.prefix.as_bytes()).map(String::from_utf8_lossy);
            let ready = id.filter(|_| is_ready(&payload));
            documents.extend(ready.map(|id| (id.into_owned(), payload.clone())));
            return Meaning::Told;
        }
        let mut meaning = Meaning::Told;
        for line in payload.split(|byte| *byte == b'\n') {
            match task_of(line) {
                Some(id) if is_ready(line) => {
                    documents.push((id.into_owned(), payload.slice_ref(line)));
                }
                Some(_) => {}
                None => meaning = Meaning::Unclear,
            }
        }
        meaning
    }
}

/// What a push means besides the documents that it carries.
#[derive(PartialEq, Eq)]
enum Meaning {
    Told,
    /// Something was stored, and the store must be asked what.
    Unclear,
    /// The connection has ended.
    Ended,
}

impl Channel for Subscriptions {
    async fn follow(&mut self, tasks: &[(String, Origin)]) -> Result<()> {
        self.connected().await?;
        let foreign = tasks.iter().filter(|(_, origin)| *origin == Origin::Foreign);
        let ids: Vec<&String> =
            foreign.map(|(id, _)| id).filter(|id| !self.foreign.contains(*id)).collect();
        let channels = self.channels(ids.iter().copied());
        for chunk in channels.chunks(GET_CHUNK) {
            let subscribed = self.connected().await?.subscribe(chunk).await;
            self.ended("subscribe", subscribed)?;
        }
        self.foreign.extend(ids.into_iter().cloned());
        Ok(())
    }

    async fn leave(&mut self, ids: &[String]) -> Result<()> {
        let foreign: Vec<&String> = ids.iter().filter(|id| self.foreign.remove(*id)).collect();
        let channels = self.channels(foreign.into_iter());
        for chunk in channels.chunks(GET_CHUNK) {
            // Without a connection there is no subscription.
            let Some((con, _)) = &mut self.con else { break };
            let left = con.unsubscribe(chunk).await;
            self.ended("unsubscribe", left)?;
        }
        Ok(())
    }

    async fn read(&mut self, ids: &[String]) -> Result<Vec<(String, Bytes)>> {
        let mut ready = Vec::new();
        for chunk in ids.chunks(GET_CHUNK) {
            let mut get = cmd("MGET");
            get.arg(self.channels(chunk.iter()));
            let read = get.query_async(self.connected().await?).await;
            let found: Vec<Option<Vec<u8>>> = self.ended("read results", read)?;
            let pairs = chunk.iter().zip(found);
            ready.extend(pairs.filter_map(|(id, document)| {
                let document = document.filter(|document| is_ready(document))?;
                Some((id.clone(), document.into()))
            }));
        }
        Ok(ready)
    }

    async fn next(&mut self) -> Result<Heard> {
        let Some((_, pushes)) = &mut self.con else { return future::pending().await };
        let mut many = Vec::new();
        pushes.recv_many(&mut many, MANY).await;
        let mut documents = Vec::new();
        let meanings: Vec<Meaning> =
            many.into_iter().map(|push| self.heard(push, &mut documents)).collect();
        if meanings.is_empty() || meanings.contains(&Meaning::Ended) {
            let end = io::Error::from(io::ErrorKind::ConnectionAborted);
            self.ended("wait for results", Err(end.into()))?;
        }
        if meanings.contains(&Meaning::Unclear) {
            return Ok(Heard::Something);
        }
        Ok(Heard::Documents(documents))
    }
}
