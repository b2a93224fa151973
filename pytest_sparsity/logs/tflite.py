"""What TFLite's and LiteRT's `benchmark_model` prints, in the forms that it had from 2019 to 2026.

By LiteRT's benchmark_model.cc, logging.h, stats_calculator.cc and profile_summary_formatter.cc, and
by logs that people have published. A line may stand behind `INFO: ` or what logcat puts before it;
of a message of several lines only the first does. Times are whole microseconds; a mean has six
significant digits and may be like `2.95e+06`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pytest_sparsity.logs import Log, Operator, Statistics

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_PREFIX = re.compile(
    r"\s*(?:\d\d-\d\d \d\d:\d\d:\d\d\.\d+\s+\d+\s+\d+ (?P<level>[VDIWEF]) [\w.]+\s*: ?"
    r"|(?P<letter>[VDIWEF])/[\w.]+\s*\(\s*\d+\): ?"
    r"|(?P<word>VERBOSE|INFO|WARN|WARNING|ERROR|FATAL): )"
)
_STATISTICS = re.compile(
    rf"count=(?P<count>\d+)(?: first=(?P<first>{_NUMBER}))?"
    rf"(?: curr=(?P<curr>{_NUMBER})(?P<same>\s?\(all same\))?)?"
    rf"(?P<rest>(?: (?:min|max|avg|std|p5|median|p95)={_NUMBER})*)"
)
_PAIR = re.compile(rf"(min|max|avg|std|p5|median|p95)=({_NUMBER})")
_SUMMARIES = (
    re.compile(
        rf"Inference timings in us: Init: (?P<init>{_NUMBER}), First inference: (?P<first>{_NUMBER}"
        rf"), Warmup \(avg\): (?P<warm>{_NUMBER}), Inference \(avg\): (?P<avg>{_NUMBER})"
    ),
    re.compile(
        rf"Average inference timings in us: Warmup: (?P<warm>{_NUMBER}), Init: (?P<init>{_NUMBER})"
        rf", (?:no stats|Inference|with stats): (?P<avg>{_NUMBER})"
    ),
)
_MEMORY = (
    re.compile(
        r"(?:Memory footprint delta from the start of the tool|Peak memory footprint) \(MB\): "
        rf"init={_NUMBER} overall=(?P<mb>{_NUMBER})"
    ),
    re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: (?P<mb>{_NUMBER})"),
)
_BEGIN = re.compile(r"STARTING!")
_MODEL = re.compile(r"(?:Loaded model|Graph:|Loading model from:?) \[?(?P<path>[^\]]+?)\]?")
_THREADS = re.compile(r"(?:Num threads:|#threads used for CPU inference:) \[?(?P<number>\d+)\]?")
_RUNNING = re.compile(r"Running benchmark for at least \d+ iterations")
_REPLACED = re.compile(
    r"Replacing (?P<some>\d+) out of (?P<all>\d+) node\(s\) with delegate \((?P<name>\w+)\).*"
)
_HEADING = re.compile(r"=+ (?P<name>[A-Z].*?) =+")
_RUNS_PROFILE = (
    "Operator-wise Profiling Info for Regular Benchmark Runs",
    "Regular Benchmark Runs",
)
_START_PROFILE = "Profiling Info for Benchmark Initialization"
# type [start] first avg % cdf% mem times name; older tables have `start`. Types hold spaces, commas
# and parentheses, so a row is read from the right.
_ROW = re.compile(
    rf"\s*(?P<type>\S.*?)\s+(?P<times>(?:{_NUMBER}\s+){{2,3}}){_NUMBER}%\s+{_NUMBER}%\s+{_NUMBER}"
    r"\s+(?P<called>\d+)\s+(?P<name>\S.*)"
)
_CSV_HEAD = re.compile(r"node type,\s*(?:start,\s*)?first,\s*avg[_ ]ms,.*")


@dataclass
class _Run:
    """One run as far as it has been read."""

    series: list[Statistics] = field(default_factory=list)
    running: int = 0
    values: dict[str, object] = field(default_factory=dict)
    summary: dict[str, float] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    profile: str = ""
    table: str = ""

    def log(self) -> Log | None:
        """Return what was read; None if nothing was timed."""
        timed = self._timed()
        if timed is None:
            return None
        warm = self.series[0] if len(self.series) > 1 and self.series[0].count else None
        return Log(
            timed,
            warm,
            operators=tuple(self.operators),
            errors=tuple(self.errors),
            init_us=self.summary.get("init"),
            **self.values,  # type: ignore[arg-type]
        )

    def _timed(self) -> Statistics | None:
        """Return the statistics of the runs: the second line of its kind, or else the summary."""
        # Where the log says that it ran once and no more, that was the warm-up.
        cut = self.running == 1 and len(self.series) == 1
        if self.series and self.series[-1].count and not cut:
            return self.series[-1]
        if "avg" in self.summary:
            return Statistics(0, self.summary["avg"], first=self.summary.get("first"))
        return None


def runs(text: str) -> tuple[Log, ...]:
    """Return the runs in a text."""
    found, run = [], _Run()
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        bare, error = _bare(line)
        if _BEGIN.fullmatch(bare):
            found.append(run)
            # What the runtime says before the tool speaks is about what follows.
            before = [] if run.values or run.running or run.series else run.errors
            run = _Run(errors=before)
        if error:
            run.errors.append(bare)
        else:
            _take(run, bare)
    logs = [each.log() for each in (*found, run)]
    return tuple(log for log in logs if log is not None)


def _bare(line: str) -> tuple[str, bool]:
    """Return a line without what a logger puts before it, and whether it is an error."""
    error = False
    while (found := _PREFIX.match(line)) is not None:
        level = found["word"] or found["letter"] or found["level"]
        error = error or level in ("ERROR", "FATAL", "E", "F")
        line = line[found.end() :]
    return line.rstrip(), error


def _take(run: _Run, line: str) -> None:
    """Read one line."""
    if line.startswith(_START_PROFILE):
        run.profile, run.table = "start", ""
    elif line.startswith(_RUNS_PROFILE):
        run.profile, run.table = "runs", ""
    elif (heading := _HEADING.fullmatch(line.strip())) is not None:
        run.table = heading["name"]
    elif _CSV_HEAD.fullmatch(line.strip()):
        # Tables may have no headings; the first is the one in the order of execution.
        first = run.table in ("", "Run Order")
        run.table = "Run Order csv" if first else "another csv"
    elif run.profile != "start" and run.table.startswith("Run Order"):
        row = _csv_row(line) if run.table.endswith("csv") else _row(line)
        if row is not None:
            run.operators.append(row)
            return
    _take_fact(run, line.strip())


def _take_fact(run: _Run, line: str) -> None:
    if _RUNNING.match(line):
        run.running += 1
        run.profile = run.table = ""
        return
    statistics = _statistics(line)
    # Below a profile stand lines of this form too, of times and of bytes.
    below = run.profile or run.table
    if statistics is not None and not below and len(run.series) < max(run.running, 2):
        run.series.append(statistics)
        return
    for pattern in _SUMMARIES:
        if (found := pattern.fullmatch(line)) is not None:
            run.summary = {name: float(value) for name, value in found.groupdict().items()}
    for pattern in _MEMORY:
        if (found := pattern.fullmatch(line)) is not None:
            known = run.values.get("peak_mb")
            value = float(found["mb"])
            run.values["peak_mb"] = max(value, known) if isinstance(known, float) else value
    if (found := _MODEL.fullmatch(line)) is not None:
        run.values["model"] = PurePosixPath(found["path"]).name
    elif (found := _THREADS.fullmatch(line)) is not None:
        run.values["threads"] = int(found["number"])
    elif (found := _REPLACED.fullmatch(line)) is not None:
        run.values["replaced"] = int(found["some"]), int(found["all"]), found["name"]


def _statistics(line: str) -> Statistics | None:
    found = _STATISTICS.fullmatch(line)
    if found is None:
        return None
    count = int(found["count"])
    values = {name: float(value) for name, value in _PAIR.findall(found["rest"] or "")}
    for name in ("first", "curr"):
        if found[name] is not None:
            values[name] = float(found[name])
    if "curr" in values and (found["same"] or count == 1):
        # One value, or all of them the same: the others are not printed.
        for name in ("first", "min", "max", "avg"):
            values.setdefault(name, values["curr"])
        values.setdefault("std", 0.0)
    return Statistics(count, **values)


def _row(line: str) -> Operator | None:
    found = _ROW.fullmatch(line)
    if found is None:
        return None
    average = float(found["times"].split()[-1])
    return Operator(found["type"].strip(), found["name"].strip(), average, int(found["called"]))


def _csv_row(line: str) -> Operator | None:
    """Read a row of CSV: commas in the type are not quoted, those in the name are tabulators."""
    cells = line.split(",")
    if len(cells) < 8:
        return None
    *types, first, average, share, _, _, called, name = (cell.strip() for cell in cells)
    if not (_is_number(first) and _is_number(average) and share.endswith("%") and called.isdigit()):
        return None
    # Older ones have the start in front of the first time.
    if len(types) > 1 and _is_number(types[-1]):
        types.pop()
    name = name.replace("\t", ",")
    return Operator(", ".join(types), name, float(average), int(called))


def _is_number(text: str) -> bool:
    return re.fullmatch(_NUMBER, text) is not None
