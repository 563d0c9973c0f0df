//! A crontab expression as sets of numbers, and when it is due next.
//!
//! What a clock on the wall shows is not what passes: it skips an hour when summer time begins (a
//! *gap*) and shows one twice when that ends (a *fold*). The rules:
//!
//! * **An expression that names hours** is due once for each time of day that it names. What falls
//!   into a gap is due at the end of the gap, all of it at once; what falls into a fold is due the
//!   first time.
//! * **An expression of every hour** (`*`) follows the clock: minutes that are skipped are not due,
//!   and minutes that are shown twice are due twice, so that `*/15` is due every quarter of an hour
//!   whatever the clock does.
//!
//! A zone is a function from an instant to how many seconds a clock there is ahead of UTC. Two
//! changes of one zone are taken to be more than two days apart.

use crate::error::{Error, ErrorKind, Result};

const MINUTE: i64 = 60;
const DAY: i64 = 86_400;
const DAY_MINUTES: i64 = DAY / MINUTE;
/// Days after which an expression that has not been due never is: in 40 years every day of the
/// month has been every day of the week, February 29 included.
const SEARCH_DAYS: i64 = 40 * 366;
/// Longest months, February first of a leap year.
const MONTH_DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// How many seconds a clock is ahead of UTC at an instant (Unix seconds).
pub type Offset<'a> = dyn FnMut(i64) -> i64 + 'a;

/// The numbers of each field, as bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crontab {
    minutes: u64,
    hours: u64,
    weekdays: u64,
    days: u64,
    months: u64,
}

