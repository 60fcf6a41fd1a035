//! How much memory do the processes of a call take together? Read from the kernel's tables, for machines that delegate no
//! control group.

use std::fs;

/// A call has far fewer processes; what lists more is not looked through to its end.
const MAX_PROCESSES: usize = 4096;

/// Whether the processes `roots` and all their descendants take more than `max_bytes`. Pages that several share count
/// once: a forked interpreter shares most of what it holds with its siblings.
pub(crate) fn is_over(roots: [i32; 2], max_bytes: u64) -> bool {
    held(roots, max_bytes) > max_bytes
}

/// Memory of the processes `roots` and all their descendants, bytes; exact only above `enough`.
pub(crate) fn held(roots: [i32; 2], enough: u64) -> u64 {
    taken(&descendants(roots), enough)
}

/// Resident pages are an upper bound and cheap to read; shares are exact and slow, and asked for only above `enough`.
fn taken(pids: &[i32], enough: u64) -> u64 {
    let resident: u64 = pids.iter().map(|&pid| resident_bytes(pid)).sum();
    if resident <= enough { resident } else { pids.iter().map(|&pid| proportional_bytes(pid)).sum() }
}

/// The id that we see a child of `init` by, whose id in `init`'s own namespace is `inner`.
pub(crate) fn child_with_inner_id(init: i32, inner: i32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).ok()?;
    let is_it = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        ids.and_then(|ids| ids.split_ascii_whitespace().next_back()?.parse::<i32>().ok()) == Some(inner)
    };
    children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).find(is_it)
}

/// Processes below `roots`, these included, and memory that they hold, bytes, exact only above `enough`. None if one of
/// them has several threads.
pub(crate) fn quiet(roots: [i32; 2], enough: u64) -> Option<(usize, u64)> {
    let pids = descendants(roots);
    let n_threads = |pid: &i32| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let is_quiet = pids.iter().all(|pid| n_threads(pid) <= 1);
    is_quiet.then(|| (pids.len(), taken(&pids, enough)))
}

/// The processes, and what they started. One that ends meanwhile is passed over; its orphans become the first process's.
fn descendants(roots: [i32; 2]) -> Vec<i32> {
    let mut pids = Vec::new();
    let mut todo = roots.to_vec();
    while let Some(pid) = todo.pop() {
        if pid <= 0 || pids.len() >= MAX_PROCESSES {
            continue;
        }
        pids.push(pid);
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            todo.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
    }
    pids
}

/// Anonymous and shared memory that is resident, bytes; file pages belong to nobody. 0 for a process that has ended.
fn resident_bytes(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    kilobytes(&status, "RssAnon:") + kilobytes(&status, "RssShmem:")
}

/// The same, each page divided by the number of processes that share it.
fn proportional_bytes(pid: i32) -> u64 {
    let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
        return resident_bytes(pid);
    };
    kilobytes(&rollup, "Pss_Anon:") + kilobytes(&rollup, "Pss_Shmem:")
}

/// The number of KiB in the line that begins with `name`, in bytes.
fn kilobytes(table: &str, name: &str) -> u64 {
    let line = table.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_memory_is_counted() {
        let kept = vec![1u8; 64 << 20];
        let me = std::process::id() as i32;
        assert!(is_over([me, 0], 64 << 20));
        assert!(!is_over([me, 0], 64 << 30));
        assert_eq!(kept[kept.len() - 1], 1);
        assert!(proportional_bytes(me) >= 64 << 20);
        assert_eq!(resident_bytes(i32::MAX), 0);
    }
}
