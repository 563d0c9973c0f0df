//! PUB/SUB: the one connection on which a process hears channels.
//!
//! The first who subscribes starts a thread with the connection; it ends when nobody has listened
//! for [`IDLE`]. A connection that breaks ends all who listen by it, who then subscribe again and
//! know that they have missed something. The server gives a subscriber up that does not read;
//! reading never waits here, and what waits for a subscriber is bounded by its inbox.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{PushInfo, PushKind, RedisError, Value, cmd};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    time::timeout,
};

use super::{
    envelope,
    names::{Names, Source},
};
use crate::{
    broker::{broadcast::ExchangeType, inbox::Inbox},
    error::{Error, ErrorKind, Result},
    redis_connection::{Multiplexed, Server},
};

/// How long the thread outlives the last subscriber, so that the next one finds its connection.
const IDLE: Duration = Duration::from_secs(10);
/// How often a connection on which nothing comes is asked for a sign of life.
const PING: Duration = Duration::from_secs(15);
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages that are handed over at once.
const MANY: usize = 1_000;

/// The thread and its connection.
pub(super) struct Channels {
    server: Arc<Server>,
    names: Names,
    /// Where requests go while the thread runs. Behind a std mutex because a section is a look, a
    /// send or an assignment.
    thread: Mutex<Option<UnboundedSender<Request>>>,
}

/// What the thread is asked.
enum Request {
    /// To listen for one more; answered when the server has agreed.
    Add(Listener, oneshot::Sender<Result<()>>),
    /// To listen no more for this one.
    Leave(Arc<Inbox>),
}

/// One subscriber as the thread knows it.
struct Listener {
    inbox: Arc<Inbox>,
    sources: Vec<Source>,
}

/// Somebody listens as long as this lives.
pub(super) struct Listening {
    channels: Arc<Channels>,
    inbox: Arc<Inbox>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(thread) = &*self.channels.thread() {
            // A thread that has ended listens for nobody.
            let _ = thread.send(Request::Leave(Arc::clone(&self.inbox)));
        }
    }
}

impl Channels {
    pub(super) fn new(server: Arc<Server>, names: Names) -> Self {
        Self { server, names, thread: Mutex::default() }
    }

    /// Listens for what comes by channels; `None` when nothing that is wanted does.
    pub(super) async fn listen(self: Arc<Self>, inbox: &Arc<Inbox>) -> Result<Option<Listening>> {
        let mut sources: Vec<Source> = Vec::new();
        for source in inbox.bindings.iter().flat_map(|binding| self.names.sources(binding)) {
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        if sources.is_empty() {
            return Ok(None);
        }
        let (answer, answered) = oneshot::channel();
        let listener = Listener { inbox: Arc::clone(inbox), sources };
        self.ask(Request::Add(listener, answer))?;
        let listening = Listening { channels: self, inbox: Arc::clone(inbox) };
        answered.await.unwrap_or_else(|_| Err(panicked()))?;
        Ok(Some(listening))
    }

    fn thread(&self) -> MutexGuard<'_, Option<UnboundedSender<Request>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the thread, which is started when there is none.
    fn ask(self: &Arc<Self>, request: Request) -> Result<()> {
        let mut thread = self.thread();
        let request = match &*thread {
            Some(running) => match running.send(request) {
                Ok(()) => return Ok(()),
                Err(refused) => refused.0, // it has panicked
            },
            None => request,
        };
        let (sender, requests) = unbounded_channel();
        let channels = Arc::clone(self);
        let builder = std::thread::Builder::new().name("taskcore-broadcast".to_owned());
        builder.spawn(move || run(channels, requests)).map_err(|e| {
            Error::caused(
                ErrorKind::Internal,
                "cannot start a thread to hear what is said to all",
                e,
            )
        })?;
        let _ = sender.send(request); // its receiver lives as long as the thread
        *thread = Some(sender);
        Ok(())
    }
}

fn panicked() -> Error {
    let text = "the thread that hears what is said to all has panicked: this is a bug of taskcore";
    Error::new(ErrorKind::Internal, text)
}

/// The life of the thread.
fn run(channels: Arc<Channels>, requests: UnboundedReceiver<Request>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime needs nothing but descriptors, as the connection does");
    let hub = Hub { channels, requests, listeners: Vec::new(), con: None };
    runtime.block_on(hub.serve());
}

/// What the thread owns.
struct Hub {
    channels: Arc<Channels>,
    requests: UnboundedReceiver<Request>,
    listeners: Vec<Listener>,
    /// None before the first subscriber and after an error.
    con: Option<(Multiplexed, UnboundedReceiver<PushInfo>)>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        // There are none but after a panic.
        self.end_all(&panicked());
    }
}

