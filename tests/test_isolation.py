"""What a build leaves behind: nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_sparsity.errors import Unsupported
from pytest_sparsity.variants import keras_state
from pytest_sparsity.variants.isolation import (
    CrashError,
    TracebackInTheChild,
    in_a_fork,
    is_ours,
)


def raiser(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


class Odd(Exception):  # noqa: N818
    """An error that pickle cannot make again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def unknown() -> None:
    class Here(Exception):  # noqa: N818
        pass

    raise Here(1, "two")


def test_a_fork_returns_what_the_work_returns_and_changes_nothing() -> None:
    seen: list[int] = []
    before = dict(os.environ), random.getstate()

    def work() -> tuple[int, list[int]]:
        seen.append(os.getpid())
        os.environ["SPARSITY_TEST"] = "1"
        random.random()
        return os.getpid(), seen

    child, theirs = in_a_fork(work, "the work")
    assert (theirs, seen) == ([child], [])
    assert child != os.getpid()
    assert (dict(os.environ), random.getstate()) == before


def test_temporary_files_of_a_fork_go_with_it() -> None:
    def work() -> tuple[str, str]:
        handle, name = tempfile.mkstemp()
        os.close(handle)
        child = (sys.executable, "-c", "import tempfile; print(tempfile.mkdtemp())")
        return name, subprocess.run(
            child, capture_output=True, text=True, check=True
        ).stdout.strip()

    before = tempfile.gettempdir(), os.environ.get("TMPDIR")
    left = in_a_fork(work, "the work")
    assert not [name for name in left if Path(name).exists()]
    assert (tempfile.gettempdir(), os.environ.get("TMPDIR")) == before


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (Unsupported("no data", "get some"), Unsupported, "no data: get some"),
        (Odd(1, 2), Odd, "1 and 2"),
        (ValueError(lambda: 0), RuntimeError, "ValueError: <function"),
        (SystemExit(3), SystemExit, "3"),
        (pytest.skip.Exception("no weights here"), pytest.skip.Exception, "no weights here"),
    ],
    ids=["ours", "odd", "unpicklable", "exit", "skip"],
)
def test_an_error_in_a_fork_is_raised_here_with_the_lines_that_raised_it(
    error: BaseException, kind: type[BaseException], says: str
) -> None:
    with pytest.raises(kind, match=says) as raised:
        in_a_fork(raiser(error), "the work")
    assert isinstance(raised.value.__cause__, TracebackInTheChild)
    assert f'{Path(__file__).name}", line' in str(raised.value.__cause__)
    assert not is_ours(raised.value)


def test_an_error_that_only_the_fork_knows_keeps_its_message() -> None:
    with pytest.raises(RuntimeError, match="Here: 1, two"):
        in_a_fork(unknown, "the work")


def test_an_error_of_our_own_has_no_traceback_in_a_fork() -> None:
    from pytest_sparsity.patterns import parse

    with pytest.raises(ValueError, match="is unknown") as raised:
        in_a_fork(lambda: parse("?"), "the work")
    assert raised.value.__cause__ is None
    assert is_ours(raised.value)


def abort() -> None:
    """End as TensorFlow does where it finds something impossible."""
    os.write(2, b"F1125 12:00:00.1 1 a.cc:1] Check failed: n > 0\n    @ 0x7f main\n")
    os.abort()


@pytest.mark.parametrize(
    ("kill", "says"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), r"SIGSEGV; File \".*test_isolation\.py\","),
        (abort, r"SIGABRT; F1125 12:00:00\.1 1 a\.cc:1\] Check failed: n > 0; File "),
        (lambda: os._exit(7), r"exit status 7\)"),
    ],
    ids=["signal", "abort", "exit"],
)
def test_a_crash_of_the_work_is_one_error(kill: Callable[[], None], says: str) -> None:
    with pytest.raises(CrashError, match=rf"the work crashed its process \({says}"):
        in_a_fork(kill, "the work")


def test_what_native_code_prints_is_seen_but_for_tensorflow_s_chatter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = b"I0000 00:00:1795600077.1 1 a.cc:1] no GPU\nsomething of the user's\n"
    in_a_fork(lambda: os.write(2, said), "the work")
    assert capsys.readouterr().err == "something of the user's\n"


def test_a_fork_ends_with_its_parent(tmp_path: Path) -> None:
    program = """
        import os, sys, time
        from pathlib import Path
        from pytest_sparsity.variants.isolation import in_a_fork

        def work():
            Path(sys.argv[1]).write_text(str(os.getpid()))
            time.sleep(60)

        in_a_fork(work, "the work")
        """
    told = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), str(told)])
    while not told.exists() or not told.read_text():
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    child = Path("/proc", told.read_text(), "cmdline")
    for _ in range(500):
        if not child.exists() or not child.read_bytes():  # gone, or a zombie
            return
        time.sleep(0.01)
    pytest.fail("the child goes on without its parent")


# ----------------------------------------------------------- in a process that runs TensorFlow


