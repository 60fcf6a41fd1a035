//! What does this machine offer to a sandbox, and how could it offer more?
//!
//! Everything is tried, not guessed from versions. The trials change nothing: what they make ends with them.

pub mod cgroup;
pub mod kernel;
pub mod sandbox;

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kernel::Namespace;

/// How much of a part is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// All of it.
    Yes,
    /// Not all of it, or a newer one would do more.
    Partly,
    /// Nothing.
    No,
}

/// One part of what a sandbox is built from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Which part.
    pub name: &'static str,
    /// Whether it is there.
    pub holds: Holds,
    /// What was found.
    pub says: String,
    /// What to do for more; `None` where nothing is missing.
    pub cure: Option<String>,
}

/// What was found of the kernel.
#[must_use]
pub fn kernel() -> Vec<Finding> {
    vec![
        namespaces(&Namespace::ALL.map(|kind| (kind, kernel::namespace(kind)))),
        mounts(kernel::private_mount(), kernel::private_proc()),
        landlock(kernel::landlock_abi()),
        seccomp(kernel::seccomp(), kernel::seccomp_notify()),
        pidfd(kernel::pidfd()),
        groups(cgroup::own()),
    ]
}

/// The newest Landlock version that closes a door for programs: signals and abstract sockets (landlock(7), ABI 6).
const FULL_LANDLOCK: u32 = 6;

fn yes(name: &'static str, says: impl Into<String>) -> Finding {
    Finding { name, holds: Holds::Yes, says: says.into(), cure: None }
}

fn namespaces(tried: &[(Namespace, io::Result<()>)]) -> Finding {
    let names = |wanted: bool| {
        let chosen = tried.iter().filter(|(_, done)| done.is_ok() == wanted).map(|(kind, _)| kind.name());
        chosen.collect::<Vec<_>>().join(", ")
    };
    let (there, missing) = (names(true), names(false));
    let Some(error) = tried.iter().find_map(|(_, done)| done.as_ref().err()) else {
        return yes("namespaces", there);
    };
    let (holds, says) = match there.is_empty() {
        true => (Holds::No, format!("all refused: {error}")),
        false => (Holds::Partly, format!("{there}; refused: {missing} ({error})")),
    };
    Finding { name: "namespaces", holds, says, cure: Some(namespace_cure(&|path| std::fs::read_to_string(path).ok())) }
}

/// Which switch of the system is off, as far as it says.
fn namespace_cure(read: &dyn Fn(&str) -> Option<String>) -> String {
    let is = |path: &str, value: &str| read(path).is_some_and(|text| text.trim() == value);
    let switches = [
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with `userns,` for aepo",
        ),
    ];
    if let Some((_, _, cure)) = switches.iter().find(|(path, value, _)| is(path, value)) {
        return format!("as root: {cure}");
    }
    "in a container, let it make namespaces (Docker: --security-opt seccomp=unconfined, or a profile that allows \
     clone and unshare); elsewhere the kernel needs CONFIG_USER_NS"
        .to_owned()
}

fn mounts(tmpfs: io::Result<()>, proc: io::Result<()>) -> Finding {
    let name = "private mounts";
    match (tmpfs, proc) {
        (Ok(()), Ok(())) => yes(name, "tmpfs, /proc"),
        (Ok(()), Err(error)) => Finding {
            name,
            holds: Holds::Partly,
            says: format!("tmpfs; a /proc of its own is refused: {error}"),
            cure: Some(
                "in a container that hides parts of /proc, show them (Docker: --security-opt systempaths=unconfined)"
                    .to_owned(),
            ),
        },
        (Err(error), _) => Finding {
            name,
            holds: Holds::No,
            says: format!("refused: {error}"),
            cure: Some(
                "in a container, let it mount (Docker: --security-opt apparmor=unconfined --security-opt \
                 seccomp=unconfined); elsewhere see namespaces"
                    .to_owned(),
            ),
        },
    }
}

fn landlock(abi: io::Result<u32>) -> Finding {
    let name = "Landlock";
    let partly = |says: String| Finding {
        name,
        holds: Holds::Partly,
        says,
        cure: Some("a kernel of version 6.12 or newer also holds signals and abstract sockets".to_owned()),
    };
    let absent = |says: String, cure: &str| Finding { name, holds: Holds::No, says, cure: Some(cure.to_owned()) };
    match abi {
        Ok(abi) if abi >= FULL_LANDLOCK => yes(name, format!("ABI {abi}")),
        Ok(abi) => partly(format!("ABI {abi}")),
        Err(error) => match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => {
                absent("built, but switched off at boot".to_owned(), "boot with lsm=landlock in front of the list")
            }
            Some(libc::ENOSYS) => absent(
                "not in this kernel".to_owned(),
                "a kernel of version 5.13 or newer with CONFIG_SECURITY_LANDLOCK",
            ),
            _ => absent(
                format!("refused: {error}"),
                "in a container, allow landlock_create_ruleset in its seccomp profile",
            ),
        },
    }
}

fn seccomp(filters: io::Result<()>, notify: io::Result<()>) -> Finding {
    let name = "seccomp";
    match (filters, notify) {
        (Ok(()), Ok(())) => yes(name, "filters, with a supervisor"),
        (Ok(()), Err(error)) => Finding {
            name,
            holds: Holds::Partly,
            says: format!("filters; no supervisor: {error}"),
            cure: Some("a kernel of version 5.0 or newer".to_owned()),
        },
        (Err(error), _) => Finding {
            name,
            holds: Holds::No,
            says: format!("refused: {error}"),
            cure: Some("a kernel with CONFIG_SECCOMP_FILTER".to_owned()),
        },
    }
}

