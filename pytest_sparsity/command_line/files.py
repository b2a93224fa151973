"""The commands that make a file of a file."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pytest_sparsity.command_line.printing import put, show
from pytest_sparsity.errors import Unsupported

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from pytest_sparsity.model import Model


def model_of(options: argparse.Namespace) -> Model:
    """Read the model; refuse to write over it, which leaves nothing to compare with.

    Raises:
        ValueError: the file to write is the one to read, also by a link or another path.
        OSError, ModelError: the file cannot be read.
    """
    from pytest_sparsity.model import Model

    output: Path = options.output
    if output.exists() and output.samefile(options.model):
        raise ValueError(f"{output}: -o would replace the file that is read; name another one")
    return Model(options.model)


def command_encode(options: argparse.Namespace) -> None:
    """Write a model with its zeros stored sparsely; say where it then computes wrong outputs."""
    from pytest_sparsity.transform import encode

    before = model_of(options)
    say_written(options, before, encode(before, options.output), warns=True)


def command_densify(options: argparse.Namespace) -> None:
    """Write a model with all its weights stored densely."""
    from pytest_sparsity.transform import densify

    before = model_of(options)
    say_written(options, before, densify(before, options.output), warns=False)


def command_prune(options: argparse.Namespace) -> None:
    """Write a model with the smallest weights of its layers set to zero."""
    from pytest_sparsity.transform import prune

    before = model_of(options)
    layers = options.layers or ["prunable"]
    word = layers[0] if layers in (["prunable"], ["all"]) else layers
    after = prune(
        before, options.output, sparsity=options.sparsity, pattern=options.pattern, layers=word
    )
    say_written(options, before, after, warns=False)
    if not options.json:
        print("nothing was trained: the model computes something else, its accuracy is unknown")


def command_shrink(options: argparse.Namespace) -> None:
    """Write a model without the channels that nobody needs."""
    from pytest_sparsity.report import written
    from pytest_sparsity.transform import dead_channels, shrink

    before = model_of(options)
    dead = sum(layer.before - layer.after for layer in dead_channels(before, 1))
    shrunk = shrink(before, options.output, multiple=options.multiple)
    if options.json:
        put(written.shrunk_json(before, shrunk, dead - shrunk.channels))
    else:
        show(written.shrunk_lines(before, shrunk, dead - shrunk.channels))


def command_repair(options: argparse.Namespace) -> None:
    """Write a model that runs sparse kernels, rightly and faster, as far as that can be."""
    from pytest_sparsity.repairing import repair
    from pytest_sparsity.report import written
    from pytest_sparsity.targets import Target

    before, target = model_of(options), Target.of(options.target)
    repaired = repair(
        before,
        options.output,
        target=target,
        race=options.race,
        budget=options.budget,
        inputs=options.inputs,
        shapes=dict(options.shape or ()),
    )
    if options.json:
        put(written.repaired_json(before, repaired, target))
    else:
        show(written.repaired_lines(before, repaired, target))


def say_written(options: argparse.Namespace, before: Model, after: Model, *, warns: bool) -> None:
    """Say what a command has made of a model."""
    from pytest_sparsity.diagnosis import diagnose
    from pytest_sparsity.report import written
    from pytest_sparsity.targets import all_targets
    from pytest_sparsity.xnnpack import WRONG

    harm = []
    for target in all_targets() if warns else ():
        with contextlib.suppress(Unsupported):  # a target without rules: nothing is known of it
            diagnosis = diagnose(after, target, observe=False)
            if diagnosis.verdict in WRONG:
                harm.append(diagnosis)
    if options.json:
        put(written.as_json(before, after, harm))
    else:
        print("\n".join(written.lines(before, after, harm)))
