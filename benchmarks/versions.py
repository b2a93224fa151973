"""What every release of every runtime does with the corpus, on every CPU that can be had here.

    nice python benchmarks/versions.py run [--jobs 2] [--only TEXT] [--again]
    python benchmarks/versions.py write

`run` observes each of the networks of tests/corpus.py on each target, in one worker process per
target. What was seen is kept in the user's cache, one line per network, so that an interrupted run
goes on where it was, and a later one does what is new: a release, a network that changed. Nothing
is timed, so targets run side by side. `write` puts what was seen into docs/compatibility.json and
renders docs/compatibility.md from that file, without running anything.

A release is installed when its turn comes, and stays: about 250 MB of LiteRT, 1 GB of TensorFlow.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import re
import runpy
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent))

import compatibility
import platformdirs

from corpus import CASES
from pytest_sparsity import xnnpack
from pytest_sparsity.children import scratch_file
from pytest_sparsity.comparison import Comparison
from pytest_sparsity.diagnosis import Observation, Observer
from pytest_sparsity.diagnosis.contradictions import agree
from pytest_sparsity.errors import TargetError, Unsupported, one_line
from pytest_sparsity.model import Model
from pytest_sparsity.targets import Target, install
from pytest_sparsity.xnnpack.changes import CHANGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NIGHTLY = "nightly"
CPUS = {
    "litert": ("nehalem", "cortex-a53", "sme", "cortex-a76", "", "neoverse-n1", "sme512"),
    "tflite-runtime": ("nehalem", "cortex-a53", "cortex-a76", "sme", ""),
    "litert-js": ("",),
    "litert-js-compat": ("",),
    # No emulated CPU has a TensorFlow, and its wheels for x86 need AVX.
    "tensorflow": ("",),
}
NEWEST_ONLY = {"litert", "litert-js-compat", "litert@neoverse-n1", "litert@sme512"}
"""What differs from others, or between releases, too little to be run with every one."""
ARM_RELEASES = 9
"""The newest ones, which are run on the other CPUs."""
CORPUS = Path(__file__).parent.parent / "tests" / "corpus.py"
TELLING = ("1.0.1", "2.1.0", "1.1.1", "2.0.3", "1.4.0", "1.2.0", "2.1.4", "2.1.5")
"""Releases of LiteRT that changes are known to lie between."""
DAY = 24 * 3600
FIRST_ARM = "cortex-a53"
REFERENCE = "nehalem"
"""The emulated CPU on which every network is run with every release."""
OLDEST_TENSORFLOW = (2, 18)


def folder() -> Path:
    """Where what was seen is kept."""
    return platformdirs.user_cache_path("pytest-sparsity") / "compatibility"


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, to sort by."""
    return tuple(map(int, re.findall(r"\d+", version)))


def plan() -> list[str]:
    """The targets to run: what runs without an emulator, then Nehalem, then the newest first."""
    jobs: list[tuple[int, int, int, str]] = []
    for runtime, hosts in CPUS.items():
        for place, host in enumerate(hosts):
            target = Target.of(f"{runtime}@{host}" if host else runtime)
            turn = 0 if not host else 1 if host == REFERENCE else 2
            for age, release in enumerate(sorted(released(target), key=importance)):
                here = runtime == "tensorflow" and target.version() == release
                name = target.name if here else target.at(release).name
                jobs.append((turn, age, place, name))
    return [name for *_, name in sorted(jobs)]


def importance(release: str) -> tuple[int, tuple[int, ...]]:
    """To sort releases by: the ends and what is known to differ first, then the newest."""
    first = [NIGHTLY, *published("litert")[:-2:-1], *TELLING]
    place = first.index(release) if release in first else len(first)
    return place, tuple(-number for number in numbers(release))


@cache
def published(name: str) -> tuple[str, ...]:
    """All releases of a target, as of today. Those for ARM are the same on every core."""
    target = Target.of(name)
    if target.host and target.host != FIRST_ARM and target.arch == "aarch64":
        return published(f"{target.runtime}@{FIRST_ARM}")
    path = folder() / "published" / f"{name}.json"
    if not path.exists() or time.time() - path.stat().st_mtime > DAY:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(target.place.published(target.record)), encoding="utf-8")
    return tuple(json.loads(path.read_text("utf-8")))


