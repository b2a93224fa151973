"""The rules about TFLite's operators: what its delegate for XNNPACK takes.

`delegate` (delegate.py) says which of them an operator breaks.
"""

from __future__ import annotations

from pytest_sparsity.xnnpack.rules import NEWER, Rule, conversion, training

_OTHERS = training("replace that operator or move it to the end")

DELEGATE = "xnnpack_delegate.cc"
OPERATORS = (
    Rule("not-taken", "XNNPACK's delegate does not take {0}", _OTHERS, f"{DELEGATE}: VisitNode"),
    Rule(
        "not-yet-taken",
        "this runtime's XNNPACK delegate does not take {0}",
        NEWER,
        f"{DELEGATE}: VisitNode, before the change that takes it",
    ),
    Rule(
        "activation",
        "its fused activation is {0}",
        training("use ReLU or ReLU6"),
        f"{DELEGATE}: ConvertActivationToOutputRange",
    ),
    Rule(
        "unranked",
        "the shape of a tensor is known only when it runs",
        conversion("convert with a fixed input shape"),
        f"{DELEGATE}: CheckTensorShape",
    ),
    Rule(
        "output-type",
        "its output is {0}",
        conversion("keep it in float32"),
        f"{DELEGATE}: CheckTensorFloat32OrQUInt8Type",
    ),
    Rule(
        "block-weights",
        "its weights are encoded in blocks, which XNNPACK does not take",
        conversion("prune it without blocks"),
        f"{DELEGATE}: IsNodeSupported, FULLY_CONNECTED version 8",
    ),
    Rule(
        "no-bias",
        "it has no bias",
        conversion("give it a bias, of zeros if need be"),
        f"{DELEGATE}: CheckNumInputsAndOutputs",
    ),
    Rule(
        "variable-weights",
        "its weights are not constant",
        training("use a layer with weights of its own"),
        f"{DELEGATE}: CheckTensorStaticAllocation",
    ),
    Rule(
        "bias-type",
        "its weights are {0} but its bias is {1}",
        conversion("keep both in float32 or both in float16"),
        f"{DELEGATE}: filter and bias types, since fp16-weights-direct",
    ),
    Rule(
        "dynamic-range",
        "its weights are int8 but its input is float32",
        conversion("quantize to float16 instead"),
        f"{DELEGATE}: dynamically quantized DEPTHWISE_CONV_2D",
    ),
    Rule(
        "slice-stride",
        "its stride is not 1",
        training("slice without strides"),
        f"{DELEGATE}: VisitStridedSliceNode",
    ),
    Rule(
        "reduced-axes",
        "this runtime's XNNPACK reduces height and width only",
        NEWER,
        f"{DELEGATE}: VisitMeanNode, before reduces-any-axes",
    ),
    Rule(
        "pooling-stride",
        "its stride exceeds its window",
        training("use a window as large as the stride"),
        f"{DELEGATE}: CheckMediaPipePoolParams",
    ),
    Rule(
        "concatenated",
        "it concatenates {0} tensors, not 2 to 5",
        training("concatenate 2 to 5 at a time"),
        f"{DELEGATE}: VisitConcatenationNode",
    ),
    Rule(
        "variable-operand",
        "an operand is not constant",
        training("make it a constant"),
        f"{DELEGATE}: CheckTensorStaticAllocation",
    ),
    Rule(
        "softmax-beta",
        "its beta is not 1",
        conversion("scale what it reads instead"),
        f"{DELEGATE}: VisitSoftmaxNode, beta",
    ),
    Rule(
        "leaky-slope",
        "its slope is 0",
        conversion("use ReLU"),
        f"{DELEGATE}: VisitLeakyReluNode, alpha",
    ),
    Rule(
        "runs-apart",
        "it runs apart from this layer",
        _OTHERS,
        "TFLite graph_info.cc: PartitionGraphIntoIndependentNodeSubsets",
    ),
)
