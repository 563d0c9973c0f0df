//! What can be asked, as one enum: a request's method and arguments, understood or refused.
//!
//! Names, aliases and arguments are Celery's. What is not among them is asked of the program, which
//! may have commands of its own.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    arguments::{Arguments, Refusal, list, wrong},
    signal,
};
use crate::{message::repr, worker::command::stamp};

/// What is answered here; a program may put a command of its own in its place.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names are Celery's, and its documentation says what they do
pub enum Method {
    Ping,
    /// Whether it is ready for tasks: taskcore's own.
    Health,
    Clock,
    Hello {
        from: String,
        revoked: Vec<Arc<str>>,
    },
    Active {
        safe: bool,
    },
    Reserved,
    Scheduled,
    Revoked,
    Registered {
        builtins: bool,
    },
    Stats,
    ActiveQueues,
    QueryTask {
        ids: Vec<String>,
    },
    Revoke {
        ids: Vec<Arc<str>>,
        terminate: Option<i32>,
    },
    RevokeByStamps {
        stamps: Vec<(String, Vec<Value>)>,
        shown: Value,
        terminate: Option<i32>,
    },
    RateLimit {
        task: String,
        text: Option<String>,
        per_second: Option<f64>,
    },
    TimeLimit {
        task: String,
        soft: Option<f64>,
        hard: Option<f64>,
    },
    AddConsumer {
        queue: Arc<str>,
    },
    CancelConsumer {
        queue: Arc<str>,
    },
    PoolGrow {
        by: usize,
    },
    PoolShrink {
        by: usize,
    },
    Events {
        on: bool,
    },
    Heartbeat,
    /// Takes part in no election: see the documentation.
    Election,
    Shutdown,
}

/// Names and aliases.
const NAMES: [&str; 31] = [
    "ping",
    "health",
    "clock",
    "hello",
    "active",
    "dump_active",
    "reserved",
    "dump_reserved",
    "scheduled",
    "dump_schedule",
    "revoked",
    "dump_revoked",
    "registered",
    "dump_tasks",
    "stats",
    "active_queues",
    "query_task",
    "revoke",
    "terminate",
    "revoke_by_stamped_headers",
    "rate_limit",
    "time_limit",
    "add_consumer",
    "cancel_consumer",
    "pool_grow",
    "pool_shrink",
    "enable_events",
    "disable_events",
    "heartbeat",
    "election",
    "shutdown",
];

impl Method {
    /// Whether [`Method::parse`] knows the command; others are the program's.
    pub fn is_known(name: &str, arguments: &Map<String, Value>) -> bool {
        let items = || arguments.get("taskinfoitems").and_then(Value::as_array);
        match name {
            // Other attributes than the usual ones are Python's to look up.
            "registered" | "dump_tasks" if items().is_some_and(|items| !items.is_empty()) => false,
            _ => NAMES.contains(&name),
        }
    }

    /// What `name` with these arguments asks for.
    ///
    /// # Errors
    /// An exception as Python shows it.
    pub fn parse(name: &str, arguments: Map<String, Value>) -> Result<Self, String> {
        let mut given = Arguments::new(name, arguments);
        Ok(match name {
            "ping" => Self::Ping,
            "health" => Self::Health,
            "clock" => Self::Clock,
            "hello" => Self::Hello {
                from: given.required_text("from_node")?,
                revoked: shared(given.texts("revoked")?),
            },
            "active" | "dump_active" => Self::Active { safe: given.flag("safe") },
            "reserved" | "dump_reserved" => Self::Reserved,
            "scheduled" | "dump_schedule" => Self::Scheduled,
            "revoked" | "dump_revoked" => Self::Revoked,
            "registered" | "dump_tasks" => Self::Registered { builtins: given.flag("builtins") },
            "stats" => Self::Stats,
            "active_queues" => Self::ActiveQueues,
            "query_task" => Self::QueryTask { ids: given.required_texts("ids")? },
            "revoke" => {
                let ids = shared(given.required_texts("task_id")?);
                let ends = given.flag("terminate");
                let signal = signal_of(&mut given)?;
                Self::Revoke { ids, terminate: ends.then_some(signal) }
            }
            "terminate" => {
                let signal = signal_of(&mut given)?;
                let ids = shared(given.required_texts("task_id")?);
                Self::Revoke { ids, terminate: Some(signal) }
            }
            "revoke_by_stamped_headers" => stamps(&mut given)?,
            "rate_limit" => rate_limit(&mut given)?,
            "time_limit" => Self::TimeLimit {
                task: given.required_text("task_name")?,
                soft: given.seconds("soft")?,
                hard: given.seconds("hard")?,
            },
            "add_consumer" => add_consumer(&mut given)?,
            "cancel_consumer" => {
                Self::CancelConsumer { queue: given.required_text("queue")?.into() }
            }
            "pool_grow" => Self::PoolGrow { by: given.count("n")? },
            "pool_shrink" => Self::PoolShrink { by: given.count("n")? },
            "enable_events" => Self::Events { on: true },
            "disable_events" => Self::Events { on: false },
            "heartbeat" => Self::Heartbeat,
            "election" => Self::Election,
            "shutdown" => Self::Shutdown,
            _ => return Err(repr::exception("KeyError", name)),
        })
    }
}

