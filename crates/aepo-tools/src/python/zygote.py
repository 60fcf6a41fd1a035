# Who starts the programs of a run? A server that forks itself for each call: an interpreter that has done its imports
# costs a fork instead of a start. Trusted until a program begins; it reads nothing but its settings (descriptor 3) and
# its supervisor's requests (descriptor 4, a socket that keeps messages apart).
#
# Three processes: the one that was started stays outside, waits and dies with the server; the server is the first
# process of a namespace of its own, so that nothing below outlives it; and each call gets a namespace with a first
# process that sleeps, and the program, which is the server's own child and whose end the server therefore knows.
import ctypes, errno, fcntl, gc, json, os, resource, select, signal, socket, struct

SETTINGS, CONTROL = 3, 4
# Where a program of a session gets its next cells.
SESSION = 5
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
# The same on every architecture.
SYS_CLOSE_RANGE, SYS_MOUNT_SETATTR, SYS_LANDLOCK_CREATE_RULESET = 436, 442, 444
# What the program sees itself as.
INNER_ID = 1000
# Interpreters of one session that may live beside the one at work.
MAX_CLONES = 64

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class Refused(Exception):
    pass


# A call into the kernel whose refusal is told with its name.
def kernel(step, function, *args):
    result = function(*args)
    if result < 0:
        number = ctypes.get_errno()
        raise Refused("%s: %s (errno %d)" % (step, os.strerror(number), number))
    return result


def unshare(flags, what):
    kernel("new namespaces (" + what + ")", libc.unshare, flags)


def syscall(step, number, *args):
    return kernel(step, libc.syscall, *[arg if arg is None or isinstance(arg, bytes) else ctypes.c_long(arg) for arg in (number, *args)])


def mount(step, source, target, kind, flags, data=None):
    kernel(step, libc.mount, source, target, kind, ctypes.c_ulong(flags), data)


def prctl(step, option, value=0, *rest):
    zeros = (0,) * (3 - len(rest))
    args = [arg if isinstance(arg, bytes) or hasattr(arg, "_obj") else ctypes.c_ulong(arg) for arg in (value, *rest, *zeros)]
    kernel(step, libc.prctl, option, *args)


def write_at(directory, path, text):
    fd = os.open(path, os.O_WRONLY, dir_fd=directory)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


# The maps of the process itself: one id, without rights over anybody else's.
def map_self(proc, inner, uid, gid):
    write_at(proc, "self/setgroups", "deny")
    write_at(proc, "self/uid_map", "%d %d 1" % (inner, uid))
    write_at(proc, "self/gid_map", "%d %d 1" % (inner, gid))


# A root directory with what the interpreter needs, read-only, and nothing of the machine beside it.
def build_root(settings):
    kernel("sethostname", libc.sethostname, b"sandbox", 7)
    mount("making mounts private", None, b"/", None, MS_REC | MS_PRIVATE)
    mount("mounting the new root", b"tmpfs", b"/tmp", b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=0755,size=1m")
    os.mkdir("/tmp/.old", 0o700)
    syscall("pivot_root", settings["pivot_root"], b"/tmp", b"/tmp/.old")
    os.chdir("/")
    os.umask(0o022)
    for directory in ("/tmp", "/dev", "/etc"):
        os.mkdir(directory)
    for source, target in settings["binds"]:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        old = "/.old" + source
        if os.path.isdir(old):
            os.makedirs(target, exist_ok=True)
        elif not os.path.lexists(target):
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        old, new = os.fsencode(old), os.fsencode(target)
        mount("binding " + target, old, new, None, MS_BIND | MS_REC)
        held = MS_RDONLY | MS_NOSUID | (0 if target.startswith("/dev/") else MS_NODEV)
        read_only(new, held, 0x8000)
    for path, target in settings["links"]:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)
    kernel("leaving the old root", libc.umount2, b"/.old", MNT_DETACH)
    os.rmdir("/.old")
    read_only(b"/", MS_RDONLY | MS_NOSUID | MS_NODEV, 0)


# struct mount_attr: what to set, to clear, propagation, user namespace. The flags have the numbers of the old ones.
def read_only(path, flags, recursive):
    attributes = struct.pack("=QQQQ", flags, 0, 0, 0)
    syscall("making %s read-only" % os.fsdecode(path), SYS_MOUNT_SETATTR, -100, path, recursive, attributes, len(attributes))


