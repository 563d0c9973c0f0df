//! Whether a worker lives and is ready: its loop is asked, and its result store.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::probe::Probe;
use crate::{
    error::Result,
    result::ResultStore,
    worker::{
        Command, Handle,
        command::Reply,
        condition::{self, Reason},
    },
};

/// A loop that does not answer for so long has stalled: what it does in one turn is short.
const PATIENCE: Duration = Duration::from_secs(2);
/// The id of a result that does not exist.
const NOBODY: &str = "taskcore-health";

/// Asks a worker how it is. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    hostname: Arc<str>,
    worker: Handle,
    store: Option<Arc<Probe<(), ()>>>,
}

/// What a probe is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Name of the worker.
    pub hostname: Arc<str>,
    /// Why it is not well; nothing when it is.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// Whether all is well.
    pub fn is_good(&self) -> bool {
        self.reasons.is_empty()
    }

    /// As JSON; `what` names the question: `live` or `ready`.
    pub fn to_json(&self, what: &str) -> Value {
        let reason =
            |reason: &Reason| json!({ "check": reason.name(), "message": reason.sentence() });
        let reasons: Vec<Value> = self.reasons.iter().map(reason).collect();
        json!({ what: self.is_good(), "worker": &*self.hostname, "reasons": reasons })
    }
}

impl Health {
    /// Of the worker behind `worker`, and of its result store.
    pub fn new(hostname: &str, worker: Handle, store: Option<Arc<dyn ResultStore>>) -> Self {
        let ask =
            |store: Arc<dyn ResultStore>| Probe::new(move |()| store.get(&[NOBODY]).map(drop));
        Self { hostname: hostname.into(), worker, store: store.map(ask) }
    }

    /// Asks the loop; `None` when it does not answer, or has ended.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Option<T> {
        let answer: Option<Result<T>> =
            tokio::time::timeout(PATIENCE, self.worker.ask(command)).await.ok();
        answer.and_then(Result::ok)
    }

    /// Whether its loop turns.
    pub async fn live(&self) -> Verdict {
        let answer = self.ask(|reply| Command::Condition { reply }).await;
        let stalled = answer.is_none().then_some(Reason::Stalled);
        self.verdict(stalled.into_iter().collect())
    }

    /// Whether it takes and runs tasks.
    pub async fn ready(&self) -> Verdict {
        let condition = self.ask(|reply| Command::Condition { reply });
        let (condition, store) = tokio::join!(condition, self.store());
        self.verdict(condition::reasons(condition.as_ref(), store))
    }

    /// What the result store said, if it failed.
    pub(super) async fn store(&self) -> Option<String> {
        self.store.as_ref()?.get(()).await.err()
    }

    fn verdict(&self, reasons: Vec<Reason>) -> Verdict {
        Verdict { hostname: Arc::clone(&self.hostname), reasons }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{
        broker::{QueueOrder, memory::MemoryBroker},
        config::{Prefetch, Revokes, WorkerConfig},
        future::BoxFuture,
        pool::{Call, Pool, PoolNews},
        result::memory::MemoryResults,
        worker::{Stop, Worker},
    };

    /// Runs nothing.
    struct Idle;

    impl Pool for Idle {
        fn slots(&self) -> usize {
            1
        }
        fn room(&self) -> usize {
            1
        }
        fn submit(&mut self, _: Vec<Call>) -> Result<()> {
            Ok(())
        }
        fn news(&mut self) -> BoxFuture<'_, Result<Vec<PoolNews>>> {
            Box::pin(std::future::pending())
        }
        fn shutdown(&mut self, _: bool) -> BoxFuture<'_, ()> {
            Box::pin(async {})
        }
        fn name(&self) -> &'static str {
            "idle"
        }
    }

    fn worker(name: &str) -> (Worker, Handle, Health) {
        let config = WorkerConfig {
            hostname: "w@host".into(),
            queues: vec!["q".into()],
            declarations: Vec::new(),
            queue_order: QueueOrder::default(),
            prefetch: Prefetch::Auto,
            prefetch_bytes: 1 << 20,
            tasks: HashMap::new(),
            accept_content: Vec::new(),
            max_deliveries: 3,
            result_expires_ms: None,
            log_tasks: false,
            shutdown_timeout_ms: None,
            disable_rate_limits: false,
            revokes: Revokes::default(),
            awaits_revoked: false,
        };
        let broker = Arc::new(MemoryBroker::new(name, name));
        let store = Arc::new(MemoryResults::new(name, name)) as Arc<dyn ResultStore>;
        let (worker, handle) =
            Worker::new(config, broker, Some(Arc::clone(&store)), Box::new(Idle));
        let health = Health::new("w@host", handle.clone(), Some(store));
        (worker, handle, health)
    }

    fn checks(verdict: &Verdict) -> Vec<&'static str> {
        verdict.reasons.iter().map(Reason::name).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_turn_is_not_live() {
        let (worker, _, health) = worker("memory://stalled");
        assert_eq!(checks(&health.live().await), ["loop"]);
        assert_eq!(checks(&health.ready().await), ["loop"]);
        let json = health.live().await.to_json("live");
        assert_eq!((&json["live"], &json["worker"]), (&json!(false), &json!("w@host")));
        drop(worker);
        assert_eq!(checks(&health.live().await), ["loop"], "one that has ended neither");
    }

    #[tokio::test]
    async fn a_loop_that_turns_is_live_and_ready_until_it_stops() {
        let (worker, handle, health) = worker("memory://turns");
        let run = tokio::spawn(worker.run());
        while !health.ready().await.is_good() {}
        assert!(health.live().await.is_good());
        handle.stop(Stop::Warm);
        assert_eq!(run.await.expect("no panic").expect("a clean end").processed, 0);
        assert!(!health.live().await.is_good());
    }
}
