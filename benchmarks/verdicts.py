"""Verdicts of this plugin beside those of what people would use instead, from one run.

    python -m pip install pyperf
    python benchmarks/verdicts.py [--rounds 12] [--races 100] [--output docs/verdicts.md]

Claim: "not slower than 1.02 (or 1.01) times". Two networks written on the spot, of about 5 us and
0.1 ms on a current CPU, are compared with themselves, where the true ratio is 1, and with
themselves invoked 2, 5 and 10 % more often per call, which makes the true ratio exactly that.
Everything runs twice: with the machine to itself, and with a load generator on the last CPU.

In every round each tool measures every case once, in random order, on litert with one thread:

- pytest-sparsity: a race with a budget of 10 s; it stops as soon as the claim is decided;
- pytest-benchmark: a session per file, 10 s for two; its own rule of `--benchmark-compare-fail`,
  applied to min, median and mean, the unchanged file's session being the stored one;
- pyperf: seven processes per file, 10 s for two; its own significance with `--min-speed`;
- the mean of 100 timed calls per file.

The last three compare with two sessions of the unchanged file, which gives two verdicts a round;
for the true ratio 1 those are the two sessions against each other, either way round.

Then `--races` races per network under load, of the file with itself and with 5 % more work, check
that no claim about the first is refuted and nearly all about the second are, within 10 s.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_sparsity.errors import Inconclusive
from pytest_sparsity.machine import this_machine
from pytest_sparsity.racing import check_control, start
from pytest_sparsity.targets import Target
from pytest_sparsity.writer import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_sparsity.targets import Blocks, Worker

BUDGET = 10.0
MARGINS = (2, 1)
EFFECTS = (0, 2, 5, 10)
LOADS = ("quiet", "loaded")
TOOLS = (
    "pytest-sparsity",
    "pytest-benchmark min",
    "pytest-benchmark median",
    "pytest-benchmark mean",
    "pyperf",
    "mean of 100 calls",
)
NETWORKS = ("5 us", "0.1 ms")
# Invocations that make one call of the unchanged file; the effects come out whole.
CALL_OF = 100

CALL = """
from ai_edge_litert.interpreter import Interpreter

def make_call(path, invocations):
    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    invoke = interpreter.invoke
    def call():
        for _ in range(invocations):
            invoke()
    return call
"""
BENCHMARK = """
import os
from call import make_call

def test_call(benchmark):
    benchmark(make_call(os.environ["MODEL"], int(os.environ["INVOCATIONS"])))
"""
PYPERF = """
import os
import pyperf
from call import make_call

call = make_call(os.environ["MODEL"], int(os.environ["INVOCATIONS"]))
pyperf.Runner().bench_func("call", call)
"""
PLAIN = """
import os
import time
from call import make_call

call = make_call(os.environ["MODEL"], int(os.environ["INVOCATIONS"]))
seconds = []
for _ in range(100):
    start = time.perf_counter()
    call()
    seconds.append(time.perf_counter() - start)