impl Hub {
    async fn serve(mut self) {
        loop {
            let idle = self.listeners.is_empty();
            let mut pushes = Vec::new();
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => self.answer(request).await,
                    None => return,
                },
                () = receive(&mut self.con, &mut pushes) => self.hear(pushes),
                () = tokio::time::sleep(if idle { IDLE } else { PING }) => {
                    if idle && self.may_end() {
                        return;
                    }
                    self.ping().await;
                }
            }
        }
    }

    /// Whether nobody has asked for anything; then there is no thread from now on.
    fn may_end(&mut self) -> bool {
        let mut thread = self.channels.thread();
        let ends = self.requests.is_empty();
        if ends {
            *thread = None;
        }
        ends
    }

    async fn answer(&mut self, request: Request) {
        match request {
            Request::Add(listener, answer) => {
                let subscribed = self.subscribe(&listener.sources).await;
                if subscribed.is_ok() {
                    self.listeners.push(listener);
                } else {
                    self.lose(subscribed.as_ref().err());
                }
                let _ = answer.send(subscribed); // nobody waits for it any more
            }
            Request::Leave(inbox) => {
                let of = |listener: &Listener| Arc::ptr_eq(&listener.inbox, &inbox);
                let Some(at) = self.listeners.iter().position(of) else { return };
                let left = self.listeners.swap_remove(at).sources;
                let unsubscribed = self.unsubscribe(&left).await;
                self.lose(unsubscribed.err().as_ref());
            }
        }
    }

    /// Asks the server for what nobody has asked for yet.
    async fn subscribe(&mut self, sources: &[Source]) -> Result<()> {
        let server = Arc::clone(&self.channels.server);
        if self.con.is_none() {
            let (sender, pushes) = unbounded_channel();
            self.con = Some((server.pushing(sender, PATIENCE).await?, pushes));
        }
        let (channels, patterns) = self.unheard(sources);
        let Some((con, _)) = &mut self.con else { return Ok(()) };
        let subscribed = async {
            if channels.is_empty() && patterns.is_empty() {
                return cmd("PING").exec_async(con).await;
            }
            if !channels.is_empty() {
                con.subscribe(&channels).await?;
            }
            if patterns.is_empty() { Ok(()) } else { con.psubscribe(&patterns).await }
        };
        subscribed.await.map_err(|e| server.error("subscribe", e))?;
        self.hear_earlier()
    }

    /// Hands over what came before the server's last reply: it is not for who subscribes only now.
    fn hear_earlier(&mut self) -> Result<()> {
        let mut pushes = Vec::new();
        if let Some((_, incoming)) = &mut self.con {
            while let Ok(push) = incoming.try_recv() {
                pushes.push(push);
            }
        }
        if !pushes.is_empty() {
            self.hear(pushes);
        }
        if self.con.is_some() {
            return Ok(());
        }
        let end = RedisError::from(io::Error::from(io::ErrorKind::ConnectionAborted));
        Err(self.channels.server.error("subscribe", end))
    }

    async fn unsubscribe(&mut self, sources: &[Source]) -> Result<()> {
        let (channels, patterns) = self.unheard(sources);
        let Some((con, _)) = &mut self.con else { return Ok(()) };
        let unsubscribed = async {
            if !channels.is_empty() {
                con.unsubscribe(&channels).await?;
            }
            if patterns.is_empty() { Ok(()) } else { con.punsubscribe(&patterns).await }
        };
        unsubscribed.await.map_err(|e| self.channels.server.error("unsubscribe", e))
    }

    /// Those of these that no listener has, as the server names them: channels and patterns.
    fn unheard(&self, sources: &[Source]) -> (Vec<String>, Vec<String>) {
        let heard = |source: &&Source| {
            !self.listeners.iter().any(|listener| listener.sources.contains(source))
        };
        let (exact, prefixes): (Vec<&Source>, Vec<&Source>) =
            sources.iter().filter(heard).partition(|source| source.exact);
        let name = |sources: Vec<&Source>| sources.into_iter().map(Source::subscription).collect();
        (name(exact), name(prefixes))
    }

    async fn ping(&mut self) {
        let Some((con, _)) = &mut self.con else { return };
        let ping = timeout(PATIENCE, cmd("PING").exec_async(con)).await;
        let alive = ping.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        let error = alive.err().map(|e| self.channels.server.error("hear what is said to all", e));
        self.lose(error.as_ref());
    }

    /// After an error: the connection is closed, and all who listen by it are told.
    fn lose(&mut self, error: Option<&Error>) {
        if let Some(error) = error {
            self.con = None;
            self.end_all(error);
        }
    }

    fn end_all(&mut self, error: &Error) {
        for listener in self.listeners.drain(..) {
            listener.inbox.end(error);
        }
    }

    fn hear(&mut self, pushes: Vec<PushInfo>) {
        let ended = |push: &PushInfo| push.kind == PushKind::Disconnection;
        if pushes.is_empty() || pushes.iter().any(ended) {
            let end = RedisError::from(io::Error::from(io::ErrorKind::ConnectionAborted));
            let error = self.channels.server.error("hear what is said to all", end);
            self.lose(Some(&error));
            return;
        }
        for push in pushes {
            let mut data = push.data.into_iter();
            let (source, payload) = match (&push.kind, data.next(), data.next(), data.next()) {
                (PushKind::Message, Some(channel), Some(payload), None) => {
                    ((channel, None), payload)
                }
                (PushKind::PMessage, Some(pattern), Some(channel), Some(payload)) => {
                    ((channel, Some(pattern)), payload)
                }
                _ => continue, // the server says that it has subscribed
            };
            let (Value::BulkString(channel), Value::BulkString(payload)) = (source.0, payload)
            else {
                continue;
            };
            let pattern = match source.1 {
                Some(Value::BulkString(pattern)) => Some(pattern),
                _ => None,
            };
            self.deliver(&channel, pattern.as_deref(), &payload);
        }
    }

    /// Hands a message to whoever wants it. The server sends it once for each subscription that it
    /// fits; for each listener the first of its own counts.
    fn deliver(&self, channel: &[u8], pattern: Option<&[u8]>, payload: &[u8]) {
        let mut message = None;
        for Listener { inbox, sources } in &self.listeners {
            let first = sources.iter().find(|source| source.has(channel));
            let counts = first.is_some_and(|source| match pattern {
                None => source.exact,
                Some(pattern) => !source.exact && source.subscription().as_bytes() == pattern,
            });
            if !counts {
                continue;
            }
            if message.is_none() {
                match envelope::decode(payload, ExchangeType::Topic) {
                    Ok(decoded) => message = Some(decoded),
                    Err(error) => {
                        let channel = String::from_utf8_lossy(channel);
                        tracing::warn!(%channel, %error, "what was said to all cannot be read");
                        return;
                    }
                }
            }
            let Some(message) = &mut message else { return };
            let name = &message.exchange.name;
            let known = inbox.bindings.iter().find(|binding| binding.exchange.name == *name);
            if let Some(binding) = known {
                message.exchange = binding.exchange.clone();
                inbox.put(std::slice::from_ref(message));
            }
        }
    }
}

/// Waits for pushes; for ever while there is no connection.
async fn receive(
    con: &mut Option<(Multiplexed, UnboundedReceiver<PushInfo>)>,
    pushes: &mut Vec<PushInfo>,
) {
    match con {
        Some((_, incoming)) => {
            incoming.recv_many(pushes, MANY).await;
        }
        None => std::future::pending().await,
    }
}
