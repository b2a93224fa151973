"""The builds of XNNPACK inside the runtimes: what differs between them, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace

AVX = frozenset({"avx", "avx2", "avx512f"})


@dataclass(frozen=True)
class Build:
    """XNNPACK and its TFLite delegate in one version of a runtime.

    Attributes:
        runtime, version: of the runtime.
        source: the commits the rules were read at.
        gate: when XNNPACK uses sparse kernels: "no-avx" (x86 without AVX; all others),
            "arm-fp16" (ARM with FP16 arithmetic only).
        gate_source: where the gate was read or seen.
        modern: the sparse rewrite as of 2025-01 (8dffc30dc5): fully connected layers take part,
            all unary operators do, a reduction announces permuted shapes.
        checks_channels: since a3fc80e2be (2026-07-10).
        int8: delegates int8 operators.
        int8_reads_file: the delegate takes int8 FULLY_CONNECTED weights from the file even where
            a DENSIFY would have to unpack them (LiteRT 42f7eb217, 2025-04-17).
        fp16_direct: float16 weights are not widened to float32 first (LiteRT bee71230e).
        per_channel_blocks: the builtin 1x16 block kernel knows per-channel scales.
        reports_failures: a model whose subgraph cannot be set up does not load. LiteRT.js 2.5.3
            ignores the failure and hands out outputs that nothing has written (seen).
        versions: the newest version of an operator that the runtime has, where older than
            TensorFlow 2.21's.
    """

    runtime: str
    version: str
    source: str
    gate: str
    gate_source: str
    modern: bool = True
    checks_channels: bool = False
    int8: bool = True
    int8_reads_file: bool = True
    fp16_direct: bool = True
    per_channel_blocks: bool = True
    reports_failures: bool = True
    versions: tuple[tuple[str, int], ...] = ()


_LITERT = Build(
    "litert",
    "2.3.0",
    "LiteRT 19a1585ff (2026-08-14), XNNPACK 8388bd7869 (2026-08-11)",
    gate="no-avx",
    gate_source="xnn_is_chw_compatible_config, src/xnnpack/hardware-config.h",
    checks_channels=True,
)

BUILDS = (
    _LITERT,
    replace(
        _LITERT,
        runtime="litert-js",
        version="2.5.3",
        source="LiteRT c3390e34c (2026-07-16), XNNPACK efa2e754e3 (2026-07-10)",
        checks_channels=False,
        reports_failures=False,
    ),
    replace(
        _LITERT,
        runtime="tensorflow",
        version="2.21.0",
        source="behaviour of the 2.21.0 wheel",
        gate_source="the x86-64 wheel needs AVX, and with AVX XNNPACK has no sparse kernels",
        checks_channels=False,
        int8_reads_file=False,
    ),
    Build(
        "tflite-runtime",
        "2.14.0",
        "XNNPACK b9d4073a69 (2023-04-09)",
        gate="arm-fp16",
        gate_source="XNNPACK 453c125d56 (2023-03-29), mended in 41e87ce3ab (2023-04-18)",
        modern=False,
        int8=False,
        int8_reads_file=False,
        fp16_direct=False,
        per_channel_blocks=False,
        versions=(("FULLY_CONNECTED", 11),),
    ),
)


def build_of(runtime: str, version: str) -> tuple[Build, bool]:
    """The build whose rules apply, and whether they were verified for exactly this version.

    Raises:
        ValueError: no rules are known for the runtime.
    """
    for build in BUILDS:
        if build.runtime == runtime:
            return build, build.version == version
    known = ", ".join(build.runtime for build in BUILDS)
    raise ValueError(f"no rules are known for the runtime {runtime!r}; known are {known}")


def gate_closed(build: Build, arch: str, features: frozenset[str]) -> str:
    """The code of the finding that says why sparse kernels are off on a CPU; "" if they are on."""
    x86 = arch in {"x86_64", "x86"}
    if build.gate == "arm-fp16":
        if x86 or not arch.startswith(("aarch64", "arm")):
            return "no-sparse-build"
        return "" if features & {"asimdhp", "fphp"} else "needs-fp16"
    if x86 and (build.runtime == "tensorflow" or features & AVX):
        return "x86-avx"
    return ""
