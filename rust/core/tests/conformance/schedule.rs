//! The promises of `broker/schedule.rs`.

use std::{
    sync::{Arc, Barrier},
    thread,
};

use taskcore::{
    broker::{
        Adapter, Outgoing,
        schedule::{Definition, Entry, Firing, Guard},
    },
    clock,
    message::{Encoding, Headers, Message, Properties},
};

use crate::{Harness, PATIENCE, broker::soon, unique};

/// Makes a test of every promise for one adapter.
#[macro_export]
macro_rules! schedule_suite {
    ($adapter:ident, $start:path) => {
        $crate::schedule_suite!(@ $adapter, $start,
            one_beat_leads, a_lease_ends_and_can_be_given_up, entries_are_as_they_were_put, changes_are_counted,
            only_the_leader_writes, only_who_has_read_the_last_change_writes, many_are_written_under_a_guard,
            what_fires_is_published_and_moves, only_who_knows_where_an_entry_is_fires_it, of_many_one_fires,
            what_is_paused_or_gone_stays, what_fires_for_later_is_scheduled, what_fires_for_later_spares_others_of_its_id, nothing_to_send_moves_too,
            a_schedule_knows_its_own, many_fire_at_once, what_has_no_queue_does_not_fire,
        );
    };
    (@ $adapter:ident, $start:path, $($test:ident),* $(,)?) => {
        mod $adapter {
            $(
                #[test]
                fn $test() {
                    match $start() {
                        Some(harness) => $crate::schedule::$test(&harness),
                        None => $crate::skipped(stringify!($adapter)),
                    }
                }
            )*
        }
    };
}

const LEASE: i64 = 20_000;

fn put(broker: &dyn Adapter, schedule: &str, name: &str, done: i64) {
    let (name, definition) = (name.to_owned(), format!("says {name}"));
    let entry = Definition { name, definition, done, restart: false };
    assert!(broker.put(schedule, &[entry], &Guard::Always).unwrap());
}

fn remove(broker: &dyn Adapter, schedule: &str, names: &[String]) -> u64 {
    broker.remove(schedule, names, &Guard::Always).unwrap().unwrap()
}

fn message(queue: &Arc<str>, id: &str) -> Outgoing {
    let message = Message {
        headers: Headers { id: id.into(), task: "t".into(), ..Headers::default() },
        properties: Properties { routing_key: queue.to_string(), ..Properties::default() },
        body: (&b"\x90"[..]).into(),
        ..Message::default()
    };
    Outgoing::new(message, queue.clone(), Encoding::Compact)
}

fn firing(name: &str, (from, to): (i64, i64), message: Option<Outgoing>) -> Firing {
    Firing { name: name.to_owned(), from, to, message }
}

fn depth(broker: &dyn Adapter, queue: &str) -> u64 {
    broker.stats(queue).unwrap().depth
}

fn only(broker: &dyn Adapter, schedule: &str) -> Entry {
    let mut entries = broker.entries(schedule).unwrap().entries;
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

pub(crate) fn one_beat_leads(h: &impl Harness) {
    let (one, other, name) = (h.broker(), h.broker(), unique("schedule"));
    assert_eq!(one.lead(&name, "first", LEASE).unwrap().beat, "first");
    assert_eq!(other.lead(&name, "second", LEASE).unwrap().beat, "first");
    assert_eq!(one.lead(&name, "first", LEASE).unwrap().beat, "first");
    assert_eq!(other.lead(&unique("schedule"), "second", LEASE).unwrap().beat, "second");
}

pub(crate) fn a_lease_ends_and_can_be_given_up(h: &impl Harness) {
    let (broker, name) = (h.broker(), unique("schedule"));
    broker.lead(&name, "first", 1).unwrap();
    let until = clock::instant() + PATIENCE;
    while broker.lead(&name, "second", LEASE).unwrap().beat != "second" {
        assert!(clock::instant() < until, "the lease does not end");
        thread::yield_now();
    }
    broker.resign(&name, "first").unwrap();
    assert_eq!(broker.lead(&name, "first", LEASE).unwrap().beat, "second");
    broker.resign(&name, "second").unwrap();
    assert_eq!(broker.lead(&name, "first", LEASE).unwrap().beat, "first");
}

pub(crate) fn entries_are_as_they_were_put(h: &impl Harness) {
    let (broker, name) = (h.broker(), unique("schedule"));
    assert!(broker.entries(&name).unwrap().entries.is_empty());
    let say = |definition: &str, done, restart| {
        let definition =
            Definition { name: "a b".into(), definition: definition.into(), done, restart };
        assert!(broker.put(&name, &[definition], &Guard::Always).unwrap());
        let Entry { definition, done, runs, sent_at, paused, name: entry } = only(&*broker, &name);
        assert_eq!((&*entry, runs, sent_at, paused), ("a b", 0, None, false));
        (definition, done)
    };
    let large = 4_102_444_800_000_001;
    assert_eq!(say("one \u{e9}", large, false), ("one \u{e9}".to_owned(), large));
    assert_eq!(say("two", 7, false), ("two".to_owned(), large));
    // What was sent is never due again.
    assert_eq!(say("three", 9, true), ("three".to_owned(), large));
    assert_eq!(say("four", large + 3, true), ("four".to_owned(), large + 3));
    put(&*broker, &name, "C", 1);
    put(&*broker, &name, "b", 1);
    let names = |h: &dyn Adapter| {
        let entries = h.entries(&name).unwrap().entries;
        entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&*h.broker()), ["C", "a b", "b"]);
    assert_eq!(remove(&*broker, &name, &["C".to_owned(), "none".to_owned()]), 1);
    assert_eq!(remove(&*broker, &name, &[]), 0);
    assert_eq!(names(&*broker), ["a b", "b"]);
}

