# Runs a source as a script among its files, and tells how it ended and what became of the files it was asked for.
#
# All of this happens inside the sandbox: a path leads only to where the program itself could read and write. What comes
# back is the program's word like everything it prints.
def _script(source, files, wanted, max_bytes):
    import binascii, os, stat, sys

    for name, content in files:
        folder = os.path.dirname(name)
        if folder:
            os.makedirs(folder, exist_ok=True)
        with open(name, "wb") as file:
            file.write(binascii.a2b_base64(content))
    home = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    space = sys.modules["__main__"].__dict__
    space.pop("_script", None)
    code = 0
    # A script's expressions are not shown; the hook that shows this function's own result comes back for it.
    hook, sys.displayhook = sys.displayhook, sys.__displayhook__
    try:
        exec(compile(source, "main.py", "exec", 0, True), space)
    except SystemExit as error:
        if isinstance(error.code, int):
            code = error.code & 255
        elif error.code is not None:
            sys.stderr.write(str(error.code) + "\n")
            code = 1
    except BaseException as error:
        code = 1
        error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
        sys.__excepthook__(type(error), error, error.__traceback__)
    sys.displayhook = hook
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()

    # A link on the way leads elsewhere and a pipe holds whoever opens it: neither is a file that was asked for.
    def fetch(name):
        parts, at = name.split("/"), home
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            for part in parts[:-1]:
                at = os.open(part, flags | os.O_DIRECTORY, dir_fd=at)
            file = os.open(parts[-1], flags, dir_fd=at)
            kind = os.fstat(file)
            if not stat.S_ISREG(kind.st_mode) or kind.st_size > fetch.left:
                return "null"
            with open(file, "rb") as file:
                content = file.read(fetch.left)
        except OSError:
            return "null"
        fetch.left -= len(content)
        return '"' + binascii.b2a_base64(content, newline=False).decode() + '"'

    fetch.left = max_bytes
    text = '{"code":%d,"files":[%s]}' % (code, ",".join(map(fetch, wanted)))
    return type("Answer", (), {"__repr__": lambda self: text})()


