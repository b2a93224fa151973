"""Findings about kernels that stay dense."""

from __future__ import annotations

from pytest_sparsity.findings.kinds import Kind, Remedy

KINDS = (
    Kind(
        "channels-removed",
        (
            "{name} is the network of {dense} with fewer channels, {share:.0%} of its "
            "weights: each layer has less to do"
        ),
        Remedy("claim a smaller ratio, or remove more channels", "training"),
        """
The file has no zeros, but the layers of its dense counterpart with fewer channels: each has less to
do, on every target, and needs no sparse kernel for that.
""",
    ),
    Kind(
        "not-stripped",
        (
            "weights are multiplied by masks of pruning at run time ({share:.1%} of the masks are "
            "zero) in {layers}, the first {first}: nothing is stored or run sparsely that way"
        ),
        Remedy("call strip_pruning(model) before converting", "conversion"),
        """
The network was converted with TFMOT's pruning wrappers around its layers: masks and dense weights
are stored, and multiplied at every inference. The file is larger than without pruning and no kernel
skips anything. Such layers are not in the table, since their weights are not in the file. Call
`tfmot.sparsity.keras.strip_pruning(model)` before converting.
""",
    ),
    Kind(
        "computed-weights",
        (
            "weights are computed at run time in {layers}, the first {first}: what is not stored "
            "cannot be pruned or run sparsely"
        ),
        Remedy(
            "convert a network whose weights are constants, with wrappers taken off", "conversion"
        ),
        """
The weights of these layers do not depend on the inputs, and yet are computed at every inference
from constants or variables: by a wrapper, a constraint or a normalisation of weights that was left
around the layer. They are not in the table, since they are not in the file.
""",
    ),
    Kind(
        "nothing-prunable",
        ("no layer is a 1x1 convolution or fully connected, and only those have sparse kernels"),
        Remedy("replace regular convolutions by depthwise and 1x1 convolutions", "training"),
        """
No layer is a 1x1 convolution or fully connected. Only those have sparse kernels.
""",
    ),
    Kind(
        "not-pruned",
        "{share:.1%} of the weights that sparse kernels could skip are zero",
        Remedy(
            (
                "prune before converting: prune_low_magnitude for at least `frequency` steps, "
                "then strip_pruning"
            ),
            "training",
        ),
        """
Fewer than 5 % of the weights that sparse kernels could skip are zero. Did prune_low_magnitude run
for at least `frequency` (100) steps, and strip_pruning after it?
""",
    ),
    Kind(
        "not-encoded",
        (
            "the zeros are stored densely: the file is as large as without them and the "
            "kernels stay dense"
        ),
        Remedy(
            (
                "run `pytest-sparsity encode`, or convert with "
                "tf.lite.Optimize.EXPERIMENTAL_SPARSITY"
            ),
            "file",
        ),
        """
The zeros are stored densely. XNNPACK takes sparse-encoded weights as the sign to look for sparse
layers, and the file is as large as without zeros. `pytest-sparsity encode` stores them sparsely, or
convert with `tf.lite.Optimize.EXPERIMENTAL_SPARSITY`.
""",
    ),
    Kind(
        "quantized",
        ("weights are {dtype} in {count} of {layers}, and XNNPACK has no sparse kernels for them"),
        Remedy("claim size only, or keep these layers in float32 or float16", "conversion"),
        """
Weights are int8. XNNPACK has sparse kernels for float weights only (float16 ones are fine).
""",
    ),
    Kind(
        "scattered-zeros",
        ("zeros are not in blocks in {count} of {layers}, for which there is no sparse kernel"),
        Remedy(
            (
                "prune with pattern='1x4' (block_size=(4, 1) of TFMOT) and convert with "
                "EXPERIMENTAL_SPARSITY"
            ),
            "training",
        ),
        """
Dense layers, in a model without 1x1 convolutions, with zeros that are not stored in blocks. TFLite
has a kernel for blocks of four inputs, on every CPU: prune with `block_size=(4, 1)` (here
`pattern="1x4"`) and convert with EXPERIMENTAL_SPARSITY, but not to float16.
""",
    ),
    Kind(
        "x86-avx",
        "this CPU has AVX, so XNNPACK keeps its dense kernels",
        Remedy("claim speed on litert-js, or count instructions on litert@cortex-a53", "runtime"),
        """
XNNPACK has no sparse kernels for x86 with AVX (since 2020-12-08, cfbed0a72f), which is nearly every
CI machine. Claim speed on litert-js, or count instructions on litert@cortex-a53.
""",
    ),
    Kind(
        "no-sparse-build",
        "{release} was built without sparse kernels for this CPU",
        Remedy("claim speed on litert-js, or count instructions on litert@cortex-a53", "runtime"),
        """
The runtime was built without sparse kernels for this CPU, such as tflite-runtime 2.14 for x86.
""",
    ),
    Kind(
        "needs-fp16",
        "{release} has sparse kernels only for ARM CPUs with FP16 arithmetic",
        Remedy("claim speed on litert-js, or count instructions on litert@cortex-a53", "runtime"),
        """
tflite-runtime 2.14 uses sparse kernels only on ARM CPUs with FP16 arithmetic: a Raspberry Pi 5 but
not a 4. LiteRT has no such condition.
""",
    ),
    Kind(
        "delegate-off",
        "{cause}",
        Remedy("give the operators float32 inputs and a bias", "conversion"),
        """
XNNPACK takes no operator of the model, or is off in this build; TFLite's own kernels run it.
""",
    ),
    Kind(
        "too-few-zeros",
        (
            "{layers}: {share:.1%} of the weights in their chain are zero ({zeros} of "
            "{parameters}), and sparse kernels need more than two thirds"
        ),
        Remedy("set at least {missing} more of them to zero: aim at 70 %", "training"),
        """
Not more than two thirds of the 1x1 weights in a chain are zero. The message counts them; a chain is
judged as a whole, so one layer may have fewer if others have more.
""",
    ),
    Kind(
        "entry",
        "{layers}: {cause}",
        Remedy(
            (
                "begin with ZeroPadding2D(1) and Conv2D(n, 3, strides=2, padding='valid') on 3 "
                "channels"
            ),
            "training",
        ),
        """
The chain does not begin as it must: ZeroPadding2D(1), then a 3x3 convolution with stride 2 and
padding 'valid' on 3 channels.
""",
    ),
    Kind(
        "no-exit",
        "{layers}: no global average pool or depth-to-space ends the sparse chain",
        Remedy(
            "end every branch with GlobalAveragePooling2D or, for images, depth_to_space",
            "training",
        ),
        """
No global average pool or depth-to-space ends the chain: nothing leads back to channels-last.
Replace a Flatten, or an average pool over the whole image, by GlobalAveragePooling2D.
""",
    ),
    Kind(
        "not-delegated",
        "{layers}: XNNPACK does not run {operator} before it: {cause}",
        Remedy("replace that operator or move it to the end", "training"),
        """
An operator before these layers is not one that XNNPACK takes, so the chain would begin outside.
""",
    ),
    Kind(
        "incompatible-layer",
        "{layers}: {cause}",
        Remedy("replace it", "training"),
        """
A layer in the chain, or one that reads from it, has no channels-first kernel. The message names it
and says what it would need.
""",
    ),
    Kind(
        "value-leaves",
        (
            "{layers}: a value inside the sparse chain also leaves it, as an output of the "
            "model or to a layer that XNNPACK does not run"
        ),
        Remedy("output something computed from it instead", "conversion"),
        """
A value inside the chain is also an output of the model, or read by an operator that XNNPACK does
not take.
""",
    ),
    Kind(
        "no-hint",
        (
            "no layer that XNNPACK runs has weights behind a DENSIFY, its sign to look for "
            "sparse layers"
        ),
        Remedy("run `pytest-sparsity encode`: one convolution with zeros suffices", "file"),
        """
The model has sparse-encoded weights, but none of them goes through a DENSIFY to a layer that
XNNPACK takes. One suffices for all layers.
""",
    ),
    Kind(
        "below-threshold",
        (
            "fewer zeros than the 30 % that the converter asks for, the first {share:.1%}, keep "
            "{layers} stored densely"
        ),
        Remedy("prune these layers to 30 % or more, better 70 %", "training"),
        """
The converter leaves tensors with fewer than 30 % zeros as they are, so these layers gain nothing.
""",
    ),
    Kind(
        "no-rules",
        (
            "no rules of sparse inference are known for {runtime}: what was observed decides, and "
            "which layers run sparse, and why others do not, is not known"
        ),
        Remedy(
            "see `pytest-sparsity explain` with --target litert-js for what the file is fit for",
            "runtime",
        ),
        """
A target that a plugin or a `conftest.py` added, whose record names no rules of sparse inference.
Whether the model runs sparse kernels and whether its outputs are right is observed; which layers
do, and why others do not, is not known.
""",
    ),
)
