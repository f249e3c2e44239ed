"""What must be said wherever times are shown: how far they may be off, or that nobody knows."""

from math import isnan

import pandas as pd

from footprint.report.page.words import listing, percent
from footprint.report.reading import times

SPREAD = "± says how far a time may be off (see Method); disturbed times are not shown."
NOT_RECORDED = (
    "How steady the steps were, or what else used the machine, was not recorded for all of these rows. Where the first "
    "is missing, a ± is the range over several runs."
)


def beside_times(runs: pd.DataFrame) -> str:
    """The sentence for a table with times of these runs; nothing where none was timed."""
    if not runs["step_seconds"].notna().any():
        return ""
    return SPREAD if times.recorded(runs) else NOT_RECORDED


def the_test() -> str:
    """The test that decides whether a time is shown, with its limits."""
    return (
        f"The times of a run are withheld where others used more than {percent(times.LOADED)} of the processors, where "
        f"the middle half of its steps spreads over more than {percent(times.UNSTEADY)} of their median, or where its "
        f"forward took over {percent(times.UNLIKE)} longer or shorter than the median of {times.LIKES} or more runs "
        "that do the same in forward: those that differ in checkpointing or seed alone. What checkpointing adds to a "
        "step is withheld, too, where forward and optimizer step of the two runs differ by more than "
        f"{percent(times.UNLIKE)}, or where the step that recomputes was faster by more than {percent(times.FASTER)}."
    )


def how_far_off(runs: pd.DataFrame, study: pd.DataFrame | None) -> str:
    """What the ± of a time covers, for the runs and for those of the quality study, if there is one."""
    known = {"the runs": runs} | ({} if study is None else {"the study": study})
    shares = {name: rows["process_share"].median() for name, rows in known.items()}
    each = listing(f"{percent(share)} in {name}" for name, share in shares.items() if not isnan(share))
    reaches = "The ± of a time is the distance to the further quartile of its steps"
    if not each:
        return f"{reaches}; how far another process would be off, no two runs here tell."
    return f"{reaches}, plus what forward typically differs by between processes that do the same: {each}."
