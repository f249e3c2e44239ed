"""The page: complete and self-contained for any grid, readable on a phone and in the dark, open about its making."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from pandoc import elements, needs_pandoc, pandoc
from papermill.exceptions import PapermillExecutionError
from synthetic import ABLATION, HOSTILE, SMALL, STUDY, grid, write_experiment, write_results, write_study

from footprint.errors import FootprintError
from footprint.report import render as report
from footprint.report.reading import results, selection

pytestmark = pytest.mark.xdist_group("report")

QUARTO_SYNTAX = re.compile(r":::|\{=html\}|\{#(?:fig|tbl)-|\?@|(?<![\w.])@(?:fig|tbl|sec)-|\{\.callout")
STANDS_ALONE = ("ablation", "answers", "grid", "claims", "cells", "cards", "provenance")
"""Tables that every page has."""
SECTIONS = ["introduction", "changes", "ablation", "estimates", "phases", "ranks", "checkpointing", "loss", "trial"]
SECTIONS += ["cards", "transformers", "devices", "limitations", "method", "provenance", "citing", "references"]
"""The sections of the page of an experiment that has runs for all of them, by their ids."""


def page_of(directory: Path, **options: str | Path) -> BeautifulSoup:
    """The rendered page of the tables in `directory`."""
    usual = {"experiment": "trial", "device": "cpu", "engine": "nbconvert", "output": directory / "report.html"}
    report.render(directory, **(usual | options))
    return BeautifulSoup((directory / "report.html").read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(scope="module", name="results")
def _results(tmp_path_factory) -> Path:
    """An experiment that fills every section, and another device to set beside it."""
    root = tmp_path_factory.mktemp("results")
    write_results(root / "reference" / "gpu", ABLATION[:6], device_name="Other GPU")
    directory = write_results(root / "here", ABLATION, status=lambda spec: "oom" if spec == ABLATION[4] else "ok")
    write_experiment(directory, ABLATION)
    return write_study(directory)


@pytest.fixture(scope="module", name="page")
def _page(results) -> BeautifulSoup:
    return page_of(results, reference=results.parent / "reference")


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
    for name in ("changes", "ablation", "estimates", "phases", "ranks", "checkpointing", "loss", "trial", "devices"):
        assert re.search(r": .*\d", page.find(id=name).text), name


def test_what_was_not_measured_is_said_so_at_the_head_of_its_section(page):
    said = {
        heading["id"] for heading in page.select("main h2") if heading.find_next_sibling().get("class") == ["origin"]
    }
    assert said == {"trial", "cards"}
    assert page.find(id="cards").find_next_sibling().text.startswith("Predicted, not measured")


def test_every_section_of_a_rehearsal_says_that_it_is_one(tmp_path):
    page = page_of(write_results(tmp_path, ABLATION[:6], source="rehearsed", card="t4"))
    for name in ("changes", "ablation", "estimates", "phases", "ranks", "checkpointing"):
        assert page.find(id=name).find_next_sibling().text.startswith("Rehearsed, not measured"), name


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


def linked_csv(link) -> pd.DataFrame:
    """The table a download link carries."""
    return pd.read_csv(io.BytesIO(base64.b64decode(link["href"].removeprefix("data:text/csv;base64,"))))


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
    assert len(drawings) == 26, "thirteen figures, each for a column and for a phone"
    assert all(len(drawing["aria-label"]) > 40 and drawing["role"] == "img" for drawing in drawings)


def test_other_devices_stand_beside(page):
    assert "Other GPU" in page.text
    assert len(page.select("#tbl-device-1 tbody tr")) == 6


def test_the_configuration_is_shown(page):
    assert "experiment: trial" in page.find(class_="config").text


def test_rows_of_several_commits_are_said_to_differ(tmp_path):
    runs = selection.load(write_results(tmp_path, grid(regime=("full", "lora"))))
    assert results.mixture(runs) == "All rows come from one device, one commit and one set of versions."
    runs.loc[0, "git_commit"] = "fedcba987654"
    text = results.mixture(runs)
    assert "The rows do not come from one place" in text
    assert "2 commits (0123456789ab and fedcba987654)" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("specs", "status"),
    [
        (grid(regime=("qlora",)), "ok"),
        (grid(regime=("full",)), "diverged"),
        (grid(regime=("full",), seq=(32, 64)), "ok"),
        (grid(regime=("full", "lora", "qlora")), "oom"),
    ],
    ids=["one-row", "one-diverged", "full-only", "all-oom"],
)
def test_any_grid_has_a_page(tmp_path, specs, status):
    page = page_of(write_results(tmp_path, specs, lambda spec: status))
    assert {table["id"].removeprefix("tbl-") for table in page.select("figure[id^=tbl-]")} >= set(STANDS_ALONE)
    assert "nan" not in re.findall(r"\w+", page.find("main").text.lower())


def test_a_hostile_name_is_only_ever_text(tmp_path):
    specs = [
        spec
        for model in (HOSTILE, SMALL)
        for spec in grid(model, regime=("full", "lora"), checkpointing=("none", "block"))
    ]
    directory = write_results(tmp_path, specs, device_name=HOSTILE.name)
    write_study(directory, [(spec, 0) for spec in specs], status=lambda spec, seed: "ok" if spec.rank else "diverged")
    page = page_of(directory, experiment=HOSTILE.name)
    assert any(HOSTILE.name in facts.text.replace("\N{NO-BREAK SPACE}", " ") for facts in page.select(".facts"))
    assert [script for script in page.find_all("script") if "alert" in script.text] == []
    assert not page.find_all("a", href=lambda href: href.startswith("javascript"))


def test_the_headline_is_three_lines_with_numbers(results):
    lines = report.headline(results).splitlines()
    assert len(lines) == 3
    assert all(re.search(r"\d (?:[KMG]iB|%)", line) for line in lines)


def test_an_experiment_without_a_quality_study_says_so_in_one_sentence(tmp_path):
    page = page_of(write_results(tmp_path, grid(regime=("full", "lora"))))
    heading = page.find("h2", id="loss")
    section = [element for element in heading.find_next_siblings() if element.name in ("p", "figure", "h2")]
    assert re.fullmatch(r"These runs have no quality study [^.]+\.", section[0].text.replace("\n", " "))
    assert section[1].name == "h2"
    assert not page.select("#fig-frontier, #tbl-study, #tbl-bases")
    assert len(page.select(".answer li")) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runs", "status"),
    [
        (STUDY[:1], "ok"),
        ([run for run in STUDY if run[1] == 0], "ok"),
        (STUDY, "diverged"),
        (STUDY, "oom"),
    ],
    ids=["one-setting", "one-seed", "all-diverged", "all-oom"],
)
def test_any_study_has_a_page(tmp_path, runs, status):
    directory = write_results(tmp_path, grid(regime=("full", "lora", "qlora")))
    write_study(directory, runs, status=lambda spec, seed: status)
    page = page_of(directory)
    settings = {spec for spec, _ in runs}
    assert len(page.select("#tbl-study tbody tr")) == len(settings)
    assert len(page.select("#fig-frontier svg")) == (2 if status == "ok" else 0)
    assert "nan" not in re.findall(r"\w+", page.find("main").text.lower())


def test_the_grid_says_whether_the_prediction_foresaw_who_fits(tmp_path):
    """The full run is predicted not to fit and does not; of two that fit, one is said to have run out all the same."""
    specs = grid(regime=("full", "lora", "qlora"))
    write_results(tmp_path, specs, lambda spec: "ok" if spec.regime == "qlora" else "oom")
    write_experiment(tmp_path, specs)
    config = json.loads((tmp_path / "experiment.json").read_text())
    config["training"] = {"memory_limit": "45MiB"}
    (tmp_path / "experiment.json").write_text(json.dumps(config))
    page = page_of(tmp_path)
    heads = [cell.text for cell in page.select("#tbl-grid thead th")]
    column = heads.index("Within 45.0\N{NO-BREAK SPACE}MiB?")
    full, lora, qlora = (row.find_all(["th", "td"])[column].text for row in page.select("#tbl-grid tbody tr"))
    assert re.fullmatch(r"[\d.]+\sMiB too much ✓", full)
    assert re.fullmatch(r"fits, [\d.]+\sMiB left ✗ wrong", lora)
    assert re.fullmatch(r"fits, [\d.]+\sMiB left ✓", qlora)
    assert "The prediction foresaw 1 of 2 runs that went out of memory at the limit of 45.0 MiB" in page.text.replace(
        "\N{NO-BREAK SPACE}", " "
    )
    assert list(linked_csv(page.select_one("#tbl-grid a.csv"))["foreseen"]) == [True, False, True]


@pytest.mark.parametrize("missing", ["measurements", "comparison"])
def test_a_missing_table_is_named_and_nothing_is_written(tmp_path, missing):
    write_results(tmp_path, ABLATION[:2])
    (tmp_path / f"{missing}.csv").unlink()
    with pytest.raises(FootprintError, match=f"{missing}.csv"):
        page_of(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_tables_of_different_runs_are_refused(tmp_path):
    write_results(tmp_path, ABLATION[:2])
    pd.read_csv(tmp_path / "measurements.csv").iloc[:1].to_csv(tmp_path / "measurements.csv", index=False)
    with pytest.raises(FootprintError, match="hold different runs"):
        page_of(tmp_path)


def source_with(notebook: str, directory: Path) -> Path:
    """A copy of the report's source with another notebook in it; returns the notebook."""
    shutil.copytree(report.NOTEBOOK.parent, directory)
    (directory / "report.py").write_text(f"# ---\n# jupyter:\n#   title: Trial\n# ---\n\n# %%\n{notebook}\n")
    return directory / "report.py"


