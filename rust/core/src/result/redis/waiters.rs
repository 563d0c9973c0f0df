//! The threads of a process that wait for results, and the one among them that reads for all.
//!
//! Of the threads that wait one is the *reader*: it has the subscribed connection and gives each
//! document that is pushed to the threads that want it. When its own has come another becomes the
//! reader. There is no thread of the library's own.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use redis::{Connection, PushKind, RedisResult, Value, cmd};

use super::{NOTICE, RedisResults, ResultStore, is_ready};
use crate::error::Result;

/// Connections kept for tasks with a channel of their own.
const IDLE_MAX: usize = 8;

/// The waiting threads of this process. Behind a std mutex because nobody blocks inside; the reader
/// takes the connection out while it reads.
#[derive(Default)]
pub(super) struct Waiting(Mutex<State>);

#[derive(Default)]
pub(super) struct State {
    /// Whether a thread is the reader.
    has_reader: bool,
    /// The subscribed connection, while no reader has it.
    pub(super) subscribed: Option<Connection>,
    /// Who waits for which task.
    waiters: HashMap<String, Vec<Arc<Waiter>>>,
    /// Connections for tasks with a channel of their own.
    pub(super) spare: Vec<Connection>,
}

/// A thread that waits.
#[derive(Default)]
pub(super) struct Waiter {
    news: Mutex<News>,
    changed: Condvar,
}

/// What happened to a waiter. Written by the reader, read by the waiter.
#[derive(Default)]
pub(super) struct News {
    pub(super) document: Option<Bytes>,
    /// The subscription is new: what was announced before it must be read.
    pub(super) reread: bool,
    /// No thread reads.
    promoted: bool,
}

impl Waiting {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put_spare(&self, mut con: Connection, channel: &str) {
        let mut leave = cmd("UNSUBSCRIBE");
        let left = con.send_packed_command(&leave.arg(channel).get_packed_command());
        let mut state = self.state();
        if left.is_ok() && state.spare.len() < IDLE_MAX {
            state.spare.push(con);
        }
    }

    /// Gives what a message carries to those who wait for it: documents, one per line, or the id of
    /// a task whose document is to be read.
    fn deliver(&self, message: &Bytes) {
        if let Some(id) = message.strip_prefix(NOTICE.encode_utf8(&mut [0; 4]).as_bytes()) {
            let id = String::from_utf8_lossy(id);
            for waiter in self.state().waiters.get(&*id).cloned().unwrap_or_default() {
                waiter.news().reread = true;
                waiter.changed.notify_one();
            }
            return;
        }
        for line in message.split(|byte| *byte == b'\n') {
            self.deliver_one(&message.slice_ref(line));
        }
    }

    fn deliver_one(&self, document: &Bytes) {
        let Some(id) = task_of(document).filter(|_| is_ready(document)) else { return };
        let waiters = self.state().waiters.get(&*id).cloned().unwrap_or_default();
        for waiter in waiters {
            waiter.news().document = Some(document.clone());
            waiter.changed.notify_one();
        }
    }

    /// Makes everybody who waits read the store.
    fn reread(&self) {
        let waiters: Vec<Arc<Waiter>> = self.state().waiters.values().flatten().cloned().collect();
        for waiter in waiters {
            waiter.news().reread = true;
            waiter.changed.notify_one();
        }
    }
}

/// A registered waiter, for as long as it lives.
pub(super) struct Entry<'a> {
    waiting: &'a Waiting,
    id: &'a str,
    pub(super) waiter: Arc<Waiter>,
}

impl<'a> Entry<'a> {
    pub(super) fn new(waiting: &'a Waiting, id: &'a str) -> Self {
        let waiter = Arc::new(Waiter::default());
        waiting.state().waiters.entry(id.to_owned()).or_default().push(Arc::clone(&waiter));
        Self { waiting, id, waiter }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut state = self.waiting.state();
        if let Some(waiters) = state.waiters.get_mut(self.id) {
            waiters.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
            if waiters.is_empty() {
                state.waiters.remove(self.id);
            }
        }
        // It may have been promoted when its own document had come already.
        if !state.has_reader {
            state.promote(None);
        }
    }
}

impl State {
    /// Wakes a waiter that becomes the reader, but not `leaving`, which is about to go.
    fn promote(&self, leaving: Option<&Arc<Waiter>>) {
        let stays = |waiter: &&Arc<Waiter>| leaving.is_none_or(|left| !Arc::ptr_eq(waiter, left));
        if let Some(next) = self.waiters.values().flatten().find(stays) {
            next.news().promoted = true;
            next.changed.notify_one();
        }
    }
}

impl Waiter {
    pub(super) fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until there is news, at most for a `pulse`.
    pub(super) fn block(&self, pulse: Duration) {
        let quiet = |news: &mut News| news.document.is_none() && !news.reread && !news.promoted;
        let waited = self.changed.wait_timeout_while(self.news(), pulse, quiet);
        waited.unwrap_or_else(PoisonError::into_inner).0.promoted = false;
    }
}

/// The right to read for all, held by one thread at a time.
pub(super) struct Reader<'a> {
    waiting: &'a Waiting,
    holder: Arc<Waiter>,
    con: Option<Connection>,
    /// What the socket's timeout is set to.
    pulse: Duration,
}

