"""The rules that decide whether a layer can be part of a sparse chain, in words.

`check_nchw_compatibility` (rewrite.py) and `delegate` (delegate.py) say which rule a node or an
operator breaks, and with which figures; the words, and what to do, stand here alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_sparsity.findings import Remedy

REPAIR = "run `pytest-sparsity repair`"
ALL: frozenset[object] = frozenset({"all"})
MANY = 5
"""Figures from which on only the first and the last are listed."""


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: what `Misfit.rule` has.
        clause: what is the case, with the figures' places in braces.
        remedy: likewise.
        upstream: the function and the field or flag that it looks at.
        repaired: which of its figures `pytest-sparsity repair` has an exact rewrite for: `ALL`,
            or those of which one is the figure; empty if there is none.
        unrepaired: among them those for which there is none after all.
    """

    name: str
    clause: str
    remedy: Remedy
    upstream: str
    repaired: frozenset[object] = frozenset()
    unrepaired: frozenset[object] = frozenset()

    @property
    def takes(self) -> str:
        """What its remedy takes, for people: "file" where a rewrite exists."""
        if not self.repaired:
            return self.remedy.takes
        if self.repaired == ALL and not self.unrepaired:
            return "file"
        figures, but = self.repaired, ""
        if self.repaired == ALL:
            figures, but = self.unrepaired, "not "
        named = sorted(map(str, figures))
        listed = ", ".join(named if len(named) < MANY else (named[0], "...", named[-1]))
        return f"file ({but}{listed}), else {self.remedy.takes}"

    def rewritten(self, figures: tuple[object, ...]) -> bool:
        """Whether `pytest-sparsity repair` has an exact rewrite for a misfit with these figures."""
        return not self.unrepaired & set(figures) and (
            self.repaired == ALL or bool(self.repaired & set(figures))
        )


@dataclass(frozen=True)
class Misfit:
    """A rule that a node or an operator breaks.

    Attributes:
        rule: name of the rule.
        figures: of the node, for the rule's words.
    """

    rule: str
    figures: tuple[object, ...] = ()

    def __str__(self) -> str:
        return RULES[self.rule].clause.format(*self.figures)

    @property
    def remedy(self) -> Remedy:
        """What to do about it."""
        rule = RULES[self.rule]
        text = rule.remedy.text.format(*self.figures)
        if rule.rewritten(self.figures):
            return Remedy(f"{REPAIR}, or {text}", "file")
        return Remedy(text, rule.remedy.takes)


def _training(text: str) -> Remedy:
    return Remedy(text, "training")


def _conversion(text: str) -> Remedy:
    return Remedy(text, "conversion")


_NEWER = Remedy("use a newer runtime", "runtime")
_EXIT = _training("end every branch with GlobalAveragePooling2D or, for images, depth_to_space")
_SEPARATE = _training("replace it by a depthwise and a 1x1 convolution")
_PAD = _training("put ZeroPadding2D({0}) before it and set padding='valid'")
_FOLD = _conversion("fold it into the convolution before it")
_OTHERS = _training("replace that operator or move it to the end")

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
        _conversion("keep the pruned 1x1 layers in float32 or float16"),
        f"{CHECK}: all_values_fp",
    ),
    Rule(
        "fully-connected",
        "this runtime has no sparse fully connected layers",
        _NEWER,
        f"{CHECK}: fully_connected, since fc-in-rewrite",
    ),
    Rule("groups", "it has {0} groups", _training("use groups=1"), f"{CHECK}: groups"),
    Rule(
        "dilation",
        "its dilation is {0}, not 1",
        _training("use dilation 1"),
        f"{CHECK}: dilation_height, dilation_width",
        repaired=frozenset({"2x2"}),
    ),
    Rule(
        "pointwise-padding",
        "a 1x1 convolution must not be padded",
        _conversion("drop the padding"),
        f"{CHECK}: convolution_2d, input_padding_*",
    ),
    Rule(
        "pointwise-stride",
        "a 1x1 convolution needs stride 1, this has {0}",
        _training("put the stride into a depthwise convolution"),
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
        _training("use strides=2 in the entry"),
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
        _training("begin with 3 channels"),
        f"{CHECK}: convolution_2d, group_input_channels",
    ),
    Rule(
        "depth-multiplier",
        "its depth multiplier is {0}, not 1",
        _training("use depth_multiplier=1 and a wider 1x1 layer before it"),
        f"{CHECK}: depthwise_convolution_2d, depth_multiplier",
    ),
    Rule(
        "depthwise-stride",
        "its stride is {0}, neither 1x1 nor 2x2",
        _training("use stride 1 or 2"),
        f"{CHECK}: depthwise_convolution_2d, subsampling_*",
    ),
    Rule(
        "depthwise-kernel",
        "its kernel is {0}, neither 3x3 nor 5x5",
        _training("use a 3x3 or 5x5 kernel"),
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
        _conversion("give each of these layers a padding of its own"),
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
        _conversion("fold the constant into the convolution before it"),
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
        _NEWER,
        f"{CHECK}: global_average_pooling_2d, before static-mean-in-rewrite",
    ),
    Rule(
        "resize",
        "it resizes an image of height or width 1",
        _training("resize images of at least 2x2"),
        f"{CHECK}: static_resize_bilinear_2d, shape",
    ),
    Rule(
        "subtract",
        "no channels-first kernel exists for {0}",
        _conversion("negate one branch in its convolution and add"),
        f"{CHECK}: binary_elementwise, binary_operator",
        repaired=ALL,
    ),
    Rule(
        "prelu",
        "no channels-first kernel exists for {0}",
        _training("use ReLU or LeakyReLU"),
        f"{CHECK}: binary_elementwise, binary_operator",
        repaired=ALL,
    ),
    Rule(
        "pooling",
        "no channels-first kernel exists for {0}",
        _training("replace the pooling by a depthwise convolution with stride 2"),
        f"{CHECK}: default",
        repaired=frozenset({"average-pooling"}),
    ),
    Rule(
        "pad",
        "no channels-first kernel exists for {0}",
        _training("pad only the entry and depthwise convolutions, by half their kernel"),
        f"{CHECK}: default",
    ),
    Rule(
        "concatenation",
        "no channels-first kernel exists for {0}",
        _training("add the branches instead of concatenating them"),
        f"{CHECK}: default",
    ),
    Rule("head", "no channels-first kernel exists for {0}", _EXIT, f"{CHECK}: default"),
    Rule(
        "operator",
        "no channels-first kernel exists for {0}",
        _training("replace it, or move it behind the global average pool"),
        f"{CHECK}: default",
    ),
    Rule(
        "operator-of-a-detector",
        "no channels-first kernel exists for {0}",
        _training("replace it by layers that have one"),
        f"{CHECK}: default, in a graph without a global average pool",
    ),
    Rule(
        "apart",
        "it is not part of the chain",
        _training("lead it through layers with channels-first kernels"),
        "xnn_subgraph_rewrite_for_nchw: cluster_leader",
    ),
)
"""Rules about XNNPACK's nodes."""