# Moves into namespaces. A super-user becomes an id that nobody else has; anybody else stays who he is.
def enter(settings):
    base, count = settings["ids"]
    all_new = NEWNS | NEWNET | NEWIPC | NEWUTS
    # Above the descriptors that a call places its own at.
    low = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    proc = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 16)
    os.close(low)
    if base:
        mapper = Mapper(base, count)
        unshare(all_new, "mount, net, ipc, uts")
        build_root(settings)
        unshare(NEWUSER, "user")
        mapper.finish()
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    else:
        uid, gid = os.geteuid(), os.getegid()
        unshare(NEWUSER | all_new, "user, mount, net, ipc, uts")
        map_self(proc, 0, uid, gid)
        build_root(settings)
    unshare(NEWPID, "pid")
    return proc


# A process that stays a super-user outside for as long as it takes to map the ids of this one.
class Mapper:
    def __init__(self, base, count):
        asked, self.ask = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(asked)
            return
        os.close(self.ask)
        code = 1
        if os.read(asked, 1):
            for kind in ("uid_map", "gid_map"):
                with open("/proc/%d/%s" % (os.getppid(), kind), "w") as file:
                    file.write("0 %d %d" % (base, count))
            code = 0
        os._exit(code)

    def finish(self):
        os.write(self.ask, b"x")
        os.close(self.ask)
        if os.waitpid(self.pid, 0)[1] != 0:
            raise Refused("mapping user ids: refused")


