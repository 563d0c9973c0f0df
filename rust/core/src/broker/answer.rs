//! What a broker answers for each published message, and the error about those that it does not have.

use std::sync::Arc;

use super::Outgoing;
use crate::error::{Error, ErrorKind, Result};

/// What became of one published message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The broker has it.
    Confirmed,
    /// The broker has one of this id already and was to refuse a second: nothing was written.
    Duplicate,
    /// No queue receives what is published to its exchange with its routing key: nothing was
    /// written.
    Unroutable,
    /// The broker cannot write it, and wrote others of its batch: why.
    Refused(Arc<str>),
}

/// Whether the broker at `url` has each message of a batch, by its answers.
///
/// # Errors
/// `Storage`, with the reason of the first that was refused and how many were. Else `Unroutable`,
/// naming the first that has no queue and how many there are.
pub fn kept(batch: &[Outgoing], answers: &[Answer], url: &str) -> Result<()> {
    let mut refused = batch.iter().zip(answers).filter_map(|(one, answer)| match answer {
        Answer::Refused(why) => Some((one, why)),
        _ => None,
    });
    if let Some((first, why)) = refused.next() {
        return Err(self::refused(first, (1 + refused.count(), batch.len()), why));
    }
    let mut lost = batch.iter().zip(answers).filter(|(_, a)| **a == Answer::Unroutable);
    match lost.next() {
        None => Ok(()),
        Some((first, _)) => Err(unroutable(first, (1 + lost.count(), batch.len()), url)),
    }
}

#[cold]
fn refused(first: &Outgoing, (refused, all): (usize, usize), why: &str) -> Error {
    let (id, task) = (&first.message.headers.id, &first.message.headers.task);
    let sentence = format!(
        "`{refused}` of `{all}` messages were refused and the others are published, the first is message `{id}` of \
         task `{task}`: {why}"
    );
    Error::new(ErrorKind::Storage, sentence)
}

#[cold]
fn unroutable(first: &Outgoing, (lost, all): (usize, usize), url: &str) -> Error {
    let (headers, properties) = (&first.message.headers, &first.message.properties);
    let which = format!("message `{}` of task `{}`", headers.id, headers.task);
    let which = match lost {
        1 => format!("{which} is unroutable"),
        _ => format!("`{lost}` of `{all}` messages are unroutable, the first is {which}"),
    };
    let sentence = format!(
        "{which}: no queue of `{url}` receives what is published to exchange `{}` with routing key `{}`; name the \
         queue instead, or bind one where the broker has exchanges",
        properties.exchange, properties.routing_key,
    );
    Error::new(ErrorKind::Unroutable, sentence)
}
