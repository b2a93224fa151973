"""The report as one page that needs nothing else: no font, no network, a small script of its own.

What each part shows is gathered here in plain values; `page.html` writes them down.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_sparsity.errors import printable
from pytest_sparsity.report import curves, plot, terminal
from pytest_sparsity.report.document import OUTCOMES, VERDICTS
from pytest_sparsity.report.numbers import duration, nbytes, number, percent
from pytest_sparsity.wording import counted, noun
from pytest_sparsity.xnnpack import WRONG

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_sparsity.report.records import Record

HERE = Path(__file__).parent
PLOT_WIDTH, SPARK_WIDTH, SPARK_HEIGHT, BAR_WIDTH = 220, 120, 30, 64
# What is neither a claim that holds nor one that was not made.
BAD = ("refuted", "inconclusive")
FAILED = ("error", "failed", "xpassed")
# Findings in the details of a claim; all of them are below.
FINDINGS_SHOWN = 3
# Rows of the table of trends; the others open.
TRENDS_SHOWN = 12
ROLES = ("dense", "pruned", "sparse")


def page(document: Record) -> str:
    """Return the HTML of a report; see `document.compose`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        finalize=lambda value: _spelt_out(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": _shown,
        "number": number,
        "percent": percent,
        "nbytes": nbytes,
        "duration": duration,
        "counted": counted,
        "noun": noun,
        "breakable": _breakable,
        "slug": lambda word: word.replace(" ", "-"),
    }
    order = (*VERDICTS, "not claimed")
    claims = sorted(
        _claims(document), key=lambda claim: (order.index(claim["verdict"]), claim["expected"])
    )
    scale = plot.Scale.over(_ends(claims), PLOT_WIDTH)
    for claim in claims:
        claim["plot"] = plot.interval(scale, claim)
    style, script = (_own(name) for name in ("page.css", "page.js"))
    html: str = environment.get_template("page.html").render(
        document=document,
        style=style,
        script=script,
        hashes={"style": _hash(style), "script": _hash(script)},
        failed=sum(document["counts"]["tests"].get(outcome, 0) for outcome in FAILED),
        claims=claims,
        verdicts=VERDICTS,
        expected={
            verdict: sum(claim["verdict"] == verdict and claim["expected"] for claim in claims)
            for verdict in VERDICTS
        },
        order=order,
        outcomes=OUTCOMES,
        scale=scale,
        tests=_tests(document["tests"]),
        lacking=terminal.lacking(terminal.final(document["tests"])),
        baselines=list(_baselines(document)),
        trends=sorted(_trends(document), key=_movement, reverse=True),
        trends_shown=TRENDS_SHOWN,
        models=list(_models(document)),
        curves=curves.of(document),
        findings=_findings(document["diagnoses"]),
        spark=(SPARK_WIDTH, SPARK_HEIGHT),
        bar=BAR_WIDTH,
    )
    return html


def _shown(value: object) -> str:
    """Return a recorded value; of a large number thousands apart."""
    return f"{value:,}" if type(value) is int else terminal.shown(value)


def _breakable(text: str) -> object:
    """Return the name of a test that may be broken into lines between its parts."""
    from markupsafe import Markup, escape

    parts = re.sub(r"(::|[/_[])(?=.)", "\\1\0", _spelt_out(text)).split("\0")
    return Markup("<wbr>").join(map(escape, parts))


def _spelt_out(text: str) -> str:
    """Return text without what is not to be seen; of several lines, each by itself."""
    return "\n".join(map(printable, text.split("\n")))


def _own(name: str) -> object:
    """Return the text of a file beside this one, which is to be taken as it is."""
    from markupsafe import Markup

    return Markup((HERE / name).read_text(encoding="utf-8"))


