"""From a Keras network to three `.tflite` files that differ in one thing each."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import SparsityWarning
from pytest_sparsity.model import Model
from pytest_sparsity.progress import step
from pytest_sparsity.variants import cache as files
from pytest_sparsity.variants import fingerprint
from pytest_sparsity.variants.building import build_entry
from pytest_sparsity.variants.converter import Converter, LocalConverter
from pytest_sparsity.variants.counting import PrunedWeight
from pytest_sparsity.variants.from_files import entry_from_files
from pytest_sparsity.variants.isolation import in_a_fork, is_ours
from pytest_sparsity.variants.keras_state import threads_run
from pytest_sparsity.variants.recipe import SPARSITY, Recipe, asked, check

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike
    from types import FrameType

    from pytest_sparsity.variants.converter import Converts
    from pytest_sparsity.variants.networks import KerasModel
    from pytest_sparsity.variants.schedules import PruningSchedule

PACKAGE = str(Path(__file__).parent.parent)

__tracebackhide__ = True
"""pytest shows the test's own lines, and those of its build function, rather than ours."""


@dataclass(frozen=True)
class Variants:
    """The three files of one network.

    From `dense` to `pruned` only weights change, from `pruned` to `sparse` only how they are
    stored, and with that the kernels that can run.

    Attributes:
        dense: the network as it was built.
        pruned: with zeros, stored densely.
        sparse: with the same zeros, stored sparsely; or not at all, if channels were pruned.
        weights: what became of each weight tensor that was selected for pruning.
    """

    dense: Model
    pruned: Model
    sparse: Model
    weights: tuple[PrunedWeight, ...] = field(repr=False)


