"""The house: files short enough to be read, and imports without circles inside the rooms, too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import pytest_sparsity

PACKAGE = Path(pytest_sparsity.__file__).parent
ROOT = Path(__file__).parent.parent
LONGEST = 400
"""Lines of a file."""
HOMONYMS = {
    *("Change", "Channels", "Claim", "Comparison", "Entry", "Files", "Network", "Pair", "Place"),
    *("Release", "Schedule", "Value", "Worker"),
}
"""Names that two or three classes had."""
OLD_WORDS = {
    r"\btwins?\b": "densified copy",
    r"\b(right|wrong)[ _-]?answers?\b": "outputs",
    r"\bundecided\b": "inconclusive",
    r"\bconclusions?\b": "diagnosis",
    r"\bledger\b(?!-overflow| is of uint8| that was left)": "session report",
    r"\banew\b": "again",
    r"(?<!-)\bmend(s|ed|ing)?\b": "repair, of models, or fix",
}
"""What was once said in its place, and what is said now; the changelog has names of code."""


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
    assert not long


def classes(package: Path) -> Iterator[tuple[str, str]]:
    """The classes of a package, and the files that have them."""
    for path in package.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                yield node.name, str(path.relative_to(package))


def test_one_word_names_one_class() -> None:
    found: dict[str, list[str]] = {}
    for name, path in classes(PACKAGE):
        found.setdefault(name, []).append(path)
    again = {name: found[name] for name in HOMONYMS if len(found.get(name, ())) > 1}
    assert not again


def shown() -> Iterator[Path]:
    """The files whose words users or developers read."""
    yield from (path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".mjs", ".html"})
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md"))
    yield from (path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)


@pytest.mark.parametrize("banned", OLD_WORDS, ids=OLD_WORDS.values())
def test_old_words_are_gone(banned: str) -> None:
    found = [
        f"{path.name}: {line.strip()}"
        for path in shown()
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(banned, line, re.IGNORECASE)
    ]
    assert not found, f"write {OLD_WORDS[banned]}"


@pytest.mark.parametrize(
    "line",
    [
        "a densified twin", "computes wrong answers", "it is undecided",
        "from diagnosis.conclusion import", "class Ledger", "set up anew", "nothing mends it",
    ],
)  # fmt: skip
def test_old_words_are_found(line: str) -> None:
    assert any(re.search(banned, line, re.IGNORECASE) for banned in OLD_WORDS)