def released(target: Target) -> list[str]:
    """The releases of a target that are to be run, the oldest first."""
    found = list(published(target.name))
    if target.runtime == "tensorflow":
        minors = groupby(found, lambda each: numbers(each)[:2])
        found = [next(each) for minor, each in minors if minor >= OLDEST_TENSORFLOW]
    if target.name in NEWEST_ONLY:
        return found[-1:]
    if target.name == f"litert@{REFERENCE}":
        return [*found, NIGHTLY]
    return found[-ARM_RELEASES:] if target.arch == "aarch64" else found


def complete(name: str) -> bool:
    """Whether a target is of another runtime than LiteRT, or of its newest release or nightly."""
    target = Target.of(name)
    newest = {target.at(release).name for release in (published("litert")[-1], NIGHTLY)}
    return target.runtime != "litert" or target.name in newest


def whole(name: str) -> bool:
    """Whether a target gets all networks in the end: those, and LiteRT's on the reference CPU."""
    return complete(name) or Target.of(name).host == REFERENCE


@cache
def networks() -> dict[str, Callable[[Path], Path]]:
    """What writes each network into a folder: the corpus, and what docs/upstream reports."""
    found: dict[str, Callable[[Path], Path]] = {case.name: case.write for case in CASES}
    for script in sorted(compatibility.UPSTREAM.glob("*/write.py")):
        name = f"upstream {script.parent.name}"
        found[name] = partial(write_upstream, script)
    return found


def write_upstream(script: Path, scratch: Path) -> Path:
    """Write the network of a report."""
    network = runpy.run_path(str(script))["network"]()
    written: Path = network.write(scratch / f"upstream-{script.parent.name}.tflite")
    return written


def classes() -> tuple[tuple[str, ...], ...]:
    """The networks of the corpus that the rules cannot tell apart, whatever the release.

    Of one class are those with the same verdicts of all releases that the changes of
    `xnnpack.changes` can make, on CPUs with sparse kernels. Kept for as long as neither corpus
    nor rules change, since it takes half a minute.
    """
    package = Path(xnnpack.__file__).parent
    files = [*package.glob("*.py"), *package.parent.glob("writer/*.py"), CORPUS]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()
    path = folder() / f"classes-{digest[:16]}.json"
    if not path.exists():
        path.write_text(json.dumps(ruled_classes()), encoding="utf-8")
    return tuple(map(tuple, json.loads(path.read_text("utf-8"))))


