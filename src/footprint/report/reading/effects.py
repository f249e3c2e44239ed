"""What one decision changes: runs that differ in nothing else, side by side."""

import pandas as pd

from footprint.report.page.empty import NoRunsError
from footprint.report.page.words import counted, percent
from footprint.report.reading.selection import (
    against_baseline,
    alike,
    headline,
    measured,
)

DISTURBED = 0.15
"""Change of the time of what recomputing does not touch, as a share, beyond which a pair's times are not to be trusted.
"""


def series(runs: pd.DataFrame, axis: str) -> list[pd.DataFrame]:
    """For each adapter regime of the headline, the finished runs that differ from its run in `axis` alone, in order."""
    adapted = [run for _, run in headline(runs).iterrows() if run["regime"] != "full"]
    near = [measured(alike(runs, run, but=[axis])) for run in adapted]
    return [rows for rows in near if len(rows) > 1]


def checkpointing_effects(runs: pd.DataFrame) -> pd.DataFrame:
    """Every checkpointed run beside its twin without: shares of bytes saved and of step time added.

    Columns `activations_saved`, `peak_saved`, `time_added` (ratios), `activations_factor` (how many times smaller) and
    `disturbed`; the time of a disturbed pair says nothing and is left out.
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
    pairs["disturbed"] = [disturbed(pair, pair, "_baseline") for _, pair in pairs.iterrows()]
    added = pairs["step_seconds"].astype(float) / pairs["step_seconds_baseline"].astype(float) - 1
    pairs["time_added"] = added.mask(pairs["disturbed"])
    return pairs


def disturbed(run: pd.Series, base: pd.Series, suffix: str = "") -> bool:
    """Whether something else used the machine while `run` or its twin `base` without checkpoints was timed.

    Only backward recomputes, so forward and optimizer step should take as long in both, and the whole step no less.
    """
    now, before = (
        {part: float(row[f"{part}_seconds{end}"]) for part in ("forward", "optimizer", "step")}
        for row, end in ((run, ""), (base, suffix))
    )
    kept = (now["forward"] + now["optimizer"]) / (before["forward"] + before["optimizer"])
    return abs(kept - 1) > DISTURBED or now["step"] < before["step"] * 0.95


def set_aside(effects: pd.DataFrame) -> str | None:
    """How many pairs' times were left out and why, in one sentence; None if none was."""
    if not effects["disturbed"].any():
        return None
    return (
        f"{effects['disturbed'].sum()} of {counted(len(effects), 'pair')} of times were left out: in them forward and "
        f"optimizer step, which recomputing does not touch, differ by more than {percent(DISTURBED)}, or a step that "
        "recomputes took less time; something else used the machine meanwhile. The bytes are not affected."
    )
