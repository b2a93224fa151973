"""Findings about wrong outputs, on the target or elsewhere."""

from __future__ import annotations

from pytest_sparsity.findings.kinds import Kind, Remedy

KINDS = (
    Kind(
        "does-not-load",
        "{fault}",
        Remedy(
            "see the other findings; without EXPERIMENTAL_SPARSITY the model may run", "conversion"
        ),
        """
The target refuses the model; the message has the runtime's own words. Look at the next finding for
the reason.
""",
    ),
    Kind(
        "crashes",
        "{fault}",
        Remedy(
            "see the other findings; without EXPERIMENTAL_SPARSITY the model may run", "conversion"
        ),
        """
The model was loaded and then failed when it ran, or ended the target's process, as it does where it
reads memory that is not its own. Look at the next finding for the reason; if there is none, and it
fails densely stored too, the target lacks something that the model needs.
""",
    ),
    Kind(
        "outputs-differ",
        "on {target} {comparison}",
        Remedy("do not use this file on this target", "runtime"),
        """
The outputs are not finite, or differ from those of the same weights stored densely or from those of
the reference kernels by more than 1e-4 of the largest output. Do not use the file on this target;
the findings that follow say why.
""",
    ),
    Kind(
        "op-version",
        (
            "{operator} needs version {version}, the newest known is {newest}: the runtime "
            "does not load the model"
        ),
        Remedy(
            "use a newer runtime, or convert with a TensorFlow as old as the runtime", "runtime"
        ),
        """
An operator has a version that the runtime does not know, such as the per-channel dynamic-range
FULLY_CONNECTED (version 12) of TensorFlow 2.21 in tflite-runtime 2.14. Use a newer runtime, or
convert with a TensorFlow as old as the runtime.
""",
    ),
    Kind(
        "dynamic-range-sparse",
        (
            "{operator} has sparse-encoded int8 weights and float input, and XNNPACK reads "
            "them still encoded"
        ),
        Remedy(
            (
                "quantize to float16 instead, or densify the file, or convert without "
                "EXPERIMENTAL_SPARSITY"
            ),
            "file",
        ),
        """
Dynamic-range quantization and EXPERIMENTAL_SPARSITY together: XNNPACK reads the weights before they
are unpacked and refuses the model (TensorFlow 2.21, LiteRT 2.3); LiteRT.js 2.5.3 ignores the
failure and returns garbage. Quantize to float16 instead, or convert without EXPERIMENTAL_SPARSITY.
""",
    ),
    Kind(
        "int8-dense-sparse",
        (
            "{operator} is an int8 Dense layer with sparse-encoded weights, and XNNPACK reads"
            " them still encoded"
        ),
        Remedy(
            (
                "densify the file, or convert without EXPERIMENTAL_SPARSITY: int8 has no sparse "
                "kernels anyway"
            ),
            "file",
        ),
        """
An int8 Dense layer with sparse-encoded weights: as above, in LiteRT 2.3 and LiteRT.js 2.5.3. int8
has no sparse kernels anyway; convert without EXPERIMENTAL_SPARSITY.
""",
    ),
    Kind(
        "fp16-blocks",
        (
            "{operator} reads block-encoded float16 weights that nothing unpacks, so its "
            "output is garbage"
        ),
        Remedy(
            (
                "keep block-pruned Dense layers in float32, or densify the file, or convert "
                "without EXPERIMENTAL_SPARSITY"
            ),
            "file",
        ),
        """
float16 and blocks of zeros (pruned so, or picked by the converter from 96.6 % zeros on): the
converter omits the DENSIFY, and outputs are NaN or the process ends, on every runtime. Keep these
layers in float32, or convert without EXPERIMENTAL_SPARSITY.
""",
    ),
    Kind(
        "blocks-delegated",
        (
            "{operator} has blocks of weights but version {version} instead of 8, so XNNPACK "
            "misreads their encoding"
        ),
        Remedy(
            (
                "densify the file, or convert without EXPERIMENTAL_SPARSITY, or with "
                "_experimental_disable_per_channel_quantization_for_dense_layers=True"
            ),
            "file",
        ),
        """
Dynamic-range quantized Dense layers with 1x16 blocks get version 12 instead of 8, so that XNNPACK
takes them and reads the compressed bytes as weights (TensorFlow 2.21, LiteRT 2.3, LiteRT.js 2.5.3).
Convert with `_experimental_disable_per_channel_quantization_for_dense_layers=True`.
""",
    ),
    Kind(
        "dropped-columns",
        (
            "{operator} has a width of {width}, no multiple of its block of {block}: the last"
            " columns are lost"
        ),
        Remedy(
            "make the width a multiple of {block}, or convert without EXPERIMENTAL_SPARSITY",
            "conversion",
        ),
        """
The width of a layer is no multiple of its block (4, for int8 16). The converter (2.21) drops the
columns behind the last whole block. Make the width a multiple, or convert without
EXPERIMENTAL_SPARSITY.
""",
    ),
    Kind(
        "ledger-overflow",
        (
            "{operator} has {blocks} blocks per row, more than the 255 that TFLite's int8 "
            "kernel can count"
        ),
        Remedy(
            (
                "make the layer at most 4080 wide, or densify the file, or convert without "
                "EXPERIMENTAL_SPARSITY"
            ),
            "file",
        ),
        """
TFLite's int8 kernel for blocks counts the blocks of a row in a byte: more than 255, a width over
4080, give garbage. Split the layer, or convert without EXPERIMENTAL_SPARSITY.
""",
    ),
    Kind(
        "per-channel-blocks",
        (
            "{operator} has 1x16 blocks with one scale per channel, which this runtime's "
            "kernel takes for zero"
        ),
        Remedy(
            (
                "use a newer runtime, or convert with "
                "_experimental_disable_per_channel_quantization_for_dense_layers=True"
            ),
            "runtime",
        ),
        """
tflite-runtime 2.14's kernel for int8 blocks knows one scale per layer only, and gives zeros.
Use a newer runtime, or convert with
`_experimental_disable_per_channel_quantization_for_dense_layers=True`.
""",
    ),
    Kind(
        "no-densify",
        "{operator} reads sparse-encoded weights without a DENSIFY, as if they were dense",
        Remedy(
            (
                "run `pytest-sparsity densify`, or convert the model again with "
                "EXPERIMENTAL_SPARSITY, which inserts DENSIFY"
            ),
            "file",
        ),
        """
An operator other than FULLY_CONNECTED reads sparse-encoded weights without a DENSIFY, as if they
were dense. The converter inserts one; convert again.
""",
    ),
    Kind(
        "never-unpacked",
        (
            "{operator} is not run by XNNPACK, yet the DENSIFY of its float16 weights went "
            "there and never runs"
        ),
        Remedy(
            "keep the weights of this layer in float32, or make it one that XNNPACK runs",
            "conversion",
        ),
        """
Sparse-encoded float16 weights of a layer that XNNPACK does not take (a fused tanh, for instance):
its delegate gives the DEQUANTIZE back to TFLite but keeps the DENSIFY before it, which then nobody
runs. Seen in all four runtimes. Keep these weights in float32, or make the layer one that XNNPACK
takes.
""",
    ),
    Kind(
        "unwritten-output",
        (
            "{operator} pools nothing, so XNNPACK drops it with the activation before it and "
            "writes no output"
        ),
        Remedy("remove the pooling of 1x1 windows", "conversion"),
        """
A pooling of 1x1 windows behind another activation, as the last operator: XNNPACK elides both, and
nothing writes the output any more, which is whatever was in memory. Sparsity has no part in it:
seen with dense models too, in TensorFlow 2.21.0, LiteRT 2.3.0 and LiteRT.js 2.5.3. Remove the
pooling.
""",
    ),
    Kind(
        "wrong-layout",
        "XNNPACK reads the input of {node} in the wrong order, because {cause}",
        Remedy(
            "end every branch with GlobalAveragePooling2D or, for images, depth_to_space",
            "training",
        ),
        """
A sparse chain that begins but does not end (a stride-2 depthwise convolution with padding 'same', a
max pool, a regular convolution, an output of the model in the middle), while another one in the
model does: XNNPACK rewrites it all the same and reads channels-first values as channels-last.
Wherever XNNPACK has sparse kernels the outputs are wrong by 2 % to 100 %; with AVX nothing shows.
Seen in tflite-runtime 2.14.0, LiteRT 2.3.0 and LiteRT.js 2.5.3. The message names the layer that
ends the chain.
""",
    ),
    Kind(
        "set-up-fails",
        (
            "XNNPACK cannot set up {node}: a sparse global average pool with keepdims "
            "announces its output with the dimensions exchanged"
        ),
        Remedy(
            (
                "run `pytest-sparsity repair`, or use GlobalAveragePooling2D(keepdims=False) and "
                "Dense layers behind it"
            ),
            "file",
        ),
        """
Behind a sparse GlobalAveragePooling2D(keepdims=True) stands a 1x1 convolution or a product, and
XNNPACK announces the pool's output with its dimensions exchanged: LiteRT 2.3.0 refuses the model,
LiteRT.js 2.5.3 returns outputs that nothing has written. Use keepdims=False and Dense layers.
""",
    ),
    Kind(
        "permuted-shape",
        (
            "sparse inference exchanges the dimensions of what {node} reads or writes, and "
            "its values come out wrong"
        ),
        Remedy(
            (
                "run `pytest-sparsity repair`, or use GlobalAveragePooling2D(keepdims=False) and "
                "Dense layers behind it"
            ),
            "file",
        ),
        """
The same exchanged dimensions, where what reads them does not fail but computes something else: a
softmax, a PReLU, an operator outside XNNPACK, or a mean over one dimension. Use keepdims=False.
""",
    ),
    Kind(
        "wrong-elsewhere",
        ("right here, but wrong or unusable where there are sparse kernels ({places}){cause}"),
        Remedy("run `pytest-sparsity explain` with --target litert-js", "runtime"),
        """
The outputs are right on this target, which has no sparse kernels, and wrong or none where there are
some: on phones and in browsers. The message has the cause and the remedy.
""",
    ),
)