DELEGATE = "xnnpack_delegate.cc"
OPERATORS = (
    Rule("not-taken", "XNNPACK's delegate does not take {0}", _OTHERS, f"{DELEGATE}: VisitNode"),
    Rule(
        "not-yet-taken",
        "this runtime's XNNPACK delegate does not take {0}",
        _NEWER,
        f"{DELEGATE}: VisitNode, before delegates-2024-operators",
    ),
    Rule(
        "activation",
        "its fused activation is {0}",
        _training("use ReLU or ReLU6"),
        f"{DELEGATE}: ConvertActivationToOutputRange",
    ),
    Rule(
        "unranked",
        "the shape of a tensor is known only when it runs",
        _conversion("convert with a fixed input shape"),
        f"{DELEGATE}: CheckTensorShape",
    ),
    Rule(
        "output-type",
        "its output is {0}",
        _conversion("keep it in float32"),
        f"{DELEGATE}: CheckTensorFloat32OrQUInt8Type",
    ),
    Rule(
        "block-weights",
        "its weights are encoded in blocks, which XNNPACK does not take",
        _conversion("prune it without blocks"),
        f"{DELEGATE}: IsNodeSupported, FULLY_CONNECTED version 8",
    ),
    Rule(
        "no-bias",
        "it has no bias",
        _conversion("give it a bias, of zeros if need be"),
        f"{DELEGATE}: CheckNumInputsAndOutputs",
    ),
    Rule(
        "variable-weights",
        "its weights are not constant",
        _training("use a layer with weights of its own"),
        f"{DELEGATE}: CheckTensorStaticAllocation",
    ),
    Rule(
        "bias-type",
        "its weights are {0} but its bias is {1}",
        _conversion("keep both in float32 or both in float16"),
        f"{DELEGATE}: filter and bias types, since fp16-weights-direct",
    ),
    Rule(
        "dynamic-range",
        "its weights are int8 but its input is float32",
        _conversion("quantize to float16 instead"),
        f"{DELEGATE}: dynamically quantized DEPTHWISE_CONV_2D",
    ),
    Rule(
        "slice-stride",
        "its stride is not 1",
        _training("slice without strides"),
        f"{DELEGATE}: VisitStridedSliceNode",
    ),
    Rule(
        "reduced-axes",
        "this runtime's XNNPACK reduces height and width only",
        _NEWER,
        f"{DELEGATE}: VisitMeanNode, before reduces-any-axes",
    ),
    Rule(
        "pooling-stride",
        "its stride exceeds its window",
        _training("use a window as large as the stride"),
        f"{DELEGATE}: CheckMediaPipePoolParams",
    ),
    Rule(
        "concatenated",
        "it concatenates {0} tensors, not 2 to 5",
        _training("concatenate 2 to 5 at a time"),
        f"{DELEGATE}: VisitConcatenationNode",
    ),
    Rule(
        "variable-operand",
        "an operand is not constant",
        _training("make it a constant"),
        f"{DELEGATE}: CheckTensorStaticAllocation",
    ),
    Rule(
        "softmax-beta",
        "its beta is not 1",
        _conversion("scale what it reads instead"),
        f"{DELEGATE}: VisitSoftmaxNode, beta",
    ),
    Rule(
        "leaky-slope",
        "its slope is 0",
        _conversion("use ReLU"),
        f"{DELEGATE}: VisitLeakyReluNode, alpha",
    ),
    Rule(
        "runs-apart",
        "it runs apart from this layer",
        _OTHERS,
        "TFLite graph_info.cc: PartitionGraphIntoIndependentNodeSubsets",
    ),
)
"""Rules about TFLite's operators, which the delegate takes or not."""

RULES = {rule.name: rule for rule in (*NODES, *OPERATORS)}
