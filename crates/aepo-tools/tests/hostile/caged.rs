//! What is exactly said behind Landlock alone, where a call is one process that sees the host's names?

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;
use aepo_tools::python::{Backend, Executor, Limits, Program};

use crate::suite::{patient, start};

/// An interpreter behind Landlock, and what its programs may take.
struct Caged {
    executor: Executor,
    limits: Limits,
}

fn python(limits: Limits) -> Option<Caged> {
    start(Backend::Landlock, 1).map(|executor| Caged { executor, limits })
}

fn run(tools: &mut Caged, code: &str) -> (ToolOutcome, String) {
    let ran = tools.executor.run(&Program::new(code, Seed(7), &tools.limits));
    (ran.outcome, ran.text())
}

/// Runs `act` (an expression) and demands that the kernel refuses it.
fn refused(tools: &mut Caged, import: &str, act: &str) {
    let code = format!(
        "import {import}\ntry:\n    {act}\nexcept PermissionError:\n    print('refused')\nexcept OSError as e:\n    \
         print('other', e)\nelse:\n    print('allowed')"
    );
    assert_eq!(run(tools, &code), (ToolOutcome::Ok, "refused".to_owned()), "{act}");
}

#[test]
fn processor_time_ends() {
    let Some(tools) = &mut python(Limits { wall_secs: 60.0, cpu_secs: 1, ..Limits::default() }) else { return };
    let (outcome, text) = run(tools, "while True: pass");
    assert_eq!((outcome, text.as_str()), (ToolOutcome::Timeout, "killed: processor time limit of 1 s"));
    let (outcome, _) = run(tools, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)");
    assert_eq!(outcome, ToolOutcome::Signal);
}

#[test]
fn no_process_but_its_own() {
    let Some(tools) = &mut python(patient()) else { return };
    refused(tools, "os", "os.fork()");
    refused(tools, "subprocess", "subprocess.run(['true'])");
    refused(tools, "os", "os.posix_spawn('/bin/true', ['true'], {})");
    refused(tools, "os", "os.execv('/bin/sh', ['sh', '-c', 'echo hi'])");
    refused(tools, "os", "os.kill(os.getppid(), 9)");
    refused(tools, "os", "os.kill(os.getppid(), 0)");
    refused(tools, "os", "os.kill(1, 0)");
    refused(tools, "os", "os.kill(-1, 9)");
    refused(tools, "os", "os.setsid()");
    refused(tools, "os", "os.setuid(0)");
    refused(tools, "os", "os.setpriority(os.PRIO_PROCESS, os.getppid(), 5)");
    refused(tools, "resource, os", "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))");
    refused(tools, "os", "os.pidfd_open(os.getppid())");
    refused(tools, "os", "os.sched_setaffinity(os.getppid(), {0})");
    let bomb = "import os\nn = 0\nfor _ in range(10000):\n    try: os.fork()\n    except OSError: n += 1\nn";
    assert_eq!(run(tools, bomb), (ToolOutcome::Ok, "10000".to_owned()));
    // A whole group is its own group.
    assert_eq!(run(tools, "import os; os.killpg(0, 9)").0, ToolOutcome::Signal);
    assert_eq!(run(tools, "import os; os.kill(0, 15)").0, ToolOutcome::Signal);
    assert_eq!(run(tools, "'alive'"), (ToolOutcome::Ok, "'alive'".to_owned()));
}

