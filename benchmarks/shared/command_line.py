"""What benchmarks have in common that write a table: their options, and the tables and the line they end with."""

import argparse
from pathlib import Path

import pandas as pd

from footprint.tables.rows import write_table


def options(says: str, output: Path, page: str | None = None) -> argparse.ArgumentParser:
    """A parser with --output and, of a benchmark that can write a page, --page; `says` is the module's docstring."""
    parser = argparse.ArgumentParser(description=says.splitlines()[0])
    parser.add_argument("--output", type=Path, default=output, help="the table; a second one goes beside it")
    if page is not None:
        parser.add_argument("--page", type=Path, help=f"write {page} anew")
    return parser


def finish(output: Path, said: str, table: pd.DataFrame, **beside: pd.DataFrame) -> int:
    """Write the table, beside it `<stem>_<name>.csv` of each other, and print one line; returns the exit status 0."""
    tables = {output: table} | {output.with_stem(f"{output.stem}_{name}"): more for name, more in beside.items()}
    for path, frame in tables.items():
        write_table(path, frame)
    print(f"{said} -> {', '.join(map(str, tables))}")
    return 0
