//! Storing batches from the worker.
//!
//! A few records are one script and one round trip, because somebody waits for them. For many the
//! server's time counts, and a script spends more of it on carrying arguments in and out than the
//! commands themselves take: so they are bare `SET NX`, with the question who listens behind them
//! ([`listeners`](super::listeners)), and then one announcement for each client that does, with all
//! of its documents, and one for each task that somebody else waits for. A record whose key exists
//! goes through the script, which knows which state yields to which. Everything may be sent again:
//! what is stored already, word for word, is announced again.
//!
//! A server whose memory is full takes small records all the same: as long as none is stored, no
//! message is acknowledged, so that the memory of none comes free.

use std::{collections::HashMap, sync::LazyLock};

use redis::{Cmd, Pipeline, RedisError, RedisResult, Script, Value, aio::ConnectionLike, cmd};

use super::{
    NOTICE, RedisResults,
    listeners::{Listeners, Question},
};
use crate::{
    error::{Error, ErrorKind, Result},
    redis_connection::{Multiplexed, is_full},
    result::{
        REPLY_PREFIX, Record, Stored,
        encoded::{is_json, state_of},
    },
};

/// So many records are stored by the script.
const FEW: usize = 8;
/// Records per pipeline.
const PIECE: usize = 2_000;
/// Bytes per pipeline and per announcement: less than any server's `proto-max-bulk-len`.
const PIECE_BYTES: usize = 512 << 10;
/// A document of more bytes is stored alone, and its client is told to read it: pushing it would
/// send it over the link twice, and a server cuts off subscribers that have much before them.
const LARGE: usize = 64 << 10;
/// A document of at most so many bytes is stored although the server's memory is full. The message
/// whose acknowledgement waits for it frees half a kilobyte at least, so at most the other half is
/// added for each message in the queues, and nothing can be published meanwhile. What most tasks
/// return takes 200 bytes, an exception with its traceback 600.
const SMALL: usize = 1 << 10;

static STORE: LazyLock<Script> = LazyLock::new(|| Script::new(SOURCE));
const SOURCE: &str = include_str!("store.lua");

/// What [`STORE`] replies, with numbers from 1: the keys that hold a value of another type, and those
/// whose documents it cannot judge.
pub(super) type Reply = (Vec<usize>, Vec<(usize, Vec<u8>)>);

/// Records on their way through [`STORE`], each with the document that it certainly replaces; empty for
/// most.
pub(super) struct Pending<'a> {
    left: Vec<(usize, &'a Record, Vec<u8>)>,
    refused: Vec<usize>,
}

impl<'a> Pending<'a> {
    pub(super) fn new(records: impl Iterator<Item = &'a Record>) -> Self {
        let left = records.enumerate().map(|(n, record)| (n, record, Vec::new())).collect();
        Self { left, refused: Vec::new() }
    }

    /// Takes a reply. What the script could not judge is judged here, and left if it is to be stored in
    /// the place of what was found; a document that has changed since comes back once more.
    fn answered(&mut self, (foreign, unseen): Reply) {
        let left = std::mem::take(&mut self.left);
        self.refused.extend(foreign.into_iter().map(|n| left[n - 1].0));
        for (n, found) in unseen {
            let (index, record, _) = left[n - 1];
            if state_of(&found).is_none_or(|state| state.yields_to(&record.state)) {
                self.left.push((index, record, found));
            }
        }
    }
}

/// Makes the server know the script.
pub(super) fn load() -> Cmd {
    let mut load = cmd("SCRIPT");
    load.arg("LOAD").arg(SOURCE);
    load
}

impl RedisResults {
    /// Stores a batch over the worker's connection.
    pub(super) async fn store_all(&self, batch: &[Record]) -> Result<Stored> {
        let mut stored = Stored::default();
        let mut first = 0;
        for piece in pieces(batch) {
            let mut con = self.connection().await?;
            let result = if piece.len() > FEW {
                self.store_many(&mut con, piece).await
            } else {
                self.store_few(&mut con, piece).await
            };
            let result = match result {
                Err(error) if is_full(&error) => {
                    self.store_small(&mut con, (first, piece), error, &mut stored.later).await
                }
                done => done,
            };
            let failed = result.map(|foreign| {
                let refused = |n: usize| (first + n, self.foreign(&piece[n].id));
                stored.refused.extend(foreign.into_iter().map(refused));
            });
            if let Err(error) = failed.map_err(|e| self.server.error("store results", e)) {
                if error.kind() != ErrorKind::Storage {
                    self.disconnect();
                }
                if error.kind() != ErrorKind::TooLarge || piece.len() > 1 {
                    return Err(error);
                }
                stored.refused.push((first, error));
            }
            first += piece.len();
        }
        Ok(stored)
    }

