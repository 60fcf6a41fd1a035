# Runs _cells, pairs of a seed and a source, on a machine that knows nothing of cells: the last one as a notebook would,
# those before it unheard, for the variables that they leave. An error is one line; the exit code tells whether there was.
def _run(cells):
    import ast, contextlib, io, os, random, sys

    space = {"__name__": "__main__", "__builtins__": __builtins__}
    sys.modules["__main__"].__dict__.update(space)
    space = sys.modules["__main__"].__dict__

    def describe(error):
        kind, message, line = type(error), "", None
        name = kind.__qualname__
        if kind.__module__ not in ("builtins", "__main__"):
            name = kind.__module__ + "." + name
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
        name += ": " + message[:1000] if message else ""
        return name if line is None else name + " (line %d)" % line

    def run(seed, source):
        random.seed(seed & 0xFFFFFFFF)
        if "numpy" in source:
            try:
                import numpy

                numpy.random.seed(seed & 0xFFFFFFFF)
            except ImportError:
                pass
        tree = ast.parse(source, "<code>")
        last = ast.Interactive([tree.body.pop()]) if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "<code>", "exec"), space)
        if last is not None:
            exec(compile(last, "<code>", "single"), space)

    for seed, source in cells[:-1]:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                run(seed, source)
            except BaseException:
                pass
    try:
        run(*cells[-1])
    except SystemExit as error:
        if error.code is not None and not isinstance(error.code, int):
            sys.stderr.write(str(error.code) + "\n")
            sys.exit(1)
        if error.code:
            sys.stderr.write("SystemExit: %d\n" % error.code)
        raise
    except BaseException as error:
        sys.stdout.flush()
        sys.stderr.write(describe(error) + "\n")
        sys.exit(1)


