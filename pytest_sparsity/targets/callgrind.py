"""What a runtime executes on this machine, counted by valgrind's callgrind."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.children import scratch_folder
from pytest_sparsity.errors import Unsupported
from pytest_sparsity.targets.child import Launch
from pytest_sparsity.targets.worker_process import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping

# Seconds: MobileNetV1 224 takes 2 minutes under callgrind on a loaded machine.
_PATIENCE = 900.0
_KEY = "model"


def executed(target: str, native: Launch, model: Path) -> Mapping[str, int]:
    """Return the instructions of one inference by function.

    Valgrind shows the runtime a CPU without AVX-512, so the kernels are those for AVX2.

    Args:
        target: the target's name, for messages.
        native: how its worker is started without valgrind.
        model: the `.tflite` file.

    Raises:
        Unsupported: valgrind is not installed.
        TargetError: the target fails on the model.
    """
    if shutil.which("valgrind") is None:
        raise Unsupported("valgrind is not installed", "sudo apt-get install -y valgrind")
    with scratch_folder("callgrind") as folder:
        out = Path(folder, "callgrind")
        # XNNPACK's part of an invocation, and a file of its own for each: a worker that is asked to
        # quit need not live long enough to write what it has at its end.
        options = [f"--{what}=xnn_invoke_runtime" for what in ("toggle-collect", "dump-after")]
        command = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *options)
        launch = Launch((*command, *native.command), native.environment)
        with Worker(target, launch, timeout=_PATIENCE) as worker:
            worker.load(_KEY, model)
            worker.run([(_KEY, 1)], warm=0)
        counts: dict[str, int] = {}
        for dump in sorted(out.parent.glob(f"{out.name}.*")):
            for name, instructions in self_costs(dump.read_text("utf-8", "replace")).items():
                counts[name] = counts.get(name, 0) + instructions
    return counts


def self_costs(text: str) -> Mapping[str, int]:
    """Return what every function in a file of callgrind's executed itself, without its callees.

    Format: Valgrind manual, "Callgrind Format Specification". A name is spelt out once and then
    given by its number; the line after `calls=` is the cost of a call, which is the callee's.
    """
    names: dict[str, str] = {}
    costs: dict[str, int] = {}
    function, call = "", False
    for line in text.splitlines():
        named = re.fullmatch(r"(c?fn)=\((\d+)\)(?: (.*))?", line)
        if named:
            name = names.setdefault(named[2], named[3] or "")
            function = name if named[1] == "fn" else function
        elif line.startswith("calls="):
            call = True
        elif re.match(r"[\d+*-]", line):
            if not call:
                costs[function] = costs.get(function, 0) + int(line.split()[1])
            call = False
    return costs
