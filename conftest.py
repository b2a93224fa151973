"""What all tests of this repository share."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings

# Examples are timed by nobody: a deadline would only fail on a busy machine.
settings.register_profile("quick", max_examples=50, derandomize=True, deadline=None)
settings.register_profile("nightly", max_examples=500, deadline=None, print_blob=True)
settings.load_profile("quick")


def pytest_configure() -> None:
    """Refuse to run where the plugin under test is not installed, or its entry point is stale."""
    points = importlib.metadata.entry_points(group="pytest11", name="sparsity")
    if not points:
        raise pytest.UsageError(
            "pytest-sparsity is not installed; install it with: python -m pip install -e ."
        )


@pytest.fixture(autouse=True)
def no_real_process_left() -> Iterator[None]:
    """A test that scripts its workers is not to copy the process that a real race has left."""
    yield
    originals = sys.modules.get("pytest_sparsity.racing.originals")
    if originals is not None:
        originals.ORIGINALS.close()


@pytest.fixture(scope="session")
def compiler() -> str:
    """A C compiler; a test that needs one skips without."""
    from pytest_sparsity.targets.places.emulated.counting import SYSTEM_PACKAGES

    found = shutil.which("cc")
    if found is None:
        pytest.skip(f"no C compiler: {SYSTEM_PACKAGES}")
    return found


@pytest.fixture(scope="session")
def counting_emulator() -> str:
    """An emulator that counts instructions; a test that needs one skips without."""
    from pytest_sparsity.targets import Target
    from pytest_sparsity.targets.places import emulated

    target = Target.of("litert@nehalem")
    missing = target.missing() or target.cannot_count()
    if missing is not None:
        pytest.skip(str(missing))
    return emulated.at("nehalem").emulator


@pytest.fixture(scope="session")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fused LSTM, whose state TFLite keeps from one invocation to the next."""
    from pytest_sparsity.variants import networks
    from pytest_sparsity.variants.converter import Converter

    networks.import_tfmot()
    import tf_keras as keras

    folder = tmp_path_factory.mktemp("recurrent")
    with closing(Converter()) as converter, networks.quiet():
        keras.utils.set_random_seed(0)
        network = keras.Sequential([keras.Input((5, 2), batch_size=1), keras.layers.LSTM(4)])
        network.export(str(folder / "saved"))
        converter.convert(folder / "saved", folder / "model.tflite")
    return folder / "model.tflite"
