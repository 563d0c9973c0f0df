//! The worker: one task that owns all state and handles one kind of news at a time.
//!
//! ```text
//! connection --Deliveries--> receive: triage -> [eta] -> [rate] -> ready --dispatch--> pool
//! pool --Outcomes----> outcome: settle -> flush: what follows, results, then acknowledgements
//! flush --joins that are complete--> composer -> outcome -> flush
//! ```
//!
//! The loop waits for one of five things: a command, the pool, the connection to the broker, a
//! finished batch of results or settlements, the clock. It lets the news change its state, then
//! takes one turn: what is due becomes ready, what is ready is dispatched, the window decides about
//! a fetch, gathered batches leave. The stations are pure modules; this one and `receive`,
//! `outcome`, `telling`, `chords`, `control`, `recovery`, `outage` and `stop` are the only ones that touch the whole
//! state. Connection and flush are polled inside this task: a fetch blocks while settlements go on,
//! without channels, locks or wake-ups between tasks. The price is that whatever the loop does in
//! one turn must be short.

pub mod window;
pub mod triage;
pub mod eta;
pub mod rate;
pub mod revoked;
pub mod deadline;
pub mod dispatch;
pub mod inflight;
pub mod settle;
pub mod suspect;
pub mod shutdown;
pub mod autoscale;
pub mod condition;
pub mod command;
mod control;
mod population;
mod revoking;
mod outcome;
mod telling;
mod chords;
mod document;
mod flush;
mod kept;
mod storing;
mod outbox;
mod publishing;
pub mod compose;
mod members;
mod joining;
mod retry;
mod handle;
pub mod task_log;
mod events;
mod task_event;
mod event_sender;
mod event_thread;
mod stop;
mod connection;
mod outage;
mod receive;
mod recovery;
pub mod metrics;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::{
    broker::{Broadcast, Broker, Subscription, Want, epoch},
    clock::{self, Micros, Millis},
    config::WorkerConfig,
    error::Result,
    pool::{Pool, PoolNews},
    result::ResultStore,
};

pub use command::Command;
pub use compose::Composer;
pub use condition::Condition;
pub use handle::{Handle, Standing, Stats, ended as handle_ended};
pub use shutdown::Stop;

pub use event_sender::EventOptions;

use autoscale::Autoscale;
use connection::{Connection, ConnectionNews};
use eta::EtaHeap;
use event_sender::EventSender;
use events::Events;
use flush::{Flush, FlushNews};
use handle::Shared;
use inflight::Inflight;
use outage::Away;
use rate::Rates;
use revoked::Revoked;
use shutdown::{Left, Phase, Step};
use suspect::Suspects;
use triage::Registry;
use window::{Load, Window};

/// No sleep is longer, so that a wall clock that was set is noticed.
const NAP_US: u64 = 1_000_000;

/// One reading of the clocks, good for one turn of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Microseconds since the Unix epoch.
    pub wall: i64,
    /// Monotonic microseconds, those included in which the machine slept.
    pub mono: Micros,
}

impl Now {
    fn wall_ms(self) -> Millis {
        self.wall.div_euclid(1_000)
    }
}

/// What a worker takes from its surroundings, so that a test can give it instead.
pub struct Surroundings {
    /// Reads the clocks.
    pub clock: Box<dyn Fn() -> Now + Send>,
    /// Gives random numbers in `0..1`. Called to make one generator per user.
    pub random: fn() -> Box<dyn FnMut() -> f64 + Send>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            clock: Box::new(|| Now { wall: clock::wall_us(), mono: clock::boot_us() }),
            random: || Box::new(random),
        }
    }
}

/// Consumes, triages, dispatches, settles; see the module.
pub struct Worker {
    config: WorkerConfig,
    registry: Registry,
    clock: Box<dyn Fn() -> Now + Send>,
    connection: Connection,
    pool: Box<dyn Pool>,
    flush: Flush,
    commands: mpsc::UnboundedReceiver<Command>,
    shared: Arc<Shared>,
    /// Every request held. Written by receive, outcome and stop.
    inflight: Inflight,
    eta: EtaHeap,
    rates: Rates,
    /// What is dropped when it comes. Written by control, read by receive, outcome and dispatch.
    revoked: Revoked,
    /// The same by stamps: names and values. Written by control, read by receive.
    revoked_stamps: Revoked,
    /// What may have killed a worker. Written by receive, outcome and recovery.
    suspects: Suspects,
    ready: VecDeque<u64>,
    window: Window,
    phase: Phase,
    /// The broker's name for the present lease, and its number here. Written when the connection
    /// comes up.
    epoch: String,
    lease: u32,
    /// When the lease was last known to be good. Nothing is begun on the strength of an older one
    /// than it lasts.
    renewed: Micros,
    /// Whether the queues have changed and the connection does not know. Written and read by control.
    resubscribe: bool,
    /// What is away. Written and read by outage.
    away: Away,
    counts: Stats,
    /// What monitors are told. Written by receive and outcome.
    events: Events,
    /// How many executions of each task have ended, by its number. Written by outcome, read by
    /// control.
    total: Vec<u64>,
    /// When the pool grows and shrinks by itself. Written by population.
    autoscale: Option<Autoscale>,
    /// What is measured. `None` when nobody asks. Written by receive, outcome and outage.
    counters: Option<Box<metrics::Counters>>,
    children_changed: bool,
    scratch: Vec<u64>,
}

