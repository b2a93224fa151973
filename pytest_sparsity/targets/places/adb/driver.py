"""The child of a phone's target: talks like a worker, and has benchmark_model run on the phone.

    python driver.py SETTINGS

SETTINGS is JSON: `serial`, `runtime`, `binary` (a path here), `mask`, `threads`.

A block of invocations is a run of benchmark_model, hence a process of its own with an interpreter
of its own. Binary and models are pushed once, under their hashes, into FOLDER. A command is one
string, which the phone's shell parses again. Old phones tell no exit status, so it is printed.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from pytest_sparsity import store
from pytest_sparsity.errors import ModelError
from pytest_sparsity.logs import Log, LogError, parse
from pytest_sparsity.model import Model
from pytest_sparsity.targets.child import last_line
from pytest_sparsity.targets.places.answering import put
from pytest_sparsity.wording import counted

Message = dict[str, Any]

PROTOCOL = 2
FOLDER = "/data/local/tmp/pytest-sparsity"
# The shortest block. Where invocations of 4 ms vary by 55 %, blocks of 0.2 s decide an effect of
# 5 % within 20 pairs in 383 of 1,000 races, and of 2 s in 958 (benchmarks/noisy_phone.py).
BLOCK_NS = 2_000_000_000
# Seconds for a command that only asks; for one that runs, besides what it is to run.
PATIENCE = 30.0
SEPARATOR = "pytest-sparsity-part"
SHELL_STATUS = re.compile(r"\n?pytest-sparsity-status=(\d+)\s*\Z")
# What the client says of a phone that is no longer there.
GONE = re.compile(
    r"device (?:'.*' )?(?:offline|not found)|no devices|closed|unauthorized|not online"
)
_UNKNOWN = (
    "connect the phone, switch USB debugging on, and look at: adb devices",
    "allow this computer on the phone's screen",
    "plug it in again, or run: adb reconnect",
)


class GoneError(Exception):
    """The phone is not there any more."""


class RefusedError(Exception):
    """A request that fails; `kind` is as in `worker`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class LacksError(Exception):
    """There is no phone to work with."""

    def __init__(self, fault: str, remedy: str) -> None:
        super().__init__(fault)
        self.remedy = remedy


class Phone:
    """One phone, through the client of adb."""

    def __init__(self, serial: str) -> None:
        self.serial = serial or self._only()
        self._check()

    def shell(self, *command: str, seconds: float = PATIENCE) -> tuple[int, str]:
        """Run a command there; return its exit status and all that it prints."""
        line = f"{shlex.join(command)} 2>&1; s=$?; echo; echo pytest-sparsity-status=$s"
        said = self._adb("shell", line, seconds=seconds).replace("\r\n", "\n")
        status = SHELL_STATUS.search(said)
        if status is None:
            raise GoneError(last_line(said) or "the shell there ended early")
        return int(status[1]), said[: status.start()]

    def parts(self, *scripts: str) -> list[str]:
        """Return what scripts of ours print, which go there as one, since each takes its time."""
        line = f"; echo {SEPARATOR}; ".join(f"{script} 2>/dev/null" for script in scripts)
        said = self._adb("shell", f"{line}; true", seconds=PATIENCE).replace("\r\n", "\n")
        found = [part.strip() for part in said.split(SEPARATOR)]
        return (found + [""] * len(scripts))[: len(scripts)]

    def text(self, *command: str) -> str:
        """Return what a command prints, "" if it fails."""
        status, said = self.shell(*command)
        return "" if status else said.strip()

    def push(self, path: Path, name: str, mode: str = "644") -> str:
        """Have a file there, under a name that tells its content; return its path there."""
        final = f"{FOLDER}/{name}"
        size = str(path.stat().st_size)
        if self.text("stat", "-c", "%s", final) == size:
            return final
        status, said = self.shell("mkdir", "-p", FOLDER)
        if status:
            raise RefusedError(
                "machine", f"{FOLDER} cannot be made on the phone: {last_line(said)}"
            )
        part = f"{final}.part"
        try:
            self._adb("push", str(path), part, seconds=PATIENCE + path.stat().st_size / 1e6)
        except RefusedError as error:
            self.shell("rm", "-f", part)
            raise RefusedError(
                "machine",
                f"{path.name} cannot be stored on the phone: {error}; free some space there",
            ) from error
        self.shell("chmod", mode, part)
        self.shell("mv", part, final)
        return final

    def _only(self) -> str:
        """Return the serial number of the only phone that is connected."""
        known = devices()
        if not known:
            raise LacksError("no phone is connected", _UNKNOWN[0])
        if len(known) > 1:
            names = " and ".join(known)
            first = next(iter(known))
            raise LacksError(
                f"several phones are connected, {names}",
                f"name the one, such as benchmark_model@adb:{first}",
            )
        return next(iter(known))

    def _check(self) -> None:
        state = devices().get(self.serial)
        if state == "device":
            return
        if state is None:
            raise LacksError(f"no phone {self.serial} is connected", _UNKNOWN[0])
        remedy = _UNKNOWN[1] if state == "unauthorized" else _UNKNOWN[2]
        raise LacksError(f"the phone {self.serial} is {state}", remedy)

    def _adb(self, *arguments: str, seconds: float) -> str:
        ended = _client("-s", self.serial, *arguments, seconds=seconds)
        said = ended.stdout + ended.stderr
        if ended.returncode and SHELL_STATUS.search(ended.stdout.replace("\r\n", "\n")) is None:
            if GONE.search(ended.stderr):
                raise GoneError(last_line(ended.stderr))
            raise RefusedError("machine", last_line(said) or f"adb ended with {ended.returncode}")
        return ended.stdout


