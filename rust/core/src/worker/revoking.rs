//! Revoking: what waits is dropped, what runs is ended, what comes later is refused.

use std::{collections::HashSet, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    error::Result,
    message::Message,
    worker::{
        Now, Worker,
        command::{RevokeAnswer, StampsAnswer, is_stamp, stamp},
        inflight::{Place, Request},
        metrics::End,
        settle, task_log,
    },
};

impl Worker {
    /// Whether a task was revoked, by its id or by a stamp.
    pub(super) fn is_unwanted(&self, message: &Message, now: Now) -> bool {
        self.is_revoked(&message.headers.id, now)
            || !self.revoked_stamps.is_empty()
                && message.headers.rare.as_ref().is_some_and(|rare| {
                    let mut stamps = pairs(&rare.stamps);
                    stamps.any(|(name, value)| {
                        self.revoked_stamps.contains(&stamp(name, value), now.mono)
                    })
                })
    }

    /// Whether a request's task was revoked.
    pub(super) fn is_revoked(&self, id: &str, now: Now) -> bool {
        self.revoked.contains(id, now.mono)
    }

    /// Stores REVOKED for a request that waits, and settles it; places where its key is left find
    /// nothing under it.
    pub(super) fn drop_revoked(&mut self, key: u64, now: Now) {
        let Some(mut request) = self.inflight.remove(key) else { return };
        if !self.told(&mut request, <_>::default()) {
            self.revoke_request(request, now);
        }
    }

    /// The same for one that is in the table no more, or not yet.
    pub(super) fn revoke_request(&mut self, mut request: Request, now: Now) {
        request.revoked = true;
        task_log::revoked(self.shown(&request), &request.id);
        self.tell_revoked(&request.id, None, false, now);
        self.counts.revoked += 1;
        self.count_end(request.task, End::Revoked);
        let spec = self.registry.spec(request.task);
        let decision = settle::revoked(&request, spec, self.context(now));
        self.conclude(decision, request);
    }

    /// Remembers what was revoked before.
    pub(super) fn remember(&mut self, ids: Vec<Arc<str>>, now: Now) {
        if std::mem::take(&mut self.config.awaits_revoked) && !self.epoch.is_empty() {
            self.say_ready();
        }
        for id in ids {
            let set = if is_stamp(&id) { &mut self.revoked_stamps } else { &mut self.revoked };
            set.insert(id, now.mono);
        }
    }

    /// Revokes tasks by their ids.
    pub(super) fn revoke(
        &mut self,
        ids: &[Arc<str>],
        terminate: Option<i32>,
        now: Now,
    ) -> Result<RevokeAnswer> {
        if let Some(signal) = terminate {
            self.pool.can_terminate(signal)?;
        }
        for id in ids {
            self.revoked.insert(Arc::clone(id), now.mono);
        }
        let wanted: HashSet<&str> = ids.iter().map(|id| &**id).collect();
        Ok(self.end(|request| wanted.contains(request.id.as_str()), terminate, now))
    }

    /// Revokes tasks that carry one of these stamps.
    pub(super) fn revoke_stamped(
        &mut self,
        stamps: &[(String, Vec<Value>)],
        terminate: Option<i32>,
        now: Now,
    ) -> Result<StampsAnswer> {
        if let Some(signal) = terminate {
            self.pool.can_terminate(signal)?;
        }
        for (name, values) in stamps {
            for value in values {
                self.revoked_stamps.insert(stamp(name, value).into(), now.mono);
            }
        }
        let matching = |request: &Request| {
            let message = Message::decode(&request.message).unwrap_or_default();
            matches(&message.headers.rare().stamps, stamps)
        };
        let running = self.inflight.keys(|place| place == Place::Running);
        let mut found = Vec::new();
        let held = running.into_iter().filter_map(|key| self.inflight.get(key));
        for request in held.filter(|request| request.ended.is_none()) {
            found.extend(matching(request));
        }
        let tasks = self.end(|request| !matching(request).is_empty(), terminate, now);
        let terminated = if terminate.is_some() { grouped(found) } else { Vec::new() };
        Ok(StampsAnswer { tasks, terminated })
    }

    /// Drops what waits here and is `named`; ends what runs if there is a signal. What has ended
    /// already, and is held until its callbacks are told, is left alone.
    fn end(
        &mut self,
        named: impl Fn(&Request) -> bool,
        terminate: Option<i32>,
        now: Now,
    ) -> RevokeAnswer {
        let mut answer = RevokeAnswer::default();
        for (key, place, id) in
            self.inflight.select(|request| request.ended.is_none() && named(request))
        {
            match place {
                Place::Held => self.eta.forget(key),
                Place::Limited => self.rates.forget(key),
                Place::Suspect => self.suspects.forget(key),
                Place::Ready => {}
                Place::Pool if self.pool.cancel(key) => {
                    // It comes back with the pool's next news, and is dropped then.
                    if let Some(request) = self.inflight.get_mut(key) {
                        request.revoked = true;
                    }
                    answer.dropped.push(id);
                    continue;
                }
                Place::Pool | Place::Running => {
                    match terminate {
                        Some(signal) => {
                            self.pool.terminate(key, signal);
                            answer.terminated.push(id);
                        }
                        None => answer.running.push(id),
                    }
                    continue;
                }
            }
            self.drop_revoked(key, now);
            answer.dropped.push(id);
        }
        answer
    }
}

/// Names of stamps, and each value of each.
fn pairs(stamps: &Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    stamps.iter().flat_map(|(name, value)| {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        values.iter().map(move |value| (name.as_str(), value))
    })
}

/// The stamps of a message that are among those asked for.
fn matches(stamps: &Map<String, Value>, asked: &[(String, Vec<Value>)]) -> Vec<(String, Value)> {
    pairs(stamps)
        .filter(|(name, value)| {
            asked.iter().any(|(known, values)| known == name && values.contains(value))
        })
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .collect()
}

/// Stamps by name, each value once.
fn grouped(stamps: Vec<(String, Value)>) -> Vec<(String, Vec<Value>)> {
    let mut out: Vec<(String, Vec<Value>)> = Vec::new();
    for (name, value) in stamps {
        match out.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) if values.contains(&value) => {}
            Some((_, values)) => values.push(value),
            None => out.push((name, vec![value])),
        }
    }
    out
}
