//! Joins: groups and chords whose members are counted where their results are stored.
//!
//! A join is declared with its size, before the last of its members is published, so that it cannot be
//! complete by then; what is to be published when all have ended is carried by the message of each
//! member. Each stored [`Record`](super::Record) may say which member of which join its task is;
//! storing a batch answers which joins it completed. What a member ended with does not matter for
//! that: a chord whose member failed is decided when the last one has ended, as Celery's is, by
//! whoever reads the members in order.
//!
//! * **A member counts once**, by its id and index, however often its result is stored; the first
//!   result stands.
//! * **A join completes once.** The answer is a claim: whoever gets it publishes what follows and
//!   then closes the join, after which nothing completes it again. A claim that is not closed lapses
//!   after [`CLAIM_MS`], and the next record of any member is answered instead, so the body of a
//!   chord outlives the worker that was to publish it. The same record stored again, because the
//!   answer to the first attempt was lost, gets the same answer. A member of a join that another has
//!   claimed is named in [`Stored::claimed`](super::Stored::claimed): its message is not settled
//!   before the join is closed, so that somebody can take over.
//! * **Size and members come in any order**, up to the last member. While a member runs, more may be
//!   added to its join.
//! * A join lives as long as results do, counted from the last thing that happened to it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::State;
use crate::{
    clock::Millis,
    error::{Error, ErrorKind, Result},
    future::BoxFuture,
    message::pyjson,
};

/// How long a completed join waits for whoever was told of it.
pub const CLAIM_MS: u64 = 5_000;
/// How long a join that was closed is remembered, where nothing else says that it was.
pub const DONE_MS: u64 = 300_000;
/// How long a join is kept whose size nobody has declared, where results are kept for ever.
pub const UNDECLARED_MS: u64 = 86_400_000;

/// A join to be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Id of the group.
    pub id: String,
    /// How many members it has, or how many more.
    pub size: u64,
    /// Time to live in milliseconds; `None` keeps it.
    pub expires_ms: Option<u64>,
}

/// Which member of a join the task of a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Id of the group.
    pub group: String,
    /// Its place in it; `None` is behind all others.
    pub index: Option<i64>,
    /// In whose name the join is claimed if this member completes it. One for each execution, so
    /// that the same record is known when it is stored again.
    pub token: String,
    /// The message that says what follows the join. No store reads it: it is for whoever stores the
    /// record and is told that the join is complete.
    pub message: Bytes,
    /// How it ended, as Celery writes a member, where results are not in JSON.
    pub encoded: Option<Bytes>,
}

impl Member {
    /// Member `index` of `group`.
    pub fn new(group: &str, index: Option<i64>) -> Self {
        Self {
            group: group.to_owned(),
            index,
            token: token(),
            message: Bytes::new(),
            encoded: None,
        }
    }
}

/// A join that is complete, and the claim to publish what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinClaim {
    /// Id of the group.
    pub id: String,
    /// The claim.
    pub token: String,
}

/// How one member ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberEnd {
    /// Task id.
    pub id: String,
    /// A ready state.
    pub state: State,
    /// JSON, as in the result document; or what [`encoded`](super::encoded) marks.
    pub result: Bytes,
}

/// What a result store promises about joins.
pub trait Joins: Send + Sync {
    /// Declares a join; blocking. One that has all its members is answered to whoever stores one of
    /// them once more, so this comes before the last of them is published. A join of that id that was
    /// closed begins anew.
    fn declare(&self, join: &Join) -> Result<()>;

    /// Has a join wait for `more.size` members beyond its declared size; blocking. Called while one of
    /// its members runs; nothing happens when it is closed.
    fn extend(&self, more: &Join) -> Result<()>;

    /// How the members of a join that have ended did, in the order of their places; blocking. None
    /// when it is closed or has expired.
    ///
    /// # Errors
    /// `TooLarge` when the results of those that succeeded have more bytes than `most` in all.
    fn members(&self, id: &str, most: usize) -> Result<Vec<MemberEnd>>;

