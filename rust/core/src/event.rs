//! Events: what monitors of a fleet are told, in Celery's names and fields.
//!
//! One table says the fields of each type; an event is written by giving their values in its order,
//! so that no event can have others. An event is a flat JSON map. Those about tasks are told many at
//! a time, as a list under the routing key [`TASKS`]; each of the others is a message of its own
//! under its type. Pure: clocks and identity come in as arguments.

use crate::message::pyjson::{write_int, write_str};

/// The types, in the order of [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A worker has come.
    WorkerOnline,
    /// A worker is there.
    WorkerHeartbeat,
    /// A worker leaves.
    WorkerOffline,
    /// Gossip: who does this?
    WorkerElect,
    /// Gossip: has heard the question.
    WorkerElectAck,
    /// A client has published it.
    TaskSent,
    /// A worker has accepted it.
    TaskReceived,
    /// It has begun.
    TaskStarted,
    /// It has returned.
    TaskSucceeded,
    /// It has raised, or lost its process.
    TaskFailed,
    /// It has asked to run again.
    TaskRetried,
    /// It was revoked, or its time has passed.
    TaskRevoked,
    /// Its message was rejected.
    TaskRejected,
    /// It was interrupted and goes back to its queue.
    TaskCancelled,
}

const FIGURES: &[&str] =
    &["freq", "active", "processed", "loadavg", "sw_ident", "sw_ver", "sw_sys"];

/// Name and own fields of each type, in the order of [`Kind`].
pub const TABLE: [(&str, &[&str]); 14] = [
    ("worker-online", FIGURES),
    ("worker-heartbeat", FIGURES),
    ("worker-offline", FIGURES),
    ("worker-elect", &["id", "topic", "action", "cver"]),
    ("worker-elect-ack", &["id"]),
    (
        "task-sent",
        &[
            "uuid",
            "root_id",
            "parent_id",
            "name",
            "args",
            "kwargs",
            "retries",
            "eta",
            "expires",
            "queue",
            "exchange",
            "routing_key",
        ],
    ),
    (
        "task-received",
        &["uuid", "name", "args", "kwargs", "root_id", "parent_id", "retries", "eta", "expires"],
    ),
    ("task-started", &["uuid"]),
    ("task-succeeded", &["uuid", "result", "runtime"]),
    ("task-failed", &["uuid", "exception", "traceback"]),
    ("task-retried", &["uuid", "exception", "traceback"]),
    ("task-revoked", &["uuid", "terminated", "signum", "expired"]),
    ("task-rejected", &["uuid", "requeue"]),
    ("task-cancelled", &["uuid"]),
];

/// Routing key of a list of events about tasks.
pub const TASKS: &str = "task.multi";
/// The exchange, unless `event_exchange` says another.
pub const EXCHANGE: &str = "celeryev";

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].0
    }

    /// The routing key of a message that is one such event.
    pub fn routing_key(self) -> String {
        self.name().replace('-', ".")
    }
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'a> {
    /// Nothing.
    None,
    /// Text.
    Text(&'a str),
    /// A whole number.
    Int(i64),
    /// Microseconds, written as seconds.
    Micros(i64),
    /// Yes or no.
    Bool(bool),
    /// A number with a fraction.
    Float(f64),
    /// Three of them.
    Floats([f64; 3]),
}

impl<'a> From<Option<&'a str>> for Field<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::None, Self::Text)
    }
}

/// Who tells: what all of its events begin with.
#[derive(Clone, Debug)]
pub struct Teller {
    hostname: String,
    start: Vec<u8>,
}

impl Teller {
    /// A process; `utcoffset` is in hours west of Greenwich.
    pub fn new(hostname: &str, pid: u32, utcoffset: f64) -> Self {
        let mut start = b"{\"hostname\": ".to_vec();
        write_str(&mut start, hostname);
        start.extend_from_slice(b", \"utcoffset\": ");
        float(&mut start, utcoffset);
        start.extend_from_slice(b", \"pid\": ");
        write_int(&mut start, i64::from(pid));
        start.extend_from_slice(b", \"clock\": ");
        Self { hostname: hostname.to_owned(), start }
    }

    /// Its node name.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Appends an event: its logical time, when it happened (microseconds since the Unix epoch), its
    /// own fields in the table's order.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        kind: Kind,
        (clock, at): (u64, i64),
        fields: &[Field<'_>],
    ) {
        let (name, names) = TABLE[kind as usize];
        debug_assert_eq!(names.len(), fields.len(), "{name}");
        out.extend_from_slice(&self.start);
        write_int(out, clock as i64);
        for (name, field) in names.iter().zip(fields) {
            out.extend_from_slice(b", \"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\": ");
            write(out, field);
        }
        out.extend_from_slice(b", \"timestamp\": ");
        micros(out, at);
        out.extend_from_slice(b", \"type\": \"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\"}");
    }
}

