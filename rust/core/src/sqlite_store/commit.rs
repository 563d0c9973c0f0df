//! Who commits: one writer thread, in groups; and a caller that finds nobody else writing, for
//! itself.
//!
//! Callers hand their jobs to the writer thread, which commits together what has come in meanwhile:
//! groups form by themselves, the larger the slower the disk is. A blocking caller that finds
//! nothing pending commits in its own thread instead, because two changes of thread cost more than
//! a transaction does.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    time::Instant,
};

use super::{
    connections::{Connections, State, Turn},
    failure,
    job::{Cost, Job, Work},
    tx::Tx,
    writer::{Jobs, cut},
};
use crate::{
    clock,
    error::{Error, ErrorKind, Result},
};

impl Connections {
    /// Runs the job and waits for its value in this thread.
    pub(super) fn run<T, R>(self: &Arc<Self>, cost: Cost, deadline: Instant, run: R) -> Result<T>
    where
        T: Send + 'static,
        R: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let state = self.lock();
        if state.pending.is_empty() && !state.writing && state.paused == 0 {
            return self.turn(state).writer(deadline)?.run_alone(cost, deadline, run);
        }
        let (send, receive) = mpsc::sync_channel(1);
        let done = move |value| drop(send.send(value));
        self.enqueue(state, Box::new(Work { cost, deadline, run, done, value: None }))?;
        let rest = deadline.saturating_duration_since(clock::instant());
        let answer = receive.recv_timeout(rest).or_else(|end| match end {
            RecvTimeoutError::Disconnected => Err(mpsc::RecvError),
            RecvTimeoutError::Timeout => {
                self.expire();
                // If it is in a group by now, that ends soon.
                receive.recv()
            }
        });
        answer.unwrap_or_else(|_| Err(self.lost()))
    }

    /// Runs the job on the writer thread; then `then` in the same place, whether or not anybody
    /// still waits.
    pub(super) async fn run_there<T, U, R, D>(
        self: &Arc<Self>,
        cost: Cost,
        deadline: Instant,
        run: R,
        then: D,
    ) -> Result<U>
    where
        T: Send + 'static,
        U: Send + 'static,
        R: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
        D: FnOnce(T) -> U + Send + 'static,
    {
        let (send, receive) = tokio::sync::oneshot::channel();
        // Nobody may wait any more: then nobody needs the answer.
        let done = move |value: Result<T>| drop(send.send(value.map(then)));
        self.enqueue(self.lock(), Box::new(Work { cost, deadline, run, done, value: None }))?;
        receive.await.unwrap_or_else(|_| Err(self.lost()))
    }

    fn enqueue(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        job: Box<dyn Job>,
    ) -> Result<()> {
        if !state.threaded {
            let connections = self.clone();
            // What it has to say belongs into the log of whoever needed it.
            let log = tracing::dispatcher::get_default(Clone::clone);
            let started = std::thread::Builder::new()
                .name("taskcore-sqlite".into())
                .spawn(move || tracing::dispatcher::with_default(&log, || connections.serve()));
            started.map_err(|e| {
                Error::caused(
                    ErrorKind::Internal,
                    "the writer thread of the database could not be started, expected room for one",
                    e,
                )
            })?;
            state.threaded = true;
        }
        state.pending.push_back(job);
        // Who writes looks at what is pending afterwards.
        let idle = !state.writing;
        drop(state);
        if idle {
            self.work.notify_one();
        }
        Ok(())
    }

    /// The writer thread: commits what is pending until the last handle is gone.
    fn serve(&self) {
        let mut state = self.lock();
        while !(state.closed && state.pending.is_empty()) {
            if state.pending.is_empty() || state.writing || state.paused > 0 {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let group = cut(&mut state.pending);
            let turn = self.turn(state);
            // A panic loses its group, whose callers learn of it by what they wait on; the next
            // group has a new connection.
            let left = catch_unwind(AssertUnwindSafe(|| commit(turn, group))).unwrap_or_default();
            state = self.lock();
            left.into_iter().rev().for_each(|job| state.pending.push_front(job));
        }
    }

    /// Answers those whose deadline has passed before a group took them: nothing of them was done.
    fn expire(&self) {
        let (mut state, now) = (self.lock(), clock::instant());
        let (late, early): (Jobs, Jobs) =
            state.pending.drain(..).partition(|job| job.deadline() <= now);
        state.pending = early;
        drop(state);
        for job in late {
            job.done(Err(failure::locked(&self.path)));
        }
    }

    fn lost(&self) -> Error {
        let message = format!(
            "a change of `{}` ended by a panic, of which nothing was kept; please report this",
            self.path.display()
        );
        Error::new(ErrorKind::Internal, message)
    }
}

/// Runs a group and answers it; what is left to be done.
fn commit(mut turn: Turn<'_>, mut group: Jobs) -> Jobs {
    let deadline = group.iter().map(|job| job.deadline()).min().unwrap_or_else(clock::instant);
    match turn.writer(deadline) {
        Ok(writer) => writer.run_group(&mut group),
        Err(error) => {
            let again = || Error::new(error.kind(), error.to_string());
            group.drain(..).for_each(|job| job.done(Err(again())));
        }
    }
    group
}
