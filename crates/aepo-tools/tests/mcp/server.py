"""A server of the Model Context Protocol over stdio that misbehaves as its first argument says.

The second argument is a file that counts the starts, so that a server can be another one the second time.
Its tools: `echo` (text), and `act` (what), which does the mode's deed.
"""

import json
import os
import signal
import subprocess
import sys
import time

MODE = sys.argv[1]
COUNT = sys.argv[2]

with open(COUNT, "a") as file:
    file.write("x")
N_STARTS = os.path.getsize(COUNT)

out = sys.stdout.buffer


def raw(data):
    out.write(data)
    out.flush()


def send(message):
    raw(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def tool(name, arguments, description="A tool."):
    properties = {argument: {"type": "string"} for argument in arguments}
    schema = {"type": "object", "properties": properties, "required": arguments, "additionalProperties": False}
    return {"name": name, "description": description, "inputSchema": schema}


TOOLS = [tool("echo", ["text"], "Says it again."), tool("act", ["what"])]


def text(words, **more):
    return {"content": [{"type": "text", "text": words}], **more}


def forever():
    while True:
        time.sleep(1000)


def act(id):
    global TOOLS
    if MODE == "silence":
        forever()
    elif MODE == "slow":
        # The tool is slow; the server is not, and answers what comes meanwhile.
        return None
    elif MODE == "garbage":
        raw(b"{ this is no JSON }\n")
        forever()
    elif MODE == "banner":
        raw(b"starting up...\n\n\xff\xfe not even text\n" * 100)
        return text("after the noise")
    elif MODE == "noise":
        raw(b"more noise\n" * 5000)
        forever()
    elif MODE == "not-a-message":
        raw(b'{"hello": "world"}\n')
        forever()
    elif MODE == "deep":
        raw(b'{"jsonrpc": "2.0", "id": ' + b"[" * 100000 + b"\n")
        forever()
    elif MODE == "wrong-id":
        send({"id": id + 1000, "result": text("for somebody else")})
        forever()
    elif MODE == "string-id":
        send({"id": str(id), "result": text("a number that became a text")})
        forever()
    elif MODE == "utf8":
        raw(b'{"jsonrpc": "2.0", "id": %d, "result": {"content": [{"type": "text", "text": "\xff\xff"}]}}\n' % id)
        forever()
    elif MODE == "long-line":
        raw(b'{"jsonrpc": "2.0", "id": %d, "result": {"content": [{"type": "text", "text": "' % id)
        for _ in range(200):
            raw(b"a" * 1000000)
        raw(b'"}]}}\n')
    elif MODE == "long-result":
        return text("b" * 3000000)
    elif MODE == "die":
        sys.stderr.write("chatter\n" * 10000 + "out of cheese\n")
        sys.stderr.flush()
        os._exit(3)
    elif MODE == "die-by-signal":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif MODE == "hang-up":
        out.close()
        os.close(1)
        forever()
    elif MODE == "flood":
        while True:
            send({"method": "notifications/message", "params": {"level": "info", "data": "still here"}})
    elif MODE == "requests":
        for n in range(30000):
            send({"id": f"r{n}", "method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}})
        forever()
    elif MODE == "bad-result":
        send({"id": id, "result": {"content": "not a list"}})
        return None
    elif MODE == "error-result":
        return text("there is no such city", isError=True)
    elif MODE == "error-params":
        send({"id": id, "error": {"code": -32602, "message": "there is no tool of that name"}})
        return None
    elif MODE == "error-internal":
        send({"id": id, "error": {"code": -32603, "message": "my disk is full"}})
        return None
    elif MODE == "changes":
        TOOLS = [tool("echo", ["text"], "Says it backwards."), tool("act", ["what"])]
        send({"method": "notifications/tools/list_changed"})
        return text("the answer of another tool")
    elif MODE == "says-changed":
        send({"method": "notifications/tools/list_changed"})
        return text("the answer of the same tool")
    elif MODE == "other-after-restart":
        os._exit(0)
    elif MODE == "orphans":
        # One in the group, one in a session of its own, one that nobody is the parent of.
        subprocess.Popen(["sleep", "1000"])
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
        subprocess.Popen(["sh", "-c", "(setsid sleep 1000 &) ; exit 0"])
        time.sleep(0.3)
        return text(str(os.getpid()))
    elif MODE == "env":
        return text(json.dumps({"env": dict(os.environ), "cwd": os.getcwd(), "sid": os.getsid(0), "pid": os.getpid()}))
    elif MODE == "input-required":
        return {"resultType": "input_required", "inputRequests": {}}
    elif MODE == "key":
        sys.stderr.write("my key is " + os.environ["KEY"] + "\n")
        sys.stderr.flush()
        os._exit(1)
    return text("done")


def tools(params):
    if MODE == "bad-schema":
        return {"tools": [{"name": "echo", "inputSchema": {"type": "no such type"}}]}
    if MODE == "remote-schema":
        return {"tools": [{"name": "echo", "inputSchema": {"$ref": "http://127.0.0.1:1/schema.json"}}]}
    if MODE == "bad-list":
        return {"tools": {"echo": "no list"}}
    if MODE == "many-tools":
        return {"tools": [tool(f"t{n}", []) for n in range(1000)]}
    if MODE == "huge-tool":
        return {"tools": [tool("echo", ["text"], "x" * 100000)]}
    if MODE == "endless-list":
        return {"tools": [], "nextCursor": "again"}
    if MODE == "two-pages" and "cursor" not in params:
        return {"tools": TOOLS[:1], "nextCursor": "next"}
    if MODE == "two-pages":
        return {"tools": TOOLS[1:]}
    if MODE == "other-after-restart" and N_STARTS == 2:
        return {"tools": TOOLS[:1]}
    if MODE == "same-names":
        return {"tools": [tool("a.b", []), tool("a_b", [])]}
    return {"tools": TOOLS}


if MODE == "dies-at-start":
    sys.stderr.write("no configuration\n")
    sys.exit(7)
if MODE == "silent-start":
    forever()
if MODE == "garbage-start":
    raw(b"\x00\x01\x02{{{\n" * 5000)
    forever()
if MODE == "ignores-end":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

for line in sys.stdin:
    message = json.loads(line)
    method, id = message.get("method"), message.get("id")
    params = message.get("params") or {}
    result = None
    if method == "initialize":
        capabilities = {"tools": {"listChanged": True}}
        info = {"name": "fake", "version": "1"}
        result = {"protocolVersion": params["protocolVersion"], "capabilities": capabilities, "serverInfo": info}
        if MODE == "bad-start":
            result = {"protocolVersion": 7}
    elif method == "ping":
        result = {}
    elif method == "tools/list":
        result = tools(params)
    elif method == "tools/call" and params["name"] == "echo":
        result = text(params["arguments"]["text"])
    elif method == "tools/call":
        result = act(id)
    if id is not None and result is not None:
        send({"id": id, "result": result})

if MODE == "ignores-end":
    forever()
