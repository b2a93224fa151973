"""The page docs/compatibility.md, from what `versions.py` put into docs/compatibility.json.

Nothing here runs a model or asks a rule: the same data give the same page.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DATA = ROOT / "docs" / "compatibility.json"
PAGE = ROOT / "docs" / "compatibility.md"
UPSTREAM = ROOT / "docs" / "upstream"

MARKS = {
    "s": "sparse",
    "d": "dense",
    "w": "wrong",
    "r": "refused",
    "c": "crashes",
    "u": "fails dense too",
    "=": "constant",
    "?": "needs inputs",
}
"""Letters of the data and words of the page for what was seen."""
NOT_RUN = "."
SERIES = {
    "litert@nehalem": "LiteRT on x86 without AVX (Nehalem)",
    "litert@cortex-a53": "LiteRT on a Cortex-A53",
    "litert@cortex-a76": "LiteRT on a Cortex-A76",
    "litert@sme": "LiteRT on an ARM core with SME",
    "litert@sme512": "LiteRT on an ARM core with SME of 512 bits",
    "litert@neoverse-n1": "LiteRT on a Neoverse N1",
    "litert": "LiteRT on x86 with AVX",
    "litert-js": "LiteRT.js, WebAssembly with relaxed SIMD",
    "litert-js-compat": "LiteRT.js, WebAssembly with plain SIMD",
    "tensorflow": "TensorFlow on x86 with AVX",
    "tflite-runtime@nehalem": "tflite-runtime on x86 without AVX (Nehalem)",
    "tflite-runtime@cortex-a53": "tflite-runtime on a Cortex-A53",
    "tflite-runtime@cortex-a76": "tflite-runtime on a Cortex-A76",
    "tflite-runtime@sme": "tflite-runtime on an ARM core with SME",
    "tflite-runtime": "tflite-runtime on x86 with AVX",
}
"""A runtime and a CPU, without a release: the order and the headings of the page."""
INTRODUCTION = """# Which release does what on which CPU

Written by `python benchmarks/versions.py write` from what `python benchmarks/versions.py run` saw:
{graphs} small networks (`tests/corpus.py`) on {targets} targets, {cells:,} cells, {date}. All cells
are observed: the network was loaded and run, and its outputs compared with those of the same
weights stored densely and of the reference kernels. {whole} targets got all networks; the others
got a sample with at least one of every class, if there was time for it.

| word | what was seen |
| --- | --- |
| sparse | outputs differ from those of dense weights by rounding: sparse kernels ran |
| dense | the same bits as with dense weights: no sparse kernel ran |
| wrong | the outputs are wrong, or differ from run to run |
| refused | the model does not load |
| crashes | the model loads and then fails, or ends the process |
| fails dense too | stored densely it does not run either |
| constant | the same bits, and the same for all inputs, which tells nothing |

A class is what this project's rules (`xnnpack/changes.py`) cannot tell apart in any release; it is
named after its first network. The defects behind "wrong", "refused" and "crashes" of the newest
releases are [reported](upstream/index.md) one by one.
"""


@dataclass(frozen=True)
class Table:
    """What was seen.

    Attributes:
        data: of docs/compatibility.json: "targets" (name to facts, in the order of the marks),
            "marks" (network to a letter for each target), "classes" (lists of networks),
            "disagreements" (target to network to what the rules say), "changes" (name to what it
            is), "turns", "faults" (target to why it does not run), "date", "minutes".
    """

    data: dict[str, Any]

    @classmethod
    def read(cls, path: Path = DATA) -> Table:
        """Read the data."""
        return cls(json.loads(path.read_text("utf-8")))

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """The names of the targets, those of one series together, the oldest release first."""
        return tuple(self.data["targets"])

    @property
    def networks(self) -> tuple[str, ...]:
        """The names of the corpus' networks."""
        return tuple(name for name in self.data["marks"] if not name.startswith("upstream "))

    def mark(self, network: str, target: str) -> str:
        """One letter of `MARKS`, or `NOT_RUN`."""
        found: str = self.data["marks"][network][self.targets.index(target)]
        return found

    def row(self, target: str) -> dict[str, str]:
        """The letters of the networks that were run on a target."""
        place = self.targets.index(target)
        marks = {name: letters[place] for name, letters in self.data["marks"].items()}
        return {name: letter for name, letter in marks.items() if letter != NOT_RUN}

    def corpus_row(self, target: str) -> dict[str, str]:
        """The same without the networks of reports."""
        return {name: letter for name, letter in self.row(target).items() if name in self.networks}

    def series(self, name: str) -> tuple[str, ...]:
        """The targets of a series, the oldest release first."""
        return tuple(t for t in self.targets if self.data["targets"][t]["series"] == name)

    def release(self, target: str) -> str:
        """The release of a target, for people."""
        facts = self.data["targets"][target]
        version: str = facts["version"]
        return f"{version} (nightly)" if "nightly" in target else version


