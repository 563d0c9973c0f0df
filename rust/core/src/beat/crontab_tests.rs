//! Expressions over every zone change of the next ten years, against an oracle that looks at each
//! minute.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, tz::TimeZone};
use proptest::prelude::*;

use super::*;
use crate::beat::field::parse;

/// What an expression of five fields in Celery's order of keywords says.
fn crontab(minute: &str, hour: &str, weekday: &str, day: &str, month: &str) -> Crontab {
    let field = |spec, count, first| parse(spec, count, first).unwrap().numbers;
    Crontab::new(
        &field(minute, 60, 0),
        &field(hour, 24, 0),
        &field(weekday, 7, 0),
        &field(day, 31, 1),
        &field(month, 12, 1),
    )
    .unwrap()
}

fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

fn in_zone(zone: &TimeZone) -> impl FnMut(i64) -> i64 {
    move |instant| {
        let instant = Timestamp::from_second(instant).unwrap();
        i64::from(zone.to_offset(instant).seconds())
    }
}

/// All times it is due after `from` and up to `until`.
fn due(crontab: &Crontab, from: i64, until: i64, zone: &TimeZone) -> Vec<i64> {
    let mut offset = in_zone(zone);
    let next = |after: &i64| crontab.next_after(*after, &mut offset);
    std::iter::successors(Some(from), next).skip(1).take_while(|next| *next <= until).collect()
}

/// What a clock shows in each minute after `from` and up to `until`, and in the hours before, so that
/// it is known what it shows again.
fn clock(from: i64, until: i64, zone: &TimeZone) -> Vec<(i64, i64)> {
    let mut offset = in_zone(zone);
    let minutes = (from - 4 * 3600..=until).step_by(MINUTE as usize);
    minutes.map(|instant| (instant, minute(instant + offset(instant)))).collect()
}

/// The same as `due` as the rules say it, by a look at every minute.
fn oracle(crontab: &Crontab, from: i64, clock: &[(i64, i64)]) -> Vec<i64> {
    let names = |shown: i64| crontab.next_shown(shown) == Some(shown);
    let (mut known, mut due) = (BTreeSet::new(), BTreeSet::new());
    let mut last = None;
    for (instant, shown) in clock {
        if crontab.hours.count_ones() == 24 {
            due.extend(names(*shown).then_some(*instant));
        } else {
            let skipped = last.map_or(*shown, |last: i64| last + 1)..*shown;
            let new = skipped.chain([*shown]).filter(|shown| known.insert(*shown));
            due.extend(new.filter(|shown| names(*shown)).map(|_| *instant));
        }
        last = Some(*shown);
    }
    due.into_iter().filter(|instant| *instant > from).collect()
}

/// Every change of every zone in ten years, each kind of change once: when, and one zone that has it.
fn changes() -> Vec<(i64, TimeZone)> {
    let (from, until) = (at("2026-01-01T00:00Z"), at("2037-01-01T00:00Z"));
    let mut known = BTreeMap::new();
    for name in jiff::tz::db().available() {
        let zone = TimeZone::get(name.as_str()).unwrap();
        let mut before = in_zone(&zone)(from);
        for change in zone.following(Timestamp::from_second(from).unwrap()) {
            let (when, after) = (change.timestamp().as_second(), change.offset().seconds());
            if when > until {
                break;
            }
            if before != i64::from(after) {
                known.entry((when, before, after)).or_insert_with(|| zone.clone());
            }
            before = i64::from(after);
        }
    }
    known.into_iter().map(|((when, ..), zone)| (when, zone)).collect()
}

#[test]
fn no_slot_is_missed_or_twice_at_any_change_of_any_zone() {
    let expressions = [
        crontab("*/20", "*", "*", "*", "*"),
        crontab("7", "*", "*", "*", "*"),
        crontab("0,30", "0-4", "*", "*", "*"),
        crontab("15", "2", "*", "*", "*"),
        crontab("0", "*/3", "*", "*", "*"),
    ];
    let changes = changes();
    assert!(changes.len() > 300, "only {} changes are known", changes.len());
    for (when, zone) in changes {
        let (from, until) = (when - 4 * 3600, when + 6 * 3600);
        let clock = clock(from, until, &zone);
        for crontab in &expressions {
            let expected = oracle(crontab, from, &clock);
            assert_eq!(due(crontab, from, until, &zone), expected, "{zone:?} {when} {crontab:?}");
        }
    }
}

