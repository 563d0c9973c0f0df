//! What a worker answers: each method as commands to its loop and one reply.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Map, Value, json};

use super::{method::Method, render};
use crate::{
    clock::{self, Micros, Millis},
    error::{Error, ErrorKind, Result},
    health::Health,
    message::repr,
    worker::{
        Command, Handle, Stop,
        command::{Limits, Report, RevokeAnswer, is_stamp},
    },
};

/// How many of the ids that it was told a reply repeats.
const SHOWN: usize = 1_000;

/// What does not change while a worker runs, and what only the program knows of it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Name of the worker.
    pub hostname: String,
    /// Name of the mailbox, before `.pidbox`: Celery's `control_exchange`.
    pub mailbox: String,
    /// Names of its tasks and the attributes that `registered` shows of each.
    pub tasks: BTreeMap<String, Map<String, Value>>,
    /// `broker` of `stats`.
    pub broker: Value,
    /// `pool` of `stats`, without what changes.
    pub pool: Value,
    /// How long what is revoked is remembered.
    pub revoke_expires: Millis,
    /// Commands of the program's that stand in the place of those here.
    pub overridden: HashSet<String>,
}

/// Answers for one worker.
pub(super) struct Answerer {
    pub(super) node: Node,
    worker: Handle,
    /// Judges whether the worker is ready.
    health: Health,
    clock: AtomicU64,
    /// Rate limits that were changed since the start, as they were written. Locked for a look.
    rates: Mutex<BTreeMap<String, Option<String>>>,
    /// By the monotonic clock.
    started: Micros,
}

impl Answerer {
    pub(super) fn new(node: Node, worker: Handle, health: Health) -> Self {
        let (clock, rates) = (AtomicU64::new(0), Mutex::default());
        Self { node, worker, health, clock, rates, started: clock::mono_us() }
    }

    /// Counts an event of its own in the logical clock.
    pub(super) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Has heard of somebody else's clock.
    pub(super) fn heard(&self, clock: u64) {
        // Nobody's clock may run this one over.
        self.clock.fetch_max(clock.min(u64::MAX / 2), Ordering::Relaxed);
        self.tick();
    }

    /// Tells the worker what was revoked before its start.
    pub(super) fn remember(&self, ids: Vec<Arc<str>>) {
        self.worker.send(Command::Remember { ids });
    }

