//! Signals by name, as `kill` and Celery spell them.

/// Those that end a process, or may; which a pool can use is the pool's to say.
const NAMES: [(&str, i32); 12] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("ABRT", 6),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", libc_usr1()),
    ("SEGV", 11),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", TERM),
];

/// What ends a task when nobody names another.
pub(super) const TERM: i32 = 15;

#[cfg(unix)]
const fn libc_usr1() -> i32 {
    libc::SIGUSR1
}

#[cfg(not(unix))]
const fn libc_usr1() -> i32 {
    10
}

/// The number of a signal: `TERM`, `SIGTERM`, `sigterm`.
pub(super) fn number(name: &str) -> Option<i32> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.iter().find(|(known, _)| *known == short).map(|(_, number)| *number)
}
