//! Names by pattern, as Python's `fnmatch`: `*`, `?`, `[abc]`, `[!a-z]`.

/// Whether a name fits a pattern. In time of their lengths' product, whatever they are.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows the last star does not fit: behind the star, and one further
    // in the name.
    let mut again = None;
    while n < name.len() {
        match piece(&pattern[p..]) {
            Some((Piece::Star, length)) => {
                p += length;
                again = Some((p, n + 1));
            }
            Some((piece, length)) if piece.takes(name[n]) => {
                p += length;
                n += 1;
            }
            _ => match &mut again {
                Some((behind, next)) => {
                    (p, n) = (*behind, *next);
                    *next += 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// One part of a pattern.
enum Piece<'p> {
    Star,
    Any,
    One(char),
    /// The characters between brackets, and whether those are meant that are not among them.
    Among(&'p [char], bool),
}

impl Piece<'_> {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Star => false,
            Self::Any => true,
            Self::One(one) => *one == c,
            Self::Among(list, others) => among(list, c) != *others,
        }
    }
}

/// The first part of a pattern, and its length.
fn piece(pattern: &[char]) -> Option<(Piece<'_>, usize)> {
    Some(match *pattern.first()? {
        '*' => (Piece::Star, 1),
        '?' => (Piece::Any, 1),
        '[' => match closing(pattern) {
            Some(end) => {
                let others = pattern[1] == '!';
                (Piece::Among(&pattern[1 + usize::from(others)..end], others), end + 1)
            }
            None => (Piece::One('['), 1),
        },
        c => (Piece::One(c), 1),
    })
}

/// Where the bracket is closed that a pattern begins with; the first character between them may be
/// a bracket itself.
fn closing(pattern: &[char]) -> Option<usize> {
    let first = if pattern.get(1) == Some(&'!') { 3 } else { 2 };
    (first..pattern.len()).find(|at| pattern[*at] == ']')
}

fn among(list: &[char], c: char) -> bool {
    let mut at = 0;
    while at < list.len() {
        if at + 2 < list.len() && list[at + 1] == '-' {
            if (list[at]..=list[at + 2]).contains(&c) {
                return true;
            }
            at += 3;
        } else if list[at] == c {
            return true;
        } else {
            at += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_fit_as_fnmatch_says() {
        for (pattern, fitting, others) in [
            ("celery@*", vec!["celery@", "celery@a.b"], vec!["other@a", "celery"]),
            ("*@host?", vec!["w@host1"], vec!["w@host", "w@host12"]),
            ("w[1-3]@*", vec!["w1@h", "w3@h"], vec!["w4@h", "w@h"]),
            ("w[!1]@h", vec!["w2@h"], vec!["w1@h"]),
            ("[]a]", vec!["]", "a"], vec!["b"]),
            ("[a", vec!["[a"], vec!["a"]),
            ("a-[x-]", vec!["a-x", "a--"], vec!["a-y"]),
            ("*a*b*", vec!["ab", "xaxbx", "aab"], vec!["ba", "a"]),
            ("", vec![""], vec!["a"]),
        ] {
            for name in fitting {
                assert!(fits(pattern, name), "`{name}` fits `{pattern}`");
            }
            for name in others {
                assert!(!fits(pattern, name), "`{name}` does not fit `{pattern}`");
            }
        }
        assert!(!fits(&"*a".repeat(200), &"a".repeat(199)));
    }

    proptest! {
        #[test]
        fn any_pattern_is_judged(pattern in "[ab*?\\[\\]!-]{0,12}", name in "[ab\\[-]{0,8}") {
            fits(&pattern, &name);
            prop_assert!(fits("*", &name));
        }
    }
}
