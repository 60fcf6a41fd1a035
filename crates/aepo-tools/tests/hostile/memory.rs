//! Which programs take all memory?

use aepo::tool::ToolOutcome::*;
use aepo_tools::python::Limits;

use crate::table::{Code::Text, Hostile, Landlock, ROW};

/// Time to get there on a busy machine.
const FULL: Hostile =
    Hostile { ends: &[Memory], limits: |limits| Limits { wall_secs: 40.0, cpu_secs: 30, ..limits }, ..ROW };
/// The suite's limit for all processes together, with room for several of them below it.
const MANY: fn(Limits) -> Limits = |limits| Limits { memory_mb: 256, total_memory_mb: 512, wall_secs: 20.0, ..limits };

pub const PROGRAMS: &[Hostile] = &[
    Hostile { name: "a list that grows", code: Text("x = []\nwhile True: x.append('a' * 1000)"), ..FULL },
    Hostile { name: "one large string", code: Text("'a' * 10 ** 10"), ..FULL },
    Hostile { name: "one large array", code: Text("bytearray(1 << 40)"), ..FULL },
    Hostile {
        name: "a list in a function",
        code: Text("def f():\n    x = []\n    while True: x.append([0] * 1000)\nf()"),
        ..FULL
    },
    Hostile { name: "a dictionary that grows", code: Text("x = {}\nwhile True: x[len(x)] = bytes(1000)"), ..FULL },
    Hostile { name: "a string that doubles", code: Text("s = 'x'\nwhile True: s += s"), ..FULL },
    Hostile {
        name: "lack of memory caught for ever",
        code: Text("x = []\nwhile True:\n    try: x.append(bytearray(1 << 20))\n    except MemoryError: pass"),
        ends: &[Memory, Timeout],
        ..ROW
    },
    Hostile {
        name: "recursion without a limit",
        code: Text("import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(): f()\nf()"),
        ends: &[Signal, Timeout, Memory, Raised],
        ..ROW
    },
    Hostile {
        name: "recursion in C",
        code: Text("import sys\nsys.setrecursionlimit(10 ** 9)\nx = []\nfor _ in range(10 ** 6): x = [x]\nrepr(x)"),
        ends: &[Signal, Timeout, Memory, Raised],
        ..ROW
    },
    Hostile {
        name: "a packed bomb",
        code: Text("import zlib\nz = zlib.compress(bytes(10 ** 8))\nx = [zlib.decompress(z) for _ in range(100)]"),
        ..FULL
    },
    Hostile {
        name: "anonymous pages",
        code: Text(
            "import mmap\nm = []\nwhile True:\n    p = mmap.mmap(-1, 1 << 26)\n    p.write(bytes(1 << 26))\n    m.append(p)",
        ),
        ends: &[Memory, Raised],
        ..FULL
    },
    Hostile {
        name: "files in memory, which count to no process",
        code: Text(
            "import os\nfds = []\nfor _ in range(100):\n    fd = os.memfd_create('x')\n    fds.append(fd)\n    for _ in \
             range(40): os.write(fd, bytes(1 << 20))\nprint('BREACH: 4 GB')",
        ),
        ends: &[Memory, Raised],
        limits: MANY,
        ..FULL
    },
    Hostile {
        name: "shared segments, detached",
        code: Text(
            "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nlibc.shmat.restype = ctypes.c_void_p\nfor _ in \
             range(40):\n    i = libc.shmget(0, 100 << 20, 0o1600)\n    if i < 0: raise OSError('refused')\n    p = \
             libc.shmat(i, None, 0)\n    if p in (None, 2 ** 64 - 1): raise OSError('refused')\n    ctypes.memset(p, 1, \
             100 << 20)\n    libc.shmdt(ctypes.c_void_p(p))\nprint('BREACH: 4 GB')",
        ),
        ends: &[Memory, Raised],
        limits: MANY,
        ..FULL
    },
    Hostile {
        name: "pipes filled to the brim",
        code: Text(
            "import fcntl, os\nn = 0\ntry:\n    while True:\n        r, w = os.pipe()\n        try: fcntl.fcntl(w, 1031, 1 \
             << 20)\n        except OSError: pass\n        os.set_blocking(w, False)\n        try:\n            while True: \
             n += os.write(w, bytes(65536))\n        except BlockingIOError: pass\nexcept OSError: pass\nprint('BREACH' \
             if n > 256 << 20 else 'bounded')",
        ),
        ends: &[Ok],
        prints: Some("bounded\n"),
        limits: |limits| Limits { wall_secs: 20.0, ..limits },
        ..FULL
    },
    Hostile {
        name: "thread stacks",
        code: Text(
            "import threading, time\nthreading.stack_size(200 << 20)\nfor _ in range(8): \
             threading.Thread(target=time.sleep, args=(1e9,)).start()",
        ),
        // Those that did start are waited for.
        ends: &[Raised, Memory, Pids, Timeout],
        ..ROW
    },
    Hostile {
        name: "children each just below the limit",
        code: Text(
            "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        x = bytearray(150 << 20)\n        for i \
             in range(0, len(x), 4096): x[i] = 1\n        time.sleep(1e9)\ntime.sleep(1e9)",
        ),
        landlock: Landlock::Ends(&[Raised]),
        limits: MANY,
        ..FULL
    },
    Hostile {
        name: "a chain of children, each with a copy",
        code: Text(
            "import os, time\nx = bytearray(100 << 20)\nwhile True:\n    if os.fork(): time.sleep(1e9)\n    for i in \
             range(0, len(x), 4096): x[i] ^= 1",
        ),
        ends: &[Memory, Pids],
        landlock: Landlock::Ends(&[Raised]),
        limits: MANY,
        ..FULL
    },
];
