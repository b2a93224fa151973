"""The building of the three files: network, masks, conversion, publication."""

from __future__ import annotations

import io
from contextlib import closing, redirect_stdout
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pytest_sparsity import patterns
from pytest_sparsity.errors import ModelError
from pytest_sparsity.model import Model
from pytest_sparsity.progress import step
from pytest_sparsity.transform import encode, repair, replace_weights
from pytest_sparsity.variants import (
    cache,
    counting,
    fingerprint,
    finishing,
    keras3,
    keras_state,
    location,
    networks,
    schedules,
    sources,
)
from pytest_sparsity.variants.calibration import checked_samples, write_samples
from pytest_sparsity.variants.channels import Channels
from pytest_sparsity.variants.converter import ConversionError, LocalConverter
from pytest_sparsity.variants.from_files import about_of, prune_file
from pytest_sparsity.variants.magnitude import Magnitude
from pytest_sparsity.variants.recipe import REPAIRED_FOR, SPARSITY, builder, content_of
from pytest_sparsity.variants.selection import select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from pytest_sparsity.variants.calibration import Samples
    from pytest_sparsity.variants.converter import Converts
    from pytest_sparsity.variants.counting import PrunedWeight
    from pytest_sparsity.variants.location import Replacements
    from pytest_sparsity.variants.networks import Network
    from pytest_sparsity.variants.recipe import Recipe
    from pytest_sparsity.variants.technique import Technique

    Weights = list[NDArray[np.float32]]

__tracebackhide__ = True


@dataclass(frozen=True)
class Pruning:
    """A network pruned in this process, not converted yet.

    Attributes:
        model: as built; its weights are the dense ones or the pruned ones.
        pruned: the same object, or what training made of it.
        smaller: the pruned network without the outputs that are zero, if these can be removed.
        dense_weights: of `model`, in the order of its `get_weights`.
        pruned_weights: of `pruned`, in the order of its `get_weights`.
        layers: the pruned ones of `model`.
        report: what became of their weights.
        notes: what whoever asked should know.
        samples: to calibrate with; for each inference its inputs.
        settings: of Keras, that the build has changed.
    """

    model: Network
    pruned: Network
    smaller: Network | None
    dense_weights: Weights
    pruned_weights: Weights
    layers: list[Any]
    report: tuple[PrunedWeight, ...]
    notes: tuple[str, ...]
    samples: Samples | None
    settings: list[object]


def build_entry(
    recipe: Recipe,
    store: Path,
    start: Callable[[], Converts],
    *,
    rebuild: bool,
    key: str | None = None,
) -> cache.Entry:
    """Build the files and publish them.

    Args:
        recipe: what is asked for.
        store: the folder of all entries.
        start: makes what converts.
        rebuild: whether to build even if the files are there.
        key: of the entry; None if only the network can tell it.
    """
    with closing(start()) as converter, keras_state.seeded(recipe.seed):
        with step("building"):
            built = sources.loaded(recipe.build())
        if isinstance(built, sources.Source):
            return _convert_source(recipe, built, converter, store, key)
        network = prune(recipe, built)
        if key is not None:
            return _convert(recipe, network, converter, store, key)
        try:
            key = fingerprint.digest(*_built(recipe, network))
        except fingerprint.Untellable:
            return _convert(recipe, network, converter, store, None)
        with cache.locked(store, key):
            entry = None if rebuild else cache.load(store, key)
            return entry or _convert(recipe, network, converter, store, key)


def _built(recipe: Recipe, network: Pruning) -> Iterator[object]:
    """Return all that decides about the files, once the network has been pruned.

    Raises:
        fingerprint.Untellable: the architecture has code in it that cannot be told, or training
            is to follow.
    """
    if finishing.is_asked(recipe) and recipe.finetune is not None:
        raise fingerprint.Untellable("training follows pruning")
    try:
        yield network.model.to_json()
    except (NotImplementedError, TypeError) as error:
        raise fingerprint.Untellable(f"the architecture: {error}") from error
    yield from (
        _code(layer) for layer in networks.leaves(network.model) if not networks.is_stock(layer)
    )
    yield recipe.name, recipe.pattern, recipe.quantize, recipe.clusters
    yield recipe.encoder, recipe.repair
    yield [asdict(weight) for weight in network.report]
    yield network.notes
    for weights in (network.dense_weights, network.pruned_weights):
        yield from (array.tobytes() for array in weights)
    yield network.samples
    yield network.settings
    yield from builder()


def _code(layer: Any) -> object:
    """Return what a layer runs that its configuration does not hold."""
    return getattr(layer, "function", type(layer))


