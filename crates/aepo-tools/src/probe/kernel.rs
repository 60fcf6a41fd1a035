//! What does the kernel allow this process? Each answer is tried in a child that lives for the trial alone.

use std::io;

use libc::c_int;

/// A kind of namespace (namespaces(7)), as the sandbox uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Users and capabilities.
    User,
    /// Processes.
    Pid,
    /// Mounts.
    Mount,
    /// Network interfaces, addresses and ports.
    Net,
    /// System V and POSIX message queues, semaphores and shared memory.
    Ipc,
    /// The host's name.
    Uts,
}

impl Namespace {
    /// Every kind, in the order in which they are shown.
    pub const ALL: [Namespace; 6] =
        [Namespace::User, Namespace::Pid, Namespace::Mount, Namespace::Net, Namespace::Ipc, Namespace::Uts];

    /// Its name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Namespace::User => "user",
            Namespace::Pid => "pid",
            Namespace::Mount => "mount",
            Namespace::Net => "net",
            Namespace::Ipc => "ipc",
            Namespace::Uts => "uts",
        }
    }

    fn flag(self) -> c_int {
        match self {
            Namespace::User => libc::CLONE_NEWUSER,
            Namespace::Pid => libc::CLONE_NEWPID,
            Namespace::Mount => libc::CLONE_NEWNS,
            Namespace::Net => libc::CLONE_NEWNET,
            Namespace::Ipc => libc::CLONE_NEWIPC,
            Namespace::Uts => libc::CLONE_NEWUTS,
        }
    }
}

/// Whether a process can be started in a fresh namespace of this kind, beside a fresh user namespace.
pub fn namespace(kind: Namespace) -> io::Result<()> {
    in_child(libc::CLONE_NEWUSER | kind.flag(), || Ok(()))
}

/// Whether a file system in memory can be mounted in fresh user and mount namespaces.
pub fn private_mount() -> io::Result<()> {
    in_child(libc::CLONE_NEWUSER | libc::CLONE_NEWNS, || {
        detach_mounts()?;
        mount(c"tmpfs", c"/tmp", c"tmpfs", libc::MS_NOSUID | libc::MS_NODEV)
    })
}

/// Whether a `/proc` of its own can be mounted in a fresh pid namespace. Containers that hide parts of `/proc` refuse it.
pub fn private_proc() -> io::Result<()> {
    in_child(libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID, || {
        detach_mounts()?;
        mount(c"proc", c"/proc", c"proc", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC)
    })
}

/// The newest Landlock version that the kernel knows (landlock(7)).
pub fn landlock_abi() -> io::Result<u32> {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_ulong = 1;
    let none = std::ptr::null::<u8>();
    // SAFETY: with this flag the call takes no address and returns a number.
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0 as libc::size_t, LANDLOCK_CREATE_RULESET_VERSION)
    };
    u32::try_from(abi).map_err(|_| io::Error::last_os_error())
}

/// Whether system call filters can kill a process and refuse a call.
pub fn seccomp() -> io::Result<()> {
    [libc::SECCOMP_RET_KILL_PROCESS, libc::SECCOMP_RET_ERRNO].into_iter().try_for_each(seccomp_action)
}

/// Whether a filter can ask a supervisor (seccomp_unotify(2)).
pub fn seccomp_notify() -> io::Result<()> {
    seccomp_action(libc::SECCOMP_RET_USER_NOTIF)
}

fn seccomp_action(action: u32) -> io::Result<()> {
    // SAFETY: the address is of a live local, and the call only reads it.
    let answer = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0 as libc::c_uint, &raw const action)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a process can be watched and killed through a descriptor, which no other process can come to mean.
pub fn pidfd() -> io::Result<()> {
    // SAFETY: asks for a descriptor of ourselves; a fresh one is closed at once.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0 as libc::c_uint);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::close(fd as c_int);
    }
    Ok(())
}

/// The user id under which this process acts.
#[must_use]
pub fn uid() -> u32 {
    // SAFETY: has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

fn detach_mounts() -> Result<(), c_int> {
    // SAFETY: every address is null or of a terminated literal.
    let done = unsafe {
        libc::mount(
            std::ptr::null(),
            c"/".as_ptr(),
            std::ptr::null(),
            libc::MS_REC | libc::MS_PRIVATE,
            std::ptr::null(),
        )
    };
    if done == 0 { Ok(()) } else { Err(errno()) }
}

fn mount(
    source: &std::ffi::CStr,
    target: &std::ffi::CStr,
    kind: &std::ffi::CStr,
    flags: libc::c_ulong,
) -> Result<(), c_int> {
    // SAFETY: every address is null or of a terminated literal.
    let done = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) };
    if done == 0 { Ok(()) } else { Err(errno()) }
}

fn errno() -> c_int {
    // SAFETY: the address is of this thread's own variable.
    unsafe { *libc::__errno_location() }
}

/// Runs `act` in a child with fresh namespaces. `act` may do nothing but system calls: the child is a copy of one
/// thread, and locks of the others may be held for ever.
fn in_child(flags: c_int, act: fn() -> Result<(), c_int>) -> io::Result<()> {
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: without CLONE_VM the child has a copy of our memory and goes on here, as after fork; it makes system
    // calls only and leaves without unwinding. Its status is collected below.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags | libc::SIGCHLD), null, null, null, null) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        // Every error number of Linux fits an exit status (errno(3): at most 133).
        let code = act().err().unwrap_or(0);
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: the address is of a live local; the child is ours until it has been waited for.
    while unsafe { libc::waitpid(pid as libc::pid_t, &raw mut status, 0) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, 0) => Ok(()),
        (true, code) => Err(io::Error::from_raw_os_error(code)),
        (false, _) => Err(io::Error::other("the trial was killed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_tells_what_the_child_was_told() {
        in_child(0, || Ok(())).unwrap();
        assert_eq!(in_child(0, || Err(libc::EPERM)).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(in_child(libc::CLONE_THREAD, || Ok(())).is_err(), "a thread needs shared memory");
    }

    #[test]
    fn the_mounts_of_a_trial_are_its_own() {
        let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let before = mounts();
        // Whether they are allowed depends on the machine; that they leave no trace does not.
        let _ = (private_mount(), private_proc());
        assert_eq!(mounts(), before);
    }
}
