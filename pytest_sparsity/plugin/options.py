"""The flags and the ini values, checked once and then frozen."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_sparsity import defaults
from pytest_sparsity.errors import printable

if TYPE_CHECKING:
    from pytest_sparsity.targets import Target


SUITE_MODULE = "pytest_sparsity.suite"
REPORTS = (".html", ".json", ".md")
FLAGS = (
    "sparsity_target",
    "sparsity_require",
    "sparsity_budget",
    "sparsity_update",
    "sparsity_rebuild",
    "sparsity_report",
)


# Every run makes this class; methods that nobody calls are a third of what that takes.
@dataclass(frozen=True, eq=False, repr=False)
class Options:
    """The flags and ini values of a run, checked.

    Attributes:
        targets: where race tests run.
        require: where no claim may be skipped.
        named: where claims must not be skipped because the target is not there: those of the flag.
        parametrized: whether race tests run once per target, with its name in their id.
        budget: seconds that a race may take.
        confidence: of every interval.
        baselines: the folder of baselines.
        inconclusive: `"fail"` or `"skip"`.
        model_limit: megabytes that a recorded model may have.
        update: whether baselines are recorded.
        rebuild: whether cached variants are ignored.
        reports: where the report is written, in the format that each name ends with.
        job_summary: the file that a job of GitHub Actions shows as its summary, None elsewhere.
        chosen: whether any flag was given.
    """

    targets: tuple[str, ...]
    require: tuple[str, ...]
    named: tuple[str, ...]
    parametrized: bool
    budget: float
    confidence: float
    baselines: str
    inconclusive: str
    model_limit: float
    update: bool
    rebuild: bool
    reports: tuple[Path, ...]
    job_summary: Path | None
    chosen: bool

    @classmethod
    def of(cls, config: pytest.Config) -> Options:
        """Read and check all options: a flag if it is given, else the ini value.

        Raises:
            pytest.UsageError: a value is none of the valid ones, which the message lists.
        """
        flagged = config.getoption("sparsity_target")
        targets = tuple(flagged or _ini(config, "sparsity_targets"))
        folder, reports = config.invocation_params.dir, config.getoption("sparsity_report")
        options = cls(
            targets=targets,
            require=tuple(config.getoption("sparsity_require") or _ini(config, "sparsity_require")),
            named=tuple(flagged or ()),
            parametrized=bool(flagged) or len(targets) > 1,
            budget=_budget(config),
            confidence=_ini(config, "sparsity_confidence"),
            baselines=_ini(config, "sparsity_baselines"),
            inconclusive=_ini(config, "sparsity_inconclusive"),
            model_limit=_ini(config, "sparsity_baseline_model_limit"),
            update=bool(config.getoption("sparsity_update")),
            rebuild=bool(config.getoption("sparsity_rebuild")),
            reports=tuple(folder / report for report in reports or ()),
            job_summary=job_summary() if _ini(config, "sparsity_job_summary") else None,
            chosen=any(config.getoption(flag) is not None for flag in FLAGS),
        )
        options._check(config)
        _configure_hosts(config)
        return options

    @property
    def reported(self) -> bool:
        """Whether a report is made of the run."""
        return bool(self.reports) or self.job_summary is not None

    def header(self) -> str:
        """Return the line that a run starts with."""
        update = ", recording baselines" if self.update else ""
        require = f", requires {' and '.join(self.require)}" if self.require else ""
        return (
            f"sparsity: {', '.join(self.targets)}, budget {self.budget:g} s, "
            f"confidence {100 * self.confidence:g} %, {self.baselines}/{update}{require}"
        )

    def _check(self, config: pytest.Config) -> None:
        for name in (*self.targets, *self.require):
            if name != defaults.TARGET:  # the registry is imported only if it is needed
                target_named(name)
        demand(bool(self.targets), "sparsity_targets", self.targets, "at least one target")
        demand(self.budget > 0, "sparsity_budget", self.budget, "seconds, more than 0")
        demand(0 < self.confidence < 1, "sparsity_confidence", self.confidence, "between 0 and 1")
        demand(
            self.inconclusive in ("fail", "skip"),
            "sparsity_inconclusive",
            self.inconclusive,
            "'fail' or 'skip'",
        )
        for report in config.getoption("sparsity_report") or ():
            demand(
                Path(report).suffix in REPORTS,
                "--sparsity-report",
                report,
                f"a path that ends with {', '.join(REPORTS[:-1])} or {REPORTS[-1]}",
            )
        if not hasattr(config, "workerinput"):
            self._check_files(config)

    def _check_files(self, config: pytest.Config) -> None:
        """Find before the tests run what could not be written after them."""
        for report in self.reports:
            demand_writable("--sparsity-report", report, report)
        if self.update:
            folder = config.rootpath / self.baselines
            demand_writable("--sparsity-update", folder, folder / ".gitattributes")


def _configure_hosts(config: pytest.Config) -> None:
    """Say how hosts and phones are reached, as long as the run lasts; imports nothing otherwise."""
    flagged = config.getoption("sparsity_ssh_python")
    pythons, options = (
        flagged or _ini(config, "sparsity_ssh_python"),
        _ini(config, "sparsity_ssh_options"),
    )
    binary, mask = _ini(config, "sparsity_benchmark_model"), _ini(config, "sparsity_adb_mask")
    if not pythons and not options and not binary and not mask:
        return
    from pytest_sparsity.targets.places import adb, ssh

    try:
        ssh.configure(ssh.Settings.of(pythons, options))
    except ValueError as error:
        raise pytest.UsageError(f"sparsity_ssh_python: {error}") from error
    adb.configure(adb.Settings(binary, mask))
    config.add_cleanup(partial(ssh.configure, None))
    config.add_cleanup(partial(adb.configure, None))


def _budget(config: pytest.Config) -> float:
    """Return the seconds of a race; the suite has one race, so its default may be larger."""
    flag: float | None = config.getoption("sparsity_budget")
    ini: float = _ini(config, "sparsity_budget")
    if flag is not None:
        return flag
    return max(ini, defaults.SUITE_BUDGET) if config.getoption("sparsity_dense") else ini


def job_summary() -> Path | None:
    """Return the file of the job's summary, by what GitHub Actions sets for every step."""
    named = os.environ.get("GITHUB_STEP_SUMMARY", "")
    return Path(named) if named and os.environ.get("GITHUB_ACTIONS") == "true" else None


