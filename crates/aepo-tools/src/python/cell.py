# What happens when a cell runs? Shared by the interpreter that is started for one call and by the forked one.
#
# A cell is a program as a notebook runs it: statements, then the value of a last expression. How far it came is told on
# descriptor STATUS in frames: a mark, and for S, R, V and D four bytes of length (little endian) and a text.
#   E  an earlier cell has ended        P  the program was parsed and begins
#   S  it does not parse: why           V  the value of the last expression
#   R  it raised: what                  M  memory ran out      N  a process or thread too many
#   D  the cell of a session has ended and the next one may come (see zygote.py)
# Only built-in modules are imported: every import costs time.
import sys, posix, builtins, _ast

STATUS = 4


def write_all(fd, data):
    while data:
        data = data[posix.write(fd, data) :]


def frame(mark, text):
    data = text.encode("utf-8", "backslashreplace")
    write_all(STATUS, mark + len(data).to_bytes(4, "little") + data)


def short(text):
    return text.encode("utf-8", "backslashreplace")[:4000].decode("utf-8", "ignore")


def describe(error):
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = kind.__module__ + "." + name
    line = None
    if isinstance(error, SyntaxError):
        message, line = str(error.msg), error.lineno if error.filename == "<code>" else None
    else:
        try:
            message = str(error)
        except BaseException:
            message = "<its str() failed>"
    trace = error.__traceback__ if line is None else None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<code>":
            line = trace.tb_lineno
        trace = trace.tb_next
    if message:
        name += ": " + message[:1000]
    return short((name if line is None else name + " (line " + str(line) + ")")[:1000])


def parse(source):
    text = source.decode()
    if text[:1] == "\ufeff":
        text = text[1:]
    tree = compile(text, "<code>", "exec", 0x400, True)
    last = None
    if tree.body and type(tree.body[-1]) is _ast.Expr:
        last = _ast.Interactive([tree.body.pop()])
    first = compile(tree, "<code>", "exec", 0, True)
    return first, None if last is None else compile(last, "<code>", "single", 0, True)


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass


def show(value):
    if value is None:
        return
    builtins._ = None
    text = repr(value)
    flush()
    frame(b"V", text)
    builtins._ = value


# Runs a parsed cell and returns its exit code. What its author sees of an error is one line.
def execute(steps, space, report):
    code = 0
    try:
        exec(steps[0], space)
        if steps[1] is not None:
            if report and sys.displayhook is sys.__displayhook__:
                sys.displayhook = show
            try:
                exec(steps[1], space)
            finally:
                if sys.displayhook is show:
                    sys.displayhook = sys.__displayhook__
    except SystemExit as error:
        code = error.code
        if code is None:
            code = 0
        elif isinstance(code, int):
            code &= 255
            if code and report:
                frame(b"R", "SystemExit: " + str(code))
        else:
            if report:
                frame(b"R", short(str(code)[:1000]))
            code = 1
    except MemoryError:
        code = 1
        if report:
            # Room for what comes after: what filled the memory is most likely held by a name.
            space.clear()
            posix.write(STATUS, b"M")
            # Threads that hold the rest of it are not waited for.
            flush()
            posix._exit(1)
    except BaseException as error:
        code = 1
        if report:
            no_thread = type(error) is RuntimeError and error.args == ("can't start new thread",)
            no_process = type(error) is BlockingIOError and error.errno == 11 and error.filename is None
            frame(b"R", describe(error))
            if no_thread or no_process:
                posix.write(STATUS, b"N")
                flush()
                posix._exit(1)
    return code


class Loader:
    def __init__(self, inner, seed):
        self.inner, self.seed = inner, seed

    def create_module(self, spec):
        return self.inner.create_module(spec)

    def exec_module(self, module):
        self.inner.exec_module(module)
        module.seed(self.seed[0])


# Seeds a generator when its module is first imported, so that a program without random numbers pays nothing.
class Seeder:
    seed = [0]

    def find_spec(self, name, path=None, target=None):
        if name != "random" and name != "numpy.random":
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                spec.loader = Loader(spec.loader, self.seed)
                return spec


def reseed(seed):
    Seeder.seed[0] = seed & 0xFFFFFFFF
    for name in ("random", "numpy.random"):
        module = sys.modules.get(name)
        if module is not None:
            try:
                module.seed(Seeder.seed[0])
            except BaseException:
                pass


def main_module():
    main = type(sys)("__main__")
    sys.modules["__main__"] = main
    main.__dict__["__builtins__"] = builtins
    return main.__dict__


# Runs the earlier cells unheard, then the last one. Returns its exit code.
def chain(cells, space):
    if len(cells) > 1:
        kept = [posix.dup(fd) for fd in (1, 2)]
        null = posix.open("/dev/null", posix.O_WRONLY)
        posix.dup2(null, 1), posix.dup2(null, 2)
        posix.close(null)
        for seed, source in cells[:-1]:
            reseed(seed)
            try:
                execute(parse(source), space, False)
            except BaseException:
                pass
            flush()
            posix.write(STATUS, b"E")
        for fd in (1, 2):
            posix.dup2(kept[fd - 1], fd), posix.close(kept[fd - 1])
    seed, source = cells[-1]
    try:
        steps = parse(source)
    except MemoryError:
        posix.write(STATUS, b"M")
        return 1
    except BaseException as error:
        frame(b"S", describe(error))
        return 1
    del cells, source
    reseed(seed)
    posix.write(STATUS, b"P")
    return execute(steps, space, True)


# Ends the process as an interpreter does, without its clean-up: threads end, then what was registered with atexit runs.
def leave(code):
    for module, function in (("threading", "_shutdown"), ("atexit", "_run_exitfuncs")):
        try:
            if module in sys.modules:
                getattr(sys.modules[module], function)()
        except BaseException:
            pass
    flush()
    posix._exit(code)
