"""What the documentation runs on: the files of a small network, and the plugin's options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_sparsity.encoding import Array
    from pytest_sparsity.writer import Encoding

ZEROS = 0.9
CONFTEST = '''
"""What the examples take for granted: somebody's files, and samples with labels."""

from dataclasses import dataclass

import numpy as np
import pytest

from pytest_sparsity import Model


@dataclass(frozen=True)
class Files:
    dense: Model
    pruned: Model
    sparse: Model


@pytest.fixture(scope="session")
def files():
    return Files(Model("dense.tflite"), Model("pruned.tflite"), Model("sparse.tflite"))


@pytest.fixture(scope="session")
def mobilenet(files):
    return files


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(0).random((64, 32, 32, 3), np.float32)


@pytest.fixture(scope="session")
def labels(images):
    from pytest_sparsity.inference import outputs

    return outputs("sparse.tflite", images)[0].argmax(axis=1)
'''


def write(folder: Path) -> None:
    """Write `dense.tflite`, `pruned.tflite`, `sparse.tflite` and a `conftest.py` to a folder.

    Four 1x1 convolutions behind the entry that XNNPACK's rewrite for sparse inference wants, and
    a global average behind them; the smallest 90 % of the weights are zero in the last two files.
    """
    _network(folder / "dense.tflite", "dense", zeros=0.0)
    _network(folder / "pruned.tflite", "dense", zeros=ZEROS)
    _network(folder / "sparse.tflite", "sparse", zeros=ZEROS)
    (folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")


def _network(path: Path, encoding: Encoding, zeros: float) -> None:
    from pytest_sparsity.writer import Network

    rng = np.random.default_rng(0)
    net = Network((1, 32, 32, 3))
    x = net.pad(net.input, 1)
    x = net.conv2d(x, _weights(rng, (32, 3, 3, 3)), stride=2, activation="RELU", name="entry")
    for number, (inputs, outputs) in enumerate(((32, 64), (64, 64), (64, 128), (128, 128))):
        weights = _weights(rng, (outputs, 1, 1, inputs))
        weights[np.abs(weights) < np.quantile(np.abs(weights), zeros)] = 0
        x = net.conv2d(x, weights, encoding=encoding, activation="RELU", name=f"pointwise_{number}")
    net.output(net.mean(x))
    net.write(path)


def _weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    spread = float(np.sqrt(2 / np.prod(shape[1:])))
    return rng.normal(0, spread, shape).astype(np.float32)


def flags(kind: str) -> list[tuple[str, str, str]]:
    """Return name, default and help of every flag of the plugin ("flags") or of the "suite"."""
    found = []
    for names, keywords in _Recorder.filled(kind).flags:
        metavar, default = keywords.get("metavar"), keywords.get("default")
        name = f"{names[0]} {metavar}" if metavar else names[0]
        text = str(keywords["help"])
        if default is not None:  # it has a column of its own
            text = text.partition("; default:")[0]
        found.append((name, "" if default is None else f"`{default:g}`", text))
    return found


def ini_values() -> list[tuple[str, str, str]]:
    """Return name, default and help of every ini value of the plugin."""
    found = []
    for name, text, keywords in _Recorder.filled("flags").ini:
        default = keywords.get("default")
        shown = " ".join(map(str, default)) if isinstance(default, list) else str(default)
        found.append((name, f"`{shown}`" if shown else "", str(text)))
    return found


class _Recorder(pytest.Parser):
    """A parser that keeps what is registered."""

    def __init__(self) -> None:
        super().__init__(_ispytest=True)
        self.flags: list[tuple[tuple[str, ...], dict[str, object]]] = []
        self.ini: list[tuple[str, str, dict[str, object]]] = []

    @classmethod
    def filled(cls, kind: str) -> _Recorder:
        from pytest_sparsity.plugin import options

        recorder = cls()
        (options.add_suite if kind == "suite" else options.add)(recorder)
        return recorder

    def getgroup(self, *arguments: object, **keywords: object) -> _Recorder:  # type: ignore[override]
        return self

    def addoption(self, *names: str, **keywords: object) -> None:  # type: ignore[override]
        self.flags.append((names, keywords))

    def addini(self, name: str, text: str, **keywords: object) -> None:  # type: ignore[override]
        self.ini.append((name, text, keywords))
