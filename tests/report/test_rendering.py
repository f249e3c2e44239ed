"""Which program renders the page, what it is handed, and what leaves the old page as it was."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from pandoc import elements, needs_pandoc, pandoc
from papermill.exceptions import PapermillExecutionError
from report_page import SECTIONS, page_of
from synthetic import ABLATION, write_experiment, write_results, write_study

from footprint.errors import FootprintError
from footprint.report import render as report

pytestmark = pytest.mark.xdist_group("report")


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

    def makes_no_page(self, tmp_path, error, says):
        results = write_results(tmp_path / "results", ABLATION[:2])
        with pytest.raises(error, match=says):
            page_of(results, engine="quarto", notebook=source_with("1", tmp_path / "source"))
        assert not (results / "report.html").exists()

    def test_quartos_failure_is_one_sentence_and_writes_nothing(self, tmp_path):
        self.install_quarto(tmp_path, "echo 'ERROR: no such theme' >&2; exit 1")
        self.makes_no_page(tmp_path, FootprintError, "quarto failed.*no such theme")

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
        self.makes_no_page(tmp_path, ValueError, r"but warns: .*(nobody2020|:::|absent\.md)")

    def test_a_phone_gets_links_to_every_section(self, keep):
        cells = json.loads((keep / "report.ipynb").read_text())["cells"]
        assert re.findall(r"<a href='#([\w-]+)'>", "".join(cells[1]["source"])) == SECTIONS

    def test_a_dead_reference_fails_although_quarto_does_not(self, tmp_path):
        self.install_quarto(tmp_path, "echo '<strong>?@fig-absent</strong>' > report.html")
        self.makes_no_page(tmp_path, ValueError, "fig-absent")