def _hash(text: object) -> str:
    """Return what a Content-Security-Policy calls a text by."""
    digest = hashlib.sha256(f"\n{text}".encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _claims(document: Record) -> Iterable[Record]:
    """Yield every claim about a race with all that its row and its details show."""
    unclaimed = {"text": "", "threshold": None, "verdict": "not claimed", "reason": ""}
    for test in document["tests"]:
        for race in test["races"]:
            known = race["diagnosis"]
            diagnosis = None if known is None else document["diagnoses"][known]
            for claim in race["claims"] or [{**unclaimed, **race["ratio"]}]:
                verdict = claim["verdict"]
                yield {
                    **claim,
                    "verdict": verdict,
                    "expected": verdict in BAD and test["outcome"] == "passed",
                    "nodeid": test["nodeid"],
                    "race": race,
                    "measured": terminal.ratio(claim, race["unit"]),
                    "dense": _cost(race["dense"]["median"], race["unit"]),
                    "sparse": _cost(race["sparse"]["median"], race["unit"]),
                    "diagnosis": diagnosis,
                    "findings": diagnosis["findings"][:FINDINGS_SHOWN] if diagnosis else [],
                }


def _ends(claims: Iterable[Record]) -> Iterable[float]:
    """Yield what the axis must show."""
    for claim in claims:
        ends = (claim["low"], claim["high"], claim["threshold"])
        yield from (end for end in ends if end is not None)


def _cost(median: float | None, unit: str) -> str:
    if median is None:
        return "unknown"
    return f"{median:,.0f} instr." if unit == "instructions" else duration(median)


def _tests(tests: Sequence[Record]) -> list[Record]:
    """Return the tests, those that failed first."""
    return sorted(
        ({**test, "did": _did(test)} for test in tests),
        key=lambda test: OUTCOMES.index(test["outcome"]),
    )


def _did(test: Record) -> str:
    """Return what a test did with the fixtures: `2 races, 1 baseline`."""
    claims = sum(len(race["claims"]) for race in test["races"])
    counted = {
        "race": len(test["races"]),
        "claim": claims,
        "baseline": len(test["baselines"]),
        "diagnosis": len(test["diagnoses"]),
        "network": len(test["variants"]),
    }
    return ", ".join(f"{count} {_plural(name, count)}" for name, count in counted.items() if count)


def _plural(name: str, count: int) -> str:
    several = {"diagnosis": "diagnoses"}.get(name, f"{name}s")
    return name if count == 1 else several


def _baselines(document: Record) -> Iterable[Record]:
    for test in document["tests"]:
        for entry in test["baselines"]:
            verdict = entry["verdict"]
            yield {**entry, "verdict": verdict, "nodeid": test["nodeid"]}


def _trends(document: Record) -> Iterable[Record]:
    """Yield the values that moved, with how far since the first."""
    for trend in document["trends"]:
        values = [point["value"] for point in trend["points"]]
        if len(values) > 1:
            spark = plot.sparkline(values, SPARK_WIDTH, SPARK_HEIGHT)
            yield {**trend, "spark": spark, "change": _change(values[0], values[-1])}


def _change(first: Any, last: Any) -> float | None:
    """Return the relative change of two numbers or ratios, None of anything else."""
    a, b = (_mapped(value).get("value") for value in (first, last))
    numbers = all(type(value) in (int, float) for value in (a, b))
    return (b - a) / abs(a) if numbers and a else None


def _mapped(value: Any) -> Record:
    return value if isinstance(value, dict) else {"value": value}


def _movement(trend: Record) -> float:
    """Return what trends are sorted by: those that are no numbers come first."""
    return math.inf if trend["change"] is None else abs(trend["change"])


def _models(document: Record) -> Iterable[Record]:
    """Yield each file with its diagnoses, one per target, and its layers with bars."""
    roles = _roles(document["tests"])
    for model in _by_network(document, roles):
        made = {d["target"]: d for d in _diagnoses_of(document, model)}
        largest = max((layer["nbytes"] for layer in model["layers"]), default=0)
        layers = [
            {
                **layer,
                "zeros": plot.share(layer["sparsity"], 1, BAR_WIDTH),
                "size": plot.share(layer["nbytes"], largest, BAR_WIDTH),
                "targets": [_on_target(diagnosis, place) for diagnosis in made.values()],
            }
            for place, layer in enumerate(model["layers"])
        ]
        yield {
            **model,
            "role": roles.get(model["sha256"], ""),
            "diagnoses": list(made.values()),
            "layers": layers,
            "bad": any(d["verdict"] in WRONG for d in made.values()),
        }


def _by_network(document: Record, roles: Record) -> list[Record]:
    """Return the files, those of one network together, from dense to sparse."""
    networks: dict[str, str] = {}
    for test in document["tests"]:
        for variants in test["variants"]:
            networks |= dict.fromkeys(variants.values(), variants["dense"])
    places: dict[str, int] = {}
    for place, model in enumerate(document["models"]):
        digest = str(model["sha256"])
        places.setdefault(networks.get(digest, digest), place)

    def order(model: Record) -> tuple[float, ...]:
        digest = str(model["sha256"])
        place = places[networks.get(digest, digest)]
        role = ROLES.index(roles.get(digest, ROLES[0]))
        return place, round(model["sparsity"] or 0, 3), role

    return sorted(document["models"], key=order)


def _diagnoses_of(document: Record, model: Record) -> list[Record]:
    """Return the diagnoses of a file; of one target what was observed comes last."""
    found = [d for d in document["diagnoses"] if d["model"]["sha256"] == model["sha256"]]
    return sorted(found, key=lambda diagnosis: str(diagnosis["evidence"]) == "observed")


def _roles(tests: Iterable[Record]) -> dict[str, str]:
    """Return what a file is of its network, by hash; the first one said stays."""
    found: dict[str, str] = {}
    for test in tests:
        for variants in test["variants"]:
            for role, digest in variants.items():
                found.setdefault(digest, role)
    return found


def _on_target(diagnosis: Record, place: int) -> Record:
    """Return the kernel of a layer, and its time where the target has a profile."""
    times = diagnosis["nanoseconds"]
    return {
        "kernel": diagnosis["kernels"][place],
        "seconds": times[place] * 1e-9 if times else None,
        "time": plot.share(times[place], max(times), BAR_WIDTH) if times else 0,
    }


def _findings(diagnoses: Iterable[Record]) -> list[Record]:
    """Return each kind of finding with its remedy once, and what it says of which file where."""
    found: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for diagnosis in diagnoses:
        where = f"{diagnosis['model']['name']} on {diagnosis['target']}"
        for finding in diagnosis["findings"]:
            key = finding["code"], finding["remedy"], finding["takes"]
            places = found.setdefault(key, {}).setdefault(finding["message"], [])
            if where not in places:
                places.append(where)
    return [
        {"code": code, "remedy": remedy, "takes": takes, "messages": messages}
        for (code, remedy, takes), messages in found.items()
    ]