#[test]
fn raw_system_calls_are_refused() {
    let Some(tools) = &mut python(patient()) else { return };
    // (number, arguments) on x86-64: new processes and namespaces, other processes, the kernel's wide doors.
    let code = r#"
import ctypes, platform
assert platform.machine() == "x86_64"
libc = ctypes.CDLL(None, use_errno=True)
NEW_USER, NEW_NS, NEW_NET, THREAD = 0x10000000, 0x20000, 0x40000000, 0x10000
calls = {
    "clone(NEWUSER)": (56, NEW_USER | 17), "clone(fork)": (56, 17), "clone(THREAD|NEWNET)": (56, THREAD | NEW_NET),
    "fork": (57,), "vfork": (58,), "clone3": (435, 0, 0), "unshare": (272, NEW_USER), "setns": (308, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0), "pivot_root": (155, 0, 0), "chroot": (161, b"/"), "ptrace": (101, 16, 1),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0), "bpf": (321, 0, 0, 0), "perf_event_open": (298, 0, 0, 0, 0, 0),
    "io_uring_setup": (425, 1, 0), "userfaultfd": (323, 0), "keyctl": (250, 0), "add_key": (248, 0, 0, 0, 0, 0),
    "memfd_create": (319, b"x", 0), "shmget": (29, 0, 4096, 0o1600), "mq_open": (240, b"x", 66, 0o600, 0),
    "socket": (41, 1, 1, 0), "socketpair(DGRAM)": (53, 1, 2, 0, 0), "connect": (42, 0, 0, 0), "bind": (49, 0, 0, 0),
    "prctl(PDEATHSIG)": (157, 1, 0), "openat2": (437, -100, 0, 0, 0), "open_by_handle_at": (304, 0, 0, 0),
    "execveat": (322, -100, b"/bin/true", 0, 0, 0), "x32 getpid": (0x40000000 | 39,), "seccomp": (317, 0, 0, 0),
    "tkill": (200, 1, 0), "rt_sigqueueinfo": (129, 1, 0, 0), "pidfd_send_signal": (424, 0, 0, 0, 0),
    "personality": (135, 0), "inotify_init": (253,), "setxattr": (188, b"x", b"user.a", b"1", 1, 0),
}
for name, (number, *args) in calls.items():
    ctypes.set_errno(0)
    result = libc.syscall(number, *args)
    errno = ctypes.get_errno()
    wanted = 38 if name == "clone3" else 1
    if result != -1 or errno != wanted: print(name, result, errno)
"done"
"#;
    if cfg!(target_arch = "x86_64") {
        assert_eq!(run(tools, code), (ToolOutcome::Ok, "'done'".to_owned()));
    }
}

#[test]
fn no_network() {
    let Some(tools) = &mut python(patient()) else { return };
    for act in [
        "socket.socket()",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_UNIX)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "socket.create_connection(('127.0.0.1', 80))",
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
    ] {
        refused(tools, "socket", act);
    }
}

#[test]
fn no_files_but_its_own() {
    let canary = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(canary.path(), "canary").unwrap();
    let home = tempfile::tempdir_in(std::env::var("HOME").unwrap_or("/".to_owned())).unwrap();
    std::fs::write(home.path().join("secret"), "secret").unwrap();
    let Some(tools) = &mut python(patient()) else { return };
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").to_owned();
    let canary_path = canary.path().display().to_string();
    let secret = home.path().join("secret").display().to_string();
    for path in [
        "/etc/shadow",
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/1/cmdline",
        "/dev/mem",
        &manifest,
        &secret,
        &canary_path,
    ] {
        if std::path::Path::new(path).exists() {
            refused(tools, "os", &format!("open({path:?})"));
        }
    }
    for act in
        ["os.listdir('/')", "os.listdir('/tmp')", "os.listdir('..')", "os.listdir('/proc')", "os.listdir('/dev/shm')"]
    {
        refused(tools, "os", act);
    }
    for act in [
        format!("open({canary_path:?}, 'w')"),
        format!("os.remove({canary_path:?})"),
        format!("os.rename({canary_path:?}, 'mine')"),
        format!("os.chmod({canary_path:?}, 0o777)"),
        format!("os.chown({canary_path:?}, 1, 1)"),
        format!("os.truncate({canary_path:?}, 0)"),
        format!("os.utime({canary_path:?})"),
        format!("os.open({canary_path:?}, os.O_RDONLY | os.O_TRUNC)"),
        "open('../outside', 'w')".to_owned(),
        "open('/tmp/outside', 'w')".to_owned(),
        "open('/dev/shm/outside', 'w')".to_owned(),
        "open(os.__file__, 'a')".to_owned(),
        "os.mkdir('/tmp/outside')".to_owned(),
        "os.symlink('/etc/passwd', 'link')".to_owned(),
        "os.mkfifo('fifo')".to_owned(),
        "os.rename('.', '../other')".to_owned(),
    ] {
        let code = format!("import os\ntry:\n    {act}\nexcept OSError:\n    print('refused')");
        assert_eq!(run(tools, &code), (ToolOutcome::Ok, "refused".to_owned()), "{act}");
    }
    assert_eq!(std::fs::read_to_string(canary.path()).unwrap(), "canary");
    let (_, text) = run(tools, "import os; sorted(os.environ)");
    assert_eq!(
        text,
        "['HOME', 'LANG', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'PYTHONHASHSEED', 'PYTHONIOENCODING', 'TMPDIR', 'TZ']"
    );
    let (_, text) = run(
        tools,
        "import os\nfds = []\nfor fd in range(200):\n    try: os.fstat(fd); fds.append(fd)\n    except OSError: pass\nfds",
    );
    assert_eq!(text, "[0, 1, 2, 4]");
}