class Landlock:
    def __init__(self):
        abi = libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, 1)
        self.abi = max(abi, 0)
        # Rights known to each version: files, then TCP, then signals and abstract sockets.
        n_files = 0 if abi < 1 else {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)
        self.files = (1 << n_files) - 1
        self.attributes = struct.pack("=QQQ", self.files, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
        self.attributes = self.attributes[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
        execute, write, read, list_ = 1, 2, 4, 8
        # Not: character devices (6), sockets (9), block devices (11), device commands (15).
        own = self.files & ~(1 << 0 | 1 << 6 | 1 << 9 | 1 << 11 | 1 << 15)
        self.rules = [(b"/", execute | read | list_), (b"/tmp", own)]
        self.rules += [(path, read | write) for path in (b"/dev/null", b"/dev/zero")]

    def restrict(self):
        if not self.abi:
            return
        create = SYS_LANDLOCK_CREATE_RULESET
        ruleset = syscall("landlock_create_ruleset", create, self.attributes, len(self.attributes), 0)
        for path, access in self.rules:
            fd = os.open(path, os.O_PATH)
            syscall("landlock_add_rule", create + 1, ruleset, 1, struct.pack("=Qi", access, fd), 0)
            os.close(fd)
        syscall("landlock_restrict_self", create + 2, ruleset, 0)


class Filters:
    def __init__(self, programs):
        self.programs = []
        for program in programs:
            code = ctypes.create_string_buffer(bytes.fromhex(program), len(program) // 2)
            fprog = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(code)))
            self.programs.append((code, fprog))

    def install(self):
        for _, fprog in self.programs:
            prctl("seccomp", PR_SET_SECCOMP, 2, ctypes.byref(fprog))


def close_from(first, but=None):
    if but is not None and but >= first:
        if but > first:
            syscall("close_range", SYS_CLOSE_RANGE, first, but - 1, 0)
        first = but + 1
    syscall("close_range", SYS_CLOSE_RANGE, first, 0xFFFFFFFF, 0)


# The first process of a call's namespace: sleeps, and lets the kernel take its orphans' bodies away. In a session it
# tells the supervisor how each of them ended: the clones of an interpreter are among them.
def sleep_forever(server, report):
    try:
        os.setsid()
        prctl("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
        if report is None:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            close_from(0)
        else:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
            os.dup2(report, 0)
            close_from(1)
            report = socket.socket(fileno=0)
        server.become_nobody()
        (server.sleeper_filters if report is None else server.filters).install()
        while report is None:
            signal.pause()
        while True:
            try:
                pid, status, used = os.wait4(-1, 0)
                message = struct.pack("=iidQ", pid, status, used.ru_utime + used.ru_stime, used.ru_maxrss)
                report.send(message, socket.MSG_DONTWAIT)
            except ChildProcessError:
                signal.sigwait({signal.SIGCHLD})
            except OSError as error:
                # Nobody listens, or nobody has for long. A wait that the kernel refuses would be refused for ever.
                if error.errno not in (errno.EAGAIN, errno.EPIPE, errno.ECONNREFUSED, errno.ENOTCONN, errno.EINTR):
                    raise
    finally:
        os._exit(1)


class Server:
    def __init__(self, settings, proc):
        self.proc, self.is_super = proc, settings["ids"][0] != 0
        self.own_pids = os.open("self/ns/pid", os.O_RDONLY, dir_fd=proc)
        self.landlock, self.filters = Landlock(), Filters(settings["filters"])
        self.sleeper_filters = Filters(settings["sleeper_filters"])
        self.session_filters = Filters(settings["session_filters"])
        self.id, self.max_files = 0, settings["max_files"]
        self.calls, self.poll = {}, select.poll()
        self.control = socket.socket(fileno=CONTROL)
        self.poll.register(CONTROL, select.POLLIN)

    # Serves until the supervisor is gone.
    def serve(self):
        while True:
            for fd, _ in self.poll.poll():
                if fd == CONTROL:
                    request, fds, flags, _ = socket.recv_fds(self.control, 4096, 8)
                    if not request:
                        return
                    self.start(request, fds)
                elif fd in self.calls:
                    self.calls.pop(fd)(fd)

    # A request: which id, address space, processor seconds, processes, bytes and entries of the private directory.
    # Two descriptors more make it a session: where its cells come from, and where the ends of its clones are told.
    def start(self, request, fds):
        code, stdin, out, err, status, reply = fds[:6]
        session = fds[6:]
        reply = socket.socket(fileno=reply)
        numbers = struct.unpack("=6Q", request)
        init = program = 0
        try:
            self.id = numbers[0] if self.is_super else 0
            unshare(NEWPID, "pid")
            try:
                init = os.fork() or sleep_forever(self, session[1] if session else None)
                program = os.fork()
                if not program:
                    self.run(fds, numbers)
            finally:
                kernel("returning to the own namespace", libc.setns, self.own_pids, NEWPID)
            pidfds = [os.pidfd_open(pid) for pid in (program, init)]
        except BaseException as error:
            # Nothing is known of what was started: it dies with its namespace.
            if init:
                os.kill(init, signal.SIGKILL)
            for pid in (program, init):
                if pid:
                    os.waitpid(pid, 0)
            self.tell(reply, b"X" + str(error).encode()[:500])
            return
        finally:
            for fd in (code, stdin, out, err, status, *session):
                os.close(fd)
        self.tell(reply, b"S", pidfds)

        # The program has ended: its namespace follows, and only then is the answer given.
        def ended(fd):
            self.poll.unregister(fd)
            _, status, used = os.wait4(program, 0)
            os.kill(init, signal.SIGKILL)
            os.close(fd)

            def gone(fd):
                self.poll.unregister(fd)
                os.waitpid(init, 0)
                os.close(fd)
                self.tell(reply, b"E" + struct.pack("=idQ", status, used.ru_utime + used.ru_stime, used.ru_maxrss))

            self.watch(pidfds[1], gone)

        self.watch(pidfds[0], ended)

    def watch(self, fd, then):
        self.calls[fd] = then
        self.poll.register(fd, select.POLLIN)

    # The last message closes the door; a supervisor that has lost interest is no trouble.
    def tell(self, reply, message, fds=()):
        try:
            socket.send_fds(reply, [message], fds)
        except OSError:
            pass
        if not fds:
            reply.close()

    def become_nobody(self):
        if self.is_super:
            os.setresgid(self.id, self.id, self.id)
            os.setresuid(self.id, self.id, self.id)
        prctl("no_new_privs", PR_SET_NO_NEW_PRIVS, 1)
        kernel("capset", libc.capset, struct.pack("=II", 0x20080522, 0), bytes(24))

    def run(self, fds, numbers):
        is_session = len(fds) > 6
        try:
            source = self.lock_in(fds, numbers, is_session)
        except BaseException as error:
            try:
                os.write(fds[4], b"X" + str(error).encode()[:500])
            finally:
                os._exit(125)
        cells, at = [], 0
        while at < len(source):
            seed, length = struct.unpack_from("=QQ", source, at)
            cells.append((seed, source[at + 16 : at + 16 + length]))
            at += 16 + length
        del source
        space = main_module()
        code = chain(cells, space)
        if is_session:
            Session(self.landlock.abi, self.max_files).serve(space, code)
        leave(code)

    # Everything that is taken away, each after those that need it.
    def lock_in(self, fds, numbers, is_session):
        _, memory, cpu, processes, scratch, entries = numbers
        os.setsid()
        prctl("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
        source = os.pread(fds[0], os.fstat(fds[0]).st_size, 0)
        for fd, place in zip(fds[1:5], (0, 1, 2, STATUS)):
            os.dup2(fd, place)
        # What was received lies above: the places below are taken since the start.
        fds[4] = STATUS
        if is_session:
            os.dup2(fds[6], SESSION)
        # The server's descriptors of other calls, which are many when many run, would count against this one's limit.
        close_from(SESSION + 1, but=self.proc)
        unshare(NEWNS | NEWIPC, "mount, ipc")
        options = "mode=0700,size=%d,nr_inodes=%d,uid=%d,gid=%d" % (scratch, entries, self.id, self.id)
        mount("mounting /tmp", b"tmpfs", b"/tmp", b"tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options.encode())
        if self.is_super:
            os.setresgid(self.id, self.id, self.id)
            os.setresuid(self.id, self.id, self.id)
        # Its own files in /proc, which the maps are written to, are otherwise the super-user's.
        prctl("prctl", PR_SET_DUMPABLE, 1)
        # Processes are counted per user namespace: a fresh one gives the call a count of its own.
        unshare(NEWUSER, "user")
        map_self(self.proc, INNER_ID, self.id, self.id)
        write_at(self.proc, "self/oom_score_adj", "1000")
        os.chdir("/tmp")
        os.umask(0o077)
        for which, soft, hard in (
            (resource.RLIMIT_AS, memory, memory),
            # Behind the supervisor's own limit. In a session each cell gets its own soft limits.
            (resource.RLIMIT_CPU, cpu + 2, resource.RLIM_INFINITY if is_session else cpu + 3),
            (resource.RLIMIT_NPROC, processes, processes + (MAX_CLONES if is_session else 0)),
            (resource.RLIMIT_FSIZE, scratch, scratch),
            (resource.RLIMIT_NOFILE, self.max_files, self.max_files),
            (resource.RLIMIT_STACK, 8 << 20, 8 << 20),
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_MEMLOCK, 0, 0),
            (resource.RLIMIT_MSGQUEUE, 0, 0),
        ):
            most = resource.getrlimit(which)[1]
            if most == resource.RLIM_INFINITY or hard != resource.RLIM_INFINITY and hard < most:
                most = hard
            resource.setrlimit(which, (soft if most == resource.RLIM_INFINITY else min(soft, most), most))
        prctl("no_new_privs", PR_SET_NO_NEW_PRIVS, 1)
        self.landlock.restrict()
        kernel("capset", libc.capset, struct.pack("=II", 0x20080522, 0), bytes(24))
        prctl("prctl", PR_SET_DUMPABLE, 0)
        os.close(3)
        close_from(6 if is_session else 5)
        (self.session_filters if is_session else self.filters).install()
        return source


# An interpreter that goes on from cell to cell. What it is told: to run a cell (a descriptor of its source), or to make
# a clone of itself (the clone's pipes, and where its own cells will come from).
class Session:
    def __init__(self, abi, max_files):
        self.abi, self.max_files = abi, max_files
        self.cells = socket.socket(fileno=SESSION)
        # Bound here: a program may replace what modules hold.
        self.receive, self.fork, self.wait, self.exit = socket.recv_fds, os.fork, os.waitpid, os._exit
        self.usage, self.limit, self.unpack, self.pack = resource.getrusage, resource.setrlimit, struct.unpack, struct.pack
        self.statvfs, self.fstat, self.getpid = os.statvfs, os.fstat, os.getpid
        self.syscall, self.dup2, self.close, self.read = libc.syscall, os.dup2, os.close, os.pread
        self.used = 0.0

    def serve(self, space, code):
        while True:
            self.done(code)
            message, fds, _, _ = self.receive(self.cells, 64, 8)
            if not message:
                self.exit(0)
            if message[:1] == b"F":
                code = self.clone(fds)
            else:
                code = self.run(space, message, fds)

    # Exit code, whether a clone could be made, own id, processor seconds of the cell, most memory in KiB.
    def done(self, code):
        flush()
        used = self.usage(resource.RUSAGE_SELF)
        seconds = used.ru_utime + used.ru_stime
        told = self.pack("=BBIdQ", code & 255, self.is_clean(), self.getpid(), seconds - self.used, used.ru_maxrss)
        self.used = seconds
        write_all(STATUS, b"D" + len(told).to_bytes(4, "little") + told)

    # Whether all that the interpreter holds is in its memory: no file, named or open, and no other descriptor.
    def is_clean(self):
        files = self.statvfs("/tmp")
        if files.f_files - files.f_ffree > 1 or self.abi < 6:
            return False
        for fd in (3, *range(SESSION + 1, self.max_files)):
            try:
                self.fstat(fd)
                return False
            except OSError:
                pass
        return True

    def run(self, space, message, fds):
        cpu, processes, seed = self.unpack("=QQQ", message[1:])
        self.limit(resource.RLIMIT_CPU, (int(self.used) + 3 + cpu, resource.RLIM_INFINITY))
        self.limit(resource.RLIMIT_NPROC, (processes, resource.getrlimit(resource.RLIMIT_NPROC)[1]))
        source = self.read(fds[0], self.fstat(fds[0]).st_size, 0)
        self.close(fds[0])
        return chain([(seed, source)], space)

    # The clone becomes the namespace's own child, so that the program it is a copy of has no child it did not make. Its
    # signals reach itself alone, not the interpreter that others will go on from.
    def clone(self, fds):
        most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        self.limit(resource.RLIMIT_NPROC, (most, most))
        between = self.fork()
        if between:
            for fd in fds:
                self.close(fd)
            self.wait(between, 0)
            return 0
        if self.fork():
            self.exit(0)
        for fd, place in zip(fds, (1, 2, STATUS, SESSION)):
            self.dup2(fd, place)
            self.close(fd)
        self.used = 0.0
        attributes = self.pack("=QQQ", 0, 0, 3)
        ruleset = self.syscall(SYS_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
        if ruleset < 0 or self.syscall(SYS_LANDLOCK_CREATE_RULESET + 2, ruleset, 0) < 0:
            self.exit(1)
        self.close(ruleset)
        return 0


# Paths that lie where a call's own directory will be are found elsewhere.
def move_paths(moved):
    def new(path):
        for old, place in moved:
            if isinstance(path, str) and (path == old or path.startswith(old + "/")):
                return place + path[len(old) :]
        return path

    sys.path[:] = [new(path) for path in sys.path]
    for module in list(sys.modules.values()):
        paths = getattr(module, "__path__", None)
        if isinstance(paths, list):
            paths[:] = [new(path) for path in paths]
    sys.path_importer_cache.clear()


def main():
    if sys.version_info < (3, 9):
        raise Refused("Python 3.9 or later is needed, this is " + sys.version.split()[0])
    with open(SETTINGS, "rb", closefd=False) as file:
        settings = json.load(file)
    sys.path[:1] = []
    sys.path += settings["site"]
    sys.argv[:] = [""]
    proc = enter(settings)
    server = os.fork()
    if server:
        # Outside: nothing left to do but to be there. The socket must end with the server.
        close_from(3)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(server, 0)[1]) & 255)
    prctl("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    # A call takes eight descriptors of the server's.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Descriptors that a call places its own at are taken, so that none is received there.
    while os.dup(0) < 10:
        pass
    move_paths(settings["moved"])
    loaded = []
    sys.meta_path.insert(0, Seeder())
    for name in settings["preload"]:
        try:
            __import__(name)
            loaded.append(name)
        except ImportError:
            pass
    tasks = os.open("self/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
    n_threads = len(os.listdir(tasks))
    os.close(tasks)
    if n_threads > 1:
        raise Refused("an imported package has started a thread")
    server = Server(settings, proc)
    gc.collect()
    gc.freeze()
    ready = {"landlock": server.landlock.abi, "loaded": loaded, "version": sys.version.split()[0]}
    server.control.send(json.dumps(ready).encode())
    server.serve()
    # The supervisor is gone, and with this process goes everything below it.
    os._exit(0)


try:
    main()
except BaseException as error:
    os.write(2, (type(error).__name__ + ": " + str(error)).encode("utf-8", "backslashreplace")[:1000])
    os._exit(1)
