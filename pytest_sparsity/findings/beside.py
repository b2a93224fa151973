"""Findings about size, and about speed and memory beside the kernels."""

from __future__ import annotations

from pytest_sparsity.findings.kinds import Kind, Remedy

SIZE = (
    Kind(
        "file-larger",
        (
            "the sparse encoding makes the file {grown} bytes larger ({share:.1%}): {after} "
            "instead of {before}"
        ),
        Remedy(
            (
                "densify the file (or convert without EXPERIMENTAL_SPARSITY) and compress it, or "
                "prune more"
            ),
            "file",
        ),
        """
The file is larger than the same weights stored densely. Small layers, few zeros and int8 make it
so; compressed, encoded int8 files are nearly always larger.
""",
    ),
    Kind(
        "encoding-larger",
        (
            "encoding makes {layer_name} {grown} bytes larger ({dtype}, {sparsity:.0%} "
            "zeros): {needs}"
        ),
        Remedy("leave this layer unpruned, or convert without EXPERIMENTAL_SPARSITY", "conversion"),
        """
One layer is larger encoded than densely stored. The message has the share of zeros from which it
would shrink, if there is one: per nonzero an index of one byte (to 256 inputs) or two is stored.
""",
    ),
)

COSTS = (
    Kind(
        "dead-channels",
        (
            "no output depends on {channels} of {layers}, the first {first}; without these "
            "the file has {saved:,} bytes less ({share:.1%})"
        ),
        Remedy("run `pytest-sparsity shrink`", "file"),
        """
Channels whose every reader has zero weights for them, or that are zero themselves. Kernels compute
them all the same, dense ones and sparse ones, on every target. `pytest-sparsity shrink` removes
them exactly. Counted are those that it would remove, leaving layers a multiple of 8 channels.
""",
    ),
    Kind(
        "other-layers",
        (
            "the prunable layers take {share:.0%} of the time with dense kernels (profile of "
            "{target} on this machine), so pruning them makes the model at most about "
            "{limit:.2f} times as fast, give or take {margin:.0%}"
        ),
        Remedy(
            "claim a smaller ratio, or shrink the other layers (entry, depthwise, regular "
            "convolutions)",
            "training",
        ),
        """
By Amdahl's law, the layers that pruning speeds up take too small a share of the time for the whole
model to become much faster. The share is from the target's own profile of dense kernels, so only
LiteRT tells.
""",
    ),
    Kind(
        "subnormal-weights",
        (
            "{count} of {parameters} weights of {layer_name} are subnormal, and {who} does "
            "not take them for zero: arithmetic with them is slow{flushed}"
        ),
        Remedy("set them to zero before converting: w[abs(w) < 1.2e-38] = 0", "conversion"),
        """
Weights so small that arithmetic with them is slow where it is not flushed to zero: in WebAssembly,
in TFLite's own kernels (fused LSTM, blocks), not in XNNPACK on x86 and ARM. A probe tells. Set them
to zero.
""",
    ),
    Kind(
        "sme",
        (
            "this CPU has SME, with which one instruction of a dense kernel does the work of "
            "many; the sparse kernels are those of NEON, so pruning may be slower here"
        ),
        Remedy("race on the device; a ratio from a CPU without SME does not carry over", "runtime"),
        """
On CPUs with SME (Apple's M4 and later, Arm's C1) XNNPACK runs dense float32 layers with KleidiAI's
kernels of SME, but a sparse file still gets the sparse kernels of NEON: its gate asks nothing about
SME (`hardware-config.h`). On an emulated core with vectors of 256 bits (`litert@sme`, LiteRT 2.3.0)
MobileNetV1 takes 2.8 times as many instructions with 75 % zeros as dense, and 1.4 times with 90 %.
That is a count and not a time. Race on the device itself.
""",
    ),
    Kind(
        "threads",
        "{cause}",
        Remedy("claim with threads=1", "runtime"),
        """
tflite-runtime is slower with several threads on small models: 21 instead of 13 us for a small MLP.
And TFLite's kernels for blocks share out the rows of the batch (`sparse_ops/fully_connected.h`):
with a batch of one they use one thread, while dense kernels use all. Claim with threads=1, or claim
less.
""",
    ),
    Kind(
        "memory",
        (
            "the runtime unpacks the sparse-encoded weights into {megabytes:.1f} MB of memory"
            " while the model is loaded; the file is {smaller} for it"
        ),
        Remedy(
            (
                "claim the size of the file, not of memory, where dense weights stay in the "
                "mapped file"
            ),
            "",
        ),
        """
The runtime unpacks sparse-encoded weights and keeps the copies, so memory grows as the file
shrinks.
""",
    ),
    Kind(
        "unaligned-channels",
        (
            "numbers of output channels that are no multiple of {step}, in {layers}: the first is "
            "{layer_name} with {channels}, which cost as much as {rounded}"
        ),
        Remedy(
            "remove channels in steps of 8, better 16: {lower} instead of {channels}", "training"
        ),
        """
Dense kernels compute 8, 16 or (with AVX-512) 32 output channels at once; a remainder costs as much
as a whole step. Remove channels in steps of 8, better 16 or 32.
""",
    ),
)

