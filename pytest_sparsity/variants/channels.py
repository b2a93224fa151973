"""Whole outputs of layers pruned: first to zero, then removed, which makes the layers smaller.

The outputs with the smallest L1 norm of their weights go ("Pruning Filters for Efficient ConvNets",
https://arxiv.org/abs/1608.08710). With all that is added to them at zero too, an output that goes
is zero at every position until the next convolution or dense layer, so the network with zeros and
the network without these outputs compute the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import one_line
from pytest_sparsity.progress import step
from pytest_sparsity.variants import counting
from pytest_sparsity.variants.technique import Obstacle, Pruned

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pytest_sparsity.patterns import Pattern
    from pytest_sparsity.variants.networks import KerasModel
    from pytest_sparsity.variants.technique import Finetune

    Array = NDArray[Any]
    Kept = NDArray[np.bool_]

__tracebackhide__ = True

SIZES = {"Conv2D": "filters", "Dense": "units"}
"""Layers whose outputs can be removed, and which take any subset of inputs; their size's name."""

THROUGH = {
    *("ActivityRegularization", "Dropout", "GaussianDropout", "GaussianNoise", "SpatialDropout2D"),
    *("AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "MaxPooling2D"),
    *("ELU", "LeakyReLU", "ReLU", "Activation", "BatchNormalization", "DepthwiseConv2D"),
    *("Flatten", "UpSampling2D", "ZeroPadding2D"),
}
"""Layers that keep channels apart and a channel of zeros at zero."""

ZERO_AT_ZERO = {
    *("elu", "gelu", "leaky_relu", "linear", "relu", "relu6", "selu", "silu", "softsign", "swish"),
    "tanh",
}
"""Activations that leave zero at zero."""


@dataclass(frozen=True)
class ChannelPruning:
    """The outputs with the smallest norms become zero, and are removed.

    Attributes:
        pattern: of the zeros.
        asked: the share of outputs that go.
    """

    pattern: Pattern
    asked: float

    def check(self, model: KerasModel) -> None:
        """Raise ValueError if a layer is a model, or is used twice."""
        check_graph(model)

    def obstacle(self, model: KerasModel, layer: Any) -> Obstacle | None:
        """Return why outputs of a layer cannot be removed, None if they can."""
        reason = obstacle(model, layer)
        return None if reason is None else Obstacle(reason, told=False)

    def prune(self, model: KerasModel, layers: Sequence[Any], finetune: Finetune | None) -> Pruned:
        """Prune the layers, in place; see `Technique`."""
        before = counting.values(layers)
        smaller = remove(model, layers, self.asked, finetune)
        report = counting.check_zeros(layers, self.asked, before, pattern=self.pattern)
        return Pruned(model, smaller, report)


def check_graph(model: KerasModel) -> None:
    """Raise ValueError if a layer is a model, or used twice: its channels then mean two things."""
    nested = [layer.name for layer in model.layers if hasattr(layer, "layers")]
    if nested:
        raise ValueError(
            f"pattern='channels' needs a network without models inside; {', '.join(nested)} is one"
        )
    repeated = [layer.name for layer in model.layers if len(layer.inbound_nodes) != 1]
    if repeated:
        raise ValueError(
            f"pattern='channels' needs layers that are used once; {', '.join(repeated)} are not"
        )


def obstacle(model: KerasModel, layer: Any) -> str | None:
    """Return why outputs of a layer cannot be removed, None if they can."""
    if type(layer).__name__ not in SIZES or getattr(layer, "groups", 1) != 1:
        return f"{layer.name} is no Conv2D or Dense layer"
    if not _keeps_zero(layer):
        return f"the activation of {layer.name} does not leave zero at zero"
    return _obstacle_behind(model, layer.output, layer.name)


def _obstacle_behind(model: KerasModel, tensor: Any, name: str) -> str | None:
    if any(tensor is output for output in model.outputs):
        return f"the network returns the outputs of {name}"
    for consumer in model.layers:
        if not any(tensor is each for each in _inputs(consumer)):
            continue
        if type(consumer).__name__ in SIZES and getattr(consumer, "groups", 1) == 1:
            continue
        if type(consumer).__name__ not in THROUGH or not _keeps_zero(consumer):
            return f"{consumer.name} ({type(consumer).__name__}) needs all outputs of {name}"
        reason = _obstacle_behind(model, consumer.output, name)
        if reason is not None:
            return reason
    return None


def _keeps_zero(layer: Any) -> bool:
    activation = getattr(layer, "activation", None)
    if activation is not None and getattr(activation, "__name__", "") not in ZERO_AT_ZERO:
        return False
    return getattr(layer, "depth_multiplier", 1) == 1 and not getattr(layer, "threshold", 0)


def _inputs(layer: Any) -> list[Any]:
    return layer.input if isinstance(layer.input, list) else [layer.input]


def remove(
    model: KerasModel,
    layers: Sequence[Any],
    sparsity: float,
    finetune: Finetune | None = None,
) -> KerasModel:
    """Set outputs of the layers to zero, in place, and return the network without them.

    Args:
        model: of layers used once.
        layers: without an `obstacle`.
        sparsity: the fraction of outputs that go, rounded; one is kept at least.
        finetune: trains the network without them, what it has learnt goes into `model` too; it gets
            no callbacks, since none is needed.

    Raises:
        ValueError: a layer cannot be made again from its configuration.
    """
    import tf_keras

    kept = _kept(model, layers, sparsity)
    with model.distribute_strategy.scope():
        try:
            smaller: Any = tf_keras.models.clone_model(
                model, clone_function=lambda layer: _resized(layer, kept)
            )
            pairs = [(layer, smaller.get_layer(layer.name)) for layer in model.layers]
        except (NotImplementedError, TypeError, ValueError) as error:
            raise ValueError(
                "pattern='channels' makes every layer again from its get_config(), and one has none"
                f" that works: {one_line(error)}"
            ) from error
        for layer, small in pairs:
            incoming, outgoing = kept[id(layer)]
            small.set_weights(_sliced(layer, layer.get_weights(), incoming, outgoing))
            layer.set_weights(_cleared(layer, incoming, outgoing))
        if finetune is not None:
            with step("training"):
                finetune(smaller, [])
            for layer, small in pairs:
                layer.set_weights(_filled(layer, small.get_weights(), *kept[id(layer)]))
    return smaller


def _kept(
    model: KerasModel, layers: Sequence[Any], sparsity: float
) -> dict[int, tuple[Kept, Kept]]:
    """Return which inputs and outputs of each layer are kept, by its identity."""
    import numpy as np

    chosen = {id(layer) for layer in layers}
    tensors = {id(tensor): np.ones(tensor.shape[-1], bool) for tensor in model.inputs}
    kept: dict[int, tuple[Kept, Kept]] = {}
    for layer in model.layers:
        incoming = tensors[id(_inputs(layer)[0])]
        outgoing = np.ones(layer.output.shape[-1], bool)
        if id(layer) in chosen:
            outgoing = _largest(layer.kernel.numpy(), sparsity)
        elif type(layer).__name__ in THROUGH:
            outgoing = np.tile(incoming, outgoing.size // incoming.size)
        kept[id(layer)] = incoming, outgoing
        tensors[id(layer.output)] = outgoing
    return kept


def _largest(kernel: NDArray[np.float32], sparsity: float) -> Kept:
    """Return the outputs to keep; among equal norms the first ones go."""
    import numpy as np

    norms = np.abs(kernel.astype(np.float64)).sum(axis=tuple(range(kernel.ndim - 1)))
    kept = np.ones(norms.size, bool)
    removed = min(round(sparsity * norms.size), norms.size - 1)
    kept[np.argsort(norms, kind="stable")[:removed]] = False
    return kept


def _resized(layer: Any, kept: dict[int, tuple[Kept, Kept]]) -> Any:
    """Return a layer like this one, without weights, for the outputs that are kept."""
    config = layer.get_config()
    size = SIZES.get(type(layer).__name__)
    if size is not None:
        config[size] = int(kept[id(layer)][1].sum())
    return type(layer).from_config(config)


def _sliced(layer: Any, weights: list[Array], incoming: Kept, outgoing: Kept) -> list[Array]:
    """Return arrays of the shapes of a layer's weights without the inputs and outputs that go."""
    if type(layer).__name__ in SIZES:
        kernel, *bias = weights
        return [kernel[..., incoming, :][..., outgoing], *(each[outgoing] for each in bias)]
    if type(layer).__name__ == "DepthwiseConv2D":
        kernel, *bias = weights
        return [kernel[:, :, incoming, :], *(each[outgoing] for each in bias)]
    if type(layer).__name__ == "BatchNormalization":
        return [each[outgoing] for each in weights]
    return weights


def _cleared(layer: Any, incoming: Kept, outgoing: Kept) -> list[NDArray[np.float32]]:
    """Return the weights with zero for all that makes an output that goes."""
    import numpy as np

    weights = layer.get_weights()
    if type(layer).__name__ == "DepthwiseConv2D":
        weights[0] = np.where(incoming[:, None], weights[0], np.float32(0))
        return [weights[0], *(np.where(outgoing, each, np.float32(0)) for each in weights[1:])]
    if type(layer).__name__ == "BatchNormalization":
        variance = layer.moving_variance.name
        names = [variable.name for variable in layer.weights]
        return [
            each if name == variance else np.where(outgoing, each, np.float32(0))
            for name, each in zip(names, weights, strict=True)
        ]
    if type(layer).__name__ in SIZES:
        return [np.where(outgoing, each, np.float32(0)) for each in weights]
    return list(weights)


def _filled(layer: Any, trained: list[Array], incoming: Kept, outgoing: Kept) -> list[Array]:
    """Return the weights with those of the smaller layer in the places that `_sliced` keeps."""
    import numpy as np

    weights: list[Array] = layer.get_weights()
    places = [np.arange(each.size).reshape(each.shape) for each in weights]
    kept = _sliced(layer, places, incoming, outgoing)
    for each, at, values in zip(weights, kept, trained, strict=True):
        np.put(each, at, values)
    return weights
