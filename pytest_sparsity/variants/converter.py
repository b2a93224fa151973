"""TensorFlow's converter, which may crash its process, and its sparsify pass.

`LocalConverter` is for a process that a crash may take with it, `Converter` for one that is to go
on: it is the parent's side, and `main` the child's. They speak one line of JSON per request and
answer. The child's import of TensorFlow goes on while the parent builds the network.
"""

from __future__ import annotations

import faulthandler
import json
import os
import selectors
import signal
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_sparsity import children
from pytest_sparsity.variants.calibration import read_samples
from pytest_sparsity.variants.last_words import telling_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

TIMEOUT = 1800.0
"""Seconds for one request; InceptionV3 takes about ten."""

REMEDIES = {
    "requires element_shape to be static": (
        "a recurrent layer with an open batch cannot be converted, so fix it:"
        " keras.Input(..., batch_size=1), or LSTM(unroll=True)"
    ),
}
"""What to do, by what is in the line that tells."""

CHILD = "from pytest_sparsity.variants.converter import main; main()"


class ConversionError(RuntimeError):
    """The converter refused the network, crashed or hung; the message ends with what it said."""


class Converts(Protocol):
    """What converts, for one network; to be closed in the end."""

    def close(self) -> None:
        """Free what it holds."""
        ...

    def convert(
        self,
        saved_model: Path,
        path: Path,
        quantize: str | None = None,
        samples: Path | None = None,
    ) -> None:
        """Convert a SavedModel to a `.tflite` file whose weights are all stored densely.

        Args:
            saved_model: its folder.
            path: of the file to write.
            quantize: None, `"float16"`, `"dynamic"` or `"int8"`.
            samples: for int8, what `write_samples` wrote.

        Raises:
            ConversionError: see there.
        """
        ...

    def sparsify(self, source: Path, path: Path) -> None:
        """Write the `.tflite` file `source` with weights of many zeros stored sparsely.

        The bytes are those of a conversion with `Optimize.EXPERIMENTAL_SPARSITY`.

        Raises:
            ConversionError: see there.
        """
        ...


class LocalConverter:
    """Converts in this process. A crash or a hang ends it: SIGALRM, after `TIMEOUT`."""

    def close(self) -> None:
        """Nothing is held."""

    def convert(
        self,
        saved_model: Path,
        path: Path,
        quantize: str | None = None,
        samples: Path | None = None,
    ) -> None:
        """See `Converts`."""
        self._write(path, partial(convert, saved_model, quantize, samples))

    def sparsify(self, source: Path, path: Path) -> None:
        """See `Converts`."""
        self._write(path, partial(sparsify, source))

    def _write(self, path: Path, work: Callable[[], bytes]) -> None:
        signal.alarm(round(TIMEOUT))
        try:
            with warnings.catch_warnings():
                # The filters of a test are for its own code: "error" is not meant for TensorFlow.
                warnings.simplefilter("ignore")
                path.write_bytes(work())
        except Exception as error:
            raise ConversionError(f"the converter refused the network: {fault(error)}") from error
        finally:
            signal.alarm(0)


class Converter:
    """A child process that converts; close it, for example with contextlib.closing.

    A crashed or hung child is not started again: what crashed it would do so again.
    """

    def __init__(self, timeout: float = TIMEOUT) -> None:
        """Start the child; `timeout` is in seconds for each request."""
        self._timeout = timeout
        self._folder = children.scratch_folder("converter")
        self._log = Path(self._folder.name, "stderr")
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                children.guarded((sys.executable, "-c", CHILD), children.most_memory()),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._folder.name,
                env={**_environment(), "TMPDIR": self._folder.name},
            )

    def close(self) -> None:
        """End the child, whatever it does."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                _close(pipe)
        self._folder.cleanup()

    def convert(
        self,
        saved_model: Path,
        path: Path,
        quantize: str | None = None,
        samples: Path | None = None,
    ) -> None:
        """See `Converts`."""
        self._ask(
            {
                "do": "convert",
                "source": str(saved_model),
                "path": str(path),
                "quantize": quantize,
                "samples": None if samples is None else str(samples),
            }
        )

    def sparsify(self, source: Path, path: Path) -> None:
        """See `Converts`."""
        self._ask({"do": "sparsify", "source": str(source), "path": str(path)})

    def _ask(self, request: dict[str, str | None]) -> None:
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise self._crash() from None
        if not _readable(stdout, self._timeout):
            raise ConversionError(
                f"the converter gave no answer within {self._timeout:g} s: {self._last_line()}"
            )
        answer = stdout.readline()
        if not answer.endswith(b"\n"):
            raise self._crash()
        fault = json.loads(answer)["fault"]
        if fault is not None:
            raise ConversionError(f"the converter refused the network: {fault}")

    def _crash(self) -> ConversionError:
        status = self._child.wait()
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return ConversionError(f"the converter crashed ({how}): {self._last_line()}")

    def _last_line(self) -> str:
        return telling_line(self._log.read_text(errors="replace")) or "no output"


def _environment() -> dict[str, str]:
    """Return an environment in which the child imports what this process would import."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}


