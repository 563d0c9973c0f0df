//! One field of a crontab expression, in Celery's syntax: which numbers it stands for.
//!
//! ```text
//! field := part ("," part)*
//! part  := ("*" | number ("-" number)?) ("/" number)?      a step needs a star or a range
//! ```
//!
//! A range whose end is before its beginning goes on from the first number after the last one. Days
//! of the week and months also have names, of which the first three letters count.

use crate::error::{Error, ErrorKind, Result};

const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// A field of `count` numbers from `first` on.
#[derive(Clone, Copy, Debug)]
struct Field<'a> {
    spec: &'a str,
    first: u32,
    last: u32,
}

/// The numbers that `spec` stands for among `count` numbers from `first` on, in the order in which
/// it names them; some perhaps twice.
///
/// # Errors
/// `Config`, naming the part that is wrong and what is expected.
pub fn parse(spec: &str, count: u32, first: u32) -> Result<Vec<u32>> {
    let field = Field { spec, first, last: (first + count).saturating_sub(1) };
    let mut numbers = Vec::new();
    for part in spec.split(',') {
        numbers.extend(field.part(part)?);
    }
    Ok(numbers)
}

impl Field<'_> {
    fn part(self, part: &str) -> Result<Vec<u32>> {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => (range, Some(step)),
        };
        let numbers = match range.split_once('-') {
            _ if range.is_empty() => return Err(self.wrong(part, "something between the commas")),
            _ if range == "*" => (self.first..=self.last).collect(),
            Some(("", _)) => return Err(self.wrong(part, "a number that is not negative")),
            Some((from, to)) => self.range(self.number(part, from)?, self.number(part, to)?),
            None if step.is_some() => {
                return Err(self.wrong(part, "a star or a range in front of a step, as in `*/5`"));
            }
            None => vec![self.number(part, range)?],
        };
        let Some(step) = step else { return Ok(numbers) };
        match step.parse::<usize>() {
            Ok(step @ 1..) => Ok(numbers.into_iter().step_by(step).collect()),
            _ => Err(self.wrong(part, "a step of 1 or more behind the `/`")),
        }
    }

    fn range(self, from: u32, to: u32) -> Vec<u32> {
        if from <= to {
            (from..=to).collect()
        } else {
            (from..=self.last).chain(self.first..=to).collect()
        }
    }

    fn number(self, part: &str, text: &str) -> Result<u32> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { self.named(text) };
        number.filter(|number| (self.first..=self.last).contains(number)).ok_or_else(|| {
            let names = self.names().map_or(String::new(), |names| {
                format!(" or a name such as `{}`", names[names.len() / 2])
            });
            let sunday = if self.is_week() && text == "7" { "; Sunday is 0" } else { "" };
            self.wrong(
                part,
                &format!("a number from {} to {}{names}{sunday}", self.first, self.last),
            )
        })
    }

    fn is_week(self) -> bool {
        (self.first, self.last) == (0, 6)
    }

    fn names(self) -> Option<&'static [&'static str]> {
        match (self.first, self.last) {
            (0, 6) => Some(&WEEKDAYS),
            (1, 12) => Some(&MONTHS),
            _ => None,
        }
    }

    fn named(self, text: &str) -> Option<u32> {
        let begins = text.get(..3)?.to_ascii_lowercase();
        let letters = text.bytes().all(|byte| byte.is_ascii_alphabetic());
        let place = self.names()?.iter().position(|name| letters && *name == begins)?;
        Some(self.first + place as u32)
    }

    #[cold]
    fn wrong(self, part: &str, expected: &str) -> Error {
        let spec = self.spec;
        let message = format!("crontab field `{spec}` has the part `{part}`, expected {expected}");
        Error::new(ErrorKind::Config, message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(spec in "(\\PC*|[-*/,0-9a-z]{0,12})", count in 1_u32..70, first in 0_u32..2) {
            let numbers = parse(&spec, count, first).unwrap_or_default();
            prop_assert!(numbers.iter().all(|number| (first..first + count).contains(number)));
        }
    }

    #[test]
    fn fields_stand_for_what_celery_says() {
        let all = |spec: &str, count, first| parse(spec, count, first).unwrap();
        assert_eq!(all("*", 7, 0), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(all("*/15", 60, 0), [0, 15, 30, 45]);
        assert_eq!(all("*/3", 31, 1), [1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31]);
        assert_eq!(all("2-12/2", 12, 1), [2, 4, 6, 8, 10, 12]);
        assert_eq!(all("1,13,30-32,50-59/4", 60, 0), [1, 13, 30, 31, 32, 50, 54, 58]);
        assert_eq!(all("22-2", 24, 0), [22, 23, 0, 1, 2]);
        assert_eq!(all("fri-mon/2", 7, 0), [5, 0]);
        assert_eq!(all("Monday,tuesday,wed", 7, 0), [1, 2, 3]);
        assert_eq!(all("nov-feb", 12, 1), [11, 12, 1, 2]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (spec, count, first, expected) in [
            ("", 60, 0, "between the commas"),
            ("1,,2", 60, 0, "between the commas"),
            ("60", 60, 0, "from 0 to 59"),
            ("0", 31, 1, "from 1 to 31"),
            ("7", 7, 0, "Sunday is 0"),
            ("-1", 60, 0, "not negative"),
            ("5-", 60, 0, "from 0 to 59"),
            ("*/", 60, 0, "step of 1"),
            ("*/0", 60, 0, "step of 1"),
            ("*/x", 60, 0, "step of 1"),
            ("5/2", 60, 0, "as in `*/5`"),
            ("mon", 60, 0, "from 0 to 59"),
            ("jan", 7, 0, "or a name such as `wed`"),
            ("m\u{f6}n", 7, 0, "or a name"),
            ("99999999999", 60, 0, "from 0 to 59"),
        ] {
            let error = parse(spec, count, first).expect_err(spec);
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(text.contains(expected) && text.contains(&format!("`{spec}`")), "{text}");
        }
    }
}
