//! The loop, with time paused, an in-process broker that can be unplugged and a pool that follows a
//! script.

mod commands;
pub(crate) mod crashes;
mod events;
mod fake;
mod follow;
mod flaky_results;
mod joins;
mod outages;
mod outcomes;
mod stopping;
mod stores;
mod timing;
mod untold;
