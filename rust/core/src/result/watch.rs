//! Waiting without a thread for each wait: whoever waits names the task and is told.
//!
//! An event loop may wait for thousands of results at once, and has neither a thread nor a
//! subscription for each. One thread per store and process listens for all of them, reads what was
//! stored before it listened, and tells whoever waits, many documents at a time. It starts with the
//! first who waits and ends when nobody has waited for [`IDLE`], with its connection. What differs
//! between stores is how they are listened to ([`Channel`]).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use super::Origin;
use crate::error::{Error, ErrorKind, Result};

/// How long the thread outlives the last wait, so that the next one finds its connection.
const IDLE: Duration = Duration::from_secs(10);
/// How often all are read although nothing was announced: what no announcement can report is late,
/// not lost.
const RECHECK: Duration = Duration::from_secs(5);
/// How long a store may be away before those who wait are given the error.
const ABSENCE: Duration = Duration::from_secs(30);
/// Between two attempts to reach a store.
const PAUSE: Duration = Duration::from_millis(100);

/// The key of a watch, and what became of its task: a document in a ready state, or why none will
/// come.
pub type Outcome = (u64, Result<Bytes>);

/// Who is told.
pub trait Observer: Send + Sync {
    /// What became of watched tasks; each key comes once.
    /// Called in the store's thread, which tells nobody else meanwhile.
    fn ready(&self, outcomes: Vec<Outcome>);
}

/// A task that is watched for as long as this lives, or until its observer was told.
pub struct Watch {
    shared: Arc<Shared>,
    id: String,
    ticket: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.shared.lock().remove(&self.id, self.ticket) {
            self.shared.changed.notify_one();
        }
    }
}

/// A store as its thread sees it. Errors end the connection; `follow` makes a new one.
pub(super) trait Channel: Send + 'static {
    /// Listens for these tasks too. What is announced after this is heard by `next`.
    async fn follow(&mut self, tasks: &[(String, Origin)]) -> Result<()>;
    /// Nobody waits for these any more.
    async fn leave(&mut self, ids: &[String]) -> Result<()>;
    /// Those of these that are in a ready state.
    async fn read(&mut self, ids: &[String]) -> Result<Vec<(String, Bytes)>>;
    /// Waits for an announcement, for ever when nothing is followed. May be dropped while it waits.
    async fn next(&mut self) -> Result<Heard>;
}

/// What a channel announces.
pub(super) enum Heard {
    /// Documents in a ready state.
    Documents(Vec<(String, Bytes)>),
    /// Something was stored.
    Something,
}

/// Those who wait for results of one store.
#[derive(Default)]
pub(super) struct Watchers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Never locked while an observer is called.
    state: Mutex<State>,
    /// Wakes the thread when `added`, `left` or the number of those who wait has changed.
    changed: Notify,
}

/// Written by those who wait, emptied by the thread.
#[derive(Default)]
struct State {
    tasks: HashMap<String, Task>,
    /// Tasks that the thread does not follow yet.
    added: Vec<(String, Origin)>,
    /// Tasks that nobody waits for any more.
    left: Vec<String>,
    /// Whether there is a thread.
    running: bool,
    /// Number of the next watch.
    next: u64,
}

struct Task {
    origin: Origin,
    waiting: Vec<Waiting>,
}

struct Waiting {
    ticket: u64,
    key: u64,
    observer: Arc<dyn Observer>,
}

impl State {
    fn add(&mut self, id: &str, origin: Origin, key: u64, observer: &Arc<dyn Observer>) -> u64 {
        self.next += 1;
        let waiting = Waiting { ticket: self.next, key, observer: Arc::clone(observer) };
        match self.tasks.get_mut(id) {
            // What was published by another process needs a channel of its own, whoever else waits
            // for it.
            Some(task) if task.origin == origin || origin != Origin::Foreign => {
                task.waiting.push(waiting);
                return self.next;
            }
            Some(task) => {
                task.origin = origin;
                task.waiting.push(waiting);
            }
            None => {
                self.tasks.insert(id.to_owned(), Task { origin, waiting: vec![waiting] });
            }
        }
        self.added.push((id.to_owned(), origin));
        self.next
    }

    /// Takes back one wait; whether it was the last for its task.
    fn remove(&mut self, id: &str, ticket: u64) -> bool {
        let Some(task) = self.tasks.get_mut(id) else { return false };
        task.waiting.retain(|waiting| waiting.ticket != ticket);
        let last = task.waiting.is_empty();
        if last {
            self.tasks.remove(id);
            self.left.push(id.to_owned());
        }
        last
    }
}

