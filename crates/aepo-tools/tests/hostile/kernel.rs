//! Which programs ask the kernel for what no program here needs?
//!
//! System call numbers are those of x86-64 (`arch/x86/entry/syscalls/syscall_64.tbl`); on other processors this category
//! is empty.

use aepo::tool::ToolOutcome::*;

use crate::table::{Code::Text, Hostile, ROW, killed, refused};

/// Defines `call(number, …)`, which raises `OSError` where the kernel says no.
pub const CALL: &str = "import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
here = ctypes.create_string_buffer(256)
def call(number, *args):
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    done = libc.syscall(ctypes.c_long(number), *wide)
    if done < 0: raise OSError(ctypes.get_errno(), 'refused')
    return done";

pub const PROGRAMS: &[Hostile] = if cfg!(target_arch = "x86_64") { ALL } else { &[] };

const ALL: &[Hostile] = &[
    // F3: a user namespace gives every capability inside it, and with them most of the kernel's surface.
    killed(
        "new namespace:",
        CALL,
        &[
            "call(272, 0x10000000)",
            "call(272, 0x00020000)",
            "call(272, 0x20000000)",
            "call(272, 0x40000000)",
            "call(272, 0x7e020000)",
            "call(56, 0x10000011, 0, 0, 0, 0)",
            "call(56, 0x20000011, 0, 0, 0, 0)",
            "call(56, 0x00020011, 0, 0, 0, 0)",
            "call(435, ctypes.byref(ctypes.create_string_buffer((0x10000000).to_bytes(8, 'little') + bytes(80))), 88)",
            "call(308, os.open('/proc/self/ns/user', os.O_RDONLY), 0)",
            "call(308, os.open('/proc/self/ns/net', os.O_RDONLY), 0)",
        ],
    ),
    killed(
        "mounts:",
        CALL,
        &[
            "call(165, b'none', b'/tmp', b'tmpfs', 0, 0)",
            "call(165, b'/', b'/tmp', 0, 4096, 0)",
            "call(165, 0, b'/', 0, 32, 0)",
            "call(166, b'/proc', 2)",
            "call(166, b'/tmp', 2)",
            "call(155, b'.', b'.')",
            "call(161, b'.')",
            "call(428, -100, b'/', 0)",
            "call(430, b'tmpfs', 0)",
            "call(429, -100, b'/', -100, b'/tmp', 0)",
            "call(442, -100, b'/', 0, here, 32)",
        ],
    ),
    killed(
        "large parts of the kernel:",
        CALL,
        &[
            "call(321, 0, here, 72)",
            "call(298, here, 0, -1, -1, 0)",
            "call(425, 8, here)",
            "call(426, 3, 1, 1, 0, 0, 0)",
            "call(427, 3, 0, 0, 0)",
            "call(323, 1)",
            "call(248, b'user', b'x', b'y', 1, -2)",
            "call(249, b'user', b'x', 0, -2)",
            "call(250, 0, -3, 1)",
            "call(300, 0, 0)",
            "call(303, -100, b'/', here, here, 0)",
            "call(304, -100, here, 0)",
            "call(154, 1, here, 16)",
            "call(447, 0)",
            "call(237, 0, 0, 0, 0, 0, 0)",
            "call(256, 1, 0, 0, 0)",
            "call(279, 1, 1, here, here, here, 0)",
            "call(212, 0, here, 8)",
            "call(180, 0, 0, 0)",
            "call(206, 1, here)",
            "call(240, b'/x', 0o100 | 2, 0o600, 0)",
        ],
    ),
    killed(
        "other processes:",
        CALL,
        &[
            "call(101, 0, 0, 0, 0)",
            "call(101, 16, SERVER, 0, 0)",
            "call(310, SERVER, here, 1, here, 1, 0)",
            "call(311, SERVER, here, 1, here, 1, 0)",
            "call(312, SERVER, SERVER, 0, 0, 0)",
            "call(438, 3, 1, 0)",
            "call(440, 3, here, 1, 20, 0)",
        ],
    ),
    killed(
        "the machine:",
        CALL,
        &[
            "call(169, 0xfee1dead, 672274793, 0x1234567, 0)",
            "call(175, here, 1, b'')",
            "call(313, 3, b'', 0)",
            "call(176, b'x', 0)",
            "call(246, 0, 0, 0, 0)",
            "call(320, 0, 0, 0, here, 0)",
            "call(167, b'/x', 0)",
            "call(168, b'/x')",
            "call(163, b'/x')",
            "call(103, 3, here, 256)",
            "call(164, here, 0)",
            "call(227, 0, here)",
            "call(170, b'x', 1)",
            "call(171, b'x', 1)",
            "call(172, 3)",
            "call(173, 0, 1, 1)",
            "call(179, 0, 0, 0, 0)",
        ],
    ),
    killed(
        "more rights:",
        CALL,
        &[
            "call(105, 0)",
            "call(106, 0)",
            "call(113, 0, 0)",
            "call(114, 0, 0)",
            "call(117, 0, 0, 0)",
            "call(119, 0, 0, 0)",
            "call(116, 1, here)",
            "call(126, ctypes.byref(ctypes.create_string_buffer((0x20080522).to_bytes(8, 'little'))), \
             ctypes.byref(ctypes.create_string_buffer(b'\\xff' * 24)))",
            "call(157, 38, 0, 0, 0, 0)",
            "call(157, 28, 1, 0, 0, 0)",
            "call(157, 47, 2, 0, 0, 0)",
        ],
    ),
    refused(
        "keystrokes for our terminal:",
        "import fcntl, os, termios",
        &[
            "fcntl.ioctl(0, termios.TIOCSTI, b'x')",
            "fcntl.ioctl(1, termios.TIOCSTI, b'x')",
            "fcntl.ioctl(0, 0x541C, b'x')",
        ],
    ),
    Hostile {
        name: "limits raised again",
        code: Text(
            "import resource\nfor what in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, \
             resource.RLIMIT_NOFILE, resource.RLIMIT_CPU):\n    top = resource.getrlimit(what)[1]\n    if top == \
             resource.RLIM_INFINITY: continue\n    try: resource.setrlimit(what, (top, top + 1))\n    except (OSError, \
             ValueError): continue\n    print('BREACH', what)\nprint('done')",
        ),
        ends: &[Ok],
        prints: Some("done\n"),
        ..ROW
    },
    Hostile {
        name: "calls of the x32 interface",
        code: Text(
            "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\ndone = libc.syscall(ctypes.c_long(0x40000000 + \
             39))\nprint('BREACH' if done > 0 else 'refused')",
        ),
        ends: &[Signal, Ok],
        prints: Some("refused\n"),
        ..ROW
    },
    // mov eax, 20 (getpid of 32-bit programs); int 0x80; ret
    Hostile {
        name: "calls of the 32-bit interface",
        code: Text(
            "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b814000000cd80c3'))\nat = \
             ctypes.addressof(ctypes.c_char.from_buffer(m))\ndone = ctypes.CFUNCTYPE(ctypes.c_int)(at)()\nprint('BREACH' \
             if done > 0 else 'refused')",
        ),
        ends: &[Signal, Ok, Raised],
        prints: Some("refused\n"),
        ..ROW
    },
    Hostile {
        name: "every number that there is",
        code: Text(
            "import ctypes, os, sys\nlibc = ctypes.CDLL(None)\nskip = {0, 1, 7, 15, 23, 34, 35, 58, 59, 60, 61, 62, 72, \
             74, 130, 200, 202, 219, 230, 231, 232, 234, 247, 270, 271, 281, 322, 441, 449, 56, 57, 435}\nfor n in \
             range(470):\n    if n not in skip: libc.syscall(ctypes.c_long(n), *[ctypes.c_long(-1)] * 6)\nprint('done')",
        ),
        ends: &[Ok, Signal, Timeout, Raised, Memory],
        ..ROW
    },
    Hostile {
        name: "every number with nothing but zeros",
        code: Text(
            "import ctypes\nlibc = ctypes.CDLL(None)\nskip = {0, 7, 15, 23, 34, 58, 59, 60, 61, 230, 231, 232, 247, 270, \
             271, 281, 322, 441, 449, 56, 57, 435}\nfor n in range(470):\n    if n not in skip: \
             libc.syscall(ctypes.c_long(n), *[ctypes.c_long(0)] * 6)",
        ),
        ends: &[Ok, Signal, Timeout, Raised, Memory],
        ..ROW
    },
];
