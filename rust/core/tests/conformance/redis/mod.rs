//! What only the Redis adapters promise, and the server that all suites use.

mod lists;
mod due;
mod exchanges;
mod joins;
mod leases;
mod refusals;
mod servers;
mod slots;
mod slow;
mod slow_proxy;
mod many;
mod misused;
mod stored;
mod server;

pub(crate) use server::harness;
