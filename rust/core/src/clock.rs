//! The only reader of clocks.
//!
//! Stations take time as an argument; whoever calls them asks here. `Millis` is wall time, because
//! due times and expiry are agreed between machines; `Micros` is monotonic, because run times and
//! limits must not jump.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds.
pub type Millis = i64;

/// Monotonic microseconds, comparable between the processes of one machine since its boot.
pub type Micros = u64;

/// Wall time now.
#[allow(clippy::disallowed_methods)] // this is the place
pub fn wall_ms() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as Millis)
}

/// Wall time now, in microseconds since the Unix epoch.
#[allow(clippy::disallowed_methods)] // this is the place
pub fn wall_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

/// Monotonic time now. `CLOCK_MONOTONIC` on Unix, which parent and children share.
#[cfg(unix)]
#[allow(unsafe_code)]
pub fn mono_us() -> Micros {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid, writable timespec for the duration of the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut ts) };
    ts.tv_sec as u64 * 1_000_000 + ts.tv_nsec as u64 / 1_000
}

/// Monotonic time that goes on while the machine sleeps, where the system has such a clock: by it a
/// lease has lapsed.
#[allow(unsafe_code)]
pub fn boot_us() -> Micros {
    #[cfg(target_os = "linux")]
    {
        let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `ts` is a valid, writable timespec for the duration of the call.
        if unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut ts) } == 0 {
            return ts.tv_sec as u64 * 1_000_000 + ts.tv_nsec as u64 / 1_000;
        }
    }
    mono_us()
}

/// Monotonic time now.
#[cfg(not(unix))]
#[allow(clippy::disallowed_methods)]
pub fn mono_us() -> Micros {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_micros() as u64
}

/// The instant now, for deadlines handed to I/O.
#[allow(clippy::disallowed_methods)] // this is the place
pub fn instant() -> Instant {
    Instant::now()
}