def prune(recipe: Recipe, built: object) -> Pruning:
    """Prune a network of Keras, checked; the generators are to be seeded."""
    model = networks.bare(built)
    counting.check_finite(model)
    technique = _technique(recipe, model)
    selection = select(model, recipe.policy, technique)
    dense_weights = model.get_weights()
    with step("pruning"):
        pruned = technique.prune(model, selection.layers, recipe.finetune)
    samples = None
    if recipe.representative is not None:
        samples = checked_samples(recipe.representative(), model.inputs)
    return Pruning(
        model,
        pruned.network,
        pruned.smaller,
        dense_weights,
        pruned.network.get_weights(),
        selection.layers,
        pruned.report,
        selection.notes,
        samples,
        keras_state.settings(),
    )


def _technique(recipe: Recipe, model: Network) -> Technique:
    pattern = patterns.parse(recipe.pattern)
    newer = keras3.is_network(model)
    if newer and (pattern.channels or finishing.is_asked(recipe)):
        raise ValueError(
            "pattern='channels', clusters and quantize='qat' are TFMOT's or need its layers, and"
            " TFMOT does not know Keras 3: build the network with `import tf_keras as keras`"
        )
    sparsity = recipe.sparsity if pattern.sparsity is None else pattern.sparsity
    if pattern.channels:
        return Channels(pattern, sparsity)
    schedule, asked = schedules.resolve(recipe.schedule, sparsity)
    if asked != sparsity != SPARSITY:
        raise ValueError(
            f"sparsity={sparsity:g} contradicts the schedule, which ends at {asked:g}; leave"
            " sparsity out"
        )
    kind = keras3.Magnitude if newer else Magnitude
    return kind(pattern, schedule, asked)


def _convert(
    recipe: Recipe, network: Pruning, converter: Converts, store: Path, key: str | None
) -> cache.Entry:
    """Convert and publish; without a key, under one that follows from the files."""
    with cache.workspace(store) as scratch, cache.workspace(store) as folder:
        names = {role: f"{recipe.name}-{role}.tflite" for role in cache.ROLES}
        paths = {role: folder / name for role, name in names.items()}
        _Conversion(recipe, network, converter, scratch).write(paths)
        if key is None:
            key = fingerprint.digest([content_of(path) for path in paths.values()])
        weights = [asdict(weight) for weight in network.report]
        about = {"weights": weights, "notes": network.notes}
        return cache.publish(store, key, folder, names, about)


def _convert_source(
    recipe: Recipe, source: sources.Source, converter: Converts, store: Path, key: str | None
) -> cache.Entry:
    """Convert what is no network of Keras, prune it in the file, and publish the files."""
    pattern = patterns.parse(recipe.pattern)
    for name in ("schedule", "finetune", "clusters", "representative"):
        if getattr(recipe, name) is not None:
            raise ValueError(
                f"{source.kind} is converted first and pruned in its file, which nothing trains:"
                f" leave {name} out, or do that yourself and give the files: variants.from_files"
            )
    asked = recipe.sparsity if pattern.sparsity is None else pattern.sparsity
    with cache.workspace(store) as scratch, cache.workspace(store) as folder:
        names = {role: f"{recipe.name}-{role}.tflite" for role in cache.ROLES}
        paths = {role: folder / name for role, name in names.items()}
        raw = scratch / names["dense"]
        source.convert(converter, scratch, raw, recipe.quantize)
        canonical(raw, paths["dense"])
        layers = _layers_of_a_file(recipe.policy)
        chosen = prune_file(paths["dense"], paths["pruned"], asked, recipe.pattern, layers)
        store_sparsely(recipe, None, paths)
        if key is None:
            key = fingerprint.digest([content_of(path) for path in paths.values()])
        about = about_of(Model(paths["pruned"]), chosen, asked, pattern)
        return cache.publish(store, key, folder, names, about)


def _layers_of_a_file(policy: object) -> str | list[str]:
    """What `transform.prune` calls the layers of a policy."""
    if policy == "all":
        return "all"
    if policy in ("auto", "xnnpack"):
        return "prunable"
    if isinstance(policy, (list, tuple)):
        return list(policy)
    raise ValueError(
        f"policy={policy!r} is for networks of Keras; layers of a file are chosen by 'auto', 'all',"
        " or the names that `pytest-sparsity explain` lists"
    )


class _Conversion:
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

    def _convert(self, model: Network, path: Path, *, pruned: bool) -> Model:
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
            " every runtime answers NaN or crashes; ask for less than 96.5 % zeros in dense layers,"
            " or no float16"
        )
    try:
        decodes_to_the_same(pruned, sparse)
    except (AssertionError, ModelError) as error:
        raise ConversionError(
            f"the converter lost weights when it stored them sparsely: {error}"
        ) from error


def export(model: Network, folder: Path) -> Path:
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
