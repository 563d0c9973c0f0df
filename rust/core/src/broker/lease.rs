//! Worker epochs and their leases: the numbers that all adapters share, and the decision of those
//! whose workers share a clock. (Redis has a clock of its own; there a lease is judged by whether
//! it moves.)
//!
//! A worker process start is an *epoch*. It renews one lease every [`RENEW_MS`]; a lease that was
//! not renewed for [`LEASE_MS`] has lapsed, and any live worker that sweeps (every [`SWEEP_MS`])
//! puts back what that epoch held. The worst case from a crash to the return of its messages is
//! therefore `LEASE_MS + SWEEP_MS`, ten seconds.

use crate::clock::Millis;

/// How long a lease lasts without renewal.
pub const LEASE_MS: Millis = 8_000;
/// How often a worker renews: three attempts fit into one lease.
pub const RENEW_MS: u64 = 2_000;
/// How often a worker looks for lapsed leases of others.
pub const SWEEP_MS: u64 = 1_000;

/// Whether an epoch whose lease ends at `until` may be declared dead by a worker that has itself
/// held its lease since `mine`. A whole lease must have passed first: after a broker outage
/// everybody's lease has lapsed, and the first to come back must not rob the others, who are alive
/// and about to renew.
pub fn lapsed(until: Millis, mine: Millis, now: Millis) -> bool {
    until < now && now - mine >= LEASE_MS
}
