//! Which programs multiply, hide, or turn on other processes?

use aepo::tool::ToolOutcome::*;
use aepo_tools::python::Limits;

use crate::table::{Code::Text, Hostile, Landlock, ROW, killed, refused};

/// Behind Landlock alone there are no other processes.
const ALONE: Hostile = Hostile { landlock: Landlock::Ends(&[Raised]), ..ROW };

pub const PROGRAMS: &[Hostile] = &[
    Hostile { name: "fork bomb", code: Text("import os\nwhile True: os.fork()"), ends: &[Pids, Raised], ..ALONE },
    Hostile {
        name: "fork bomb that goes on",
        code: Text("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"),
        ends: &[Timeout, Pids],
        landlock: Landlock::Ends(&[Timeout]),
        ..ALONE
    },
    Hostile {
        name: "thread bomb",
        code: Text(
            "import threading, time\nthreading.stack_size(65536)\nwhile True: threading.Thread(target=time.sleep, \
             args=(1e9,)).start()",
        ),
        ends: &[Pids, Raised],
        landlock: Landlock::Same,
        ..ALONE
    },
    Hostile {
        name: "thread bomb that goes on",
        code: Text(
            "import _thread, time\nwhile True:\n    try: _thread.start_new_thread(time.sleep, (1e9,))\n    except \
             RuntimeError: pass",
        ),
        ends: &[Pids, Timeout, Raised, Memory],
        landlock: Landlock::Same,
        ..ALONE
    },
    Hostile {
        name: "daemon",
        code: Text(
            "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(1e9)\n    \
             os._exit(0)\nos.wait()\nprint('gone')",
        ),
        ends: &[Ok],
        prints: Some("gone\n"),
        ..ALONE
    },
    Hostile {
        name: "child that holds the output open",
        code: Text("import os, time\nif os.fork() == 0: time.sleep(1e9)\nprint('done')"),
        ends: &[Ok],
        prints: Some("done\n"),
        limits: |limits| Limits { wall_secs: 60.0, ..limits },
        ..ALONE
    },
    Hostile {
        name: "a thousand commands",
        code: Text(
            "import subprocess, sys\nps = [subprocess.Popen([sys.executable or '/bin/sh', '-c', 'import time; \
             time.sleep(1000)']) for _ in range(1000)]\nprint('BREACH')",
        ),
        ends: &[Pids, Raised, Memory],
        ..ALONE
    },
    Hostile {
        name: "ten thousand short children",
        code: Text(
            "import os\nfor _ in range(10000):\n    pid = os.fork()\n    if pid == 0: os._exit(0)\n    os.wait()",
        ),
        ends: &[Ok, Timeout],
        ..ALONE
    },
    Hostile {
        name: "children that nobody waits for",
        code: Text("import os\nfor _ in range(5000):\n    if os.fork() == 0: os._exit(0)"),
        ends: &[Pids, Raised, Timeout],
        ..ALONE
    },
    Hostile {
        name: "orphans that nobody waits for",
        code: Text(
            "import os\nfor _ in range(300):\n    if os.fork() == 0:\n        try: os.fork()\n        finally: \
             os._exit(0)\n    os.wait()\nprint('done')",
        ),
        ends: &[Ok, Pids, Timeout, Raised],
        prints: Some("done\n"),
        ..ALONE
    },
    // F1: in a fresh pid namespace the parent is 0, and `kill(0, …)` means one's own process group.
    Hostile {
        name: "kill the parent",
        code: Text("import os\nos.kill(os.getppid(), 9)\nprint('alone')"),
        ends: &[Ok, Raised, Signal],
        landlock: Landlock::Same,
        ..ALONE
    },
    Hostile {
        name: "kill the group",
        code: Text("import os\nos.killpg(0, 9)"),
        ends: &[Signal],
        landlock: Landlock::Ends(&[Raised, Signal]),
        ..ALONE
    },
    Hostile {
        name: "kill everybody",
        code: Text("import os\nos.kill(-1, 9)"),
        ends: &[Ok, Raised, Signal],
        landlock: Landlock::Same,
        ..ALONE
    },
    Hostile {
        name: "every signal to init and parent",
        code: Text(
            "import os\nfor pid in (1, os.getppid()):\n    for s in range(1, 65):\n        try: os.kill(pid, s)\n        \
             except OSError: pass",
        ),
        ends: &[Ok, Signal, Timeout],
        landlock: Landlock::Same,
        ..ALONE
    },
    Hostile {
        name: "reach every number",
        code: Text(
            "import os\nreached = []\nfor pid in [*range(2, 5000), SERVER]:\n    if pid == os.getpid(): continue\n    try: \
             os.kill(pid, 0)\n    except OSError: continue\n    reached.append(pid)\nprint('BREACH' if reached else \
             'alone', *reached)",
        ),
        ends: &[Ok],
        prints: Some("alone\n"),
        landlock: Landlock::Same,
        ..ALONE
    },
    Hostile {
        name: "no limits for init and parent",
        code: Text(
            // A parent outside the namespace is 0, which means the program itself: that one may end itself.
            "import os, resource\nfor pid in {1, os.getppid()} - {0}:\n    for what in range(16):\n        try: \
             resource.prlimit(pid, what, (0, 0))\n        except (OSError, ValueError): pass\nprint('done')",
        ),
        ends: &[Ok],
        prints: Some("done\n"),
        landlock: Landlock::Same,
        ..ALONE
    },
    Hostile {
        name: "exec",
        code: Text("import os\nos.execv('/bin/sh', ['sh', '-c', 'echo BREACH'])"),
        ends: &[Raised],
        ..ALONE
    },
    Hostile {
        name: "both halves of a fork go on to the end",
        code: Text("import os\nos.fork()\n'value'"),
        ends: &[Ok, Raised],
        ..ALONE
    },
    Hostile {
        name: "the first process ends, its child goes on",
        code: Text("import os, time\nif os.fork(): os._exit(0)\ntime.sleep(1e9)"),
        ends: &[Ok],
        limits: |limits| Limits { wall_secs: 60.0, ..limits },
        ..ALONE
    },
    Hostile {
        name: "see other processes",
        code: Text(
            "import os\nseen = []\nfor pid in range(1, 5000):\n    try:\n        with open(f'/proc/{pid}/cmdline', 'rb') as \
             f: seen.append(f.read())\n    except OSError: pass\nprint('BREACH' if len(seen) > 4 or any(b'hostile' in s \
             for s in seen) else 'alone')",
        ),
        ends: &[Ok],
        prints: Some("alone\n"),
        landlock: Landlock::Same,
        ..ALONE
    },
    refused(
        "touch the server:",
        "import os, resource",
        &[
            "os.kill(SERVER, 0)",
            "os.kill(SERVER, 9)",
            "os.pidfd_open(SERVER)",
            "os.sched_setaffinity(SERVER, {0})",
            "os.setpriority(os.PRIO_PROCESS, SERVER, 5)",
            "resource.prlimit(SERVER, resource.RLIMIT_CPU, (1, 1))",
            "open('/proc/SERVER/mem', 'r+b')",
            "open('/proc/SERVER/environ')",
            "os.listdir('/proc/SERVER/fd')",
        ],
    ),
    killed("spy on a process:", crate::kernel::CALL, &["call(101, 16, 1, 0, 0)", "call(310, 1, 0, 0, 0, 0, 0)"]),
    refused(
        "more than its share:",
        "import os",
        &["os.setpriority(os.PRIO_PROCESS, 0, -20)", "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"],
    ),
];
