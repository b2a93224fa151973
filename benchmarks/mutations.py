"""Changed files through the rules: each is a diagnosis or a ModelError, and how long that takes.

Run as `python benchmarks/mutations.py [NUMBER] [FOLDER]`: 10,000 changes, of values and of bytes,
of the converter's files in `tests/data` or of those in the folder, through
`diagnose(observe=False)`.
Prints how many were read and the time; fails at the first other exception, and writes its file.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import fuzzing
from pytest_sparsity.diagnosis import diagnose
from pytest_sparsity.errors import ModelError

DATA = Path(__file__).parent.parent / "tests" / "data"
TARGETS = ("litert", "litert-js")


def changed(data: bytes, rng: random.Random) -> bytes:
    """Change values of a file, or else bytes of it."""
    if rng.random() < 0.7:
        structured = fuzzing.mutated(data, rng)
        if structured is not None:
            return structured
    content = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        content[rng.randrange(len(content))] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    return bytes(content)


def verdict(path: Path, target: str) -> str:
    try:
        return diagnose(path, target, observe=False).verdict
    except ModelError:
        return "refused"


def measure() -> dict[str, float]:
    """Return the figures that are compared with those of other commits."""
    begun = time.process_time()
    main(1000)
    return {"1,000 changes, CPU s": time.process_time() - begun}


def main(number: int = 10_000, folder: str = str(DATA)) -> int:
    files = [path.read_bytes() for path in sorted(Path(folder).glob("*.tflite"))]
    rng, found = random.Random(0), Counter[str]()
    slowest = spent = 0.0
    path = Path(tempfile.mkdtemp(prefix="mutations-"), "model.tflite")
    begun, cpu = time.monotonic(), time.process_time()
    for done in range(number):
        path.unlink(missing_ok=True)
        path.write_bytes(changed(rng.choice(files), rng))
        at = time.process_time()
        try:
            found[verdict(path, TARGETS[done % len(TARGETS)])] += 1
        except Exception:
            print(f"change {done}: {path}")
            raise
        slowest = max(slowest, time.process_time() - at)
        spent += time.process_time() - at
    print(f"{number} changes of {len(files)} files: {dict(found)}")
    cpu, wall = time.process_time() - cpu, time.monotonic() - begun
    print(f"{spent:.0f} s of CPU time in diagnose, {slowest:.2f} s at most for one")
    print(f"{cpu:.0f} s of CPU time with making the files, {wall:.0f} s by the wall")
    return 0


if __name__ == "__main__":
    given = sys.argv[1:]
    raise SystemExit(main(int(given[0]) if given else 10_000, *given[1:2]))
