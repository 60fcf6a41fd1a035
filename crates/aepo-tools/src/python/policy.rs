//! What may a program do? The list of allowed system calls and of readable files, compiled once at start.
//!
//! The list is of what is allowed, so a call that a later kernel adds is refused. Filters are data here; the sandbox
//! installs them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::error::ToolsError;
use crate::python::interpreter::Interpreter;

/// Stands for the program's own process id, which is unknown when the filter is compiled. Above the kernel's greatest
/// id (4194304), so an unpatched filter allows no signal at all.
pub(crate) const OWN_PID: u32 = 0x3FFF_FFFD;

/// Landlock's newest version whose rights we know.
pub(crate) const NEWEST_ABI: ABI = ABI::V7;

/// Two filters, in the order of their installation: `clone3` → `ENOSYS`, which makes the C library fall back on `clone`,
/// whose flags a filter can see; then the list of what is allowed at all, the rest being `EPERM`. The second comes last
/// because it refuses the installing of filters, too.
pub(crate) fn filters() -> Result<[BpfProgram; 2], ToolsError> {
    compile(&[ALLOWED, LEGACY], conditional)
}

/// The same for programs in namespaces of their own, where other processes and files are only their own: they may start
/// processes, send signals, and change the rights of files.
pub(crate) fn namespace_filters() -> Result<[BpfProgram; 2], ToolsError> {
    compile(&[ALLOWED, LEGACY, OWN_WORLD, OWN_WORLD_LEGACY], conditional_in_namespaces)
}

/// The same for sessions, whose clones lock themselves in further.
pub(crate) fn session_filters() -> Result<[BpfProgram; 2], ToolsError> {
    let narrower: &[c_long] = &[libc::SYS_landlock_create_ruleset, libc::SYS_landlock_restrict_self];
    compile(&[ALLOWED, LEGACY, OWN_WORLD, OWN_WORLD_LEGACY, narrower], conditional_in_namespaces)
}

/// For a namespace's first process, which sleeps until it is killed. A filter costs a start what its length is, so this
/// one is short.
pub(crate) fn sleeper_filters() -> Result<[BpfProgram; 2], ToolsError> {
    #[cfg(target_arch = "x86_64")]
    let pause: &[c_long] = &[libc::SYS_pause];
    #[cfg(not(target_arch = "x86_64"))]
    let pause: &[c_long] = &[];
    let sleep = &[libc::SYS_ppoll, libc::SYS_futex, libc::SYS_rt_sigreturn, libc::SYS_restart_syscall];
    compile(&[pause, sleep, &[libc::SYS_exit_group]], || Ok(Vec::new()))
}

fn compile(
    allowed: &[&[c_long]],
    conditional: fn() -> Result<Rules, seccompiler::BackendError>,
) -> Result<[BpfProgram; 2], ToolsError> {
    let refused = |e: &dyn std::fmt::Display| ToolsError::Kernel { what: "seccomp filters", reason: e.to_string() };
    let arch = std::env::consts::ARCH.try_into().map_err(|e: seccompiler::BackendError| refused(&e))?;
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        allowed.iter().flat_map(|list| list.iter().map(|&call| (call, vec![]))).collect();
    rules.extend(conditional().map_err(|e| refused(&e))?);
    let allow = SeccompFilter::new(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow, arch);
    let clone3 = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, vec![])]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        arch,
    );
    let compile = |filter: Result<SeccompFilter, seccompiler::BackendError>| {
        filter.and_then(BpfProgram::try_from).map_err(|e| refused(&e))
    };
    Ok([compile(clone3)?, compile(allow)?])
}

type Rules = Vec<(c_long, Vec<SeccompRule>)>;

/// Of the conditions below those that hold in namespaces, too; of `clone` only that it makes none, and no sibling: the
/// server must know each of its children.
fn conditional_in_namespaces() -> Result<Rules, seccompiler::BackendError> {
    let free = [libc::SYS_kill, libc::SYS_tgkill, libc::SYS_openat];
    let mut rules = conditional()?;
    rules.retain(|(call, _)| !free.contains(call));
    let forbidden = NAMESPACES | libc::CLONE_PARENT as u64;
    let none = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(forbidden), 0)?;
    for (call, rule) in &mut rules {
        if *call == libc::SYS_clone {
            *rule = vec![SeccompRule::new(vec![none.clone()])?];
        }
    }
    rules.extend(free.map(|call| (call, vec![])));
    #[cfg(target_arch = "x86_64")]
    {
        rules.retain(|(call, _)| *call != libc::SYS_open);
        rules.push((libc::SYS_open, vec![]));
    }
    Ok(rules)
}

