"""Coverage-guided fuzzing of what reads files that others wrote.

Run as `python benchmarks/fuzz.py SUBJECT [--seconds N] [--corpus FOLDER]`, or `tox run -e fuzz`;
the subject "all" is one after the other.
The subjects and what counts as a fault are in `tests/fuzzing.py`. It begins with the committed
seeds and with what the folder holds, keeps there what reaches new code, and ends at the first
fault, whose bytes it writes to `tests/data/fuzzing/KIND/regressions`. Needs atheris, which is
for Linux and macOS.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

# It has no types, and is nowhere but where it fuzzes.
atheris: Any = import_module("atheris")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
with atheris.instrument_imports(include=["pytest_sparsity"]):
    import fuzzing

# Of ten changes of a model's file, so many are of its values and not of its bytes.
STRUCTURED = {"reader": 5, "rules": 8, "rewriting": 8}
LARGEST = 1 << 16
# Seconds of one input after which it counts as a hang, on a busy machine too, and MB of memory that
# are too many: atheris 3.0 itself keeps 1.3 kB of each execution of the subject "encoding".
PATIENCE, MEMORY = 120, 8192


def every(seconds: int) -> int:
    """Fuzz each subject in a process of its own; libFuzzer ends the one that it runs in."""
    command = (sys.executable, __file__, f"--seconds={seconds}")
    ended = [subprocess.run((*command, subject), check=False) for subject in fuzzing.SUBJECTS]
    return max(done.returncode for done in ended)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("subject", choices=[*fuzzing.SUBJECTS, "all"])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="what was found so far; by default discarded")
    arguments = parser.parse_args()
    if arguments.subject == "all":
        sys.exit(every(arguments.seconds))
    subject: str = arguments.subject
    seeds, faults = fuzzing.folders(subject)
    corpus = arguments.corpus or Path(tempfile.mkdtemp(prefix=f"fuzz-{subject}-"))
    for folder in (corpus, faults):
        folder.mkdir(parents=True, exist_ok=True)

    def change(data: bytes, size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.randrange(10) < STRUCTURED.get(subject, 0):
            changed = fuzzing.mutated(data, rng)
            if changed is not None and len(changed) <= size:
                return changed
        mutated: bytes = atheris.Mutate(data, size)
        return mutated

    flags = [
        f"-max_total_time={arguments.seconds}",
        f"-max_len={LARGEST}",
        f"-timeout={PATIENCE}",
        f"-rss_limit_mb={MEMORY}",
        f"-artifact_prefix={faults}{os.sep}",
        "-print_final_stats=1",
    ]
    options = {"custom_mutator": change} if subject in STRUCTURED else {}
    command = [sys.argv[0], *flags, str(corpus), str(seeds), str(faults)]
    atheris.Setup(command, fuzzing.SUBJECTS[subject], **options)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
