"""What XNNPACK and its TFLite delegate changed that a rule of ours depends on, and since when.

A rule never asks for a version: it asks `release.has("fc-in-rewrite")`, and `releases.py` knows
which release has which sources. To follow XNNPACK, add a row here and ask for it in the rule.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """One change of the sources.

    Attributes:
        name: what rules ask for; it says what is the case since then.
        where: "XNNPACK", "TFLite" (the delegate and TFLite's own kernels, LiteRT's included).
        date: when it came to the main branch, UTC; for one that has no commit, the first release
            in which it was seen.
        commit: of XNNPACK or LiteRT, "" where it is only seen in releases.
        what: what changed, as a clause.
    """

    name: str
    where: str
    date: str
    commit: str
    what: str


CHANGES = {
    change.name: change
    for change in (
        # src/configs, src/xnnpack/hardware-config.h: the gate of the rewrite.
        Change(
            "chw-gate-asks-fp16",
            "XNNPACK",
            "2023-03-29T21:20Z",
            "453c125d56",
            "sparse kernels need an ARM CPU with FP16 arithmetic",
        ),
        Change(
            "chw-gate-mended",
            "XNNPACK",
            "2023-04-18T16:44Z",
            "41e87ce3ab",
            "sparse kernels need a CPU without AVX if it is x86, else nothing",
        ),
        # src/configs/{gemm,pack-lh}-config.c: the dense kernels.
        Change(
            "sme-kernels",
            "XNNPACK",
            "2025-12-12T22:35Z",
            "",
            "dense float32 kernels use SME where the CPU has it (KleidiAI's; seen in LiteRT 2.1.0)",
        ),
        # src/subgraph.c: the rewrite for sparse inference.
        Change(
            "static-mean-in-rewrite",
            "XNNPACK",
            "2024-10-07T12:42Z",
            "813a14bf6e",
            "any mean or sum of an image ends a cluster, and announces its shape permuted",
        ),
        Change(
            "every-unary-in-rewrite",
            "XNNPACK",
            "2024-10-28T09:30Z",
            "2e439340e6",
            "every unary operator is channels-first, and binary ones apply no clamp themselves",
        ),
        Change(
            "fc-in-rewrite",
            "XNNPACK",
            "2025-01-13T11:10Z",
            "8dffc30dc5",
            "fully connected nodes are channels-first, and 1x1 convolutions become such nodes",
        ),
        Change(
            "repeated-input-counts-once",
            "XNNPACK",
            "2025-06-27T15:56Z",
            "0aa15678ff",
            "a node that reads a value twice is one consumer of it",
        ),
        # src/subgraph.c: rewrites that run before it.
        Change(
            "squares-in-reduce",
            "XNNPACK",
            "2025-09-05T15:27Z",
            "dec0455df6",
            "x*x is a square, and a mean or sum of squares is one node",
        ),
        Change(
            "scalar-minmax-is-clamp",
            "XNNPACK",
            "2025-10-29T13:22Z",
            "e9bc43cef4",
            "a minimum or maximum with a constant scalar is a clamp",
        ),
        Change(
            "spurious-clamp-elided",
            "XNNPACK",
            "2025-10-29T13:22Z",
            "e9bc43cef4",
            "a clamp without bounds disappears, against writers that may be out of date",
        ),
        Change(
            "broadcast-minmax-stays",
            "XNNPACK",
            "2026-02-17T19:16Z",
            "82367b51bf",
            "a minimum or maximum whose scalar has more dimensions stays what it is",
        ),
        # src/subgraph/{fully-connected,convolution-2d,depthwise-convolution-2d}.c: set-up.
        Change(
            "reshape-checks-input",
            "XNNPACK",
            "2026-03-26T21:47Z",
            "d45f4523b3",
            "the elements of an input must divide by the channels, and an image has 3 dimensions",
        ),
        Change(
            "fc-checks-channels",
            "XNNPACK",
            "2026-07-13T11:45Z",
            "a3fc80e2be",
            "a fully connected node compares its input's last dimension with its weights",
        ),
        Change(
            "convolution-checks-channels",
            "XNNPACK",
            "2026-07-17T08:33Z",
            "599a1be6e4",
            "a convolution compares its input's last dimension with its weights",
        ),
        # The delegate and TFLite's own kernels.
        Change(
            "delegates-2024-operators",
            "TFLite",
            "2024-09-04",
            "",
            "GELU, RSQRT and BATCH_MATMUL are delegated",
        ),
        Change(
            "delegates-dynamic-range",
            "TFLite",
            "2024-09-04",
            "",
            "int8 weights with float32 input are delegated",
        ),
        Change(
            "means-any-axes",
            "TFLite",
            "2024-09-04",
            "",
            "a MEAN over any axes is delegated, not only over width, or height and width",
        ),
        Change(
            "sums-any-axes",
            "TFLite",
            "2025-02-05",
            "",
            "a SUM over any axes is delegated, not only over width, or height and width",
        ),
        Change("delegates-int8", "TFLite", "2025-02-05", "", "int8 operators are delegated"),
        Change(
            "per-channel-blocks",
            "TFLite",
            "2025-02-05",
            "",
            "the builtin kernel for 1x16 blocks knows per-channel scales",
        ),
        Change(
            "delegates-approximate-gelu",
            "TFLite",
            "2025-02-26T16:19Z",
            "056b024aa",
            "an approximate GELU is delegated, not only an exact one",
        ),
        Change(
            "delegates-sin-cos",
            "TFLite",
            "2025-04-01T10:16Z",
            "eed001379",
            "SIN and COS are delegated",
        ),
        Change("delegates-exp", "TFLite", "2025-04-07T16:40Z", "38a3cef6b", "EXP is delegated"),
        Change(
            "delegates-extremes",
            "TFLite",
            "2025-05-08T09:11Z",
            "354d90783",
            "REDUCE_MAX and REDUCE_MIN are delegated",
        ),
        Change(
            "fc-behind-reshape",
            "TFLite",
            "2025-05-21T18:11Z",
            "b0b8578a8",
            "a FULLY_CONNECTED that flattens its input has a reshape node before it",
        ),
        Change(
            "fp16-weights-direct",
            "TFLite",
            "2025-06-10T18:34Z",
            "bee71230e",
            "float16 weights are not widened to float32 first",
        ),
        Change(
            "int8-fc-reads-file",
            "TFLite",
            "2026-04-16T12:27Z",
            "f83ab5e7f",
            "int8 FULLY_CONNECTED weights come from the file even where a DENSIFY unpacks them",
        ),
        Change("delegates-log", "TFLite", "2026-05-21T13:52Z", "a4460674e", "LOG is delegated"),
    )
}
"""All changes by name, in groups by the file that changed, the oldest first."""
