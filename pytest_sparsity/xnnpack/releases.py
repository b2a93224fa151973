"""Which release of which runtime has which XNNPACK.

How the sources were found: of the commits that LiteRT's xnnpack.cmake was ever at, the one whose
functions are those that a wheel of LiteRT has symbols for, or whose public headers are those in a
wheel of TensorFlow, and, where several fit, the last before the wheel's sources.
tests/claims/test_rules_of_releases.py holds the rules against what the oldest, middle and newest
releases do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_sparsity.xnnpack.changes import CHANGES

AVX = frozenset({"avx", "avx2", "avx512f"})
SME = frozenset({"sme", "sme2"})


@dataclass(frozen=True)
class Release:
    """A version of a runtime, with the XNNPACK that it holds.

    Attributes:
        runtime, version: of the runtime.
        xnnpack: commit of XNNPACK, "" where it is not known.
        xnnpack_date: when it came to XNNPACK's main branch, UTC.
        tflite_date: of the sources of the delegate and TFLite's own kernels.
        lacks: changes older than the sources that it does not have all the same.
        needs_avx: the x86-64 wheel does not run without AVX.
        reports_failures: a model whose subgraph cannot be set up does not load. LiteRT.js
            ignores the failure and hands out outputs that nothing has written (seen).
        slow_threads: what becomes of small models with several threads, if they get slower.
        operators: the newest version of an operator that the runtime has, where older than
            TensorFlow 2.21's.
    """

    runtime: str
    version: str
    xnnpack: str
    xnnpack_date: str
    tflite_date: str
    lacks: frozenset[str] = frozenset()
    needs_avx: bool = False
    reports_failures: bool = True
    slow_threads: str = ""
    operators: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.runtime} {self.version}"

    def has(self, name: str) -> bool:
        """Whether the release has a change.

        Raises:
            KeyError: no change has that name.
        """
        change = CHANGES[name]
        built = self.xnnpack_date if change.where == "XNNPACK" else self.tflite_date
        return change.date <= built and name not in self.lacks


def _litert(version: str, xnnpack: str, xnnpack_date: str, tflite_date: str) -> Release:
    return Release("litert", version, xnnpack, xnnpack_date, tflite_date)


def _litert_js(version: str, date: str) -> Release:
    """Not built from xnnpack.cmake's pins.

    The date is the last day before a change whose effect is not seen: `reshape-checks-input`,
    `fc-checks-channels`, `convolution-checks-channels`.
    """
    return Release("litert-js", version, "", date, date, reports_failures=False)


def _tensorflow(
    version: str, xnnpack: str, xnnpack_date: str, tflite_date: str, *lacks: str
) -> Release:
    return Release(
        "tensorflow",
        version,
        xnnpack,
        xnnpack_date,
        tflite_date,
        lacks=frozenset(lacks),
        needs_avx=True,
    )


RELEASES = (
    # Its tag is from before LiteRT had sources of its own; both dates are those of the tag.
    _litert("1.0.1", "", "2024-09-04T04:10Z", "2024-09-04"),
    # Up to 2.0.3 as of xnnpack.cmake at the release's tag.
    _litert("1.1.1", "6a834a09c5", "2025-02-03T12:08Z", "2025-02-08"),
    _litert("1.1.2", "6a834a09c5", "2025-02-03T12:08Z", "2025-02-10"),
    _litert("1.2.0", "5b4978cae1", "2025-02-27T01:11Z", "2025-03-10"),
    _litert("1.3.0", "240217afed", "2025-04-24T22:47Z", "2025-05-19"),
    # A commit that XNNPACK's main branch does not have; the date is that of its pin.
    _litert("1.4.0", "dc69e89994", "2025-06-26T23:05Z", "2025-06-30"),
    _litert("2.0.2", "e757940dbd", "2025-08-12T18:45Z", "2025-09-15"),
    _litert("2.0.3", "e757940dbd", "2025-08-12T18:45Z", "2025-11-13"),
    _litert("2.1.0", "77468446eb", "2025-12-12T22:35Z", "2025-12-19"),
    _litert("2.1.1", "77468446eb", "2025-12-12T22:35Z", "2026-01-27"),
    _litert("2.1.2", "25b42dfddb", "2025-12-26T21:53Z", "2026-01-27"),
    _litert("2.1.3", "9d47c4a7fd", "2026-02-13T02:12Z", "2026-03-11"),
    _litert("2.1.4", "0374903756", "2026-03-13T18:55Z", "2026-04-04"),
    _litert("2.1.5", "bccfe73347", "2026-04-27T22:35Z", "2026-05-14"),
    _litert("2.1.6", "c2e81f01b0", "2026-06-26T22:10Z", "2026-06-29"),
    _litert("2.2.0", "53a1797ba4", "2026-07-17T16:47Z", "2026-08-06"),
    _litert("2.3.0", "8388bd7869", "2026-08-11T19:44Z", "2026-08-14"),
    _litert_js("2.0.0", "2026-03-25"),
    _litert_js("2.5.2", "2026-07-12"),
    _litert_js("2.5.3", "2026-07-16"),
    _tensorflow("2.19.0", "6a834a09c5", "2025-02-03T12:08Z", "2025-02-05"),
    _tensorflow("2.20.0", "585e73e63c", "2025-07-07T18:52Z", "2025-07-08"),
    _tensorflow("2.21.0", "25b42dfddb", "2025-12-26T21:53Z", "2026-01-05"),
    Release(
        "tflite-runtime",
        "2.14.0",
        "b9d4073a69",
        "2023-04-10T00:31Z",
        "2023-09-26",
        slow_threads="13 to 21 us for a 3-layer MLP with 2",
        operators=(("FULLY_CONNECTED", 11),),
    ),
)
"""Of each runtime from the oldest to the newest."""


def newest(runtime: str) -> Release:
    """The newest known release of a runtime.

    Raises:
        ValueError: no rules are known for the runtime.
    """
    known = [release for release in RELEASES if release.runtime == runtime]
    if known:
        return known[-1]
    runtimes = ", ".join(dict.fromkeys(release.runtime for release in RELEASES))
    raise ValueError(f"no rules are known for the runtime {runtime!r}; known are {runtimes}")


def release_of(runtime: str, version: str) -> tuple[Release, bool]:
    """The release whose rules apply, and whether it is exactly this version.

    An unknown version takes its nearest neighbour: the newest release that is not newer, or the
    oldest one for what is older than all.

    Raises:
        ValueError: no rules are known for the runtime.
    """
    nearest = newest(runtime)
    known = [release for release in RELEASES if release.runtime == runtime]
    if _numbers(version):
        older = [r for r in known if _numbers(r.version) <= _numbers(version)]
        nearest = older[-1] if older else known[0]
    return nearest, nearest.version == version


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers at the beginning of a version: "2.4.0.dev20261026" is 2.4.0."""
    return tuple(map(int, re.findall(r"\d+", re.split(r"[a-z]", version)[0])))


