"""The rows every CSV is made of: one JSON file per run, gathered into one table."""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from footprint.columns import (
    BUCKET_BYTES,
    INTEGERS,
    MEASUREMENTS,
    PHASE_PEAKS,
    PREDICTIONS,
    SHARED,
    WEIGHT_PARTS,
)
from footprint.errors import FootprintError
from footprint.files import write_atomically
from footprint.spec import AXES

__all__ = [
    "BUCKET_BYTES",
    "INTEGERS",
    "MEASUREMENTS",
    "PHASE_PEAKS",
    "PREDICTIONS",
    "SHARED",
    "WEIGHT_PARTS",
    "read_row",
    "read_table",
    "table",
    "write_row",
    "write_table",
]


def write_row(path: Path, row: dict, columns: tuple[str, ...]) -> None:
    """Write one run's row; its keys must be exactly `columns`."""
    if set(row) != set(columns):
        raise ValueError(f"row and columns differ by {sorted(set(row) ^ set(columns))}")
    write_atomically(path, json.dumps({name: row[name] for name in columns}, indent=1) + "\n")


def read_row(path: Path, columns: tuple[str, ...]) -> dict:
    """One run's row; FootprintError when the file is not what `write_row` wrote."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FootprintError(f"{path}: not a readable run file ({error}); delete it and run again") from None
    if not isinstance(row, dict) or set(row) != set(columns):
        raise FootprintError(f"{path}: not a run file with the columns this version writes; delete it and run again")
    return row


def table(rows: Iterable[dict], columns: tuple[str, ...]) -> pd.DataFrame:
    """Rows as a table sorted by the axes, integer columns as nullable integers (an OOM has no peak)."""
    frame = pd.DataFrame(list(rows), columns=list(columns))
    for name in set(columns) & set(INTEGERS):
        frame[name] = frame[name].astype("Int64")
    return frame.sort_values(list(AXES), kind="stable", ignore_index=True)


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a CSV atomically."""
    write_atomically(path, frame.to_csv(index=False, lineterminator="\n"))


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV of this project; FootprintError when it is missing or lacks the axis columns."""
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise FootprintError(f"{path}: not a readable table ({error})") from None
    missing = sorted(set(AXES) - set(frame.columns))
    if missing:
        raise FootprintError(f"{path}: lacks the columns {', '.join(missing)}")
    for name in set(frame.columns) & set(INTEGERS):
        frame[name] = frame[name].astype("Int64")
    return frame
