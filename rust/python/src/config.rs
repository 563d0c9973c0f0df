//! The frozen Python configuration as the core's: read by attribute name, once, when the worker is
//! made.
//!
//! Types are checked here and named in the error; what the values mean was decided in
//! `taskcore.worker.boot`. Refused here is only what a pool cannot keep: a hard time limit without
//! a process to kill.

use std::{collections::HashMap, sync::Arc, time::Duration};

use pyo3::prelude::*;
use taskcore::{
    assemble,
    broker::QueueDeclaration,
    config::{Prefetch, Revokes, TaskSpec, WorkerConfig},
    worker::{EventOptions, autoscale::Bounds},
};

use crate::{errors, publisher::text_options, worker::PoolParts};

/// Python's `logging.INFO`.
pub(crate) const INFO: i64 = 20;

/// The settings that several places need.
pub(crate) struct Settings {
    pub(crate) pool: String,
    pub(crate) concurrency: usize,
    pub(crate) log_level: i64,
    time_limit: Option<f64>,
    soft_time_limit: Option<f64>,
    max_tasks_per_child: Option<u32>,
    /// Fewest and most slots, and the seconds after which the pool shrinks.
    autoscale: Option<(usize, usize, f64)>,
    /// How many calls a child runs at once.
    coroutines: usize,
}

impl Settings {
    pub(crate) fn read(config: &Bound<'_, PyAny>) -> PyResult<Self> {
        let settings = Self {
            pool: attr(config, "pool")?,
            concurrency: attr(config, "concurrency")?,
            log_level: attr(config, "log_level")?,
            time_limit: attr(config, "time_limit")?,
            soft_time_limit: attr(config, "soft_time_limit")?,
            max_tasks_per_child: attr(config, "max_tasks_per_child")?,
            autoscale: attr(config, "autoscale")?,
            coroutines: attr(config, "coroutines")?,
        };
        if settings.concurrency == 0 {
            return Err(errors::value("concurrency `0`, expected at least 1"));
        }
        if let Some(limit) = settings.time_limit {
            settings.can_kill(limit, "every task")?;
        }
        Ok(settings)
    }

    /// The bounds between which the pool scales by itself, and after how many microseconds it shrinks.
    pub(crate) fn autoscale(&self) -> Option<(Bounds, u64)> {
        let (least, most, keepalive) = self.autoscale?;
        Some((Bounds { least, most }, (keepalive.max(0.0) * 1e6) as u64))
    }

    /// Only a process can be killed.
    fn can_kill(&self, limit: f64, whose: &str) -> PyResult<()> {
        if matches!(self.pool.as_str(), "prefork" | "asyncio") {
            return Ok(());
        }
        Err(errors::value(format!(
            "pool `{}` cannot keep the time limit of `{limit}` s for {whose}: a task inside the worker's process cannot be \
             killed; use the pool prefork or asyncio, or a soft time limit",
            self.pool
        )))
    }

    pub(crate) fn task(&self, task: &Bound<'_, PyAny>) -> PyResult<(Arc<str>, TaskSpec)> {
        let name: String = attr(task, "name")?;
        let own: Option<f64> = attr(task, "time_limit")?;
        if let Some(limit) = own {
            self.can_kill(limit, &format!("task `{name}`"))?;
        }
        let soft = attr::<Option<f64>>(task, "soft_time_limit")?.or(self.soft_time_limit);
        let spec = TaskSpec {
            acks_late: attr(task, "acks_late")?,
            acks_on_failure_or_timeout: attr(task, "acks_on_failure_or_timeout")?,
            reject_on_worker_lost: attr(task, "reject_on_worker_lost")?,
            ignore_result: attr(task, "ignore_result")?,
            store_errors_even_if_ignored: attr(task, "store_errors_even_if_ignored")?,
            track_started: attr(task, "track_started")?,
            rate_limit: attr(task, "rate_limit")?,
            soft_us: micros(soft),
            hard_us: micros(own.or(self.time_limit)),
            has_failure_handlers: attr(task, "has_failure_handlers")?,
        };
        Ok((name.into(), spec))
    }