def build_variants(
    build: Callable[[], KerasModel],
    *,
    sparsity: float = SPARSITY,
    pattern: str = "unstructured",
    policy: Any = "auto",
    schedule: PruningSchedule | Callable[[], PruningSchedule] | None = None,
    finetune: Callable[[KerasModel, list[Any]], object] | None = None,
    quantize: str | None = None,
    representative: Callable[[], Any] | None = None,
    clusters: int | None = None,
    depends: Sequence[str | PathLike[str]] = (),
    seed: int = 0,
    key: str | None = None,
    encoder: str | None = None,
    repair: bool = False,
    cache: Path | None = None,
    rebuild: bool = False,
) -> Variants:
    """Build a network, prune it and convert it, or find that done on disk.

    TFMOT prunes networks of `tf_keras`. Those of Keras 3, which it does not know, get the same
    masks at the same steps of its schedules.

    The same arguments give the same bytes in any process: Keras' names are reset and Python's,
    numpy's and TensorFlow's generators are seeded before the build function is called. The files
    are those of TensorFlow's converter, except that no constant is -0.0 in them, which TFMOT leaves
    behind and which compresses badly.

    All that happens in a process of its own, forked from this one, so that nothing of what a build
    sets (TensorFlow, `tf.keras`, Keras' policies, the environment, generators) is seen by other
    tests, whether files are on disk or not. Only where TensorFlow already computes in this process,
    whose threads a fork would lack, it happens here; then Keras' global state starts from its
    defaults, too, and is put back, but a crash is not survived.

    The files are kept on disk until something changes that decides about them: the code of `build`,
    of `finetune`, and of what these reach; their closures; the files in `depends`; an argument; a
    version. Where that cannot be told, for example because `build` closes over an object of some
    library, the network is built and pruned every time and only the conversion is spared; not even
    that if training follows pruning, or if a layer holds such an object.

    Args:
        build: returns a Sequential or functional model of `tf_keras`, a model of Keras 3 with the
            TensorFlow backend, or the path of one that either saved (`.keras`, `.h5`). A batch size
            that it leaves open stays open in the files, which LiteRT.js does not take:
            `Input(..., batch_size=1)`. Or what is converted as it is and pruned in its file: the
            folder of a SavedModel, a list of concrete functions, or a `torch.nn.Module` with what
            it takes, `(module, example_inputs)`, for which litert-torch is needed. Weights stay as
            they are but for the smallest; of a network that is pruned already, none changes.
        sparsity: the fraction of zeros in every weight tensor that the policy selects, in [0, 1).
        pattern: where the zeros go. `"unstructured"`: the smallest weights. `"1x4"`, `"1x16"`:
            blocks of consecutive inputs of one output, in dense layers, for which TFLite has
            kernels: 1x4 for float weights, 1x16 for int8 ones. `"2:4"`, or any m:n: m zeros in
            every n consecutive inputs, which decides about `sparsity`. `"channels"`: whole outputs,
            by their L1 norm; `pruned` holds them as zeros, `sparse` is the network without them.
        policy: `"xnnpack"` for TFMOT's PruneForLatencyOnXNNPack (1x1 convolutions of a network that
            fits; an error if it does not), `"all"` for every layer (an error if one has a kernel
            that TFMOT cannot prune), `"auto"` for the first and, if the network does not fit, for
            every layer that can be pruned, with a SparsityWarning; a TFMOT PruningPolicy, or a list
            of layer names. TFMOT never prunes a depthwise kernel.
        schedule: a TFMOT PruningSchedule, whose final sparsity replaces `sparsity`, or a function
            that returns one, which spares the import of TFMOT when the files are on disk. Without
            `finetune`, the masks are those of its last update. Default: a constant sparsity,
            applied at every step.
        finetune: called with the network in TFMOT's wrappers, to be compiled and trained, and with
            the callbacks that the training needs. Without it, TFMOT's masks are applied to the
            weights as they are. It is called with no callbacks for the network without its pruned
            channels, whose weights go into `pruned` too, and for each training that follows pruning
            (`clusters`, `"qat"`): of the dense network and of the pruned one.
        quantize: what is done to all three files: `"float16"` weights, `"dynamic"` range (int8
            weights), `"int8"` weights and activations, with float32 inputs and outputs, or the same
            after quantization-aware training, `"qat"`, which keeps the zeros of pruned networks.
        representative: for int8, returns the inputs of some inferences to calibrate with: one
            after the other (a list, a generator, a `tf.data.Dataset`) or in one array; several
            inputs in a dictionary by name, or in the network's order.
        clusters: how many different weights a layer that is pruned may have at most, in all three
            files; 3 or more, and zero is one of them where there are zeros. TFMOT's clustering
            comes after pruning; it keeps the zeros, and adds the weights that are nearest to zero.
            Files get smaller by that when they are compressed.
        depends: files and folders that `build` and `finetune` read.
        seed: of the generators.
        key: stands for the code of `build`, `finetune` and `representative`, which is then not
            looked at: change it when they change.
        encoder: what stores the zeros sparsely: `"tensorflow"`, its converter, the default for
            networks of Keras, or `"own"`, `transform.encode`, the default for all else, which knows
            more cases and makes no larger files.
        repair: whether exact rewrites may make `sparse` run sparse kernels, and rightly, where the
            rules of LiteRT.js say that it does not (`transform.repair`).
        cache: the folder to keep the files in; by default in the user's cache folder.
        rebuild: whether to build even if the files are there.

    Raises:
        Unsupported: TensorFlow, tf-keras or TFMOT is not installed, and the files are not on disk.
        ValueError: an argument is not supported, the policy rejects the network, or pruning did not
            do what was asked (a TFMOT trap, which the message names).
        TypeError: `build` does not return a model that TFMOT can prune, or `schedule` is none.
        CrashError: the build function, or a training, crashed; in a process of its own.
        ConversionError: the converter refused the network, crashed or hung, or one of its known
            defects has spoilt the file.
    """
    recipe = Recipe(
        build=build,
        sparsity=float(sparsity),
        pattern=pattern,
        policy=policy,
        schedule=schedule,
        finetune=finetune,
        quantize=quantize,
        representative=representative,
        clusters=clusters,
        depends=tuple(Path(path) for path in depends),
        seed=seed,
        key=key,
        encoder=encoder,
        repair=repair,
    )
    try:
        check(recipe)
        return _variants(_entry(recipe, cache or default_store(), rebuild=rebuild))
    except Exception as error:
        if is_ours(error):  # its message says it all
            raise error.with_traceback(None) from None
        raise


