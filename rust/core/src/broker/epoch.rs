//! How epochs are called: `<worker>:<number>` at the start of a process, with `~<n>` behind it after
//! `n` lost leases.

/// What the epochs of a process begin with, the first one's whole name. `random` is in `0..1`.
pub fn first(hostname: &str, random: f64) -> String {
    format!("{hostname}:{:013x}", (random * (1u64 << 52) as f64) as u64)
}

/// The epoch that follows when `lost` leases under names that begin with `first` were lost.
pub fn after(first: &str, lost: u32) -> String {
    if lost == 0 { first.to_owned() } else { format!("{first}~{lost}") }
}

/// Whether an epoch is that of another worker named `hostname`. The epochs of one process begin
/// with `own`.
pub fn is_namesake(epoch: &str, hostname: &str, own: &str) -> bool {
    !epoch.starts_with(own) && epoch.rsplit_once(':').is_some_and(|(name, _)| name == hostname)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namesake_is_another_process_of_the_same_name() {
        let own = first("w@h", 0.25);
        let other = first("w@h", 0.75);
        for (epoch, expected) in [
            (other.clone(), true),
            (after(&other, 2), true),
            (own.clone(), false),
            (after(&own, 2), false),
            (first("w@hh", 0.75), false),
            (first("v@h", 0.75), false),
        ] {
            assert_eq!(is_namesake(&epoch, "w@h", &own), expected, "{epoch}");
        }
    }
}