print(sum(seconds) / len(seconds))
"""


@dataclass(frozen=True)
class More(Target):
    """A target where an invocation is so many, and "sparse" makes more per cent of them."""

    effect: int = 0
    calls: int = CALL_OF

    def open(self, *, threads: int = 1, timeout: float | None = None) -> Worker:
        """Start a worker that does so."""
        worker = super().open(threads=threads, timeout=timeout)
        run = worker.run

        def scaled(blocks: Sequence[tuple[str, int]], warm: int = 1) -> Blocks:
            more = self.calls * self.effect // 100
            calls = {"dense": self.calls, "sparse": self.calls + more}
            return run([(key, n * calls[key.split()[0]]) for key, n in blocks], warm)

        worker.run = scaled  # type: ignore[method-assign]
        return worker


@dataclass
class Tally:
    """Verdicts of one tool in one case: refuted, holds, inconclusive; and what they took."""

    refuted: int = 0
    holds: int = 0
    inconclusive: int = 0
    seconds: list[float] = field(default_factory=list)

    def add(self, verdict: bool | None, seconds: float) -> None:
        """Count a verdict."""
        self.refuted += verdict is False
        self.holds += verdict is True
        self.inconclusive += verdict is None
        self.seconds.append(seconds)

    @property
    def total(self) -> int:
        """All verdicts."""
        return self.refuted + self.holds + self.inconclusive

    def percent(self) -> str:
        """The refuted ones, and how many were left open."""
        open_ = f" ({100 * self.inconclusive / self.total:.0f} open)" if self.inconclusive else ""
        return f"{100 * self.refuted / self.total:.0f}{open_}"


Key = tuple[str, str, str, int, int]  # tool, load, network, effect, margin
Tallies = dict[Key, Tally]


def write_networks(folder: Path) -> dict[str, Path]:
    """Write the network of the XNNPACK tutorial and a MobileNetV1, alpha 0.25, 96 x 96 pixels."""
    rng = np.random.Generator(np.random.PCG64(0))

    def weights(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return rng.standard_normal(shape, np.float32) * np.float32((2 / np.prod(shape[1:])) ** 0.5)

    def separable(net: Network, x: Any, channels: int, out: int, stride: int) -> Any:
        x = net.depthwise(
            net.pad(x, 1), weights(1, 3, 3, channels), stride=stride, activation="RELU"
        )
        return net.conv2d(x, weights(out, 1, 1, channels), activation="RELU")

    def network(size: int, first: int, layers: Sequence[tuple[int, int]], name: str) -> Path:
        net, channels = Network((1, size, size, 3)), first
        x = net.conv2d(net.pad(net.input, 1), weights(first, 3, 3, 3), stride=2, activation="RELU")
        for out, stride in layers:
            x = separable(net, x, channels, out, stride)
            channels = out
        net.output(net.fully_connected(net.mean(x), weights(10, channels)))
        return net.write(folder / name)

    mobilenet = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5]
    return {
        "5 us": network(32, 8, [(16, 1), (32, 2)], "tutorial.tflite"),
        "0.1 ms": network(96, 8, [*mobilenet, (256, 2), (256, 1)], "mobilenet.tflite"),
    }


def burn(cpu: int) -> None:
    """Use one CPU and the memory behind it in bursts, as long as whoever asked for it lives."""
    asked = os.getppid()
    os.sched_setaffinity(0, {cpu})
    rng = random.Random(0)
    memory = np.ones(8 << 20)
    while os.getppid() == asked:
        until = time.monotonic() + rng.uniform(0.01, 0.3)
        while time.monotonic() < until:
            memory[:: rng.choice((1, 8, 64))] += 1.0
        time.sleep(rng.uniform(0, 0.02))


@contextmanager
def load(name: str) -> Iterator[None]:
    """Run the load generator on the last CPU, or not."""
    if name == "quiet":
        yield
        return
    burner = multiprocessing.get_context("spawn").Process(
        target=burn, args=(max(os.sched_getaffinity(0)),), daemon=True
    )
    burner.start()
    try:
        yield
    finally:
        burner.kill()
        burner.join()


def race_verdicts(
    model: Path,
    effect: int,
    seed: int,
    margins: Sequence[int],
    target: str = "litert",
    threads: int = 1,
    budget: float = BUDGET,
    calls: int = CALL_OF,
) -> list[tuple[int, bool | None, float]]:
    """Race the file with itself, once; margin, verdict and seconds spent until then, in order."""
    more = More(**vars(Target.of(target)), effect=effect, calls=calls)
    race = start(model, model, more, threads, budget, seed=seed)
    found: list[tuple[int, bool | None, float]] = []
    for margin in margins:
        try:
            verdict: bool | None = race.speedup >= 1 / (1 + margin / 100)
        except Inconclusive:
            verdict = None
        found.append((margin, verdict, race.wall_seconds))
    return found


@dataclass
class Session:
    """What every other tool found out about one file, and how long it took."""

    benchmark: dict[str, float]
    pyperf: Any
    plain: float
    seconds: dict[str, float]


class Peers:
    """Runs the other tools on one file."""

    def __init__(self, folder: Path, benchmark_seconds: float, processes: int) -> None:
        self._folder = folder
        self._benchmark_seconds = benchmark_seconds
        self._processes = processes
        for name, text in {
            "call.py": CALL,
            "test_call.py": BENCHMARK,
            "bench.py": PYPERF,
            "plain.py": PLAIN,
        }.items():
            (folder / name).write_text(text)

    def session(self, model: Path, invocations: int) -> Session:
        """Measure one file with all of them."""
        environment = {**os.environ, "MODEL": str(model), "INVOCATIONS": str(invocations)}

        def timed(*arguments: str) -> tuple[str, float]:
            begun = time.monotonic()
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=self._folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SystemExit(f"{arguments} failed:\n{done.stdout}{done.stderr}")
            return done.stdout, time.monotonic() - begun

        _, benchmark_seconds = timed(
            "-m", "pytest", "-q", "-p", "no:sparsity", "-p", "no:cacheprovider", "test_call.py",
            "--benchmark-json=benchmark.json", f"--benchmark-max-time={self._benchmark_seconds}",
        )  # fmt: skip
        (self._folder / "pyperf.json").unlink(missing_ok=True)
        _, pyperf_seconds = timed(
            "bench.py", "--quiet", "-p", str(self._processes), "-n", "3", "-w", "1",
            "--inherit-environ=MODEL,INVOCATIONS", "-o", "pyperf.json",
        )  # fmt: skip
        printed, plain_seconds = timed("plain.py")
        import pyperf

        stored = json.loads((self._folder / "benchmark.json").read_text())
        return Session(
            stored["benchmarks"][0]["stats"],
            pyperf.BenchmarkSuite.load(str(self._folder / "pyperf.json")).get_benchmarks()[0],
            float(printed),
            {"benchmark": benchmark_seconds, "pyperf": pyperf_seconds, "plain": plain_seconds},
        )


def peer_verdicts(stored: Session, now: Session, margin: int) -> dict[str, tuple[bool, float]]:
    """Each tool's own rule: False where it reports the file measured now as slower."""
    from pyperf._compare import CompareData, CompareResult
    from pytest_benchmark.utils import parse_compare_fail

    def passes(name: str) -> bool:
        check = parse_compare_fail(f"{name}:{margin}%")  # type: ignore[no-untyped-call]
        return not check.fails(now.benchmark, stored.benchmark)

    compared = CompareResult(
        CompareData("stored", stored.pyperf), CompareData("now", now.pyperf), margin
    )
    slower = compared.significant and float(compared.norm_mean or 1) > 1

    def seconds(name: str) -> float:
        return stored.seconds[name] + now.seconds[name]

    found = {
        f"pytest-benchmark {name}": (passes(name), seconds("benchmark"))
        for name in ("min", "median", "mean")
    }
    found["pyperf"] = (not slower, seconds("pyperf"))
    found["mean of 100 calls"] = (now.plain <= stored.plain * (1 + margin / 100), seconds("plain"))
    return found


