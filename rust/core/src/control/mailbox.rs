//! A worker's mailbox: hears requests, has them answered, sends the replies.
//!
//! It runs in a runtime of its own, beside the worker's. What the loop answers is awaited in turn,
//! because that takes an instant; what the program answers runs on a thread, one at a time, and
//! nothing waits behind it. A mailbox that loses its broker comes back by itself; what was said
//! meanwhile was said to nobody.

use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use serde_json::{Map, Value};
use tokio::{
    sync::Mutex,
    task::{JoinSet, spawn_blocking},
};

use super::{
    answer::Answerer,
    method::Method,
    render,
    request::{self, ReplyTo, Request},
};
use crate::{
    backoff,
    broker::{
        Broadcast,
        broadcast::{Binding, BroadcastMessage},
    },
    clock,
    error::{Error, ErrorKind, Result},
    health::Health,
    message::repr,
    worker::Handle,
};

pub use super::answer::Node;

/// How long a reply may take to be sent; whoever asked waits a second.
const REPLY: Duration = Duration::from_secs(2);
/// How long the broker may take to read or write what is revoked.
const STORE: Duration = Duration::from_secs(5);
/// First and last ceiling of the wait before it subscribes again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(8));
/// Requests that wait for the program at most.
const WAITING: usize = 100;

/// Answers what only the program knows: settings, commands of its own.
pub trait Program: Send + Sync {
    /// The reply, in the shape that is sent. May block.
    fn answer(&self, method: &str, arguments: &Map<String, Value>) -> Value;
}

/// The mailbox of one worker.
pub struct Mailbox {
    broker: Arc<dyn Broadcast>,
    answerer: Answerer,
    program: Arc<dyn Program>,
    /// Held by whoever is with the program.
    turn: Arc<Mutex<()>>,
    /// Requests that are with the program: where the reply goes, and the reply.
    waiting: JoinSet<(Option<ReplyTo>, Value)>,
    /// Whether a malformed request was logged: one is enough.
    complained: bool,
    /// A hash of what was read as revoked; `None` before the worker knows what was before its start.
    read: Option<u64>,
}

impl Mailbox {
    /// The mailbox of the worker behind `worker`, which `health` asks how it is.
    pub fn new(
        broker: Arc<dyn Broadcast>,
        node: Node,
        worker: Handle,
        health: Health,
        program: Arc<dyn Program>,
    ) -> Self {
        let (turn, waiting) = (Arc::default(), JoinSet::new());
        let answerer = Answerer::new(node, worker, health);
        Self { broker, answerer, program, turn, waiting, complained: false, read: None }
    }

    /// Answers for ever. Calls `open` once, when it hears for the first time or has failed to.
    pub async fn serve(mut self, open: impl FnOnce()) {
        let mut open = Some(open);
        let mut attempt = 0;
        loop {
            let mut opened = || {
                attempt = 0;
                if let Some(open) = open.take() {
                    open();
                }
            };
            let Err(error) = self.hear(&mut opened).await;
            if let Some(open) = open.take() {
                open();
            }
            let cause = error.to_string();
            tracing::debug!(cause, "the mailbox of remote control is away");
            let wait = backoff::exponential(attempt, BACKOFF.0, BACKOFF.1, 0.5);
            attempt = attempt.saturating_add(1);
            tokio::time::sleep(wait).await;
        }
    }

    /// Answers until the link is gone.
    async fn hear(&mut self, open: &mut impl FnMut()) -> Result<Infallible> {
        let (exchange, _) = request::exchanges(&self.answerer.node.mailbox);
        let binding = Binding { exchange, routing_key: "".into() };
        let listening = self.broker.subscribe(vec![binding]).await;
        // After that, so that nothing is revoked between both. A broker may let a worker read and not
        // hear.
        let away = |e: &Error| e.kind() == ErrorKind::Connection;
        if !listening.as_ref().is_err_and(away) {
            self.catch_up().await?;
        }
        let subscriber = listening?;
        open();
        loop {
            tokio::select! {
                heard = subscriber.receive() => {
                    let heard = heard?;
                    if heard.lost > 0 {
                        tracing::warn!(lost = heard.lost, "requests of remote control were lost");
                    }
                    for message in &heard.messages {
                        self.take(message).await;
                    }
                }
                Some(done) = self.waiting.join_next() => {
                    if let Ok((Some(to), answer)) = done {
                        self.reply(&to, answer).await;
                    }
                }
            }
        }
    }

