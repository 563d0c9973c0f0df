//! Dispatch: ready requests to free room in the pool, in order.
//!
//! First come, first served: what the broker's priorities decided is not decided again here. A
//! request whose time passed while it waited is not sent; that is the second and last look at its
//! expiry. The message crosses untouched, so a call costs two reference counts and no copy.

use std::collections::VecDeque;

use crate::{
    pool::Call,
    worker::{
        deadline,
        inflight::{Inflight, Place},
    },
};

/// What [`dispatch`] took from the ready queue.
#[derive(Debug, Default)]
pub struct Dispatched {
    /// To be submitted, in order.
    pub calls: Vec<Call>,
    /// Too late to begin.
    pub expired: Vec<u64>,
}

/// Takes at most `room` calls from `ready`. `now` is in microseconds since the Unix epoch.
pub fn dispatch(
    inflight: &mut Inflight,
    ready: &mut VecDeque<u64>,
    room: usize,
    now: i64,
) -> Dispatched {
    let mut out =
        Dispatched { calls: Vec::with_capacity(room.min(ready.len())), expired: Vec::new() };
    while out.calls.len() < room {
        let Some(key) = ready.pop_front() else { break };
        // A key that is gone was handed to others with a lapsed lease.
        let Some(request) = inflight.get(key) else { continue };
        if deadline::expired(request.expires, now) {
            out.expired.push(key);
            continue;
        }
        out.calls.push(Call {
            key,
            queue: request.queue.clone(),
            redeliveries: request.redeliveries,
            soft_us: request.soft_us,
            hard_us: request.hard_us,
            message: request.message.clone(),
            ended: request.ended.as_ref().map(|ended| ended.end.clone()),
        });
        inflight.move_to(key, Place::Pool);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::inflight::tests::request;

    #[test]
    fn in_order_within_the_room_and_never_expired() {
        let mut table = Inflight::new();
        let mut ready = VecDeque::new();
        for (id, expires) in
            [("a", None), ("late", Some(10)), ("gone", None), ("b", Some(99)), ("c", None)]
        {
            ready.push_back(
                table.insert(
                    Place::Ready,
                    super::super::inflight::Request { expires, ..request(id) },
                ),
            );
        }
        table.remove(ready[2]);
        let out = dispatch(&mut table, &mut ready, 2, 50);
        let ids: Vec<&str> =
            out.calls.iter().map(|c| &*table.get(c.key).expect("held").id).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(out.expired.len(), 1);
        assert_eq!(table.get(out.expired[0]).expect("held").id, "late");
        assert_eq!((table.count(Place::Pool), ready.len()), (2, 1));
        assert!(dispatch(&mut table, &mut ready, 0, 50).calls.is_empty());
        assert_eq!(ready.len(), 1);
    }
}
