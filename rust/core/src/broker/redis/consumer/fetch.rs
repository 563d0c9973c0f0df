//! Fetching: one task that owns what is known of the lanes, asks when there is something to ask,
//! and otherwise waits to be told.
//!
//! ```text
//!   a fetch comes --> are messages there? --yes--> deliver them
//!                          | no       ^
//!                          v          |
//!        +--> is a list unknown? -----+--- claim
//!        |                 | no       |
//!        |                 v          |
//!        |    cover what was emptied: wait, look
//!        |                 |
//!        +---- rest until a wait ends, the server tells of a change, a scheduled message comes due
//! ```
//!
//! At most one claim or look is under way ([`ask`](super::ask)), and one wait per lane that has one
//! ([`wait`](super::wait)); which is due is decided by [`lanes`](super::lanes). Whoever drops a
//! fetch does not drop what was claimed for it: the next fetch finds it, and what nobody asks for
//! within [`GRACE`] goes back to its list, so that a worker that wants one message holds one.
//!
//! Where the server refuses to tell of changes (`CLIENT TRACKING`), a resting fetch looks at all
//! that no wait covers every [`POLL`].

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use redis::{PushInfo, PushKind, Value};
use tokio::{sync::mpsc, time::sleep_until};

use super::{
    ask::{Answers, Asker, Questions},
    lanes::{Lanes, Part, Place},
    request::{Batch, Claimed, Given, Request},
    session::Session,
    settle,
    wait::{Wait, WaitEnd},
};
use crate::{
    broker::{Delivery, HORIZON_MS, Tag, Want, order::QueueOrder},
    clock,
    error::Result,
    future::BoxFuture,
};

/// How long a message waits for a fetch before it is handed back.
const GRACE: Duration = Duration::from_millis(2);
/// How often a resting fetch looks at everything, whatever it was told: a sign of life, and the end
/// of what went unsaid.
const BEAT: Duration = Duration::from_secs(5);
/// How often it looks where the server does not tell of changes.
const POLL: Duration = Duration::from_millis(100);
/// How often the due sets are read again where it does not, and where it does when they change all
/// the time: what is published into them is due after the horizon, so there is time.
const POLL_DUE: Duration = Duration::from_millis(HORIZON_MS as u64 / 2);
const AGAIN_DUE: Duration = Duration::from_millis(100);

/// The lanes that a claim names, and whether it takes suspects.
type Named = (bool, Vec<usize>);

