"""The report: execute the notebook on the tables, render it with Quarto or nbconvert, write one self-contained page."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import pandas as pd
import papermill
from nbformat import NotebookNode

from footprint.errors import FootprintError
from footprint.files import write_atomically
from footprint.measure.provenance import REPOSITORY
from footprint.report.page import renderers
from footprint.report.reading import selection, study
from footprint.report.reading.citation import citation
from footprint.report.sentences import findings
from footprint.report.sentences import study as findings_quality
from footprint.spec.recipe import STACKS

NOTEBOOK = REPOSITORY / "report" / "notebook.py"
ENGINES = ("auto", "quarto", "nbconvert")
_RENDER: dict[str, Callable[[NotebookNode, Path, Path], str]] = {
    "quarto": renderers.quarto,
    "nbconvert": renderers.nbconvert,
}


def render(
    directory: Path,
    *,
    output: Path,
    experiment: str,
    device: str,
    engine: str = "auto",
    reference: Path | None = None,
    notebook: Path = NOTEBOOK,
) -> str:
    """Write the page about the tables in `directory` to `output`, whole or not at all; returns the renderer used.

    `directory` holds `measurements.csv`, `predictions.csv` and `comparison.csv` (and the workflow's `experiment.json`,
    shown when there is one); every folder of `reference` that holds such tables is set beside them. What the renderer
    needs (styles, bibliography, templates) lies beside `notebook`. Raises FootprintError for an engine that is unknown
    or not installed and for tables that are missing, empty or do not belong together.
    """
    renderer = choose(engine)
    selection.load(directory)
    study.load(directory)
    parameters = {
        "directory": str(directory.resolve()),
        "experiment": experiment,
        "device": device,
        "renderer": renderer,
        "reference": str(reference.resolve()) if reference else "",
    }
    with TemporaryDirectory(prefix="footprint-report-") as scratch:
        executed = execute(notebook, parameters, Path(scratch))
        executed.metadata |= described(directory)
        page = _RENDER[renderer](executed, notebook.parent, Path(scratch))
    write_atomically(output, page)
    return renderer


def described(directory: Path) -> dict[str, str]:
    """What the head of the page tells machines: who made it, of which day the runs are, what they found."""
    moments = pd.concat(selection.load(directory, stack)["measured_at"] for stack in STACKS)
    return {
        "author": citation().authors,
        "date": str(moments.max())[:10],
        "description": " ".join(_findings(directory)),
    }


def choose(engine: str) -> str:
    """The renderer for `engine`: Quarto where it is installed, else nbconvert; a named one must be there."""
    if engine not in ENGINES:
        raise FootprintError(f"report.engine: {engine!r} is not allowed; use one of {', '.join(ENGINES)}")
    if engine == "quarto" and shutil.which("quarto") is None:
        raise FootprintError("report.engine: quarto is not installed here; install it, or use auto or nbconvert")
    if engine == "auto":
        return "quarto" if shutil.which("quarto") else "nbconvert"
    return engine


def execute(notebook: Path, parameters: dict[str, str], scratch: Path) -> NotebookNode:
    """The notebook run with `parameters`, without the cells that only carry them.

    What the cells print goes to stderr, that is to the log, not onto the page. A cell that fails raises
    papermill's error with the cell's traceback: that is a fault of the report, not of its reader.
    """
    with _kernels_import_this_package():
        executed = papermill.execute_notebook(
            jupytext.read(notebook),
            str(scratch / "executed.ipynb"),
            parameters=parameters,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            cwd=str(notebook.parent),
        )
    hidden = {"parameters", "injected-parameters"}
    executed.cells = [cell for cell in executed.cells if not hidden & set(cell.metadata.get("tags", ()))]
    for cell in executed.cells:
        outputs = cell.get("outputs", [])
        for stream in (output for output in outputs if output.output_type == "stream"):
            print(stream.text, file=sys.stderr, end="")
        if cell.cell_type == "code":
            cell.outputs = [output for output in outputs if output.output_type != "stream"]
    return executed


@contextmanager
def _kernels_import_this_package() -> Iterator[None]:
    """Let kernels started in this block import the footprint that runs here, installed or not."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[2]), before]))
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def headline(directory: Path) -> str:
    """The report's first three findings, one a line, for a terminal.

    What a quality study found is left to the page, but not that a whole regime of it came to nothing.
    """
    quality = study.load(directory)
    lost = findings_quality.lost(quality) if quality else None
    return "\n".join([*_findings(directory), *([lost] if lost else [])])


def _findings(directory: Path) -> list[str]:
    """Of the runs that are predicted too, or else of those under Transformers."""
    runs = selection.load(directory)
    return findings.answers(runs) if len(runs) else findings.in_transformers(selection.load(directory, "transformers"))
