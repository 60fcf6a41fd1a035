//! How much memory did this process hold at most? The kernel's own mark, which can be set back between cases.

use std::fs;

/// The most memory that was resident since [`reset`], or since the start, MiB (`VmHWM`); `None` where the system does
/// not say.
pub fn peak_mib() -> Option<f64> {
    in_mib(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Sets the mark back to what is resident now (proc(5): 5 to `clear_refs`). Where that is refused the mark stays that of
/// the whole process, which is then what rows tell.
pub fn reset() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

fn in_mib(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_read_in_mib() {
        assert_eq!(in_mib("VmPeak: 9 kB\nVmHWM:\t    2048 kB\n", "VmHWM:"), Some(2.0));
        assert_eq!(in_mib("VmPeak: 9 kB\n", "VmHWM:"), None);
    }
}