NOTES = (
    Kind(
        "needs-inputs",
        "{fault}",
        Remedy("give inputs that the model takes: inputs= or --inputs FILE.npz", ""),
        """
The model fails on the inputs that were drawn for it, however its weights are stored: an integer
that is no row of a table, a length that is none. That says nothing about the model. Its verdict is
that of the rules, and `outputs_match` is None. Give inputs that it takes:
`diagnose(model, inputs={"tokens": ids})`, `@pytest.mark.race(inputs="samples.npz")`, or
`--inputs samples.npz`.
""",
    ),
    Kind(
        "constant-output",
        "the outputs on {target} do not depend on the inputs, so comparing them shows nothing",
        Remedy(
            (
                "give inputs that matter to the model (inputs= or --inputs FILE.npz), or trained "
                "weights, or random ones that keep its activations alive"
            ),
            "",
        ),
        """
The outputs are the same whatever the inputs, also for inputs of several scales and signs, constant
ones and ones that change in steps: activations are dead or the weights are tiny, as in a deep
network that was never trained. Comparing such outputs shows nothing, so the verdict rests on the
rules.
""",
    ),
    Kind(
        "not-compared",
        "the outputs on {target} were compared with nothing: {cause}",
        Remedy(
            "compare them with those of the network it was made from: properties.same_outputs", ""
        ),
        """
The outputs were compared with nothing, and `outputs_match` is None: the model is stored densely and
the target has no other kernels (LiteRT.js), its tensors are quantized, or it draws random numbers.
A model that is stored sparsely is always compared with its densely stored copy.
""",
    ),
    Kind(
        "output-shape",
        (
            "the output of {node} comes with shape {shape} instead of {declared} in sparse "
            "inference, its values right"
        ),
        Remedy(
            "use GlobalAveragePooling2D(keepdims=False), or reshape what the model returns",
            "conversion",
        ),
        """
In sparse inference a GlobalAveragePooling2D(keepdims=True) at the end returns [n, c, 1, 1] instead
of [n, 1, 1, c]; the values are right (LiteRT 2.3.0, LiteRT.js 2.5.3).
""",
    ),
    Kind(
        "keeps-state",
        (
            "{keeper} keeps a state from one inference to the next, so the same input gives other "
            "outputs the second time"
        ),
        Remedy("use a fresh interpreter per sequence", ""),
        """
A fused LSTM, or variables that the model assigns (a streaming network), keep a state between
inferences, so the same input gives other outputs the second time. Use a fresh interpreter per
sequence; an LSTM can be converted with `unroll=True` instead.
""",
    ),
    Kind(
        "rules-unverified",
        ("no rules are known for {version}: those of {release}, the nearest release, are applied"),
        Remedy("install {release}", "runtime"),
        """
The rules were read and tested for another version of the runtime. What is observed is right all the
same.
""",
    ),
)
