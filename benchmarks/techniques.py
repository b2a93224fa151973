"""Every technique of pruning on every target: does it build, how large, what runs, is it right.

    python benchmarks/techniques.py [docs/techniques.md]

Writes two tables. The first crosses techniques with the targets that can run here; every verdict
is observed, by running the file. The second has the sizes of larger networks. All weights are
random: sizes and verdicts hardly depend on what a network has learnt, accuracy would. What was
built before is taken from the user's cache; without it this takes a quarter of an hour.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity import Model, Target, Variants, build_variants, diagnose, prunable_layers, zoo
from pytest_sparsity.errors import TargetError, one_line
from pytest_sparsity.machine import this_machine
from pytest_sparsity.properties import gzip_nbytes
from pytest_sparsity.variants.converter import ConversionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = Path(__file__).parent.parent / "docs" / "techniques.md"
TARGETS = ("litert", "tflite-runtime", "tensorflow", "litert-js")

INTRODUCTION = """# Techniques and targets

This page is written by `python benchmarks/techniques.py`; every cell is from that run:
{versions}, on {machine}.

"gzip" is the file as `gzip -9` ships it. Sizes are in bytes, and in brackets as a share of those of
the dense file, which is quantized or clustered if the others are. A verdict is what was observed on
a target: sparse kernels ran (in all prunable layers, or in so many of them), all kernels were
dense, the answers were wrong by so much of the largest output, or the file does not load; and the
first finding, which [findings](findings.md) explains. The weights are random.
"""


@dataclass(frozen=True)
class Technique:
    """One way to prune one network; which of the three files is meant."""

    network: str
    name: str
    build: Callable[[], Any]
    options: dict[str, Any] = field(default_factory=dict)
    role: str = "sparse"


def small_mobilenet() -> Any:
    return zoo.mobilenet_v1(size=96, alpha=0.25, classes=100)


def images() -> Any:
    import numpy as np

    return list(np.random.default_rng(0).random((4, 1, 96, 96, 3), np.float32))


def vectors() -> Any:
    import numpy as np

    return list(np.random.default_rng(0).random((4, 1, 768), np.float32))


def decay() -> Any:
    import tensorflow_model_optimization as tfmot

    return tfmot.sparsity.keras.PolynomialDecay(0.5, 0.75, begin_step=0, end_step=8, frequency=1)


def train(network: Any, callbacks: list[Any]) -> None:
    """Train for eight steps on noise; the networks have a fixed batch of one."""
    import numpy as np
    import tf_keras as keras

    rng = np.random.default_rng(0)
    inputs = rng.random((8, *network.input_shape[1:]), np.float32)
    labels = rng.integers(0, network.output_shape[-1], 8)
    optimizer = keras.optimizers.SGD(1e-4)
    network.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(inputs, labels, batch_size=1, verbose=0, callbacks=callbacks)


def in_fours() -> Any:
    """Return a policy of all convolutions and dense layers whose inputs come in fours."""
    import tensorflow_model_optimization as tfmot

    class InFours(tfmot.sparsity.keras.PruningPolicy):  # type: ignore[misc]
        def allow_pruning(self, layer: Any) -> bool:
            kind = type(layer).__name__
            return kind in {"Conv2D", "Dense"} and layer.kernel.shape[-2] % 4 == 0

        def ensure_model_supports_pruning(self, model: Any) -> None:
            """Any model will do."""

    return InFours()


def techniques() -> Iterator[Technique]:
    """All rows of the first table."""
    convolutional = partial(Technique, "MobileNetV1 0.25 96x96")
    connected = partial(Technique, "perceptron 768-1024-1024-10")
    for kind, build, policy, samples in (
        (convolutional, small_mobilenet, "xnnpack", images),
        (connected, zoo.mlp, "all", vectors),
    ):
        options: dict[str, Any] = {"sparsity": 0.75, "policy": policy}
        int8 = {**options, "quantize": "int8", "representative": samples}
        yield kind("75 %, stored densely", build, options, "pruned")
        yield kind("75 %", build, options)
        yield kind(
            "50 to 75 % while training",
            build,
            {"policy": policy, "schedule": decay, "finetune": train},
        )
        yield kind("90 %", build, {**options, "sparsity": 0.9})
        yield kind("2:4", build, {"pattern": "2:4", "policy": policy})
        yield kind("75 %, float16", build, {**options, "quantize": "float16"})
        yield kind("75 %, dynamic range", build, {**options, "quantize": "dynamic"})
        yield kind("75 %, int8", build, int8)
        yield kind("75 %, int8, stored densely", build, int8, "pruned")
        channels = {"pattern": "channels", "policy": "all", "sparsity": 0.5}
        aware = {**options, "quantize": "qat", "finetune": train}
        yield kind("75 %, int8 by training", build, aware)
        yield kind("75 %, int8 by training, stored densely", build, aware, "pruned")
        yield kind("75 %, 16 clusters", build, {**options, "clusters": 16})
        yield kind(
            "75 %, 16 clusters, int8 by training", build, {**aware, "clusters": 16}, "pruned"
        )
        yield kind("half of the channels", build, channels)
        yield kind("half of the channels, int8", build, {**int8, **channels})
    every = {"policy": "all"}
    yield connected("99 %", zoo.mlp, {**every, "sparsity": 0.99})
    yield connected("99 %, float16", zoo.mlp, {**every, "sparsity": 0.99, "quantize": "float16"})
    yield connected("blocks 1x4, 90 %", zoo.mlp, {**every, "pattern": "1x4", "sparsity": 0.9})
    yield connected(
        "blocks 1x16, 90 %, int8",
        zoo.mlp,
        {
            **every,
            "pattern": "1x16",
            "sparsity": 0.9,
            "quantize": "int8",
            "representative": vectors,
        },
    )


def sizes() -> Iterator[Technique]:
    """All rows of the second table."""
    large: dict[str, Callable[[], Any]] = {
        "InceptionV3": zoo.inception_v3,
        "MobileNetV1": zoo.mobilenet_v1,
        "MobileNetV2": zoo.mobilenet_v2,
    }
    for network, build in large.items():
        for sparsity in (0.5, 0.75, 0.875):
            options = {"policy": "all", "sparsity": sparsity}
            yield Technique(network, f"{100 * sparsity:g} %", build, options)
        yield Technique(network, "2:4", build, {"pattern": "2:4", "policy": in_fours()})
    yield Technique("DS-CNN-L", "80 %", zoo.ds_cnn, {"policy": "all", "sparsity": 0.8})
    for sparsity in (0.8, 0.9):
        options = {"policy": "all", "sparsity": sparsity}
        yield Technique("LSTM translator", f"{100 * sparsity:g} %", zoo.translator, options)


def share(ours: int, dense: int) -> str:
    return f"{ours:,} ({ours / dense:.2f})"


def verdict(model: Model, dense: Model, target: str) -> tuple[str, str]:
    """What happens on a target, in few words, and whether the outputs match."""
    missing = Target.of(target).missing()
    if missing is not None:
        return "cannot run here", ""
    try:
        diagnosis = diagnose(model, target, dense=dense)
    except TargetError as error:
        return f"{type(error).__name__}", "no"
    reason = f": {diagnosis.findings[0].code}" if diagnosis.findings else ""
    prunable = [diagnosis.kernels[x.index] for x in prunable_layers(model)]
    running = [kernel for kernel in prunable if kernel in {"sparse", "block"}]
    if diagnosis.verdict == "sparse":
        of = "" if len(running) == len(prunable) else f" {len(running)} of {len(prunable)}"
        blocks = " (blocks)" if "block" in running else ""
        reason = f"{of}{blocks}"
    if diagnosis.verdict == "miscomputes":
        reason = f" by {diagnosis.deviation:.1g}{reason}"
    words = {"miscomputes": "**wrong**", "fails": "**fails**"}
    return f"{words.get(diagnosis.verdict, diagnosis.verdict)}{reason}", (
        "yes" if diagnosis.outputs_match else "no"
    )


def build(technique: Technique) -> Variants | str:
    """Build the files, or say why not."""
    print(technique.network, technique.name, flush=True)
    try:
        return build_variants(technique.build, **technique.options)
    except (ConversionError, ValueError) as error:
        return one_line(error)


def technique_row(technique: Technique) -> list[str]:
    files = build(technique)
    if isinstance(files, str):
        return [technique.name, f"no: {files}", *[""] * (3 + len(TARGETS))]
    model: Model = getattr(files, technique.role)
    seen = [verdict(model, files.dense, target) for target in TARGETS]
    wrong = [name for name, (_, match) in zip(TARGETS, seen, strict=True) if match == "no"]
    return [
        technique.name,
        "yes",
        share(model.nbytes, files.dense.nbytes),
        share(gzip_nbytes(model), gzip_nbytes(files.dense)),
        *(text for text, _ in seen),
        "yes" if not wrong else f"not on {', '.join(wrong)}",
    ]


def size_row(technique: Technique) -> list[str]:
    files = build(technique)
    if isinstance(files, str):
        return [technique.network, technique.name, f"no: {files}", *[""] * 6]
    raw = files.dense.nbytes
    gz = [gzip_nbytes(model) for model in (files.dense, files.pruned, files.sparse)]
    return [
        technique.network,
        technique.name,
        f"{raw:,}",
        share(files.sparse.nbytes, raw),
        *(f"{each:,}" for each in gz),
        f"{raw / gz[1]:.1f}, {gz[0] / gz[1]:.1f}",
        *(verdict(files.sparse, files.dense, target)[0] for target in ("litert", "litert-js")),
    ]


def call(technique: Technique) -> str:
    """How a technique is asked for, less what is a matter of the network."""
    options = {name: value for name, value in technique.options.items() if name != "policy"}
    written = [
        f"{name}={getattr(value, '__name__', None) or repr(value)}"
        for name, value in options.items()
    ]
    return f"`variants({', '.join(['build', *written])}).{technique.role}`"


def table(heading: list[str], rows: Iterator[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield f"| {' | '.join('---' for _ in heading)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def page() -> Iterator[str]:
    names = ("tensorflow", "tensorflow-model-optimization", "tflite-runtime", "ai-edge-litert")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    machine = this_machine()
    where = f"{machine.brand} ({machine.isa})"
    yield INTRODUCTION.format(versions=versions, machine=where)
    rows = list(techniques())
    yield "## How to ask for them\n"
    calls = {row.name: call(row) for row in reversed(rows)}
    asked = ([name, calls[name]] for name in dict.fromkeys(row.name for row in rows))
    yield from table(["technique", "file"], asked)
    yield ""
    heading = ["technique", "builds", "size", "gzip", *TARGETS, "outputs match"]
    for network in dict.fromkeys(row.network for row in rows):
        yield f"## {network}\n"
        mine = (technique_row(row) for row in rows if row.network == network)
        yield from table(heading, mine)
        yield ""
    yield "## Sizes of larger networks\n"
    yield (
        "Every layer that TFMOT can prune is pruned; for 2:4 it is what has inputs in fours.\n"
        '"times smaller" is the dense file over the compressed pruned one, then both compressed.\n'
    )
    heading = ["network", "zeros", "dense", "sparse", "dense, gzip", "pruned, gzip"]
    heading += ["sparse, gzip", "times smaller", "litert", "litert-js"]
    yield from table(heading, (size_row(row) for row in sizes()))


def main(path: Path = PAGE) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    text = "\n".join(page()) + "\n"
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