impl Watchers {
    /// Adds a wait; `channel` is called when there is no thread yet.
    pub(super) fn watch<C: Channel>(
        &self,
        id: &str,
        origin: Origin,
        (key, observer): (u64, &Arc<dyn Observer>),
        channel: impl FnOnce() -> C,
    ) -> Result<Watch> {
        let mut state = self.0.lock();
        let ticket = state.add(id, origin, key, observer);
        let running = std::mem::replace(&mut state.running, true);
        drop(state);
        let watch = Watch { shared: Arc::clone(&self.0), id: id.to_owned(), ticket };
        if running {
            self.0.changed.notify_one();
        } else {
            let (shared, channel) = (Arc::clone(&self.0), channel());
            let thread = std::thread::Builder::new().name("taskcore-results".to_owned());
            thread.spawn(move || run(&shared, channel)).map_err(|e| {
                self.0.lock().running = false;
                Error::caused(ErrorKind::Internal, "cannot start a thread to wait for results", e)
            })?;
        }
        Ok(watch)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each section leaves valid state at every instant.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has changed since the last call: tasks that nobody waits for, and tasks to follow.
    fn changes(&self) -> (Vec<String>, Vec<(String, Origin)>) {
        let mut state = self.lock();
        (std::mem::take(&mut state.left), std::mem::take(&mut state.added))
    }

    fn ids(&self) -> Vec<String> {
        self.lock().tasks.keys().cloned().collect()
    }

    /// Makes every task one that is not followed.
    fn forget(&self) {
        let mut state = self.lock();
        state.left.clear();
        state.added = state.tasks.iter().map(|(id, task)| (id.clone(), task.origin)).collect();
    }

    /// Whether nobody waits; then there is no thread from now on.
    fn ends(&self) -> bool {
        let mut state = self.lock();
        state.running = !state.tasks.is_empty();
        !state.running
    }

    fn is_idle(&self) -> bool {
        self.lock().tasks.is_empty()
    }

    /// Tells whoever waits for these tasks.
    fn tell(&self, outcomes: Vec<(String, Result<Bytes>)>) {
        let mut told: Vec<(Arc<dyn Observer>, Vec<Outcome>)> = Vec::new();
        let mut state = self.lock();
        for (id, outcome) in outcomes {
            let Some(task) = state.tasks.remove(&id) else { continue };
            state.left.push(id);
            for Waiting { key, observer, .. } in task.waiting {
                let outcome = (key, copy(&outcome));
                match told.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &observer)) {
                    Some((_, outcomes)) => outcomes.push(outcome),
                    None => told.push((observer, vec![outcome])),
                }
            }
        }
        drop(state);
        for (observer, outcomes) in told {
            observer.ready(outcomes);
        }
    }

    fn tell_all(&self, error: Error) {
        let failed = Err(error);
        self.tell(self.ids().into_iter().map(|id| (id, copy(&failed))).collect());
    }
}

fn copy(outcome: &Result<Bytes>) -> Result<Bytes> {
    match outcome {
        Ok(document) => Ok(document.clone()),
        Err(error) => Err(Error::new(error.kind(), error.to_string())),
    }
}

/// Reads these, and tells whoever waits for those that are ready.
async fn look<C: Channel>(shared: &Shared, channel: &mut C, ids: &[String]) -> Result<()> {
    let documents = channel.read(ids).await?;
    shared.tell(documents.into_iter().map(|(id, document)| (id, Ok(document))).collect());
    Ok(())
}

/// The end of the thread, however it comes: whoever still waits learns of it.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().running = false;
            let text = "the thread that waits for results has panicked: this is a bug of taskcore";
            self.0.tell_all(Error::new(ErrorKind::Internal, text));
        }
    }
}

/// The life of the thread.
fn run<C: Channel>(shared: &Shared, mut channel: C) {
    let _ended = Ended(shared);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime needs nothing but descriptors, as the connection does");
    runtime.block_on(serve(shared, &mut channel));
}

async fn serve<C: Channel>(shared: &Shared, channel: &mut C) {
    let mut away_since: Option<Instant> = None;
    while let Err(error) = listen(shared, channel, &mut away_since).await {
        let since = *away_since.get_or_insert_with(Instant::now);
        if !error.is_retryable() || since.elapsed() > ABSENCE {
            shared.tell_all(error);
            away_since = None;
        }
        sleep(PAUSE).await;
    }
}

/// Follows all that is watched, until nobody has waited for a while or the store fails.
async fn listen<C: Channel>(
    shared: &Shared,
    channel: &mut C,
    away_since: &mut Option<Instant>,
) -> Result<()> {
    shared.forget();
    let mut recheck = Instant::now() + RECHECK;
    loop {
        let (left, added) = shared.changes();
        if !left.is_empty() {
            channel.leave(&left).await?;
        }
        if !added.is_empty() {
            channel.follow(&added).await?;
            let ids: Vec<String> = added.into_iter().map(|(id, _)| id).collect();
            look(shared, channel, &ids).await?;
            *away_since = None;
        }
        let idle = shared.is_idle();
        tokio::select! {
            () = shared.changed.notified() => {}
            heard = channel.next() => match heard? {
                Heard::Documents(documents) => {
                    shared.tell(documents.into_iter().map(|(id, found)| (id, Ok(found))).collect());
                }
                Heard::Something => {
                    let begun = Instant::now();
                    look(shared, channel, &shared.ids()).await?;
                    // Where thousands wait and each commit announces, half of the time is left to
                    // others.
                    sleep(begun.elapsed()).await;
                }
            },
            () = sleep_until(recheck), if !idle => {
                look(shared, channel, &shared.ids()).await?;
                recheck = Instant::now() + RECHECK;
            }
            () = sleep(IDLE), if idle => {
                if shared.ends() {
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
