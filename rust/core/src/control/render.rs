//! Replies in Celery's shapes.

use serde_json::{Map, Value, json};

use crate::{
    message::{Message, format_iso, repr},
    worker::command::{Held, Report},
};

/// It was done.
pub(super) fn ok(what: impl Into<Value>) -> Value {
    json!({ "ok": what.into() })
}

/// It was not.
pub(super) fn error(why: impl Into<Value>) -> Value {
    json!({ "error": why.into() })
}

/// What is known of a task that is held here.
pub(super) fn task_info(held: &Held, hostname: &str, safe: bool) -> Value {
    let message = Message::decode(&held.message).unwrap_or_default();
    let (args, kwargs) = arguments(&message, safe);
    json!({
        "id": held.id,
        "name": message.headers.rare().shadow.as_deref().unwrap_or(&held.task),
        "args": args,
        "kwargs": kwargs,
        "type": &*held.task,
        "hostname": hostname,
        "time_start": held.started.map(|ms| ms as f64 / 1e3),
        "acknowledged": held.acked,
        "delivery_info": {
            "exchange": message.properties.exchange,
            "routing_key": &*held.queue,
            "priority": message.properties.priority,
            "redelivered": held.redeliveries > 0,
        },
        "worker_pid": held.pid,
    })
}

/// One that waits here for its due time.
pub(super) fn scheduled(held: &Held, hostname: &str) -> Value {
    let eta = Message::decode(&held.message).ok().and_then(|message| message.headers.eta);
    json!({
        "eta": eta.map(|us| format_iso(us).replace('Z', "+00:00")),
        "priority": 6, // of the timer, in Celery
        "request": task_info(held, hostname, false),
    })
}

/// Positional and named arguments: as they are, or the text that Python shows for them.
fn arguments(message: &Message, safe: bool) -> (Value, Value) {
    let rare = message.headers.rare();
    let said = |text: &Option<String>| Value::from(text.as_deref().unwrap_or("..."));
    match message.arguments() {
        None => (said(&rare.argsrepr), said(&rare.kwargsrepr)),
        Some((args, kwargs)) if safe => {
            let (args, kwargs) = (repr::tuple(&args), repr::of(&Value::Object(kwargs)));
            let own = |text: &Option<String>, made| Value::from(text.clone().unwrap_or(made));
            (own(&rare.argsrepr, args), own(&rare.kwargsrepr, kwargs))
        }
        Some((args, kwargs)) => (args.into(), kwargs.into()),
    }
}

/// A queue that is consumed from.
pub(super) fn queue(name: &str) -> Value {
    json!({
        "name": name,
        "exchange": {
            "name": name, "type": "direct", "arguments": null, "durable": true, "passive": false,
            "auto_delete": false, "delivery_mode": null, "no_declare": false,
        },
        "routing_key": name,
        "queue_arguments": null,
        "binding_arguments": null,
        "consumer_arguments": null,
        "durable": true,
        "exclusive": false,
        "auto_delete": false,
        "no_ack": false,
        "alias": null,
        "bindings": [],
        "no_declare": null,
        "expires": null,
        "message_ttl": null,
        "max_length": null,
        "max_length_bytes": null,
        "max_priority": null,
    })
}

/// The figures of a worker; what does not change comes with `broker` and `pool`.
pub(super) fn stats(
    report: &Report,
    (broker, pool): (&Value, &Value),
    (clock, up): (u64, u64),
) -> Value {
    let mut pool = pool.as_object().cloned().unwrap_or_default();
    pool.insert("max-concurrency".to_owned(), report.slots.into());
    pool.insert("processes".to_owned(), report.stats.children.clone().into());
    let total: Map<String, Value> =
        report.total.iter().map(|(task, count)| (task.to_string(), (*count).into())).collect();
    let mut stats = json!({
        "total": total,
        "pid": std::process::id(),
        "clock": clock.to_string(),
        "uptime": up,
        "pool": pool,
        "broker": broker,
        "prefetch_count": report.stats.prefetch,
        "rusage": rusage(),
    });
    if let Some(bounds) = report.autoscale {
        let claimed = report.stats.active + report.stats.reserved;
        stats["autoscaler"] = json!({
            "max": bounds.most, "min": bounds.least, "current": report.slots, "qty": claimed,
        });
    }
    stats
}

/// What the operating system says that this process has used.
#[cfg(unix)]
#[allow(unsafe_code)] // one call that fills a plain struct
fn rusage() -> Value {
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: it writes the struct that it is given, which lives until it returns.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) } != 0 {
        return "N/A".into();
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    json!({
        "utime": seconds(usage.ru_utime),
        "stime": seconds(usage.ru_stime),
        "maxrss": usage.ru_maxrss,
        "ixrss": usage.ru_ixrss,
        "idrss": usage.ru_idrss,
        "isrss": usage.ru_isrss,
        "minflt": usage.ru_minflt,
        "majflt": usage.ru_majflt,
        "nswap": usage.ru_nswap,
        "inblock": usage.ru_inblock,
        "oublock": usage.ru_oublock,
        "msgsnd": usage.ru_msgsnd,
        "msgrcv": usage.ru_msgrcv,
        "nsignals": usage.ru_nsignals,
        "nvcsw": usage.ru_nvcsw,
        "nivcsw": usage.ru_nivcsw,
    })
}

#[cfg(not(unix))]
fn rusage() -> Value {
    "N/A".into()
}
