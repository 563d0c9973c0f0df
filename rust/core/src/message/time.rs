//! ISO 8601 as Celery writes it, to and from microseconds since the Unix epoch.
//!
//! Two functions and the civil arithmetic under them: a message may carry two times, so reading one
//! must cost tens of nanoseconds, not a time library's full parse. What is read is what Celery, its
//! older versions and other producers write: a date, optionally a time after `T` or a space, a
//! fraction of up to nine digits, `Z`, an offset or nothing. No time zones by name, no week dates,
//! no leap seconds: those are errors.

use crate::error::{Error, ErrorKind, Result};

const DAY_US: i64 = 86_400_000_000;
/// `0001-01-01T00:00:00`, the first instant that Python can hold.
const MIN_US: i64 = -62_135_596_800_000_000;
/// `9999-12-31T23:59:59.999999`, the last one.
const MAX_US: i64 = 253_402_300_799_999_999;

/// Microseconds since the Unix epoch as `2026-11-20T07:17:27.701199+00:00` (no fraction when it is
/// zero).
///
/// Times outside the years 1 to 9999, which no Python could read, are written as the nearest that
/// it can.
pub fn format_iso(us: i64) -> String {
    let us = us.clamp(MIN_US, MAX_US);
    let (year, month, day) = civil(us.div_euclid(DAY_US));
    let of_day = us.rem_euclid(DAY_US);
    let (secs, fraction) = ((of_day / 1_000_000) as u32, (of_day % 1_000_000) as u32);
    let mut out = [0_u8; 32];
    digits(&mut out[0..4], year as u32);
    out[4] = b'-';
    digits(&mut out[5..7], month);
    out[7] = b'-';
    digits(&mut out[8..10], day);
    out[10] = b'T';
    digits(&mut out[11..13], secs / 3600);
    out[13] = b':';
    digits(&mut out[14..16], secs / 60 % 60);
    out[16] = b':';
    digits(&mut out[17..19], secs % 60);
    let mut end = 19;
    if fraction != 0 {
        out[19] = b'.';
        digits(&mut out[20..26], fraction);
        end = 26;
    }
    out[end..end + 6].copy_from_slice(b"+00:00");
    std::str::from_utf8(&out[..end + 6]).expect("digits are ASCII").to_owned()
}

/// Reads ISO 8601 with `Z`, an offset, or none (then UTC), with or without a fraction, into
/// microseconds since the epoch.
///
/// # Errors
/// `Decode` when the text is not such a time, or not a date of the calendar.
pub fn parse_iso(text: &str) -> Result<i64> {
    let mut p = Cursor(text.as_bytes());
    p.instant().filter(|_| p.0.is_empty()).ok_or_else(|| {
        Error::new(
            ErrorKind::Decode,
            format!("`{}` is not an ISO 8601 time such as `2026-11-20T07:17:27+00:00`", clip(text)),
        )
    })
}

/// At most 64 characters of what was refused, so that a hostile value does not fill the log.
fn clip(text: &str) -> &str {
    text.char_indices().nth(64).map_or(text, |(at, _)| &text[..at])
}

/// What is still to be read; every step is `None` when the text does not fit.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn instant(&mut self) -> Option<i64> {
        let days = self.date()?;
        let mut us = days * DAY_US;
        if self.eat(b'T') || self.eat(b't') || self.eat(b' ') {
            us += self.time_of_day()?;
            us -= self.offset()?;
        }
        Some(us)
    }

    fn date(&mut self) -> Option<i64> {
        let year = self.number(4)?;
        self.eat(b'-').then_some(())?;
        let month = self.number(2)?;
        self.eat(b'-').then_some(())?;
        let day = self.number(2)?;
        let valid =
            year >= 1 && (1..=12).contains(&month) && day >= 1 && day <= days_in(year, month);
        valid.then(|| days_since_epoch(i64::from(year), month, day))
    }

    fn time_of_day(&mut self) -> Option<i64> {
        let hour = self.number(2)?;
        self.eat(b':').then_some(())?;
        let minute = self.number(2)?;
        let second = if self.eat(b':') { self.number(2)? } else { 0 };
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let whole = i64::from(hour * 3600 + minute * 60 + second) * 1_000_000;
        Some(whole + self.fraction()?)
    }

    /// Up to nine digits after `.` or `,`; what is finer than a microsecond is cut off, as Python
    /// does.
    fn fraction(&mut self) -> Option<i64> {
        if !(self.eat(b'.') || self.eat(b',')) {
            return Some(0);
        }
        let len = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        if len == 0 || len > 9 {
            return None;
        }
        let nanos = i64::from(self.number(len)?) * 10_i64.pow(9 - len as u32);
        Some(nanos / 1_000)
    }

    /// `Z`, `+HH`, `+HHMM`, `+HH:MM` or nothing, in microseconds east of UTC.
    fn offset(&mut self) -> Option<i64> {
        if self.eat(b'Z') || self.eat(b'z') {
            return Some(0);
        }
        let sign = match self.0.first() {
            None => return Some(0),
            Some(b'+') => 1,
            Some(b'-') => -1,
            Some(_) => return None,
        };
        self.0 = &self.0[1..];
        let hours = self.number(2)?;
        let colon = self.eat(b':');
        let minutes = if colon || !self.0.is_empty() { self.number(2)? } else { 0 };
        (hours <= 23 && minutes <= 59).then(|| sign * i64::from(hours * 60 + minutes) * 60_000_000)
    }

    fn eat(&mut self, byte: u8) -> bool {
        let here = self.0.first() == Some(&byte);
        if here {
            self.0 = &self.0[1..];
        }
        here
    }

    /// Exactly `len` (at most nine) decimal digits.
    fn number(&mut self, len: usize) -> Option<u32> {
        let (head, rest) = self.0.split_at_checked(len)?;
        let mut n = 0;
        for &b in head {
            if !b.is_ascii_digit() {
                return None;
            }
            n = n * 10 + u32::from(b - b'0');
        }
        self.0 = rest;
        Some(n)
    }
}