pub(crate) fn changes_are_counted(h: &impl Harness) {
    let (broker, name, queue) = (h.broker(), unique("schedule"), unique("queue"));
    let revision = || {
        let told = broker.lead(&name, "beat", LEASE).unwrap().revision;
        assert_eq!(broker.entries(&name).unwrap().revision, told);
        told
    };
    let mut seen = vec![revision()];
    let mut changed = |what: &str, yes: bool| {
        let now = revision();
        assert_eq!(now != *seen.last().unwrap(), yes, "{what}");
        seen.push(now);
    };
    put(&*broker, &name, "a", 0);
    changed("put", true);
    broker.fire(&name, &[firing("a", (0, 1), Some(message(&queue, "1")))], soon()).unwrap();
    changed("fire", false);
    assert!(broker.pause(&name, "a", true).unwrap());
    changed("pause", true);
    assert!(!broker.pause(&name, "none", true).unwrap());
    remove(&*broker, &name, &["none".to_owned()]);
    changed("nothing", false);
    remove(&*broker, &name, &["a".to_owned()]);
    changed("remove", true);
}

/// Whether an entry is written, and whether it is removed, under a guard.
fn guarded(broker: &dyn Adapter, schedule: &str, guard: &Guard) -> (bool, bool) {
    let entry = |name: &str| Definition {
        name: name.to_owned(),
        definition: "guarded".to_owned(),
        done: 1,
        restart: true,
    };
    put(broker, schedule, "kept", 0);
    let names = |broker: &dyn Adapter| broker.entries(schedule).unwrap().entries.len();
    let before = broker.entries(schedule).unwrap();
    let put = broker.put(schedule, &[entry("new"), entry("kept")], guard).unwrap();
    let after = broker.entries(schedule).unwrap();
    assert_eq!((after != before, names(broker)), (put, 1 + usize::from(put)));
    let guard = match guard {
        Guard::Revision(revision) => Guard::Revision(revision + u64::from(put)),
        other => other.clone(),
    };
    let removed = broker.remove(schedule, &["new".to_owned()], &guard).unwrap();
    assert_eq!(names(broker), 1);
    assert!(removed.is_none() || removed == Some(1));
    (put, removed.is_some())
}

pub(crate) fn only_the_leader_writes(h: &impl Harness) {
    let (broker, name) = (h.broker(), unique("schedule"));
    let leads = |beat: &str| guarded(&*broker, &name, &Guard::Leads(beat.to_owned()));
    assert_eq!(leads("first"), (false, false), "nobody leads");
    broker.lead(&name, "first", LEASE).unwrap();
    assert_eq!(leads("first"), (true, true));
    assert_eq!(leads("second"), (false, false));
    broker.resign(&name, "first").unwrap();
    assert_eq!(leads("first"), (false, false), "it has resigned");
    broker.lead(&name, "first", 1).unwrap();
    let until = clock::instant() + PATIENCE;
    let kept =
        Definition { name: "kept".into(), definition: String::new(), done: 0, restart: false };
    let kept = std::slice::from_ref(&kept);
    while broker.put(&name, kept, &Guard::Leads("first".to_owned())).unwrap() {
        assert!(clock::instant() < until, "a lease that has ended is no guard");
        thread::yield_now();
    }
    broker.lead(&name, "second", LEASE).unwrap();
    assert_eq!([leads("first"), leads("second")], [(false, false), (true, true)]);
}

