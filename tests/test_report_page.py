"""The report's page in a browser: Chromium as a distribution brings it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from browser import Browser
from pytest_sparsity.report import document
from pytest_sparsity.targets.places.browser import PROGRAMS, find
from test_report import RUN, claim, full, model_of, race, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from browser import Page

DATA = Path(__file__).parent / "data"
PHONE = 420


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    command = find("chromium")
    if command is None:
        names = ", ".join(PROGRAMS["chromium"])
        pytest.skip(f"no browser, none of {names}: install chromium")
    with Browser(command, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def listed() -> dict[str, Any]:
    """A document with claims to sort, of all verdicts, on two targets."""
    claims = [
        ("b", 1.5, "holds", "litert"),
        ("a", 3.0, "refuted", "litert-js"),
        ("c", None, "inconclusive", "litert"),
        ("d", 12.0, "holds", "litert-js"),
    ]
    tests = [
        run(
            race(
                claim(verdict, value=value, low=value and value - 0.1, high=value and value + 0.1),
                target=target,
                sparse_model=model_of(f"only-{name}"),
            ),
            nodeid=f"t.py::{name}",
            outcome="passed" if verdict == "holds" else "failed",
            message="" if verdict == "holds" else "assert that it is faster\nbecause of this",
        )
        for name, value, verdict, target in claims
    ]
    return document.compose(RUN, tests, [], [])


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    document.write(tmp_path / "report.html", listed())
    page = browser.page(tmp_path / "report.html")
    yield page
    assert page.complaints() == []
    assert page.requests() == [(tmp_path / "report.html").as_uri()], "and nothing else is asked for"


CLAIMS = 'section[aria-labelledby="claims"]'
ROWS = f"{CLAIMS} tbody tr.main td.what div"


def names(page: Page) -> str:
    return "".join(text[-1] for text in page.texts(ROWS))


def test_sorting_by_a_column(page: Page) -> None:
    assert names(page) == "acbd", "the bad ones first, then as they ran"
    value = f'{CLAIMS} th[data-key="value"]'
    page.click(f"{value} button")
    assert names(page) == "dabc", "numbers, not texts; the unknown one last"
    assert page.run(f"document.querySelector('{value}').ariaSort") == "descending"
    page.click(f"{value} button")
    assert names(page) == "badc"
    page.click(f'{CLAIMS} th[data-key="test"] button')
    assert names(page) == "abcd"
    assert page.run(f"document.querySelector('{value}').ariaSort") == "none"


def test_sorting_by_the_list_of_orders(page: Page) -> None:
    page.run(
        f"(s => {{ s.value = 'where down'; s.dispatchEvent(new Event('change')) }})"
        f"(document.querySelector('{CLAIMS} select.sort'))"
    )
    assert names(page) == "adcb"


def test_filtering(page: Page) -> None:
    shown = f"{CLAIMS} output"
    assert page.texts(shown) == ["4 of 4 shown"]
    page.click(f"{CLAIMS} .chip.holds")
    assert names(page) == "bd"
    page.click(f"{CLAIMS} .chip.refuted")
    assert names(page) == "abd"
    page.click(f"{CLAIMS} .chip.holds")
    page.click(f"{CLAIMS} .chip.refuted")
    page.click(f"{CLAIMS} input")
    page.write("ONLY-D ge")
    assert (names(page), page.texts(shown)) == ("", ["0 of 4 shown"])
    page.run(f"document.querySelector('{CLAIMS} input').value = ''")
    page.write("ONLY-D 12")
    assert (names(page), page.texts(shown)) == ("d", ["1 of 4 shown"]), "details are searched too"
    page.run(f"document.querySelector('{CLAIMS} input').value = ''")
    page.run(
        f"(s => {{ s.value = 'litert'; s.dispatchEvent(new Event('change')) }})"
        f"(document.querySelector('{CLAIMS} select.where'))"
    )
    assert names(page) == "cb"


def test_opening_a_claim_by_mouse_and_by_keys(page: Page) -> None:
    more = f"{CLAIMS} tr.more"
    assert page.texts(more) == []
    page.click(f"{CLAIMS} tbody button.open")
    (text,) = page.texts(more)
    assert "only-a.tflite, 1 kB" in text
    page.press("Tab")
    page.press("Enter", "\r")
    assert len(page.texts(more)) == 2, "the next claim's"
    page.press("Enter", "\r")
    page.click(f"{CLAIMS} tbody button.open")
    assert page.texts(more) == []


def test_a_failure_opens(page: Page) -> None:
    page.click('section[aria-labelledby="tests"] button.open')
    (text,) = page.texts('section[aria-labelledby="tests"] tr.more pre')
    assert text == "assert that it is faster\nbecause of this"


def test_on_a_phone_the_numbers_come_first_and_nothing_is_wider(
    browser: Browser, tmp_path: Path
) -> None:
    for number, made in enumerate((listed(), full())):
        document.write(tmp_path / f"{number}.html", made)
        page = browser.page(tmp_path / f"{number}.html", width=PHONE)
        assert page.run("document.documentElement.scrollWidth") <= PHONE
        order = page.run(
            "['.tiles', '.facts', 'nav', 'section'].map("
            "name => document.querySelector(name).getBoundingClientRect().top)"
        )
        assert order == sorted(order)
        row = page.run(
            f"['first', 'what', 'plot'].map(name => document.querySelector("
            f"'{CLAIMS} tbody td.' + name).getBoundingClientRect().top)"
        )
        assert row == sorted(row), "measured, claimed, drawn"
        assert page.complaints() == []


@pytest.mark.parametrize("width", [1280, PHONE])
def test_all_ticks_and_plots_are_seen(browser: Browser, tmp_path: Path, width: int) -> None:
    document.write(tmp_path / "report.html", full())
    page = browser.page(tmp_path / "report.html", width=width)
    cut = page.run(
        "[...document.querySelectorAll('svg text, svg circle, svg .ci')].filter(e => {"
        " const [a, b] = [e.getBoundingClientRect(), e.closest('svg').getBoundingClientRect()];"
        " return a.width && (a.left < b.left - 1 || a.right > b.right + 1) }).length"
    )
    assert cut == 0


def test_without_a_script_everything_is_shown(browser: Browser, tmp_path: Path) -> None:
    document.write(tmp_path / "report.html", listed())
    html = (tmp_path / "report.html").read_text()
    begin, end = html.index("<script>"), html.index("</script>")
    (tmp_path / "bare.html").write_text(html[:begin] + html[end:].removeprefix("</script>"))
    page = browser.page(tmp_path / "bare.html")
    assert len(page.texts(f"{CLAIMS} tr.more")) == 4
    assert page.texts(".tools") == [], "what would do nothing is not there"


def test_a_script_in_a_name_does_not_run(browser: Browser, tmp_path: Path) -> None:
    document.write(tmp_path / "report.html", full())
    html = (tmp_path / "report.html").read_text()
    forged = "<script>document.title = 'forged'</script>"
    (tmp_path / "forged.html").write_text(html.replace("<main", f"{forged}<main"))
    page = browser.page(tmp_path / "forged.html")
    assert page.run("document.title") == "1 failed: claims about pruned models"
    assert any("Content Security Policy" in said for said in page.complaints()), "it was refused"


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of axe-core, which npm brings."""
    from pytest_sparsity.targets import npm

    node = npm.find_node()
    command = node and npm._npm(node)
    if not node or not command:
        pytest.skip("axe-core needs npm: python -m pip install 'pytest-sparsity[js]'")
    folder = tmp_path_factory.mktemp("axe")
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(DATA / "axe" / name, folder / name)
    done = subprocess.run(
        [*command, "ci", "--ignore-scripts", "--prefix", folder, *npm._NPM_OPTIONS],
        capture_output=True, text=True, check=False, timeout=300, env=os.environ,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"npm cannot bring axe-core: {done.stderr.strip().splitlines()[:1]}")
    return (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [1280, PHONE])
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(
    browser: Browser, tmp_path: Path, axe: str, width: int, dark: bool
) -> None:
    document.write(tmp_path / "report.html", full())
    page = browser.page(tmp_path / "report.html", width=width, dark=dark)
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true })")
    page.run("document.querySelectorAll('button.open').forEach(b => b.click())")
    page.run(axe)
    found = page.run("axe.run().then(r => r.violations)")
    said = [
        f"{violation['id']} ({violation['impact']}): {node['html']} {node['failureSummary']}"
        for violation in found
        for node in violation["nodes"]
    ]
    assert said == []


def test_axe_would_find_something(browser: Browser, tmp_path: Path, axe: str) -> None:
    (tmp_path / "bad.html").write_text("<html><title>x</title><body><input>")
    page = browser.page(tmp_path / "bad.html")
    page.run(axe)
    found = page.run("axe.run().then(r => r.violations.map(v => v.id))")
    assert {"label", "html-has-lang"} <= set(found)
