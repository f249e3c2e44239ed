"""Checksums beside a report: of the page, of its headline, and of the tables that both were made from.

A page is not rendered alike twice (it tells when it was made), so it cannot be made again and compared, as tables are.
The file is one that `sha256sum --check` reads.
"""

from collections.abc import Iterable
from pathlib import Path

from footprint.errors import FootprintError
from footprint.experiment.config import Experiment
from footprint.files import AGAIN, MADE_ANEW, read_text, sha256, write_atomically

RENDERED = ("report.html", "headline.txt")
"""What is made of the tables."""

CHECKSUMS = "report.sha256"
"""The file that holds the checksums, in the folder of the tables."""


def made_from(experiment: Experiment, folder: Path) -> list[Path]:
    """Everything in an experiment's folder that its report shows or points to, but the files of its runs."""
    names = ["experiment.json", "manifest.json", "measurements.csv", "predictions.csv", "comparison.csv"]
    names += ["simulations.csv"] if experiment.third_opinion else []
    if experiment.study is not None:
        names += ["quality.csv", "curves.csv", "bases.csv"]
        names += [f"stored/{base}.csv" for base in experiment.study.bases(experiment.training)]
    return [folder / name for name in names]


def write_checksums(path: Path, files: Iterable[Path]) -> None:
    """Write the checksums of files in or below the folder of `path` to it."""
    lines = (f"{sha256(file)}  {file.relative_to(path.parent)}\n" for file in files)
    write_atomically(path, "".join(lines))


def disagreeing(experiment: Experiment, folder: Path) -> dict[Path, str]:
    """A sentence for every file in `folder` that is not what was rendered or what that was made from, by its path.

    Empty where no report was made.
    """
    files = [*(folder / name for name in RENDERED), *made_from(experiment, folder)]
    path = folder / CHECKSUMS
    if not path.exists():
        pages = [page for page in files if page.name in RENDERED and page.exists()]
        return {page: f"{page}: nothing vouches for it, for {CHECKSUMS} is missing; {AGAIN}" for page in pages}
    try:
        lines = [line.partition("  ") for line in read_text(path, "list of checksums").splitlines()]
    except FootprintError as error:
        return {path: str(error)}
    told = {folder / name: checksum for checksum, _, name in lines}
    if told.keys() != set(files):
        return {path: f"{path}: does not hold the checksums of this experiment's files; {MADE_ANEW}"}
    found = {file: _wrong(file, checksum) for file, checksum in told.items()}
    return {file: sentence for file, sentence in found.items() if sentence}


def _wrong(file: Path, checksum: str) -> str | None:
    try:
        if sha256(file) == checksum:
            return None
    except FootprintError as error:
        return str(error)
    made = "was changed after it was written" if file.name in RENDERED else "is not what the report was made from"
    return f"{file}: {made}; {MADE_ANEW}"
