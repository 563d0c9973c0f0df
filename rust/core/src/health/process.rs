//! Memory and processor time of processes, as the system says.
//!
//! On Linux from `/proc`, for any process; elsewhere nothing is said. The processor time of a pool is
//! that of the children that run and of those that have ended, which the zygote has waited for.

/// Figures of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    /// Bytes in memory.
    pub(super) resident: u64,
    /// Seconds of processor time.
    pub(super) cpu: f64,
}

/// Of process `pid`, if it is there.
#[cfg(target_os = "linux")]
pub(super) fn figures(pid: u32) -> Option<Figures> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse(&stat, rustix::param::page_size() as u64, rustix::param::clock_ticks_per_second())
}

/// Of process `pid`, if the system said.
#[cfg(not(target_os = "linux"))]
pub(super) fn figures(_pid: u32) -> Option<Figures> {
    None
}

/// How many files this process has open.
#[cfg(target_os = "linux")]
pub(super) fn open_files() -> Option<usize> {
    // The listing itself is one of them.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

/// How many files this process has open, if the system said.
#[cfg(not(target_os = "linux"))]
pub(super) fn open_files() -> Option<usize> {
    None
}

/// The fields behind the name of the program, which may have blanks and brackets in it.
#[cfg(target_os = "linux")]
fn parse(stat: &str, page: u64, ticks: u64) -> Option<Figures> {
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    // proc_pid_stat(5) counts from 1, and the first here is its third.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let cpu = (field(14)? + field(15)?) as f64 / ticks.max(1) as f64;
    Some(Figures { resident: field(24)?.saturating_mul(page), cpu })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_is_no_obstacle() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 4 0 100 1000 3 18";
        assert_eq!(parse(stat, 4096, 100), Some(Figures { resident: 3 * 4096, cpu: 3.0 }));
        for cut in ["", "7 (a", "7 (a) S 1", "7 (a) S x x x x x x x x x x x x x x x x x x x x x x"]
        {
            assert_eq!(parse(cut, 4096, 100), None, "{cut}");
        }
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let own = figures(std::process::id()).expect("it runs");
        assert!(own.resident > 100_000 && own.cpu >= 0.0, "{own:?}");
        assert!(open_files().expect("Linux") >= 3);
        assert_eq!(figures(u32::MAX), None);
    }
}