#[test]
fn a_call_starts_in_an_empty_directory() {
    let Some(tools) = &mut python(patient()) else { return };
    let litter = "import os\nfor i in range(50): open(f'f{i}', 'w').close()\nos.makedirs('a/b/c', 0o000 | 0o700)\nos.mkdir('locked', 0)\nlen(os.listdir('.'))";
    assert_eq!(run(tools, litter), (ToolOutcome::Ok, "52".to_owned()));
    assert_eq!(run(tools, "import os; os.listdir('.')"), (ToolOutcome::Ok, "[]".to_owned()));
    let nest = "import os\nwhile True:\n    os.mkdir('d'); os.chdir('d')";
    let (outcome, text) = run(tools, nest);
    assert_eq!((outcome, text.as_str()), (ToolOutcome::Raised, "killed: disk limit of 64 MiB"));
    assert_eq!(run(tools, "import os; os.listdir('.')"), (ToolOutcome::Ok, "[]".to_owned()));
}

#[test]
fn disk_is_bounded() {
    let Some(tools) = &mut python(Limits { scratch_mb: 8, ..patient() }) else { return };
    let (outcome, text) = run(tools, "f = open('f', 'wb')\nwhile True: f.write(b'x' * 65536)");
    assert_eq!(outcome, ToolOutcome::Raised);
    assert!(text.starts_with("OSError: [Errno 27]") || text.starts_with("killed: disk"), "{text}");
    assert!(run(tools, "f = open('f', 'wb'); f.truncate(1 << 40)").1.starts_with("OSError: [Errno 27]"));
    let many = "i = 0\nwhile True:\n    with open(f'f{i}', 'wb') as f: f.write(b'x' * 4000000)\n    i += 1";
    assert_eq!(run(tools, many), (ToolOutcome::Raised, "killed: disk limit of 8 MiB".to_owned()));
    let empty = "i = 0\nwhile True:\n    open(f'f{i}', 'wb').close()\n    i += 1";
    assert_eq!(run(tools, empty), (ToolOutcome::Raised, "killed: disk limit of 8 MiB".to_owned()));
    let unlinked = "import os, time\nkeep = []\nfor i in range(50):\n    f = open('f', 'wb', 0); f.write(b'x' * 4000000); os.remove('f'); keep.append(f)\ntime.sleep(60)";
    assert_eq!(run(tools, unlinked), (ToolOutcome::Raised, "killed: disk limit of 8 MiB".to_owned()));
}

#[test]
fn threads_are_bounded() {
    let Some(tools) = &mut python(patient()) else { return };
    let bomb = "import threading, time\nthreading.stack_size(65536)\nwhile True:\n    threading.Thread(target=time.sleep, args=(1000,)).start()";
    let (outcome, text) = run(tools, bomb);
    assert_eq!(outcome, ToolOutcome::Pids, "{text}");
    let few = "import threading\nts = [threading.Thread(target=print, args=(i,)) for i in range(8)]\n[t.start() for t in ts]\n[t.join() for t in ts]\nNone";
    assert_eq!(run(tools, few).0, ToolOutcome::Ok);
}

#[test]
fn deaths_are_told_apart() {
    let Some(tools) = &mut python(patient()) else { return };
    let abort = run(tools, "import os; print('before'); os.abort()");
    assert_eq!(abort, (ToolOutcome::Signal, "before\nkilled by signal 6".to_owned()));
    let segv = run(tools, "import ctypes; ctypes.string_at(0)");
    assert_eq!(segv, (ToolOutcome::Signal, "killed by signal 11".to_owned()));
    // Forging: the outcome is the kernel's word, whatever is written to the status pipe.
    for forged in [
        "import os; os.write(4, b'S forged'); os._exit(1)",
        "import os; os.write(4, b'P'); os._exit(1)",
        "import os; os.close(4); os._exit(1)",
        "raise MemoryErrorr",
    ] {
        assert_eq!(run(tools, forged).0, ToolOutcome::Raised, "{forged}");
    }
    assert_eq!(run(tools, "import os; os.write(4, b'Rlie'); os._exit(0)"), (ToolOutcome::Ok, String::new()));
    // What one call does to its interpreter, the next does not see.
    run(tools, "import builtins, random, sys\nbuiltins.print = None; random.random = None; sys.modules.clear()");
    assert_eq!(run(tools, "import random; print(random.random() < 1)"), (ToolOutcome::Ok, "True".to_owned()));
}
