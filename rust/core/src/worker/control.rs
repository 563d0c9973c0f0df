//! Commands carried out, one function each.
//!
//! Each changes the state between two turns of the loop and says what changed; a command that
//! cannot be carried out changes nothing. Names are checked here, so that who asks learns what
//! would have been right.

use std::sync::Arc;

use crate::{
    error::{Error, ErrorKind, Result},
    message::Message,
    worker::{
        Now, Worker,
        command::{Command, Held, Limits, Report},
        deadline,
        inflight::{Place, Request},
        shutdown::Step,
    },
};

impl Worker {
    /// Carries out a command and answers it; what follows for the phase.
    pub(super) fn command(&mut self, command: Command, now: Now) -> Step {
        match command {
            Command::Stop(stop) => return self.phase.ask(stop, now.mono, self.patience()),
            Command::Revoke { ids, terminate, reply } => {
                reply.send(self.revoke(&ids, terminate, now));
            }
            Command::Events { on, reply } => reply.send(self.events.switch(on)),
            Command::Heartbeat { reply } => {
                self.events.beat();
                reply.send(Ok(()));
            }
            Command::RevokeByStamps { stamps, terminate, reply } => {
                reply.send(self.revoke_stamped(&stamps, terminate, now));
            }
            Command::Remember { ids } => self.remember(ids, now),
            Command::Revoked { reply } => reply.send(Ok(self.revoked.ids(now.mono))),
            Command::RateLimit { task, per_second, reply } => {
                reply.send(self.limit_rate(&task, per_second, now));
            }
            Command::TimeLimit { task, limits, reply } => {
                reply.send(self.limit_time(&task, limits));
            }
            Command::Consume { queue, reply } => reply.send(self.consume(queue)),
            Command::Cancel { queue, reply } => reply.send(self.cancel_queue(&queue)),
            Command::Grow { by, reply } => reply.send(self.resize(by, true)),
            Command::Shrink { by, reply } => reply.send(self.resize(by, false)),
            Command::Autoscale { most, least, reply } => {
                reply.send(self.set_autoscale(most, least));
            }
            Command::Restart { modules, tasks, reply } => {
                reply.send(self.restart(&modules, tasks, now));
            }
            Command::Condition { reply } => reply.send(Ok(self.condition(now))),
            Command::Metrics { reply } => reply.send(Ok(Box::new(self.snapshot(now)))),
            Command::Report { reply } => reply.send(Ok(self.report(now))),
        }
        Step::Nothing
    }

