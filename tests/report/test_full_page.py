"""The page of an experiment that fills every section: complete, self-contained, open about what was not measured."""

import re
from pathlib import Path

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from report_page import SECTIONS, STANDS_ALONE, linked_csv, page_of, write_everything
from synthetic import ABLATION

from footprint.report import render as report

pytestmark = pytest.mark.xdist_group("report")

QUARTO_SYNTAX = re.compile(r":::|\{=html\}|\{#(?:fig|tbl)-|\?@|(?<![\w.])@(?:fig|tbl|sec)-|\{\.callout")


@pytest.fixture(scope="module", name="everything")
def _everything(tmp_path_factory) -> tuple[Path, Path]:
    return write_everything(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module", name="results")
def _results(everything) -> Path:
    return everything[0]


@pytest.fixture(scope="module", name="page")
def _page(everything) -> BeautifulSoup:
    directory, reference = everything
    return page_of(directory, reference=reference)


def test_the_answer_comes_first(page):
    main = page.find("main")
    order = [main.find(class_="facts"), main.find(class_="answer"), main.find(id="fig-regimes"), main.find("h2")]
    assert order == sorted(order, key=lambda element: element.sourceline * 10**6 + element.sourcepos)
    assert re.match(
        r"39 training runs of minigpt-3m in .*; measured on Test CPU, 2 cores, 1 January 2026", order[0].text
    )
    sentences = order[1].find_all("li")
    assert len(sentences) == 3
    assert all(re.search(r"\d", sentence.text) for sentence in sentences)


def test_machines_are_told_who_made_the_page_when_and_what_it_found(page):
    told = {meta["name"]: meta["content"] for meta in page.find_all("meta", attrs={"name": True})}
    assert told["author"] == "The Footprint contributors"
    assert told["date"] == "2026-01-01"
    assert told["description"].startswith("One training step peaks at ")
    assert "MIT licence" in page.find(id="citing").find_next("p").text


def test_the_page_says_what_rendered_it(page):
    assert "page rendered by nbconvert" in page.text


def test_the_page_has_every_section(page):
    headings = page.select("main h2")
    assert [heading["id"] for heading in headings] == SECTIONS
    assert [(link["href"], link.text) for link in page.select("nav a")] == [(f"#{h['id']}", h.text) for h in headings]


def test_a_section_of_findings_is_titled_by_one(page):
    for name in (
        "changes",
        "ablation",
        "estimates",
        "phases",
        "ranks",
        "checkpointing",
        "loss",
        "trial",
        "gpus",
        "devices",
    ):
        assert re.search(r": .*\d", page.find(id=name).text), name


def test_what_was_not_measured_is_said_so_at_the_head_of_its_section(page):
    said = {
        heading["id"] for heading in page.select("main h2") if heading.find_next_sibling().get("class") == ["origin"]
    }
    assert said == {"trial", "cards", "gpus", "transformers"}
    heads = {name: page.find(id=name).find_next_sibling().text for name in said}
    assert heads["cards"].startswith("Predicted, not measured")
    assert all(heads[name].startswith("Rehearsed, not measured") for name in ("gpus", "transformers"))


def test_the_body_has_ten_tables_and_ten_figures_at_most(page):
    for kind in ("tbl", "fig"):
        floats = page.select(f"main figure[id^={kind}-]")
        shown = [float_ for float_ in floats if not float_.find_parent("details")]
        assert 5 <= len(shown) <= 10 < len(floats), kind


def test_no_number_is_parted_from_its_unit(page):
    prose = BeautifulSoup(str(page.find("main")), "html.parser")
    for code in prose.select("script, style, code, pre"):
        code.extract()
    assert not re.search(r"\d (?:[KMG]iB|%|ms)(?!\w)", prose.text)


def test_the_ablation_table_has_the_columns_of_the_seed(page):
    table = page.find(id="tbl-ablation")
    heads = [cell.text for cell in table.select("thead th")]
    seed = ["Weights", "Grad", "Adam", "Total trainable", "Frozen base", "Approx total"]
    assert heads == ["Setting", "Source", *seed, "Activations", "Peak"]
    assert [cell.text for cell in table.select("tbody th")] == ["Full FT", "LoRA r=8", "QLoRA r=8"]
    sources = [row.td.text for row in table.select("tbody tr")]
    assert sources == ["textbook", "predicted", "measured", "error"] * 3


def test_every_table_carries_its_numbers_as_csv(page, results):
    tables = page.select("figure[id^=tbl-]")
    assert len(tables) >= len(STANDS_ALONE)
    for table in tables:
        frame = linked_csv(table.find("a", class_="csv"))
        assert len(frame) == len(table.select("tbody tr"))
    sources = {link["download"]: linked_csv(link) for link in page.select("main > p.download a")}
    memory, quality = ("measurements", "predictions", "comparison"), ("quality", "curves", "bases")
    assert set(sources) == {f"{name}.csv" for name in memory + quality}
    for name, frame in sources.items():
        assert frame.equals(pd.read_csv(results / name))


def test_a_run_out_of_memory_stands_in_its_place(page):
    rows = page.select("#tbl-grid tbody tr")
    assert len(rows) == len(ABLATION)
    (row,) = (row for row in rows if "out of memory" in row.text)
    assert row["class"] == ["oom"]
    assert "out of memory in backward" in row.text


def test_nothing_is_fetched_and_no_quarto_syntax_is_left(page):
    for attribute in ("src", "srcset", "data", "poster"):
        assert not page.find_all(attrs={attribute: True})
    assert not page.find_all("link", href=lambda href: not href.startswith("data:"))
    assert "@import" not in str(page.style)
    assert "url(" not in str(page.style)
    assert not QUARTO_SYNTAX.search(page.find("main").text)


def test_every_link_within_the_page_resolves(page):
    ids = [element["id"] for element in page.find_all(id=True)]
    assert len(ids) == len(set(ids))
    targets = {link["href"][1:] for link in page.select("a[href^='#']")}
    assert targets <= set(ids)
    assert all(re.fullmatch(r"(Figure|Table) \d+", link.text) for link in page.select("a.ref"))
    assert page.select("a.ref")


def test_every_figure_has_alternative_text(page):
    drawings = page.find_all("svg")
    assert len(drawings) == 28, "fourteen figures, each for a column and for a phone"
    assert all(len(drawing["aria-label"]) > 40 and drawing["role"] == "img" for drawing in drawings)


def test_the_rehearsals_over_several_cards_can_be_saved_whole(page, everything):
    _, reference = everything
    frame = linked_csv(page.select_one("#fig-gpus-peaks a.csv"))
    assert frame.equals(pd.read_csv(reference / "sharded" / "sharded.csv"))
    assert page.select("#fig-gpus-peaks svg .tells")


def test_other_devices_stand_beside(page):
    assert "Other GPU" in page.text
    assert len(page.select("#tbl-device-1 tbody tr")) == 6


def test_the_configuration_is_shown(page):
    assert "experiment: trial" in page.find(class_="config").text


def test_the_headline_is_three_lines_with_numbers(results):
    lines = report.headline(results).splitlines()
    assert len(lines) == 3
    assert all(re.search(r"\d (?:[KMG]iB|%)", line) for line in lines)