fn pidfd(opened: io::Result<()>) -> Finding {
    match opened {
        Ok(()) => yes("pidfd", "processes are watched and killed by descriptor"),
        Err(error) => Finding {
            name: "pidfd",
            holds: Holds::No,
            says: format!("refused: {error}"),
            cure: Some("a kernel of version 5.3 or newer".to_owned()),
        },
    }
}

/// Groups are told of and not used: a supervisor adds up the memory of each call, which works everywhere.
fn groups(group: Option<cgroup::Group>) -> Finding {
    let finding = |holds, found: String| {
        let says = format!("{found}; not needed: a supervisor adds up the memory of each call");
        Finding { name: "cgroup v2", holds, says, cure: None }
    };
    let Some(group) = group else { return finding(Holds::No, "not mounted".to_owned()) };
    let usable: Vec<&str> = ["memory", "pids", "cpu"].into_iter().filter(|name| group.offers(name)).collect();
    if !usable.is_empty() {
        let holds = if group.offers("memory") && group.offers("pids") { Holds::Yes } else { Holds::Partly };
        return finding(holds, format!("{} usable", usable.join(", ")));
    }
    let controllers = if group.controllers.is_empty() { "none".to_owned() } else { group.controllers.join(", ") };
    match group.delegated {
        true => finding(Holds::No, format!("of memory, pids and cpu none is usable (controllers: {controllers})")),
        false => finding(Holds::No, format!("no group can be made in {}", group.dir.display())),
    }
}

/// The first part of `path` that keeps another user from reading (and, for a directory, entering) it; `None` where
/// everybody may. Links are followed.
pub fn closed_to_others(path: &Path) -> io::Result<Option<PathBuf>> {
    let real = path.canonicalize()?;
    let mut parts: Vec<&Path> = real.ancestors().collect();
    parts.reverse();
    for part in parts {
        let meta = part.metadata()?;
        // Others need `x` to pass through a directory, and `r` and `x` to run a file.
        let needed = if meta.is_dir() { 0o001 } else { 0o005 };
        if meta.permissions().mode() & needed != needed {
            return Ok(Some(part.to_path_buf()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    #[test]
    fn what_is_missing_comes_with_a_cure_and_what_is_there_without() {
        let findings = kernel();
        assert_eq!(findings.len(), 6);
        for finding in findings {
            assert!(
                finding.cure.is_some() || finding.holds == Holds::Yes || finding.name == "cgroup v2",
                "{finding:?}"
            );
            assert!(finding.cure.is_none() || finding.holds != Holds::Yes, "{finding:?}");
            assert!(!finding.says.is_empty(), "{finding:?}");
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        assert_eq!(landlock(Ok(7)).holds, Holds::Yes);
        assert_eq!(landlock(Ok(3)).holds, Holds::Partly);
        assert!(landlock(Err(refused(libc::EOPNOTSUPP))).cure.unwrap().contains("lsm=landlock"));
        assert!(landlock(Err(refused(libc::ENOSYS))).cure.unwrap().contains("5.13"));
        assert!(landlock(Err(refused(libc::EPERM))).cure.unwrap().contains("container"));
        assert_eq!(mounts(Ok(()), Err(refused(libc::EPERM))).holds, Holds::Partly);
        assert_eq!(mounts(Err(refused(libc::EPERM)), Ok(())).holds, Holds::No);
        let mixed = [(Namespace::User, Ok(())), (Namespace::Net, Err(refused(libc::ENOSPC)))];
        let finding = namespaces(&mixed);
        assert_eq!(finding.holds, Holds::Partly);
        assert!(finding.says.starts_with("user; refused: net ("), "{}", finding.says);
    }

    #[test]
    fn the_switch_that_is_off_is_named() {
        let off = |name: &'static str, value: &'static str| {
            move |path: &str| path.ends_with(name).then(|| format!("{value}\n"))
        };
        assert!(namespace_cure(&off("max_user_namespaces", "0")).contains("user.max_user_namespaces"));
        assert!(namespace_cure(&off("restrict_unprivileged_userns", "1")).contains("AppArmor"));
        assert!(namespace_cure(&off("max_user_namespaces", "100")).contains("container"));
    }

    #[test]
    fn groups_that_cannot_be_used_say_why() {
        let group = |controllers: &[&str], delegated| cgroup::Group {
            dir: "/sys/fs/cgroup/x".into(),
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            delegated,
        };
        let says = |group| groups(group).says;
        assert!(says(Some(group(&["cpu", "memory", "pids"], true))).starts_with("memory, pids, cpu usable;"));
        assert_eq!(groups(Some(group(&["hugetlb"], true))).holds, Holds::No);
        assert_eq!(groups(Some(group(&["memory"], true))).holds, Holds::Partly);
        assert!(says(Some(group(&["memory", "pids"], false))).contains("/sys/fs/cgroup/x"));
        assert!(says(None).starts_with("not mounted;"));
    }

    #[test]
    fn a_closed_directory_on_the_way_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("python"), "").unwrap();
        mode(dir.path(), 0o755);
        mode(&inner, 0o755);
        mode(&inner.join("python"), 0o755);
        // Only below what this test made: where temporary directories lie is up to the system.
        let closed = || closed_to_others(&inner.join("python")).unwrap().filter(|part| part.starts_with(dir.path()));
        assert_eq!(closed(), None);
        mode(&inner.join("python"), 0o750);
        assert_eq!(closed(), Some(inner.join("python").canonicalize().unwrap()));
        mode(&inner, 0o700);
        assert_eq!(closed(), Some(inner.canonicalize().unwrap()));
    }
}
