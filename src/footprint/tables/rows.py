"""The rows every CSV is made of: one JSON file per run, gathered into one table."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from footprint.errors import FootprintError
from footprint.files import AGAIN, MADE_ANEW, sha256, unreadable, write_atomically
from footprint.spec.columns import BUCKET_BYTES, INTEGERS, MEASUREMENTS, PHASE_PEAKS, PREDICTIONS, SHARED, WEIGHT_PARTS
from footprint.spec.run import AXES

__all__ = [
    "ASKED",
    "BUCKET_BYTES",
    "CHECKSUM",
    "INTEGERS",
    "MEASUREMENTS",
    "PHASE_PEAKS",
    "PREDICTIONS",
    "SHARED",
    "WEIGHT_PARTS",
    "read_row",
    "read_run",
    "read_table",
    "table",
    "table_text",
    "write_row",
    "write_table",
]


ASKED = "asked"
"""Key of a run file beside its columns: everything its job was told."""
BESIDE = "beside"
"""Key of a run file beside its columns: the sha256 of each further file its job wrote, by what it holds."""
CHECKSUM = "sha256"
"""Key of a run file beside its columns: of everything else in it, so that a file changed by hand or half is noticed."""


def write_row(
    path: Path,
    row: dict,
    columns: tuple[str, ...],
    asked: Mapping[str, object] | None = None,
    **beside: Path,
) -> None:
    """Write one run's row; its keys must be exactly `columns`.

    `asked` is what its job was told (`handover.asked`), `beside` the further files it has written.
    """
    if set(row) != set(columns):
        raise ValueError(f"row and columns differ by {sorted(set(row) ^ set(columns))}")
    content = {name: row[name] for name in columns} | ({} if asked is None else {ASKED: asked})
    content |= {BESIDE: {name: sha256(file) for name, file in beside.items()}} if beside else {}
    write_atomically(path, json.dumps(content | {CHECKSUM: _checksum(content)}, indent=1) + "\n")


def read_row(path: Path, columns: tuple[str, ...]) -> dict:
    """One run's row; FootprintError when the file is not what `write_row` wrote."""
    return read_run(path, columns)[0]


def read_run(path: Path, columns: tuple[str, ...]) -> tuple[dict, dict]:
    """(row, what its job was told) of a run file; FootprintError when the file is not what `write_row` wrote."""
    content = _content(path, columns)
    return {name: content[name] for name in columns}, content.get(ASKED, {})


def require_beside(path: Path, columns: tuple[str, ...], **beside: Path) -> None:
    """Raise FootprintError unless the files `beside` a run file are what its job wrote."""
    written = _content(path, columns).get(BESIDE, {})
    for name, file in beside.items():
        if written.get(name) != sha256(file):
            raise FootprintError(f"{file}: was changed after it was written; delete {path} and {AGAIN}")


def _content(path: Path, columns: tuple[str, ...]) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, "run file", error) from None
    if not isinstance(content, dict) or set(content) - {ASKED, BESIDE, CHECKSUM} != set(columns):
        raise FootprintError(f"{path}: not a run file with the columns this version writes; {MADE_ANEW}")
    if content.pop(CHECKSUM, None) != _checksum(content):
        raise FootprintError(f"{path}: was changed after it was written; {MADE_ANEW}")
    return content


def _checksum(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def table(rows: Iterable[dict], columns: tuple[str, ...]) -> pd.DataFrame:
    """Rows as a table sorted by the axes, integer columns as nullable integers (an OOM has no peak)."""
    frame = pd.DataFrame(list(rows), columns=list(columns))
    for name in set(columns) & set(INTEGERS):
        frame[name] = frame[name].astype("Int64")
    return frame.sort_values(list(AXES), kind="stable", ignore_index=True)


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a CSV atomically."""
    write_atomically(path, table_text(frame))


def table_text(frame: pd.DataFrame) -> str:
    """What `write_table` writes."""
    return frame.to_csv(index=False, lineterminator="\n")


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV of this project; FootprintError when it is missing or lacks the axis columns."""
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise unreadable(path, "table", error) from None
    missing = sorted(set(AXES) - set(frame.columns))
    if missing:
        raise FootprintError(f"{path}: lacks the columns {', '.join(missing)}; {MADE_ANEW}")
    for name in set(frame.columns) & set(INTEGERS):
        frame[name] = frame[name].astype("Int64")
    return frame