    fn limit_rate(&mut self, task: &str, per_second: Option<f64>, now: Now) -> Result<Option<f64>> {
        let number = self.registry.find(task)?;
        if self.config.disable_rate_limits {
            let text = "rate limits are off in this worker, expected `worker_disable_rate_limits` to be false; change that \
                        setting and start it again";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        if let Some(limit) = per_second.filter(|limit| !limit.is_finite() || *limit < 0.0) {
            let text = format!("rate limit `{limit}` per second, expected 0 or more, or none");
            return Err(Error::new(ErrorKind::Config, text));
        }
        let before = std::mem::replace(&mut self.registry.spec_mut(number).rate_limit, per_second);
        let mut released = Vec::new();
        self.rates.set(number, per_second, now.mono, &mut released);
        for key in released {
            self.make_ready(key);
        }
        Ok(before)
    }

    fn limit_time(&mut self, task: &str, limits: Limits) -> Result<Limits> {
        let number = self.registry.find(task)?;
        if let Some(limit) = limits.hard_us.filter(|_| !self.pool.kills()) {
            let (pool, seconds) = (self.pool.name(), limit as f64 / 1e6);
            let text = format!(
                "pool `{pool}` cannot keep the time limit of `{seconds}` s: a task inside the worker's process cannot be killed; \
                 use the pool prefork, or a soft time limit"
            );
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let spec = self.registry.spec_mut(number);
        let before = Limits { soft_us: spec.soft_us, hard_us: spec.hard_us };
        (spec.soft_us, spec.hard_us) = (limits.soft_us, limits.hard_us);
        // What waits at the pool comes back and is sent again with the new limits.
        self.pool.recall();
        let Self { inflight, registry, pool, .. } = self;
        for (key, place, _) in inflight.select(|request| request.task == number) {
            if place == Place::Running {
                continue;
            }
            let Some(request) = inflight.get_mut(key) else { continue };
            let own = Message::decode(&request.message).unwrap_or_default().headers.timelimit;
            (request.soft_us, request.hard_us) = deadline::limits(own, registry.spec(number));
            request.hard_us = request.hard_us.filter(|_| pool.kills());
        }
        Ok(before)
    }

    fn consume(&mut self, queue: Arc<str>) -> Result<Vec<Arc<str>>> {
        self.must_work()?;
        if queue.is_empty() {
            let text = "a queue without a name, expected the name of one";
            return Err(Error::new(ErrorKind::Config, text));
        }
        if !self.config.queues.contains(&queue) {
            tracing::info!(queue = &*queue, "consumes from one more queue");
            self.config.queues.push(queue);
            self.resubscribe = true;
        }
        Ok(self.config.queues.clone())
    }

    fn cancel_queue(&mut self, queue: &str) -> Result<Vec<Arc<str>>> {
        self.must_work()?;
        let Some(at) = self.config.queues.iter().position(|known| **known == *queue) else {
            let known: Vec<String> = self.config.queues.iter().map(|q| format!("`{q}`")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let text =
                format!("queue `{queue}` is not consumed here, expected one that is: {known}");
            return Err(Error::new(ErrorKind::Config, text));
        };
        tracing::info!(queue, "consumes from one queue less");
        self.config.queues.remove(at);
        self.resubscribe = true;
        Ok(self.config.queues.clone())
    }

    /// Takes up other queues as soon as nothing is under way that needs the present consumer.
    pub(super) fn subscribe(&mut self) {
        if self.resubscribe && !self.flush.is_settling() && self.connection.can_subscribe() {
            self.resubscribe = false;
            self.connection.subscribe(&self.config.queues);
        }
    }

    /// What is asked for makes sense only while the worker takes tasks.
    pub(super) fn must_work(&self) -> Result<()> {
        if self.phase.works() {
            return Ok(());
        }
        let name = &self.config.hostname;
        let text = format!("the worker `{name}` is stopping, expected one that takes tasks");
        Err(Error::new(ErrorKind::Unsupported, text))
    }

    fn report(&mut self, now: Now) -> Report {
        self.children_changed = true;
        self.publish();
        let mut report = Report {
            stats: self.counts.clone(),
            slots: self.pool.slots(),
            total: self.registry.numbered(&self.total),
            rate_limits: self.registry.limited().collect(),
            queues: self.config.queues.clone(),
            autoscale: self.autoscale.map(|scaler| scaler.bounds),
            ..Report::default()
        };
        for (key, place, _) in self.inflight.select(|request| request.ended.is_none()) {
            let Some(request) = self.inflight.get(key) else { continue };
            let list = match place {
                Place::Held => &mut report.scheduled,
                Place::Running => &mut report.active,
                Place::Limited | Place::Ready | Place::Pool | Place::Suspect => {
                    &mut report.reserved
                }
            };
            list.push(self.held(request, now));
        }
        report
    }

    fn held(&self, request: &Request, now: Now) -> Held {
        let ago = |seen| (now.wall - now.mono.saturating_sub(seen) as i64).div_euclid(1_000);
        Held {
            id: request.id.clone(),
            task: Arc::clone(self.registry.name(request.task)),
            queue: Arc::clone(&request.queue),
            redeliveries: request.redeliveries,
            acked: request.acked,
            started: request.seen.map(ago),
            pid: request.seen.map(|_| request.pid),
            message: request.message.clone(),
        }
    }
}
