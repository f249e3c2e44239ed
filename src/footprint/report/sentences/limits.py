"""Whether the prediction knew which runs would go out of memory: their predicted peaks against the limit."""

import pandas as pd
from markupsafe import Markup

from footprint.report.page.words import counted
from footprint.spec.units import format_bytes


def foreseen(run: pd.Series, limit: int) -> bool | None:
    """Whether the prediction knew if a run needs more than `limit` bytes; None for a run that ended otherwise."""
    if run["status"] not in ("ok", "oom"):
        return None
    return (run["peak_bytes_predicted"] > limit) == (run["status"] == "oom")


def verdict(run: pd.Series, limit: int) -> Markup:
    """What the prediction said about the limit, and whether it was right."""
    room = limit - run["peak_bytes_predicted"]
    said = f"fits, {format_bytes(room)} left" if room >= 0 else f"{format_bytes(-room)} too much"
    known = foreseen(run, limit)
    if known is None:
        return Markup("{}").format(said)
    return Markup("{} <span class='{}'>{}</span>").format(said, "good" if known else "bad", "✓" if known else "✗ wrong")


def finding(runs: pd.DataFrame, limit: int | None) -> str | None:
    """Whether the prediction foresaw which runs go out of memory; None where none did and no limit was set."""
    failed = runs[(runs["status"] == "oom").to_numpy()]
    if limit is None:
        text = f"{counted(len(failed), 'run')} went out of memory; no `training.memory_limit` was set, so there is no "
        return text + "limit here to hold the prediction against." if len(failed) else None
    judged = [(run["status"], foreseen(run, limit)) for _, run in runs.iterrows()]
    right = sum(known for status, known in judged if status == "oom")
    wrong = sum(known is False for status, known in judged if status == "ok")
    expected = f"of the runs that finished the prediction expected {wrong or 'none'} not to fit"
    if not len(failed):
        return f"No run went out of memory at the limit of {format_bytes(limit)}; {expected}."
    which = f"{right} of {counted(len(failed), 'run')}"
    return f"The prediction foresaw {which} that went out of memory at the limit of {format_bytes(limit)}; {expected}."
