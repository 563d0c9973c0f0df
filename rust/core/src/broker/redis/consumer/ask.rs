//! One round of questions to the server, in as few trips as the answers allow: is there anything in
//! these lists, claim from these lanes, what is scheduled there and comes due.
//!
//! What is looked at the server watches from then on: the connection is in tracking mode (`CLIENT
//! TRACKING`), in which the server tells it once when a key that it has read changes, whoever
//! changes it. Only reads that are announced (`OPTIN`) count, so the scripts, which read a lot, go
//! over the same connection.

use std::{sync::Arc, time::Duration};

use redis::{Pipeline, Value, aio::ConnectionLike, cmd, pipe};

use super::session::{Served, Session};
use crate::{
    broker::{
        Delivery, HORIZON_MS, Want,
        redis::{
            keys::{BUCKET_MS, STEPS},
            scripts::{BUCKETS, CLAIM, DUE},
        },
    },
    clock::Millis,
    error::Result,
    redis_connection::Multiplexed,
};

const WHAT: &str = "claim messages";
/// Messages per script: a bound on how long the server serves nobody else, and on the arguments of
/// one Lua call.
const MOST: usize = 1_000;
/// Bytes per script, unless one message is larger: half a second over 16 Mbit/s, in which other
/// work gets its turn.
const ROOM: usize = 1 << 20;
/// Buckets of a lane's due set per script.
const LISTED: usize = 64;

/// What is to be asked.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// How many messages.
    pub(super) want: Want,
    /// Lanes out of which ready ones are claimed, in the order of service.
    pub(super) claim: Vec<usize>,
    /// Whether the lanes of a priority share what is claimed.
    pub(super) shared: bool,
    /// Keys of lists to be looked at.
    pub(super) look: Vec<String>,
    /// Lanes where scheduled ones are known to come due now.
    pub(super) due: Vec<usize>,
    /// And out of these, if the key of their due set exists.
    pub(super) look_due: Vec<(usize, String)>,
}

/// What was answered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Whether something is in the lists that were looked at.
    pub(super) found: bool,
    /// In the order in which they are to be served, queues that share mixed.
    pub(super) ready: Vec<Delivery>,
    /// The lane that gave the last of them.
    pub(super) last: Option<usize>,
    /// Those of the named lanes that hold nothing more, but for suspects; and those that hold no
    /// suspects any more.
    pub(super) emptied: Vec<usize>,
    pub(super) cleared: Vec<usize>,
    pub(super) scheduled: Vec<Delivery>,
    /// How long until more of a lane's due set may be claimed, if there is more.
    pub(super) next: Vec<(usize, Option<Duration>)>,
    /// Keys of another type, with the error.
    pub(super) broken: Vec<(String, String)>,
}

impl Questions {
    pub(super) fn is_empty(&self) -> bool {
        self.claim.is_empty()
            && self.look.is_empty()
            && self.due.is_empty()
            && self.look_due.is_empty()
    }
}

/// A connection that asks.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) session: Arc<Session>,
    pub(super) con: Multiplexed,
    /// Whether the server agreed to tell of changes.
    pub(super) tracked: bool,
}

impl Asker {
    pub(super) async fn ask(mut self, questions: Questions) -> Result<Answers> {
        let mut answers = Answers::default();
        let (want, want_due) = (questions.want.ready.min(MOST), questions.want.due.min(MOST));
        let first = self.session.ledger.claim((want + want_due) as u64);
        let mut commands = pipe();
        if !questions.look.is_empty() {
            self.look(&mut commands, questions.look.iter().map(String::as_str));
        }
        if !questions.look_due.is_empty() {
            self.look(&mut commands, questions.look_due.iter().map(|(_, key)| key.as_str()));
        }
        if !questions.claim.is_empty() {
            self.claim(&mut commands, &questions, want, first);
        }
        let mut replies = self.run(commands).await?.into_iter();
        if !questions.look.is_empty() {
            answers.found = self.session.read::<u64>(WHAT, replies.next())? > 0;
        }
        let mut due = questions.due;
        if !questions.look_due.is_empty() {
            let found = self.session.read::<u64>(WHAT, replies.next())? > 0;
            let looked = questions.look_due.iter().map(|(lane, _)| *lane);
            if found {
                due.extend(looked);
            } else {
                answers.next.extend(looked.map(|lane| (lane, None)));
            }
        }
        if !questions.claim.is_empty() {
            self.claimed(replies.next(), &questions.claim, questions.shared, first, &mut answers)?;
        }
        if !due.is_empty() {
            self.due(&due, want_due, first + want as u64, &mut answers).await?;
        }
        self.session.ledger.claimed(first);
        Ok(answers)
    }

