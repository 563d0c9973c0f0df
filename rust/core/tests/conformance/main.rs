//! The conformance suites: every promise of a port is one test, and every adapter runs all of them.
//!
//! A test knows only the contract and a [`Harness`] (or [`result::Stores`]) that opens any number
//! of handles on one fresh store, so that two workers and a producer can share it. An adapter joins
//! with one line at the end of this file.
//!
//! A harness whose server is missing answers `None`: the tests of that adapter are then skipped on
//! a developer's machine and fail where the variable `CI` is set. Waiting for something that must
//! happen ends at [`PATIENCE`]; nothing asserts how long a step took.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use taskcore::broker::Adapter;

mod amqp;
mod broadcast;
mod broker;
mod harness;
mod redis;
mod result;
mod schedule;

/// How long a test waits for what must happen before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a test watches for what must not happen.
pub(crate) const QUIET: Duration = Duration::from_millis(300);

/// One fresh broker store.
pub(crate) trait Harness: Send + Sync {
    /// Another handle on the same store, as a second process would have.
    fn broker(&self) -> Arc<dyn Adapter>;
}

/// Runs one test body on a runtime like the worker's.
pub(crate) fn run<T>(body: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body)
}

/// A name that no other test uses, because some stores are shared servers.
pub(crate) fn unique(base: &str) -> Arc<str> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let last = LAST.fetch_add(1, Ordering::Relaxed);
    Arc::from(format!("{base}-{}-{}-{last}", std::process::id(), taskcore::clock::wall_us()))
}

/// Whether a test without its server may be skipped.
#[allow(clippy::disallowed_methods)] // a test is configured by its surroundings
pub(crate) fn skipped(adapter: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "no server for {adapter}, and skipping is not allowed where CI is set"
    );
    eprintln!("skipped: no server for {adapter}");
}

broker_suite!(memory, crate::harness::memory);
broker_suite!(sqlite, crate::harness::sqlite);
schedule_suite!(memory_schedule, crate::harness::memory);
schedule_suite!(sqlite_schedule, crate::harness::sqlite);
broadcast_suite!(memory_broadcast, crate::harness::memory);
broadcast_suite!(sqlite_broadcast, crate::harness::sqlite);
broadcast_suite!(redis_broadcast, crate::redis::harness);
result_suite!(memory_results, crate::harness::memory_results);
result_suite!(sqlite_results, crate::harness::sqlite_results);
broker_suite!(redis_broker, crate::redis::harness);
result_suite!(redis_results, crate::redis::harness);
schedule_suite!(redis_schedule, crate::redis::harness);