impl Method {
    /// What it revokes, as it is remembered.
    pub fn revokes(&self) -> Option<Vec<Arc<str>>> {
        match self {
            Self::Revoke { ids, .. } => Some(ids.clone()),
            Self::RevokeByStamps { stamps, .. } => {
                let one = |(name, values): &(String, Vec<Value>)| {
                    values.iter().map(|value| stamp(name, value).into()).collect::<Vec<_>>()
                };
                Some(stamps.iter().flat_map(one).collect())
            }
            _ => None,
        }
    }
}

fn shared(texts: Vec<String>) -> Vec<Arc<str>> {
    texts.into_iter().map(Arc::from).collect()
}

fn signal_of(given: &mut Arguments<'_>) -> Result<i32, Refusal> {
    match given.take("signal") {
        None => Ok(signal::TERM),
        Some(value) => {
            let number = match &value {
                Value::String(name) => signal::number(name).or_else(|| name.parse().ok()),
                other => other.as_i64().and_then(|n| i32::try_from(n).ok()),
            };
            number.ok_or_else(|| wrong("signal", &value, "the name of one, like SIGTERM"))
        }
    }
}

fn stamps(given: &mut Arguments<'_>) -> Result<Method, Refusal> {
    let shown = match given.required("headers")? {
        // As a command line writes them: `name=value`.
        Value::Array(pairs) => {
            let mut map = Map::new();
            for pair in list("headers", Value::Array(pairs))? {
                let Some((name, value)) = pair.split_once('=') else {
                    return Err(wrong("headers", &pair.into(), "`name=value`"));
                };
                map.insert(name.to_owned(), value.into());
            }
            Value::Object(map)
        }
        other => other,
    };
    let Value::Object(headers) = &shown else {
        return Err(wrong("headers", &shown, "a map of names and values"));
    };
    let several = |value: &Value| match value {
        Value::Array(values) => values.clone(),
        one => vec![one.clone()],
    };
    let stamps = headers.iter().map(|(name, value)| (name.clone(), several(value))).collect();
    let ends = given.flag("terminate");
    let signal = signal_of(given)?;
    Ok(Method::RevokeByStamps { stamps, shown, terminate: ends.then_some(signal) })
}

fn rate_limit(given: &mut Arguments<'_>) -> Result<Method, Refusal> {
    let task = given.required_text("task_name")?;
    let (text, per_second) = match given.take("rate_limit") {
        None => (None, None),
        Some(Value::String(text)) => {
            let rate = rate(&text)?;
            (Some(text), rate)
        }
        Some(value) => match value.as_f64() {
            Some(rate) => (Some(value.to_string()), Some(rate)),
            None => return Err(wrong("rate_limit", &value, "a number, or a text like `10/s`")),
        },
    };
    // As in Celery, 0 is without limit.
    let per_second = per_second.filter(|rate| *rate != 0.0);
    Ok(Method::RateLimit { task, text: text.filter(|_| per_second.is_some()), per_second })
}

/// `10/s`, `100/m`, `5/h`, or a number per second.
fn rate(text: &str) -> Result<Option<f64>, Refusal> {
    let (number, period) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match period.trim() {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(repr::exception("ValueError", &format!("no period s, m or h: `{text}`"))),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(Some(number / seconds)),
        _ if number.trim().is_empty() && !text.contains('/') => Ok(None),
        _ => {
            let text = format!("could not convert string to float: {}", repr::of(&number.into()));
            Err(repr::exception("ValueError", &text))
        }
    }
}