impl Crontab {
    /// The expression that is due at these minutes (0 to 59) of these hours (0 to 23), on days that
    /// are among the `weekdays` (0 to 6, 0 is Sunday), the `days` (1 to 31) and the `months` (1 to
    /// 12).
    ///
    /// # Errors
    /// `Config` for a number out of range, a field without any, and days that no such month has.
    pub fn new(
        minutes: &[u32],
        hours: &[u32],
        weekdays: &[u32],
        days: &[u32],
        months: &[u32],
    ) -> Result<Self> {
        let crontab = Self {
            minutes: bits("minute", minutes, 0, 59)?,
            hours: bits("hour", hours, 0, 23)?,
            weekdays: bits("day_of_week", weekdays, 0, 6)?,
            days: bits("day_of_month", days, 1, 31)?,
            months: bits("month_of_year", months, 1, 12)?,
        };
        let shortest = crontab.days.trailing_zeros();
        let mut lengths =
            MONTH_DAYS.iter().zip(1..).filter(|(_, month)| has(crontab.months, *month));
        if lengths.all(|(length, _)| *length < shortest) {
            let message = format!(
                "day_of_month `{days:?}` never occurs in month_of_year `{months:?}`, expected a day that one of these \
                 months has"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(crontab)
    }

    /// When it is due next after the instant `after`, in Unix seconds; `None` when it never is: the
    /// only February 29 that it allows for is never such a day of the week.
    pub fn next_after(&self, after: i64, offset: &mut Offset<'_>) -> Option<i64> {
        if self.hours.count_ones() == 24 {
            self.next_by_clock(after, offset)
        } else {
            self.next_by_day(after, offset)
        }
    }

    /// Each time of day once.
    fn next_by_day(&self, after: i64, offset: &mut Offset<'_>) -> Option<i64> {
        let mut shown = minute(after + offset(after)) + 1;
        loop {
            shown = self.next_shown(shown)?;
            let instant = match instants(shown * MINUTE, offset) {
                Shown::At(first, _) => first,
                Shown::Skipped(end) => end,
            };
            if instant > after {
                return Some(instant);
            }
            shown += 1;
        }
    }

    /// Whenever the clock shows it.
    fn next_by_clock(&self, after: i64, offset: &mut Offset<'_>) -> Option<i64> {
        let now = offset(after);
        let mut shown = minute(after + now) + 1;
        let next = loop {
            shown = self.next_shown(shown)?;
            match instants(shown * MINUTE, offset) {
                Shown::At(first, _) if first > after => break first,
                Shown::At(_, second) if second > after => break second,
                _ => shown += 1,
            }
        };
        // A clock that is set back meanwhile shows minutes again that are past by now.
        let soon = next.min(after + DAY);
        if offset(soon) >= now {
            return Some(next);
        }
        let (change, then) = (change(after, soon, offset), offset(soon));
        let again = self.next_shown(minute(change + then + MINUTE - 1))? * MINUTE - then;
        Some(again.min(next))
    }

    /// The first minute that it names from `from` on, both in minutes since 1970 as a clock shows
    /// them.
    fn next_shown(&self, from: i64) -> Option<i64> {
        let (first, time) = (from.div_euclid(DAY_MINUTES), from.rem_euclid(DAY_MINUTES));
        let today = self.has_day(first).then(|| self.next_time(time)).flatten();
        if let Some(time) = today {
            return Some(first * DAY_MINUTES + time);
        }
        let day = (first + 1..first + SEARCH_DAYS).find(|day| self.has_day(*day))?;
        Some(day * DAY_MINUTES + self.next_time(0)?)
    }

    /// The first time of a day from `time` on, in minutes.
    fn next_time(&self, time: i64) -> Option<i64> {
        let (hour, minute) = ((time / 60) as u32, (time % 60) as u32);
        let later = |bits: u64, from: u32| (from..64).find(|at| has(bits, *at));
        if let Some(minute) = later(self.minutes, minute).filter(|_| has(self.hours, hour)) {
            return Some(i64::from(hour * 60 + minute));
        }
        let hour = later(self.hours, hour + 1)?;
        Some(i64::from(hour * 60 + later(self.minutes, 0)?))
    }

    /// Whether it is due on a day, counted from 1970-01-01, which was a Thursday.
    fn has_day(&self, day: i64) -> bool {
        let (month, of_month) = date(day);
        has(self.weekdays, (day + 4).rem_euclid(7) as u32)
            && has(self.months, month)
            && has(self.days, of_month)
    }
}

/// When a clock shows a time.
enum Shown {
    /// First and last; the same except in a fold.
    At(i64, i64),
    /// Never; the end of the gap.
    Skipped(i64),
}

/// When a clock shows `local`, in seconds since 1970 as it shows them.
fn instants(local: i64, offset: &mut Offset<'_>) -> Shown {
    let (before, after) = (offset(local - DAY), offset(local + DAY));
    let (first, second) = (local - before, local - after);
    match (offset(first) == before, offset(second) == after) {
        (true, true) => Shown::At(first, second),
        (true, false) => Shown::At(first, first),
        (false, true) => Shown::At(second, second),
        // A clock that goes forward: by what it showed before, the time is past the change, and by
        // what it shows after, not there yet.
        (false, false) => Shown::Skipped(change(second, first, offset)),
    }
}

/// The first instant after `from` at which a clock is set as it is at `to`.
fn change(mut from: i64, mut to: i64, offset: &mut Offset<'_>) -> i64 {
    let then = offset(to);
    while to - from > 1 {
        let middle = from + (to - from) / 2;
        if offset(middle) == then { to = middle } else { from = middle }
    }
    to
}

fn minute(local: i64) -> i64 {
    local.div_euclid(MINUTE)
}

fn has(bits: u64, number: u32) -> bool {
    bits >> number & 1 == 1
}

fn bits(name: &str, numbers: &[u32], first: u32, last: u32) -> Result<u64> {
    let wrong = |found: String| {
        let message = format!("{name} is `{found}`, expected numbers from {first} to {last}");
        Err(Error::new(ErrorKind::Config, message))
    };
    if numbers.is_empty() {
        return wrong("empty".to_owned());
    }
    match numbers.iter().find(|number| !(first..=last).contains(number)) {
        Some(number) => wrong(number.to_string()),
        None => Ok(numbers.iter().fold(0, |bits, number| bits | 1 << number)),
    }
}

/// Month and day of the month of a day, counted from 1970-01-01. Years begin in March here, so that
/// the leap day is the last of one; 400 years, of which all eras consist, have 146,097 days.
fn date(day: i64) -> (u32, u32) {
    let day = (day + 719_468).rem_euclid(146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    ((if month < 10 { month + 3 } else { month - 9 }) as u32, of_month as u32)
}

#[cfg(test)]
#[path = "crontab_tests.rs"]
mod tests;
