"""What a reader sees of either renderer's page: on a screen and a phone, in light and dark, on paper, and pointing."""

import base64
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from chromium import Tab, needs_chromium, tab
from pandoc import needs_pandoc
from quarto_page import quarto_page
from report_page import write_everything

from footprint.report.render import render

pytestmark = [needs_chromium, needs_pandoc, pytest.mark.slow, pytest.mark.xdist_group("report")]

AUDIT = """(() => {
  for (const fold of document.querySelectorAll('details')) fold.open = true;
  const visible = element => element.getClientRects().length > 0;
  const width = document.documentElement.clientWidth;
  const sticking = [...document.querySelectorAll('body *')].filter(element =>
    visible(element) && !element.closest('.scroll, svg, pre, math') &&
    element.getBoundingClientRect().right > width + 1);
  const figures = [...document.querySelectorAll(':is(figure, div.quarto-float)[id^=fig-]')];
  const verdicts = [...document.querySelectorAll('td[data-head="Verdict"]')];
  const left = element => Math.round(element.getBoundingClientRect().left);
  return {
    overflow: document.documentElement.scrollWidth - width,
    sticking: sticking.map(element => element.outerHTML.slice(0, 80)),
    drawings: figures.map(figure => [...figure.querySelectorAll('svg')].filter(visible).length),
    nameless: [...document.querySelectorAll('svg, img')].filter(
      image => !(image.getAttribute('aria-label') || image.getAttribute('alt'))).length,
    dead: [...document.querySelectorAll('a[href^="#"]')].filter(
      link => !document.getElementById(link.getAttribute('href').slice(1))).map(link => link.href),
    verdicts: verdicts.map(cell => cell.getBoundingClientRect().right <= width),
    sideways: [...document.querySelectorAll('.scroll')].filter(
      box => box.scrollWidth > box.clientWidth + 1).map(box => box.closest('[id]').id),
    edges: [...new Set([...document.querySelectorAll('figcaption, p.download')].filter(visible).map(left))],
    paper: getComputedStyle(document.body).backgroundColor,
    colours: ['body', 'figcaption', '.fold summary', '.origin', '.good', '.bad'].map(
      what => [what, getComputedStyle(document.querySelector(what)).color]),
  };
})()"""

PAPER = """(() => {
  const visible = element => element.getClientRects().length > 0;
  const boxes = [...document.querySelectorAll('.scroll')].filter(visible);
  return {
    cut: boxes.filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.closest('[id]').id),
    folds: [...document.querySelectorAll('.fold')].filter(visible).length,
    floats: [...document.querySelectorAll('figcaption')].filter(visible).length,
    ink: getComputedStyle(document.body).color,
  };
})()"""

BAR = """(async () => {
  const part = [...document.querySelectorAll('#fig-regimes .tells')].find(part => part.getClientRects().length);
  part.scrollIntoView({block: 'center', behavior: 'instant'});
  for (const frame of [1, 2]) await new Promise(requestAnimationFrame);
  const box = part.getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2];
})()"""
TOLD = "(box => box.hidden ? '' : box.textContent)(document.querySelector('.told'))"

SIZES = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module", name="pages")
def _pages(tmp_path_factory) -> dict[str, Path]:
    """The page of either renderer; Quarto's as pandoc makes it from what Quarto was handed."""
    root = tmp_path_factory.mktemp("screens")
    directory, reference = write_everything(root)
    usual = {"experiment": "trial", "device": "cpu", "reference": reference}
    render(directory, output=root / "nbconvert.html", engine="nbconvert", **usual)
    with pytest.MonkeyPatch.context() as patch:
        (root / "bin").mkdir()
        quarto = root / "bin" / "quarto"
        quarto.write_text(f"#!/bin/sh\n{shutil.which('cp')} -r . {root}/kept; echo done > report.html\n")
        quarto.chmod(0o755)
        patch.setenv("PATH", str(root / "bin"), prepend=":")
        render(directory, output=root / "handed.html", engine="quarto", **usual)
    return {"nbconvert": root / "nbconvert.html", "quarto": quarto_page(root / "kept")}


