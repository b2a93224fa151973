"""Signals to a real pytest while it builds, installs, races or hangs: what is left behind.

Run as `python benchmarks/signals.py [ROUNDS] [ACTIVITY...]`. Each round sends each of SIGINT,
SIGTERM, SIGHUP and SIGKILL to pytest, at some instant of each activity, and then looks for
processes of it and for files in its temporary folder, its cache and its own folder. What a killed
process leaves is there until the next one sweeps; it is swept before it is looked for, as that one
would. Linux only.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import killing
from killing import SIGNALS, leftovers, swept
from pytest_sparsity.writer import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

DATA = Path(__file__).parent.parent / "tests" / "data"
# Seconds: on a busy machine TensorFlow takes longer to import than a quick test would wait.
killing.PATIENCE = 300.0
# The file by which a test says that it has begun.
BEGUN = "begun"
RACE = f"""
def test_race(race):
    models = "{DATA}/cnn_dense.tflite", "{DATA}/cnn_sparse.tflite"
    for _ in range(100):
        race(*models, target=TARGET, budget=5)
"""
BUILD = f"""
from pathlib import Path

def build():
    Path(__file__).with_name("{BEGUN}").touch()
    import tf_keras as keras
    layers = keras.layers
    return keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(8, 1), layers.Flatten()])

def test_build(variants):
    for seed in range(100):
        variants(build, policy="all", seed=seed)
"""
HANG = """
from pathlib import Path

from pytest_sparsity.targets import Target

def test_hang():
    with Target.of("litert").open() as worker:
        worker.load("a", Path(__file__).with_name("hang.tflite"))
        worker.run([("a", 100)])
"""


@dataclass(frozen=True)
class Activity:
    """What pytest is doing.

    Attributes:
        test: the test that does it.
        child: what stands in the command line of the child that shows that it has begun; if it is
            empty, a file does.
        seconds: that it may take from there until the signal comes.
        fresh: whether its cache is empty.
    """

    test: str
    child: str
    seconds: float
    fresh: bool = False


ACTIVITIES = {
    "race, Python": Activity(RACE.replace("TARGET", "'litert'"), "targets/worker", 3),
    "race, Node": Activity(RACE.replace("TARGET", "'litert-js'"), "worker.mjs", 3),
    "race, QEMU": Activity(RACE.replace("TARGET", "'litert@cortex-a53'"), "qemu-aarch64", 3),
    "hang": Activity(HANG, "targets/worker", 6),
    # npm calls itself "npm ci ...".
    "install": Activity(RACE.replace("TARGET", "'litert-js'"), "npm", 0.5, fresh=True),
    "build": Activity(BUILD, "", 8, fresh=True),
}


def hanging(path: Path) -> None:
    """Write a model that takes minutes for one invocation."""
    import numpy as np

    net = Network((1, 512, 512, 64))
    kernel = np.ones((256, 9, 9, 64), np.float32)
    net.output(net.mean(net.conv2d(net.input, kernel)))
    net.write(path)


def attempt(activity: Activity, number: int, root: Path, delay: float) -> list[str]:
    """Send one signal; return what is left."""
    folders = {name: root / name for name in ("temporary", "cache", "here")}
    for folder in folders.values():
        folder.mkdir()
    (folders["here"] / "test_it.py").write_text(activity.test)
    if "hang.tflite" in activity.test:
        hanging(folders["here"] / "hang.tflite")
    before = {BEGUN, *(path.name for path in folders["here"].iterdir())}
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    if activity.fresh:
        environment["XDG_CACHE_HOME"] = str(folders["cache"])
    arguments = ("-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", folders["here"])
    command = (sys.executable, "-m", "pytest", *map(str, arguments), str(folders["here"]))

    def ready(line: Sequence[str]) -> bool:
        if not activity.child:
            return (folders["here"] / BEGUN).exists()
        return any(activity.child in word for word in line)

    found, files = leftovers(
        command, folders["temporary"], SIGNALS[number], ready, environment, delay
    )
    for kind in (".building-", "install-"):
        for folder in {path.parent for path in folders["cache"].rglob(f"{kind}*")}:
            swept(folder, kind)
    half = [
        p.name for kind in (".building-", "install-") for p in folders["cache"].rglob(f"{kind}*")
    ]
    new = [p.name for p in folders["here"].iterdir() if p.name not in before]
    return [*(f"process {pid}" for pid in found), *files, *half, *new]


def main(rounds: int = 20, *names: str) -> int:
    """Run the rounds and print, for each activity and signal, attempts and leftovers."""
    # A shell lets what it starts in the background ignore SIGINT, and nohup SIGHUP, and all that
    # that starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    tally: dict[tuple[str, str], list[int]] = {}
    rng, begun, left = random.Random(), time.monotonic(), 0
    for done in range(rounds):
        for name in names or ACTIVITIES:
            for number, sent in enumerate(SIGNALS):
                activity = ACTIVITIES[name]
                root = Path(tempfile.mkdtemp(prefix="signals-"))
                try:
                    found = attempt(activity, number, root, rng.uniform(0, activity.seconds))
                finally:
                    shutil.rmtree(root, ignore_errors=True)
                counts = tally.setdefault((name, sent.name), [0, 0])
                counts[0] += 1
                counts[1] += bool(found)
                left += bool(found)
                if found:
                    print(f"{name}, {sent.name}: {', '.join(found)}", flush=True)
        print(f"round {done + 1}, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    for (name, signal_name), (attempts, faults) in sorted(tally.items()):
        print(f"{name:14}{signal_name:9}{attempts:4} times, {faults} left something")
    return bool(left)


if __name__ == "__main__":
    given = sys.argv[1:]
    raise SystemExit(main(int(given[0]) if given else 20, *given[1:]))
