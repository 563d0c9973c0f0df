//! Triage: what becomes of a delivery, as one verdict.
//!
//! It sees the message, the registry and the time, and nothing is done here: the loop carries the
//! verdict out. The checks stand in the order in which a message can be understood: a task that
//! this worker does not have is reported as such even if its content type would be refused too. Bad
//! messages are verdicts like any other, never errors.

use std::{collections::HashMap, sync::Arc};

use crate::{
    broker::HORIZON_MS,
    clock::Millis,
    config::TaskSpec,
    error::{Error, ErrorKind, Result},
    message::{JSON, MSGPACK, Message},
    spelling::distance,
    worker::deadline,
};

/// Beyond this a delivery goes to the broker's due set. Twice the horizon, so that a clock that
/// differs a little from the broker's does not send back at once what the broker has just promoted.
pub const HOLD_MS: Millis = 2 * HORIZON_MS;
/// The longest foreign text repeated in a reason.
const QUOTED: usize = 200;

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Run it when the pool has room.
    Run {
        /// Number of the task in the registry.
        task: u32,
    },
    /// Hold it in the ETA heap until then.
    Wait {
        /// Number of the task in the registry.
        task: u32,
        /// When it is due.
        due: Millis,
    },
    /// Let the broker keep it until then.
    Defer {
        /// When it is due.
        due: Millis,
    },
    /// Its time has passed: REVOKED and acknowledged.
    Expire {
        /// Number of the task in the registry.
        task: u32,
    },
    /// It was revoked: REVOKED and acknowledged.
    Revoke {
        /// Number of the task in the registry.
        task: u32,
    },
    /// No task of that name: FAILURE `NotRegistered` is stored and the message parked.
    Unknown {
        /// For the dead letter.
        reason: String,
    },
    /// It cost as many workers their life as it may: FAILURE `WorkerLostError` is stored and the
    /// message parked.
    Exhausted {
        /// Number of the task in the registry.
        task: u32,
    },
    /// It can never run here: FAILURE `ContentDisallowed` is stored and the message parked.
    Park {
        /// Number of the task in the registry.
        task: u32,
        /// For the dead letter.
        reason: String,
    },
}

/// The registered tasks, numbered.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// The place of a task is its number.
    tasks: Vec<(Arc<str>, TaskSpec)>,
    /// So many of them are in the order of their names; the others were added later.
    sorted: usize,
    /// What is behind [`UNKNOWN`].
    unknown: (Arc<str>, TaskSpec),
    accept: Vec<String>,
}

/// The number of a task that is not registered, for a request that only has to tell what follows.
pub const UNKNOWN: u32 = u32::MAX;

impl Registry {
    /// From the worker's configuration: tasks and accepted content types.
    pub fn new(tasks: &HashMap<Arc<str>, TaskSpec>, accept: &[String]) -> Self {
        let mut tasks: Vec<_> = tasks.iter().map(|(n, s)| (Arc::clone(n), s.clone())).collect();
        tasks.sort_by(|a, b| a.0.cmp(&b.0));
        // Whoever is asked next may know it: its message goes back.
        let spec = TaskSpec { acks_late: true, ..TaskSpec::default() };
        Self {
            sorted: tasks.len(),
            tasks,
            unknown: (Arc::from("unknown"), spec),
            accept: accept.to_vec(),
        }
    }

    /// The number of the task called `name`.
    pub fn number(&self, name: &str) -> Option<u32> {
        let (first, added) = self.tasks.split_at(self.sorted);
        let at = first.binary_search_by(|(known, _)| (**known).cmp(name)).ok().or_else(|| {
            let at = added.iter().position(|(known, _)| **known == *name)?;
            Some(self.sorted + at)
        });
        at.map(|at| at as u32)
    }

    /// Adds a task, or replaces what is known about it; its number. Those of others do not change.
    pub fn put(&mut self, name: Arc<str>, spec: TaskSpec) -> u32 {
        if let Some(task) = self.number(&name) {
            *self.spec_mut(task) = spec;
            return task;
        }
        self.tasks.push((name, spec));
        self.tasks.len() as u32 - 1
    }

    /// Name of task number `task`.
    pub fn name(&self, task: u32) -> &Arc<str> {
        &self.entry(task).0
    }

    /// What is known about task number `task`.
    pub fn spec(&self, task: u32) -> &TaskSpec {
        &self.entry(task).1
    }

    fn entry(&self, task: u32) -> &(Arc<str>, TaskSpec) {
        self.tasks.get(task as usize).unwrap_or(&self.unknown)
    }

    /// Whether a body of this type may be opened, be it only for what follows a task that cannot run.
    pub fn opens(&self, content_type: &str) -> bool {
        matches!(content_type, JSON | MSGPACK) || self.accepts(content_type)
    }

    fn accepts(&self, content_type: &str) -> bool {
        self.accept.iter().any(|accepted| accepted == content_type)
    }