pub(crate) fn only_who_has_read_the_last_change_writes(h: &impl Harness) {
    let (broker, name) = (h.broker(), unique("schedule"));
    let first =
        Definition { name: "first".into(), definition: String::new(), done: 1, restart: false };
    let put_first = |revision| {
        broker.put(&name, std::slice::from_ref(&first), &Guard::Revision(revision)).unwrap()
    };
    let none = broker.entries(&name).unwrap().revision;
    assert!(!put_first(none + 1) && broker.entries(&name).unwrap().entries.is_empty());
    assert!(put_first(none) && !put_first(none));
    assert_eq!(remove(&*broker, &name, &["first".to_owned()]), 1);
    put(&*broker, &name, "kept", 0);
    let revision = || broker.entries(&name).unwrap().revision;
    let now = revision();
    assert_eq!(guarded(&*broker, &name, &Guard::Revision(now)), (false, false), "it has put one");
    assert_eq!(guarded(&*broker, &name, &Guard::Revision(revision() + 1)), (true, true));
    let now = revision();
    broker.fire(&name, &[firing("kept", (0, 1), None)], soon()).unwrap();
    assert_eq!(revision(), now, "what fires is no change");
}

pub(crate) fn many_are_written_under_a_guard(h: &impl Harness) {
    let (broker, name) = (h.broker(), unique("schedule"));
    let names: Vec<String> = (0..500).map(|at| format!("entry-{at}")).collect();
    let definition = |name: &String| Definition {
        name: name.clone(),
        definition: String::new(),
        done: 0,
        restart: false,
    };
    let all: Vec<_> = names.iter().map(definition).collect();
    let revision = || Guard::Revision(broker.entries(&name).unwrap().revision);
    assert!(broker.put(&name, &all, &revision()).unwrap());
    assert_eq!(broker.remove(&name, &names, &revision()).unwrap(), Some(500));
}

pub(crate) fn what_fires_is_published_and_moves(h: &impl Harness) {
    let (broker, name, queue) = (h.broker(), unique("schedule"), unique("queue"));
    put(&*broker, &name, "a", 10);
    let before = clock::wall_ms();
    let batch = [
        firing("a", (10, 20), Some(message(&queue, "1"))),
        firing("a", (20, 30), Some(message(&queue, "2"))),
    ];
    assert_eq!(broker.fire(&name, &batch, soon()).unwrap(), [true, true]);
    assert_eq!(depth(&*broker, &queue), 2);
    assert_eq!(broker.queues().unwrap().iter().filter(|known| **known == *queue).count(), 1);
    let entry = only(&*broker, &name);
    assert_eq!((entry.done, entry.runs), (30, 2));
    assert!((before..=clock::wall_ms()).contains(&entry.sent_at.unwrap()));
}

pub(crate) fn only_who_knows_where_an_entry_is_fires_it(h: &impl Harness) {
    let (broker, name, queue) = (h.broker(), unique("schedule"), unique("queue"));
    put(&*broker, &name, "a", 10);
    let fire = |from, to| {
        let batch = [firing("a", (from, to), Some(message(&queue, "1")))];
        h.broker().fire(&name, &batch, soon()).unwrap()[0]
    };
    assert_eq!([fire(9, 20), fire(10, 20), fire(10, 20), fire(20, 30)], [false, true, false, true]);
    assert_eq!((depth(&*broker, &queue), only(&*broker, &name).runs), (2, 2));
}

pub(crate) fn of_many_one_fires(h: &impl Harness) {
    const BEATS: usize = 4;
    const TIMES: i64 = 25;
    let (broker, name, queue) = (h.broker(), unique("schedule"), unique("queue"));
    put(&*broker, &name, "a", 0);
    let start = Barrier::new(BEATS);
    let beat = |broker: Arc<dyn Adapter>| {
        start.wait();
        let fire = |at| [firing("a", (at, at + 1), Some(message(&queue, &at.to_string())))];
        let done = (0..TIMES).map(|at| broker.fire(&name, &fire(at), soon()).unwrap()[0]);
        done.filter(|done| *done).count() as i64
    };
    let done: i64 = thread::scope(|scope| {
        let beats: Vec<_> = (0..BEATS).map(|_| scope.spawn(|| beat(h.broker()))).collect();
        beats.into_iter().map(|beat| beat.join().unwrap()).sum()
    });
    assert_eq!((done, depth(&*broker, &queue)), (TIMES, TIMES as u64));
}

