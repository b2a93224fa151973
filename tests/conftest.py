"""Models that several modules need."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fused LSTM, whose state TFLite keeps from one invocation to the next."""
    from pytest_sparsity import selection
    from pytest_sparsity.converter import Converter

    selection.import_tfmot()
    import tf_keras as keras

    folder = tmp_path_factory.mktemp("recurrent")
    with closing(Converter()) as converter, selection.quiet():
        keras.utils.set_random_seed(0)
        network = keras.Sequential([keras.Input((5, 2), batch_size=1), keras.layers.LSTM(4)])
        network.export(str(folder / "saved"))
        converter.convert(folder / "saved", folder / "model.tflite")
    return folder / "model.tflite"
