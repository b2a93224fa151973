"""The three files of a pruned network: converted, checked, with the weights put in."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import ModelError
from pytest_sparsity.model import Model
from pytest_sparsity.progress import step
from pytest_sparsity.transform import encode, repair, replace_weights
from pytest_sparsity.variants import finishing, keras3, location, networks
from pytest_sparsity.variants.calibration import write_samples
from pytest_sparsity.variants.converter import ConversionError, LocalConverter
from pytest_sparsity.variants.recipe import REPAIRED_FOR

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from pytest_sparsity.variants.converter import Converts
    from pytest_sparsity.variants.location import Replacements
    from pytest_sparsity.variants.networks import KerasModel
    from pytest_sparsity.variants.pruning import Pruning
    from pytest_sparsity.variants.recipe import Recipe

__tracebackhide__ = True


class Conversion:
    """The files of one pruned network."""

    def __init__(
        self, recipe: Recipe, network: Pruning, converter: Converts, scratch: Path
    ) -> None:
        self._recipe = recipe
        self._network = network
        self._converter = converter
        self._scratch = scratch
        self._samples = None
        if network.samples is not None:
            self._samples = write_samples(network.samples, scratch / "samples.npz")

    def write(self, paths: dict[str, Path]) -> None:
        """Write the three files."""
        network, recipe = self._network, self._recipe
        network.model.set_weights(network.dense_weights)
        dense = self._convert(network.model, paths["dense"], pruned=False)
        check_quantized(dense, recipe.quantize)
        whole = recipe.quantize is not None or finishing.is_asked(recipe)
        located = None if whole else _locate(network, dense)
        if located is None:
            network.pruned.set_weights(network.pruned_weights)
            self._convert(network.pruned, paths["pruned"], pruned=True)
        else:
            replace_weights(dense, located, paths["pruned"])
        if network.smaller is not None:
            self._convert(network.smaller, paths["sparse"], pruned=False)
        else:
            with step(f"storing {paths['sparse'].name}"):
                store_sparsely(recipe, self._converter, paths)

    def _convert(self, model: KerasModel, path: Path, *, pruned: bool) -> Model:
        if finishing.is_asked(self._recipe):
            names = {layer.name for layer in self._network.layers}
            model = finishing.finish(model, self._recipe, names, pruned=pruned)
        raw = self._scratch / path.name
        with step(f"converting {path.name}"):
            saved = export(model, raw.with_suffix(""))
            self._converter.convert(saved, raw, self._recipe.quantize, self._samples)
        return canonical(raw, path)


def store_sparsely(recipe: Recipe, converter: Converts | None, paths: dict[str, Path]) -> None:
    """Write the sparse file of the pruned one, and repair it if that is asked for.

    Without a converter, what stores the zeros is `transform.encode` unless TensorFlow is asked for.
    """
    if converter is None and recipe.encoder == "tensorflow":
        converter = LocalConverter()
    if recipe.encoder == "own" or converter is None:
        encode(paths["pruned"], paths["sparse"])
    else:
        converter.sparsify(paths["pruned"], paths["sparse"])
    check_encoding(paths["pruned"], paths["sparse"])
    if recipe.repair:
        repair(paths["sparse"], paths["sparse"], target=REPAIRED_FOR)


def check_quantized(model: Model, quantize: str | None) -> None:
    """Raise ConversionError if quantization left all weights as they were."""
    dtype = "float16" if quantize == "float16" else "int8"
    if quantize is not None and all(layer.dtype != dtype for layer in model.layers):
        raise ConversionError(
            f"quantize={quantize!r} quantized nothing; the converter leaves weights of less than"
            " 1024 elements alone in dynamic range quantization"
        )


def check_encoding(pruned: Path, sparse: Path) -> None:
    """Raise ConversionError if the sparsely stored weights are not the densely stored ones."""
    from pytest_sparsity.properties import decodes_to_the_same

    model = Model(sparse)
    encoded = {tensor.index for tensor in model.graph.tensors if tensor.sparsity is not None}
    if any(o.op == "DEQUANTIZE" and o.inputs[0] in encoded for o in model.graph.operators):
        raise ConversionError(
            "the converter stored float16 weights in blocks without a DENSIFY (fp16-blocks), and"
            " every runtime gives NaN or crashes; ask for less than 96.5 % zeros in dense layers,"
            " or no float16"
        )
    try:
        decodes_to_the_same(pruned, sparse)
    except (AssertionError, ModelError) as error:
        raise ConversionError(
            f"the converter lost weights when it stored them sparsely: {error}"
        ) from error


def export(model: KerasModel, folder: Path) -> Path:
    """Write a SavedModel; Keras prints its signature, which nobody asked for.

    Raises:
        ConversionError: TensorFlow cannot write it, for example for the names of inputs.
    """
    with networks.quiet(), redirect_stdout(io.StringIO()):
        try:
            if keras3.is_network(model):
                keras3.export(model, folder)
            else:
                model.export(str(folder))
        except Exception as error:
            raise ConversionError(f"TensorFlow cannot export the network: {error}") from error
    return folder


def canonical(source: Path, path: Path) -> Model:
    """Write a file with 0.0 for every -0.0 among its constants."""
    import numpy as np

    model = Model(source)
    replaced: Replacements = {}
    for g, graph in enumerate(model.graphs):
        for tensor in graph.tensors:
            if tensor.constant and tensor.dtype in ("float32", "float16"):
                values = model.weights(tensor.index, g)
                if (np.signbit(values) & (values == 0)).any():
                    replaced[g, tensor.index] = values + values.dtype.type(0)
    return replace_weights(model, replaced, path)


def _locate(network: Pruning, model: Model) -> Replacements | None:
    """Return the pruned constants of the dense file, None if full conversion is needed."""
    if network.pruned is not network.model or network.smaller is not None:
        return None  # training changes all weights, and channels take their biases with them
    if keras3.is_network(network.model):
        return None
    if not all(networks.is_stock(layer) for layer in networks.leaves(network.model)):
        return None
    if not all(_is_located(layer) for layer in network.layers):
        return None
    values = zip(network.model.weights, network.dense_weights, network.pruned_weights, strict=True)
    by_variable = {variable.ref(): (dense, pruned) for variable, dense, pruned in values}
    kernels = [
        location.Kernel(
            type(layer).__name__,
            *by_variable[layer.kernel.ref()],
            bias=_bias(layer),
        )
        for layer in network.layers
    ]
    normalizations = [
        _normalization(layer)
        for layer in networks.leaves(network.model)
        if type(layer).__name__ == "BatchNormalization"
    ]
    return location.locate(model, kernels, normalizations)


def _is_located(layer: Any) -> bool:
    return type(layer).__name__ in location.OPERATORS and getattr(layer, "groups", 1) == 1


def _bias(layer: Any) -> NDArray[np.float32]:
    import numpy as np

    return layer.bias.numpy() if layer.use_bias else np.zeros(layer.kernel.shape[-1], np.float32)


def _normalization(layer: Any) -> location.Normalization:
    import numpy as np

    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    gamma = layer.gamma.numpy() if layer.scale else np.ones_like(mean)
    beta = layer.beta.numpy() if layer.center else np.zeros_like(mean)
    return location.Normalization(gamma / np.sqrt(variance + layer.epsilon), mean, beta)