enum News {
    Command(Command),
    Pool(Result<Vec<PoolNews>>),
    Connection(ConnectionNews),
    Flush(FlushNews),
    Tick,
}

impl Worker {
    /// A worker that is not connected yet, and the handle to it.
    pub fn new(
        config: WorkerConfig,
        broker: Arc<dyn Broker>,
        results: Option<Arc<dyn ResultStore>>,
        pool: Box<dyn Pool>,
    ) -> (Self, Handle) {
        Self::within(Surroundings::default(), config, broker, results, pool)
    }

    /// The same, with clock and randomness of the caller's.
    pub fn within(
        surroundings: Surroundings,
        config: WorkerConfig,
        broker: Arc<dyn Broker>,
        results: Option<Arc<dyn ResultStore>>,
        pool: Box<dyn Pool>,
    ) -> (Self, Handle) {
        let mut random = (surroundings.random)();
        let subscription = Subscription {
            queues: config.queues.clone(),
            declarations: config.declarations.clone(),
            order: config.queue_order,
            epoch: epoch::first(&config.hostname, random()),
            max_deliveries: config.max_deliveries,
        };
        let registry = Registry::new(&config.tasks, &config.accept_content);
        let limits: Vec<_> =
            registry.rate_limits().map(|l| l.filter(|_| !config.disable_rate_limits)).collect();
        let (total, revokes) = (vec![0; registry.len()], config.revokes);
        let (sender, commands) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let handle = Handle::new(sender, Arc::clone(&shared));
        let worker = Self {
            flush: Flush::new(Arc::clone(&broker), results, (surroundings.random)()),
            connection: Connection::new(broker, subscription, random),
            window: Window::new(config.prefetch, pool.slots(), config.prefetch_bytes),
            rates: Rates::new(limits),
            clock: surroundings.clock,
            registry,
            config,
            pool,
            commands,
            shared,
            inflight: Inflight::new(),
            eta: EtaHeap::new(),
            revoked: Revoked::new(revokes),
            revoked_stamps: Revoked::new(revokes),
            suspects: Suspects::default(),
            ready: VecDeque::new(),
            phase: Phase::Running,
            epoch: String::new(),
            lease: 0,
            renewed: 0,
            resubscribe: false,
            away: Away::default(),
            counts: Stats::default(),
            events: Events::default(),
            total,
            autoscale: None,
            counters: None,
            children_changed: true,
            scratch: Vec::new(),
        };
        (worker, handle)
    }

    /// With who composes what follows joins; without one, that is lost.
    #[must_use]
    pub fn composing(mut self, composer: Arc<dyn Composer>) -> Self {
        self.flush.set_composer(composer);
        self
    }

    /// With events for monitors, told over `broker`; without, there are none.
    #[must_use]
    pub fn telling(mut self, broker: Arc<dyn Broadcast>, options: EventOptions) -> Self {
        let (hostname, figures) = (&self.config.hostname, Arc::clone(&self.shared));
        self.events = Events::new(EventSender::new(broker, options, hostname, figures));
        self
    }

    /// Works until it is asked to stop. Must run inside a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// What the broker says at the first attempt if it can never work, and a pool that cannot go
    /// on.
    pub async fn run(mut self) -> Result<Stats> {
        let result = self.work().await;
        if result.is_err() {
            self.salvage().await;
        }
        self.leave().await;
        self.publish();
        self.events.close().await;
        result.map(|()| self.counts.clone())
    }

    async fn work(&mut self) -> Result<()> {
        let mut now = self.now();
        loop {
            let nap = self.nap();
            let news = tokio::select! {
                Some(command) = self.commands.recv() => News::Command(command),
                news = self.pool.news() => News::Pool(news),
                news = self.connection.news() => News::Connection(news),
                news = self.flush.news(now.mono) => News::Flush(news),
                () = tokio::time::sleep(nap.unwrap_or_default()), if nap.is_some() => News::Tick,
            };
            now = self.now();
            let step = match news {
                News::Command(command) => self.command(command, now),
                News::Pool(news) => {
                    self.pool_news(news?, now);
                    Step::Nothing
                }
                News::Connection(ConnectionNews::Fatal(error)) => return Err(error),
                News::Connection(news) => {
                    self.connection_news(news, now);
                    Step::Nothing
                }
                News::Flush(news) => {
                    self.flush_news(news, now);
                    Step::Nothing
                }
                News::Tick => Step::Nothing,
            };
            self.step(step).await;
            if self.turn(now).await? {
                return Ok(());
            }
        }
    }

