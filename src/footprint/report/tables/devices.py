"""Results of other devices beside this one's: the same cells of the grid, and how far apart they are."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from footprint.report.page.empty import NoRunsError
from footprint.report.page.table import Table
from footprint.report.page.words import listing, outcome, percent
from footprint.report.reading.selection import label, load, measured, varying
from footprint.spec.run import AXES

_COMPARED = ["status", "oom_phase", "device_name", "step_seconds", "peak_relative_error"]
_BUCKETS = [f"{name}_bytes_measured" for name in ("weights", "gradients", "optimizer", "activations", "peak")]


def others(reference: Path | None, directory: Path) -> dict[str, pd.DataFrame]:
    """The runs in every folder of `reference` that holds an experiment's tables, by name; not `directory` itself."""
    if reference is None or not reference.is_dir():
        return {}
    folders = sorted(path.parent for path in reference.glob("**/comparison.csv"))
    return {
        str(folder.relative_to(reference)): load(folder)
        for folder in folders
        if folder.resolve() != directory.resolve()
    }


def measured_on_a_gpu(frames: Iterable[pd.DataFrame]) -> bool:
    """Whether any of these runs was measured by CUDA's recorder."""
    return any(frame["host_driver"].astype(str).str.startswith("NVIDIA").any() for frame in frames)


def same_kind(runs: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether both were measured on devices of one name."""
    return set(runs["device_name"]) == set(other["device_name"])


def beside(runs: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Runs of both devices, joined on the axes (columns of the other end in `_other`); raises NoRunsError if none."""
    columns = [*AXES, *_COMPARED, *_BUCKETS]
    joined = runs[columns].merge(other[columns], on=list(AXES), suffixes=("", "_other"))
    if not len(joined):
        raise NoRunsError("It measured none of the settings of this experiment.")
    return joined


def table(runs: pd.DataFrame, other: pd.DataFrame) -> Table:
    """The peaks of both devices for every setting both have run."""
    raw = beside(runs, other)
    axes = varying(raw)
    shown = []
    for _, run in raw.iterrows():
        there = run.filter(like="_other").rename(lambda name: name.removesuffix("_other"))
        both = run["status"] == there["status"] == "ok"
        ratio = there["peak_bytes_measured"] / run["peak_bytes_measured"] - 1 if both else None
        shown.append(
            {
                "Setting": label(run, axes),
                "Here": outcome(run),
                "There": outcome(there),
                "Difference": percent(ratio, signed=True) if both else "–",
                "Error here": _error(run),
                "Error there": _error(there),
            }
        )
    return Table(shown=pd.DataFrame(shown), raw=raw)


def _error(run: pd.Series) -> str:
    return "–" if pd.isna(run["peak_relative_error"]) else percent(run["peak_relative_error"], signed=True)


def agreement(runs: pd.DataFrame, other: pd.DataFrame) -> str:
    """Which buckets the devices agree on over the runs that finished on both, and how far apart the others are."""
    joined = beside(measured(runs), measured(other))
    apart = {}
    for bucket in ("weights", "gradients", "optimizer", "activations"):
        here, there = (joined[f"{bucket}_bytes_measured{side}"].astype(float) for side in ("", "_other"))
        apart[bucket] = float(((there - here) / joined["peak_bytes_measured"].astype(float)).abs().max())
    same = [bucket for bucket, gap in apart.items() if gap == 0]
    parts = [f"{listing(same)} agree to the byte"] if same else []
    parts += [f"{bucket} differ by at most {percent(gap)} of the peak" for bucket, gap in apart.items() if gap]
    return "; ".join(parts)