def measure_round(
    tallies: Tallies, load_name: str, network: str, model: Path, peers: Peers, seed: int
) -> None:
    """Let every tool measure every case of one network once, in random order."""
    # The others measure file by file: the changed ones, and the unchanged one twice.
    sessions: dict[tuple[int, int], Session] = {}

    def measure(effect: int, copy: int) -> None:
        sessions[effect, copy] = peers.session(model, CALL_OF + effect)

    def race(effect: int) -> None:
        for margin, verdict, seconds in race_verdicts(model, effect, seed, MARGINS):
            tallies["pytest-sparsity", load_name, network, effect, margin].add(verdict, seconds)

    wanted = [(0, 0), *((effect, 1) for effect in EFFECTS)]
    jobs: list[Callable[[], None]] = [partial(measure, *which) for which in wanted]
    jobs += [partial(race, effect) for effect in EFFECTS]
    random.Random(seed).shuffle(jobs)
    for job in jobs:
        job()
    for effect, margin in product(EFFECTS, MARGINS):
        pairs = [((0, 0), (effect, 1)), ((0, 1), (effect, 1) if effect else (0, 0))]
        for stored, now in pairs:
            found = peer_verdicts(sessions[stored], sessions[now], margin)
            for tool, (verdict, seconds) in found.items():
                tallies[tool, load_name, network, effect, margin].add(verdict, seconds)


