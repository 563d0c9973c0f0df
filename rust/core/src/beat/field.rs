//! One field of a crontab expression, in Celery's syntax: which numbers it stands for.
//!
//! ```text
//! field := part ("," part)*
//! part  := ("*" | number ("-" number)?) ("/" step)?      a step needs a star or a range
//! ```
//!
//! A range whose end is before its beginning goes on from the first number after the last one. Days
//! of the week and months also have names, of which the first three letters count.
//!
//! Celery passes over what follows a part that it has understood (`1-5-9`, `mon/2`), and reads a
//! name in any field (`mon` among the minutes is 1). What it accepts is accepted, because a program
//! that is moved over must go on; each such part is told to the caller.

use crate::error::{Error, ErrorKind, Result};

const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// What a field says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// In the order in which the field names them; some perhaps twice.
    pub numbers: Vec<u32>,
    /// A sentence for each part that hardly means what it says.
    pub doubts: Vec<String>,
}

/// A field of `count` numbers from `first` on.
#[derive(Clone, Copy, Debug)]
struct Field<'a> {
    spec: &'a str,
    first: u32,
    last: u32,
}

/// A part, taken apart; what follows it is passed over.
#[derive(Debug, PartialEq, Eq)]
enum Shape<'a> {
    All,
    AllBySteps(&'a str),
    Range(&'a str, &'a str),
    RangeBySteps(&'a str, &'a str, &'a str),
    One(&'a str),
}

/// The numbers that `spec` stands for among `count` numbers from `first` on.
///
/// # Errors
/// `Config`, naming the part that is wrong and what is expected.
pub fn parse(spec: &str, count: u32, first: u32) -> Result<Parsed> {
    let field = Field { spec, first, last: (first + count).saturating_sub(1) };
    let mut parsed = Parsed::default();
    for part in spec.split(',') {
        if part.is_empty() {
            return Err(field.wrong(part, "something between the commas"));
        }
        field.part(part, &mut parsed)?;
    }
    Ok(parsed)
}

/// A part and what is passed over of it.
fn shape(part: &str) -> (Shape<'_>, &str) {
    if part.strip_suffix('\n').unwrap_or(part) == "*" {
        return (Shape::All, "");
    }
    if let Some(rest) = part.strip_prefix("*/") {
        let (step, rest) = word(rest);
        return (Shape::AllBySteps(step), rest);
    }
    let (from, rest) = word(part);
    let (to, rest) = rest.strip_prefix('-').map_or(("", rest), word);
    if from.is_empty() || to.is_empty() {
        return (Shape::One(part), "");
    }
    match rest.strip_prefix('/').map(word) {
        Some((step, rest)) => (Shape::RangeBySteps(from, to, step), rest),
        None => (Shape::Range(from, to), rest),
    }
}

/// The letters and digits that a text begins with, and the rest.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    text.split_at(end)
}

/// A whole number as Python's `int` reads one: with a sign, blanks around it, and underscores
/// between digits.
fn integer(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let groups_are_digits = digits
        .split('_')
        .all(|group| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit()));
    if !groups_are_digits {
        return None;
    }
    // What is too large for a number is too large for any field.
    let size = digits.replace('_', "").parse().unwrap_or(i64::MAX);
    Some(if text.starts_with('-') { -size } else { size })
}