def _readable(pipe: IO[bytes], timeout: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        return bool(selector.select(timeout))


def _close(pipe: IO[bytes]) -> None:
    """Close a pipe whose other end may be gone with unread bytes in it."""
    try:
        pipe.close()
    except BrokenPipeError:
        return


# What follows runs in the child.


def convert(source: Path, quantize: str | None = None, samples: Path | None = None) -> bytes:
    """Return the `.tflite` file for a SavedModel."""
    import tensorflow as tf

    converter: Any = tf.lite.TFLiteConverter.from_saved_model(str(source))
    if quantize is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if samples is not None:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: read_samples(samples)
    return bytes(converter.convert())


def sparsify(source: Path) -> bytes:
    """Return the file with sparse-encoded weights, as the converter's own last steps make it.

    The steps are those of TensorFlow 2.19 to 2.21, `lite/python/lite.py`: `_optimize_tflite_model`
    and `_convert_and_export_metrics`. The conversion metadata is taken off first and renewed
    afterwards, since it describes the encodings and comes last in the file.
    """
    from tensorflow.lite.python import util
    from tensorflow.lite.python.convert import deduplicate_readonly_buffers, mlir_sparsify
    from tensorflow.lite.tools import flatbuffer_utils

    dense = source.read_bytes()
    metadata: Any = util.get_conversion_metadata(dense)
    model = flatbuffer_utils.convert_bytearray_to_object(dense)
    _drop_metadata(model, util.CONVERSION_METADATA_FIELD_NAME.encode())
    bare = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    sparse = deduplicate_readonly_buffers(mlir_sparsify(bare))
    if metadata is None:
        return bytes(sparse)
    model = flatbuffer_utils.convert_bytearray_to_object(sparse)
    modes = metadata.options.modelOptimizationModes
    metadata.options.modelOptimizationModes = [
        *([] if modes is None else modes),
        *util.get_sparsity_modes(model),
    ]
    metadata.environment.modelHash = util.get_model_hash(model)
    model = util.populate_conversion_metadata(model, metadata)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _drop_metadata(model: Any, name: bytes) -> None:
    """Take an entry and its buffer, which is the last, off a file's object form."""
    for entry in list(model.metadata or ()):
        if entry.name == name and entry.buffer == len(model.buffers) - 1:
            model.metadata.remove(entry)
            model.buffers.pop()


def _work(request: dict[str, Any]) -> bytes:
    source = Path(request["source"])
    if request["do"] == "sparsify":
        return sparsify(source)
    samples = request["samples"]
    return convert(source, request["quantize"], None if samples is None else Path(samples))


def _answer(request: dict[str, Any]) -> dict[str, str | None]:
    try:
        Path(request["path"]).write_bytes(_work(request))
    except Exception as error:
        return {"fault": fault(error)}
    return {"fault": None}


def fault(error: Exception) -> str:
    """Return the kind of an error of the converter, the line that tells, and a remedy if known."""
    told = f"{type(error).__name__}: {telling_line(str(error)) or 'no message'}"
    return next((f"{told}; {todo}" for known, todo in REMEDIES.items() if known in told), told)


def main() -> None:
    """Answer requests until standard input ends."""
    faulthandler.enable()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what TensorFlow prints must not end up among the answers
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line))) + "\n")
