"""A target: a runtime at a place; and the registry that knows them by name."""

from __future__ import annotations

import difflib
import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from pytest_sparsity.errors import TargetError, Unsupported
from pytest_sparsity.targets.places import adb, browser, emulated, ssh
from pytest_sparsity.targets.places.native import Native
from pytest_sparsity.targets.places.node import Node
from pytest_sparsity.targets.runtimes import RUNTIMES, TOOLS, Runtime
from pytest_sparsity.targets.worker_process import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_sparsity.machine import Machine
    from pytest_sparsity.targets.places import Place


Where: TypeAlias = "str | Target | tuple[str | Target, str | Target]"
"""A target or its name; of a race also two of them, one for each model."""


@dataclass(frozen=True)
class Target:
    """Where a model runs. Two targets of one name are the same.

    Attributes:
        name: e.g. `"litert"` or `"litert@cortex-a53"`.
        record: the runtime.
        place: what it runs on.
    """

    name: str
    record: Runtime = field(compare=False)
    place: Place = field(compare=False)

    @classmethod
    def of(cls, target: Where) -> Target:
        """Return the target of that name, or the target itself; two of them as one for a race.

        Raises:
            ValueError: there is no such target; the message lists them.
        """
        if isinstance(target, Target):
            return target
        if not isinstance(target, str):
            from pytest_sparsity.targets.versus import Versus

            first, second = target
            return Versus.between(Target.of(first), Target.of(second))
        known = {each.name: each for each in all_targets()}
        found = known.get(target) or _by_parts(target)
        if found is None:
            near = difflib.get_close_matches(target, known, 1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"no target is called {target!r}{meant}; there are {', '.join(known)}, those of a"
                " release, such as litert==2.1.6 or litert-nightly, and those of the emulated CPUs"
                f" {', '.join(host for host in emulated.HOSTS if host not in emulated.USUAL)},"
                " those of a host that ssh reaches, such as litert@ssh:HOST, and"
                " benchmark_model@adb for a phone"
            )
        return found

    def __str__(self) -> str:
        return self.name

    @property
    def runtime(self) -> str:
        """The runtime's name, e.g. `"litert"`."""
        return self.record.name

    @property
    def host(self) -> str | None:
        """The emulated CPU or the other machine that it runs on, None for this machine."""
        return self.place.host

    def at(self, release: str) -> Target:
        """Return the target of a release of the runtime at the same place.

        Raises:
            Unsupported: no release can be had there.
        """
        place = self.place.at(release)
        return Target(place.named(self.record), self.record, place)

    @property
    def unit(self) -> str:
        """What a race counts there, `"seconds"` or `"instructions"`."""
        return self.place.unit

    @property
    def sides(self) -> tuple[Target, Target]:
        """The targets of the first and of the second model of a race."""
        return self, self

    @property
    def control(self) -> Target:
        """Where a model raced against itself must give 1."""
        return self

    def missing(self) -> Unsupported | None:
        """Return what is missing with the command that installs it, or None; starts nothing."""
        lacking = self.place.missing(self.record)
        return lacking and lacking.on(self.name)

    @property
    def available(self) -> bool:
        """Whether nothing is known to be missing."""
        return self.missing() is None

    def cannot_count(self) -> Unsupported | None:
        """Say why an emulated target cannot count instructions although it runs, or None."""
        unable = self.place.cannot_count()
        return unable and unable.on(self.name)

    def version(self) -> str:
        """Return the runtime's version, or "unknown"; the runtime is not imported."""
        return self.place.version(self.record)

    @property
    def arch(self) -> str:
        """The architecture that the runtime's code is for: `"x86_64"`, `"aarch64"`, `"wasm32"`."""
        return self.place.arch(self.record)

    @property
    def features(self) -> frozenset[str]:
        """The CPU features that the runtime sees, as Linux spells them."""
        return self.place.features(self.record)

    @property
    def machine(self) -> Machine | None:
        """The kind of machine that it runs on, None for this one."""
        return self.place.machine(self.record)

    @property
    def turns(self) -> tuple[str, ...]:
        """The names of the machines that a race of time takes turns on; "" is this one."""
        return tuple(sorted({side.place.turn(side.record) for side in self.sides}))

    def open(self, *, threads: int = 1, timeout: float | None = None) -> Worker:
        """Start a worker.

        Args:
            threads: threads of the models that the worker loads.
            timeout: seconds that any one answer may take; by default the place's: 60, and 600 on
                an emulated CPU.

        Raises:
            Unsupported: something is missing.
            TargetError: the worker does not start.
        """
        missing = self.missing()
        if missing is not None:
            raise missing
        try:
            launch = self.place.launch(self.record, threads)
        except Unsupported as error:
            raise error.on(self.name) from None
        if timeout is None:
            timeout = self.place.timeout
        try:
            worker = Worker(self.name, launch, threads=threads, timeout=timeout)
        except Unsupported as error:
            self.place.heard(self.record, error)
            raise
        self.place.heard(self.record, worker.hello)
        return worker