    /// Sends the commands; the replies without those that only announce.
    async fn run(&mut self, commands: Pipeline) -> Result<Vec<Value>> {
        let count = commands.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let failed = |e| self.session.server.error(WHAT, e);
        let replies = self.con.req_packed_commands(&commands, 0, count).await.map_err(failed)?;
        let replies = replies.into_iter().map(|reply| reply.extract_error().map_err(failed));
        replies.filter(|reply| !matches!(reply, Ok(Value::Okay))).collect()
    }

    /// Adds the question how many of these keys exist.
    fn look<'a>(&self, commands: &mut Pipeline, keys: impl Iterator<Item = &'a str>) {
        if self.tracked {
            commands.cmd("CLIENT").arg("CACHING").arg("YES");
        }
        let mut exists = cmd("EXISTS");
        for key in keys {
            exists.arg(key);
        }
        commands.add_command(exists);
    }

    fn claim(&self, commands: &mut Pipeline, questions: &Questions, want: usize, first: u64) {
        let lanes = || questions.claim.iter().map(|lane| &self.session.lanes[*lane]);
        let keys: Vec<&str> = lanes()
            .flat_map(|s| [&*s.lane.list, &*s.redelivered, &*s.overdue, &*s.unacked])
            .collect();
        let mut call = CLAIM.call(&keys);
        call.arg(self.session.number)
            .arg(want)
            .arg(questions.want.suspects)
            .arg(ROOM)
            .arg(first)
            .arg(u8::from(questions.shared));
        for served in lanes() {
            call.arg(STEPS[served.step]);
        }
        commands.add_command(call);
    }

    /// Reads `{ emptied, cleared, errors, { lane, { message, ... } }, ... }`; the messages are numbered from
    /// `first`.
    fn claimed(
        &self,
        reply: Option<Value>,
        named: &[usize],
        shared: bool,
        first: u64,
        answers: &mut Answers,
    ) -> Result<()> {
        let session = &self.session;
        let mut groups = session.read::<Vec<Value>>(WHAT, reply)?.into_iter();
        let mut lanes = || -> Result<Vec<usize>> {
            let lanes: Vec<usize> = session.read(WHAT, groups.next())?;
            Ok(lanes.into_iter().filter_map(|at| named.get(at).copied()).collect())
        };
        (answers.emptied, answers.cleared) = (lanes()?, lanes()?);
        self.broken(session.read(WHAT, groups.next())?, answers)?;
        let groups = self.groups(groups, first, |at| named.get(at).copied())?;
        answers.ready = mixed(groups, shared, |lane| session.lanes[lane].step, &mut answers.last);
        Ok(())
    }

    /// Reads `{ lane, { message, ... } }` groups; what a lane gave in several of them is put
    /// together.
    fn groups(
        &self,
        groups: impl Iterator<Item = Value>,
        first: u64,
        lane: impl Fn(usize) -> Option<usize>,
    ) -> Result<Vec<(usize, Vec<Delivery>)>> {
        let mut found: Vec<(usize, Vec<Delivery>)> = Vec::new();
        let mut seq = first;
        for group in groups {
            let (at, messages): (usize, Vec<Value>) = self.session.read(WHAT, Some(group))?;
            let Some(lane) = lane(at) else { continue };
            let served = &self.session.lanes[lane];
            let position =
                found.iter().position(|(other, _)| *other == lane).unwrap_or_else(|| {
                    found.push((lane, Vec::with_capacity(messages.len())));
                    found.len() - 1
                });
            for message in messages {
                let Value::BulkString(raw) = message else {
                    return Err(self.session.nonsense(WHAT, &message));
                };
                found[position].1.push(served.delivery(seq, raw.into()));
                seq += 1;
            }
        }
        Ok(found)
    }

    /// Claims what comes due in these lanes.
    async fn due(
        &mut self,
        lanes: &[usize],
        want: usize,
        first: u64,
        answers: &mut Answers,
    ) -> Result<()> {
        let keys: Vec<&str> =
            lanes.iter().map(|lane| self.session.lanes[*lane].due.as_str()).collect();
        let mut commands = pipe();
        commands.add_command(BUCKETS.call(&keys).arg(LISTED).take());
        let reply = self.run(commands).await?.pop();
        let buckets = self.buckets(reply, lanes, answers)?;
        if buckets.is_empty() || want == 0 {
            return Ok(());
        }
        let mut keys = Vec::with_capacity(buckets.len() * 3);
        for (lane, begin) in &buckets {
            let Served { lane, unacked, due, .. } = &self.session.lanes[*lane];
            keys.extend([due.clone(), unacked.clone(), lane.bucket(*begin)]);
        }
        let mut call = DUE.call(&keys);
        call.arg(self.session.number).arg(want).arg(ROOM).arg(first);
        for (lane, begin) in &buckets {
            call.arg(*lane).arg(*begin);
        }
        let mut commands = pipe();
        commands.add_command(call);
        let reply = self.run(commands).await?.pop();
        let mut groups = self.session.read::<Vec<Value>>(WHAT, reply)?.into_iter();
        let left: u8 = self.session.read(WHAT, groups.next())?;
        self.broken(self.session.read(WHAT, groups.next())?, answers)?;
        let groups =
            self.groups(groups, first, |lane| (lane < self.session.lanes.len()).then_some(lane))?;
        answers.scheduled = groups.into_iter().flat_map(|(_, messages)| messages).collect();
        if left > 0 {
            for (lane, next) in &mut answers.next {
                if buckets.iter().any(|(of, _)| of == lane) {
                    *next = Some(Duration::ZERO);
                }
            }
        }
        Ok(())
    }

    /// Notes the keys of another type in a flat list of keys and errors.
    fn broken(&self, flat: Vec<String>, answers: &mut Answers) -> Result<()> {
        let mut flat = flat.into_iter();
        while let (Some(key), Some(error)) = (flat.next(), flat.next()) {
            self.session.spared_by_script(WHAT, &key, &error)?;
            answers.broken.push((key, error));
        }
        Ok(())
    }

    /// The buckets that lie within the horizon, by lane and where they begin; how long until more
    /// do is noted.
    fn buckets(
        &self,
        reply: Option<Value>,
        lanes: &[usize],
        answers: &mut Answers,
    ) -> Result<Vec<(usize, Millis)>> {
        let mut lists = self.session.read::<Vec<Value>>(WHAT, reply)?.into_iter();
        let now: Millis = self.session.read(WHAT, lists.next())?;
        self.broken(self.session.read(WHAT, lists.next())?, answers)?;
        let mut near = Vec::new();
        for (lane, list) in lanes.iter().zip(lists) {
            let begins: Vec<Millis> = self.session.read(WHAT, Some(list))?;
            let ahead = |begin: Millis| begin + BUCKET_MS - 1 - HORIZON_MS - now;
            let within = begins.iter().take_while(|begin| ahead(**begin) <= 0).count();
            near.extend(begins[..within].iter().map(|begin| (*lane, *begin)));
            let next = match begins.get(within) {
                Some(begin) => Some(ahead(*begin)),
                None => (within == LISTED).then_some(0),
            };
            answers.next.push((*lane, next.map(|ms| Duration::from_millis(ms.unsigned_abs()))));
        }
        Ok(near)
    }
}