fn numbers(first: u32, last: u32) -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        2 => Just((first..=last).collect::<Vec<_>>()),
        3 => proptest::collection::vec(first..=last, 1..6),
    ]
}

proptest! {
    #[test]
    fn any_expression_keeps_the_rules(
        minutes in numbers(0, 59), hours in numbers(0, 23), weekdays in numbers(0, 6),
        place in any::<prop::sample::Index>(), early in 0..DAY,
    ) {
        thread_local!(static CHANGES: Vec<(i64, TimeZone)> = changes());
        let (when, zone) = CHANGES.with(|changes| place.get(changes).clone());
        let days: Vec<u32> = (1..=31).collect();
        let crontab = Crontab::new(&minutes, &hours, &weekdays, &days, &days[..12]).unwrap();
        let (from, until) = (when - early, when + DAY);
        let from = from - from.rem_euclid(MINUTE);
        let expected = oracle(&crontab, from, &clock(from, until, &zone));
        prop_assert_eq!(due(&crontab, from, until, &zone), expected);
    }
}

#[test]
fn the_rules_by_example() {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let day = |crontab: &Crontab, from: &str, until: &str| {
        let due = due(crontab, at(from), at(until), &berlin);
        due.iter().map(|at| Timestamp::from_second(*at).unwrap().to_string()).collect::<Vec<_>>()
    };
    let at_half_past_two = crontab("30", "2", "*", "*", "*");
    // Summer time begins at 02:00, which is 01:00 UTC: half past two is shown by no clock.
    assert_eq!(
        day(&at_half_past_two, "2027-03-27T12:00Z", "2027-03-29T12:00Z"),
        ["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]
    );
    // It ends at 03:00, which is 01:00 UTC: half past two is shown twice.
    assert_eq!(
        day(&at_half_past_two, "2027-10-30T12:00Z", "2027-11-01T12:00Z"),
        ["2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"]
    );
    let hourly = crontab("30", "*", "*", "*", "*");
    assert_eq!(day(&hourly, "2027-03-27T23:00Z", "2027-03-28T03:00Z").len(), 4);
    assert_eq!(day(&hourly, "2027-10-30T23:00Z", "2027-10-31T03:00Z").len(), 4);
}

#[test]
fn days_are_those_of_the_calendar() {
    let utc = TimeZone::UTC;
    let leap = crontab("0", "0", "*", "29", "2");
    let year = |text: &str| Timestamp::from_second(at(text)).unwrap().to_string();
    let next = due(&leap, at("2026-11-22T00:00Z"), at("2037-01-01T00:00Z"), &utc);
    let next: Vec<String> =
        next.iter().map(|at| Timestamp::from_second(*at).unwrap().to_string()).collect();
    assert_eq!(next, ["2028-02-29T00:00Z", "2032-02-29T00:00Z", "2036-02-29T00:00Z"].map(year));
    let monday = crontab("0", "0", "mon", "29", "2");
    assert_eq!(
        monday.next_after(at("2026-11-22T00:00Z"), &mut |_| 0),
        Some(at("2044-02-29T00:00Z"))
    );
    for day in (-200_000..200_000).step_by(97) {
        let date = Timestamp::from_second(day * DAY).unwrap().to_zoned(utc.clone()).date();
        assert_eq!(super::date(day), (date.month() as u32, date.day() as u32));
        let sunday_is_0 = i64::from(date.weekday().to_sunday_zero_offset());
        assert_eq!((day + 4).rem_euclid(7), sunday_is_0);
    }
}

#[test]
fn what_can_never_be_due_is_refused() {
    let all: Vec<u32> = (1..=31).collect();
    let new = |days: &[u32], months: &[u32]| Crontab::new(&[0], &[0], &[0], days, months);
    let wrong = |days: &[u32], months: &[u32]| new(days, months).expect_err("refused").to_string();
    assert!(wrong(&[31], &[4, 6]).contains("never occurs"));
    assert!(wrong(&[30], &[2]).contains("never occurs"));
    assert!(wrong(&[32], &all[..12]).contains("`32`"));
    assert!(wrong(&[], &all[..12]).contains("`empty`"));
    assert!(new(&[29], &[2]).is_ok() && new(&[31], &[2, 3]).is_ok());
}