/// The flags of `clone` that make namespaces: time, mount, cgroup, uts, ipc, user, pid, net.
const NAMESPACES: u64 =
    0x80 | 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000;

/// Calls that are allowed for some arguments only.
fn conditional() -> Result<Rules, seccompiler::BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq};
    let when = |argument: u8, op: SeccompCmpOp, value: u64| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
    };
    let one = |argument, op, value| SeccompRule::new(vec![when(argument, op, value)?]);
    let any_of = |argument: u8, values: &[u64]| -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
        values.iter().map(|&value| one(argument, Eq, value)).collect()
    };
    // Threads yes; processes and namespaces no. So nothing a program starts can outlive it.
    let thread = libc::CLONE_THREAD as u64;
    let own = u64::from(OWN_PID);
    let rdonly_trunc = (libc::O_TRUNC | libc::O_ACCMODE) as u64;
    // Opening read-only with O_TRUNC empties the file, and the first two Landlock versions do not see it as a write.
    let opens = |flags: u8| -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
        Ok(vec![
            one(flags, MaskedEq(libc::O_TRUNC as u64), 0)?,
            one(flags, MaskedEq(rdonly_trunc), (libc::O_TRUNC | libc::O_WRONLY) as u64)?,
            one(flags, MaskedEq(rdonly_trunc), (libc::O_TRUNC | libc::O_RDWR) as u64)?,
        ])
    };
    // A descriptor's owner would be sent a signal of the program's choice: no F_SETOWN, no F_SETSIG.
    let fcntl = [
        libc::F_DUPFD,
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_GETLK,
        libc::F_SETLK,
        libc::F_SETLKW,
        libc::F_OFD_GETLK,
        libc::F_OFD_SETLK,
        libc::F_OFD_SETLKW,
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETPIPE_SZ,
    ];
    let fcntl: Vec<u64> = fcntl.iter().map(|&command| command as u64).collect();
    let ioctl: [u64; 6] =
        [libc::TCGETS, libc::TIOCGWINSZ, libc::FIONREAD, libc::FIONBIO, libc::FIOCLEX, libc::FIONCLEX];
    let prctl = [libc::PR_SET_NAME as u64, libc::PR_GET_NAME as u64, libc::PR_SET_VMA as u64];
    // An event loop wakes itself through a connected pair; a pair of datagram sockets could send to any address.
    let pair =
        SeccompRule::new(vec![when(0, Eq, libc::AF_UNIX as u64)?, when(1, MaskedEq(0xF), libc::SOCK_STREAM as u64)?])?;
    let mut rules = vec![
        (libc::SYS_clone, vec![one(0, MaskedEq(thread | NAMESPACES), thread)?]),
        (libc::SYS_kill, any_of(0, &[0, own])?),
        (libc::SYS_tgkill, any_of(0, &[own])?),
        // On another process of the same user it would change the trainer's own limits.
        (libc::SYS_prlimit64, any_of(0, &[0])?),
        (libc::SYS_fcntl, any_of(1, &fcntl)?),
        (libc::SYS_ioctl, any_of(1, &ioctl)?),
        (libc::SYS_prctl, any_of(0, &prctl)?),
        (libc::SYS_socketpair, vec![pair]),
        (libc::SYS_openat, opens(2)?),
    ];
    #[cfg(target_arch = "x86_64")]
    rules.push((libc::SYS_open, opens(1)?));
    rules.shrink_to_fit();
    Ok(rules)
}

