//! What becomes of a chord whose members have ended, once it is composed: its body is published, or
//! what the body was to do ends and its error callbacks are called, and then its join is closed.

use crate::{
    error::Error,
    result::Record,
    worker::{
        Worker,
        compose::Composed,
        inflight::Ended,
        joining::{Completed, FailedChord},
        kept::SettleAfter,
        settle,
    },
};

impl Worker {
    /// What follows a join is composed: it is published, what ends because of it is stored, and then
    /// the join is closed.
    pub(super) fn composed(&mut self, completed: Box<Completed>, composed: Composed) {
        let Composed { follow, ended, calls } = composed;
        let ended = settle::ended(ended, &completed.message, self.config.result_expires_ms);
        if !calls.is_empty() {
            // Whoever waits for the body learns it at once; the calls may wait long behind others. A
            // chord that the body is a member of is told by the record that is stored after them.
            for record in &ended {
                let record = Record { member: None, ..record.clone() };
                self.flush.push(Some(record), SettleAfter::default());
            }
        }
        self.fail_chord(Box::new(FailedChord { completed, calls, follow, ended }));
    }

    /// Has the error callbacks of a chord called, one call after the other, and then the rest
    /// published. Only after that its join is closed, so that a worker that is lost meanwhile leaves
    /// all of it to another. Of a chord that has not failed there is only the rest.
    pub(super) fn fail_chord(&mut self, mut chord: Box<FailedChord>) {
        if !self.phase.tells() {
            return self.leave_chord(*chord);
        }
        while let Some(call) = chord.calls.pop() {
            let end = call.end;
            if let Some(request) = self.unqueued(call.message, call.queue) {
                let ended = Ended { settle: None, end, chord: Some(chord) };
                return self.tell(request, ended);
            }
        }
        self.publish_chord(*chord);
    }

    /// Leaves the error callbacks of a chord that are still to be called to another worker, and has the
    /// rest published.
    pub(super) fn leave_chord(&mut self, mut chord: FailedChord) {
        for call in std::mem::take(&mut chord.calls) {
            if let Some(request) = self.unqueued(call.message, call.queue) {
                chord.follow.extend(super::telling::left(&request, &call.end));
            }
        }
        self.publish_chord(chord);
    }

    fn publish_chord(&mut self, chord: FailedChord) {
        let FailedChord { completed, follow, mut ended, .. } = chord;
        let last = ended.pop();
        for record in ended {
            self.flush.push(Some(record), SettleAfter::default());
        }
        self.flush.follow(follow, last, completed.into());
    }

    /// What follows a join can never be published. What it would have done ends as a failure; that of
    /// a failure is lost.
    pub(super) fn unpublishable_join(
        &mut self,
        completed: Box<Completed>,
        record: Option<Record>,
        error: &Error,
    ) {
        let join = completed.joined.id.as_str();
        tracing::error!(join, %error, "the broker refuses what follows a join");
        if record.is_some() {
            self.flush.push(record, SettleAfter::default());
        }
        self.flush.lost_join(completed, error);
    }
}
