//! Whether a worker is ready for tasks: the facts of one instant, and the one function that judges
//! them.
//!
//! The probe over HTTP, `taskcore health` and the metric all ask it, so they agree. A fact that is
//! wrong for an instant in ordinary work, such as a child that is being replaced, is none here.

/// What the loop knows of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent facts
pub struct Condition {
    /// Whether it was asked to stop.
    pub stopping: bool,
    /// Whether the connection to the broker stands.
    pub connected: bool,
    /// Whether its lease certainly stands.
    pub leased: bool,
    /// Whether it has still to learn what was revoked before it started.
    pub awaits_revoked: bool,
    /// How many queues it consumes from.
    pub queues: usize,
    /// Whether the pool runs calls, now or as soon as a child is replaced.
    pub pool_up: bool,
    /// Whether so much waits to be stored or settled that no task is begun.
    pub overloaded: bool,
    /// Whether the result store refused the last batch.
    pub store_failed: bool,
}

/// Why a worker is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its loop does not answer.
    Stalled,
    /// It is stopping.
    Stopping,
    /// It is not connected to the broker.
    Broker,
    /// Its lease may have lapsed.
    Lease,
    /// It has still to learn what was revoked.
    Revoked,
    /// It consumes from no queue.
    Queues,
    /// No child of its pool runs.
    Pool,
    /// It begins no task before results and acknowledgements have left.
    Backlog,
    /// The result store is away; what it said, if it was asked.
    Store(Option<String>),
}

impl Reason {
    /// Its name, for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stalled => "loop",
            Self::Stopping => "stopping",
            Self::Broker => "broker",
            Self::Lease => "lease",
            Self::Revoked => "revoked",
            Self::Queues => "queues",
            Self::Pool => "pool",
            Self::Backlog => "backlog",
            Self::Store(_) => "store",
        }
    }

    /// A sentence about it, for people.
    pub fn sentence(&self) -> String {
        let text = match self {
            Self::Stalled => "the loop of the worker does not answer",
            Self::Stopping => "the worker is stopping",
            Self::Broker => "the broker is away",
            Self::Lease => "the lease on the broker may have lapsed",
            Self::Revoked => "what was revoked before its start is not read yet",
            Self::Queues => "the worker consumes from no queue",
            Self::Pool => "no child of the pool is up",
            Self::Backlog => "so much waits to be stored or settled that no task is begun",
            Self::Store(None) => "the result store is away",
            Self::Store(Some(said)) => return format!("the result store is away: {said}"),
        };
        text.to_owned()
    }
}

/// Why a worker in this condition is not ready; nothing when it is. `None`: its loop did not answer.
/// `store` is what the result store said when it was asked and failed.
pub fn reasons(condition: Option<&Condition>, store: Option<String>) -> Vec<Reason> {
    let Some(condition) = condition else { return vec![Reason::Stalled] };
    let lapsed = condition.connected && !condition.leased;
    let store_failed = condition.store_failed || store.is_some();
    [
        (condition.stopping, Reason::Stopping),
        (!condition.connected, Reason::Broker),
        (lapsed, Reason::Lease),
        (condition.awaits_revoked, Reason::Revoked),
        (condition.queues == 0, Reason::Queues),
        (!condition.pool_up, Reason::Pool),
        (condition.overloaded, Reason::Backlog),
        (store_failed, Reason::Store(store)),
    ]
    .into_iter()
    .filter_map(|(holds, reason)| holds.then_some(reason))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Condition = Condition {
        stopping: false,
        connected: true,
        leased: true,
        awaits_revoked: false,
        queues: 1,
        pool_up: true,
        overloaded: false,
        store_failed: false,
    };

    #[test]
    fn each_fact_alone_is_a_reason_with_a_name_of_its_own() {
        assert_eq!(reasons(Some(&READY), None), []);
        let away = || Some("refused".to_owned());
        let cases = [
            (None, None, Reason::Stalled),
            (Some(Condition { stopping: true, ..READY }), None, Reason::Stopping),
            (Some(Condition { connected: false, leased: false, ..READY }), None, Reason::Broker),
            (Some(Condition { leased: false, ..READY }), None, Reason::Lease),
            (Some(Condition { awaits_revoked: true, ..READY }), None, Reason::Revoked),
            (Some(Condition { queues: 0, ..READY }), None, Reason::Queues),
            (Some(Condition { pool_up: false, ..READY }), None, Reason::Pool),
            (Some(Condition { overloaded: true, ..READY }), None, Reason::Backlog),
            (Some(Condition { store_failed: true, ..READY }), None, Reason::Store(None)),
            (Some(READY), away(), Reason::Store(away())),
        ];
        let mut names = std::collections::HashSet::new();
        for (condition, store, reason) in cases {
            assert_eq!(reasons(condition.as_ref(), store), std::slice::from_ref(&reason));
            names.insert(reason.name());
            assert!(!reason.sentence().is_empty());
        }
        assert_eq!(names.len(), 9);
    }

    #[test]
    fn all_reasons_are_said() {
        let worst = Condition { stopping: true, awaits_revoked: true, ..Condition::default() };
        let found = reasons(Some(&worst), Some("gone".into()));
        let names: Vec<_> = found.iter().map(Reason::name).collect();
        assert_eq!(names, ["stopping", "broker", "revoked", "queues", "pool", "store"]);
    }
}
