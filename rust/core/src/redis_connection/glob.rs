//! Patterns of names, as the server matches them.

/// The glob that everything with a prefix matches.
pub(crate) fn glob(prefix: &str) -> String {
    let mut glob = String::with_capacity(prefix.len() + 1);
    for character in prefix.chars() {
        if matches!(character, '*' | '?' | '[' | '\\') {
            glob.push('\\');
        }
        glob.push(character);
    }
    glob.push('*');
    glob
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_glob() {
        assert_eq!(glob("a*b:"), "a\\*b:*");
        assert_eq!(glob("[celery]-"), "\\[celery]-*");
    }
}