def page(table: Table) -> str:
    """The whole page."""
    cells = sum(len(table.row(target)) for target in table.targets)
    whole = [t for t in table.targets if len(table.corpus_row(t)) == len(table.networks)]
    parts = [
        INTRODUCTION.format(
            graphs=len(table.networks),
            targets=len(table.targets),
            cells=cells,
            date=table.data["date"],
            whole=len(whole),
        ),
        table.data["minutes"] + "\n",
        "## In short\n\n" + short(table),
    ]
    for series, heading in SERIES.items():
        if len(table.series(series)) > 1:
            parts.append(f"## {heading}\n\n{section(table, series)}")
    parts += [
        "## Rules against observation\n\n" + disagreements(table),
        "## What did not run\n\n" + faults(table),
    ]
    return "\n".join(parts)


def counts(letters: Counter[str]) -> list[str]:
    """Numbers of the marks, in the order of `MARKS`, nothing for none."""
    return [str(letters[mark] or "") for mark in MARKS]


def short(table: Table) -> str:
    """The newest release of every series."""
    lines = [_head(["target", "release", "networks", *MARKS.values()])]
    for series in SERIES:
        released = [t for t in table.series(series) if "nightly" not in t]
        if released:
            row = table.corpus_row(released[-1])
            cells = [f"`{series}`", table.release(released[-1]), str(len(row))]
            lines.append(_line([*cells, *counts(Counter(row.values()))]))
    return "\n".join(lines) + "\n"


def section(table: Table, series: str) -> str:
    """Releases, classes and changes of one series."""
    targets = table.series(series)
    lines = [_head(["release", "networks", *MARKS.values()])]
    for target in targets:
        row = table.corpus_row(target)
        cells = [table.release(target), str(len(row)), *counts(Counter(row.values()))]
        lines.append(_line(cells))
    parts = ["\n".join(lines) + "\n", classes(table, targets)]
    told = turns(table, series)
    if told:
        parts.append(told)
    return "\n".join(parts)


def classes(table: Table, targets: tuple[str, ...]) -> str:
    """A row for each class, a column for neighbouring releases that do the same."""
    columns = {
        target: tuple(_cell(table, tuple(names), target) for names in table.data["classes"])
        for target in targets
    }
    groups = [list(same) for _, same in groupby(targets, key=columns.__getitem__)]
    heads = [_range(table, group) for group in groups]
    lines = [_head(["class", "networks", *heads])]
    for place, names in enumerate(table.data["classes"]):
        cells = [columns[group[0]][place] for group in groups]
        lines.append(_line([names[0], str(len(names)), *cells]))
    return "\n".join(lines) + "\n"


def _range(table: Table, group: list[str]) -> str:
    first, last = table.release(group[0]), table.release(group[-1])
    return first if first == last else f"{first} to {last}"