def gate_closed(release: Release, arch: str, features: frozenset[str]) -> str:
    """The code of the finding that says why sparse kernels are off on a CPU; "" if they are on.

    XNNPACK's `xnn_is_chw_compatible_config` (src/xnnpack/hardware-config.h): x86 without AVX (since
    cfbed0a72f, 2020-12-08), every other architecture; but for a while ARM with FP16 arithmetic
    alone.

    Args:
        release: of the runtime.
        arch: "x86_64", "aarch64", "wasm32", ...
        features: of the CPU as Linux spells them.
    """
    x86 = arch in {"x86_64", "x86"}
    if release.has("chw-gate-asks-fp16") and not release.has("chw-gate-mended"):
        if not arch.startswith(("aarch64", "arm")):
            return "no-sparse-build"
        return "" if features & {"asimdhp", "fphp"} else "needs-fp16"
    if x86 and (release.needs_avx or features & AVX):
        return "x86-avx"
    return ""


def dense_with_sme(release: Release, arch: str, features: frozenset[str]) -> bool:
    """Whether dense float32 kernels are those of SME, while sparse ones are of NEON.

    The gate of sparse inference asks nothing about SME (src/xnnpack/hardware-config.h, 75db3c093b).
    Arguments as of `gate_closed`.
    """
    return arch == "aarch64" and bool(features & SME) and release.has("sme-kernels")
