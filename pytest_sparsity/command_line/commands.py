"""The commands that measure, explain and list."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.command_line.printing import DONE, REFUTED, put, refuse, show
from pytest_sparsity.errors import Inconclusive, TargetError, Unsupported, printable
from pytest_sparsity.estimate.intervals import COMPARISONS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pytest_sparsity.diagnosis import Diagnosis
    from pytest_sparsity.targets import Target


def command_explain(options: argparse.Namespace) -> None:
    """Diagnose a model on the targets that are named, or on all that can run here.

    Of the latter, an emulated CPU is judged by the rules: it takes minutes where others take
    seconds.
    """
    from pytest_sparsity.diagnosis import diagnose
    from pytest_sparsity.model import Model
    from pytest_sparsity.report import tables
    from pytest_sparsity.targets import Target, available_targets

    model = Model(options.model)
    named = [Target.of(name) for name in options.target]
    targets = named or available_targets()
    if not targets:
        raise Unsupported("no target can run here", "pip install 'pytest-sparsity[litert]'")
    emulated = [] if named else [t for t in targets if t.unit == "instructions"]
    made: list[Diagnosis] = []
    for target in targets:
        with contextlib.nullcontext() if named else tolerant():
            made.append(
                diagnose(
                    model,
                    target,
                    observe=not options.rules_only and target not in emulated,
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
        if emulated and not options.rules_only:
            flag = f"--target {emulated[0].name}"
            print(f"\nan emulated CPU is slow: the model runs there with {flag} only")


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
    said = f"{sign} {threshold:g} does not hold: the ratio is {result.ratio}"
    try:
        holds = COMPARISONS[sign](result.ratio, threshold)
    except Inconclusive as inconclusive:
        holds, said = False, inconclusive.why
        if inconclusive.budget is not None:
            said += f": set --budget {inconclusive.budget}"
    if options.json:
        put(result.as_json())
    else:
        show(tables.race(result, Path(options.dense).name, Path(options.sparse).name))
    if options.claim and not holds:
        sys.stdout.flush()
        return refuse(said, REFUTED)
    return DONE


def command_bisect(options: argparse.Namespace) -> None:
    """Find the releases of a runtime that changed what becomes of a model."""
    from pytest_sparsity.bisection import Criterion, Question, bisect
    from pytest_sparsity.model import Model
    from pytest_sparsity.report import tables

    question = Question(
        Model(options.model),
        Criterion.of(options.claim),
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


def command_targets(options: argparse.Namespace) -> None:
    """List all targets, or install one."""
    from pytest_sparsity.report import tables
    from pytest_sparsity.targets import Target, all_targets, connected_targets, install

    if options.install:
        install(options.install, lambda line: print(printable(line), file=sys.stderr, flush=True))
    named = {name: Target.of(name) for name in options.names}
    known = {target.name: target for target in (*all_targets(), *connected_targets())}
    rows = [target_facts(target) for target in {**known, **named}.values()]
    if options.json:
        put(rows)
    else:
        show(tables.targets(rows))


def target_facts(target: Target) -> dict[str, object]:
    """Return what is known of a target; its worker is started if it can run."""
    from pytest_sparsity.diagnosis import skips_zeros

    missing: object = target.missing()
    clock = sparse = engine = None
    if missing is None:
        try:
            with target.open() as worker:
                clock, engine = worker.hello.get("clock"), worker.hello.get("engine")
                if target.place.shows_outputs:
                    sparse = skips_zeros(target, worker)
        except (TargetError, Unsupported) as error:
            missing = error
    return {
        "name": target.name,
        "available": missing is None,
        "missing": None if missing is None else str(missing),
        "runtime_version": target.version(),
        "host": target.host,
        "engine": engine,
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
