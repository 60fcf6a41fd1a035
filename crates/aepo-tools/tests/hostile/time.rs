//! Which programs never end?

use aepo::tool::ToolOutcome::*;

use crate::table::{Code::Text, Hostile, Landlock, ROW};

const NEVER: Hostile = Hostile { ends: &[Timeout], ..ROW };

pub const PROGRAMS: &[Hostile] = &[
    Hostile { name: "spin", code: Text("while True: pass"), ..NEVER },
    Hostile { name: "sleep", code: Text("import time; time.sleep(1e9)"), ..NEVER },
    Hostile {
        name: "ignore every signal",
        code: Text(
            "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except Exception: \
             pass\nwhile True: pass",
        ),
        ..NEVER
    },
    Hostile { name: "one long multiplication", code: Text("10 ** 10 ** 8"), ends: &[Timeout, Memory], ..NEVER },
    Hostile { name: "a pattern that backtracks", code: Text("import re; re.match('(a+)+$', 'a' * 64 + 'b')"), ..NEVER },
    Hostile {
        name: "sleep in C with the lock held",
        code: Text("import ctypes\nlibc = ctypes.PyDLL(None)\nwhile True: libc.usleep(900000)"),
        ..NEVER
    },
    Hostile { name: "stop itself", code: Text("import os; os.kill(os.getpid(), 19)"), ..NEVER },
    Hostile { name: "wait for a signal", code: Text("import signal\nwhile True: signal.pause()"), ..NEVER },
    Hostile {
        name: "read a pipe that nobody writes",
        code: Text("import os\nr, w = os.pipe()\nos.read(r, 1)"),
        ..NEVER
    },
    Hostile {
        name: "a thread that outlives the program",
        code: Text("import threading, time\nthreading.Thread(target=time.sleep, args=(1e9,)).start()"),
        ..NEVER
    },
    Hostile {
        name: "a lock taken twice",
        code: Text("import threading\nl = threading.Lock()\nl.acquire()\nl.acquire()"),
        ..NEVER
    },
    Hostile {
        name: "an exit handler that never returns",
        code: Text("import atexit, time\natexit.register(time.sleep, 1e9)"),
        ..NEVER
    },
    Hostile {
        name: "an alarm storm",
        code: Text(
            "import signal\nsignal.signal(signal.SIGALRM, lambda *a: None)\nsignal.setitimer(signal.ITIMER_REAL, 1e-4, \
             1e-4)\nwhile True: pass",
        ),
        ..NEVER
    },
    Hostile {
        name: "every descriptor closed, then spin",
        code: Text("import os\nos.closerange(0, 256)\nwhile True: pass"),
        ..NEVER
    },
    Hostile {
        name: "an error whose text never ends",
        code: Text("class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E"),
        ..NEVER
    },
    Hostile {
        name: "a value whose text never ends",
        code: Text("class V:\n    def __repr__(self):\n        while True: pass\nV()"),
        ..NEVER
    },
    Hostile {
        name: "an error that is caught for ever",
        code: Text("while True:\n    try:\n        while True: 1 / 0\n    except BaseException: pass"),
        ..NEVER
    },
    Hostile {
        name: "a program that parses for ever",
        code: Text("while True: compile('[' * 90 + ']' * 90, 'x', 'eval')"),
        ..NEVER
    },
    Hostile {
        name: "processor time",
        code: Text("while True: pass"),
        limits: |limits| aepo_tools::python::Limits { wall_secs: 60.0, cpu_secs: 1, ..limits },
        ..NEVER
    },
    Hostile {
        name: "children that spin",
        code: Text("import os\nfor _ in range(3): os.fork()\nwhile True: pass"),
        landlock: Landlock::Ends(&[Raised]),
        ..NEVER
    },
    Hostile {
        name: "a child that is waited for in vain",
        code: Text("import os, time\npid = os.fork()\nif pid == 0: time.sleep(1e9)\nos.waitpid(pid, 0)"),
        landlock: Landlock::Ends(&[Raised]),
        ..NEVER
    },
];