    /// Has the worker know what was revoked while nobody heard it here.
    async fn catch_up(&mut self) -> Result<()> {
        let broker = Arc::clone(&self.broker);
        let read = move || broker.revoked(clock::instant() + STORE);
        let ids = match spawn_blocking(read).await.unwrap_or_else(|_| Ok(Vec::new())) {
            Err(error) if error.kind() != ErrorKind::Connection => {
                let cause = error.to_string();
                tracing::warn!(cause, "what was revoked before cannot be read");
                Vec::new()
            }
            read => read?,
        };
        let mut hasher = DefaultHasher::new();
        ids.hash(&mut hasher);
        match self.read.replace(hasher.finish()) {
            None => self.answerer.remember(ids),
            Some(before) if before == hasher.finish() => {}
            Some(_) => self.answerer.revoke_again(ids).await,
        }
        Ok(())
    }

    /// Keeps what is revoked for workers that do not hear it now.
    async fn keep(&self, ids: Vec<Arc<str>>) {
        let (broker, until) = (Arc::clone(&self.broker), self.answerer.forgotten());
        let keep = move || broker.revoke(&ids, until, clock::instant() + STORE);
        if let Ok(Err(error)) = spawn_blocking(keep).await {
            let cause = error.to_string();
            tracing::warn!(cause, "what was revoked is not kept for workers that start later");
        }
    }

    /// One message of the mailbox.
    async fn take(&mut self, message: &BroadcastMessage) {
        let request = match Request::parse(message) {
            Ok(request) => request,
            Err(error) => {
                if !std::mem::replace(&mut self.complained, true) {
                    let cause = error.to_string();
                    tracing::warn!(cause, "a request of remote control is ignored");
                }
                return;
            }
        };
        self.answerer.heard(request.clock);
        if !request.is_for(&self.answerer.node.hostname) {
            return;
        }
        let everybody = request.is_for_everybody();
        let Request { method: name, arguments, reply_to, .. } = request;
        let overridden = self.answerer.node.overridden.contains(&name);
        if overridden || !Method::is_known(&name, &arguments) {
            return self.ask_program(name, arguments, reply_to).await;
        }
        let kept = arguments.get("kept").is_some_and(|kept| *kept == true);
        let answer = match Method::parse(&name, arguments) {
            Ok(Method::Health) if self.waiting.len() < WAITING => {
                // The result store is asked, and may be away.
                let health = self.answerer.health();
                self.waiting.spawn(async move { (reply_to, health.await) });
                return;
            }
            Ok(method) => {
                if everybody
                    && !kept
                    && let Some(ids) = method.revokes()
                {
                    self.keep(ids).await;
                }
                self.answerer.answer(method).await
            }
            Err(refusal) => Some(refused(&name, refusal)),
        };
        if let (Some(to), Some(answer)) = (reply_to, answer) {
            self.reply(&to, answer).await;
        }
    }

    async fn ask_program(
        &mut self,
        method: String,
        arguments: Map<String, Value>,
        reply_to: Option<ReplyTo>,
    ) {
        if self.waiting.len() >= WAITING {
            let text = format!("{WAITING} commands wait for their turn already, expected fewer");
            if let Some(to) = reply_to {
                self.reply(&to, render::error(repr::exception("RuntimeError", &text))).await;
            }
            return;
        }
        let (program, turn) = (Arc::clone(&self.program), Arc::clone(&self.turn));
        self.waiting.spawn(async move {
            let _turn = turn.lock().await;
            let asked = spawn_blocking(move || program.answer(&method, &arguments)).await;
            let failed = |_| render::error(repr::exception("RuntimeError", "the command panicked"));
            let answer = asked.unwrap_or_else(failed);
            (reply_to, answer)
        });
    }

    /// Sends a reply; who asked may be gone.
    async fn reply(&self, to: &ReplyTo, answer: Value) {
        let node = &self.answerer.node;
        let message = to.message(&node.hostname, answer, self.answerer.tick());
        let broker = Arc::clone(&self.broker);
        let send = move || broker.broadcast(&[message], clock::instant() + REPLY);
        if let Ok(Err(error)) = spawn_blocking(send).await {
            let cause = error.to_string();
            tracing::debug!(cause, "a reply of remote control is not sent");
        }
    }
}

/// What is wrong with the arguments, in the shape that Celery has for it.
fn refused(method: &str, refusal: String) -> Value {
    match method {
        "rate_limit" if refusal.starts_with("ValueError") => {
            render::error(format!("Invalid rate limit string: {refusal}"))
        }
        _ => render::error(refusal),
    }
}