    /// Tells the worker what may have been revoked while it did not hear.
    pub(super) async fn revoke_again(&self, ids: Vec<Arc<str>>) {
        let (stamps, ids): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| is_stamp(id));
        self.remember(stamps);
        let ask = |reply| Command::Revoke { ids, terminate: None, reply };
        // A worker that has ended needs no answer.
        let _ = self.worker.ask(ask).await;
    }

    /// When what is revoked now is forgotten.
    pub(super) fn forgotten(&self) -> Millis {
        clock::wall_ms() + self.node.revoke_expires
    }

    /// Whether the worker is ready for tasks.
    pub(super) fn health(&self) -> impl Future<Output = Value> + Send + use<> {
        let health = self.health.clone();
        async move { health.ready().await.to_json("ready") }
    }

    /// The reply; `None` when there is none.
    pub(super) async fn answer(&self, method: Method) -> Option<Value> {
        let answered = match method {
            Method::Shutdown => {
                tracing::warn!("a warm shutdown is asked for by remote control");
                self.worker.stop(Stop::Warm);
                return None;
            }
            Method::Ping => Ok(render::ok("pong")),
            Method::Health => Ok(self.health().await),
            Method::Clock => Ok(json!({ "clock": self.tick() })),
            Method::Registered { builtins } => Ok(self.registered(builtins)),
            // A stock worker that is alone stops consuming over an election that it starts, and one
            // that takes part needs no answer from here.
            Method::Election => Ok(Value::Null),
            asking => self.inspect(asking).await,
        };
        Some(answered.unwrap_or_else(|error| render::error(exception(&error))))
    }

    async fn inspect(&self, method: Method) -> Result<Value> {
        let host = &*self.node.hostname;
        match method {
            Method::Hello { from, .. } if from == host => Ok(Value::Null),
            Method::Hello { revoked, .. } => {
                self.worker.send(Command::Remember { ids: revoked });
                let revoked = self.revoked().await?;
                Ok(json!({ "revoked": revoked, "clock": self.tick() }))
            }
            Method::Revoked => self.revoked().await,
            Method::Active { safe } => {
                let report = self.report().await?;
                Ok(report.active.iter().map(|held| render::task_info(held, host, safe)).collect())
            }
            Method::Reserved => {
                let report = self.report().await?;
                let held = report.reserved.iter();
                Ok(held.map(|held| render::task_info(held, host, false)).collect())
            }
            Method::Scheduled => {
                let report = self.report().await?;
                Ok(report.scheduled.iter().map(|held| render::scheduled(held, host)).collect())
            }
            Method::Stats => {
                let (report, node) = (self.report().await?, &self.node);
                let up = clock::mono_us().saturating_sub(self.started) / 1_000_000;
                let times = (self.tick(), up);
                Ok(render::stats(&report, (&node.broker, &node.pool), times))
            }
            Method::ActiveQueues => {
                let report = self.report().await?;
                Ok(report.queues.iter().map(|name| render::queue(name)).collect())
            }
            Method::QueryTask { ids } => Ok(self.query(&self.report().await?, &ids)),
            asking => self.control(asking).await,
        }
    }

    async fn control(&self, method: Method) -> Result<Value> {
        let worker = &self.worker;
        Ok(match method {
            Method::Revoke { ids, terminate } => self.revoke(ids, terminate).await?,
            Method::RevokeByStamps { stamps, shown, terminate } => {
                self.revoke_by_stamps(stamps, &shown, terminate).await?
            }
            Method::RateLimit { task, text, per_second } => {
                self.limit_rate(task, text, per_second).await?
            }
            Method::TimeLimit { task, soft, hard } => {
                if !self.node.tasks.contains_key(&task) {
                    return Ok(render::error("unknown task"));
                }
                let micros = |seconds: Option<f64>| seconds.map(|s| (s * 1e6) as u64);
                let limits = Limits { soft_us: micros(soft), hard_us: micros(hard) };
                worker.ask(|reply| Command::TimeLimit { task, limits, reply }).await?;
                render::ok("time limits set successfully")
            }
            Method::AddConsumer { queue } => {
                let text = format!("add consumer {queue}");
                worker.ask(|reply| Command::Consume { queue, reply }).await?;
                render::ok(text)
            }
            Method::CancelConsumer { queue } => {
                let text = format!("no longer consuming from {queue}");
                match worker.ask(|reply| Command::Cancel { queue, reply }).await {
                    // It was not: what is asked for holds, and Celery's answer is the same.
                    Err(error) if error.kind() != ErrorKind::Config => return Err(error),
                    _ => render::ok(text),
                }
            }
            Method::PoolGrow { by } => {
                worker.ask(|reply| Command::Grow { by, reply }).await?;
                render::ok("pool will grow")
            }
            Method::PoolShrink { by } => {
                worker.ask(|reply| Command::Shrink { by, reply }).await?;
                render::ok("pool will shrink")
            }
            Method::Events { on } => {
                let changed = worker.ask(|reply| Command::Events { on, reply }).await?;
                let already = if changed { "" } else { "already " };
                let state = if on { "enabled" } else { "disabled" };
                render::ok(format!("task events {already}{state}"))
            }
            Method::Heartbeat => {
                worker.ask(|reply| Command::Heartbeat { reply }).await?;
                Value::Null
            }
            _ => Value::Null,
        })
    }

    async fn revoke(&self, ids: Vec<Arc<str>>, terminate: Option<i32>) -> Result<Value> {
        let named = ids.clone();
        let ask = |reply| Command::Revoke { ids: named, terminate, reply };
        let answer = self.worker.ask(ask).await?;
        Ok(match terminate {
            None => {
                let more = ids.len().saturating_sub(SHOWN);
                let ids = repr::set(ids.iter().take(SHOWN).map(|id| &**id));
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                render::ok(format!("tasks {ids}{more} flagged as revoked"))
            }
            Some(_) => ended(&answer),
        })
    }

    async fn revoke_by_stamps(
        &self,
        stamps: Vec<(String, Vec<Value>)>,
        shown: &Value,
        terminate: Option<i32>,
    ) -> Result<Value> {
        let ask = |reply| Command::RevokeByStamps { stamps, terminate, reply };
        let answer = self.worker.ask(ask).await?;
        let shown = repr::of(shown);
        Ok(render::ok(if terminate.is_none() {
            format!("headers {shown} flagged as revoked, but not terminated")
        } else if answer.terminated.is_empty() {
            format!("headers {shown} were not terminated")
        } else {
            let ended = answer.terminated.into_iter();
            let ended = ended.map(|(name, values)| (name, Value::Array(values))).collect();
            format!("headers {} revoked", repr::of(&Value::Object(ended)))
        }))
    }

    async fn limit_rate(
        &self,
        task: String,
        text: Option<String>,
        per_second: Option<f64>,
    ) -> Result<Value> {
        if !self.node.tasks.contains_key(&task) {
            return Ok(render::error("unknown task"));
        }
        let name = task.clone();
        self.worker.ask(|reply| Command::RateLimit { task, per_second, reply }).await?;
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).insert(name, text);
        Ok(render::ok(match per_second {
            None => "rate limit disabled successfully",
            Some(_) => "new rate limit set successfully",
        }))
    }

    fn registered(&self, builtins: bool) -> Value {
        let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let foreign = |name: &str| name.starts_with("celery.") || name.starts_with("taskcore.");
        let shown = self.node.tasks.iter().filter(|(name, _)| builtins || !foreign(name));
        let line = |(name, attributes): (&String, &Map<String, Value>)| {
            let mut attributes = attributes.clone();
            if let Some(rate) = rates.get(name) {
                attributes.shift_remove("rate_limit");
                attributes.extend(rate.clone().map(|r| ("rate_limit".to_owned(), r.into())));
            }
            let pairs: Vec<String> = attributes
                .iter()
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
                .collect();
            if pairs.is_empty() { name.clone() } else { format!("{name} [{}]", pairs.join(" ")) }
        };
        shown.map(line).collect()
    }

    fn query(&self, report: &Report, ids: &[String]) -> Value {
        let wanted: HashSet<&str> = ids.iter().map(String::as_str).collect();
        let mut found = Map::new();
        for (state, list) in [
            ("active", &report.active),
            ("reserved", &report.reserved),
            ("scheduled", &report.scheduled),
        ] {
            for held in list.iter().filter(|held| wanted.contains(held.id.as_str())) {
                let info = render::task_info(held, &self.node.hostname, false);
                found.insert(held.id.clone(), json!([state, info]));
            }
        }
        found.into()
    }

    async fn report(&self) -> Result<Report> {
        self.worker.ask(|reply| Command::Report { reply }).await
    }

    async fn revoked(&self) -> Result<Value> {
        let ids = self.worker.ask(|reply| Command::Revoked { reply }).await?;
        Ok(ids.iter().map(|id| Value::from(&**id)).collect())
    }
}

/// Which tasks were ended: those that were running, and those that will not begin.
fn ended(answer: &RevokeAnswer) -> Value {
    let ended: Vec<&str> =
        answer.terminated.iter().chain(&answer.dropped).map(String::as_str).collect();
    if ended.is_empty() {
        return render::ok("terminate: tasks unknown");
    }
    render::ok(format!("terminate: {}", ended.join(", ")))
}

fn exception(error: &Error) -> String {
    let class = match error.kind() {
        ErrorKind::Config => "ValueError",
        ErrorKind::Unsupported => "NotSupportedError",
        _ => "RuntimeError",
    };
    repr::exception(class, &error.to_string())
}