def from_files(
    dense: str | PathLike[str] | Model,
    *,
    pruned: str | PathLike[str] | Model | None = None,
    sparsity: float | None = None,
    pattern: str = "unstructured",
    layers: str | Sequence[str | int] = "prunable",
    repair: bool = False,
    cache: Path | None = None,
    rebuild: bool = False,
) -> Variants:
    """Make the three files of files that are there; no TensorFlow is needed.

    The files are kept on disk by the content of those that they are made of.

    Args:
        dense: the network as it was trained.
        pruned: the same network, pruned and converted by its owner, stored in any way. Without it,
            the smallest weights of `dense` are set to zero (`transform.prune`), which nothing
            trains.
        sparsity: with `pruned`, the share of zeros that its pruned layers must have, together;
            without it, the share of zeros of each layer, 0.8 by default.
        pattern: where the zeros go, without `pruned`: see `transform.prune`.
        layers: which layers are pruned, without `pruned`: see `transform.prune`.
        repair: whether exact rewrites may make `sparse` run sparse kernels, and rightly, where the
            rules of LiteRT.js say that it does not (`transform.repair`).
        cache: the folder to keep the files in; by default in the user's cache folder.
        rebuild: whether to make the files even if they are there.

    Raises:
        ModelError: a file is no model, or is damaged.
        ValueError: an argument is not supported, or the files are not one network pruned.
    """
    return _variants(
        entry_from_files(
            dense,
            pruned,
            sparsity=sparsity,
            pattern=pattern,
            layers=layers,
            repaired=repair,
            store=cache or default_store(),
            rebuild=rebuild,
        )
    )


def _entry(recipe: Recipe, store: Path, *, rebuild: bool) -> files.Entry:
    key = _key(recipe)
    if key is None:
        return _build(recipe, store, rebuild=rebuild)
    entry = None if rebuild else files.load(store, key)
    if entry is None:
        with files.locked(store, key):
            entry = None if rebuild else files.load(store, key)
            entry = entry or _build(recipe, store, rebuild=rebuild, key=key)
    return entry


def _key(recipe: Recipe) -> str | None:
    """Return the name of the entry, None if only the network can tell it."""
    try:
        return fingerprint.digest(*asked(recipe))
    except fingerprint.Untellable as value:
        again = "built" if recipe.finetune is None else "trained"
        _warn(
            f"{recipe.name} is {again} again in every session, since it cannot be told whether"
            f" the result would be the same: {value}; pass key='...', and change it when that"
            " changes"
        )
        return None


def _build(recipe: Recipe, store: Path, *, rebuild: bool, key: str | None = None) -> files.Entry:
    """Build in a process of its own, as far as that is possible."""

    def build(start: Callable[[], Converts]) -> files.Entry:
        return build_entry(recipe, store, start, rebuild=rebuild, key=key)

    with step(recipe.name):
        if threads_run():
            return build(Converter)
        return in_a_fork(partial(build, LocalConverter), f"the build of {recipe.name}")


def default_store() -> Path:
    """Return the folder of entries in the user's cache folder."""
    import platformdirs

    return platformdirs.user_cache_path("pytest-sparsity") / "variants"


def _variants(entry: files.Entry) -> Variants:
    models = {role: Model(entry.files[role]) for role in files.ROLES}
    about = entry.about["weights"]
    weights = [PrunedWeight(**{**each, "shape": tuple(each["shape"])}) for each in about]
    for note in entry.about["notes"]:
        _warn(note)
    return Variants(**models, weights=tuple(weights))


def _warn(message: str) -> None:
    """Warn at the line that called into this package from outside."""
    depth, frame = 1, _frame()
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, SparsityWarning, stacklevel=depth - 1)


def _frame() -> FrameType | None:
    return sys._getframe()  # noqa: SLF001  (from Python 3.12 on, skip_file_prefixes does this)
