"""What one decision changes: runs that differ in nothing else, side by side."""

import pandas as pd

from footprint.report.page.empty import NoRunsError
from footprint.report.reading.selection import (
    against_baseline,
    alike,
    headline,
    measured,
)
from footprint.report.reading.times import compared
from footprint.spec.run import AXES


def series(runs: pd.DataFrame, axis: str) -> list[pd.DataFrame]:
    """For each adapter regime of the headline, the finished runs that differ from its run in `axis` alone, in order."""
    adapters = [run for _, run in headline(runs).iterrows() if run["regime"] != "full"]
    near = [measured(alike(runs, run, but=[axis])) for run in adapters]
    return [rows for rows in near if len(rows) > 1]


def adapted(runs: pd.DataFrame) -> pd.DataFrame:
    """The finished runs that have adapters, those of low rank first."""
    done = measured(runs)
    return done[(done["regime"] != "full").to_numpy()].sort_values("rank", kind="stable")


def growth_by_rank(runs: pd.DataFrame) -> pd.Series:
    """How much the highest rank adds to the peak of the lowest, as a share: of all runs that differ in rank alone.

    The index has the other axes. Empty where no two finished runs do.
    """
    others = [axis for axis in AXES if axis != "rank"]
    peaks = adapted(runs).groupby(others, sort=False)["peak_bytes_measured"].agg(["first", "last", "count"])
    several = peaks[peaks["count"] > 1].astype(float)
    return several["last"] / several["first"] - 1


def checkpointing_effects(runs: pd.DataFrame) -> pd.DataFrame:
    """Every checkpointed run beside its twin without: shares of bytes saved, and of step time added.

    Columns `activations_saved`, `peak_saved` (ratios), `activations_factor` (how many times smaller), and `added` and
    `withheld` as `times.compared` says.
    """
    pairs = against_baseline(runs, "checkpointing", "none")
    if not len(pairs):
        raise NoRunsError(
            "No finished run differs from another in its checkpointing alone, so nothing can be compared."
        )
    for bucket in ("activations", "peak"):
        now, before = (pairs[f"{bucket}_bytes_measured{side}"].astype(float) for side in ("", "_baseline"))
        pairs[f"{bucket}_saved"] = 1 - now / before
        pairs[f"{bucket}_factor"] = before / now
    return compared(pairs)
