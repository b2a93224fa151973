"""The command line: the same engine for people and for other programs.

Exit status: 0 done; 1 a claim that was asked for does not hold, or is undecided; 2 unusable
arguments or file, also one that crashes or hangs the runtime; 3 the target cannot run here. What is
wrong is one line on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import operator
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_sparsity import __version__, defaults, progress
from pytest_sparsity.errors import (
    CannotMeasure,
    Inconclusive,
    NeedsInputs,
    TargetError,
    Unsupported,
    WrongAnswers,
    one_line,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_sparsity.diagnosis import Diagnosis
    from pytest_sparsity.model import Model
    from pytest_sparsity.targets import Target

DONE, REFUTED, UNUSABLE, CANNOT_RUN = 0, 1, 2, 3
INTERNAL = 1


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(UNUSABLE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a locale cannot spell is spelt out
            stream.reconfigure(errors="backslashreplace")
    options = parser().parse_args(arguments)
    try:
        if sys.stdout is None:
            raise ValueError("standard output is closed: there is nowhere to print to")
        with progress.shown(None if options.json else terminal_line()):
            status = options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as with `| head`
        assert sys.stdout is not None
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return refuse(*fault(error))
    else:
        return status or DONE
    return DONE


def terminal_line() -> progress.Line | None:
    """Return what shows on stderr what takes long, if that is a terminal."""
    return progress.Line(sys.stderr) if progress.is_terminal(sys.stderr) else None


def fault(error: Exception) -> tuple[object, int]:
    """Return what to say of an exception, and the exit status."""
    from pytest_sparsity.targets import EndedError, InvocationError, LoadError

    of_the_file = (LoadError, InvocationError, EndedError, WrongAnswers, NeedsInputs)
    if isinstance(error, OSError) and error.strerror:
        named = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str) else ""
        return f"{named}{error.strerror}", UNUSABLE
    if isinstance(error, (ValueError, OSError, *of_the_file)):
        return error, UNUSABLE
    if isinstance(error, (Unsupported, TargetError, CannotMeasure)):
        return error, CANNOT_RUN
    return f"internal error, please report it: {type(error).__name__}: {error}", INTERNAL


def refuse(error: object, status: int) -> int:
    """Say what is wrong in one line."""
    print(f"pytest-sparsity: {one_line(error)}", file=sys.stderr)
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; `command` is the function to call."""
    top = Parser(
        prog="pytest-sparsity", description="Performance claims about pruned TFLite models."
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
        "--target", metavar="T", help="where it is to run, see `targets`; default: all that can"
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
        help="where to race, see `targets`; %(default)s",
    )
    race.add_argument(
        "--threads", metavar="N", type=threads, default=1, help="of the runtime; %(default)s"
    )
    race.add_argument(
        "--budget",
        metavar="S",
        type=seconds,
        default=defaults.BUDGET,
        help="seconds to race; %(default)g",
    )
    race.add_argument(
        "--claim",
        metavar="CLAIM",
        type=claim,
        help="a comparison of the ratio dense / sparse, such as '>= 1.2': exit with status 1 if it"
        " does not hold, or is undecided when the budget is spent",
    )
    bisect = add("bisect", command_bisect, "find the releases of a runtime that changed a verdict")
    bisect.add_argument("model", metavar="MODEL", help="a .tflite file")
    bisect.add_argument(
        "--target",
        metavar="T",
        default="litert",
        help="whose releases to try, e.g. litert@cortex-a53; they are installed into the user's"
        " cache and stay there; %(default)s",
    )
    bisect.add_argument(
        "--claim",
        metavar="CLAIM",
        default="verdict",
        help="'verdict', 'verdict == sparse', 'outputs match', or of the model against its densely"
        " stored copy 'speedup >= 1.2' or 'instruction_ratio >= 1.2'; %(default)s",
    )
    bisect.add_argument("--since", metavar="R", default="", help="the oldest release to try")
    bisect.add_argument("--until", metavar="R", default="", help="the newest release to try")
    bisect.add_argument(
        "--budget", metavar="S", type=seconds, default=10.0, help="seconds of a race; %(default)g"
    )
    for made in (explain, race, bisect):
        add_inputs(made)
    encode = add("encode", command_encode, "store zeros sparsely, where that pays")
    densify = add("densify", command_densify, "store all weights densely, without DENSIFY")
    prune = add("prune", command_prune, "set the smallest weights to zero, without any training")
    prune.add_argument(
        "--sparsity", metavar="S", type=float, default=0.8, help="share of zeros; %(default)g"
    )
    prune.add_argument(
        "--pattern", metavar="P", default="unstructured", help="or 1x4, 1x16, m:n; %(default)s"
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
        help="layers keep a multiple of N channels, which kernels compute at once; %(default)s",
    )
    repair = add("repair", command_repair, "rewrite exactly what keeps a file from running sparse")
    repair.add_argument(
        "--target",
        metavar="T",
        default=defaults.SPARSE_TARGET,
        help="where it is to run sparse, see `targets`; %(default)s",
    )
    repair.add_argument(
        "--no-race",
        dest="race",
        action="store_false",
        help="keep what the rules say is better; default: what a race shows to be faster",
    )
    repair.add_argument(
        "--budget",
        metavar="S",
        type=seconds,
        default=defaults.BUDGET,
        help="seconds to race; %(default)g",
    )
    add_inputs(repair)
    for made in (encode, densify, prune, shrink, repair):
        made.add_argument("model", metavar="MODEL", help="a .tflite file")
        made.add_argument(
            "-o", "--output", metavar="OUT", required=True, type=Path, help="the file to write"
        )
    targets = add("targets", command_targets, "list where models can run")
    targets.add_argument("--install", metavar="T", help="bring what this target lacks")
    baselines = add("baselines", command_baselines, "list recorded values, or how they changed")
    baselines.add_argument("folder", metavar="FOLDER", nargs="?", default="baselines", type=Path)
    baselines.add_argument("--since", metavar="REV", help="show what changed since this revision")
    baselines.add_argument("--until", metavar="REV", help="and until this one")
    return top