def devices() -> dict[str, str]:
    """Return the state of every phone that is connected, by its serial number."""
    ended = _client("devices", seconds=PATIENCE)
    if ended.returncode:
        raise LacksError(f"adb does not work: {last_line(ended.stderr)}", "try: adb devices")
    rows = [line.split("\t") for line in ended.stdout.replace("\r", "").splitlines()]
    return {row[0]: row[1].split()[0] for row in rows if len(row) == 2 and row[1].strip()}


def _client(*arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ("adb", *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise GoneError(f"no answer within {seconds:.0f} s") from None


class Driver:
    """Answers requests as a worker does."""

    def __init__(self, settings: Message) -> None:
        self._settings = settings
        self._phone = Phone(settings["serial"])
        self._models: dict[str, Message] = {}
        binary = Path(settings["binary"])
        self._version = store.sha256(binary)[:12]
        self._binary = self._phone.push(binary, f"benchmark_model-{self._version}", "755")

    def hello(self) -> Message:
        """Say what runs there."""
        release, model, chip, platform, cpuinfo, arch, boot = self._phone.parts(
            "getprop ro.build.version.release",
            "getprop ro.product.model",
            "getprop ro.soc.model",
            "getprop ro.board.platform",
            "cat /proc/cpuinfo",
            "uname -m",
            "cat /proc/sys/kernel/random/boot_id",
        )
        return {
            "protocol": PROTOCOL,
            "runtime": self._settings["runtime"],
            "version": self._version,
            "cpu": " ".join(filter(None, (model, chip or platform))) or self._phone.serial,
            "clock": "wall",
            "block_ns": BLOCK_NS,
            "outputs": False,
            "engine": f"Android {release or 'of a version not told'}",
            "board": {
                "cpuinfo": cpuinfo,
                "arch": arch or "aarch64",
                "boot": boot or self._phone.serial,
            },
            "conditions": self._conditions(),
        }

    def answer(self, request: Message) -> Message:
        """Do what one request asks."""
        handler = getattr(self, f"_do_{request['do']}", None)
        if handler is None:
            raise RefusedError("unsupported", f"benchmark_model cannot do {request['do']!r}")
        answer: Message = handler(request)
        return answer

    def _do_load(self, request: Message) -> Message:
        if request["kernels"] == "reference":
            raise RefusedError("unsupported", "benchmark_model has no reference kernels")
        path = Path(request["path"])
        try:
            model = Model(path)
            signature = {
                "inputs": _described(model, model.graph.inputs, request.get("shapes")),
                "outputs": _described(model, model.graph.outputs, None),
            }
        except (ModelError, OSError) as error:
            raise RefusedError("load", str(error)) from error
        there = self._phone.push(path, f"{model.sha256}.tflite")
        self._models[request["key"]] = {**request, "there": there, **signature}
        return {**signature, "sha256": model.sha256}

    def _do_inputs(self, request: Message) -> Message:
        del request  # the tool fills inputs with numbers of its own
        return {}

    def _do_outputs(self, request: Message) -> Message:
        del request
        raise RefusedError("unsupported", "benchmark_model does not show what it computes")

    def _do_run(self, request: Message) -> Message:
        times = []
        for key, invocations in request["blocks"]:
            log = self._run(key, int(invocations), int(request["warm"]))
            if log.runs.count not in (0, int(invocations)):
                raise RefusedError(
                    "machine",
                    f"benchmark_model ran {counted(log.runs.count, 'time')} instead of"
                    f" {invocations}",
                )
            times.append(round(log.centre_us * 1000 * int(invocations)))
        return {
            "ran": request["blocks"],
            "wall_ns": times,
            "cpu_ns": times,
            "preempted": [0] * len(times),
            "instructions": None,
            "conditions": self._conditions(),
        }

    def _do_profile(self, request: Message) -> Message:
        log = self._run(
            request["key"], int(request["invocations"]), 1, "--enable_op_profiling=true"
        )
        if not log.operators:
            raise RefusedError("unsupported", "this benchmark_model prints no profile")
        if log.sparse_kernels is None:
            raise RefusedError(
                "unsupported", "this benchmark_model does not name XNNPACK's kernels"
            )
        return {"operators": [[row.type, round(row.avg_ms * 1e6)] for row in log.operators]}

    def _do_unload(self, request: Message) -> Message:
        del self._models[request["key"]]
        return {}

    def _do_quit(self, request: Message) -> Message:
        del request
        return {}

    def _run(self, key: str, invocations: int, warm: int, *more: str) -> Log:
        model = self._models[key]
        mask = self._settings["mask"]
        shapes = model.get("shapes")
        command = (
            *(("taskset", mask) if mask else ()),
            self._binary,
            f"--graph={model['there']}",
            f"--num_runs={invocations}",
            "--min_secs=0",
            "--max_secs=600",
            f"--warmup_runs={warm}",
            "--warmup_min_secs=0",
            f"--num_threads={model['threads']}",
            f"--use_xnnpack={'false' if model['kernels'] == 'builtin' else 'true'}",
            *(_layers(model["inputs"]) if shapes else ()),
            *more,
        )
        status, said = self._phone.shell(*command, seconds=600 + PATIENCE)
        name = Path(model["path"]).name
        try:
            (*_, log) = parse(said)
        except LogError:
            log = None
        if status or log is None:
            why = _reason(said) or f"exit status {status}"
            raise RefusedError("invocation", f"benchmark_model fails with {name}: {why}")
        for error in log.errors:
            sys.stderr.write(f"ERROR: {error}\n")
        sys.stderr.flush()
        return log

    def _conditions(self) -> Message:
        """Return the phone's thermal status (0: none, 1: light, ...) and its hottest sensor."""
        service, zones = self._phone.parts(
            "dumpsys thermalservice", "cat /sys/class/thermal/thermal_zone*/temp"
        )
        status = re.search(r"Thermal Status: (\d+)", service)
        heat = [int(word) / 1000 for word in zones.split() if word.isdigit()]
        return {
            "status": int(status[1]) if status else 0,
            "celsius": max((value for value in heat if value < 200), default=None),
        }


def _described(model: Model, indices: Any, shapes: Any) -> list[list[Any]]:
    found = []
    for number, index in enumerate(indices):
        tensor = model.graph.tensors[index]
        shape = shapes[number] if shapes else [max(int(size), 1) for size in tensor.shape]
        found.append([tensor.name, list(shape), tensor.dtype])
    return found


def _layers(inputs: list[list[Any]]) -> tuple[str, str]:
    names = ",".join(name for name, _, _ in inputs)
    shapes = ":".join(",".join(map(str, shape)) for _, shape, _ in inputs)
    return f"--input_layer={names}", f"--input_layer_shape={shapes}"


def _reason(said: str) -> str:
    """Return the line in which the tool says why it failed."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    marked = [line for line in lines if "ERROR" in line or "rror:" in line or "fault" in line]
    return (marked or lines or [""])[-1]


def serve(settings: Message) -> None:
    """Say hello, then answer until `quit` or the end of input."""
    try:
        driver = Driver(settings)
        put(driver.hello())
    except LacksError as lacks:
        _end({"lacks": str(lacks), "remedy": lacks.remedy})
    except RefusedError as refused:
        _end({"lacks": str(refused), "remedy": "look at: adb shell df /data"})
    except GoneError as gone:
        _end({"lacks": f"the phone does not answer ({gone})", "remedy": _UNKNOWN[2]})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {**driver.answer(request), "id": request["id"], "ok": True}
        except RefusedError as refused:
            answer = {"id": request["id"], "ok": False, "kind": refused.kind, "error": str(refused)}
        except GoneError as gone:
            error = f"the phone is gone ({gone}): {_UNKNOWN[2]}"
            _end({"id": None, "ok": False, "kind": "machine", "error": error})
        put(answer)
        if request["do"] == "quit":
            return


def _end(message: Message) -> NoReturn:
    put(message)
    sys.exit(0)


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
