//! When a periodic task is due: crontab expressions. Pure: no clock, no database of zones; the time
//! and what a clock shows then come in as arguments.
//!
//! What is due lies in the broker's store ([`crate::broker::schedule`]), and who asks when is
//! Python's scheduler.

pub mod crontab;
pub mod field;

pub use crontab::Crontab;