fn add_consumer(given: &mut Arguments<'_>) -> Result<Method, Refusal> {
    let queue = given.required_text("queue")?;
    // A queue is reached by its name; one that is bound to an exchange would hear nothing.
    for name in ["exchange", "routing_key"] {
        if let Some(other) = given.text(name)?.filter(|other| !other.is_empty() && *other != queue)
        {
            return Err(wrong(name, &other.into(), "the name of the queue, or null"));
        }
    }
    match given.text("exchange_type")?.as_deref() {
        None | Some("" | "direct") => Ok(Method::AddConsumer { queue: queue.into() }),
        Some(other) => Err(wrong("exchange_type", &other.into(), "`direct`")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(name: &str, arguments: Value) -> Result<Method, String> {
        let Value::Object(arguments) = arguments else { panic!("no map") };
        Method::parse(name, arguments)
    }

    #[test]
    #[allow(clippy::too_many_lines)] // a table
    fn arguments_are_read_as_celery_writes_them() {
        let ids = |ids: &[&str]| ids.iter().copied().map(Arc::from).collect::<Vec<Arc<str>>>();
        let rate = |text: Option<&str>, per_second| Method::RateLimit {
            task: "t".into(),
            text: text.map(str::to_owned),
            per_second,
        };
        let revoke = |all: &[&str], terminate| Method::Revoke { ids: ids(all), terminate };
        for (name, arguments, expected) in [
            ("ping", json!({"unknown": 1}), Method::Ping),
            ("dump_active", json!({"safe": null}), Method::Active { safe: false }),
            ("active", json!({"safe": true}), Method::Active { safe: true }),
            ("query_task", json!({"ids": "a"}), Method::QueryTask { ids: vec!["a".into()] }),
            (
                "hello",
                json!({"from_node": "w", "revoked": {"a": [1.5, "a"], "b": [2.5, "b"]}}),
                Method::Hello { from: "w".into(), revoked: ids(&["a", "b"]) },
            ),
            (
                "revoke",
                json!({"task_id": "a", "terminate": false, "signal": null}),
                revoke(&["a"], None),
            ),
            (
                "revoke",
                json!({"task_id": ["a", "b"], "terminate": true, "signal": "KILL"}),
                revoke(&["a", "b"], Some(9)),
            ),
            ("revoke", json!({"task_id": ["a"], "terminate": true}), revoke(&["a"], Some(15))),
            (
                "terminate",
                json!({"signal": "SIGUSR1", "task_id": []}),
                revoke(&[], signal::number("USR1")),
            ),
            ("terminate", json!({"signal": 2, "task_id": "a"}), revoke(&["a"], Some(2))),
            (
                "rate_limit",
                json!({"task_name": "t", "rate_limit": "120/m"}),
                rate(Some("120/m"), Some(2.0)),
            ),
            ("rate_limit", json!({"task_name": "t", "rate_limit": 2}), rate(Some("2"), Some(2.0))),
            ("rate_limit", json!({"task_name": "t", "rate_limit": 0}), rate(None, None)),
            ("rate_limit", json!({"task_name": "t", "rate_limit": "0"}), rate(None, None)),
            ("rate_limit", json!({"task_name": "t", "rate_limit": null}), rate(None, None)),
            (
                "time_limit",
                json!({"task_name": "t", "hard": 10, "soft": null}),
                Method::TimeLimit { task: "t".into(), soft: None, hard: Some(10.0) },
            ),
            (
                "add_consumer",
                json!({"queue": "q", "exchange": null, "exchange_type": "direct", "routing_key": "q"}),
                Method::AddConsumer { queue: "q".into() },
            ),
            ("pool_grow", json!({}), Method::PoolGrow { by: 1 }),
            ("pool_shrink", json!({"n": "3"}), Method::PoolShrink { by: 3 }),
        ] {
            assert_eq!(parse(name, arguments.clone()), Ok(expected), "{name} {arguments}");
        }
        let Ok(Method::RevokeByStamps { stamps, terminate: None, .. }) =
            parse("revoke_by_stamped_headers", json!({"headers": ["k=a", "l=b"]}))
        else {
            panic!("not understood");
        };
        assert_eq!(stamps, [("k".into(), vec![json!("a")]), ("l".into(), vec![json!("b")])]);
    }

    #[test]
    fn what_is_wrong_is_said_as_python_would() {
        for (name, arguments, expected) in [
            (
                "query_task",
                json!({"wrongarg": 1}),
                "TypeError(\"query_task() missing 1 required positional argument: 'ids'\")",
            ),
            (
                "rate_limit",
                json!({"task_name": "t", "rate_limit": "zz"}),
                "ValueError(\"could not convert string to float: 'zz'\")",
            ),
            (
                "rate_limit",
                json!({"task_name": "t", "rate_limit": "1/d"}),
                "ValueError('no period s, m or h: `1/d`')",
            ),
            ("pool_grow", json!({"n": 0}), "ValueError('n is 0, expected a whole number above 0')"),
            ("revoke", json!({"task_id": [1]}), "ValueError('task_id is 1, expected text')"),
            (
                "terminate",
                json!({"signal": "WHAT", "task_id": "a"}),
                "ValueError(\"signal is 'WHAT', expected the name of one, like SIGTERM\")",
            ),
            (
                "add_consumer",
                json!({"queue": "q", "exchange": "other"}),
                "ValueError(\"exchange is 'other', expected the name of the queue, or null\")",
            ),
        ] {
            assert_eq!(parse(name, arguments).unwrap_err(), expected);
        }
    }

    #[test]
    fn every_name_is_parsed_and_no_other() {
        for name in NAMES {
            let unknown = repr::exception("KeyError", name);
            assert_ne!(Method::parse(name, Map::new()).err(), Some(unknown), "{name}");
        }
        assert_eq!(Method::parse("other", Map::new()), Err("KeyError('other')".into()));
        let items = json!({"taskinfoitems": ["queue"]});
        assert!(!Method::is_known("registered", items.as_object().expect("a map")));
        let none = json!({"taskinfoitems": []});
        assert!(Method::is_known("registered", none.as_object().expect("a map")));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_arguments_upset_it(
            method in prop::sample::select(&NAMES[..]),
            values in prop::collection::vec(any_value(), 12),
        ) {
            const ARGUMENTS: [&str; 12] = [
                "task_id", "ids", "headers", "signal", "terminate", "task_name", "rate_limit",
                "hard", "soft", "queue", "n", "revoked",
            ];
            let arguments = ARGUMENTS.map(str::to_owned).into_iter().zip(values).collect();
            let _ = Method::parse(method, arguments);
        }
    }
}
