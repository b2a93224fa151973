"""The command line: the same engine for people and for other programs.

Exit status: 0 done; 2 unusable arguments or file; 3 the target cannot run here. What is wrong is
one line on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_sparsity import __version__
from pytest_sparsity.errors import (
    CannotMeasure,
    Inconclusive,
    TargetError,
    Unsupported,
    WrongAnswers,
    one_line,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_sparsity.diagnosis import Diagnosis
    from pytest_sparsity.targets import Target

DONE, INTERNAL, UNUSABLE, CANNOT_RUN = 0, 1, 2, 3


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(UNUSABLE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = parser().parse_args(arguments)
    try:
        options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return refuse(*fault(error))
    return DONE


def fault(error: Exception) -> tuple[object, int]:
    """Return what to say of an exception, and the exit status."""
    from pytest_sparsity.targets import LoadError

    if isinstance(error, (ValueError, OSError, WrongAnswers, LoadError)):
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
    explain.add_argument("model", metavar="MODEL")
    explain.add_argument("--target", metavar="T", help="default: all that can run here")
    explain.add_argument(
        "--rules-only", action="store_true", help="do not run the model, apply the rules to it"
    )
    race = add("race", command_race, "measure two models against each other")
    race.add_argument("dense", metavar="DENSE")
    race.add_argument("sparse", metavar="SPARSE")
    race.add_argument("--target", metavar="T", default="litert")
    race.add_argument("--threads", metavar="N", type=int, default=1)
    race.add_argument("--budget", metavar="S", type=float, default=10.0, help="seconds")
    targets = add("targets", command_targets, "list where models can run")
    targets.add_argument("--install", metavar="T", help="bring what this target lacks")
    baselines = add("baselines", command_baselines, "list recorded values, or how they changed")
    baselines.add_argument("folder", metavar="FOLDER", nargs="?", default="baselines", type=Path)
    baselines.add_argument("--since", metavar="REV", help="show what changed since this revision")
    baselines.add_argument("--until", metavar="REV", help="and until this one")
    return top


def put(value: object) -> None:
    """Print JSON; what is not finite is null."""
    from pytest_sparsity.report.records import plain

    print(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


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
            made.append(diagnose(model, target, observe=not options.rules_only))
    if not made:
        raise Unsupported("none of the targets ran", "see above")
    if options.json:
        first = made[0].as_json()
        others = {} if options.target else {"targets": [diagnosis.as_json() for diagnosis in made]}
        put({**first, **others})
    else:
        print("\n".join(tables.explain(made)))


@contextlib.contextmanager
def tolerant() -> Iterator[None]:
    """Say that one of several targets cannot run, and go on."""
    try:
        yield
    except (Unsupported, TargetError) as error:
        refuse(error, DONE)


def command_race(options: argparse.Namespace) -> None:
    """Race two models until it is known which is better, or the budget is spent."""
    from pytest_sparsity.race import race
    from pytest_sparsity.report import tables

    result = race(
        options.dense,
        options.sparse,
        target=options.target,
        threads=options.threads,
        budget=options.budget,
    )
    with contextlib.suppress(Inconclusive):  # which the verdict says then
        _ = result.ratio > 1
    if options.json:
        put(result.as_json())
    else:
        print("\n".join(tables.race(result, Path(options.dense).name, Path(options.sparse).name)))


def command_targets(options: argparse.Namespace) -> None:
    """List all targets, or install one."""
    from pytest_sparsity.report import tables
    from pytest_sparsity.targets import all_targets, install

    if options.install:
        install(options.install, lambda line: print(line, file=sys.stderr, flush=True))
    rows = [target_facts(target) for target in all_targets()]
    if options.json:
        put(rows)
    else:
        print("\n".join(tables.targets(rows)))


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
            print("\n".join(tables.changes(changes)))
        return
    values = history.recorded(store)
    if options.json:
        put([vars(value) for value in values])
    else:
        print("\n".join(tables.baselines(values)))


if __name__ == "__main__":
    raise SystemExit(main())
