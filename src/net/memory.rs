//! How much memory this process has.

/// Octets that are resident; `None` where the system does not tell.
#[must_use]
pub fn used() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibi: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kibi.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_some() {
        assert!(super::used().is_some_and(|used| used > 100_000));
    }
}
