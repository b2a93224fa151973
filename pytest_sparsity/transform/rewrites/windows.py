"""Rewrites of what moves a window: the same sums, by a window that XNNPACK has a kernel for.

Channels-first kernels exist for depthwise windows of 3x3 and 5x5 at stride 1 or 2 with half a
window of zeros on each side, for 1x1 convolutions at stride 1, and for one entry: 3x3 at stride 2
with one zero on each side (XNNPACK, src/subgraph.c, xnn_check_nchw_compatibility, 75db3c093b). A
window at another offset, with gaps, or smaller, is one of those with zeros in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pytest_sparsity.model.flatbuffer import Table
from pytest_sparsity.transform.rewrites.change import ProposedRewrite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from pytest_sparsity.encoding import Array
    from pytest_sparsity.model import Operator
    from pytest_sparsity.transform.work import Work

    Pair: TypeAlias = tuple[int, int]

WINDOWS = (3, 5)


@dataclass(frozen=True)
class Window:
    """Where a window of an operator starts and how it moves.

    Attributes:
        source: the tensor that is read, before a PAD of zeros if there is one.
        before: rows and columns of zeros in front.
        after: behind.
        own: whether the operator sees to the zeros itself, or a PAD that nobody else reads does.
    """

    source: int
    before: Pair
    after: Pair
    own: bool


def padding(work: Work, operator: Operator, kernel: Pair) -> Window | None:
    """The zeros around what an operator reads; None if a PAD is not one of rows and columns.

    `"SAME"` as TFLite computes it (kernels/padding.h, TensorFlow 2.21).
    """
    source = operator.inputs[0]
    size = work.shape(source)[1:3]
    if operator.options["padding"] == "SAME":
        totals = [
            max((-(-size[d] // stride(operator)[d]) - 1) * stride(operator)[d] + reach - size[d], 0)
            for d, reach in enumerate(reaches(operator, kernel))
        ]
        before = totals[0] // 2, totals[1] // 2
        return Window(source, before, (totals[0] - before[0], totals[1] - before[1]), own=True)
    pad = work.writer(source)
    if pad is None or pad.op != "PAD":
        return Window(source, (0, 0), (0, 0), own=True)
    sizes = work.values(pad.inputs[1])
    if sizes is None or sizes.shape != (4, 2) or sizes[[0, 3]].any() or (sizes < 0).any():
        return Window(source, (0, 0), (0, 0), own=True)
    alone = len(work.readers(source)) == 1 and not work.is_output(source)
    (top, bottom), (left, right) = ((int(a), int(b)) for a, b in sizes[1:3])
    return Window(pad.inputs[0], (top, left), (bottom, right), own=alone)


def stride(operator: Operator) -> Pair:
    """Rows and columns from one window to the next."""
    return _pair(operator, "stride_h", "stride_w")


def dilation(operator: Operator) -> Pair:
    """Rows and columns from one tap to the next."""
    return _pair(operator, "dilation_h", "dilation_w")


def kernel_of(work: Work, operator: Operator) -> Pair:
    """Height and width of a convolution's window."""
    _, height, width, _ = work.shape(operator.inputs[1])
    return height, width


def pool_kernel(operator: Operator) -> Pair:
    """Height and width of a pool's window."""
    return _pair(operator, "filter_height", "filter_width")


def _pair(operator: Operator, height: str, width: str) -> Pair:
    return int(str(operator.options.get(height, 1))), int(str(operator.options.get(width, 1)))


def reaches(operator: Operator, kernel: Pair) -> Pair:
    """Rows and columns from the first to the last tap, both counted."""
    step = dilation(operator)
    return (kernel[0] - 1) * step[0] + 1, (kernel[1] - 1) * step[1] + 1