def ruled_classes() -> list[list[str]]:
    """The same, from the rules; the largest class first."""
    changes = sorted(CHANGES.values(), key=lambda change: change.date)
    older = [frozenset(change.name for change in changes[n:]) for n in range(len(changes) + 1)]
    nehalem, arm = Target.of(f"litert@{REFERENCE}"), Target.of(f"litert@{FIRST_ARM}")
    here = (xnnpack.newest("litert").version, nehalem.arch, nehalem.features)
    found: dict[tuple[str, ...], list[str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for case in CASES:
            model = Model(case.write(Path(scratch)))
            analyses = [xnnpack.analyse(model, "litert", *here, lacks=lacks) for lacks in older]
            for runtime in ("tflite-runtime", "litert-js", "tensorflow"):
                there = (xnnpack.newest(runtime).version, arm.arch, arm.features)
                analyses.append(xnnpack.analyse(model, runtime, *there))
            found.setdefault(tuple(map(xnnpack.verdict, analyses)), []).append(case.name)
    return sorted(found.values(), key=len, reverse=True)


def sample(name: str) -> set[str]:
    """The networks that a target gets first: of each class one.

    And those of reports, but for LiteRT's older releases.
    """
    chosen = {names[0] for names in classes()}
    if complete(name):
        chosen |= {network for network in networks() if network.startswith("upstream ")}
    return chosen


@dataclass(frozen=True)
class Cell:
    """What was seen of one network on one target.

    Attributes:
        graph: name of the network.
        sha256: of its file.
        version: of the runtime.
        mark: see `compatibility.MARKS`.
        detail: what the runtime or the comparison said.
        seconds: that it took.
    """

    graph: str
    sha256: str
    version: str
    mark: str
    detail: str
    seconds: float


def mark(seen: Observation) -> str:
    """One letter for what was seen."""
    if seen.verdict == "fails":
        return "u" if seen.unrelated else "c" if seen.crashed else "r"
    if seen.verdict == "dense" and seen.constant:
        return "="
    return {"sparse": "s", "dense": "d", "miscomputes": "w"}.get(seen.verdict, "?")


def detail(seen: Observation) -> str:
    """What there is to be said of it, in one line."""
    wrong = [str(comparison) for comparison in seen.comparisons if not comparison.right]
    return one_line(seen.fault or next(iter(wrong), ""))[:300]


def kept(name: str) -> dict[tuple[str, str], Cell]:
    """What is kept of a target, by network's hash and runtime's version."""
    found = {}
    for line in lines(name):
        if "graph" in line:
            cell = Cell(**line)
            found[cell.sha256, cell.version] = cell
    return found


def fault(name: str) -> str:
    """Why a target did not run when it was last tried, or ""."""
    return next((line["fault"] for line in reversed(lines(name)) if "fault" in line), "")


def lines(name: str) -> list[dict[str, Any]]:
    """The lines kept of a target; one that an interruption cut off counts as none."""
    found: list[dict[str, Any]] = []
    path = folder() / f"{name}.jsonl"
    if path.exists():
        for line in path.read_text("utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
    return found


def keep(name: str, line: dict[str, Any]) -> None:
    """Add a line to what is kept of a target."""
    with (folder() / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(line))


def run_target(name: str, names: set[str], *, again: bool) -> tuple[int, str]:
    """Run what is not kept of one target; returns the number of new cells and what to print."""
    target = Target.of(name)
    begun = time.monotonic()
    if fault(name) and not again:
        return 0, f"{name}: did not run earlier: {fault(name)}"
    try:
        if target.missing() is not None:
            install(target, lambda _: None)
        installed = time.monotonic() - begun
        new = observe(target, names)
    except (Unsupported, TargetError) as error:
        keep(name, {"fault": one_line(error)})
        return 0, f"{name}: does not run: {one_line(error)}"
    took = time.monotonic() - begun
    return (
        new,
        f"{name}: {new} of {len(names)} new, {took:.0f} s, of these {installed:.0f} s to install",
    )


def observe(target: Target, names: set[str]) -> int:
    """Observe the networks that are not kept; returns how many."""
    there, version, new = kept(target.name), target.version(), 0
    with tempfile.TemporaryDirectory() as scratch, Observer(target) as observer:
        for name, write in networks().items():
            if name not in names:
                continue
            model = Model(write(Path(scratch)))
            if (model.sha256, version) in there:
                continue
            begun = time.monotonic()
            seen = observer.observe(model, profile=False)
            seconds = round(time.monotonic() - begun, 2)
            cell = Cell(name, model.sha256, version, mark(seen), detail(seen), seconds)
            keep(target.name, vars(cell))
            new += 1
    return new


def run(jobs: int, only: str, *, again: bool) -> None:
    """Run all targets: first the sample everywhere, then the rest where all networks are run."""
    folder().mkdir(parents=True, exist_ok=True)
    names = [name for name in plan() if only in name]
    begun = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        new = run_all(pool, {name: sample(name) for name in names}, again=again)
        rest = {name: set(networks()) for name in names if whole(name)}
        new += run_all(pool, rest, again=again)
    facts = {"minutes": round((time.monotonic() - begun) / 60, 1), "new": new, "jobs": jobs}
    print(facts)
    with (folder() / "runs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(facts) + "\n")


def run_all(pool: ProcessPoolExecutor, jobs: dict[str, set[str]], *, again: bool) -> int:
    """Run targets and tell of each; returns how many cells are new."""
    print(f"{len(jobs)} targets, {sum(map(len, jobs.values()))} cells", flush=True)
    begun, new = time.monotonic(), 0
    waiting = [pool.submit(run_target, name, names, again=again) for name, names in jobs.items()]
    for number, done in enumerate(as_completed(waiting), 1):
        minutes = (time.monotonic() - begun) / 60
        count, told = done.result()
        new += count
        print(f"{minutes:5.1f} min, {number}/{len(jobs)}: {told}", flush=True)
    return new


def series(name: str) -> str:
    """A target's name without its release."""
    return re.sub(r"==[^@]*|-nightly", "", name)


def gather() -> dict[str, Any]:
    """All that is kept, as docs/compatibility.json holds it."""
    models = write_networks()
    marks: dict[str, list[str]] = {name: [] for name in models}
    targets: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    seconds = 0.0
    ordered = [name for name in plan() if kept(name) or fault(name)]
    for name in sorted(ordered, key=in_order):
        cells = current(name, models)
        if not cells:
            failed[name] = fault(name)
            continue
        seconds += sum(cell.seconds for cell in cells.values())
        version = next(iter(cells.values())).version
        rules, exact = xnnpack.release_of(Target.of(name).record.rules, version)
        targets[name] = {
            "series": series(name),
            "version": version,
            "ruled": rules.version + ("" if exact else ", the nearest"),
        }
        for network, letters in marks.items():
            letters.append(cells[network].mark if network in cells else compatibility.NOT_RUN)
    data: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "minutes": minutes(seconds),
        "targets": targets,
        "classes": [list(names) for names in classes()],
        "faults": {name: failed[name] for name in failed if failed[name]},
        "marks": {network: "".join(letters) for network, letters in marks.items()},
    }
    table = compatibility.Table(data)
    ruled = {target: rules_on(target, table, models) for target in table.targets}
    data["disagreements"] = differences(table, ruled)
    data["turns"] = list(all_turns(table, models))
    return data


def write_networks() -> dict[str, Model]:
    """The files of all networks, in a folder that lasts as long as this process."""
    scratch = Path(tempfile.mkdtemp(dir=scratch_file("networks").parent))
    return {name: Model(write(scratch)) for name, write in networks().items()}


def in_order(name: str) -> tuple[int, bool, tuple[int, ...]]:
    """By series, then by release; nightlies last."""
    release = re.search(r"==([^@]*)", name)
    place = list(compatibility.SERIES).index(series(name))
    return place, release is None, numbers(release[1]) if release else ()


def current(name: str, models: dict[str, Model]) -> dict[str, Cell]:
    """What is kept of a target for the networks as they are now, of the version last run."""
    there = kept(name)
    if not there:
        return {}
    version = list(there.values())[-1].version
    found = {network: there.get((model.sha256, version)) for network, model in models.items()}
    return {network: cell for network, cell in found.items() if cell is not None}


def minutes(seconds: float) -> str:
    """What the page says of the time that it took."""
    path = folder() / "runs.jsonl"
    runs = map(json.loads, path.read_text("utf-8").splitlines() if path.exists() else ())
    warm = [each["minutes"] for each in runs if each["new"] == 0]
    return (
        f"The cells took the workers {seconds / 60:.0f} minutes, starting and installing left out"
        " and on a machine that had other work."
        + (f" A run with nothing left to do takes {warm[-1]} minutes." if warm else "")
    )


def rules_on(
    target: str, table: compatibility.Table, models: dict[str, Model]
) -> dict[str, xnnpack.Analysis]:
    """What the rules say of the networks that were run on a target."""
    where, version = Target.of(target), table.data["targets"][target]["version"]
    return {
        network: xnnpack.analyse(
            models[network], where.record.rules, version, where.arch, where.features
        )
        for network in table.row(target)
    }


def observation(letter: str) -> Observation:
    """What was seen, as far as a letter tells."""
    verdict = {"s": "sparse", "d": "dense", "=": "dense", "w": "miscomputes", "?": "unknown"}
    constant = Comparison("", 0.0, identical=True, finite=True, number=0, constant=letter == "=")
    return Observation(
        verdict.get(letter, "fails"),
        skips_zeros=True,
        comparisons=(constant,),
        crashed=letter == "c",
        unrelated=letter == "u",
    )


def differences(
    table: compatibility.Table, ruled: dict[str, dict[str, xnnpack.Analysis]]
) -> dict[str, dict[str, dict[str, str]]]:
    """Cells where rules and observation disagree."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for target in table.targets:
        for network, analysis in ruled[target].items():
            letter = table.mark(network, target)
            if not agree(analysis, observation(letter)):
                why = explained(network, target)
                cell = {"ruled": xnnpack.verdict(analysis), "why": why}
                found.setdefault(target, {})[network] = cell
    return found


def explained(network: str, target: str) -> str:
    """Why the rules are wrong in a cell, as far as it is known."""
    for networks_, targets, why in EXPLANATIONS:
        if re.search(networks_, network) and re.search(targets, target):
            return why
    return ""


def all_turns(table: compatibility.Table, models: dict[str, Model]) -> Iterator[dict[str, Any]]:
    """What changed between neighbouring releases."""
    for name in compatibility.SERIES:
        for before, after in compatibility.neighbours(table, name):
            earlier, later = table.corpus_row(before), table.corpus_row(after)
            changed: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
            for network in earlier.keys() & later.keys():
                if earlier[network] != later[network]:
                    why = explaining(
                        models[network], after, earlier[network], later[network], before
                    )
                    key = earlier[network], later[network], why
                    changed.setdefault(key, []).append(network)
            if changed:
                yield {
                    "series": name,
                    "before": table.release(before),
                    "after": table.release(after),
                    "sources": sources(table, before, after),
                    "changed": [
                        {"from": a, "to": b, "changes": list(why), "networks": sorted(found)}
                        for (a, b, why), found in sorted(changed.items())
                    ],
                }


def sources(table: compatibility.Table, *pair: str) -> str:
    """The dates of the XNNPACK of two releases, for people; "" if one is not known."""
    dates = []
    for target in pair:
        rules = Target.of(target).record.rules
        release, exact = xnnpack.release_of(rules, table.data["targets"][target]["version"])
        dates.append(release.xnnpack_date[:10] if exact and release.xnnpack else "")
    return f" (XNNPACK of {dates[0]} to {dates[1]})" if all(dates) else ""


def explaining(model: Model, after: str, earlier: str, later: str, before: str) -> tuple[str, ...]:
    """Changes without any of which the rules give the later release what the earlier one does.

    Where a failure to set up is not reported, a wrong answer and that failure are one verdict, so
    a change must make a difference, too.
    """
    where = Target.of(after)
    rules = where.record.rules
    version = where.version()
    release, _ = xnnpack.release_of(rules, version)
    old, exact = xnnpack.release_of(rules, Target.of(before).version())

    def says(*lacks: str) -> tuple[str, bool]:
        facts = (version, where.arch, where.features)
        analysis = xnnpack.analyse(model, rules, *facts, lacks=frozenset(lacks))
        executions = (partition.execution for partition in analysis.partitions)
        return xnnpack.verdict(analysis), any(e and e.failed is not None for e in executions)

    now = says()
    if now[0] not in VERDICT[later]:
        return ()
    new = [name for name in CHANGES if release.has(name) and not (exact and old.has(name))]
    fates = {name: says(name) for name in new}
    return tuple(name for name in new if fates[name] != now and fates[name][0] in VERDICT[earlier])


VERDICT = {
    "s": {"sparse"},
    "d": {"dense"},
    "=": {"dense", "sparse"},
    "w": {"miscomputes"},
    "r": {"fails"},
    "c": {"fails", "miscomputes"},
    "u": {"fails", "miscomputes"},
    "?": set(),
}
"""The rules' words for a letter."""
EXPLANATIONS: tuple[tuple[str, str, str], ...] = (
    (
        "^mean of everything$",
        "",
        "its one value has the same bits with sparse kernels by chance for few inputs",
    ),
)
"""Patterns of networks and of targets, and why the rules are wrong there."""


def write() -> None:
    """Write the data, the page and the reports' lists of releases."""
    data = gather()
    compatibility.DATA.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    for path, text in compatibility.written(compatibility.Table(data)).items():
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {len(text.splitlines())} lines")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("--jobs", type=int, default=2)
    running.add_argument("--only", default="", help="a part of the targets' names")
    running.add_argument("--again", action="store_true", help="try what did not run earlier")
    commands.add_parser("plan")
    commands.add_parser("write")
    arguments = parser.parse_args()
    if arguments.command == "write":
        write()
    elif arguments.command == "plan":
        print("\n".join(plan()))
    else:
        run(arguments.jobs, arguments.only, again=arguments.again)


if __name__ == "__main__":
    main()
