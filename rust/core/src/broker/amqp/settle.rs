//! What becomes of held messages.
//!
//! An acknowledgement and a message that goes back are said on the channel that delivered it. All
//! else puts the message somewhere first, which the server confirms, and then acknowledges it: in
//! between there are two of it, never none.

use std::sync::Arc;

use lapin::{options::BasicAckOptions, types::AMQPValue};

use super::{
    acks::Acks,
    client::{Client, Link},
    dead,
    native::REDELIVERIES,
    publish::{self, Addressed, delay_of},
    session::{Held, Session},
    topology,
};
use crate::{
    broker::{Answer, Settle, Settlement},
    error::{Error, ErrorKind, Result},
};

/// What this adapter needs to know beside a session.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) max_deliveries: u32,
    pub(super) delay_kind: Arc<str>,
}

/// Where a message goes before it is acknowledged.
enum Move {
    /// To the tail of its queue, lost so many times.
    Back(u32),
    /// The same, when so many seconds have passed.
    Later(u32),
    /// Among the dead letters.
    Dead { id: Arc<str>, reason: String, redeliveries: u32 },
}

/// How a settlement is carried out.
enum Step {
    Ack,
    Nack,
    Move(Move),
}

fn step(how: Settle, held: &Held, rules: &Rules) -> Step {
    let redeliveries = held.content.redeliveries();
    Step::Move(match how {
        Settle::Ack => return Step::Ack,
        Settle::HandBack => return Step::Nack,
        Settle::Requeue => Move::Back(redeliveries),
        Settle::Redeliver { .. } if redeliveries + 1 < rules.max_deliveries => {
            Move::Back(redeliveries + 1)
        }
        Settle::Redeliver { id } => {
            let redeliveries = redeliveries + 1;
            let reason = format!("{redeliveries} deliveries ended with a lost worker");
            Move::Dead { id, reason, redeliveries }
        }
        Settle::Defer { due, .. } => match delay_of(Some(due)) {
            Some(seconds) => Move::Later(seconds),
            None => return Step::Nack,
        },
        Settle::Park { id, reason } => Move::Dead { id, reason, redeliveries },
    })
}

impl Session {
    /// Settles a batch, in order. What could not be put where it goes stays held.
    pub(super) async fn settle(
        &self,
        batch: Vec<Settlement>,
        client: &Client,
        rules: &Rules,
    ) -> Result<()> {
        self.check()?;
        let (mut acks, mut nacks, mut moves) = (Vec::new(), Vec::new(), Vec::new());
        let mut queues: Vec<Arc<str>> = Vec::new();
        {
            let state = self.state();
            for Settlement { tag, how } in batch {
                let held = state.held.get(&tag.seq).filter(|_| tag.lane == self.number);
                let Some(held) = held else { continue };
                match step(how, held, rules) {
                    Step::Ack => acks.push(tag.seq),
                    Step::Nack => {
                        if !queues.contains(&held.queue) {
                            queues.push(Arc::clone(&held.queue));
                        }
                        nacks.push(tag.seq);
                    }
                    Step::Move(to) => moves.push((tag.seq, held.clone(), to)),
                }
            }
        }
        let carried =
            if moves.is_empty() { Ok(Vec::new()) } else { carry(client, moves, rules).await };
        if let Ok(tags) = &carried {
            acks.extend(tags);
        }
        self.say(acks, (nacks, queues)).await?;
        carried.map(drop)
    }

    /// Acknowledges these and gives those back.
    async fn say(&self, acks: Vec<u64>, (nacks, queues): (Vec<u64>, Vec<Arc<str>>)) -> Result<()> {
        let Acks { through, single } = {
            let mut state = self.state();
            for tag in acks.iter().chain(&nacks) {
                state.held.remove(tag);
            }
            let said = state.settled.acknowledge(&acks);
            state.settled.note(nacks.iter().copied());
            said
        };
        let failed = |e: lapin::Error| self.failed(&e);
        // All are on their way before the first is waited for.
        let ack = |tag, multiple| self.channel.basic_ack(tag, BasicAckOptions { multiple });
        let mut acking: Vec<_> = through
            .map(|tag| Box::pin(ack(tag, true)))
            .into_iter()
            .chain(single.into_iter().map(|tag| Box::pin(ack(tag, false))))
            .collect();
        let done = publish::begin(&mut acking);
        for (acking, done) in acking.into_iter().zip(done) {
            match done {
                Some(done) => done.map_err(failed)?,
                None => acking.await.map_err(failed)?,
            }
        }
        if nacks.is_empty() { Ok(()) } else { self.give_back(nacks, &queues).await }
    }
}

/// Puts messages where they go; the numbers of those that are there.
async fn carry(client: &Client, moves: Vec<(u64, Held, Move)>, rules: &Rules) -> Result<Vec<u64>> {
    let link = client.link().await?;
    let mut addressed = Vec::with_capacity(moves.len());
    let mut tags = Vec::with_capacity(moves.len());
    for (tag, held, to) in moves {
        addressed.push(address(&link, held, to, rules).await?);
        tags.push(tag);
    }
    let answers = publish::send(&link, &addressed).await?;
    let lost = answers.iter().position(|answer| *answer != Answer::Confirmed);
    match lost {
        None => Ok(tags),
        Some(at) => {
            let key = &addressed[at].routing_key;
            // What it was declared with may be gone.
            link.forget(key.as_str());
            let text = format!(
                "rabbitmq at `{}` does not take a message for the queue `{key}`: {:?}",
                link.server.url, answers[at]
            );
            Err(Error::new(ErrorKind::Storage, text))
        }
    }
}

async fn address(link: &Link, held: Held, to: Move, rules: &Rules) -> Result<Addressed> {
    let Held { queue, content } = held;
    let counted = |redeliveries: u32| match redeliveries {
        0 => content.saying(&[]),
        n => content.saying(&[(REDELIVERIES, AMQPValue::LongLongInt(n.into()))]),
    };
    match to {
        Move::Back(redeliveries) => Addressed::to_queue(&queue, counted(redeliveries)),
        Move::Later(seconds) => {
            topology::declare_delay(link, &queue, &rules.delay_kind).await?;
            Addressed::delayed(&queue, seconds, counted(content.redeliveries()))
        }
        Move::Dead { id, reason, redeliveries } => {
            let name = dead::queue(&queue);
            topology::declare_plain(link, &name).await?;
            Addressed::to_queue(&name, dead::letter(&content, &id, &reason, redeliveries))
        }
    }
}
