//! The schedules of the in-process broker. No clock, no waiting: time comes in as an argument.

use std::collections::{BTreeMap, HashMap};

use super::super::{
    encoded::Encoded,
    schedule::{Definition, Due, Entries, Entry, Guard, Leader},
};
use super::state::State;
use crate::clock::Millis;

/// What the beats of one app share.
#[derive(Default)]
struct Shared {
    entries: BTreeMap<String, Entry>,
    revision: u64,
    /// Name of the beat that leads, and until when.
    leader: Option<(String, Millis)>,
}

impl Shared {
    fn lets(&self, guard: &Guard, now: Millis) -> bool {
        match guard {
            Guard::Always => true,
            Guard::Leads(beat) => {
                self.leader.as_ref().is_some_and(|(leader, until)| leader == beat && *until > now)
            }
            Guard::Revision(revision) => self.revision == *revision,
        }
    }
}

/// By name.
#[derive(Default)]
pub(super) struct Schedules(HashMap<String, Shared>);

impl Schedules {
    fn of(&mut self, schedule: &str) -> &mut Shared {
        self.0.entry(schedule.to_owned()).or_default()
    }

    pub(super) fn lead(
        &mut self,
        schedule: &str,
        beat: &str,
        until: Millis,
        now: Millis,
    ) -> Leader {
        let shared = self.of(schedule);
        let other = shared.leader.take().filter(|(leader, until)| leader != beat && *until > now);
        let (leader, until) = other.unwrap_or_else(|| (beat.to_owned(), until));
        shared.leader = Some((leader.clone(), until));
        Leader { beat: leader, revision: shared.revision }
    }

    pub(super) fn resign(&mut self, schedule: &str, beat: &str) {
        let shared = self.of(schedule);
        shared.leader.take_if(|(leader, _)| leader == beat);
    }

    pub(super) fn entries(&mut self, schedule: &str) -> Entries {
        let shared = self.of(schedule);
        Entries { revision: shared.revision, entries: shared.entries.values().cloned().collect() }
    }

    pub(super) fn put(
        &mut self,
        schedule: &str,
        definitions: &[Definition],
        guard: &Guard,
        now: Millis,
    ) -> bool {
        let shared = self.of(schedule);
        if !shared.lets(guard, now) {
            return false;
        }
        shared.revision += 1;
        for Definition { name, definition, done, restart } in definitions {
            let entry = shared.entries.entry(name.clone()).or_insert_with(|| Entry {
                name: name.clone(),
                definition: String::new(),
                done: *done,
                runs: 0,
                sent_at: None,
                paused: false,
            });
            entry.definition.clone_from(definition);
            if *restart {
                entry.done = entry.done.max(*done);
            }
        }
        true
    }

    pub(super) fn remove(
        &mut self,
        schedule: &str,
        names: &[String],
        guard: &Guard,
        now: Millis,
    ) -> Option<u64> {
        let shared = self.of(schedule);
        if !shared.lets(guard, now) {
            return None;
        }
        let removed = names.iter().filter(|name| shared.entries.remove(*name).is_some()).count();
        shared.revision += u64::from(removed > 0);
        Some(removed as u64)
    }

    pub(super) fn pause(&mut self, schedule: &str, name: &str, paused: bool) -> bool {
        let shared = self.of(schedule);
        let Some(entry) = shared.entries.get_mut(name) else { return false };
        entry.paused = paused;
        shared.revision += 1;
        true
    }

    /// Moves an entry that is where the caller believed it to be; whether it was.
    fn advance(
        &mut self,
        schedule: &str,
        name: &str,
        (from, to): (Due, Due),
        sent: Option<Millis>,
    ) -> bool {
        let entry = self.of(schedule).entries.get_mut(name);
        let Some(entry) = entry.filter(|entry| entry.done == from && !entry.paused) else {
            return false;
        };
        entry.done = to;
        entry.runs += u64::from(sent.is_some());
        entry.sent_at = sent.or(entry.sent_at);
        true
    }
}

impl State {
    /// One firing; whether it was done.
    pub(super) fn fire(
        &mut self,
        schedule: &str,
        (name, from, to): (&str, Due, Due),
        message: Option<Encoded>,
        now: Millis,
    ) -> bool {
        let sent = message.is_some().then_some(now);
        let done = self.schedules.advance(schedule, name, (from, to), sent);
        if let Some(message) = message.filter(|_| done) {
            self.publish(message, now);
        }
        done
    }
}
