//! Which programs read, change or fill what is not theirs?

use aepo::tool::ToolOutcome::*;
use aepo_tools::python::Limits;

use crate::table::{Code::Text, Hostile, Landlock, ROW, refused};

const FULL: Hostile = Hostile {
    ends: &[Raised],
    limits: |limits| Limits { wall_secs: 30.0, cpu_secs: 20, scratch_mb: 16, scratch_inodes: 2000, ..limits },
    ..ROW
};

pub const PROGRAMS: &[Hostile] = &[
    refused(
        "read",
        "import os",
        &[
            "open('CANARY').read()",
            "os.stat('CANARY').st_size and open('CANARY')",
            "open('/etc/shadow').read()",
            "open('/etc/passwd').read()",
            "open('/etc/hostname').read()",
            "open('/root/.ssh/id_rsa').read()",
            "open('/root/.bashrc').read()",
            "os.listdir('/home')",
            "os.listdir('/var')",
            "os.listdir('/etc/ssh')",
            "os.listdir('/boot')",
            "os.listdir('/sys/kernel')",
            "os.listdir('/run')",
            "open('/proc/1/environ').read()",
            "open('/proc/SERVER/environ').read()",
            "open('/proc/1/root/CANARY').read()",
            "open('/proc/self/root/CANARY').read()",
            "open('/proc/kcore', 'rb').read(1)",
            "open('/dev/mem', 'rb')",
            "open('/dev/kmsg', 'rb')",
            "open('/dev/sda', 'rb')",
            "open('/dev/vda', 'rb')",
            "open('/dev/kvm', 'rb')",
            "open('/dev/fuse', 'rb')",
            "open('/dev/net/tun', 'rb')",
            "open('/dev/ptmx', 'rb')",
            "open('/dev/tty', 'rb')",
            "open('/dev/shm/x')",
        ],
    ),
    refused(
        "write",
        "import os\ndef put(path, data): return os.write(os.open(path, os.O_WRONLY), data)",
        &[
            "open('CANARY', 'w')",
            "open('CANARY', 'a')",
            "os.remove('CANARY')",
            "os.rename('CANARY', 'mine')",
            "os.link('CANARY', 'mine')",
            "os.chmod('CANARY', 0o777)",
            "os.chown('CANARY', 1, 1)",
            "os.truncate('CANARY', 0)",
            "os.utime('CANARY')",
            "os.setxattr('CANARY', 'user.x', b'y')",
            "os.open('CANARY', os.O_RDONLY | os.O_TRUNC)",
            "open('CANARY.more', 'w')",
            "open('/x', 'w')",
            "os.mkdir('/x')",
            "open('/etc/x', 'w')",
            "open('/etc/ld.so.preload', 'w')",
            "open('/usr/x', 'w')",
            "open('/usr/lib/x.so', 'w')",
            "open('/dev/x', 'w')",
            "open('/var/tmp/x', 'w')",
            "open('../x', 'w')",
            "open(os.__file__, 'a')",
            "os.remove(os.__file__)",
            "put('/proc/self/oom_score_adj', b'-1000')",
            "put('/proc/sys/kernel/core_pattern', b'|/tmp/x')",
            "put('/proc/sys/vm/overcommit_memory', b'1')",
            "put('/proc/sysrq-trigger', b'h')",
            "put('/proc/self/uid_map', b'0 0 1')",
            "put('/proc/self/setgroups', b'allow')",
            "put('/sys/fs/cgroup/cgroup.procs', b'0')",
            "os.mknod('device', 0o660 | 0o020000, os.makedev(1, 1))",
            "os.mknod('disk', 0o660 | 0o060000, os.makedev(254, 0))",
            "os.chroot('.')",
        ],
    ),
    Hostile {
        name: "a link to a file outside",
        code: Text(
            "import os\ntry:\n    os.symlink('CANARY', 'link')\n    open('link', 'a').write('changed')\nexcept \
             OSError: print('refused')\nelse: print('BREACH')",
        ),
        ends: &[Ok],
        prints: Some("refused\n"),
        ..ROW
    },
    Hostile {
        name: "a file that never ends",
        code: Text("f = open('f', 'wb')\nwhile True: f.write(b'x' * 65536)"),
        ..FULL
    },
    Hostile {
        name: "many full files",
        code: Text("i = 0\nwhile True:\n    with open(f'f{i}', 'wb') as f: f.write(b'x' * 4000000)\n    i += 1"),
        ..FULL
    },
    Hostile {
        name: "files without names",
        code: Text(
            "import os, time\nkeep = []\nfor i in range(50):\n    f = open('f', 'wb', 0)\n    f.write(b'x' * \
             4000000)\n    os.remove('f')\n    keep.append(f)\nprint('BREACH' if 50 * 4000000 > 16 << 20 else '')\n\
             time.sleep(60)",
        ),
        landlock: Landlock::NotHeld("the disk is looked at every 20 ms, so that a fast writer gets further first"),
        ..FULL
    },
    Hostile {
        name: "a million empty files",
        code: Text("i = 0\nwhile True:\n    open(f'f{i}', 'wb').close()\n    i += 1"),
        ..FULL
    },
    Hostile {
        name: "a million directories",
        code: Text("import os\ni = 0\nwhile True:\n    os.mkdir(f'd{i}')\n    i += 1"),
        ..FULL
    },
    Hostile {
        name: "links for ever",
        code: Text("import os\ni = 0\nwhile True:\n    os.symlink('x' * 200, f'l{i}')\n    i += 1"),
        ..FULL
    },
    Hostile {
        name: "directories in directories",
        code: Text("import os\nwhile True:\n    os.mkdir('d')\n    os.chdir('d')"),
        ..FULL
    },
    Hostile {
        name: "a sparse file of a terabyte",
        code: Text("f = open('f', 'wb')\nf.truncate(1 << 40)\nprint('BREACH')"),
        ..FULL
    },
    Hostile {
        name: "a byte behind a terabyte",
        code: Text("f = open('f', 'wb', 0)\nf.seek(1 << 40)\nf.write(b'x')\nprint('BREACH')"),
        ..FULL
    },
    Hostile {
        name: "a file made large by allocation",
        code: Text("import os\nos.posix_fallocate(os.open('f', os.O_RDWR | os.O_CREAT), 0, 1 << 40)\nprint('BREACH')"),
        ..FULL
    },
    Hostile {
        name: "long and strange names",
        code: Text(
            "import os\nfor name in ['x' * 4096, 'a/' * 3000, '\\udcff\\udcfe', '\\n\\r\\t', ' ', '-rf', '\\u202e']:\n    \
             try: open(name, 'w').close()\n    except OSError: pass\ntry: open('a\\0b', 'w')\nexcept ValueError: \
             print('done')",
        ),
        ends: &[Ok],
        prints: Some("done\n"),
        ..ROW
    },
    Hostile {
        name: "what cannot be cleared away easily",
        code: Text(
            "import os\nos.makedirs('a/b/c')\nopen('a/b/c/f', 'w').close()\nos.mkdir('locked', 0)\nfor p in ('a/b/c', \
             'a/b', 'a', '.'):\n    try: os.chmod(p, 0)\n    except OSError: pass\nprint('done')",
        ),
        ends: &[Ok],
        prints: Some("done\n"),
        ..ROW
    },
    Hostile {
        name: "a pipe with a name that nobody opens",
        code: Text("import os\nos.mkfifo('fifo')\nopen('fifo').read()"),
        ends: &[Timeout, Raised],
        ..ROW
    },
    Hostile {
        name: "locks and watches for ever",
        code: Text(
            "import fcntl, os\nf = open('f', 'w+')\nf.truncate(1 << 20)\nfor i in range(0, 200000, 2): fcntl.lockf(f, \
             fcntl.LOCK_EX, 1, i)\nprint('done')",
        ),
        ends: &[Ok, Raised, Timeout],
        prints: Some("done\n"),
        ..ROW
    },
    Hostile {
        name: "descriptors for ever",
        code: Text("import os\nfds = []\nwhile True: fds.append(os.dup(1))"),
        ends: &[Raised],
        ..ROW
    },
    Hostile {
        name: "secrets in the environment",
        code: Text(
            "import os\nseen = repr(sorted(os.environ.items()))\ntry: seen += open('/proc/self/environ').read()\nexcept \
             OSError: pass\nprint('BREACH' if 'SECRET' in seen or 'CARGO' in seen else 'none')",
        ),
        ends: &[Ok],
        prints: Some("none\n"),
        ..ROW
    },
    Hostile {
        name: "descriptors of others",
        code: Text(
            "import os\nfor fd in range(3, 1024):\n    try: name = os.readlink(f'/proc/self/fd/{fd}')\n    except \
             OSError: continue\n    if not name.startswith(('pipe:', '/memfd:', '/proc/')): print('BREACH', fd, \
             name)\nprint('done')",
        ),
        ends: &[Ok],
        prints: Some("done\n"),
        ..ROW
    },
    Hostile {
        name: "its own memory through /proc",
        code: Text(
            "try:\n    f = open('/proc/self/mem', 'r+b', 0)\n    f.seek(0)\n    f.read(1)\nexcept OSError: \
             print('refused')",
        ),
        ends: &[Ok],
        prints: Some("refused\n"),
        ..ROW
    },
];
