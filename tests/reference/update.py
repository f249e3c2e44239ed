"""Write the reference tables from finished experiments and say what changed: `make reference`.

The ablation goes to results/reference/<device>/ and, where it was rehearsed, to results/reference/<card>-rehearsed/:
reports of other devices find it there. The sweep of config/gpu.yaml goes to a folder `gpu` in that of its card.
Of the smoke experiment only what must repeat to the byte is kept, in tests/reference/smoke.csv, which a test measures
again.
"""

import re
import shutil
from pathlib import Path

import pandas as pd

from footprint.spec.columns import EXACT
from footprint.spec.run import AXES
from footprint.tables.rows import read_table, write_table

REPOSITORY = Path(__file__).resolve().parents[2]
REHEARSED = ("ablation", "gpu")
"""Experiments whose rehearsals are kept, of whichever cards there are results here."""
SMOKE = Path(__file__).with_name("smoke.csv")


def exact(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of `measurements.csv` that repeat."""
    return rows[[*AXES, *EXACT]]


def folder_of(rows: pd.DataFrame, device: str) -> str:
    """The name of a device's folder: `cpu-amd-epyc-2-cores`."""
    return "-".join([device, *re.findall(r"[a-z0-9]+", rows["device_name"].iloc[0].lower())])


def changes(before: pd.DataFrame, now: pd.DataFrame) -> list[str]:
    """What differs between two tables in the columns that repeat, a line for each; both are `exact`."""
    old, new = (frame.astype(object).set_index(list(AXES)) for frame in (before, now))
    lines = [f"gone: {_named(run)}" for run in old.index.difference(new.index)]
    lines += [f"new: {_named(run)}" for run in new.index.difference(old.index)]
    for run in old.index.intersection(new.index):
        pairs = {name: (old.at[run, name], new.at[run, name]) for name in EXACT}
        differing = {name: pair for name, pair in pairs.items() if not _same(*pair)}
        lines += [f"{_named(run)}: {name} {was} -> {then}" for name, (was, then) in differing.items()]
    return lines


def _same(one: object, other: object) -> bool:
    return bool(pd.isna(one) and pd.isna(other)) or one == other


def _named(run: tuple) -> str:
    return "-".join(map(str, run))


def _replace(path: Path, rows: pd.DataFrame) -> None:
    """Say how the table at `path` will change."""
    lines = changes(exact(read_table(path)), exact(rows)) if path.exists() else ["was not there before"]
    print(f"{path.relative_to(REPOSITORY)}: {len(rows)} runs, {len(lines)} changes")
    for line in lines:
        print(f"  {line}")


def main() -> None:
    """Read results/, write both references."""
    smoke = read_table(REPOSITORY / "results" / "smoke" / "cpu" / "measurements.csv")
    _replace(SMOKE, smoke)
    write_table(SMOKE, exact(smoke))
    source = REPOSITORY / "results" / "ablation" / "cpu"
    rows = read_table(source / "measurements.csv")
    folder = REPOSITORY / "results" / "reference" / folder_of(rows, "cpu")
    _keep(source, folder)
    for rehearsed in sorted((REPOSITORY / "results").glob("*/*-rehearsed")):
        if rehearsed.parent.name in REHEARSED and (rehearsed / "manifest.json").exists():
            card = REPOSITORY / "results" / "reference" / rehearsed.name
            _keep(rehearsed, card if rehearsed.parent == source.parent else card / rehearsed.parent.name)


def _keep(source: Path, folder: Path) -> None:
    """Let `folder` hold the tables of a finished experiment, and say what changed."""
    _replace(folder / "measurements.csv", read_table(source / "measurements.csv"))
    folder.mkdir(parents=True, exist_ok=True)
    for path in filter(Path.is_file, folder.iterdir()):
        path.unlink()
    for path in (*source.glob("*.csv"), source / "manifest.json", source / "experiment.json"):
        shutil.copy(path, folder / path.name)


if __name__ == "__main__":
    main()