fn write(out: &mut Vec<u8>, field: &Field<'_>) {
    match field {
        Field::None => out.extend_from_slice(b"null"),
        Field::Text(text) => write_str(out, text),
        Field::Int(number) => write_int(out, *number),
        Field::Micros(time) => micros(out, *time),
        Field::Bool(yes) => out.extend_from_slice(if *yes { b"true" } else { b"false" }),
        Field::Float(number) => float(out, *number),
        Field::Floats(numbers) => {
            out.push(b'[');
            for (n, number) in numbers.iter().enumerate() {
                if n > 0 {
                    out.extend_from_slice(b", ");
                }
                float(out, *number);
            }
            out.push(b']');
        }
    }
}

/// As Python writes a float; what is none is 0.
fn float(out: &mut Vec<u8>, number: f64) {
    let number = if number.is_finite() { number } else { 0.0 };
    out.extend_from_slice(format!("{number:?}").as_bytes());
}

/// Microseconds as seconds, with all six digits: nothing is rounded, and the value is Python's.
fn micros(out: &mut Vec<u8>, time: i64) {
    if time < 0 {
        out.push(b'-');
    }
    let time = time.unsigned_abs();
    out.extend_from_slice(itoa::Buffer::new().format(time / 1_000_000).as_bytes());
    out.push(b'.');
    let fraction = time % 1_000_000;
    for unit in [100_000, 10_000, 1_000, 100, 10, 1] {
        out.push(b'0' + (fraction / unit % 10) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(kind: Kind, fields: &[Field<'_>]) -> String {
        let teller = Teller::new("w1@host1", 15049, 0.0);
        let mut out = Vec::new();
        teller.write(&mut out, kind, (5, 1_795_159_306_746_247), fields);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_celerys_byte_for_byte() {
        assert_eq!(
            written(Kind::TaskStarted, &[Field::Text("c05757e3-95c2-4618-a041-3d5440402af0")]),
            r#"{"hostname": "w1@host1", "utcoffset": 0.0, "pid": 15049, "clock": 5, "uuid": "c05757e3-95c2-4618-a041-3d5440402af0", "timestamp": 1795159306.746247, "type": "task-started"}"#
        );
        let figures = [
            Field::Float(2.0),
            Field::Int(0),
            Field::Int(4),
            Field::Floats([1.1, 0.57, 0.28]),
            Field::Text("py-celery"),
            Field::Text("5.7.0"),
            Field::Text("Linux"),
        ];
        assert_eq!(
            written(Kind::WorkerHeartbeat, &figures),
            r#"{"hostname": "w1@host1", "utcoffset": 0.0, "pid": 15049, "clock": 5, "freq": 2.0, "active": 0, "processed": 4, "loadavg": [1.1, 0.57, 0.28], "sw_ident": "py-celery", "sw_ver": "5.7.0", "sw_sys": "Linux", "timestamp": 1795159306.746247, "type": "worker-heartbeat"}"#
        );
    }

    #[test]
    fn fields_are_those_of_stock_workers() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/wire/events_redis.jsonl");
        let text = std::fs::read_to_string(path).expect("the vectors are in the repository");
        let mut seen = std::collections::BTreeSet::new();
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let body = &line["envelope_with_body_decoded"]["body"];
            let events = body.as_array().cloned().unwrap_or_else(|| vec![body.clone()]);
            for event in events {
                let name = event["type"].as_str().unwrap();
                let own = TABLE.iter().find(|(known, _)| *known == name).expect("a known type").1;
                let found: Vec<&str> =
                    event.as_object().unwrap().keys().map(String::as_str).collect();
                let mut expected = vec!["hostname", "utcoffset", "pid", "clock"];
                expected.extend(own);
                expected.extend(["timestamp", "type"]);
                if name == "task-failed" && event["traceback"].is_null() {
                    expected.retain(|field| *field != "traceback");
                }
                assert_eq!(found, expected, "{event}");
                seen.insert(name.to_owned());
            }
        }
        assert!(seen.len() > 8, "{seen:?}");
    }

    #[test]
    fn times_are_exact_and_names_are_in_the_table() {
        for (time, text) in [(0, "0.000000"), (1_500_000, "1.500000"), (-2, "-0.000002")] {
            let mut out = Vec::new();
            micros(&mut out, time);
            assert_eq!(out, text.as_bytes());
        }
        assert_eq!(Kind::TaskCancelled.name(), "task-cancelled");
        assert_eq!(Kind::WorkerElectAck.routing_key(), "worker.elect.ack");
    }
}