def meddle() -> None:
    """Set everything that a build may set."""
    import keras
    import tensorflow as tf
    import tf_keras

    for each in (tf_keras, keras):
        each.backend.set_floatx("float16")
        each.backend.set_epsilon(0.5)
        each.backend.set_image_data_format("channels_first")
        each.mixed_precision.set_global_policy("mixed_float16")
        each.utils.set_random_seed(99)
        each.layers.Dense(1)
    tf.config.run_functions_eagerly(True)
    tf.random.set_seed(99)
    os.environ["TF_USE_LEGACY_KERAS"] = "maybe"
    os.environ["SPARSITY_TEST"] = "1"
    _ = tf.keras.layers


def state() -> list[Any]:
    import keras
    import tensorflow as tf
    import tf_keras

    settings = [
        (
            each.backend.floatx(),
            each.backend.epsilon(),
            each.backend.image_data_format(),
            each.mixed_precision.global_policy().name
            if each is tf_keras
            else each.mixed_precision.dtype_policy().name,
        )
        for each in (tf_keras, keras)
    ]
    return [
        *settings,
        tf.config.functions_run_eagerly(),
        dict(os.environ),
        type(vars(tf)["keras"]).__name__,
        random.getstate(),
        np.random.get_state()[1].tolist(),  # type: ignore[index]
    ]


def fail_in_a_build(defaults: list[Any]) -> None:
    import tf_keras

    with keras_state.fresh(0):
        assert state()[:3] == defaults[:3]
        assert tf_keras.layers.Dense(1).name == "dense"
        meddle()
        settings: list[Any] = keras_state.settings()
        assert {name for _module, name, _value in settings} == {
            *("_FLOATX", "_EPSILON", "_IMAGE_DATA_FORMAT", "_global_policy"),
            "RUN_FUNCTIONS_EAGERLY",
        }
        raise ZeroDivisionError


def test_a_build_finds_keras_defaults_and_leaves_what_was_there() -> None:
    import tensorflow as tf
    import tf_keras

    with keras_state.fresh(0):
        defaults = state()
        assert keras_state.settings() == []
    tf_keras.backend.set_image_data_format("channels_first")
    tf.random.set_seed(5)
    try:
        number = tf_keras.layers.Dense(1).name
        expected = state()
        tf.random.set_seed(5)
        draws = [float(tf.random.uniform([])) for _ in range(2)]
        tf.random.set_seed(5)
        first = float(tf.random.uniform([]))
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                fail_in_a_build(defaults)
        assert state() == expected
        assert [first, float(tf.random.uniform([]))] == draws
        stem, _, count = number.rpartition("_")
        following = f"dense_{int(count) + 1}" if stem else "dense_1"
        assert tf_keras.layers.Dense(1).name == following
    finally:
        tf_keras.backend.set_image_data_format("channels_last")


# ------------------------------------------------------------------------------ as users see it


BUILDS = """
    import contextlib
    import os
    import sys

    import pytest


    def network(data_format="channels_last"):
        import tensorflow as tf

        tf.keras.mixed_precision.set_global_policy("float32")
        layers = tf.keras.layers
        return tf.keras.Sequential([layers.InputLayer((8,), batch_size=1), layers.Dense(4)])


    def crash():
        import ctypes

        ctypes.string_at(0)


    def wrong():
        return {}["weights of mine"]


    @pytest.mark.parametrize("when", ["cold", "warm"])
    def test_good(variants, when):
        before = dict(os.environ)
        made = variants(network, sparsity=0.5, policy="all")
        assert made.pruned.sparsity == 0.5
        assert os.environ == before
        assert not {"tensorflow", "keras", "tf_keras"} & set(sys.modules)


    @pytest.fixture
    def without_tensorflow(monkeypatch):
        from pytest_sparsity.variants import building

        monkeypatch.setattr(building.keras_state, "fresh", contextlib.nullcontext)


    @pytest.mark.usefixtures("without_tensorflow")
    def test_crash(variants):
        variants(crash)


    @pytest.mark.usefixtures("without_tensorflow")
    def test_wrong(variants):
        variants(wrong)


    @pytest.mark.usefixtures("without_tensorflow")
    def test_skipped(variants):
        variants(lambda: pytest.skip("no weights of mine"))


    def test_refused(variants):
        variants(network, sparsity=3)
    """


def test_nothing_of_a_build_is_seen_by_the_other_tests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(BUILDS)
    result = pytester.runpytest_subprocess("-W", "error")
    result.assert_outcomes(passed=2, failed=3, skipped=1)
    lines = result.stdout
    lines.fnmatch_lines(["E *CrashError: the build of crash crashed its process (SIGSEGV; File *"])
    lines.fnmatch_lines(['*return {}[[]"weights of mine"]', "E *KeyError: 'weights of mine'"])
    lines.fnmatch_lines(
        [
            "*test_refused*",
            ">*variants(network, sparsity=3)",
            "E *ValueError: sparsity=3 must be in [[]0, 1): 3 % is 0.03",
            "",
            "*.py:*: ValueError",
        ]
    )
    for room in ("recipe", "isolation", "building", "pruning", "variants/__init__"):
        lines.no_fnmatch_line(f"*{room}.py*")
