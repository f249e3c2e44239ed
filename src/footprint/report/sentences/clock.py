"""What must be said wherever times are shown: how far they may be off, or that nobody knows."""

from math import isnan

import pandas as pd

from footprint.report.page.words import listing, percent
from footprint.report.reading import times

SPREAD = "± says how far a time may be off (see Method); one that was disturbed is not shown."
NOT_RECORDED = (
    "How steady the steps were, and whether something else used the machine, was not recorded for these rows; a ± is "
    "then the range over several runs."
)


def beside_times(runs: pd.DataFrame) -> str:
    """The sentence for a table with times of these runs; nothing where none was timed."""
    if not runs["step_seconds"].notna().any():
        return ""
    return SPREAD if times.recorded(runs) else NOT_RECORDED


def the_test() -> str:
    """The test that decides whether a time is shown, with its limits."""
    return (
        f"It is withheld where others used more than {percent(times.LOADED)} of the processors, where the middle half "
        f"of the steps spreads over more than {percent(times.UNSTEADY)} of their median, and, of two runs that differ "
        f"in checkpointing alone, where what recomputing does not touch differs by more than {percent(times.UNLIKE)} "
        "or the step that recomputes was the faster one."
    )


def how_far_off(runs: pd.DataFrame, study: pd.DataFrame | None) -> str:
    """What the ± of a time covers, for the runs and for those of the quality study, if there is one."""
    known = {"the runs": runs["apart"].median()} | ({} if study is None else {"the study": study["apart"].median()})
    shares = {name: share for name, share in known.items() if not isnan(share)}
    reaches = "The ± of a time reaches to the further quartile of its steps"
    if not shares:
        return f"{reaches}; how far the same steps in another process are off, no two runs here tell."
    each = listing(f"{percent(share)} in {name}" for name, share in shares.items())
    return (
        f"{reaches}, and beyond it as far as processes differ that do the same: {each}, found from the forward "
        "times of runs that differ in checkpointing or seed alone."
    )
