"""From a Keras network to three `.tflite` files that differ in one thing each."""

from __future__ import annotations

import hashlib
import io
import re
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity import cache as files
from pytest_sparsity import fingerprint, location, pruning, selection
from pytest_sparsity.converter import Converter
from pytest_sparsity.model import Model
from pytest_sparsity.pruning import PrunedWeight
from pytest_sparsity.twin import replace_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from os import PathLike

    import numpy as np
    from numpy.typing import NDArray

    from pytest_sparsity.location import Replacements
    from pytest_sparsity.pruning import Schedule
    from pytest_sparsity.selection import Network

    Weights = list[NDArray[np.float32]]

SPARSITY = 0.8
ROLES = ("dense", "pruned", "sparse")
BUILT_BY = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "numpy")
"""Distributions whose versions decide about the bytes."""

OWN = ("variants", "pruning", "selection", "converter", "location", "twin")
"""Modules and packages of ours that decide about the bytes."""

UNSTOCK = {"Lambda", "TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "RNN"}
"""Layers of Keras' own with somebody else's code in them."""


@dataclass(frozen=True)
class Variants:
    """The three files of one network.

    From `dense` to `pruned` only weights change, from `pruned` to `sparse` only how they are
    stored, and with that the kernels that can run.

    Attributes:
        dense: the network as it was built.
        pruned: with zeros, stored densely.
        sparse: with the same zeros, stored sparsely.
        weights: what became of each weight tensor that was selected for pruning.
    """

    dense: Model
    pruned: Model
    sparse: Model
    weights: tuple[PrunedWeight, ...]


@dataclass(frozen=True)
class Recipe:
    """What `build_variants` was asked for, but where to keep it."""

    build: Callable[[], Network]
    sparsity: float
    pattern: str
    policy: Any
    schedule: Any
    finetune: Callable[[Network, list[Any]], object] | None
    quantize: str | None
    representative: Callable[[], Any] | None
    depends: tuple[Path, ...]
    seed: int

    @property
    def name(self) -> str:
        """The build function's name, fit for a file name."""
        name = getattr(self.build, "__name__", type(self.build).__name__)
        return re.sub(r"\W+", "_", name).strip("_") or "network"


@dataclass(frozen=True)
class Pruning:
    """A network pruned in this process, not converted yet.

    Attributes:
        model: as built; its weights are the dense ones or the pruned ones.
        pruned: the same object, or what training made of it.
        dense_weights: of `model`, in the order of its `get_weights`.
        pruned_weights: of `pruned`, in the order of its `get_weights`.
        layers: the pruned ones of `model`.
        report: what became of their weights.
    """

    model: Network
    pruned: Network
    dense_weights: Weights
    pruned_weights: Weights
    layers: list[Any]
    report: tuple[PrunedWeight, ...]


def build_variants(
    build: Callable[[], Network],
    *,
    sparsity: float = SPARSITY,
    pattern: str = "unstructured",
    policy: Any = "xnnpack",
    schedule: Schedule | Callable[[], Schedule] | None = None,
    finetune: Callable[[Network, list[Any]], object] | None = None,
    quantize: str | None = None,
    representative: Callable[[], Any] | None = None,
    depends: Sequence[str | PathLike[str]] = (),
    seed: int = 0,
    cache: Path | None = None,
    rebuild: bool = False,
) -> Variants:
    """Build a Keras network, prune it with TFMOT and convert it, or find that done on disk.

    The same arguments give the same bytes in any process: Keras' names are reset and Python's,
    numpy's and TensorFlow's generators are seeded before the build function is called. The files
    are those of TensorFlow's converter, except that no constant is -0.0 in them, which TFMOT leaves
    behind and which compresses badly.

    They are kept on disk until something changes that decides about them: the code of `build`, of
    `finetune`, and of what these reach; their closures; the files in `depends`; an argument; a
    version. Where that cannot be told, for example because `build` closes over an object of some
    library, the network is built and pruned every time and only the conversion is spared.

    Args:
        build: returns a Sequential or functional `tf_keras` model. A batch size that it leaves open
            stays open in the files, which LiteRT.js does not take: `Input(..., batch_size=1)`.
        sparsity: the fraction of zeros in every weight tensor that the policy selects, in [0, 1).
        pattern: `"unstructured"`.
        policy: `"xnnpack"` for TFMOT's PruneForLatencyOnXNNPack (1x1 convolutions of a network that
            fits), `"all"` for every layer that TFMOT can prune, a TFMOT PruningPolicy, or a list of
            layer names. TFMOT never prunes a depthwise kernel.
        schedule: a TFMOT PruningSchedule, whose final sparsity replaces `sparsity`, or a function
            that returns one, which spares the import of TFMOT when the files are on disk. Without
            `finetune`, the masks are those of its last update. Default: a constant sparsity,
            applied at every step.
        finetune: called with the network in TFMOT's wrappers, to be compiled and trained, and with
            the callbacks that the training needs. Without it, TFMOT's masks are applied to the
            weights as they are.
        quantize: None.
        representative: None; belongs to `quantize`.
        depends: files and folders that `build` and `finetune` read.
        seed: of the generators.
        cache: the folder to keep the files in; by default in the user's cache folder.
        rebuild: whether to build even if the files are there.

    Raises:
        Unsupported: TensorFlow, tf-keras or TFMOT is not installed, and the files are not on disk.
        ValueError: an argument is not supported, the policy rejects the network, or pruning did not
            do what was asked (a TFMOT trap, which the message names).
        TypeError: `build` does not return a model that TFMOT can prune.
        ConversionError: the converter refused the network, crashed or hung.
    """
    recipe = Recipe(
        *(build, float(sparsity), pattern, policy, schedule, finetune, quantize, representative),
        *(tuple(Path(path) for path in depends), seed),
    )
    check(recipe)
    store = cache if cache is not None else default_store()
    try:
        key = fingerprint.digest(*_asked(recipe))
    except fingerprint.Untellable:
        return _variants(_build(recipe, store, rebuild))
    entry = None if rebuild else files.load(store, key)
    if entry is None:
        with files.locked(store, key):
            entry = None if rebuild else files.load(store, key)
            entry = entry or _build(recipe, store, rebuild, key)
    return _variants(entry)


def default_store() -> Path:
    """Return the folder of entries in the user's cache folder."""
    import platformdirs

    return platformdirs.user_cache_path("pytest-sparsity") / "variants"


def check(recipe: Recipe) -> None:
    """Raise ValueError if no network could be built so, before anything is imported."""
    if not 0 <= recipe.sparsity < 1:
        raise ValueError(f"sparsity={recipe.sparsity:g} must be in [0, 1)")
    if recipe.pattern != "unstructured":
        raise ValueError(
            f"pattern={recipe.pattern!r} is not supported yet; supported: 'unstructured'"
        )
    if recipe.quantize is not None:
        raise ValueError(f"quantize={recipe.quantize!r} is not supported yet; supported: None")
    if recipe.representative is not None:
        raise ValueError("representative is for quantize='int8', which is not supported yet")


# ------------------------------------------------------------------------------------- the key


def _asked(recipe: Recipe) -> Iterator[object]:
    """Return all that decides about the files, before the network is there."""
    yield from (getattr(recipe, field.name) for field in fields(recipe) if field.name != "depends")
    yield recipe.name
    yield from (_content(path) for path in recipe.depends)
    yield from _builder()


def _built(recipe: Recipe, network: Pruning) -> Iterator[object]:
    """Return all that decides about the files, once the network has been pruned.

    Raises:
        fingerprint.Untellable: the architecture has code in it that cannot be told.
    """
    try:
        yield network.model.to_json()
    except (NotImplementedError, TypeError) as error:
        raise fingerprint.Untellable(f"the architecture: {error}") from error
    yield from (_code(layer) for layer in selection.leaves(network.model) if not _is_stock(layer))
    yield recipe.name
    for weights in (network.dense_weights, network.pruned_weights):
        yield from (array.tobytes() for array in weights)
    yield from _builder()


def _code(layer: Any) -> object:
    """Return what a layer runs that its configuration does not hold."""
    return getattr(layer, "function", type(layer))


def _builder() -> Iterator[object]:
    from importlib import metadata

    for name in BUILT_BY:
        yield name
        yield from (found.version for found in metadata.distributions(name=name))
    own = Path(__file__).parent
    for path in sorted(own.rglob("*.py")):
        if path.relative_to(own).parts[0].removesuffix(".py") in OWN:
            yield _content(path)


def _content(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's names and files."""
    digest = hashlib.sha256()
    members = sorted(path.rglob("*")) if path.is_dir() else [path]
    for member in members:
        if member.is_file() or member == path:
            digest.update(f"{member.relative_to(path)}\0".encode())
            digest.update(hashlib.sha256(member.read_bytes()).digest())
    return digest.hexdigest()


# ------------------------------------------------------------------------------- the building


def _build(recipe: Recipe, store: Path, rebuild: bool, key: str | None = None) -> files.Entry:
    """Build the files and publish them; `key` is None if only the network can tell it."""
    with closing(Converter()) as converter, _seeded(recipe.seed):
        network = _prune(recipe)
        if key is not None:
            return _convert(recipe, network, converter, store, key)
        try:
            key = fingerprint.digest(*_built(recipe, network))
        except fingerprint.Untellable:
            return _convert(recipe, network, converter, store, None)
        with files.locked(store, key):
            entry = None if rebuild else files.load(store, key)
            return entry or _convert(recipe, network, converter, store, key)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Start Keras afresh and seed all generators; put Python's and numpy's back afterwards."""
    import random

    selection.import_tfmot()
    import numpy as np
    import tf_keras

    states = random.getstate(), np.random.get_state()
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _prune(recipe: Recipe) -> Pruning:
    model = recipe.build()
    selection.check_network(model)
    layers = selection.select_layers(model, recipe.policy)
    schedule, asked = pruning.resolve_schedule(recipe.schedule, recipe.sparsity)
    if asked != recipe.sparsity != SPARSITY:
        raise ValueError(
            f"sparsity={recipe.sparsity:g} contradicts the schedule, which ends at {asked:g}; leave"
            " sparsity out"
        )
    pruning.check_schedule(schedule, asked, layers)
    dense_weights, before = model.get_weights(), pruning.values(layers)
    pruned = model
    wrappers: dict[int, Any] = {}
    if recipe.finetune is None:
        pruning.apply_masks(layers, schedule)
    else:
        pruned, wrappers = pruning.train(model, layers, schedule, recipe.finetune)
    report = pruning.check_zeros(layers, asked, before, schedule, wrappers)
    return Pruning(model, pruned, dense_weights, pruned.get_weights(), layers, report)


def _convert(
    recipe: Recipe, network: Pruning, converter: Converter, store: Path, key: str | None
) -> files.Entry:
    """Convert and publish; without a key, under one that follows from the files."""
    with files.workspace(store) as scratch, files.workspace(store) as folder:
        names = {role: f"{recipe.name}-{role}.tflite" for role in ROLES}
        dense, pruned, sparse = (folder / names[role] for role in ROLES)
        network.model.set_weights(network.dense_weights)
        converter.convert(_export(network.model, scratch / "dense"), scratch / "dense.tflite")
        model = _canonical(scratch / "dense.tflite", dense)
        located = _locate(network, model)
        if located is None:
            network.pruned.set_weights(network.pruned_weights)
            converter.convert(_export(network.pruned, scratch / "pruned"), scratch / "p.tflite")
            _canonical(scratch / "p.tflite", pruned)
        else:
            replace_weights(model, located, pruned)
        converter.sparsify(pruned, sparse)
        if key is None:
            key = fingerprint.digest([_content(path) for path in (dense, pruned, sparse)])
        return files.publish(store, key, folder, names, [asdict(w) for w in network.report])


def _export(model: Network, folder: Path) -> Path:
    """Write a SavedModel; Keras prints its signature, which nobody asked for."""
    with selection.quiet(), redirect_stdout(io.StringIO()):
        model.export(str(folder))
    return folder


def _canonical(source: Path, path: Path) -> Model:
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
    if network.pruned is not network.model:  # training changes all weights
        return None
    if not all(_is_stock(layer) for layer in selection.leaves(network.model)):
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
        for layer in selection.leaves(network.model)
        if type(layer).__name__ == "BatchNormalization"
    ]
    return location.locate(model, kernels, normalizations)


def _is_stock(layer: Any) -> bool:
    """Whether all code of a layer is Keras' own."""
    kind = type(layer)
    return kind.__module__.startswith("tf_keras.") and kind.__name__ not in UNSTOCK


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


def _variants(entry: files.Entry) -> Variants:
    models = {role: Model(entry.files[role]) for role in ROLES}
    weights = [PrunedWeight(**{**w, "shape": tuple(w["shape"])}) for w in entry.about]
    return Variants(**models, weights=tuple(weights))