pub(crate) fn what_is_paused_or_gone_stays(h: &impl Harness) {
    let (broker, name, queue) = (h.broker(), unique("schedule"), unique("queue"));
    put(&*broker, &name, "a", 0);
    let fire = |entry: &str| {
        let batch = [firing(entry, (0, 1), Some(message(&queue, "1")))];
        broker.fire(&name, &batch, soon()).unwrap()[0]
    };
    broker.pause(&name, "a", true).unwrap();
    assert!(only(&*broker, &name).paused);
    assert!(!fire("a") && !fire("none"));
    broker.pause(&name, "a", false).unwrap();
    assert!(!only(&*broker, &name).paused && fire("a"));
    remove(&*broker, &name, &["a".to_owned()]);
    put(&*broker, &name, "a", 0);
    assert_eq!((only(&*broker, &name).runs, depth(&*broker, &queue)), (0, 1));
}

pub(crate) fn what_fires_for_later_is_scheduled(h: &impl Harness) {
    let (broker, name, queue) = (h.broker(), unique("schedule"), unique("queue"));
    put(&*broker, &name, "a", 0);
    let mut later = message(&queue, "later");
    later.message.headers.eta = Some(clock::wall_us() + 3_600_000_000);
    assert_eq!(broker.fire(&name, &[firing("a", (0, 1), Some(later))], soon()).unwrap(), [true]);
    let stats = broker.stats(&queue).unwrap();
    assert_eq!((stats.depth, stats.scheduled), (0, 1));
    assert!(broker.cancel(&queue, "later").unwrap());
}

pub(crate) fn what_fires_for_later_spares_others_of_its_id(h: &impl Harness) {
    let (broker, name, queue) = (h.broker(), unique("schedule"), unique("queue"));
    let later = clock::wall_us() + 3_600_000_000;
    let batch = ["a", "b"].map(|entry| {
        put(&*broker, &name, entry, 0);
        let mut scheduled = message(&queue, "same");
        scheduled.message.headers.eta = Some(later);
        scheduled.message.headers.root_id = Some(entry.into());
        firing(entry, (0, 1), Some(scheduled))
    });
    assert_eq!(broker.fire(&name, &batch, soon()).unwrap(), [true, true]);
    assert_eq!(broker.stats(&queue).unwrap().scheduled, 2);
}

pub(crate) fn nothing_to_send_moves_too(h: &impl Harness) {
    let (broker, name) = (h.broker(), unique("schedule"));
    put(&*broker, &name, "a", 0);
    assert_eq!(broker.fire(&name, &[firing("a", (0, 5), None)], soon()).unwrap(), [true]);
    let entry = only(&*broker, &name);
    assert_eq!((entry.done, entry.runs, entry.sent_at), (5, 0, None));
}

pub(crate) fn a_schedule_knows_its_own(h: &impl Harness) {
    let (broker, one, other) = (h.broker(), unique("schedule"), unique("schedule"));
    put(&*broker, &one, "a", 0);
    put(&*broker, &other, "a", 5);
    broker.pause(&other, "a", true).unwrap();
    assert_eq!(broker.fire(&one, &[firing("a", (0, 1), None)], soon()).unwrap(), [true]);
    assert_eq!([only(&*broker, &one).done, only(&*broker, &other).done], [1, 5]);
}

pub(crate) fn many_fire_at_once(h: &impl Harness) {
    let (broker, name) = (h.broker(), unique("schedule"));
    let queues = [unique("queue"), unique("queue")];
    let definition = |at: usize| Definition {
        name: format!("entry-{at}"),
        definition: String::new(),
        done: 0,
        restart: false,
    };
    broker.put(&name, &(0..500).map(definition).collect::<Vec<_>>(), &Guard::Always).unwrap();
    let firings: Vec<_> = (0..500)
        .map(|at| {
            let message = message(&queues[at % 2], &at.to_string());
            firing(&format!("entry-{at}"), (i64::from(at % 5 == 0), 9), Some(message))
        })
        .collect();
    let done = broker.fire(&name, &firings, soon()).unwrap();
    assert!(done.iter().enumerate().all(|(at, done)| *done == (at % 5 != 0)));
    assert_eq!(queues.map(|queue| depth(&*broker, &queue)), [200, 200]);
    assert_eq!(broker.entries(&name).unwrap().entries.iter().filter(|e| e.done == 9).count(), 400);
    let names: Vec<String> = (0..500).map(|at| format!("entry-{at}")).collect();
    assert_eq!(remove(&*broker, &name, &names), 500);
}

pub(crate) fn what_has_no_queue_does_not_fire(h: &impl Harness) {
    let (broker, name, queue) = (h.broker(), unique("schedule"), unique("queue"));
    put(&*broker, &name, "a", 0);
    let mut lost = message(&queue, "1");
    lost.message.properties.exchange = "none".into();
    assert_eq!(broker.fire(&name, &[firing("a", (0, 1), Some(lost))], soon()).unwrap(), [false]);
    assert_eq!((only(&*broker, &name).done, depth(&*broker, &queue)), (0, 0));
}
