//! What only the Redis adapters promise, and the server that all suites use.

mod lists;
mod due;
mod leases;
mod servers;
mod slow;
mod server;

pub(crate) use server::harness;