    /// The key of a task holds a value of another type.
    pub(super) fn foreign(&self, id: &str) -> Error {
        let (key, url) = (self.key(id), self.server.url());
        let text = format!(
            "the key `{key}` at redis `{url}` holds a value of another type, which another program must have put there; delete it"
        );
        Error::new(ErrorKind::Storage, text)
    }

    /// The call that stores records of one time to live; `full` although the memory of the server is.
    fn store_call(&self, pending: &Pending<'_>, full: bool) -> Cmd {
        let records = || pending.left.iter().map(|(_, record, _)| *record);
        let count = pending.left.len();
        let bytes = records().map(|record| record.document.len() + 128).sum::<usize>();
        let mut call = Cmd::with_capacity(count * 6 + 5, bytes + 64);
        call.arg("EVALSHA").arg(STORE.get_hash()).arg(count);
        for record in records() {
            call.arg(self.key(&record.id));
        }
        match records().next().and_then(|record| record.expires_ms) {
            Some(ms) => call.arg(ms.max(1)),
            None => call.arg(""),
        };
        for (_, record, replaced) in &pending.left {
            call.arg(&*record.document);
            match client(record) {
                Some(to) => call.arg(self.reply_channel(to)),
                None => call.arg(""),
            };
            if record.document.len() > LARGE || !is_json(&record.document) {
                call.arg(format!("{NOTICE}{}", record.id));
            } else {
                call.arg("");
            }
            call.arg(u8::from(record.state.is_ready())).arg(&**replaced);
        }
        if full {
            call.arg("full");
        }
        call
    }

    /// Stores one record, blocking; whether it is refused.
    pub(super) fn store_one(&self, record: &Record) -> Result<bool> {
        self.pool.repeat("store a result", Self::soon(), |lease| {
            let mut pending = Pending::new(std::iter::once(record));
            while !pending.left.is_empty() {
                let call = self.store_call(&pending, false);
                let reply: Reply = match call.query(&mut lease.con) {
                    Err(error) if error.code() == Some("NOSCRIPT") => {
                        load().exec(&mut lease.con)?;
                        call.query(&mut lease.con)?
                    }
                    done => done?,
                };
                pending.answered(reply);
            }
            Ok(!pending.refused.is_empty())
        })
    }

    /// Stores records by the script; which of them are refused.
    async fn store_few(&self, con: &mut Multiplexed, piece: &[Record]) -> RedisResult<Vec<usize>> {
        self.run(con, Pending::new(piece.iter()), false).await
    }

    /// Stores the small records of a piece although the memory of the server is full, as `error`
    /// says; which of them are refused. The others are added to `later`.
    async fn store_small(
        &self,
        con: &mut Multiplexed,
        (first, piece): (usize, &[Record]),
        error: RedisError,
        later: &mut Vec<(usize, Error)>,
    ) -> RedisResult<Vec<usize>> {
        let is_small = |n: &usize| piece[*n].document.len() <= SMALL;
        let (small, large): (Vec<_>, Vec<_>) = (0..piece.len()).partition(is_small);
        let full = |n: usize| (first + n, self.server.error("store a result", error.clone()));
        later.extend(large.into_iter().map(full));
        if small.is_empty() {
            return Ok(Vec::new());
        }
        let pending = Pending::new(small.iter().map(|n| &piece[*n]));
        let refused = self.run(con, pending, true).await?;
        Ok(refused.into_iter().map(|n| small[n]).collect())
    }

    async fn run(
        &self,
        con: &mut Multiplexed,
        mut pending: Pending<'_>,
        full: bool,
    ) -> RedisResult<Vec<usize>> {
        while !pending.left.is_empty() {
            let call = self.store_call(&pending, full);
            let mut reply: RedisResult<Reply> = call.query_async(con).await;
            if reply.as_ref().is_err_and(|e| e.code() == Some("NOSCRIPT")) {
                load().exec_async(con).await?;
                reply = call.query_async(con).await;
            }
            pending.answered(reply?);
        }
        Ok(pending.refused)
    }

