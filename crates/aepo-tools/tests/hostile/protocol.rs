//! Which programs lie about how they ended, or tamper with the interpreter that runs them?

use aepo::tool::ToolOutcome::*;
use aepo_tools::python::Limits;

use crate::table::{Code::Made, Code::Text, Hostile, ROW};

const DIES: Hostile = Hostile { ends: &[Signal], ..ROW };
const RAISES: Hostile = Hostile { ends: &[Raised], ..ROW };
const FINE: Hostile = Hostile { ends: &[Ok], ..ROW };
const NO_SYNTAX: Hostile = Hostile { ends: &[Syntax], ..ROW };

pub const PROGRAMS: &[Hostile] = &[
    // F8: a namespace's first process would not die of these.
    Hostile { name: "abort", code: Text("import os\nos.abort()"), ..DIES },
    Hostile { name: "a null pointer", code: Text("import ctypes\nctypes.string_at(0)"), ..DIES },
    Hostile { name: "SIGTERM to itself", code: Text("import os\nos.kill(os.getpid(), 15)"), ..DIES },
    Hostile { name: "SIGKILL to itself", code: Text("import os\nos.kill(os.getpid(), 9)"), ..DIES },
    Hostile { name: "SIGXCPU to itself", code: Text("import os\nos.kill(os.getpid(), 24)"), ..DIES },
    Hostile { name: "SIGSYS to itself", code: Text("import os\nos.kill(os.getpid(), 31)"), ..DIES },
    Hostile { name: "a real-time signal to itself", code: Text("import os\nos.kill(os.getpid(), 40)"), ..DIES },
    // F9: no exit code means more than that the program chose it.
    Hostile { name: "exit 7", code: Text("import os\nos._exit(7)"), ..RAISES },
    Hostile { name: "exit 247", code: Text("import os\nos._exit(247)"), ..RAISES },
    Hostile { name: "exit 137", code: Text("import os\nos._exit(137)"), ..RAISES },
    Hostile { name: "exit 124", code: Text("import os\nos._exit(124)"), ..RAISES },
    Hostile { name: "every exit code", code: Text("import os, random\nos._exit(random.randrange(1, 256))"), ..RAISES },
    Hostile { name: "exit with a reason", code: Text("import sys\nsys.exit('x')"), ..RAISES },
    Hostile {
        name: "exit with a strange reason",
        code: Text("import sys\nsys.exit([1] * 10 ** 5)"),
        ends: &[Raised, Output],
        ..RAISES
    },
    Hostile { name: "an interrupt", code: Text("raise KeyboardInterrupt"), ..RAISES },
    Hostile { name: "a generator's end", code: Text("raise GeneratorExit"), ..RAISES },
    Hostile { name: "an error of its own family", code: Text("class E(BaseException): pass\nraise E"), ..RAISES },
    Hostile { name: "lack of memory, claimed", code: Text("raise MemoryError"), ends: &[Memory, Raised], ..RAISES },
    Hostile {
        name: "bad syntax, claimed",
        code: Text(
            "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'S forged')\n    except OSError: pass\nos._exit(1)",
        ),
        ..RAISES
    },
    Hostile {
        name: "every frame that there is, claimed",
        code: Text(
            "import os\nfor fd in range(3, 64):\n    for mark in b'EPSVRMN':\n        try: os.write(fd, bytes([mark]) + \
             (5).to_bytes(4, 'little') + b'forge')\n        except OSError: pass\nos._exit(3)",
        ),
        // It may word its own failure, and call it lack of memory or processes, as it could by running into either.
        ends: &[Raised, Memory, Pids],
        ..RAISES
    },
    Hostile {
        name: "a frame without an end, claimed",
        code: Text(
            "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'R' + (2 ** 32 - 1).to_bytes(4, 'little') + b'x')\n    \
             except OSError: pass\nos._exit(3)",
        ),
        ..RAISES
    },
    Hostile {
        name: "noise on every descriptor",
        code: Text(
            "import os\nwhile True:\n    for fd in range(3, 64):\n        try: os.write(fd, os.urandom(4096))\n        except \
             OSError: pass",
        ),
        ends: &[Timeout, Output],
        ..ROW
    },
    Hostile {
        name: "blocking on every descriptor",
        code: Text(
            "import fcntl, os\nfor fd in range(3, 64):\n    try: fcntl.fcntl(fd, 4, 0); os.read(fd, 1 << 20)\n    except \
             OSError: pass\nprint('done')",
        ),
        ends: &[Ok, Timeout],
        prints: Some("done\n"),
        ..FINE
    },
    Hostile { name: "every descriptor closed", code: Text("import os\nos.closerange(0, 1024)\nos._exit(0)"), ..FINE },
    Hostile {
        name: "descriptors exchanged",
        code: Text(
            "import os\nfor a in range(8):\n    for b in range(8):\n        try: os.dup2(a, b)\n        except OSError: pass",
        ),
        ends: &[Ok, Raised, Syntax, Output, Memory, Pids, Timeout],
        ..ROW
    },
    Hostile {
        name: "an error in an exit handler",
        code: Text("import atexit\natexit.register(lambda: 1 / 0)\nprint('before')"),
        ends: &[Ok, Raised],
        prints: Some("before\n"),
        ..ROW
    },
    Hostile {
        name: "an error in a destructor",
        code: Text("class D:\n    def __del__(self): 1 / 0\nd = D()\ndel d\nprint('after')"),
        ends: &[Ok],
        prints: Some("after\n"),
        ..ROW
    },
    Hostile {
        name: "an end in a thread",
        code: Text("import os, threading, time\nthreading.Thread(target=os._exit, args=(5,)).start()\ntime.sleep(60)"),
        ..RAISES
    },
    Hostile {
        name: "standard input",
        code: Text("import sys\nprint(repr(sys.stdin.read()))"),
        ends: &[Ok],
        prints: Some("''\n"),
        ..ROW
    },
    Hostile { name: "a question", code: Text("input('name? ')"), ..RAISES },
    Hostile {
        name: "nothing left of the interpreter",
        code: Text(
            "import builtins, gc, random, sys\nbuiltins.print = None\nrandom.random = None\ngc.freeze()\n\
             sys.settrace(lambda *a: 1 / 0)\nsys.modules.clear()\nvars(builtins).clear()",
        ),
        ends: &[Ok, Raised, Signal],
        ..ROW
    },
    Hostile {
        name: "the frames above it",
        code: Text(
            "import sys\nf = sys._getframe()\nwhile f:\n    for name in list(f.f_globals):\n        if name not in \
             ('f', 'sys'): f.f_globals[name] = None\n    f = f.f_back",
        ),
        ends: &[Ok, Raised, Signal],
        ..ROW
    },
    Hostile {
        name: "the functions that run it",
        code: Text(
            "import gc, types\nfor o in gc.get_objects():\n    if isinstance(o, types.FunctionType) and o.__name__ in \
             ('frame', 'execute', 'leave', 'show', 'describe', 'chain', 'write_all', 'report'):\n        o.__code__ = \
             (lambda *a, **k: print('mine')).__code__\n1 / 0",
        ),
        ends: &[Ok, Raised],
        ..ROW
    },
    Hostile {
        name: "how values are shown",
        code: Text("import sys\nsys.displayhook = lambda v: print('BREA' + 'CH' if v is None else 'shown')\n1"),
        ends: &[Ok],
        prints: Some("shown\n"),
        ..ROW
    },
    Hostile { name: "a value without a text", code: Text("class V:\n    def __repr__(self): return 3\nV()"), ..RAISES },
    Hostile {
        name: "an error without a text",
        code: Text("class E(Exception):\n    def __str__(self): raise SystemExit(0)\nraise E"),
        ends: &[Raised, Ok],
        ..ROW
    },
    Hostile {
        name: "an error whose class lies",
        code: Text(
            "class M(type):\n    __qualname__ = property(lambda s: 1 / 0)\nclass E(Exception, metaclass=M): pass\nraise E",
        ),
        ends: &[Raised, Signal],
        ..ROW
    },
    Hostile { name: "no program", code: Text(""), prints: Some(""), ..FINE },
    Hostile { name: "a NUL in the source", code: Text("print(1)\0print(2)"), ..NO_SYNTAX },
    Hostile {
        name: "a mark and other line ends",
        code: Text("\u{feff}print('é')\r\nif True:\r\n\tprint(2)\r\n"),
        prints: Some("é\n2\n"),
        ..FINE
    },
    Hostile { name: "tabs and blanks", code: Text("if True:\n\tx = 1\n        y = 2\n"), ..NO_SYNTAX },
    Hostile {
        name: "another encoding",
        code: Text("# -*- coding: rot13 -*-\ncevag(1)"),
        ends: &[Raised, Syntax],
        ..ROW
    },
    Hostile {
        name: "a surrogate in the source",
        code: Text("x = '\\ud800'\nprint(len(x))"),
        prints: Some("1\n"),
        ..FINE
    },
    Hostile {
        name: "brackets",
        code: Made(|| format!("{}1{}", "(".repeat(5000), ")".repeat(5000))),
        ends: &[Syntax, Memory],
        ..ROW
    },
    Hostile {
        name: "minus signs",
        code: Made(|| format!("{}1", "-".repeat(50_000))),
        ends: &[Syntax, Memory, Signal, Raised, Ok],
        ..ROW
    },
    Hostile {
        name: "a chain of attributes",
        code: Made(|| format!("x{}", ".a".repeat(100_000))),
        ends: &[Syntax, Memory, Signal, Raised],
        ..ROW
    },
    Hostile {
        name: "five megabytes",
        code: Made(|| format!("# {}\nprint('read')", "x".repeat(5 << 20))),
        prints: Some("read\n"),
        limits: |limits| Limits { wall_secs: 30.0, ..limits },
        ..FINE
    },
    Hostile {
        name: "a list of 300,000 numbers",
        code: Made(|| format!("x = [{}]\nprint(len(x))", "1, ".repeat(300_000))),
        ends: &[Ok, Memory],
        prints: Some("300000\n"),
        limits: |limits| Limits { wall_secs: 30.0, ..limits },
        ..FINE
    },
    Hostile {
        name: "a million lines",
        code: Made(|| "a = 1\n".repeat(800_000)),
        ends: &[Ok, Memory, Timeout],
        limits: |limits| Limits { wall_secs: 30.0, ..limits },
        ..FINE
    },
];