@pytest.fixture(scope="module", name="driven")
def _driven(tmp_path_factory) -> Iterator[tuple[Tab, object]]:
    with tab(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


@pytest.fixture(params=["nbconvert", "quarto"], name="page")
def _page(request, pages) -> Path:
    return pages[request.param]


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_a_reader_sees_a_whole_page_on_any_screen(page, driven, width, scheme):
    browser, runner = driven
    runner.run(browser.open(page, width=width, scheme=scheme))
    seen = runner.run(browser.evaluate(AUDIT))
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:"))] == []
    assert seen["overflow"] <= 0
    assert seen["sticking"] == []
    assert seen["nameless"] == 0
    assert seen["dead"] == []
    assert set(seen["drawings"]) == {1}, "each figure is drawn once"
    assert seen["verdicts"], "there are verdicts, and none has to be scrolled to"
    assert all(seen["verdicts"])
    assert width > 600 or seen["sideways"] == [], "on a phone no table is wider than the screen"
    assert len(seen["edges"]) == 1, "captions and downloads begin where tables and figures do"
    assert (luminance(seen["paper"]) > 0.5) == (scheme == "light")
    for what, ink in seen["colours"]:
        assert contrast(seen["paper"], ink) > 4.5, what


def test_machines_are_told_who_made_either_page_and_what_it_found(page):
    told = {
        meta["name"]: meta["content"]
        for meta in BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").find_all(
            "meta", attrs={"name": True}
        )
    }
    assert told["author"] == "The Footprint contributors"
    assert told["description"].startswith("One training step peaks at ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_nothing_is_cut_off_and_what_is_folded_stays_so(page, driven, scheme):
    browser, runner = driven
    runner.run(browser.open(page, width=720, scheme=scheme))
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    runner.run(browser.command("Emulation.setEmulatedMedia", media="print", features=features))
    seen = runner.run(browser.evaluate(PAPER))
    assert seen["cut"] == []
    assert seen["folds"] == 0
    assert 10 < seen["floats"] <= 20
    assert contrast("rgb(255, 255, 255)", seen["ink"]) > 7, "no background is printed"
    printed = runner.run(browser.command("Page.printToPDF", preferCSSPageSize=True))["data"]
    sheets = len(re.findall(rb"/Type /Page\b", base64.b64decode(printed)))
    assert 5 < sheets < 25
    runner.run(browser.command("Emulation.setEmulatedMedia", media=""))


def test_a_link_into_what_is_folded_opens_it(page, driven):
    browser, runner = driven
    runner.run(browser.open(page, width=1440, scheme="light"))
    runner.run(browser.evaluate("document.querySelector('a[href=\"#tbl-cells\"]').click()"))
    assert runner.run(browser.evaluate("document.getElementById('tbl-cells').closest('details').open"))


@pytest.mark.parametrize(("width", "event"), [(1440, "mouse"), (390, "touch")])
def test_who_points_at_a_bar_reads_its_numbers_and_its_run(page, driven, width, event):
    browser, runner = driven
    runner.run(browser.open(page, width=width, scheme="light"))
    x, y = runner.run(browser.evaluate(BAR))
    assert runner.run(browser.evaluate(TOLD)) == ""
    if event == "mouse":
        runner.run(browser.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y))
    else:
        runner.run(browser.command("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}]))
        runner.run(browser.command("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[]))
    told = runner.run(browser.evaluate(TOLD))
    assert re.fullmatch(r"Full FT, measured: weights [\d.]+\sMiB, \d+\s% of the peak", told)


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two CSS colours (WCAG 2.1)."""
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """The relative luminance of a CSS colour (WCAG 2.1)."""
    shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
