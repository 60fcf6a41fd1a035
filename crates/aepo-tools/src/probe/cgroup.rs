//! Which control groups (cgroup v2) could bound a sandbox's memory and number of processes?

use std::path::{Path, PathBuf};

/// The group of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its directory.
    pub dir: PathBuf,
    /// Controllers that it may hand on, such as `memory`.
    pub controllers: Vec<String>,
    /// Whether groups can be made below it.
    pub delegated: bool,
}

impl Group {
    /// Whether a group of its own could hold a sandbox to `controller`'s limits.
    #[must_use]
    pub fn offers(&self, controller: &str) -> bool {
        self.delegated && self.controllers.iter().any(|name| name == controller)
    }
}

/// The cgroup v2 of this process, where the system has such groups.
#[must_use]
pub fn own() -> Option<Group> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let dir = directory(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)?;
    let controllers = std::fs::read_to_string(dir.join("cgroup.controllers")).ok()?;
    let controllers = controllers.split_whitespace().map(str::to_owned).collect();
    // Making a group is the only sure answer: file modes say nothing about a mount that is read-only or a namespace.
    let trial = dir.join(format!("aepo-probe-{}", std::process::id()));
    let delegated = std::fs::create_dir(&trial).and_then(|()| std::fs::remove_dir(&trial)).is_ok();
    Some(Group { dir, controllers, delegated })
}

/// The directory of a process's group: `mountinfo` says where groups are mounted (proc(5): fields 4 and 5 are what is
/// mounted and where; after a lone `-` comes the kind), `groups` (`0::/path`) which it is.
fn directory(mountinfo: &str, groups: &str) -> Option<PathBuf> {
    let (root, point) = mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        after.starts_with("cgroup2 ").then_some((root, point))
    })?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    // A container may have mounted a part of the tree alone.
    let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(path).strip_prefix("/").ok()?);
    Some(if below.as_os_str().is_empty() { PathBuf::from(point) } else { Path::new(point).join(below) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_directory_is_found_where_it_is_mounted() {
        let whole = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(directory(whole, "0::/user.slice/a\n"), Some(PathBuf::from("/sys/fs/cgroup/user.slice/a")));
        assert_eq!(directory(whole, "0::/\n"), Some(PathBuf::from("/sys/fs/cgroup")));
        let part = "30 23 0:26 /box /groups rw - cgroup2 none rw\n";
        assert_eq!(directory(part, "0::/box/a\n"), Some(PathBuf::from("/groups/a")));
        let first = "30 23 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        assert_eq!(directory(first, "5:memory:/a\n0::/\n"), None);
        assert_eq!(directory(whole, "5:memory:/a\n"), None);
        assert_eq!(directory("nonsense", "0::/"), None);
    }

    #[test]
    fn a_controller_is_offered_only_where_groups_can_be_made() {
        let group = Group { dir: "/".into(), controllers: vec!["memory".to_owned()], delegated: true };
        assert!(group.offers("memory") && !group.offers("pids"));
        assert!(!Group { delegated: false, ..group }.offers("memory"));
    }
}
