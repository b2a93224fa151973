from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import io
import logging
import os
import subprocess
import sys
import textwrap
from collections import defaultdict, namedtuple
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from pytest_sparsity import SparsityWarning, variants
from pytest_sparsity.variants import fingerprint
from pytest_sparsity.variants.fingerprint import Named, Untellable, digest
from pytest_sparsity.variants.recipe import Recipe

names = count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Import a module with the given source, and others beside it, under names of its own."""
    imported = set(sys.modules)

    def load(source: str, **others: str) -> Any:
        folder = tmp_path / f"folder{next(names)}"
        folder.mkdir()
        for name in ("subject", *others):
            sys.modules.pop(name, None)
        for name, content in {"subject": source, **others}.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(content))
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()
        return importlib.import_module("subject")

    yield load
    for name in set(sys.modules) - imported:
        del sys.modules[name]


BUILD = """
    WIDTH = 8
    def helper(x):
        return x + 1
    def build():
        return helper(WIDTH)
    """


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("WIDTH = 8", "WIDTH = 9"),
        ("x + 1", "x + 2"),
        ("x + 1", "x - 1"),
        ("helper(WIDTH)", "helper(WIDTH, 1)"),
        ("def build():", "def build(a=1):"),
        ("def build():", "def build(*, a=1):"),
        ("return helper(WIDTH)", "return [helper(WIDTH) for _ in range(2)]"),
        ("return helper(WIDTH)", "return (lambda: helper(WIDTH))()"),
    ],
)
def test_what_a_function_reaches_counts(module: Callable[..., Any], old: str, new: str) -> None:
    before = digest(module(BUILD).build)
    assert digest(module(BUILD).build) == before
    assert digest(module(BUILD.replace(old, new)).build) != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("WIDTH = 8", "\n\n    WIDTH = 8  # wide"),
        ("def build", "def unrelated():\n        return 3\n    def build"),
    ],
)
def test_what_it_does_not_reach_does_not_count(
    module: Callable[..., Any], old: str, new: str
) -> None:
    assert digest(module(BUILD.replace(old, new)).build) == digest(module(BUILD).build)


def test_functions_of_other_modules_count(module: Callable[..., Any]) -> None:
    source = "from other import make\nimport other\ndef build():\n    return make(), other.more()"
    other = "SIZE = 1\ndef make():\n    return SIZE\ndef more():\n    return 2\ndef unused(): {}"
    before = digest(module(source, other=other).build)
    assert digest(module(source, other=other.replace("unused", "idle")).build) == before
    for old, new in (("SIZE = 1", "SIZE = 3"), ("return 2", "return 4")):
        assert digest(module(source, other=other.replace(old, new)).build) != before


@pytest.mark.parametrize(
    "statement", ["import other", "from other import make", "import pack.inner"]
)
def test_a_module_imported_inside_counts_as_a_whole_without_being_imported(
    module: Callable[..., Any], statement: str
) -> None:
    source = f"def build():\n    {statement}"
    others = {"other": "import deep\ndef make(): {}", "deep": "X = 1", "pack": "import other"}
    before = digest(module(source, **others).build)
    assert not {"other", "deep", "pack"} & set(sys.modules)
    assert digest(module(source, **others).build) == before
    assert digest(module(source, **{**others, "deep": "X = 2"}).build) != before


def test_a_function_with_very_many_names_is_told(module: Callable[..., Any]) -> None:
    names = "\n".join(f"        x{n} = n{n}" for n in range(300))
    values = "\n".join(f"    n{n} = {n}" for n in range(300))
    source = f"{values}\n    def build():\n{names}\n        import other\n        return other.make"
    before = digest(module(source, other="def make(): {}").build)
    assert digest(module(source.replace("n299 = 299", "n299 = 0"), other="").build) != before
    assert digest(module(source, other="def make(): {}").build) == before
    assert digest(module(source, other="def make(): []").build) != before


def test_closures_count() -> None:
    def outer(width: object) -> Callable[[], object]:
        return lambda: width

    assert digest(outer(8)) == digest(outer(8))
    assert digest(outer(8)) != digest(outer(9))
    assert digest(outer([1, {"a": (2, 3)}])) != digest(outer([1, {"a": (2, 4)}]))
    assert digest(outer(0.0)) != digest(outer(-0.0))
    assert digest(outer(1)) != digest(outer(True))


def test_recursion_and_cycles_end() -> None:
    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    def odd(n: int) -> bool:
        return n != 0 and even(n - 1)

    loop: list[object] = []
    loop.append(loop)
    assert digest(even) == digest(even)
    assert digest(loop) == digest(loop)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Config:
    width: int = 8
    names: list[str] = dataclasses.field(default_factory=list)


class Builder:
    scale = 2

    def __init__(self, width: int) -> None:
        self.width = width

    @staticmethod
    def fixed() -> int:
        return 1

    @property
    def twice(self) -> int:
        return 2 * self.width

    def __call__(self) -> int:
        return self.width * self.scale + self.fixed() + super().__sizeof__()


class Slotted:
    __slots__ = ("width",)


Pair = namedtuple("Pair", "first second")  # noqa: PYI024  (the untyped one is a kind of its own)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Colour.RED, Colour.BLUE),
        (Config(8), Config(9)),
        (Builder(8), Builder(9)),
        (Builder(8).__call__, Builder(9).__call__),
        (functools.partial(max, 1), functools.partial(max, 2)),
        (functools.cache(lambda: 1), functools.cache(lambda: 2)),
        (Pair(1, 2), Pair(1, 3)),
        ({1, 2}, {1, 3}),
        (frozenset({"a"}), frozenset({"b"})),
        (PurePosixPath("a"), PurePosixPath("b")),
        (np.arange(3), np.arange(3) + 1),
        (np.zeros(2, "f4"), np.zeros(2, "f8")),
        (np.zeros((2, 1)), np.zeros((1, 2))),
        (np.float32(1), np.float32(2)),
        (np.dtype("f4"), np.dtype("f8")),
        (np.sin, np.cos),
        (np.sum, np.prod),
        (np.random.default_rng, np.random.seed),
        (os.path.join, os.path.split),
        (str.upper, str.lower),
        (dict.fromkeys, len),
        (Config, Builder),
        (b"a", b"b"),
        (range(2), range(3)),
    ],
)
def test_values_tell_themselves_apart(one: object, other: object) -> None:
    assert digest(one) == digest(one)
    assert digest(one) != digest(other)


def test_a_class_counts_with_what_its_methods_do(module: Callable[..., Any]) -> None:
    source = """
        class Base:
            def width(self):
                return 8
        class Layer(Base):
            def call(self):
                return super().width()
        """
    before = digest(module(source).Layer)
    assert digest(module(source).Layer) == before
    assert digest(module(source.replace("8", "9")).Layer) != before


@pytest.mark.parametrize(
    "opaque",
    [
        io.StringIO(),
        object(),
        np.random.default_rng(0),
        np.array([object()]),
        Slotted(),
        iter([]),
        defaultdict(list),
    ],
    ids=lambda opaque: type(opaque).__name__,
)
def test_what_cannot_be_told_is_said(opaque: object) -> None:
    with pytest.raises(Untellable, match=type(opaque).__name__):
        digest(lambda: opaque)


def test_the_user_s_own_module_as_a_value_is_its_source(module: Callable[..., Any]) -> None:
    source = "import other\ndef build():\n    return vars(other)"
    before = digest(module(source, other="X = 1").build)
    assert digest(module(source, other="X = 1").build) == before
    assert digest(module(source, other="X = 2").build) != before


def test_relative_imports_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(value: int) -> Callable[[], object]:
        folder = tmp_path / f"f{value}"
        (folder / "package").mkdir(parents=True)
        (folder / "package" / "__init__.py").touch()
        (folder / "package" / "inner.py").write_text(f"X = {value}")
        (folder / "package" / "subject.py").write_text(
            "def build():\n    from . import inner\n    return inner.X"
        )
        for name in [name for name in sys.modules if name.partition(".")[0] == "package"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()
        build: Callable[[], object] = importlib.import_module("package.subject").build
        return build

    assert digest(write(1)) != digest(write(2))
    for name in [name for name in sys.modules if name.partition(".")[0] == "package"]:
        monkeypatch.delitem(sys.modules, name)


def test_it_is_the_same_in_any_process() -> None:
    program = textwrap.dedent(
        """
        import sys
        from pytest_sparsity import zoo
        from pytest_sparsity.variants.fingerprint import digest
        def build():
            return zoo.mobilenet_v2(size=64), {"a", "b", "c"}, "x" in {"p", "q", "r"}
        print(digest(build), "tensorflow" in sys.modules)
        """
    )
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "random",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    run = functools.partial(subprocess.check_output, env=environment, text=True)
    first, second = (run([sys.executable, "-c", program]) for _ in range(2))
    assert first == second
    assert first.endswith("False\n")


# ------------------------------------------------------- what installed packages' objects are


def test_what_cannot_be_told_is_named_by_the_way_to_it(module: Callable[..., Any]) -> None:
    source = """
        import io
        class Data: pass
        DATA = Data()
        DATA.file = io.StringIO()
        def helper():
            return DATA.file
        def build():
            return helper()
        """
    with pytest.raises(Untellable, match=r"^DATA in helper in build is a _io\.StringIO object$"):
        digest(Named("build", module(source).build))
    stream = io.StringIO()
    with pytest.raises(Untellable, match=r"^stream in finetune is a _io\.StringIO object$"):
        digest(Named("finetune", lambda: stream))


def test_loggers_and_archives_of_arrays_are_told(tmp_path: Path) -> None:
    def archive(value: int) -> Any:
        np.savez(tmp_path / f"{value}.npz", weights=np.full(3, value))
        return np.load(tmp_path / f"{value}.npz")

    assert digest(archive(1)) == digest(archive(1)) != digest(archive(2))
    one, other = logging.getLogger("one"), logging.getLogger("other")
    assert digest(one) == digest(one) != digest(other)


def test_objects_of_installed_packages_are_told_by_version_and_state(
    module: Callable[..., Any],
) -> None:
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    def fitted(last: float) -> Any:
        return StandardScaler().fit([[0.0], [last]])

    assert digest(fitted(1)) == digest(fitted(1)) != digest(fitted(2))
    source = "def scale(x):\n    return x * 2"
    before = digest(FunctionTransformer(module(source).scale))
    assert digest(FunctionTransformer(module(source).scale)) == before
    assert digest(FunctionTransformer(module(source.replace("2", "3")).scale)) != before


def test_bytecode_of_a_python_that_was_not_tried_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fingerprint, "PYTHONS", ((3, 9),))
    with pytest.raises(Untellable, match=rf"code of Python 3\.{sys.version_info[1]}"):
        digest(digest)


def recipe(opaque: object, **fields: Any) -> Recipe:
    """Of a build whose code nobody can tell apart."""
    given: dict[str, Any] = {field.name: None for field in dataclasses.fields(Recipe)}
    asked: dict[str, Any] = {"sparsity": 0.8, "pattern": "unstructured", "depends": (), "seed": 0}
    build: dict[str, Any] = {"build": lambda: opaque}
    return Recipe(**{**given, **asked, **build, **fields})


def test_a_key_stands_for_code_that_cannot_be_told() -> None:
    with pytest.warns(SparsityWarning, match=r"built again in every session.*pass key='...'"):
        assert variants._key(recipe(object())) is None
    one = variants._key(recipe(object(), key="1"))
    assert one is not None
    assert variants._key(recipe(iter([]), key="1")) == one, "the code is not looked at"


@pytest.mark.parametrize("other", [{"key": "2"}, {"key": "1", "sparsity": 0.7}])
def test_another_key_or_another_wish_is_another_entry(other: dict[str, Any]) -> None:
    assert variants._key(recipe(object(), **other)) != variants._key(recipe(object(), key="1"))