def demand_writable(flag: str, shown: Path, file: Path) -> None:
    """Raise `pytest.UsageError` unless a file can be written."""
    from pytest_sparsity import store

    try:
        store.check_writable(file)
    except OSError as error:
        reason = error.strerror or error
        raise pytest.UsageError(
            f"{flag}: {printable(str(shown))} cannot be written: {reason}"
        ) from None


def _ini(config: pytest.Config, name: str) -> Any:
    try:
        return config.getini(name)
    except (TypeError, ValueError, pytest.UsageError) as error:
        raise pytest.UsageError(f"{name}: {error}") from error


def demand(satisfied: bool, name: str, value: object, valid: str) -> None:
    """Raise `pytest.UsageError` with what is valid unless a value is."""
    if not satisfied:
        raise pytest.UsageError(f"{name} is {value!r}; valid: {valid}")


def target_named(name: str | Target) -> Target:
    """Return a target; an unknown name is a `pytest.UsageError` that lists them."""
    from pytest_sparsity.targets import Target

    try:
        return Target.of(name)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


def add(parser: pytest.Parser) -> None:
    """Add the flags and the ini values."""
    group = parser.getgroup("sparsity", "sparsity: performance claims about pruned TFLite models")
    group.addoption(
        "--sparsity-target",
        action="append",
        metavar="NAME",
        help="run race tests on this target, which must be available; repeatable",
    )
    group.addoption(
        "--sparsity-require",
        action="append",
        metavar="NAME",
        help="a claim that cannot run on this target is an error, no skip; repeatable",
    )
    group.addoption(
        "--sparsity-budget",
        type=float,
        metavar="SECONDS",
        help="most time that a race may take; default: the ini value sparsity_budget"
        f" ({defaults.BUDGET:g}), in the suite for two files {defaults.SUITE_BUDGET:g} at least",
    )
    group.addoption(
        "--sparsity-update",
        action="store_true",
        default=None,
        help="record the baselines of the tests that run and pass",
    )
    group.addoption(
        "--sparsity-rebuild",
        action="store_true",
        default=None,
        help="build all variants again instead of taking them from the cache",
    )
    group.addoption(
        "--sparsity-ssh-python",
        action="append",
        metavar="[HOST=]PATH",
        help="Python on the hosts that ssh reaches, or on one of them; repeatable",
    )
    group.addoption(
        "--sparsity-report",
        action="append",
        metavar="PATH",
        help="write a report to this path: .html, .json or .md; repeatable",
    )
    parser.addini(
        "sparsity_targets", "where race tests run", type="args", default=[defaults.TARGET]
    )
    parser.addini("sparsity_require", "targets whose claims must run", type="args", default=[])
    parser.addini(
        "sparsity_ssh_python",
        "Python on the hosts that ssh reaches, PATH or HOST=PATH; by default python3",
        type="args",
        default=[],
    )
    parser.addini(
        "sparsity_ssh_options",
        "options of ssh, before its own configuration's, e.g. -F ci/ssh_config",
        type="args",
        default=[],
    )
    parser.addini(
        "sparsity_benchmark_model",
        "path of the benchmark_model that phones are to run; experimental",
        default="",
    )
    parser.addini(
        "sparsity_adb_mask", "cores of a phone, as its taskset takes them, e.g. f0", default=""
    )
    parser.addini(
        "sparsity_budget",
        "most seconds that a race may take",
        type="float",
        default=defaults.BUDGET,
    )
    parser.addini(
        "sparsity_confidence", "of every interval", type="float", default=defaults.CONFIDENCE
    )
    parser.addini("sparsity_baselines", "folder of baselines in rootdir", default="baselines")
    parser.addini(
        "sparsity_inconclusive", "what an inconclusive claim does: fail or skip", default="fail"
    )
    parser.addini(
        "sparsity_job_summary",
        "in GitHub Actions, add the report to the job's summary and annotate what failed",
        type="bool",
        default=True,
    )
    parser.addini(
        "sparsity_baseline_model_limit",
        "megabytes that a model recorded as a baseline may have",
        type="float",
        default=20,
    )