fn digits(out: &mut [u8], mut n: u32) {
    for slot in out.iter_mut().rev() {
        *slot = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

fn days_in(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar. Years are counted from March, so that
/// the leap day is the last of its year and the months before it have a fixed pattern of lengths
/// (153 days in five months).
fn days_since_epoch(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * from_march + 2) / 5 + i64::from(day) - 1;
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_since_epoch`]: year, month, day.
fn civil(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * from_march + 2) / 5 + 1) as u32;
    let month = ((from_march + 2) % 12 + 1) as u32;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn writes_as_celery_does() {
        assert_eq!(format_iso(0), "1970-01-01T00:00:00+00:00");
        assert_eq!(format_iso(1_795_159_047_701_199), "2026-11-20T07:17:27.701199+00:00");
        assert_eq!(format_iso(1_000), "1970-01-01T00:00:00.001000+00:00");
        assert_eq!(format_iso(i64::MIN), "0001-01-01T00:00:00+00:00");
        assert_eq!(format_iso(i64::MAX), "9999-12-31T23:59:59.999999+00:00");
    }

    #[test]
    fn reads_every_form() {
        let us = 1_795_159_047_701_199;
        for text in [
            "2026-11-20T07:17:27.701199+00:00",
            "2026-11-20T07:17:27.701199Z",
            "2026-11-20T07:17:27.701199",
            "2026-11-20 07:17:27,701199",
            "2026-11-20T07:17:27.701199999Z",
            "2026-11-20T09:17:27.701199+0200",
            "2026-11-20T09:47:27.701199+02:30",
            "2026-11-19T23:17:27.701199-08",
        ] {
            assert_eq!(parse_iso(text).unwrap(), us, "{text}");
        }
        assert_eq!(parse_iso("2026-11-20").unwrap(), us / DAY_US * DAY_US);
        assert_eq!(parse_iso("2026-11-20T07:17").unwrap(), us / 60_000_000 * 60_000_000);
        assert_eq!(
            parse_iso("2026-11-20T07:17:27.5Z").unwrap(),
            us / 1_000_000 * 1_000_000 + 500_000
        );
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "now",
            "2026",
            "2026-11",
            "2026-11-20T",
            "2026-11-20T07",
            "2026-13-20T07:17:27Z",
            "2026-02-29",
            "2025-11-31",
            "0000-01-01",
            "2026-11-20T24:00:00Z",
            "2026-11-20T07:60:27Z",
            "2026-11-20T07:17:60Z",
            "2026-11-20T07:17:27.Z",
            "2026-11-20T07:17:27.1234567890Z",
            "2026-11-20T07:17:27+24:00",
            "2026-11-20T07:17:27+02:3",
            "2026-11-20T07:17:27Z ",
            "2026-11-20T07:17:27 UTC",
            "20261120T071727Z",
            "２026-11-20",
        ] {
            let error = parse_iso(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode, "{text}");
        }
        assert!(parse_iso(&"9".repeat(10_000)).unwrap_err().to_string().len() < 200);
    }

    proptest! {
        #[test]
        fn agrees_with_jiff_when_writing(us in MIN_US..=MAX_US - 86_400_000_000) {
            let stamp = jiff::Timestamp::from_microsecond(us).unwrap();
            let ours = format_iso(us);
            prop_assert_eq!(ours.replace("+00:00", "Z").parse::<jiff::Timestamp>().unwrap(), stamp);
            prop_assert_eq!(parse_iso(&ours).unwrap(), us);
        }

        #[test]
        fn agrees_with_jiff_when_reading(us in MIN_US..=MAX_US - 86_400_000_000, minutes in -1439_i64..1439) {
            let (sign, m) = (if minutes < 0 { '-' } else { '+' }, minutes.abs());
            let local = format_iso((us + minutes * 60_000_000).clamp(MIN_US, MAX_US));
            let text = local.replace("+00:00", &format!("{sign}{:02}:{:02}", m / 60, m % 60));
            if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
                prop_assert_eq!(parse_iso(&text).unwrap(), stamp.as_microsecond());
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let _ = parse_iso(&text);
        }

        #[test]
        fn never_panics_on_near_misses(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]?[0-9:.,+Zz-]{0,24}") {
            if let (Ok(ours), Ok(theirs)) = (parse_iso(&text), text.parse::<jiff::Timestamp>()) {
                prop_assert_eq!(i128::from(ours), theirs.as_nanosecond().div_euclid(1_000));
            }
        }
    }
}
