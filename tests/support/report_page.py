"""The report's page as tests read it: of every experiment there may be, and of one that fills every section."""

import base64
import io
import shutil
from pathlib import Path

import pandas as pd
from bs4 import BeautifulSoup
from clone import REPOSITORY
from synthetic import ABLATION, write_experiment, write_results, write_study

from footprint.report import render as report

STANDS_ALONE = ("ablation", "answers", "grid", "claims", "cells", "cards", "provenance")
"""Tables that every page has."""
SECTIONS = ["introduction", "changes", "ablation", "estimates", "phases", "ranks", "checkpointing", "loss", "trial"]
SECTIONS += ["cards", "gpus", "transformers", "devices", "limitations", "method", "provenance", "citing", "references"]
"""The sections of the page of an experiment that has runs for all of them, by their ids."""


def page_of(directory: Path, **options: str | Path) -> BeautifulSoup:
    """The rendered page of the tables in `directory`."""
    usual = {"experiment": "trial", "device": "cpu", "engine": "nbconvert", "output": directory / "report.html"}
    report.render(directory, **(usual | options))
    return BeautifulSoup((directory / "report.html").read_text(encoding="utf-8"), "html.parser")


def write_everything(root: Path) -> tuple[Path, Path]:
    """An experiment that fills every section, and what to set beside it: another device, the benchmarks' rehearsals."""
    reference = root / "reference"
    write_results(reference / "gpu", ABLATION[:6], device_name="Other GPU")
    for name in ("stacks", "sharded"):
        shutil.copytree(REPOSITORY / "results" / "reference" / name, reference / name)
    directory = write_results(root / "here", ABLATION, status=lambda spec: "oom" if spec == ABLATION[4] else "ok")
    write_experiment(directory, ABLATION)
    return write_study(directory), reference


def linked_csv(link) -> pd.DataFrame:
    """The table a download link carries."""
    return pd.read_csv(io.BytesIO(base64.b64decode(link["href"].removeprefix("data:text/csv;base64,"))))
