"""Every block of Python in README and documentation runs as it stands, on the examples' files."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^( *)```python\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    code: str

    @property
    def needs_tensorflow(self) -> bool:
        return "variants(" in self.code or "keras" in self.code or "torch" in self.code

    @property
    def claims(self) -> bool:
        """Whether it has tests; else it is a script, or a part of a conftest.py."""
        return any(
            isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
            for node in ast.walk(ast.parse(self.code))
        )

    @property
    def hooks(self) -> bool:
        return "def pytest_" in self.code


# What `--sparsity-update` says of a ratio that it does not record.
TOO_WIDE = "is not recorded: the interval of"


def blocks() -> list[Block]:
    found = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            indent = len(match[1])
            code = "".join(line[indent:] for line in match[2].splitlines(keepends=True))
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(path.relative_to(ROOT).as_posix(), line, code))
    return found


BLOCKS = blocks()


def test_there_are_blocks() -> None:
    assert {"README.md", "docs/baselines.md"} <= {block.page for block in BLOCKS}


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(
            block,
            id=f"{block.page}:{block.line}",
            marks=[pytest.mark.slow] if block.needs_tensorflow else [],
        )
        for block in BLOCKS
    ],
)
def test_it_runs_as_it_stands(block: Block, tmp_path: Path) -> None:
    examples(tmp_path)
    if "properties.check" in block.code:
        converted(tmp_path)
    if block.hooks:
        with (tmp_path / "conftest.py").open("a", encoding="utf-8") as conftest:
            conftest.write(f"\nimport os\n\n{block.code}")
        (tmp_path / "test_block.py").write_text("def test_nothing(): pass\n", encoding="utf-8")
        run(tmp_path, "-m", "pytest", "-q")
    elif block.claims:
        (tmp_path / "test_block.py").write_text(block.code, encoding="utf-8")
        # Whether a block runs is asked here, not whether a busy machine can decide its claims.
        options = ["-q", "-rs", "--sparsity-target=litert-js", "-o", "sparsity_inconclusive=skip"]
        update = ("-m", "pytest", *options, "--sparsity-update", "--sparsity-budget=30")
        done = started(tmp_path, *update)
        if TOO_WIDE in done.stdout:
            pytest.skip("this machine is too busy for a ratio that is narrow enough to be recorded")
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        printed = done.stdout
        if "baseline" in block.code and "race(" not in block.code:
            printed = run(tmp_path, "-m", "pytest", *options)
        if " passed" not in printed:
            pytest.skip(reason(printed))
    else:
        script(tmp_path, block.code)


def reason(printed: str) -> str:
    """Return why pytest skipped what it skipped, in its own words."""
    told = [line for line in printed.splitlines() if line.startswith("SKIPPED ")]
    assert told, printed
    return told[0].partition(": ")[2]


def examples(folder: Path) -> None:
    """Write what the examples take for granted."""
    code = "import examples, pathlib, sys; examples.write(pathlib.Path(sys.argv[1]))"
    run(ROOT / "docs" / "_ext", "-c", code, str(folder))


def converted(folder: Path) -> None:
    """Files of TensorFlow's converter, which say what they need of a runtime."""
    data = ROOT / "tests" / "data"
    for name, kind in (("dense", "dense"), ("pruned", "dense"), ("sparse", "sparse")):
        shutil.copy(data / f"cnn_{kind}.tflite", folder / f"{name}.tflite")


def script(folder: Path, code: str) -> None:
    done = started(folder, "-c", code)
    if "pytest_sparsity.errors.Unsupported: " in done.stderr:
        pytest.skip(done.stderr.rstrip().splitlines()[-1].partition(": ")[2])
    assert done.returncode == 0, done.stderr


def run(folder: Path, *arguments: str) -> str:
    done = started(folder, *arguments)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def started(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