def add_suite(parser: pytest.Parser) -> None:
    """Add the flags of the suite for two files, which `two_files` checks."""
    group = parser.getgroup(
        "sparsity suite", f"sparsity: claims about two files, with pytest --pyargs {SUITE_MODULE}"
    )
    group.addoption("--sparsity-dense", metavar="FILE", help="the file to compare with")
    group.addoption("--sparsity-sparse", metavar="FILE", help="the file that is to be better")
    group.addoption(
        "--sparsity-inputs",
        metavar="FILE",
        help="an .npz file of arrays by the names of the inputs",
    )
    group.addoption(
        "--sparsity-shape",
        metavar="NAME=1,224,224,3",
        action="append",
        help="the shape of an input whose sizes the files leave open; repeatable",
    )
    group.addoption(
        "--sparsity-min-zeros",
        metavar="SHARE",
        type=float,
        default=0.5,
        help="of the sparse file's weights, at least so many are zero; default: %(default)g",
    )
    group.addoption(
        "--sparsity-min-shrink",
        metavar="TIMES",
        type=float,
        default=1.0,
        help="the dense file is at least so many times as large, as it is and after gzip; default:"
        " %(default)g",
    )
    group.addoption(
        "--sparsity-min-ratio",
        metavar="TIMES",
        type=float,
        default=1.0,
        help="the dense file takes at least so many times as long, or as many instructions;"
        " default: %(default)g",
    )
