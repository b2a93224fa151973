"""The arguments of all commands."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from pytest_sparsity import __version__, defaults
from pytest_sparsity.command_line.commands import (
    command_baselines,
    command_bisect,
    command_explain,
    command_race,
    command_targets,
)
from pytest_sparsity.command_line.files import (
    command_densify,
    command_encode,
    command_prune,
    command_repair,
    command_shrink,
)
from pytest_sparsity.command_line.logs import command_read
from pytest_sparsity.command_line.printing import UNUSABLE
from pytest_sparsity.command_line.values import claim, multiple, seconds, shape, threads


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(UNUSABLE, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; `command` is the function to call."""
    top = Parser(
        prog="pytest-sparsity",
        description="Performance claims about pruned TFLite models.",
        epilog="Exit status: 0 done; 1 a claim that was asked for does not hold, or is inconclusive"
        "; 2 unusable arguments or file; 3 the target cannot run here. Start with: pytest-sparsity"
        " explain MODEL",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=function)
        made.add_argument("--json", action="store_true", help="print one JSON value")
        return made

    explain = add("explain", command_explain, "say which layers run sparse kernels, and why not")
    explain.add_argument("model", metavar="MODEL", help="a .tflite file")
    explain.add_argument(
        "--target",
        metavar="T",
        action="append",
        default=[],
        help="where it is to run, see `targets`; repeatable; default: all that can, emulated CPUs"
        " by the rules",
    )
    explain.add_argument(
        "--rules-only", action="store_true", help="do not run the model, apply the rules to it"
    )
    race = add("race", command_race, "measure two models against each other")
    race.add_argument("dense", metavar="DENSE", help="the .tflite file to compare with")
    race.add_argument("sparse", metavar="SPARSE", help="the .tflite file that is to be better")
    race.add_argument(
        "--target",
        metavar="T",
        default=defaults.TARGET,
        help="where to race, see `targets`; default: %(default)s",
    )
    race.add_argument(
        "--threads",
        metavar="N",
        type=threads,
        default=1,
        help="of the runtime; default: %(default)s",
    )
    race.add_argument(
        "--claim",
        metavar="CLAIM",
        type=claim,
        help="a comparison of the ratio dense / sparse, such as '>= 1.2': exit with status 1 if it"
        " does not hold, or is inconclusive when the budget is spent",
    )
    bisect = add("bisect", command_bisect, "find the releases of a runtime that changed a verdict")
    bisect.add_argument("model", metavar="MODEL", help="a .tflite file")
    bisect.add_argument(
        "--target",
        metavar="T",
        default=defaults.TARGET,
        help="whose releases to try, e.g. litert@cortex-a53; they are installed into the user's"
        " cache and stay there; default: %(default)s",
    )
    bisect.add_argument(
        "--claim",
        metavar="CLAIM",
        default="verdict",
        help="'verdict', 'verdict == sparse', 'outputs match', or of the model against its densely"
        " stored copy 'speedup >= 1.2' or 'instruction_ratio >= 1.2'; default: %(default)s",
    )
    bisect.add_argument("--since", metavar="R", default="", help="the oldest release to try")
    bisect.add_argument("--until", metavar="R", default="", help="the newest release to try")
    encode = add("encode", command_encode, "store zeros sparsely, where that pays")
    densify = add("densify", command_densify, "store all weights densely, without DENSIFY")
    prune = add("prune", command_prune, "set the smallest weights to zero, without any training")
    prune.add_argument(
        "--sparsity",
        metavar="S",
        type=float,
        default=0.8,
        help="share of zeros; default: %(default)g",
    )
    prune.add_argument(
        "--pattern",
        metavar="P",
        default="unstructured",
        help="unstructured, 1x4, 1x16 or m:n; default: %(default)s",
    )
    prune.add_argument(
        "--layers",
        metavar="LAYER",
        nargs="+",
        help="prunable (the default), all, or names and indices as `explain` lists them",
    )
    shrink = add("shrink", command_shrink, "remove channels that nobody needs")
    shrink.add_argument(
        "--multiple",
        metavar="N",
        type=multiple,
        default=8,
        help="layers keep a multiple of N channels, which kernels compute at once; default:"
        " %(default)s",
    )
    repair = add("repair", command_repair, "rewrite exactly what keeps a file from running sparse")
    repair.add_argument(
        "--target",
        metavar="T",
        default=defaults.SPARSE_TARGET,
        help="where it is to run sparse, see `targets`; default: %(default)s",
    )
    repair.add_argument(
        "--no-race",
        dest="race",
        action="store_false",
        help="keep what the rules say is better; default: what a race shows to be faster",
    )
    for made in (race, bisect, repair):
        made.add_argument(
            "--budget",
            metavar="S",
            type=seconds,
            default=defaults.BUDGET,
            help="seconds to race; default: %(default)g",
        )
    for made in (explain, race, bisect, repair):
        made.add_argument(
            "--inputs",
            metavar="F",
            help="an .npz file of arrays by the names of the inputs; default: inputs are drawn",
        )
        made.add_argument(
            "--shape",
            metavar="NAME=1,224,224,3",
            type=shape,
            action="append",
            help="the shape of an input whose sizes the file leaves open; repeatable",
        )
    for made in (encode, densify, prune, shrink, repair):
        made.add_argument("model", metavar="MODEL", help="a .tflite file")
        made.add_argument(
            "-o", "--output", metavar="OUT", required=True, type=Path, help="the file to write"
        )
    read = add("read", command_read, "read logs of benchmark_model and litert-benchmark")
    read.add_argument(
        "logs",
        metavar="LOG",
        nargs="+",
        help="a log, or the JSON of litert-benchmark; of two models their ratio is told",
    )
    targets = add("targets", command_targets, "list where models can run")
    targets.add_argument(
        "names",
        metavar="T",
        nargs="*",
        help="also these, such as litert@ssh:HOST; phones that are connected are listed by itself",
    )
    targets.add_argument("--install", metavar="T", help="install what this target needs")
    baselines = add("baselines", command_baselines, "list recorded values, or how they changed")
    baselines.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        default="baselines",
        type=Path,
        help="of the recorded values; default: %(default)s",
    )
    baselines.add_argument("--since", metavar="REV", help="show what changed since this revision")
    baselines.add_argument("--until", metavar="REV", help="and until this one")
    return top