    /// Stores records by bare commands; which of them are refused.
    async fn store_many(&self, con: &mut Multiplexed, piece: &[Record]) -> RedisResult<Vec<usize>> {
        let (ask, question) = self.asking(piece);
        let mut replies = con.req_packed_commands(&ask, 0, ask.len()).await?.into_iter();
        let (mut new, mut old) = (Vec::with_capacity(piece.len()), Vec::new());
        for (index, reply) in replies.by_ref().take(piece.len()).enumerate() {
            match reply.extract_error()? {
                Value::Nil => old.push(index),
                _ => new.push(index),
            }
        }
        let listeners = self.listeners(question, replies);
        let say = self.saying(piece, &new, &listeners);
        if !say.is_empty() {
            let replies = con.req_packed_commands(&say, 0, say.len()).await?;
            replies.into_iter().try_for_each(|reply| reply.extract_error().map(drop))?;
        }
        if old.is_empty() {
            return Ok(Vec::new());
        }
        let pending = Pending::new(old.iter().map(|&n| &piece[n]));
        let refused = self.run(con, pending, false).await?;
        Ok(refused.into_iter().map(|n| old[n]).collect())
    }

    /// Stores what is new, and asks who listens.
    fn asking<'a>(&self, piece: &'a [Record]) -> (Pipeline, Question<'a>) {
        let mut ask = Pipeline::with_capacity(piece.len() + 4);
        for record in piece {
            let key = self.key(&record.id);
            let mut set = Cmd::with_capacity(6, key.len() + record.document.len() + 24);
            set.arg("SET").arg(key).arg(&*record.document);
            if let Some(ms) = record.expires_ms {
                set.arg("PX").arg(ms.max(1));
            }
            set.arg("NX");
            ask.add_command(set);
        }
        let question = self.ask_listeners(&mut ask, piece);
        (ask, question)
    }

    /// Announces the records that are new.
    fn saying(&self, piece: &[Record], new: &[usize], listeners: &Listeners<'_>) -> Pipeline {
        let mut say = Pipeline::new();
        let mut clients: HashMap<&str, Vec<u8>> = HashMap::new();
        for &index in new {
            let record = &piece[index];
            if listeners.has_task(index, || self.key(&record.id)) {
                say.cmd("PUBLISH").arg(self.key(&record.id)).arg(&*record.document);
            }
            if let Some(to) = client(record).filter(|to| listeners.has_client(to)) {
                if !is_json(&record.document) {
                    // It has no lines of its own to be told apart by.
                    let notice = format!("{NOTICE}{}", record.id);
                    say.cmd("PUBLISH").arg(self.reply_channel(to)).arg(notice);
                    continue;
                }
                let documents = clients.entry(to).or_default();
                if !documents.is_empty() {
                    documents.push(b'\n');
                }
                documents.extend_from_slice(&record.document);
            }
        }
        for (to, documents) in clients {
            say.cmd("PUBLISH").arg(self.reply_channel(to)).arg(documents);
        }
        say
    }
}

/// The taskcore client that waits for this record: for the end of its task.
pub(super) fn client(record: &Record) -> Option<&str> {
    let to = record.reply_to.as_deref()?;
    (record.state.is_ready() && to.starts_with(REPLY_PREFIX)).then_some(to)
}

/// Cuts a batch into pieces of one time to live, and not too much; a large record is one of its
/// own.
fn pieces(mut batch: &[Record]) -> impl Iterator<Item = &[Record]> {
    std::iter::from_fn(move || {
        let first = batch.first()?;
        let mut bytes = 0;
        let fits = batch.iter().take(PIECE).take_while(|record| {
            bytes += record.document.len();
            record.expires_ms == first.expires_ms
                && record.document.len() <= LARGE
                && bytes <= PIECE_BYTES
        });
        let (piece, rest) = batch.split_at(fits.count().max(1));
        batch = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::result::State;

    fn record(bytes: usize) -> Record {
        Record {
            id: "i".into(),
            state: State::Success,
            document: Bytes::from(vec![b'x'; bytes]),
            reply_to: None,
            expires_ms: None,
            member: None,
        }
    }

    #[test]
    fn batches_are_cut_by_count_bytes_and_expiry() {
        let sizes = |batch: &[Record]| pieces(batch).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&vec![record(10); 4_500]), [2_000, 2_000, 500]);
        assert_eq!(sizes(&[record(0), record(0), record(LARGE)]), [3]);
        assert_eq!(
            sizes(&[record(LARGE + 1), record(1), record(LARGE + 1), record(1), record(1)]),
            [1, 1, 1, 2]
        );
        assert_eq!(sizes(&vec![record(LARGE); 9]), [8, 1]);
        let short = Record { expires_ms: Some(1), ..record(1) };
        assert_eq!(sizes(&[record(1), short.clone(), short]), [1, 2]);
    }
}