def test_a_notebook_that_fails_leaves_the_old_page(tmp_path):
    write_results(tmp_path, ABLATION[:2])
    notebook = source_with("raise RuntimeError('broken cell')", tmp_path / "source")
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(PapermillExecutionError, match="broken cell"):
        page_of(tmp_path, notebook=notebook)
    assert (tmp_path / "report.html").read_text() == "old"


class TestEngine:
    """Which program renders the page."""

    @pytest.fixture(autouse=True)
    def _path(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        (tmp_path / "bin").mkdir()

    @staticmethod
    def install_quarto(directory: Path, script: str) -> None:
        """A stand-in for the program, which cannot be installed everywhere: it shows how Quarto is called."""
        program = directory / "bin" / "quarto"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def test_auto_takes_quarto_where_it_is_installed_and_nbconvert_elsewhere(self, tmp_path):
        assert report.choose("auto") == "nbconvert"
        self.install_quarto(tmp_path, "exit 0")
        assert report.choose("auto") == "quarto"
        assert report.choose("nbconvert") == "nbconvert"

    def test_quarto_asked_for_but_missing_is_one_sentence(self):
        with pytest.raises(FootprintError, match=r"report\.engine: quarto is not installed here"):
            report.choose("quarto")

    def test_an_unknown_engine_is_named_with_what_is_allowed(self):
        with pytest.raises(FootprintError, match="'word' is not allowed; use one of auto, quarto, nbconvert"):
            report.choose("word")

    @pytest.fixture
    def keep(self, tmp_path) -> Path:
        """What Quarto is handed for a page, its command line in a file of its own."""
        keep = tmp_path / "kept"
        self.install_quarto(
            tmp_path, f'/bin/mkdir {keep}; /bin/cp * {keep}; echo "$@" > {keep}/arguments; echo done > report.html'
        )
        results = write_results(tmp_path / "results", ABLATION)
        write_experiment(results, ABLATION)
        write_study(results)
        page_of(results, engine="quarto")
        assert (results / "report.html").read_text() == "done\n"
        return keep

    def test_quarto_gets_the_executed_notebook_and_its_resources(self, keep):
        arguments = (keep / "arguments").read_text().split()
        assert arguments[:2] == ["render", "report.ipynb"]
        assert "--no-execute" in arguments
        assert {path.name for path in keep.iterdir()} >= {
            "_quarto.yml",
            "page.css",
            "page.js",
            "dark.scss",
            "references.bib",
        }
        self.check_markdown(keep / "report.ipynb")

    @needs_pandoc
    def test_pandoc_reads_every_float_title_and_citation_as_what_it_is_meant_to_be(self, keep):
        """Quarto hands the outputs to pandoc, each within a block of its own."""
        cells = json.loads((keep / "report.ipynb").read_text())["cells"]
        outputs = ["".join(o["data"]["text/markdown"]) for cell in cells for o in cell.get("outputs", [])]
        document = "\n\n".join(f"::: {{.cell-output-display}}\n{text}\n:::" for text in outputs)
        found = list(elements(pandoc(document)["blocks"]))
        blocks = {c[0][0]: c[1] for kind, c in found if kind == "Div" and c[0][0]}
        floats = {name: [b["t"] for b in inner] for name, inner in blocks.items() if name.startswith(("fig-", "tbl-"))}
        assert len(floats) > 30
        assert set(map(tuple, floats.values())) == {("RawBlock", "Para")}, "the drawing or table, then its caption"
        titles = [c[1][0] for kind, c in found if kind == "Header"]
        assert titles == SECTIONS
        cited = {citation["citationId"] for kind, c in found if kind == "Cite" for citation in c[0]}
        works = re.findall(r"@\w+\{([^,]+),", (keep / "references.bib").read_text())
        assert {name for name in cited if name not in floats} <= set(works)
        assert len(cited - set(floats)) > 5
        words = [c for kind, c in found if kind == "Str"]
        assert not [word for word in words if ":::" in word or "{=html}" in word or "{#" in word]

    @staticmethod
    def check_markdown(notebook: Path) -> None:
        """Quarto's blocks open and close in pairs and stand alone on their lines; every reference has its target."""
        cells = json.loads(notebook.read_text())["cells"]
        assert cells[0]["cell_type"] == "raw"
        assert cells[0]["source"][0].startswith("---")
        outputs = [output["data"] for cell in cells for output in cell.get("outputs", [])]
        assert all("text/html" not in data for data in outputs), "Quarto would treat it as output of its own"
        text = "\n\n".join("".join(data["text/markdown"]) for data in outputs)
        lines = [line for line in text.splitlines() if line.startswith((":::", "```"))]
        open_blocks: list[str] = []
        for line in (line for line in lines if line.startswith(":::")):
            if re.fullmatch(r"::: \{.+\}", line):
                assert not open_blocks, "no block holds another"
                open_blocks.append(line)
            else:
                open_blocks.pop()
        assert not open_blocks
        fences = [line for line in lines if line.startswith("```")]
        assert fences == ["```{=html}", "```"] * (len(fences) // 2)
        references = set(re.findall(r"(?<!\w)@((?:fig|tbl)-[\w-]+)", re.sub(r"```\{=html\}\n.*?\n```", "", text)))
        assert references
        assert references <= set(re.findall(r"^::: \{#([\w-]+)\}", text, flags=re.MULTILINE))

    def test_quartos_failure_is_one_sentence_and_writes_nothing(self, tmp_path):
        self.install_quarto(tmp_path, "echo 'ERROR: no such theme' >&2; exit 1")
        results = write_results(tmp_path / "results", ABLATION[:2])
        with pytest.raises(FootprintError, match="quarto failed.*no such theme"):
            page_of(results, engine="quarto", notebook=source_with("1", tmp_path / "source"))
        assert not (results / "report.html").exists()

    @pytest.mark.parametrize(
        "said",
        [
            "[WARNING] Citeproc: citation nobody2020 not found",
            "WARNING (/usr/share/quarto/main.lua:1) The following string was found in the document: :::",
            "\\033[33mWARNING: report.ipynb: include file absent.md was not found\\033[39m",
        ],
    )
    def test_a_page_that_quarto_warns_of_fails_although_quarto_does_not(self, tmp_path, said):
        self.install_quarto(tmp_path, f"printf '%b\\n' '{said}' >&2; echo done > report.html")
        results = write_results(tmp_path / "results", ABLATION[:2])
        with pytest.raises(ValueError, match=r"but warns: .*(nobody2020|:::|absent\.md)"):
            page_of(results, engine="quarto", notebook=source_with("1", tmp_path / "source"))
        assert not (results / "report.html").exists()

    def test_a_phone_gets_links_to_every_section(self, keep):
        cells = json.loads((keep / "report.ipynb").read_text())["cells"]
        assert re.findall(r"<a href='#([\w-]+)'>", "".join(cells[1]["source"])) == SECTIONS

    def test_a_dead_reference_fails_although_quarto_does_not(self, tmp_path):
        self.install_quarto(tmp_path, "echo '<strong>?@fig-absent</strong>' > report.html")
        results = write_results(tmp_path / "results", ABLATION[:2])
        with pytest.raises(ValueError, match="fig-absent"):
            page_of(results, engine="quarto", notebook=source_with("1", tmp_path / "source"))
        assert not (results / "report.html").exists()