def _cell(table: Table, names: tuple[str, ...], target: str) -> str:
    """What was seen of a class: one word where all that were run did the same."""
    row = table.row(target)
    letters = Counter(row[name] for name in names if name in row)
    if len(letters) < 2:
        return MARKS[next(iter(letters))] if letters else "not run"
    return ", ".join(f"{letters[mark]} {word}" for mark, word in MARKS.items() if letters[mark])


def turns(table: Table, series: str) -> str:
    """What changed between neighbouring releases, and the change that explains it."""
    lines = []
    for turn in table.data["turns"]:
        if turn["series"] != series:
            continue
        lines.append(f"- **{turn['before']} to {turn['after']}**{turn['sources']}")
        for changed in turn["changed"]:
            words = f"{MARKS[changed['from']]} to {MARKS[changed['to']]}"
            names = ", ".join(changed["networks"])
            why = ", ".join(f"`{name}`" for name in changed["changes"])
            lines.append(
                f"  - {words}: {names}. " + (f"By {why}." if why else "No change explains it.")
            )
    return "What changed:\n\n" + "\n".join(lines) + "\n" if lines else ""


def disagreements(table: Table) -> str:
    """Cells where the rules say something else than was seen."""
    found = table.data["disagreements"]
    cells = sum(
        len(table.row(target)) for target in table.targets if table.data["targets"][target]["ruled"]
    )
    count = sum(map(len, found.values()))
    told = (
        f"The rules were applied to all {cells:,} cells, as of the release's own sources where\n"
        "these are known (`xnnpack/releases.py`), else as of those of the nearest release.\n"
        f"{count} cells disagree.\n"
    )
    if not count:
        return told
    lines = [told]
    lines.append(_head(["target", "rules of", "network", "rules", "seen", "explanation"]))
    for target, networks in found.items():
        for network, ruled in networks.items():
            seen = MARKS[table.mark(network, target)]
            facts = table.data["targets"][target]
            lines.append(
                _line([f"`{target}`", facts["ruled"], network, ruled["ruled"], seen, ruled["why"]])
            )
    return "\n".join(lines) + "\n"


def faults(table: Table) -> str:
    """Targets that do not run, and why."""
    if not table.data["faults"]:
        return "Everything that was tried ran.\n"
    return "".join(f"- `{target}`: {fault}\n" for target, fault in table.data["faults"].items())


BEGIN = "<!-- affected: written by `python benchmarks/versions.py write` -->"
END = "<!-- end -->"


def affected(table: Table, slug: str) -> str:
    """Where the network of a report goes wrong, series by series."""
    network, lines = f"upstream {slug}", []
    for series in SERIES:
        seen = [(t, table.mark(network, t)) for t in table.series(series)]
        groups = [
            (letter, [target for target, _ in same])
            for letter, same in groupby(
                [pair for pair in seen if pair[1] != NOT_RUN], key=lambda pair: pair[1]
            )
        ]
        if any(letter in "wrcu" for letter, _ in groups):
            told = "; ".join(f"{MARKS[mark]} in {_range(table, group)}" for mark, group in groups)
            lines.append(f"- `{series}`: {told}")
    return "\n".join(lines)


def report(table: Table, text: str, slug: str) -> str:
    """A report with its list of affected releases renewed."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{affected(table, slug)}\n{END}{after}"


def reports() -> dict[str, Path]:
    """The reports by the names of their folders."""
    return {path.parent.name: path for path in sorted(UPSTREAM.glob("*/report.md"))}


def written(table: Table) -> dict[Path, str]:
    """The files that are written from the table, and what they are to hold."""
    found = {PAGE: page(table)}
    for slug, path in reports().items():
        found[path] = report(table, path.read_text("utf-8"), slug)
    return found


def neighbours(table: Table, series: str) -> list[tuple[str, str]]:
    """Targets of releases that follow each other."""
    return list(pairwise(table.series(series)))


def _head(cells: list[str]) -> str:
    return f"{_line(cells)}\n{_line(['---'] * len(cells))}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