/// What lanes of one priority gave, one message of each in turn where they share, and the lane of
/// the last message.
fn mixed(
    mut groups: Vec<(usize, Vec<Delivery>)>,
    shared: bool,
    step: impl Fn(usize) -> usize,
    last: &mut Option<usize>,
) -> Vec<Delivery> {
    if let [(lane, messages)] = &mut groups[..]
        && !messages.is_empty()
    {
        *last = Some(*lane);
        return std::mem::take(messages);
    }
    let mut all = Vec::with_capacity(groups.iter().map(|(_, messages)| messages.len()).sum());
    let mut groups = groups.into_iter().peekable();
    while let Some((lane, messages)) = groups.next() {
        let mut of_step = vec![(lane, messages.into_iter())];
        while let Some((lane, messages)) =
            groups.next_if(|(next, _)| shared && step(*next) == step(lane))
        {
            of_step.push((lane, messages.into_iter()));
        }
        while !of_step.is_empty() {
            of_step.retain_mut(|(lane, messages)| match messages.next() {
                Some(message) => {
                    all.push(message);
                    *last = Some(*lane);
                    true
                }
                None => false,
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::broker::Tag;

    #[test]
    fn lanes_of_a_priority_are_mixed_and_priorities_are_not() {
        let group = |lane: usize, count: u64| {
            let delivery = |seq| Delivery {
                tag: Tag { lane: lane as u32, seq },
                queue: Arc::from("q"),
                redeliveries: 0,
                suspect: false,
                raw: Bytes::new(),
            };
            (lane, (0..count).map(delivery).collect::<Vec<_>>())
        };
        let order = |shared| {
            let mut last = None;
            // Two lanes per priority.
            let all =
                mixed(vec![group(1, 3), group(0, 1), group(2, 2)], shared, |l| l / 2, &mut last);
            (all.iter().map(|d| d.tag.lane).collect::<Vec<_>>(), last)
        };
        assert_eq!(order(true), (vec![1, 0, 1, 1, 2, 2], Some(2)));
        assert_eq!(order(false), (vec![1, 1, 1, 0, 2, 2], Some(2)));
    }
}