    /// What follows from any news; whether the loop ends.
    async fn turn(&mut self, now: Now) -> Result<bool> {
        while let Some((due, key)) = self.eta.pop_due(now.wall_ms()) {
            if self.has_room() { self.admit(key, now) } else { self.defer(key, due) }
        }
        self.release_limited(now);
        if self.phase.works() {
            self.scale(now);
            if !self.is_overloaded() {
                self.dispatch(now)?;
                self.fetch();
            }
        } else {
            self.tell_the_rest(now)?;
            let at_pool = self.inflight.at_pool() + self.ready.len();
            let left = Left { at_pool, unsettled: self.flush.len() };
            let step = self.phase.turn(left, now.mono);
            if self.step(step).await {
                return Ok(true);
            }
        }
        let idle = self.inflight.claimed() == 0;
        // What is sent now would be lost to the consumer that is about to be made anew.
        let consumer = self.connection.consumer().filter(|_| !self.resubscribe);
        self.flush.kick(consumer, idle, now.mono);
        self.subscribe();
        self.events.flush();
        self.publish();
        Ok(false)
    }

    fn release_limited(&mut self, now: Now) {
        let mut released = std::mem::take(&mut self.scratch);
        self.rates.release(now.mono, &mut released);
        for key in released.drain(..) {
            self.make_ready(key);
        }
        self.scratch = released;
    }

    fn dispatch(&mut self, now: Now) -> Result<()> {
        let suspects = !self.suspects.is_empty();
        if (self.ready.is_empty() && !suspects) || !self.holds_lease(now) {
            return Ok(());
        }
        let mut room = self.pool.room();
        if suspects {
            room = self.try_suspects(room, now)?;
        }
        if room == 0 {
            return Ok(());
        }
        let out = dispatch::dispatch(&mut self.inflight, &mut self.ready, room, now.wall);
        for key in out.expired {
            self.expire(key, now);
        }
        if out.calls.is_empty() { Ok(()) } else { self.pool.submit(out.calls) }
    }

    /// Whether the window takes another request that may run. What comes due beyond it is another
    /// worker's to take.
    fn has_room(&self) -> bool {
        self.inflight.claimed() < self.window.size()
    }

    fn fetch(&mut self) {
        let suspects = self.window.want_suspects(self.held_suspects());
        let waits = self.config.awaits_revoked || self.config.queues.is_empty();
        if waits || !self.connection.can_fetch(suspects > 0) {
            return;
        }
        let claimed = self.inflight.claimed();
        let bytes = self.inflight.unstarted_bytes();
        let ready = self.window.want(Load { claimed, bytes, idle: claimed < self.most_slots() });
        // Never for scheduled messages alone: such a fetch would block with the window open later.
        if ready > 0 {
            let due = self.window.want_due(self.eta.len(), bytes);
            self.connection.fetch(Want { ready, suspects, due });
        }
    }

    /// How long nothing has to happen; `None` when only news can change anything.
    fn nap(&self) -> Option<Duration> {
        let now = self.now();
        let eta = self.eta.next_wake().map(|due| now.mono + (due * 1_000 - now.wall).max(0) as u64);
        let flush = self.flush.next_wake(self.connection.consumer().is_some());
        let scale = self.autoscale.and_then(|scaler| scaler.next_wake(self.pool.slots()));
        let wake = [eta, flush, self.rates.next_wake(), self.phase.next_wake(), scale]
            .into_iter()
            .flatten()
            .min()?;
        Some(Duration::from_micros(wake.saturating_sub(now.mono).min(NAP_US)))
    }

    fn now(&self) -> Now {
        (self.clock)()
    }

    fn patience(&self) -> Option<u64> {
        self.config.shutdown_timeout_ms.map(|ms| ms * 1_000)
    }

    fn publish(&mut self) {
        let at_pool = self.inflight.at_pool();
        let active = at_pool.min(self.pool.slots());
        let counts = &mut self.counts;
        counts.active = active;
        counts.reserved = self.inflight.claimed() - active + self.rates.len() + self.suspects.len();
        counts.scheduled = self.eta.len();
        counts.prefetch = self.window.size();
        counts.connected = self.connection.consumer().is_some();
        if std::mem::take(&mut self.children_changed) {
            counts.children = self.pool.pids();
        }
        self.shared.publish(|stats| stats.clone_from(counts));
    }
}

impl Drop for Worker {
    /// However the loop ends, also by a panic, nobody waits for it for ever.
    fn drop(&mut self) {
        self.shared.publish(|stats| stats.connected = false);
        self.shared.reach(Standing::Ended);
    }
}

/// A random number in `0..1` from the operating system; the middle when it has none to give.
fn random() -> f64 {
    getrandom::u64().map_or(0.5, |n| (n >> 11) as f64 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests;
