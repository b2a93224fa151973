"""The rules about XNNPACK's nodes: what `xnn_check_nchw_compatibility` looks at.

`check_nchw_compatibility` (rewrite.py) says which of them a node breaks.
"""

from __future__ import annotations

from pytest_sparsity.findings import Remedy
from pytest_sparsity.xnnpack.rules import ALL, NEWER, Rule, conversion, training

_EXIT = training("end every branch with GlobalAveragePooling2D or, for images, depth_to_space")
_SEPARATE = training("replace it by a depthwise and a 1x1 convolution")
_PAD = training("put ZeroPadding2D({0}) before it and set padding='valid'")
_FOLD = conversion("fold it into the convolution before it")

EMBEDDED: frozenset[object] = frozenset(
    f"{height}x{width}"
    for height in range(1, 6)
    for width in range(1, 6)
    if (height, width) not in {(3, 3), (5, 5)}
)
"""Windows that a window of 3x3 or 5x5 with zeros in it computes."""
UNPADDED: frozenset[object] = frozenset({"top 0, right 0, bottom 0, left 0"})
"""No zeros around an image: such a window makes it smaller, which no padded one does."""

CHECK = "xnn_check_nchw_compatibility"
NODES = (
    Rule(
        "not-float",
        "sparse kernels exist for float32 and float16 only",
        conversion("keep the pruned 1x1 layers in float32 or float16"),
        f"{CHECK}: all_values_fp",
    ),
    Rule(
        "fully-connected",
        "this runtime has no sparse fully connected layers",
        NEWER,
        f"{CHECK}: fully_connected, since fc-in-rewrite",
    ),
    Rule("groups", "it has {0} groups", training("use groups=1"), f"{CHECK}: groups"),
    Rule(
        "dilation",
        "its dilation is {0}, not 1",
        training("use dilation 1"),
        f"{CHECK}: dilation_height, dilation_width",
        repaired=frozenset({"2x2"}),
    ),
    Rule(
        "pointwise-padding",
        "a 1x1 convolution must not be padded",
        conversion("drop the padding"),
        f"{CHECK}: convolution_2d, input_padding_*",
    ),
    Rule(
        "pointwise-stride",
        "a 1x1 convolution needs stride 1, this has {0}",
        training("put the stride into a depthwise convolution"),
        f"{CHECK}: convolution_2d, subsampling_*",
        repaired=frozenset({"2x2"}),
    ),
    Rule(
        "kernel",
        "its kernel is {0}; only 1x1 and the 3x3 entry have kernels",
        _SEPARATE,
        f"{CHECK}: convolution_2d, kernel_height, kernel_width",
    ),
    Rule(
        "regular",
        "regular convolutions have no channels-first kernel",
        _SEPARATE,
        f"{CHECK}: convolution_2d, NHWC2NCHW is for the first layer",
    ),
    Rule(
        "entry-stride",
        "the 3x3 entry needs stride 2, this has {0}",
        training("use strides=2 in the entry"),
        f"{CHECK}: convolution_2d, subsampling_*",
    ),
    Rule(
        "entry-padding",
        "the 3x3 entry needs padding {0} on each side, this has {1}",
        _PAD,
        f"{CHECK}: convolution_2d, input_padding_*",
        repaired=ALL,
        unrepaired=UNPADDED,
    ),
    Rule(
        "entry-channels",
        "the 3x3 entry needs 3 input channels, this has {0}",
        training("begin with 3 channels"),
        f"{CHECK}: convolution_2d, group_input_channels",
    ),
    Rule(
        "depth-multiplier",
        "its depth multiplier is {0}, not 1",
        training("use depth_multiplier=1 and a wider 1x1 layer before it"),
        f"{CHECK}: depthwise_convolution_2d, depth_multiplier",
    ),
    Rule(
        "depthwise-stride",
        "its stride is {0}, neither 1x1 nor 2x2",
        training("use stride 1 or 2"),
        f"{CHECK}: depthwise_convolution_2d, subsampling_*",
    ),
    Rule(
        "depthwise-kernel",
        "its kernel is {0}, neither 3x3 nor 5x5",
        training("use a 3x3 or 5x5 kernel"),
        f"{CHECK}: depthwise_convolution_2d, kernel_height, kernel_width",
        repaired=EMBEDDED,
    ),
    Rule(
        "depthwise-padding",
        "it needs padding {0} on each side, this has {1}",
        _PAD,
        f"{CHECK}: depthwise_convolution_2d, input_padding_*, XNN_FLAG_TENSORFLOW_SAME_PADDING",
        repaired=ALL,
        unrepaired=UNPADDED,
    ),
    Rule(
        "shared-padding",
        "its padding is read by {0} layers, so it stays an operator of its own",
        conversion("give each of these layers a padding of its own"),
        "xnn_subgraph_fusion: num_consumers of static_constant_pad",
        repaired=ALL,
    ),
    Rule(
        "operand-rank",
        "an operand is not 4-D",
        _FOLD,
        f"{CHECK}: binary_elementwise, num_dims",
        repaired=ALL,
    ),
    Rule(
        "constant-operand",
        "it adds or multiplies by a constant",
        conversion("fold the constant into the convolution before it"),
        f"{CHECK}: binary_elementwise, num_nonunit_dims",
        repaired=ALL,
    ),
    Rule("rank", "its input is not 4-D", _FOLD, f"{CHECK}: num_dims"),
    Rule(
        "old-unary",
        "this runtime has no channels-first kernel for {0}",
        Remedy("use a newer runtime, ReLU or LeakyReLU", "runtime"),
        f"{CHECK}: unary_elementwise, before every-unary-in-rewrite",
    ),
    Rule(
        "old-mean",
        "only the mean over height and width has a kernel in this runtime",
        NEWER,
        f"{CHECK}: global_average_pooling_2d, before static-mean-in-rewrite",
    ),
    Rule(
        "resize",
        "it resizes an image of height or width 1",
        training("resize images of at least 2x2"),
        f"{CHECK}: static_resize_bilinear_2d, shape",
    ),
    Rule(
        "subtract",
        "no channels-first kernel exists for {0}",
        conversion("negate one branch in its convolution and add"),
        f"{CHECK}: binary_elementwise, binary_operator",
        repaired=ALL,
    ),
    Rule(
        "prelu",
        "no channels-first kernel exists for {0}",
        training("use ReLU or LeakyReLU"),
        f"{CHECK}: binary_elementwise, binary_operator",
        repaired=ALL,
    ),
    Rule(
        "pooling",
        "no channels-first kernel exists for {0}",
        training("replace the pooling by a depthwise convolution with stride 2"),
        f"{CHECK}: default",
        repaired=frozenset({"average-pooling"}),
    ),
    Rule(
        "pad",
        "no channels-first kernel exists for {0}",
        training("pad only the entry and depthwise convolutions, by half their kernel"),
        f"{CHECK}: default",
    ),
    Rule(
        "concatenation",
        "no channels-first kernel exists for {0}",
        training("add the branches instead of concatenating them"),
        f"{CHECK}: default",
    ),
    Rule("head", "no channels-first kernel exists for {0}", _EXIT, f"{CHECK}: default"),
    Rule(
        "operator",
        "no channels-first kernel exists for {0}",
        training("replace it, or move it behind the global average pool"),
        f"{CHECK}: default",
    ),
    Rule(
        "operator-of-a-detector",
        "no channels-first kernel exists for {0}",
        training("replace it by layers that have one"),
        f"{CHECK}: default, in a graph without a global average pool",
    ),
    Rule(
        "apart",
        "it is not part of the chain",
        training("lead it through layers with channels-first kernels"),
        "xnn_subgraph_rewrite_for_nchw: cluster_leader",
    ),
)
