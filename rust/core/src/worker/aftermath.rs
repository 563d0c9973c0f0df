//! Aftermath: what follows a task whose end the worker decides, because nobody who ran it can.
//!
//! A task that is killed for its hard limit, that dies with its process, or that expires has error
//! callbacks, the rest of a chain, hooks and signals like any other. They are Python, and this loop
//! runs none: the message goes to the pool once more in a call that says what happened, and whoever
//! gets it does not run the task but tells everybody concerned. The record is stored at once; the
//! message is settled when the telling is over, so a worker that dies meanwhile leaves it to the
//! next. Where a shutdown is under way the pool takes no more calls, and only the record remains.

use serde_json::Value;

use crate::{
    broker::Settle,
    message::Message,
    result::State,
    worker::{
        Worker,
        document::Raised,
        inflight::{Ended, Place, Request},
        settle::Decision,
    },
};

impl Worker {
    /// Carries out the decision about a request that ended without a word of the pool's, and has
    /// what follows told.
    pub(super) fn conclude(&mut self, mut decision: Decision, request: Request) {
        let end = decision.end.take().filter(|_| self.phase.works());
        let Some(end) = end else { return self.carry_out(decision, &request) };
        let Ok(message) = Message::decode(&request.message) else {
            return self.carry_out(decision, &request);
        };
        let heard =
            end.state == State::Failure && self.registry.spec(request.task).has_failure_handlers;
        if heard || message.has_embed() {
            let settle = decision.settle.take();
            self.carry_out(decision, &request);
            self.tell(request, settle, &end);
        } else {
            self.carry_out(decision, &request);
        }
    }

    /// Whether a call that is over had only to tell what followed; if so its message is settled.
    pub(super) fn told(&mut self, request: &mut Request) -> bool {
        let Some(ended) = request.ended.take() else { return false };
        self.carry_out(Decision { settle: ended.settle, ..Decision::default() }, request);
        true
    }

    fn tell(&mut self, mut request: Request, settle: Option<Settle>, end: &Raised) {
        let mut described = end.describe();
        described["state"] = Value::from(end.state.as_str());
        let end = described.to_string().into_bytes().into_boxed_slice();
        request.ended = Some(Box::new(Ended { settle, end }));
        // It has expired or begun, and does not again.
        (request.expires, request.started, request.seen) = (None, None, None);
        let key = self.inflight.insert(Place::Ready, request);
        self.ready.push_front(key);
    }
}