impl Field<'_> {
    fn part(self, part: &str, parsed: &mut Parsed) -> Result<()> {
        let (shape, passed_over) = shape(part);
        let all = || (self.first..=self.last).collect::<Vec<_>>();
        let numbers = match shape {
            Shape::All => all(),
            Shape::AllBySteps(step) => every(all(), self.step(part, step)?),
            Shape::Range(from, to) => self.range(part, (from, to), parsed)?,
            Shape::RangeBySteps(from, to, step) => {
                every(self.range(part, (from, to), parsed)?, self.step(part, step)?)
            }
            Shape::One(number) => vec![self.number(part, number, parsed)?],
        };
        if !passed_over.trim().is_empty() {
            parsed.doubts.push(self.doubt(part, passed_over));
        }
        parsed.numbers.extend(numbers);
        Ok(())
    }

    fn range(self, part: &str, ends: (&str, &str), parsed: &mut Parsed) -> Result<Vec<u32>> {
        let from = self.number(part, ends.0, parsed)?;
        let to = self.number(part, ends.1, parsed)?;
        Ok(if from <= to {
            (from..=to).collect()
        } else {
            (from..=self.last).chain(self.first..=to).collect()
        })
    }

    fn step(self, part: &str, step: &str) -> Result<usize> {
        let step = integer(step).and_then(|step| usize::try_from(step).ok());
        step.filter(|step| *step > 0)
            .ok_or_else(|| self.wrong(part, "a step of 1 or more behind the `/`"))
    }

    fn number(self, part: &str, text: &str, parsed: &mut Parsed) -> Result<u32> {
        if text.starts_with('-') {
            return Err(self.wrong(part, "a number that is not negative"));
        }
        let number = match integer(text) {
            Some(number) => u32::try_from(number).ok(),
            None => self.named(part, text, parsed),
        };
        let number = number.filter(|number| (self.first..=self.last).contains(number));
        number.ok_or_else(|| self.wrong(part, &self.expected(text)))
    }

    /// The number of a name, of which the first three letters count.
    fn named(self, part: &str, text: &str, parsed: &mut Parsed) -> Option<u32> {
        let end = text.char_indices().nth(3).map_or(text.len(), |(end, _)| end);
        let begins = text[..end].to_lowercase();
        let place = |names: &[&str]| names.iter().position(|name| *name == begins);
        let month = place(&MONTHS).map(|month| (month as u32 + 1, &MONTHS[..]));
        let (number, names) =
            month.or_else(|| place(&WEEKDAYS).map(|day| (day as u32, &WEEKDAYS[..])))?;
        let letters = text.find(|c: char| !c.is_alphabetic()).unwrap_or(text.len());
        if letters < text.len() {
            parsed.doubts.push(self.doubt(part, &text[letters..]));
        } else if self.names() != Some(names) {
            let spec = self.spec;
            parsed.doubts.push(format!(
                "crontab field `{spec}` has the name `{text}`, which is taken for the number {number} here"
            ));
        }
        Some(number)
    }

    /// What a number or a name should be.
    fn expected(self, text: &str) -> String {
        let names = self.names().map_or(String::new(), |names| {
            format!(" or a name such as `{}`", names[names.len() / 2])
        });
        if text.contains('/') {
            return "a star or a range in front of a step, as in `*/5`".to_owned();
        }
        let sunday = if self.is_week() && text == "7" { "; Sunday is 0" } else { "" };
        format!("a number from {} to {}{names}{sunday}", self.first, self.last)
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

    #[cold]
    fn doubt(self, part: &str, passed_over: &str) -> String {
        let spec = self.spec;
        let step =
            if passed_over.starts_with('/') { "; a step needs a star or a range" } else { "" };
        format!(
            "crontab field `{spec}` has the part `{part}`, of which `{passed_over}` is passed over as in Celery{step}"
        )
    }

    #[cold]
    fn wrong(self, part: &str, expected: &str) -> Error {
        let spec = self.spec;
        let message = format!("crontab field `{spec}` has the part `{part}`, expected {expected}");
        Error::new(ErrorKind::Config, message)
    }
}

fn every(numbers: Vec<u32>, step: usize) -> Vec<u32> {
    numbers.into_iter().step_by(step).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(spec in "(\\PC*|[-*/,0-9a-z]{0,12})", count in 1_u32..70, first in 0_u32..2) {
            let numbers = parse(&spec, count, first).unwrap_or_default().numbers;
            prop_assert!(numbers.iter().all(|number| (first..first + count).contains(number)));
        }
    }

    #[test]
    fn fields_stand_for_what_celery_says() {
        let all = |spec: &str, count, first| parse(spec, count, first).unwrap().numbers;
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
    fn what_celery_passes_over_is_told() {
        for (spec, count, first, numbers, told) in [
            ("mon/2", 7, 0, &[1][..], "`/2` is passed over"),
            ("mon - fri", 7, 0, &[1], "` - fri` is passed over"),
            ("1-5-9", 60, 0, &[1, 2, 3, 4, 5], "`-9` is passed over"),
            ("*/20/7", 60, 0, &[0, 20, 40], "`/7` is passed over"),
            ("mon", 60, 0, &[1], "taken for the number 1"),
            ("sat", 12, 1, &[6], "taken for the number 6"),
        ] {
            let parsed = parse(spec, count, first).unwrap();
            assert_eq!(parsed.numbers, numbers, "{spec}");
            assert!(parsed.doubts.len() == 1 && parsed.doubts[0].contains(told), "{parsed:?}");
        }
        for (spec, numbers) in [("1, 5", &[1, 5][..]), (" 7 ", &[7]), ("1_0,+5", &[10, 5])] {
            let expected = Parsed { numbers: numbers.to_vec(), doubts: Vec::new() };
            assert_eq!(parse(spec, 60, 0).unwrap(), expected, "{spec}");
        }
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
            ("some", 60, 0, "from 0 to 59"),
            ("sun", 31, 1, "from 1 to 31"),
            ("nov", 7, 0, "or a name such as `wed`"),
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