    /// Has a claim last from now on, blocking; whether it stands. One that has lapsed does, unless
    /// another has claimed the join meanwhile or has closed it.
    fn renew(&self, joined: &JoinClaim) -> Result<bool>;

    /// What follows a join is published: it never completes again, and its members are forgotten.
    /// Nothing happens when the claim has lapsed and is another's.
    fn close<'a>(&'a self, joined: &'a JoinClaim) -> BoxFuture<'a, Result<()>>;

    /// What follows a join could not be published: the next record of any member is answered.
    fn reopen<'a>(&'a self, joined: &'a JoinClaim) -> BoxFuture<'a, Result<()>>;
}

/// How much the results of a join may take.
pub(super) struct Size {
    left: usize,
    most: usize,
}

impl Size {
    pub(super) fn new(most: usize) -> Self {
        Self { left: most, most }
    }

    /// Counts one result. An exception is none: it is not passed on.
    ///
    /// # Errors
    /// `TooLarge` when there is no room for it.
    pub(super) fn add(&mut self, ended: &MemberEnd) -> Result<()> {
        if ended.state != State::Success {
            return Ok(());
        }
        let left = self.left.checked_sub(ended.result.len());
        self.left = left.ok_or_else(|| {
            let text = format!(
                "the results take more than `{}` bytes together; have the tasks store them elsewhere and return where they are",
                self.most
            );
            Error::new(ErrorKind::TooLarge, text)
        })?;
        Ok(())
    }
}

/// Text that nobody else has.
pub(super) fn token() -> String {
    super::fresh_reply_id()
}

/// The parts of a JSON array, or the values of an object's `result`, as they are written.
///
/// # Errors
/// `Decode` for anything else.
pub(super) fn items(array: &[u8]) -> Result<Vec<&[u8]>> {
    let broken = || Error::new(ErrorKind::Decode, "a member of a join is no JSON array");
    let mut rest = array.trim_ascii().strip_prefix(b"[").ok_or_else(broken)?;
    let mut items = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        let length = pyjson::value_length(rest).ok_or_else(broken)?;
        let (item, after) = rest.split_at(length);
        items.push(item.trim_ascii());
        rest = match after.trim_ascii_start() {
            [b',', rest @ ..] => rest,
            [b']'] => return Ok(items),
            _ => return Err(broken()),
        };
    }
}

/// The result inside a document of Celery's, as JSON; `null` when there is none.
pub(super) fn result_of(document: &[u8], state: &State) -> Bytes {
    // Every document of a worker begins so.
    let head = format!("{{\"status\": \"{}\", \"result\": ", state.as_str());
    let rest = document.strip_prefix(head.as_bytes());
    let result = rest.and_then(|rest| Some(&rest[..pyjson::value_length(rest)?]));
    Bytes::copy_from_slice(result.unwrap_or(b"null").trim_ascii())
}

/// A join in memory, and what the other adapters do in their servers' languages.
#[derive(Debug, Default)]
pub(super) struct Counter {
    size: Option<u64>,
    added: u64,
    /// By place and task id.
    members: BTreeMap<(i64, String), MemberEnd>,
    /// In whose name it is claimed, and until when.
    claim: Option<(String, Millis)>,
    closed: bool,
    expires: Option<Millis>,
}

impl Counter {
    pub(super) fn is_alive(&self, now: Millis) -> bool {
        self.expires.is_none_or(|at| now < at)
    }

    pub(super) fn declare(&mut self, join: &Join, now: Millis) {
        if self.closed {
            *self = Self::default();
        }
        self.size = Some(join.size);
        self.expires = join.expires_ms.map(|ms| now.saturating_add_unsigned(ms));
    }