/// The files a program may read, the one directory it may write in. Refused where the kernel has no Landlock at all;
/// what later versions add (truncation, devices, TCP, signals) is used where it is there, and the system call filter
/// covers the same ground where it is not.
pub(crate) fn ruleset(interpreter: &Interpreter, scratch: &Path, abi: ABI) -> Result<OwnedFd, ToolsError> {
    let no_landlock = || ToolsError::Kernel {
        what: "Landlock (Linux 5.13 or later, with \"landlock\" among the active security modules)",
        reason: "landlock_create_ruleset is not available".to_owned(),
    };
    let refused = |e: RulesetError| ToolsError::Kernel { what: "Landlock", reason: e.to_string() };
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .map_err(|_| no_landlock())?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .map_err(refused)?;
    if abi >= ABI::V4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi)).map_err(refused)?;
    }
    if abi >= ABI::V6 {
        ruleset = ruleset.scope(Scope::from_all(abi)).map_err(refused)?;
    }
    let mut created = ruleset.create().map_err(refused)?;
    let read: BitFlags<AccessFs> = AccessFs::ReadFile.into();
    let list = AccessFs::ReadFile | AccessFs::ReadDir;
    let execute = AccessFs::ReadFile | AccessFs::Execute;
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    let own = list
        | AccessFs::WriteFile
        | AccessFs::RemoveDir
        | AccessFs::RemoveFile
        | AccessFs::MakeDir
        | AccessFs::MakeReg
        | AccessFs::Refer
        | AccessFs::Truncate;
    let own = own & AccessFs::from_all(abi);
    let mut rules: Vec<(&Path, BitFlags<AccessFs>)> = vec![
        (scratch, own),
        (&interpreter.exe, execute),
        (Path::new("/dev/null"), device),
        (Path::new("/dev/urandom"), read),
        (Path::new("/dev/zero"), read),
    ];
    if let Some(loader) = &interpreter.loader {
        rules.push((loader, execute));
    }
    if Path::new("/etc/ld.so.cache").is_file() {
        rules.push((Path::new("/etc/ld.so.cache"), read));
    }
    rules.extend(interpreter.read_dirs.iter().map(|dir| (dir.as_path(), list)));
    for (path, access) in rules {
        let fd = PathFd::new(path).map_err(|e| ToolsError::Kernel { what: "Landlock", reason: e.to_string() })?;
        created = created.add_rule(PathBeneath::new(fd, access)).map_err(refused)?;
    }
    Option::<OwnedFd>::from(created).ok_or_else(no_landlock)
}

/// Allowed whatever the arguments: files (paths are Landlock's business), memory, time, own threads and signals.
/// Absent on purpose: what Landlock does not see (`chmod`, `chown`, extended attributes, `utime`, `truncate` by path,
/// `inotify`), sockets, other processes (`ptrace`, `pidfd_*`, `process_vm_*`, scheduling), System V and POSIX queues
/// and shared memory (they outlive a process), `memfd_create` (memory outside the limit), keys, BPF, `io_uring`,
/// namespaces and mounts.
const ALLOWED: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fadvise64,
    libc::SYS_umask,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_brk,
    libc::SYS_membarrier,
    libc::SYS_rseq,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_getcpu,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getrandom,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_setitimer,
    libc::SYS_getitimer,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Landlock leaves only the interpreter and its loader to execute, and the new image keeps every limit.
    libc::SYS_execve,
    // Answered by the other filter.
    libc::SYS_clone3,
];

/// Allowed, too, where processes and files are the program's own.
const OWN_WORLD: &[c_long] = &[
    libc::SYS_tkill,
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_truncate,
    libc::SYS_symlinkat,
];

/// Older forms of the same calls, which only x86-64 has.
#[cfg(target_arch = "x86_64")]
const OWN_WORLD_LEGACY: &[c_long] =
    &[libc::SYS_fork, libc::SYS_vfork, libc::SYS_chmod, libc::SYS_utime, libc::SYS_utimes, libc::SYS_symlink];

/// Older forms of the same calls, which only x86-64 has.
#[cfg(not(target_arch = "x86_64"))]
const OWN_WORLD_LEGACY: &[c_long] = &[];

/// Older forms of the same calls, which only x86-64 has.
#[cfg(target_arch = "x86_64")]
const LEGACY: &[c_long] = &[
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_time,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_getpgrp,
    libc::SYS_arch_prctl,
    libc::SYS_getrlimit,
    libc::SYS_setrlimit,
];

/// Older forms of the same calls, which only x86-64 has.
#[cfg(not(target_arch = "x86_64"))]
const LEGACY: &[c_long] = &[];
