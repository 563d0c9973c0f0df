//! A question to a server that may be slow or away.
//!
//! It is asked on a thread of its own, one at a time, so that a server which never answers costs one
//! thread and no more. Whoever asks meanwhile waits for the same answer, and for [`PATIENCE`] at
//! most. An answer is good for [`GOOD`].

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    clock::{self, Micros},
    error::{Error, ErrorKind, Result},
};

/// How long an answer is given again.
const GOOD: Micros = 1_000_000;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What can be said of an error more than once.
type Said<T> = std::result::Result<T, String>;

struct State<T> {
    last: Option<(Micros, Said<T>)>,
    asking: bool,
}

/// The question.
pub(super) struct Probe<I, T> {
    ask: Box<dyn Fn(I) -> Result<T> + Send + Sync>,
    /// Locked for a look or a swap.
    state: Mutex<State<T>>,
    answered: Notify,
}

impl<I: Send + 'static, T: Clone + Send + 'static> Probe<I, T> {
    pub(super) fn new(ask: impl Fn(I) -> Result<T> + Send + Sync + 'static) -> Arc<Self> {
        let state = Mutex::new(State { last: None, asking: false });
        Arc::new(Self { ask: Box::new(ask), state, answered: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer; an error after [`PATIENCE`].
    pub(super) async fn get(self: &Arc<Self>, about: I) -> Said<T> {
        let answered = self.answered.notified();
        tokio::pin!(answered);
        answered.as_mut().enable(); // before the look, so that no answer is missed
        if let Some(last) = self.begin(about) {
            return last;
        }
        if tokio::time::timeout(PATIENCE, answered).await.is_err() {
            return Err(format!("it did not answer within {} s", PATIENCE.as_secs()));
        }
        let last = self.lock().last.as_ref().map(|(_, said)| said.clone());
        last.unwrap_or_else(|| Err("it did not answer".to_owned()))
    }

    /// An answer that is still good; else the question is under way.
    fn begin(self: &Arc<Self>, about: I) -> Option<Said<T>> {
        let mut state = self.lock();
        if let Some((at, said)) = &state.last
            && clock::mono_us() < at + GOOD
        {
            return Some(said.clone());
        }
        if state.asking {
            return None;
        }
        let probe = Arc::clone(self);
        let thread = std::thread::Builder::new().name("taskcore-probe".to_owned());
        match thread.spawn(move || probe.run(about)) {
            Ok(_) => {
                state.asking = true;
                None
            }
            Err(error) => Some(Err(format!("no thread can be started: {error}"))),
        }
    }

    fn run(&self, about: I) {
        // A panic is a bug, and must not keep the question from being asked again.
        let ask = std::panic::AssertUnwindSafe(|| (self.ask)(about));
        let panicked = |_| Err(Error::new(ErrorKind::Internal, "the question panicked"));
        let answer = std::panic::catch_unwind(ask).unwrap_or_else(panicked);
        let said = answer.map_err(|error| error.to_string());
        let mut state = self.lock();
        state.asking = false;
        state.last = Some((clock::mono_us(), said));
        drop(state);
        self.answered.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(future)
    }

    #[test]
    fn many_ask_and_one_question_is_put() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let probe = Probe::new(move |()| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(7)
        });
        let answers = block_on(async {
            let tasks: Vec<_> = (0..50)
                .map(|_| {
                    let probe = Arc::clone(&probe);
                    tokio::spawn(async move { probe.get(()).await })
                })
                .collect();
            let mut answers = Vec::new();
            for task in tasks {
                answers.push(task.await.expect("no panic"));
            }
            answers
        });
        assert_eq!(answers, vec![Ok(7); 50]);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_server_that_never_answers_costs_one_thread() {
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let probe = Probe::new(move |()| {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = held.lock().expect("whole").recv();
            Ok(())
        });
        block_on(async {
            let (one, other) = tokio::join!(probe.get(()), probe.get(()));
            assert!(one.expect_err("late").contains("did not answer"));
            assert!(other.is_err());
        });
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        drop(release);
    }

    #[test]
    fn an_error_and_a_panic_are_said() {
        let failing = Probe::new(|()| Err::<(), _>(Error::new(ErrorKind::Connection, "refused")));
        assert_eq!(block_on(failing.get(())), Err("refused".to_owned()));
        let panicking = Probe::new(|()| -> Result<()> { panic!("on purpose") });
        assert!(block_on(panicking.get(())).is_err());
    }
}