impl<'a> Reader<'a> {
    /// Makes the thread of `entry` the reader if there is none.
    pub(super) fn take(entry: &Entry<'a>) -> Option<Self> {
        let waiting = entry.waiting;
        let mut state = waiting.state();
        if std::mem::replace(&mut state.has_reader, true) {
            return None;
        }
        let holder = Arc::clone(&entry.waiter);
        Some(Self { waiting, holder, con: state.subscribed.take(), pulse: Duration::ZERO })
    }

    /// Subscribes to the process's reply channel when the connection is not up.
    pub(super) fn connect(&mut self, store: &RedisResults, deadline: Instant) -> Result<()> {
        if self.con.is_none() {
            let channel = store.reply_channel(store.reply_to());
            let mut con = store.server.connect_push(deadline)?;
            let left = store.server.time_left(deadline)?;
            subscribe(&mut con, &channel, left).map_err(|e| store.server.error("subscribe", e))?;
            self.con = Some(con);
            self.pulse = Duration::ZERO;
            self.waiting.reread();
        }
        Ok(())
    }

    /// Reads and delivers what is pushed, one message or for a `pulse`.
    pub(super) fn read(
        &mut self,
        store: &RedisResults,
        deadline: Instant,
        pulse: Duration,
    ) -> Result<()> {
        self.connect(store, deadline)?;
        let con = self.con.as_mut().expect("connected above");
        let read = if self.pulse == pulse { Ok(()) } else { con.set_read_timeout(Some(pulse)) }
            .and_then(|()| pushed(con));
        self.pulse = pulse;
        match read {
            Ok(message) => {
                if let Some((_, document)) = message {
                    self.waiting.deliver(&document);
                }
                Ok(())
            }
            Err(error) => {
                self.con = None;
                Err(store.server.error("wait for results", error))
            }
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let mut state = self.waiting.state();
        state.has_reader = false;
        state.subscribed = self.con.take();
        state.promote(Some(&self.holder));
    }
}

/// Subscribes and waits for the confirmation.
pub(super) fn subscribe(
    con: &mut Connection,
    channel: &str,
    patience: Duration,
) -> RedisResult<()> {
    con.set_read_timeout(Some(patience))?;
    con.send_packed_command(&cmd("SUBSCRIBE").arg(channel).get_packed_command())?;
    loop {
        if let Value::Push { kind: PushKind::Subscribe, data } =
            con.recv_response()?.extract_error()?
            && matches!(data.first(), Some(Value::BulkString(name)) if name == channel.as_bytes())
        {
            return Ok(());
        }
    }
}

/// The next message as channel and payload; `None` when the socket's timeout passed without one.
pub(super) fn pushed(con: &mut Connection) -> RedisResult<Option<(Vec<u8>, Bytes)>> {
    loop {
        match con.recv_response() {
            Ok(Value::Push { kind: PushKind::Message, data }) => {
                let mut data = data.into_iter();
                if let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
                    (data.next(), data.next())
                {
                    return Ok(Some((channel, payload.into())));
                }
            }
            Ok(other) => drop(other.extract_error()?),
            Err(error) if error.is_timeout() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// The task that a document belongs to.
pub(super) fn task_of(document: &[u8]) -> Option<Cow<'_, str>> {
    // Celery writes it last. An id with escapes, or a peer that orders its fields otherwise, takes
    // the long way.
    const FIELD: &[u8] = b"\"task_id\": \"";
    let short = document.strip_suffix(b"\"}").and_then(|head| {
        let start = head.windows(FIELD.len()).rposition(|window| window == FIELD)? + FIELD.len();
        let id = std::str::from_utf8(&head[start..]).ok()?;
        (!id.contains(['"', '\\'])).then_some(Cow::Borrowed(id))
    });
    short.or_else(|| {
        let document: serde_json::Value = serde_json::from_slice(document).ok()?;
        document.get("task_id")?.as_str().map(|id| Cow::Owned(id.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaving_reader_hands_over_to_somebody_who_stays() {
        let waiting = Waiting::default();
        for _ in 0..20 {
            let reader = Entry::new(&waiting, "reader");
            let reading = Reader::take(&reader).unwrap();
            let (second, third) = (Entry::new(&waiting, "b"), Entry::new(&waiting, "c"));
            assert!(Reader::take(&second).is_none());
            drop(reading);
            let promoted = |entry: &Entry<'_>| entry.waiter.news().promoted;
            assert!(promoted(&second) || promoted(&third), "not whoever leaves");
            drop(reader);
            let (heir, other) = if promoted(&second) { (second, third) } else { (third, second) };
            assert!(promoted(&heir));
            // It leaves without having looked.
            drop(heir);
            assert!(promoted(&other));
        }
    }

    #[test]
    fn documents_name_their_task() {
        let of = |document: &'static str| task_of(document.as_bytes()).map(Cow::into_owned);
        assert_eq!(of(r#"{"status": "SUCCESS", "task_id": "a-1"}"#).as_deref(), Some("a-1"));
        // A result that looks like the field; an escaped id; another order.
        let nested = r#"{"status": "SUCCESS", "result": {"task_id": "no"}, "task_id": "yes"}"#;
        assert_eq!(of(nested).as_deref(), Some("yes"));
        assert_eq!(
            of(r#"{"result": "\"task_id\": \"no", "task_id": "a\"b"}"#).as_deref(),
            Some("a\"b")
        );
        assert_eq!(of(r#"{"task_id":"a","result":{"task_id": "no"}}"#).as_deref(), Some("a"));
        assert_eq!(of(r#"{"task_id":"a","result":"x"}"#).as_deref(), Some("a"));
        for bad in ["", "{}", "[1]", "\"}", r#"{"task_id": 1}"#] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
