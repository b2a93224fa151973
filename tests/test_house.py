"""The house: files short enough to be read, and imports without circles inside the rooms, too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import pytest_sparsity

PACKAGE = Path(pytest_sparsity.__file__).parent
LONGEST = 400
"""Lines of a file."""
LONG = {"targets/worker.py"}
"""Files that may be longer, whose docstrings say why."""


def imports(source: Path, known: set[str]) -> Iterator[str]:
    """The modules of the package that a module imports when it is imported itself."""
    waiting: list[ast.stmt] = list(ast.parse(source.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting += [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]


def graph(package: Path) -> dict[str, set[str]]:
    """Each module of a package, and those of its modules that it imports."""
    files = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in package.rglob("*.py")
    }
    return {
        name: (set(imports(path, set(files))) & set(files)) - {name} for name, path in files.items()
    }


def test_no_module_imports_itself_by_way_of_others() -> None:
    TopologicalSorter(graph(PACKAGE)).prepare()


def test_a_circle_is_found(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    (room / "__init__.py").write_text("")
    (room / "first.py").write_text("if True:\n    from room import second\n")
    (room / "second.py").write_text("import room.first\n")
    with pytest.raises(CycleError, match="room"):
        TopologicalSorter(graph(room)).prepare()
    (room / "second.py").write_text(
        "if TYPE_CHECKING:\n    import room.first\n\ndef late():\n    import room.first\n"
    )
    TopologicalSorter(graph(room)).prepare()


def test_files_are_short() -> None:
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST
    }
    assert set(long) == LONG, long