    pub(super) fn extend(&mut self, more: &Join, now: Millis) {
        if !self.closed {
            self.added += more.size;
            let expires = more.expires_ms.map(|ms| now.saturating_add_unsigned(ms));
            self.expires = self.lives(expires, now);
        }
    }

    /// How long it lives: for ever only when its size is known.
    fn lives(&self, expires: Option<Millis>, now: Millis) -> Option<Millis> {
        expires.or(match self.size {
            Some(_) => None,
            None => Some(now + UNDECLARED_MS as Millis),
        })
    }

    /// Counts a member; whose claim the join is when it is complete.
    pub(super) fn count(
        &mut self,
        member: &Member,
        ended: MemberEnd,
        expires: Option<Millis>,
        now: Millis,
    ) -> Option<JoinClaim> {
        if self.closed {
            return None;
        }
        self.expires = self.lives(expires, now);
        let place = (member.index.unwrap_or(i64::MAX), ended.id.clone());
        self.members.entry(place).or_insert(ended);
        self.claim(&member.group, &member.token, now)
    }

    pub(super) fn members(&self, most: usize) -> Result<Vec<MemberEnd>> {
        let mut size = Size::new(most);
        self.members.values().map(|one| size.add(one).map(|()| one.clone())).collect()
    }

    pub(super) fn close(&mut self, token: &str) {
        if self.claim.take_if(|(owner, _)| owner == token).is_some() {
            *self = Self { closed: true, expires: self.expires, ..Self::default() };
        }
    }

    pub(super) fn renew(&mut self, token: &str, now: Millis) -> bool {
        if self.closed || self.claim.as_ref().is_some_and(|(owner, _)| owner != token) {
            return false;
        }
        self.claim = Some((token.to_owned(), now + CLAIM_MS as Millis));
        true
    }

    pub(super) fn reopen(&mut self, token: &str) {
        self.claim.take_if(|(owner, _)| owner == token);
    }

    fn claim(&mut self, id: &str, token: &str, now: Millis) -> Option<JoinClaim> {
        if self.size.map(|size| size + self.added) != Some(self.members.len() as u64) {
            return None;
        }
        if let Some((owner, until)) = &self.claim
            && owner != token
            && now < *until
        {
            return Some(JoinClaim { id: id.to_owned(), token: owner.clone() });
        }
        self.claim = Some((token.to_owned(), now + CLAIM_MS as Millis));
        Some(JoinClaim { id: id.to_owned(), token: token.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_found_in_its_document() {
        for result in [
            "5",
            "\"a, \\\"b\\\"]\"",
            "[1, {\"x\": [2]}]",
            "null",
            "-1.5e3",
            "true",
            // As Python writes them.
            "NaN",
            "[1, -Infinity, {\"x\": NaN}]",
        ] {
            let document = format!("{{\"status\": \"SUCCESS\", \"result\": {result}, \"x\": 1}}");
            assert_eq!(result_of(document.as_bytes(), &State::Success), result);
            let array = format!("[1, \"id\", \"SUCCESS\", {result}]");
            assert_eq!(items(array.as_bytes()).expect("an array")[3], result.as_bytes());
        }
        assert_eq!(result_of(b"{}", &State::Success), "null");
        for broken in ["", "[", "[1", "[1 2]", "{}", "[1]]", "[1,]"] {
            assert!(items(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_claim_lapses() {
        let mut counter = Counter::default();
        counter.declare(&Join { id: "g".to_owned(), size: 1, expires_ms: None }, 0);
        let result = Bytes::from_static(b"1");
        let ended = MemberEnd { id: "t".to_owned(), state: State::Success, result };
        let mut count = |now| {
            let member = Member::new("g", Some(0));
            let joined = counter.count(&member, ended.clone(), None, now).expect("it is complete");
            joined.token == member.token
        };
        assert!(count(0));
        assert!(!count(CLAIM_MS as Millis - 1));
        assert!(count(CLAIM_MS as Millis));
    }
}