def depthwise(work: Work) -> Iterator[ProposedRewrite]:
    """Depthwise layers as windows of 3x3 or 5x5 in the middle of their zeros."""
    for operator in work.operators:
        if operator.op != "DEPTHWISE_CONV_2D" or not work.is_float(operator.outputs[0]):
            continue
        weights = work.values(operator.inputs[1])
        channels = work.shape(operator.inputs[0])[3]
        if weights is None or weights.shape[3] != channels:
            continue
        kernel = kernel_of(work, operator)
        window = padding(work, operator, kernel)
        found = _fitting(work, operator, window, kernel) if window else None
        if window is not None and found is not None:
            size, offset = found
            if (
                (size, size) == kernel
                and dilation(operator) == (1, 1)
                and _is_usual(operator, window, size)
            ):
                continue
            says = (
                f"its {kernel[0]}x{kernel[1]} window became a {size}x{size} one, "
                f"{size // 2} zeros around"
            )
            apply = partial(_embed, operator, window, size, offset)
            yield ProposedRewrite("window", operator.index, says, apply)


def _is_usual(operator: Operator, window: Window, size: int) -> bool:
    """XNNPACK takes it as it is: half a window of zeros around, and not by "SAME" with a stride."""
    half = (size // 2, size // 2)
    if not window.own or window.before != half or window.after != half:
        return False
    return stride(operator) == (1, 1) or operator.options["padding"] == "VALID"


def _fitting(
    work: Work, operator: Operator, window: Window, kernel: Pair
) -> tuple[int, Pair] | None:
    """The smallest window in the middle of its zeros that computes the same, and the offset in it.

    Output i sums what stands at `i * stride + tap - before`; in a window of `size` with `size // 2`
    zeros before it that tap is number `tap + size // 2 - before`.
    """
    step, reach = stride(operator), reaches(operator, kernel)
    if step[0] != step[1] or step[0] not in {1, 2}:
        return None
    source, output = work.shape(window.source)[1:3], work.shape(operator.outputs[0])[1:3]
    for size in WINDOWS:
        offset = size // 2 - window.before[0], size // 2 - window.before[1]
        inside = all(offset[d] >= 0 and offset[d] + reach[d] <= size for d in (0, 1))
        same = all((source[d] - 1) // step[d] + 1 == output[d] for d in (0, 1))
        if inside and same:
            return size, offset
    return None


def _embed(operator: Operator, window: Window, size: int, offset: Pair, work: Work) -> None:
    weights = work.values(operator.inputs[1])
    assert weights is not None
    table = work.table(operator.index)
    name = work.tensor(operator.outputs[0]).name
    wide = embedded(weights, size, offset, dilation(operator))
    source, mode = window.source, "SAME"
    if stride(operator) != (1, 1):
        source, mode = pad(work, operator, window.source, size // 2), "VALID"
    table["inputs"] = [source, work.constant(f"{name}/window", wide), *table["inputs"][2:]]
    options = table["builtin_options"]
    options["padding"] = mode
    options["dilation_h_factor"] = options["dilation_w_factor"] = 1


def embedded(weights: Array, size: int, offset: Pair, step: Pair) -> Array:
    """Weights (n, height, width, m) as (n, size, size, m), zero but for the taps."""
    import numpy as np

    wide = np.zeros((weights.shape[0], size, size, weights.shape[3]), np.float32)
    rows = offset[0] + step[0] * np.arange(weights.shape[1])
    columns = offset[1] + step[1] * np.arange(weights.shape[2])
    wide[:, rows[:, None], columns] = weights
    return wide


def pad(work: Work, operator: Operator, source: int, amount: int) -> int:
    """The tensor with rows and columns of zeros around it, computed before an operator."""
    import numpy as np

    name = work.tensor(operator.outputs[0]).name
    batch, height, width, channels = work.shape(source)
    shape = batch, height + 2 * amount, width + 2 * amount, channels
    padded = work.like(source, f"{name}/padded", shape)
    sides = np.array([[0, 0], [amount] * 2, [amount] * 2, [0, 0]], np.int32)
    sizes = work.constant(f"{name}/paddings", sides)
    work.insert(operator.index, "PAD", [source, sizes], padded, Table("PadOptions"))
    return padded


def entry(work: Work) -> Iterator[ProposedRewrite]:
    """The 3x3 entry at stride 2, if it has its zeros in front only, or shares its PAD."""
    for operator in work.operators:
        if operator.op != "CONV_2D" or not work.is_float(operator.outputs[0]):
            continue
        kernel = kernel_of(work, operator)
        if kernel != (3, 3) or stride(operator) != (2, 2) or dilation(operator) != (1, 1):
            continue
        window = padding(work, operator, kernel)
        if window is None or window.before != (1, 1):
            continue
        if window.own and window.after == (1, 1) and operator.options["padding"] == "VALID":
            continue
        source, output = work.shape(window.source)[1:3], work.shape(operator.outputs[0])[1:3]
        if all((source[d] - 1) // 2 + 1 == output[d] for d in (0, 1)):
            apply = partial(_own_padding, operator, window.source)
            yield ProposedRewrite(
                "entry", operator.index, "it got a zero on each side of its own", apply
            )


def _own_padding(operator: Operator, source: int, work: Work) -> None:
    table = work.table(operator.index)
    table["inputs"] = [pad(work, operator, source, 1), *table["inputs"][1:]]
    table["builtin_options"]["padding"] = "VALID"


def strided_pointwise(work: Work) -> Iterator[ProposedRewrite]:
    """A 1x1 convolution at stride 2 as a depthwise layer that picks, and the 1x1 at stride 1.

    Exact for finite values: what is not picked is multiplied by zero.
    """
    for operator in work.operators:
        if operator.op != "CONV_2D" or not work.is_float(operator.outputs[0]):
            continue
        if kernel_of(work, operator) == (1, 1) and stride(operator) == (2, 2):
            writer = work.writer(operator.inputs[0])
            if writer is None or writer.op != "PAD":
                yield ProposedRewrite(
                    "strided-pointwise",
                    operator.index,
                    "a depthwise layer before it picks every second pixel",
                    partial(_pick, operator),
                )


def _pick(operator: Operator, work: Work) -> None:
    import numpy as np

    source, output = operator.inputs[0], operator.outputs[0]
    channels, name = work.shape(source)[3], work.tensor(output).name
    weights = np.zeros((1, 3, 3, channels), np.float32)
    weights[0, 1, 1] = 1
    picked = work.like(source, f"{name}/picked", (*work.shape(output)[:3], channels))
    inputs = [
        pad(work, operator, source, 1),
        work.constant(f"{name}/picking", weights),
        work.constant(f"{name}/zeros", np.zeros(channels, np.float32)),
    ]
    options = Table(
        "DepthwiseConv2DOptions", padding="VALID", stride_w=2, stride_h=2, depth_multiplier=1
    )
    work.insert(operator.index, "DEPTHWISE_CONV_2D", inputs, picked, options)
    table = work.table(operator.index)
    table["inputs"] = [picked, *table["inputs"][1:]]
    table["builtin_options"]["stride_w"] = table["builtin_options"]["stride_h"] = 1


def average_pool(work: Work) -> Iterator[ProposedRewrite]:
    """An average of 2x2 pixels as a depthwise layer; exact but for the order of the sum."""
    for operator in work.operators:
        if operator.op != "AVERAGE_POOL_2D" or not work.is_float(operator.outputs[0]):
            continue
        kernel = pool_kernel(operator)
        _, height, width, _ = work.shape(operator.inputs[0])
        whole = not height % 2 and not width % 2
        if kernel == (2, 2) and stride(operator) == (2, 2) and whole:
            says = "a depthwise layer computes its averages"
            yield ProposedRewrite("average-pool", operator.index, says, partial(_average, operator))


def _average(operator: Operator, work: Work) -> None:
    import numpy as np

    source, name = operator.inputs[0], work.tensor(operator.outputs[0]).name
    channels = work.shape(source)[3]
    weights = np.zeros((1, 3, 3, channels), np.float32)
    weights[0, 1:, 1:] = 0.25
    table = work.table(operator.index)
    activation = table["builtin_options"]["fused_activation_function"]
    inputs = [
        pad(work, operator, source, 1),
        work.constant(f"{name}/quarters", weights),
        work.constant(f"{name}/zeros", np.zeros(channels, np.float32)),
    ]
    options = Table(
        "DepthwiseConv2DOptions",
        padding="VALID",
        stride_w=2,
        stride_h=2,
        depth_multiplier=1,
        fused_activation_function=activation,
    )
    work.become(operator.index, "DEPTHWISE_CONV_2D", options)
    table["inputs"] = inputs
