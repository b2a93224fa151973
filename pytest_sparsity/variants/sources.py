"""What a build function may return beside a network of Keras, and how it becomes a file.

A saved model of Keras is loaded and then is a network like any other. All else is converted as it
is, and pruned in the file, since nobody here can train it: a SavedModel, concrete functions of
TensorFlow, a module of PyTorch. Weights that it comes with stay.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import Unsupported, one_line
from pytest_sparsity.variants.converter import ConversionError
from pytest_sparsity.variants.networks import quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_sparsity.variants.converter import Converts

__tracebackhide__ = True

KERAS_FILES = (".keras", ".h5", ".hdf5")
LITERT_TORCH = "python -m pip install litert-torch"


@dataclass(frozen=True)
class Source:
    """What is converted as it is.

    Attributes:
        kind: what it is, for messages.
        convert: writes the dense file: converter, scratch folder, path, quantize.
    """

    kind: str
    convert: Callable[[Converts, Path, Path, str | None], None]


def loaded(built: Any) -> Any:
    """Return what a build function returned as a network of Keras, or as a `Source`.

    Raises:
        ValueError: a path leads to nothing that is known, or a module of PyTorch has no inputs.
        Unsupported: a module of PyTorch, and litert-torch is not installed.
    """
    if isinstance(built, (str, os.PathLike)):
        return _at(Path(built))
    module, inputs = _torch(built)
    if module is not None:
        return _of_torch(module, inputs)
    functions = built if isinstance(built, (list, tuple)) else [built]
    if functions and all(_is_concrete(each) for each in functions):
        return Source("concrete functions", _from_functions(list(functions)))
    return built


# ------------------------------------------------------------------------------- saved models


def _at(path: Path) -> Any:
    if (path / "saved_model.pb").is_file():
        return Source("a SavedModel", _from_folder(path))
    if path.suffix not in KERAS_FILES or not path.is_file():
        raise ValueError(
            f"the build function returned the path {path}, which is neither a .keras or .h5 file"
            " nor the folder of a SavedModel"
        )
    keras = _keras_of(path)
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be loaded: {one_line(error)}; load it in the build function, with its"
            " custom_objects, and return the model"
        ) from error


def _keras_of(path: Path) -> Any:
    """The Keras that wrote a file: `tf_keras` or Keras 3."""
    import keras
    import tf_keras

    return keras if _version(path).split(".")[0] >= "3" else tf_keras


def _version(path: Path) -> str:
    """The version of Keras that wrote a file.

    Raises:
        ValueError: it is damaged, or no file of Keras'.
    """
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                return str(json.loads(archive.read("metadata.json"))["keras_version"])
        import h5py

        with h5py.File(path) as file:
            version = file.attrs["keras_version"]
            return version.decode() if isinstance(version, bytes) else str(version)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a model that Keras saved: {one_line(error)}") from error


def _from_folder(folder: Path) -> Callable[..., None]:
    def convert(converter: Converts, scratch: Path, path: Path, quantize: str | None) -> None:
        del scratch
        converter.convert(folder, path, quantize)

    return convert


# --------------------------------------------------------------------------- concrete functions


def _is_concrete(it: object) -> bool:
    return hasattr(it, "structured_input_signature") and hasattr(it, "captured_inputs")


def _from_functions(functions: Sequence[Any]) -> Callable[..., None]:
    def convert(converter: Converts, scratch: Path, path: Path, quantize: str | None) -> None:
        import tensorflow as tf

        folder = scratch / "functions"
        holder: Any = tf.Module()
        holder.functions = list(functions)
        holder.tracked = [v for function in functions for v in function.graph.variables]
        names = ["serving_default"]
        names += [f"function_{number}" for number in range(1, len(functions))]
        try:
            tf.saved_model.save(
                holder, str(folder), signatures=dict(zip(names, functions, strict=True))
            )
        except Exception as error:
            raise ConversionError(
                f"TensorFlow cannot save the concrete functions: {one_line(error)}"
            ) from error
        converter.convert(folder, path, quantize)

    return convert


# ------------------------------------------------------------------------------------- PyTorch


def _torch(built: Any) -> tuple[Any, tuple[Any, ...] | None]:
    """The module and the example inputs that a build function returned; None if it is no module."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None, None
    inputs = None
    if isinstance(built, tuple) and len(built) == 2 and isinstance(built[0], torch.nn.Module):
        built, inputs = built
    if not isinstance(built, torch.nn.Module):
        return None, None
    if inputs is None:
        inputs = getattr(built, "example_input_array", None)  # as PyTorch Lightning calls them
    if inputs is not None and not isinstance(inputs, tuple):
        inputs = (inputs,)
    return built, inputs


def _of_torch(module: Any, inputs: tuple[Any, ...] | None) -> Source:
    if inputs is None:
        raise ValueError(
            f"{type(module).__name__} does not say what it takes: return (module, example_inputs)"
            " from the build function, or give the module an example_input_array"
        )
    try:
        with quiet():
            litert_torch: Any = import_module("litert_torch")
    except ModuleNotFoundError as error:
        raise Unsupported(
            f"a module of PyTorch becomes a file by litert-torch, and {error.name} is not"
            " installed",
            LITERT_TORCH,
        ) from error

    def convert(converter: Converts, scratch: Path, path: Path, quantize: str | None) -> None:
        del converter, scratch
        if quantize is not None:
            raise ValueError(
                f"quantize={quantize!r} is TensorFlow's; quantize a module of PyTorch with"
                " litert-torch or ai-edge-quantizer, and give the files: variants.from_files"
            )
        try:
            with quiet():
                litert_torch.convert(module.eval(), inputs).export(str(path))
        except Exception as error:
            raise ConversionError(f"litert-torch refused the module: {one_line(error)}") from error

    return Source("a module of PyTorch", convert)