def progress(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def measure_rounds(models: dict[str, Path], rounds: int, peers: Peers) -> Tallies:
    """All rounds under both loads."""
    tallies: Tallies = defaultdict(Tally)
    for load_name, number in product(LOADS, range(rounds)):
        progress(f"{load_name}, round {number + 1} of {rounds}")
        with load(load_name):
            for network, model in models.items():
                measure_round(tallies, load_name, network, model, peers, number)
    return tallies


def measure_races(models: dict[str, Path], races: int) -> Tallies:
    """Races of a file with itself and with 5 % more work, under load, at a margin of 2 %."""
    tallies: Tallies = defaultdict(Tally)
    with load("loaded"):
        for network, model in models.items():
            progress(f"{races} races of {network} with itself and with 5 % more work, loaded")
            check_control(model, Target.of("litert"), 1, BUDGET, {})
            for seed, effect in product(range(races), (0, 5)):
                ((margin, verdict, seconds),) = race_verdicts(
                    model, effect, 1000 + seed, MARGINS[:1]
                )
                key = ("pytest-sparsity", "loaded", network, effect, margin)
                tallies[key].add(verdict, seconds)
    return tallies


def table(tallies: Tallies, margin: int) -> str:
    """Refuted claims in per cent, by tool and true ratio; networks and loads pooled."""
    lines = [
        "| tool | load | " + " | ".join(f"{1 + effect / 100:.2f}" for effect in EFFECTS)
        + " | s per verdict |",
        "| --- | --- |" + " ---: |" * (len(EFFECTS) + 1),
    ]  # fmt: skip
    for tool, load_name in product(TOOLS, LOADS):
        pooled = [
            pool([tallies[tool, load_name, network, effect, margin] for network in NETWORKS])
            for effect in EFFECTS
        ]
        took = median([seconds for tally in pooled for seconds in tally.seconds])
        cells = " | ".join(tally.percent() for tally in pooled)
        lines.append(f"| {tool} | {load_name} | {cells} | {took:.1f} |")
    return "\n".join(lines)


def pool(parts: Sequence[Tally]) -> Tally:
    """Add up tallies."""
    return Tally(
        sum(part.refuted for part in parts),
        sum(part.holds for part in parts),
        sum(part.inconclusive for part in parts),
        [seconds for part in parts for seconds in part.seconds],
    )


def races_table(tallies: Tallies) -> str:
    """What the many races under load came to."""
    lines = [
        "| network | true ratio | races | holds | refuted | open | s, median | s, longest |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (_, _, network, effect, _), tally in tallies.items():
        numbers = (tally.total, tally.holds, tally.refuted, tally.inconclusive)
        counted = " | ".join(map(str, numbers))
        took = f"{median(tally.seconds):.1f} | {max(tally.seconds):.1f}"
        lines.append(f"| {network} | {1 + effect / 100:.2f} | {counted} | {took} |")
    return "\n".join(lines)


def document(command: str, tallies: Tallies, races: Tallies, rounds: int, average: float) -> str:
    """The page; `average` is the load average before everything."""
    machine = this_machine()
    head = f"""# Verdicts beside the peers

Written by `{command}` on {machine.brand}, {machine.cores} CPUs ({machine.isa}), litert \
{Target.of("litert").version()}, load average {average:.1f} beforehand; what is compared is in the
head of that file.

The figures are refuted claims in per cent. The claim is "not slower than 1.02 times", then "1.01
times"; the columns are true ratios. In the first column every refutation is a false alarm, right of
the margin it is what a tool is for. At the margin itself (1.02 in the first table) nobody can tell,
and the honest answer is "open", which only pytest-sparsity can give. {rounds} rounds, both networks
pooled: {2 * rounds} verdicts of pytest-sparsity per cell, {4 * rounds} of the others.

![False alarms and detected regressions](verdicts.svg)
"""
    parts = [head]
    parts += [f"## Margin {margin} %\n\n{table(tallies, margin)}\n" for margin in MARGINS]
    if races:
        parts.append(
            "## Many races under load\n\nMargin 2 %, budget 10 s, a load generator on the last "
            f"CPU.\n\n{races_table(races)}\n"
        )
    return "\n".join(parts)


def plot(tallies: Tallies) -> str:
    """Draw false alarms and detected regressions at a margin of 2 % as an SVG of dots."""
    left, width, row, top = 190, 250, 34, 64
    colours = dict(zip(NETWORKS, ("#1f6feb", "#d4762c"), strict=True))
    panels = ((0, "false alarms, true ratio 1.00"), (5, "regressions found, true ratio 1.05"))
    height = top + row * len(TOOLS) + 54
    total = left + 2 * (width + 50)
    size = f'width="{total}" height="{height}"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="{total}" height="{height}" fill="#ffffff"/>',
    ]
    for panel, (effect, title) in enumerate(panels):
        x0 = left + panel * (width + 50)
        out.append(f'<text x="{x0}" y="26" font-weight="bold">{title}</text>')
        for percent in (0, 25, 50, 75, 100):
            x = x0 + width * percent / 100
            bottom = top + row * len(TOOLS) - 8
            out.append(f'<path d="M{x:.1f} {top - 14}V{bottom}" stroke="#d8dee4"/>')
            out.append(f'<text x="{x:.1f}" y="{top - 20}" text-anchor="middle" fill="#57606a">'
                       f"{percent} %</text>")  # fmt: skip
        for number, tool in enumerate(TOOLS):
            for step, (network, load_name) in enumerate(product(NETWORKS, LOADS)):
                tally = tallies[tool, load_name, network, effect, MARGINS[0]]
                x = x0 + width * tally.refuted / tally.total
                y = top + row * number + 6 * (step - 1)
                fill = colours[network] if load_name == "loaded" else "#ffffff"
                out.append(f'<circle cx="{x:.1f}" cy="{y}" r="4.5" fill="{fill}" '
                           f'stroke="{colours[network]}" stroke-width="1.6"/>')  # fmt: skip
    for number, tool in enumerate(TOOLS):
        out.append(f'<text x="{left - 16}" y="{top + row * number + 6}" text-anchor="end">{tool}'
                   "</text>")  # fmt: skip
    for step, (network, load_name) in enumerate(product(NETWORKS, LOADS)):
        x, y = left + step * 130, height - 22
        fill = colours[network] if load_name == "loaded" else "#ffffff"
        out.append(f'<circle cx="{x}" cy="{y - 4}" r="4.5" fill="{fill}" '
                   f'stroke="{colours[network]}" stroke-width="1.6"/>')  # fmt: skip
        out.append(f'<text x="{x + 12}" y="{y}">{network}, {load_name}</text>')
    return "\n".join([*out, "</svg>", ""])


def write_page(
    path: Path, arguments: argparse.Namespace, tallies: Tallies, races: Tallies, average: float
) -> str:
    """Write the page and the plot beside it; returns the page's text."""
    command = f"python benchmarks/verdicts.py --rounds {arguments.rounds} --races {arguments.races}"
    text = document(command, tallies, races, arguments.rounds, average)
    path.write_text(text, encoding="utf-8")
    path.with_suffix(".svg").write_text(plot(tallies), encoding="utf-8")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--races", type=int, default=100)
    parser.add_argument("--benchmark-seconds", type=float, default=3.5)
    parser.add_argument("--pyperf-processes", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path("docs/verdicts.md"))
    arguments = parser.parse_args()
    begun, average = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = write_networks(folder)
        peers = Peers(folder, arguments.benchmark_seconds, arguments.pyperf_processes)
        tallies = measure_rounds(models, arguments.rounds, peers)
        # A first version: what follows takes half an hour, and may fail.
        write_page(arguments.output, arguments, tallies, {}, average)
        races = measure_races(models, arguments.races) if arguments.races else {}
    print(write_page(arguments.output, arguments, tallies, races, average))
    progress(f"took {(time.monotonic() - begun) / 60:.0f} minutes")
    false_alarms = sum(tally.refuted for key, tally in races.items() if key[3] == 0)
    found = mean([t.refuted / t.total for key, t in races.items() if key[3] == 5] or [1.0])
    return int(false_alarms > 0 or found < 0.95)


if __name__ == "__main__":
    sys.exit(main())