    /// The rate limits of all tasks, by number.
    pub fn rate_limits(&self) -> impl Iterator<Item = Option<f64>> {
        self.tasks.iter().map(|(_, spec)| spec.rate_limit)
    }

    /// The number of the task that somebody named.
    ///
    /// # Errors
    /// There is none, with the nearest one there is.
    pub fn find(&self, name: &str) -> Result<u32> {
        self.number(name).ok_or_else(|| {
            let shown = quoted(name);
            let near = self.nearest(&shown).map(|near| format!("; did you mean `{near}`?"));
            let near = near.unwrap_or_default();
            let text = format!("no task `{shown}` in this worker, expected one of its own{near}");
            Error::new(ErrorKind::Config, text)
        })
    }

    /// What is known about task number `task`, to be changed.
    pub fn spec_mut(&mut self, task: u32) -> &mut TaskSpec {
        &mut self.tasks[task as usize].1
    }

    /// The tasks that have a rate limit.
    pub fn limited(&self) -> impl Iterator<Item = (Arc<str>, f64)> {
        let limit =
            |(name, spec): &(Arc<str>, TaskSpec)| Some((Arc::clone(name), spec.rate_limit?));
        self.tasks.iter().filter_map(limit)
    }

    /// Counts by number as counts by name, without those of 0.
    pub fn numbered(&self, counts: &[u64]) -> Vec<(Arc<str>, u64)> {
        let named = self.tasks.iter().zip(counts).filter(|(_, count)| **count > 0);
        named.map(|((name, _), count)| (Arc::clone(name), *count)).collect()
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    fn nearest(&self, name: &str) -> Option<&str> {
        let most = (name.chars().count() / 3).max(2);
        let near = self.tasks.iter().map(|(known, _)| (distance(name, known), &**known));
        near.min().filter(|(d, _)| *d <= most).map(|(_, known)| known)
    }
}

/// The verdict about a message that could be read. `now` is in microseconds since the Unix epoch;
/// `left` is how many more workers it may cost, `revoked` whether somebody asked that it does not
/// run.
pub fn triage(
    message: &Message,
    (left, revoked): (u32, bool),
    now: i64,
    registry: &Registry,
) -> Verdict {
    let headers = &message.headers;
    let Some(task) = registry.number(&headers.task) else {
        return Verdict::Unknown { reason: unknown(&headers.task, registry) };
    };
    if revoked {
        return Verdict::Revoke { task };
    }
    if !registry.accepts(&message.content_type) {
        return Verdict::Park { task, reason: refused(&message.content_type, &registry.accept) };
    }
    if deadline::expired(headers.expires, now) {
        let revoked = message.is_revoked();
        return if revoked { Verdict::Revoke { task } } else { Verdict::Expire { task } };
    }
    if left == 0 {
        return Verdict::Exhausted { task };
    }
    match headers.eta.filter(|eta| *eta > now).map(due_ms) {
        Some(due) if due > now / 1_000 + HOLD_MS => Verdict::Defer { due },
        Some(due) => Verdict::Wait { task, due },
        None => Verdict::Run { task },
    }
}

/// Why a message that could not be read is parked.
pub fn undecodable(error: &Error) -> String {
    format!("the message cannot be decoded: {error}")
}

/// The first whole millisecond that is not before `eta`.
fn due_ms(eta: i64) -> Millis {
    eta.div_euclid(1_000) + i64::from(eta.rem_euclid(1_000) != 0)
}

#[cold]
fn unknown(name: &str, registry: &Registry) -> String {
    let name = quoted(name);
    match registry.nearest(&name) {
        Some(near) => format!(
            "no task `{name}` is registered with this worker, expected one of its own; did you mean `{near}`? \
             Import the module that defines it (`include`) or send it to another queue"
        ),
        None => format!(
            "no task `{name}` is registered with this worker, expected one of its own; import the module that \
             defines it (`include`) or send it to another queue"
        ),
    }
}

#[cold]
fn refused(content_type: &str, accept: &[String]) -> String {
    let content_type = quoted(content_type);
    let accepted: Vec<String> = accept.iter().map(|a| format!("`{a}`")).collect();
    format!(
        "content type `{content_type}` is refused, expected {}; add it to `accept_content` if you trust its senders",
        accepted.join(" or ")
    )
}

/// Text from outside, bounded.
fn quoted(text: &str) -> String {
    text.chars().take(QUOTED).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Headers;

    const NOW: i64 = 1_700_000_000_000_500; // half a millisecond past a whole one

    fn registry() -> Registry {
        let spec = || TaskSpec::default();
        let tasks = ["proj.add", "proj.mul", "other.thing"]
            .map(|n| (Arc::from(n), spec()))
            .into_iter()
            .collect();
        Registry::new(&tasks, &["application/json".into(), "application/x-msgpack".into()])
    }

    fn message(task: &str) -> Message {
        Message {
            headers: Headers { task: task.into(), id: "x".into(), ..Headers::default() },
            content_type: "application/json".into(),
            ..Message::default()
        }
    }

    fn timed(eta: Option<i64>, expires: Option<i64>) -> Message {
        let mut m = message("proj.add");
        m.headers.eta = eta;
        m.headers.expires = expires;
        m
    }

    #[test]
    fn one_verdict_for_each_situation() {
        let registry = registry();
        let task = registry.number("proj.add").expect("registered");
        let ms = NOW / 1_000;
        for (name, message, expected) in [
            ("plain", timed(None, None), Verdict::Run { task }),
            ("eta now", timed(Some(NOW), None), Verdict::Run { task }),
            ("eta past", timed(Some(NOW - 1), None), Verdict::Run { task }),
            ("eta rounds up", timed(Some(NOW + 1), None), Verdict::Wait { task, due: ms + 1 }),
            (
                "eta soon",
                timed(Some(NOW + 1_000_000), None),
                Verdict::Wait { task, due: ms + 1_001 },
            ),
            (
                "eta at the edge",
                timed(Some((ms + HOLD_MS) * 1_000), None),
                Verdict::Wait { task, due: ms + HOLD_MS },
            ),
            (
                "eta far",
                timed(Some((ms + HOLD_MS) * 1_000 + 1), None),
                Verdict::Defer { due: ms + HOLD_MS + 1 },
            ),
            ("expired", timed(None, Some(NOW - 1)), Verdict::Expire { task }),
            (
                "expired before eta",
                timed(Some(NOW + 9_000_000), Some(NOW - 1)),
                Verdict::Expire { task },
            ),
            ("not yet expired", timed(None, Some(NOW)), Verdict::Run { task }),
        ] {
            assert_eq!(triage(&message, (1, false), NOW, &registry), expected, "{name}");
            let revoked = triage(&message, (0, true), NOW, &registry);
            assert_eq!(revoked, Verdict::Revoke { task }, "{name}");
        }
        let mut cancelled = timed(Some(NOW + 9_000_000), None);
        cancelled.revoke();
        assert_eq!(triage(&cancelled, (1, false), NOW, &registry), Verdict::Revoke { task });
        for (message, expected) in [
            (timed(None, None), Verdict::Exhausted { task }),
            (timed(Some(NOW + 9_000_000), None), Verdict::Exhausted { task }),
            (timed(None, Some(NOW - 1)), Verdict::Expire { task }),
        ] {
            assert_eq!(triage(&message, (0, false), NOW, &registry), expected);
        }
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_proposed() {
        let registry = registry();
        let Verdict::Unknown { reason } = triage(&message("proj.ad"), (3, false), NOW, &registry)
        else {
            panic!("known")
        };
        assert!(
            reason.contains("`proj.ad`") && reason.contains("did you mean `proj.add`?"),
            "{reason}"
        );
        let Verdict::Unknown { reason } =
            triage(&message("billing.invoice.send"), (3, false), NOW, &registry)
        else {
            panic!("known")
        };
        assert!(!reason.contains("did you mean"), "{reason}");
        let Verdict::Unknown { reason } =
            triage(&message(&"x".repeat(100_000)), (3, false), NOW, &registry)
        else {
            panic!("known")
        };
        assert!(reason.len() < 1_000, "{}", reason.len());
    }

    #[test]
    fn a_refused_content_type_lists_the_accepted_ones() {
        let mut pickle = message("proj.add");
        pickle.content_type = "application/x-python-serialize".into();
        let Verdict::Park { reason, .. } = triage(&pickle, (3, false), NOW, &registry()) else {
            panic!("accepted")
        };
        for part in [
            "`application/x-python-serialize`",
            "`application/json` or `application/x-msgpack`",
            "`accept_content`",
        ] {
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, d) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("äb", "ab", 1),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(a, b), d, "{a} {b}");
            assert_eq!(distance(b, a), d, "{b} {a}");
        }
    }

    proptest! {
        #[test]
        fn nothing_runs_early_or_expired(eta in prop::option::of(-10_000_000i64..20_000_000), expires in prop::option::of(-10_000_000i64..20_000_000)) {
            let (eta, expires) = (eta.map(|d| NOW + d), expires.map(|d| NOW + d));
            match triage(&timed(eta, expires), (3, false), NOW, &registry()) {
                Verdict::Run { .. } => {
                    prop_assert!(eta.is_none_or(|e| e <= NOW));
                    prop_assert!(expires.is_none_or(|e| e >= NOW));
                }
                Verdict::Wait { due, .. } | Verdict::Defer { due } => {
                    let eta = eta.expect("it has one");
                    prop_assert!(due * 1_000 >= eta && due * 1_000 - eta < 1_000);
                }
                Verdict::Expire { .. } => prop_assert!(expires.is_some_and(|e| e < NOW)),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
