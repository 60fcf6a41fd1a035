# Runs the program on descriptor 3 as a REPL would and tells the supervisor on descriptor 4 how far it came.
# argv: seed, then the directories of installed packages. Only built-in modules are imported: every import costs time.
def _run():
    import sys, posix, _ast

    seed = int(sys.argv[1])
    sys.path[:1] = []
    sys.path += sys.argv[2:]
    sys.argv[:] = [""]
    main = type(sys)("__main__")
    sys.modules["__main__"] = main
    space = main.__dict__
    space["__builtins__"] = sys.modules["builtins"]

    class Loader:
        def __init__(self, inner):
            self.inner = inner

        def create_module(self, spec):
            return self.inner.create_module(spec)

        def exec_module(self, module):
            self.inner.exec_module(module)
            module.seed(seed & 0xFFFFFFFF)

    # Seeds a generator when its module is first imported, so that a program without random numbers pays nothing.
    class Seeder:
        def find_spec(self, name, path=None, target=None):
            if name != "random" and name != "numpy.random":
                return None
            for finder in sys.meta_path:
                spec = None if finder is self else finder.find_spec(name, path, target)
                if spec is not None:
                    spec.loader = Loader(spec.loader)
                    return spec

    sys.meta_path.insert(0, Seeder())

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
        return name if line is None else name + " (line " + str(line) + ")"

    def report(mark, text):
        posix.write(4, mark + text[:1000].encode("utf-8", "backslashreplace")[:4000])

    source = posix.read(3, posix.fstat(3).st_size)
    posix.close(3)
    try:
        text = source.decode()
        if text[:1] == "\ufeff":
            text = text[1:]
        tree = compile(text, "<code>", "exec", 0x400, True)
        last = None
        if tree.body and type(tree.body[-1]) is _ast.Expr:
            last = _ast.Interactive([tree.body.pop()])
        steps = [compile(tree, "<code>", "exec", 0, True)]
        if last is not None:
            steps.append(compile(last, "<code>", "single", 0, True))
    except MemoryError:
        posix.write(4, b"M")
        posix._exit(1)
    except BaseException as error:
        report(b"S", describe(error))
        posix._exit(1)
    source = text = tree = last = None

    # From this byte on, what is written to descriptor 4 may come from the program.
    posix.write(4, b"P")
    code = 0
    try:
        for step in steps:
            exec(step, space)
    except SystemExit as error:
        code = error.code
        if code is None:
            code = 0
        elif isinstance(code, int):
            code &= 255
            if code:
                report(b"R", "SystemExit: " + str(code))
        else:
            report(b"R", str(code))
            code = 1
    except MemoryError:
        code = 1
        space.clear()
        posix.write(4, b"M")
    except BaseException as error:
        code = 1
        report(b"R", describe(error))
    # Interpreter shutdown is skipped unless something waits for it.
    if "threading" in sys.modules or "atexit" in sys.modules:
        sys.exit(code)
    try:
        sys.stdout.flush()
    except BaseException:
        pass
    posix._exit(code)


_run()
