//! What a broker answers for each published message, and the error about those that went nowhere.

use super::Outgoing;
use crate::error::{Error, ErrorKind, Result};

/// What became of one published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The broker has it.
    Confirmed,
    /// The broker has one of this id already and was to refuse a second: nothing was written.
    Duplicate,
    /// No queue receives what is published to its exchange with its routing key: nothing was
    /// written.
    Unroutable,
}

/// Whether each message of a batch has a queue, by the answers of the broker at `url`.
///
/// # Errors
/// `Unroutable`, naming the first that has none and how many there are.
pub fn routed(batch: &[Outgoing], answers: &[Answer], url: &str) -> Result<()> {
    let mut lost = batch.iter().zip(answers).filter(|(_, a)| **a == Answer::Unroutable);
    match lost.next() {
        None => Ok(()),
        Some((first, _)) => Err(unroutable(first, (1 + lost.count(), batch.len()), url)),
    }
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
