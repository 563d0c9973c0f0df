//! From a message to the broker: sent, confirmed, all of it within one deadline.
//!
//! [`Publisher::send`] gives a batch to the broker and tries again after a failed connection, as
//! the retry policy says and never beyond the deadline: a publish ends in time, one way or the
//! other. It blocks in the caller's thread; between attempts it asks the caller whether to give up
//! (a signal arrived). The broker answers for each message; [`Publisher::kept`] makes the error about
//! those that it does not have.
//!
//! The trade-off is the usual one of at-least-once: when the connection broke after the broker had
//! taken a batch, the second attempt publishes it twice.

mod id;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    backoff::RetryPolicy,
    broker::{Answer, Broker, Outgoing, answer},
    clock,
    error::{Error, ErrorKind, Result},
};

pub use id::task_id;

/// Default of the largest body that may be published, before compression: 16 MiB. What is larger
/// belongs into a store of its own, with a reference to it in the arguments.
pub const MAX_BODY: usize = 16 * 1024 * 1024;

/// Default of the time that one publish may take in all.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a wait between attempts goes on without asking whether to give up.
const PATIENCE: Duration = Duration::from_millis(50);

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// What the whole publish may take, connecting and waiting included.
    pub timeout: Duration,
    /// When to try again; `None` is never.
    pub retry: Option<RetryPolicy>,
}

impl Default for Effort {
    fn default() -> Self {
        Self { timeout: TIMEOUT, retry: Some(RetryPolicy::default()) }
    }
}

/// The producer's side: a broker and the manner of publishing to it.
pub struct Publisher {
    broker: Arc<dyn Broker>,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("url", &self.broker.url()).finish()
    }
}

impl Publisher {
    /// A publisher to `broker`.
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker }
    }

    /// The broker.
    pub fn broker(&self) -> &dyn Broker {
        &*self.broker
    }

    /// Publishes a batch; what the broker answers for each message, in order. `interrupt` is asked
    /// between attempts; when it returns true there are no more.
    ///
    /// # Errors
    /// `Connection` or `Timeout` when the broker did not confirm in time; `Storage` when it
    /// refused.
    pub fn send(
        &self,
        batch: &mut [Outgoing],
        effort: &Effort,
        interrupt: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Answer>> {
        let start = clock::instant();
        let deadline = start + effort.timeout;
        let mut retry = 0;
        loop {
            let error = match self.broker.publish(batch, deadline) {
                Ok(answers) => return Ok(answers),
                Err(error) if error.is_retryable() => error,
                Err(error) => return Err(error),
            };
            let now = clock::instant();
            match pause(effort.retry.as_ref(), retry, deadline.saturating_duration_since(now)) {
                Some(wait) if sleep(now + wait, interrupt) => {
                    retry += 1;
                    // The lost attempt may have gone through, and its task may by now be scheduled
                    // again under its id.
                    for message in batch.iter_mut() {
                        message.new_id = false;
                    }
                }
                _ => return Err(self.gave_up(error, retry + 1, now - start)),
            }
        }
    }

    /// Whether the broker has each message of a batch, by the answers to it.
    ///
    /// # Errors
    /// As [`answer::kept`].
    pub fn kept(&self, batch: &[Outgoing], answers: &[Answer]) -> Result<()> {
        answer::kept(batch, answers, self.broker.url())
    }

    #[cold]
    fn gave_up(&self, error: Error, attempts: u32, after: Duration) -> Error {
        let times = if attempts == 1 { "attempt" } else { "attempts" };
        error.context(format!(
            "cannot publish to `{}`: gave up after {attempts} {times} in {:.1} s",
            self.broker.url(),
            after.as_secs_f64()
        ))
    }
}

/// How long to wait before retry number `retry` with `left` until the deadline; `None` to give up.
/// An attempt that could only begin at the deadline is not made.
fn pause(policy: Option<&RetryPolicy>, retry: u32, left: Duration) -> Option<Duration> {
    policy?.wait(retry).filter(|wait| *wait < left)
}

/// Sleeps until `until`; false when interrupted.
#[allow(clippy::disallowed_methods)] // no event says that a broker is back: the next attempt finds out
fn sleep(until: Instant, interrupt: &mut dyn FnMut() -> bool) -> bool {
    loop {
        if interrupt() {
            return false;
        }
        let left = until.saturating_duration_since(clock::instant());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(PATIENCE));
    }
}

/// Checks the size of a body before it is compressed and sent.
///
/// # Errors
/// `TooLarge`, naming the limit.
pub fn check_body(task: &str, size: usize, limit: usize) -> Result<()> {
    if size <= limit {
        return Ok(());
    }
    let sentence = format!(
        "the arguments of `{task}` take `{size}` bytes, more than the `task_max_body` of `{limit}`; store them \
         elsewhere and pass a reference, or raise that setting"
    );
    Err(Error::new(ErrorKind::TooLarge, sentence))
}

#[cfg(test)]
mod tests;