def add_inputs(made: argparse.ArgumentParser) -> None:
    """Let a command take what models are run on."""
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


SIGNS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
MOST_THREADS = 1024
MOST_SECONDS = 24 * 3600
MOST_CHANNELS = 65536


def claim(text: str) -> tuple[str, float]:
    """Read a claim: a sign and a number."""
    found = re.fullmatch(r"\s*(>=|<=|>|<)\s*(\S+)\s*", text)
    with contextlib.suppress(ValueError):
        if found and math.isfinite(float(found[2])):
            return found[1], float(found[2])
    raise argparse.ArgumentTypeError(f"{text!r} is no claim like '>= 1.2'")


def threads(text: str) -> int:
    """Read a number of threads."""
    if text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_THREADS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not from 1 to {MOST_THREADS}")


def multiple(text: str) -> int:
    """Read a number of channels."""
    if text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_CHANNELS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not from 1 to {MOST_CHANNELS}")


def seconds(text: str) -> float:
    """Read a budget."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= MOST_SECONDS:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not seconds, above 0 and at most {MOST_SECONDS}")


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Read the shape of an input."""
    from pytest_sparsity.inputs import parse_shape

    try:
        return parse_shape(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def put(value: object) -> None:
    """Print JSON; what is not finite is null."""
    from pytest_sparsity.report.records import plain

    print(json.dumps(plain(value), indent=2, allow_nan=False))


def show(lines: Iterable[str]) -> None:
    """Print lines."""
    print("\n".join(map(printable, lines)))


def command_explain(options: argparse.Namespace) -> None:
    """Diagnose a model on one target, or on all that can run here."""
    from pytest_sparsity.diagnosis import diagnose
    from pytest_sparsity.model import Model
    from pytest_sparsity.report import tables
    from pytest_sparsity.targets import Target, available_targets

    model = Model(options.model)
    targets = [Target.of(options.target)] if options.target else available_targets()
    if not targets:
        raise Unsupported("no target can run here", "pip install 'pytest-sparsity[litert]'")
    made: list[Diagnosis] = []
    for target in targets:
        with contextlib.nullcontext() if options.target else tolerant():
            made.append(
                diagnose(
                    model,
                    target,
                    observe=not options.rules_only,
                    inputs=options.inputs,
                    shapes=dict(options.shape or ()),
                )
            )
    if not made:
        raise Unsupported("none of the targets ran", "see above")
    if options.json:
        put({"targets": [diagnosis.as_json() for diagnosis in made]})
    else:
        show(tables.explain(made))


@contextlib.contextmanager
def tolerant() -> Iterator[None]:
    """Say that one of several targets cannot run, and go on."""
    try:
        yield
    except (Unsupported, TargetError) as error:
        refuse(error, DONE)


def command_race(options: argparse.Namespace) -> int:
    """Race two models until the claim is decided, or which is better, or the budget is spent."""
    from pytest_sparsity.racing import race
    from pytest_sparsity.report import tables

    result = race(
        options.dense,
        options.sparse,
        target=options.target,
        threads=options.threads,
        budget=options.budget,
        inputs=options.inputs,
        shapes=dict(options.shape or ()),
    )
    sign, threshold = options.claim or (">", 1.0)
    try:
        holds, said = SIGNS[sign](result.ratio, threshold), "does not hold"
    except Inconclusive as undecided:
        holds, said = False, f"is undecided: {undecided}"
    if options.json:
        put(result.as_json())
    else:
        show(tables.race(result, Path(options.dense).name, Path(options.sparse).name))
    if options.claim and not holds:
        sys.stdout.flush()
        return refuse(f"{sign} {threshold:g} {said}: the ratio is {result.ratio}", REFUTED)
    return DONE


def command_bisect(options: argparse.Namespace) -> None:
    """Find the releases of a runtime that changed what becomes of a model."""
    from pytest_sparsity.bisection import Claim, Question, bisect
    from pytest_sparsity.model import Model
    from pytest_sparsity.report import tables

    question = Question(
        Model(options.model),
        Claim.of(options.claim),
        options.budget,
        options.inputs,
        dict(options.shape or ()),
    )
    found = bisect(
        question,
        options.target,
        lambda line: print(printable(line), file=sys.stderr, flush=True),
        since=options.since,
        until=options.until,
    )
    if options.json:
        put(found.as_json())
    else:
        show(tables.bisection(found))


def command_encode(options: argparse.Namespace) -> None:
    """Write a model with its zeros stored sparsely; say where it then computes wrong answers."""
    from pytest_sparsity.model import Model
    from pytest_sparsity.transform import encode

    before = Model(options.model)
    _ = before.layers  # the file may be the one that is replaced
    say_written(options, before, encode(before, options.output), warns=True)


def command_densify(options: argparse.Namespace) -> None:
    """Write a model with all its weights stored densely."""
    from pytest_sparsity.model import Model
    from pytest_sparsity.transform import densify

    before = Model(options.model)
    _ = before.layers
    say_written(options, before, densify(before, options.output), warns=False)


def command_prune(options: argparse.Namespace) -> None:
    """Write a model with the smallest weights of its layers set to zero."""
    from pytest_sparsity.model import Model
    from pytest_sparsity.transform import prune

    before = Model(options.model)
    _ = before.layers
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
    from pytest_sparsity.model import Model
    from pytest_sparsity.report import written
    from pytest_sparsity.transform import dead_channels, shrink

    before = Model(options.model)
    dead = sum(layer.before - layer.after for layer in dead_channels(before, 1))
    shrunk = shrink(before, options.output, multiple=options.multiple)
    if options.json:
        put(written.shrunk_json(before, shrunk, dead - shrunk.channels))
    else:
        show(written.shrunk_lines(before, shrunk, dead - shrunk.channels))


def command_repair(options: argparse.Namespace) -> None:
    """Write a model that runs sparse kernels, rightly and faster, as far as that can be."""
    from pytest_sparsity.model import Model
    from pytest_sparsity.repairing import repair
    from pytest_sparsity.report import written
    from pytest_sparsity.targets import Target

    before, target = Model(options.model), Target.of(options.target)
    _ = before.layers  # the file may be the one that is replaced
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

    harm = []
    for target in all_targets() if warns else ():
        with contextlib.suppress(Unsupported):  # a target without rules: nothing is known of it
            diagnosis = diagnose(after, target, observe=False)
            if diagnosis.verdict in {"miscomputes", "fails"}:
                harm.append(diagnosis)
    if options.json:
        put(written.as_json(before, after, harm))
    else:
        print("\n".join(written.lines(before, after, harm)))


def command_targets(options: argparse.Namespace) -> None:
    """List all targets, or install one."""
    from pytest_sparsity.report import tables
    from pytest_sparsity.targets import all_targets, install

    if options.install:
        install(options.install, lambda line: print(printable(line), file=sys.stderr, flush=True))
    rows = [target_facts(target) for target in all_targets()]
    if options.json:
        put(rows)
    else:
        show(tables.targets(rows))


def target_facts(target: Target) -> dict[str, object]:
    """Return what is known of a target; its worker is started if it can run."""
    from pytest_sparsity.diagnosis import skips_zeros

    missing: object = target.missing()
    clock = sparse = None
    if missing is None:
        try:
            with target.open() as worker:
                clock = worker.hello.get("clock")
                sparse = skips_zeros(target, worker)
        except (TargetError, Unsupported) as error:
            missing = error
    return {
        "name": target.name,
        "available": missing is None,
        "missing": None if missing is None else str(missing),
        "runtime_version": target.version(),
        "host": target.host,
        "clock": clock,
        "sparse_kernels": sparse,
    }


def command_baselines(options: argparse.Namespace) -> None:
    """List recorded values, or what changed between two revisions of git."""
    from pytest_sparsity.baseline import Store, history
    from pytest_sparsity.report import tables

    store = Store(options.folder)
    if options.until and not options.since:
        raise ValueError("--until needs --since")
    if options.since:
        changes = history.changes(store, options.since, options.until)
        if options.json:
            put([vars(change) for change in changes])
        else:
            show(tables.changes(changes))
        return
    values = history.recorded(store)
    if options.json:
        put([vars(value) for value in values])
    else:
        show(tables.baselines(values))


if __name__ == "__main__":
    raise SystemExit(main())