    #[cfg(unix)]
    pub(crate) fn prefork(&self, zygote: Option<(i32, u32)>) -> PyResult<PoolParts> {
        use std::os::fd::{FromRawFd, OwnedFd};

        let Some((zygote, zygote_pid)) = zygote else {
            return Err(errors::value("pool `prefork` needs the zygote's socket"));
        };
        #[allow(unsafe_code)]
        // SAFETY: `start_zygote` made it for this worker and gave it away.
        let zygote = unsafe { OwnedFd::from_raw_fd(zygote) };
        Ok(PoolParts::Process(taskcore::pool::process::ProcessConfig {
            children: self.concurrency,
            calls_per_child: self.coroutines,
            zygote,
            zygote_pid,
            max_tasks_per_child: self.max_tasks_per_child,
        }))
    }

    #[cfg(not(unix))]
    #[allow(clippy::unused_self)] // the same signature everywhere
    pub(crate) fn prefork(&self, _zygote: Option<(i32, u32)>) -> PyResult<PoolParts> {
        Err(errors::value(
            "pool `prefork` needs fork, which this system does not have: use threads",
        ))
    }

    pub(crate) fn finish(
        &self,
        config: &Bound<'_, PyAny>,
        tasks: HashMap<Arc<str>, TaskSpec>,
    ) -> PyResult<WorkerConfig> {
        let prefetch =
            match attr::<Option<i64>>(config, "prefetch")? {
                None => Prefetch::Auto,
                Some(-1) => Prefetch::Disabled,
                Some(n) => {
                    let each = u32::try_from(n);
                    Prefetch::PerSlot(each.map_err(|_| {
                        errors::value(format!("prefetch `{n}`, expected -1 or more"))
                    })?)
                }
            };
        let queues: Vec<String> = attr(config, "queues")?;
        let mut queues: Vec<Arc<str>> = queues.into_iter().map(Arc::from).collect();
        let declarations: Vec<String> = attr(config, "declarations")?;
        let declarations = declarations.iter().map(|text| declaration(config.py(), text));
        let declarations = declarations.collect::<PyResult<_>>()?;
        let options = text_options(Some(&attr(config, "broker_options")?))?;
        let queue_order = assemble::queue_order(&options, &mut queues)
            .map_err(|e| errors::argument(config.py(), &e))?;
        Ok(WorkerConfig {
            hostname: attr(config, "hostname")?,
            queues,
            declarations,
            queue_order,
            prefetch,
            prefetch_bytes: attr(config, "prefetch_bytes")?,
            tasks,
            accept_content: attr(config, "accept_content")?,
            max_deliveries: attr(config, "max_deliveries")?,
            result_expires_ms: attr::<Option<f64>>(config, "result_expires")?
                .map(|s| (s * 1e3) as u64),
            log_tasks: self.log_level <= INFO,
            shutdown_timeout_ms: attr::<Option<f64>>(config, "shutdown_timeout")?
                .map(|s| (s * 1e3) as u64),
            disable_rate_limits: attr(config, "disable_rate_limits")?,
            revokes: Revokes {
                most: attr(config, "revokes_max")?,
                expires_us: micros(attr(config, "revoke_expires")?).unwrap_or(u64::MAX),
            },
            awaits_revoked: false,
        })
    }
}

/// A queue's declaration, which comes as JSON.
///
/// # Errors
/// `ValueError` when it is none.
pub(crate) fn declaration(py: Python<'_>, text: &str) -> PyResult<Arc<QueueDeclaration>> {
    let read = QueueDeclaration::from_json(text).map_err(|e| errors::argument(py, &e))?;
    Ok(Arc::new(read))
}

/// What monitors are told.
pub(crate) fn events(config: &Bound<'_, PyAny>) -> PyResult<EventOptions> {
    let exchange: String = attr(config, "event_exchange")?;
    Ok(EventOptions {
        tasks: attr(config, "task_events")?,
        heartbeat: attr::<Option<f64>>(config, "heartbeat")?.map(Duration::from_secs_f64),
        exchange: exchange.into(),
        utcoffset: attr(config, "utcoffset")?,
    })
}

fn micros(seconds: Option<f64>) -> Option<u64> {
    seconds.map(|s| (s.max(0.0) * 1e6) as u64)
}

/// An attribute of a configuration object, with its name in the error.
pub(crate) fn attr<'py, T>(object: &Bound<'py, PyAny>, name: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
    for<'a> <T as FromPyObject<'a, 'py>>::Error: Into<PyErr>,
{
    let value = object.getattr(name)?;
    value.extract().map_err(|e: <T as FromPyObject<'_, 'py>>::Error| {
        let e: PyErr = e.into();
        errors::kind(format!("setting `{name}`: {}", e.value(object.py())))
    })
}
