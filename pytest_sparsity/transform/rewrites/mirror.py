"""The whole chain turned upside down and left to right, so that its zeros stand in front.

TensorFlow's "SAME" at stride 2 puts its one row of zeros behind an image of even size; the entry
and the depthwise kernels of XNNPACK want it in front. In a mirrored network behind is in front:
the image is reversed, and so is every window; a global average does not see the difference. The
sums are the same, added in another order.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pytest_sparsity.model.flatbuffer import Table
from pytest_sparsity.transform.rewrites.change import ProposedRewrite
from pytest_sparsity.transform.rewrites.windows import (
    Window,
    kernel_of,
    padding,
    pool_kernel,
    reaches,
    stride,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_sparsity.model import Operator
    from pytest_sparsity.transform.work import Work

ELEMENTWISE = frozenset(
    {
        *("ABS", "ADD", "CEIL", "DIV", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU"),
        *("LOGISTIC", "MAXIMUM", "MINIMUM", "MUL", "NEG", "PRELU", "RELU", "RELU6"),
        *("RELU_N1_TO_1", "ROUND", "RSQRT", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "SUB", "TANH"),
    }
)
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")


def mirror(work: Work) -> Iterator[ProposedRewrite]:
    """Mirror what follows an entry whose zeros stand behind, if all of it can be mirrored."""
    for operator in work.operators:
        if operator.op != "CONV_2D" or not work.is_float(operator.outputs[0]):
            continue
        kernel = kernel_of(work, operator)
        source = work.shape(operator.inputs[0])
        if kernel != (3, 3) or stride(operator) != (2, 2) or source[3:] != (3,):
            continue
        window = padding(work, operator, kernel)
        if window is None or (window.before, window.after) != ((0, 0), (1, 1)):
            continue
        mirrored = _reach(work, operator)
        if mirrored is not None:
            says = "the image and every window behind it are mirrored, so that the zeros come first"
            yield ProposedRewrite(
                "mirror", operator.index, says, partial(_mirror, operator, mirrored)
            )


def _spatial(work: Work, tensor: int) -> bool:
    """Whether mirroring an image of this shape changes anything."""
    shape = work.shape(tensor)
    return len(shape) == 4 and max(shape[1:3]) > 1


def _reach(work: Work, first: Operator) -> list[Operator] | None:
    """The operators that compute mirrored images; None if one of them cannot."""
    images, found = {first.outputs[0]}, [first]
    if _swapped(work, first) is None:
        return None
    for operator in work.operators[first.index + 1 :]:
        if not images & set(operator.inputs):
            continue
        if not _mirrors(work, operator, images):
            return None
        found.append(operator)
        images |= {t for t in operator.outputs if _spatial(work, t)}
    return None if images & set(work.model.graph.outputs) else found


def _mirrors(work: Work, operator: Operator, images: set[int]) -> bool:
    if operator.op in CONVOLUTIONS:
        return work.is_float(operator.outputs[0]) and _swapped(work, operator) is not None
    if operator.op == "PAD":
        sizes = work.values(operator.inputs[1])
        return sizes is not None and sizes.shape == (4, 2)
    if operator.op in POOLS:
        kernel = pool_kernel(operator)
        window = padding(work, operator, kernel)
        return (
            window is not None
            and window.source == operator.inputs[0]
            and window.before == window.after
            and _left_over(work, operator, window, kernel) == (0, 0)
        )
    if operator.op == "CONCATENATION":
        last = operator.options.get("axis") in {3, -1}
        return last and set(operator.inputs) <= images
    if operator.op == "MEAN":
        axes = work.values(operator.inputs[1])
        return axes is not None and {1, 2} <= {int(axis) % 4 for axis in axes.reshape(-1)}
    if operator.op in ELEMENTWISE:
        return all(t in images or not _spatial(work, t) for t in operator.inputs)
    return False


def _left_over(
    work: Work, operator: Operator, window: Window, kernel: tuple[int, int]
) -> tuple[int, int]:
    """Rows and columns behind the last window."""
    source, output = work.shape(window.source)[1:3], work.shape(operator.outputs[0])[1:3]
    reach, step = reaches(operator, kernel), stride(operator)
    rows, columns = (
        window.before[d] + source[d] + window.after[d] - (output[d] - 1) * step[d] - reach[d]
        for d in (0, 1)
    )
    return rows, columns


def _swapped(work: Work, operator: Operator) -> Window | None:
    """The zeros around what a mirrored convolution reads; None if it cannot be mirrored.

    What the last window leaves over must be zeros: in front, no window would start there.
    """
    kernel = kernel_of(work, operator)
    if kernel != (1, 1) and work.values(operator.inputs[1]) is None:
        return None
    window = padding(work, operator, kernel)
    if window is None:
        return None
    rest = _left_over(work, operator, window, kernel)
    before = window.after[0] - rest[0], window.after[1] - rest[1]
    if min(before) < 0 or min(rest) < 0:
        return None
    return Window(window.source, before, window.before, window.own)


def _mirror(first: Operator, mirrored: list[Operator], work: Work) -> None:
    reversed_source = _reverse(work, first)
    for operator in mirrored:
        if operator.op in CONVOLUTIONS:
            _mirror_convolution(work, operator, reversed_source if operator is first else None)
        elif operator.op == "PAD":
            values = work.values(operator.inputs[1])
            assert values is not None
            name = work.tensor(operator.outputs[0]).name
            table = work.table(operator.index)
            sizes = work.constant(f"{name}/mirrored", values[:, ::-1].copy())
            table["inputs"] = [int(table["inputs"][0]), sizes]


def _reverse(work: Work, first: Operator) -> int:
    """The image that the entry reads, before its zeros, reversed in both directions."""
    import numpy as np

    window = padding(work, first, kernel_of(work, first))
    assert window is not None
    image, name = window.source, work.tensor(first.outputs[0]).name
    for axis in (1, 2):
        turned = work.like(window.source, f"{name}/reversed_{axis}")
        axes = work.constant(f"{name}/axis_{axis}", np.array([axis], np.int32))
        work.insert(first.index, "REVERSE_V2", [image, axes], turned, Table("ReverseV2Options"))
        image = turned
    return image


def _mirror_convolution(work: Work, operator: Operator, image: int | None) -> None:
    window = _swapped(work, operator)
    assert window is not None
    table, name = work.table(operator.index), work.tensor(operator.outputs[0]).name
    kernel = kernel_of(work, operator)
    inputs = [int(index) for index in table["inputs"]]
    if kernel != (1, 1):
        weights = work.values(operator.inputs[1])
        assert weights is not None
        inputs[1] = work.constant(f"{name}/mirrored", weights[:, ::-1, ::-1].copy())
    source = image if image is not None else window.source
    if window.before == window.after and operator.options["padding"] == "SAME":
        inputs[0] = source
    else:
        inputs[0] = _padded(work, operator, source, window)
        table["builtin_options"]["padding"] = "VALID"
    table["inputs"] = inputs


def _padded(work: Work, operator: Operator, source: int, window: Window) -> int:
    import numpy as np

    if window.before == window.after == (0, 0):
        return source
    name = work.tensor(operator.outputs[0]).name
    batch, height, width, channels = work.shape(window.source)
    rows, columns = zip(window.before, window.after, strict=True)
    shape = batch, height + sum(rows), width + sum(columns), channels
    padded = work.like(window.source, f"{name}/padded", shape)
    sizes = np.array([[0, 0], rows, columns, [0, 0]], np.int32)
    inputs = [source, work.constant(f"{name}/paddings", sizes)]
    work.insert(operator.index, "PAD", inputs, padded, Table("PadOptions"))
    return padded