/// What the task has under way.
enum Task {
    /// Questions, and the lanes and lists that they are about.
    Ask(BoxFuture<'static, Result<Answers>>, Named, Vec<Place>),
    /// What nobody asked for goes back.
    Return(BoxFuture<'static, Result<()>>),
}

/// What the task has heard.
enum Heard {
    Answers(Answers, Named, Vec<Place>),
    Returned,
    WaitEnd(usize, WaitEnd),
    /// What was given to a fetch that was dropped.
    Untaken(Batch),
    /// Nobody waits for the request any more.
    Dropped,
}

pub(super) struct Fetcher {
    session: Arc<Session>,
    asker: Asker,
    lanes: Lanes,
    waits: Vec<Wait>,
    task: Option<Task>,
    request: Option<Request>,
    /// Where comes back what was given to a fetch that was dropped, and who sends it.
    untaken: (mpsc::UnboundedSender<Batch>, mpsc::UnboundedReceiver<Batch>),
    claimed: Claimed,
    /// Since when nobody has asked for what is ready.
    surplus: Option<Instant>,
    /// When all is looked at again.
    beat: Instant,
    /// When the due sets whose content is unknown may be looked at.
    due_look: Instant,
    /// When more of each lane's due set may be claimed.
    due: Vec<Option<Instant>>,
}

impl Fetcher {
    pub(super) fn new(asker: Asker, order: QueueOrder) -> Self {
        let session = Arc::clone(&asker.session);
        let now = clock::instant();
        Self {
            lanes: Lanes::new(session.open_lanes(), order),
            waits: Wait::all(session.open_lanes()),
            due: vec![None; session.open_lanes().len()],
            asker,
            task: None,
            request: None,
            untaken: mpsc::unbounded_channel(),
            claimed: Claimed::default(),
            surplus: None,
            beat: now,
            due_look: now,
            session,
        }
    }

    /// Serves requests until nobody makes them any more, or the connection fails; then the next one
    /// hears why.
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::UnboundedReceiver<Request>,
        mut told: mpsc::UnboundedReceiver<PushInfo>,
    ) {
        let error = loop {
            self.deliver();
            self.begin();
            let (wake, resting) = (self.wake(), self.request.is_none());
            tokio::select! {
                biased;
                heard = poll_fn(|cx| self.poll(cx)) => match heard {
                    Ok(heard) => self.heard(heard),
                    Err(error) => break error,
                },
                Some(push) = told.recv() => self.told(&push),
                request = requests.recv(), if resting => match request {
                    Some(request) => self.request = Some(request),
                    None => return,
                },
                () = sleep_until(wake.into()) => {}
            }
        };
        let request = match self.request.take() {
            Some(request) => Some(request),
            None => requests.recv().await,
        };
        if let Some(request) = request {
            // Nobody waits for it any more.
            let _ = request.reply.send(Err(error));
        }
    }

    /// Gives a fetch what is there.
    fn deliver(&mut self) {
        let Some(Request { want, .. }) = self.request else { return };
        let batch = self.claimed.take(want);
        if batch.is_empty() {
            return;
        }
        let request = self.request.take().expect("it was there a moment ago");
        // When the fetch is dropped, now or before it is looked at, the batch comes back.
        let _ = request.reply.send(Ok(Given::new(batch, self.untaken.0.clone(), &self.session)));
    }

    /// Begins what is to be done next.
    fn begin(&mut self) {
        let now = clock::instant();
        self.give_back(now);
        let Some(Request { want, .. }) = self.request else { return };
        if self.task.is_some() {
            return;
        }
        if now >= self.beat {
            self.beat = now + if self.asker.tracked { BEAT } else { POLL };
            let waits = &self.waits;
            self.lanes.doubt(|lane| waits.iter().any(|w| w.lane() == lane && w.is_running()));
        }
        let mut questions = Questions { want, ..Questions::default() };
        let places = if want.ready > 0 { self.ask_ready(&mut questions, now) } else { Vec::new() };
        if want.due > 0 {
            self.ask_due(&mut questions, now);
        }
        if !questions.is_empty() {
            let claimed = (want.suspects > 0, questions.claim.clone());
            let answers = Box::pin(self.asker.clone().ask(questions));
            self.task = Some(Task::Ask(answers, claimed, places));
        }
    }

    /// What is to be claimed and to be looked at; waits are sent when there is nothing to claim.
    fn ask_ready(&mut self, questions: &mut Questions, now: Instant) -> Vec<Place> {
        let Self { lanes, waits, session, .. } = self;
        let able = |lane: usize| waits.iter().any(|w| w.lane() == lane && w.is_able(now));
        let places = lanes.to_look(able);
        let suspects = questions.want.suspects > 0;
        questions.claim = lanes.to_claim(suspects, able);
        questions.shared = lanes.shared();
        questions.look = places.iter().map(|place| lanes.key(*place).to_owned()).collect();
        for place in &places {
            lanes.covered(*place);
        }
        lanes.claiming(suspects, &questions.claim);
        if questions.claim.is_empty() {
            for wait in waits {
                let lane = wait.lane();
                if lanes.wants_wait(lane) && wait.is_able(now) && wait.send(session) {
                    lanes.covered((lane, Part::List));
                }
            }
        }
        places
    }

    fn ask_due(&mut self, questions: &mut Questions, now: Instant) {
        let due = self.due.iter().enumerate().filter(|(_, at)| at.is_some_and(|at| at <= now));
        questions.due = due.map(|(lane, _)| lane).collect();
        let unknown = self.lanes.to_look_due();
        if now >= self.due_look && !unknown.is_empty() {
            self.due_look = now + if self.asker.tracked { AGAIN_DUE } else { POLL_DUE };
            for place in unknown {
                if self.asker.tracked {
                    self.lanes.covered(place);
                }
                if !questions.due.contains(&place.0) {
                    questions.look_due.push((place.0, self.lanes.key(place).to_owned()));
                }
            }
        }
    }

    /// Hands back what is there and nobody takes, after a moment in which a next fetch may.
    fn give_back(&mut self, now: Instant) {
        let want = self.request.as_ref().map_or(Want::default(), |request| request.want);
        let (ready, scheduled) = (want.ready > 0, want.due > 0);
        let left = (!ready && !self.claimed.ready.is_empty())
            || (!scheduled && !self.claimed.scheduled.is_empty());
        if !left {
            self.surplus = None;
            return;
        }
        let since = *self.surplus.get_or_insert(now);
        if now.saturating_duration_since(since) < GRACE || self.task.is_some() {
            return;
        }
        self.surplus = None;
        let mut tags: Vec<Tag> = Vec::new();
        if !ready {
            tags.extend(self.claimed.ready.drain(..).map(|delivery| delivery.tag));
        }
        if !scheduled {
            tags.extend(self.claimed.scheduled.drain(..).map(|delivery| delivery.tag));
        }
        self.session.ledger.give_back(tags.iter().copied());
        let session = Arc::clone(&self.session);
        let returning = async move { settle::hand_back(&session, &tags).await };
        self.task = Some(Task::Return(Box::pin(returning)));
    }

    /// When to look up again, whatever is heard.
    fn wake(&self) -> Instant {
        let now = clock::instant();
        let mut wake = now + BEAT;
        if let Some(since) = self.surplus {
            wake = wake.min(since + GRACE);
        }
        if let Some(request) = self.request.as_ref().filter(|_| self.task.is_none()) {
            wake = wake.min(self.beat);
            if request.want.due > 0 {
                wake = self.due.iter().flatten().copied().fold(wake, Instant::min);
                if !self.lanes.to_look_due().is_empty() {
                    wake = wake.min(self.due_look);
                }
            }
        }
        wake
    }

    /// Waits for news of what is under way.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Heard>> {
        let request = self.request.as_mut();
        if request.is_some_and(|request| request.reply.poll_closed(cx).is_ready()) {
            return Poll::Ready(Ok(Heard::Dropped));
        }
        if let Poll::Ready(Some(batch)) = self.untaken.1.poll_recv(cx) {
            return Poll::Ready(Ok(Heard::Untaken(batch)));
        }
        for (at, wait) in self.waits.iter_mut().enumerate() {
            if let Poll::Ready(ended) = wait.poll(cx, &self.session) {
                return Poll::Ready(ended.map(|ended| Heard::WaitEnd(at, ended)));
            }
        }
        let heard = match &mut self.task {
            None => return Poll::Pending,
            Some(Task::Return(task)) => {
                std::task::ready!(Pin::new(task).poll(cx)).map(|()| Heard::Returned)
            }
            Some(Task::Ask(task, claimed, looked)) => {
                let answers = std::task::ready!(Pin::new(task).poll(cx));
                answers.map(|a| Heard::Answers(a, std::mem::take(claimed), std::mem::take(looked)))
            }
        };
        self.task = None;
        Poll::Ready(heard)
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Returned => {}
            Heard::Untaken(batch) => self.claimed.put_back(batch),
            Heard::Dropped => self.request = None,
            Heard::Answers(answers, claimed, looked) => self.answered(answers, &claimed, &looked),
            Heard::WaitEnd(at, ended) => {
                let lane = self.waits[at].lane();
                self.lanes.uncovered((lane, Part::List));
                if let WaitEnd::Moved(tag, raw, more) = ended {
                    if more {
                        self.lanes.changed((lane, Part::List));
                    }
                    self.insert(lane, tag, raw);
                }
            }
        }
    }

    /// Makes a message ready that a wait moved. It left its list before what a claim behind it got,
    /// also when that was heard of first.
    fn insert(&mut self, lane: usize, tag: Tag, raw: Bytes) {
        let delivery = self.session.lanes[lane].delivery(tag.seq, raw);
        let later = |one: &Delivery| one.tag.lane == tag.lane && one.tag.seq > tag.seq;
        let at = self.claimed.ready.iter().position(later).unwrap_or(self.claimed.ready.len());
        self.claimed.ready.insert(at, delivery);
    }

    fn answered(&mut self, answers: Answers, (suspects, claimed): &Named, looked: &[Place]) {
        let now = clock::instant();
        for place in looked {
            if answers.found {
                self.lanes.changed(*place);
            } else if !self.asker.tracked {
                self.lanes.uncovered(*place);
            }
        }
        let claimed = || claimed.iter().copied();
        self.lanes.not_emptied(false, claimed().filter(|lane| !answers.emptied.contains(lane)));
        if *suspects {
            self.lanes.not_emptied(true, claimed().filter(|lane| !answers.cleared.contains(lane)));
        }
        for (key, error) in &answers.broken {
            self.session.complain(key, error);
            let lanes = &self.session.lanes;
            self.lanes.broken(key.as_bytes(), |lane| lanes[lane].unacked == *key);
        }
        if let Some(lane) = answers.last {
            self.lanes.served(lane);
        }
        for (lane, next) in answers.next {
            self.due[lane] = next.map(|next| now + next);
        }
        self.claimed.add(answers.ready, answers.scheduled);
    }

    /// Hears of a change.
    fn told(&mut self, push: &PushInfo) {
        if push.kind != PushKind::Invalidate {
            return;
        }
        match push.data.first() {
            Some(Value::Array(keys)) => {
                for key in keys {
                    if let Value::BulkString(key) = key {
                        self.lanes.told(key);
                    }
                }
            }
            // Everything changed: the database was emptied.
            _ => self.lanes.doubt(|_| false),
        }
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.untaken.1.close();
        while let Ok(batch) = self.untaken.1.try_recv() {
            self.claimed.put_back(batch);
        }
        let left = self.claimed.ready.drain(..).chain(self.claimed.scheduled.drain(..));
        self.session.ledger.give_back(left.map(|delivery| delivery.tag));
    }
}
