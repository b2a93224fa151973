"""A program that passes for Chromium or Firefox as far as its wire goes, and fails as it is told.

`write` makes the program; the fault stands in the environment variable FAULT. It needs websockets,
as what it is tested with does.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROGRAM = """\
#!{python}
import json, os, sys, time
from websockets.sync.server import serve

FAULT = os.environ.get("FAULT", "")
FIREFOX = "--profile" in sys.argv
HELLO = {{"protocol": 2, "runtime": "litert-js", "version": "9", "build": "normal"}}


def value(script):
    if script == "begun" and FAULT == "page":
        raise RuntimeError("TypeError: wasm is not what it was")
    if script.startswith("start("):
        return {{"fatal": "it traps", "said": ["ERROR: out of bounds"]}} if FAULT == "fatal" else {{
            "answer": HELLO, "said": []}}
    if script.startswith("ask("):
        request = json.loads(script[4:-1])
        ran = request.get("blocks", [])
        return {{"said": [], "answer": {{"id": request.get("id"), "ok": True, "ran": ran,
            "wall_ns": [7] * len(ran), "cpu_ns": [0] * len(ran), "preempted": [0] * len(ran)}}}}
    return True


def answer(message):
    method, parameters = message["method"], message["params"]
    script = parameters.get("expression", "")
    if script and FAULT == "mute":
        time.sleep(60)
    if script and FAULT == "closes":
        os._exit(3)
    if script.endswith('"do": "unload", "key": "a"}})') and FAULT == "hangs":
        time.sleep(1000)
    if method == "Target.createTarget" and FAULT == "refuses":
        return {{"error": {{"code": 1, "message": "no targets today"}}}}
    if method == "session.new" and FAULT == "refuses":
        return {{"type": "error", "error": "session not created", "message": "no sessions today"}}
    if method == "Runtime.evaluate":
        try:
            return {{"result": {{"result": {{"value": value(script)}}}}}}
        except RuntimeError as error:
            thrown = {{"exception": {{"description": f"{{error}}\\n  at page.mjs:1"}}}}
            return {{"result": {{"exceptionDetails": thrown, "result": {{}}}}}}
    if method == "script.evaluate":
        inner = script[len("(async () => JSON.stringify(await ("):-len(")))()")]
        try:
            found = {{"type": "string", "value": json.dumps(value(inner))}}
            return {{"result": {{"type": "success", "result": found}}}}
        except RuntimeError as error:
            thrown = {{"text": str(error)}}
            return {{"result": {{"type": "exception", "exceptionDetails": thrown}}}}
    return {{"result": {{
        "Target.createTarget": {{"targetId": "T"}},
        "Target.attachToTarget": {{"sessionId": "S"}},
        "Browser.getVersion": {{"product": "HeadlessChrome/1.2.3", "jsVersion": "4.5"}},
        "Page.navigate": {{"errorText": "net::ERR_FAILED"}} if FAULT == "page not shown" else {{}},
        "session.new": {{"capabilities": {{"browserVersion": "1.2.3"}}}},
        "browsingContext.getTree": {{"contexts": [{{"context": "C"}}]}},
    }}.get(method, {{}})}}


def converse(socket):
    for text in socket:
        message = json.loads(text)
        if FAULT == "rubbish":
            socket.send("<html>")
        if message["method"] == "Runtime.evaluate" and FAULT == "crashes":
            socket.send(json.dumps({{"method": "Inspector.targetCrashed", "params": {{}}}}))
            continue
        socket.send(json.dumps({{"id": message["id"], **answer(message)}}))
        if message["method"] == "Page.navigate":
            socket.send(json.dumps({{"method": "Page.loadEventFired", "params": {{}}}}))


if os.environ.get("PIDS"):
    with open(os.environ["PIDS"], "a") as file:
        file.write(f"{{os.getpid()}}\\n")
        file.flush()
        if FAULT == "leaves":
            if os.fork() == 0:
                os.setsid()
                if os.fork():
                    os._exit(0)
                file.write(f"{{os.getpid()}}\\n")
                file.flush()
                time.sleep(1000)
if FAULT == "dies":
    sys.exit("[1:1:FATAL:zygote.cc(128)] No usable sandbox!")
if FAULT == "silent":
    print("some words", file=sys.stderr, flush=True)
    time.sleep(1000)
said = "WebDriver BiDi listening on" if FIREFOX else "DevTools listening on"
if FAULT == "nobody listens":
    print(f"{{said}} ws://127.0.0.1:1/", file=sys.stderr, flush=True)
    time.sleep(1000)
with serve(converse, "127.0.0.1", 0) as server:
    port = server.socket.getsockname()[1]
    print(f"warming up\\n{{said}} ws://127.0.0.1:{{port}}", file=sys.stderr, flush=True)
    server.serve_forever()
"""


def write(folder: Path, *names: str) -> None:
    """Put programs of these names into a folder."""
    for name in names:
        program = folder / name
        program.write_text(PROGRAM.format(python=sys.executable), encoding="utf-8")
        program.chmod(0o755)