def _place(runtime: Runtime, host: str | None, release: str) -> Place | None:
    """Return the place of a host, None if the runtime does not run there."""
    if runtime.name in TOOLS:
        place, _, serial = (host or "").partition(":")
        named = place == adb.NAME and not release and (serial or ":" not in str(host))
        return adb.Adb(serial) if named else None
    if host is None:
        return Node(release) if runtime.build else Native(release)
    if runtime.build and host in browser.HOSTS:
        return browser.InBrowser(release, host)
    if host.startswith(ssh.PREFIX) and runtime.module and not release:
        destination = host.removeprefix(ssh.PREFIX)
        return ssh.Ssh(destination) if destination else None
    if runtime.guest_version and host in emulated.HOSTS:
        return emulated.at(host, release)
    return None


def _built_in() -> Iterator[Target]:
    hosts = [(runtime, None) for runtime in RUNTIMES.values()]
    emulators = itertools.product(RUNTIMES.values(), emulated.USUAL)
    browsers = [(RUNTIMES["litert-js"], host) for host in browser.HOSTS]
    for runtime, host in (*hosts, *emulators, *browsers):
        place = _place(runtime, host, "")
        if place is not None:
            yield Target(place.named(runtime), runtime, place)


# RUNTIME, ==VERSION or -nightly, and the host.
_PARTS = re.compile(
    r"(?P<runtime>[a-z_-]+?)(?:==(?P<release>\d[\w.+-]*)|-(?P<nightly>nightly))?(?:@(?P<host>.+))?"
)


def _by_parts(name: str) -> Target | None:
    """Return the target of a release, or of a CPU that is not listed; None if it is neither."""
    parts = _PARTS.fullmatch(name)
    runtime = parts and (RUNTIMES | TOOLS).get(parts["runtime"])
    if parts is None or runtime is None:
        return None
    place = _place(runtime, parts["host"], parts["release"] or parts["nightly"] or "")
    return None if place is None else Target(name, runtime, place)


_TARGETS = {target.name: target for target in _built_in()}
_registered: dict[str, Target] = {}


def all_targets() -> tuple[Target, ...]:
    """Return the targets of this package and then those that were registered."""
    return (*_TARGETS.values(), *_registered.values())


def connected_targets() -> tuple[Target, ...]:
    """Return those of the phones that are connected; starts nothing."""
    serials = adb.connected()
    names = serials if len(serials) > 1 else ("",) * len(serials)
    return tuple(
        Target(place.named(runtime), runtime, place)
        for runtime in TOOLS.values()
        for place in map(adb.Adb, names)
    )


def available_targets() -> tuple[Target, ...]:
    """Return the targets of which nothing is known to be missing."""
    return tuple(target for target in all_targets() if target.available)


def register(targets: Iterable[Target]) -> tuple[Target, ...]:
    """Let targets be found by their names, all of them or none; return them.

    Raises:
        TypeError: one of them is not a target.
        ValueError: one of them has the name of another.
    """
    added: dict[str, Target] = {}
    for target in targets:
        if not isinstance(target, Target):
            raise TypeError(f"{target!r} is not a Target")
        if target.name in _TARGETS | _registered | added:
            raise ValueError(f"there already is a target called {target.name!r}")
        added[target.name] = target
    _registered.update(added)
    return tuple(added.values())


def unregister(targets: Iterable[Target]) -> None:
    """Forget targets that were registered."""
    for target in targets:
        _registered.pop(target.name, None)


def install(target: str | Target, progress: Callable[[str], None]) -> None:
    """Set up what a target lacks, as far as that needs no root, and try it.

    What was installed earlier and is broken is set up again.

    Args:
        target: a target or its name.
        progress: gets one line before every step and one at the end.

    Raises:
        ValueError: there is no such target.
        Unsupported: something is missing that only the user can bring; with the command.
        TargetError: everything is there and the worker does not start all the same.
    """
    where = Target.of(target)
    where.place.install(where.record, progress)
    try:
        _try(where, progress)
    except TargetError as error:
        if not where.place.discard(where.record):
            raise
        progress(f"{error}; setting it up again")
        where.place.install(where.record, progress)
        _try(where, progress)
    cannot_count = where.cannot_count()
    if cannot_count is not None:
        progress(f"{where}: {cannot_count}")


def _try(target: Target, progress: Callable[[str], None]) -> None:
    """Start a worker once; a guest's Python also compiles its modules for later by that."""
    progress(f"{target}: trying it")
    with target.open() as worker:
        runtime, version, cpu = (worker.hello[name] for name in ("runtime", "version", "cpu"))
        progress(f"{target}: {runtime} {version} runs on {cpu}")
