//! How much memory a process takes.

/// The most memory that this process has had at a time, in KiB; `None` where the system does not
/// tell.
#[allow(unsafe_code)]
pub fn peak_kib() -> Option<u32> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to memory for one `rusage`, which the call fills.
    let told = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) } == 0;
    // SAFETY: all zeros are a valid `rusage`, whether or not the call has filled it.
    let most = unsafe { usage.assume_init() }.ru_maxrss;
    // macOS counts bytes.
    let unit = if cfg!(target_vendor = "apple") { 1024 } else { 1 };
    u32::try_from(most / unit).ok().filter(|most| told && *most > 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_grows_with_what_is_used() {
        let before = super::peak_kib().expect("told");
        let used = vec![1u8; 64 << 20];
        assert!(super::peak_kib().expect("told") >= before.max(64 << 10), "{}", used.len());
    }
}
