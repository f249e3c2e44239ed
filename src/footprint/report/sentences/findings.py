"""The report's findings as sentences, every number computed: the top of the page, and the lines in the terminal."""

import pandas as pd

from footprint.predict.textbook import TRAINED
from footprint.report.page.words import counted, listing, outcome, percent, worst
from footprint.report.reading.effects import growth_by_rank
from footprint.report.reading.selection import (
    REGIME_NAMES,
    axis_text,
    headline,
    in_common,
    measured,
    one_change,
    setting,
    source,
    varying,
)
from footprint.spec.units import format_bytes


def answers(runs: pd.DataFrame) -> list[str]:
    """What each regime needs, how good the estimates are, what to change first: a sentence each."""
    return [needs(runs), accuracy(runs), advice(runs)]


def in_transformers(runs: pd.DataFrame) -> list[str]:
    """Of an experiment whose runs are all under Transformers: the highest and the lowest peak."""
    done = measured(runs)
    none = f"Of {counted(len(runs), 'run')} under Transformers' Trainer none finished"
    if not len(done):
        return [f"{none}."]
    ends = [done.loc[done["peak_bytes_measured"].astype(float).idxmax()]]
    ends += [done.loc[done["peak_bytes_measured"].astype(float).idxmin()]] if len(done) > 1 else []
    said = [f"{outcome(run)} in {setting(run)}" for run in ends]
    return [
        f"Under Transformers' Trainer one training step peaks at {' and at '.join(said)} "
        f"({in_common(done, ('model', 'batch', 'seq')) or counted(len(done), 'run')}).",
        "Runs under Transformers are measured or rehearsed and not predicted.",
    ]


def needs(runs: pd.DataFrame) -> str:
    """How much memory each regime needs here."""
    rows = headline(runs)
    finished = [f"{outcome(run)} in {setting(run)}" for _, run in measured(rows).iterrows()]
    failed = [
        f"{setting(run)} ended with {outcome(run)}, predicted at {format_bytes(run['peak_bytes_predicted'])}"
        for _, run in rows[(rows["status"] != "ok").to_numpy()].iterrows()
    ]
    peaks = [f"One training step peaks at {listing(finished)}"] if finished else []
    return f"{'; '.join([*peaks, *failed])} ({in_common(rows, ('model', 'batch', 'seq'))})."


def accuracy(runs: pd.DataFrame) -> str:
    """How close the prediction and the textbook come."""
    done = measured(runs)
    if not len(done):
        return f"Of {counted(len(runs), 'run')} none finished, so no prediction could be checked."
    errors = done["peak_relative_error"].astype(float)
    off = done["textbook_relative_error"].astype(float).abs()
    textbook = (
        f"the textbook's {TRAINED} bytes per trained parameter, without activations, is off by up to "
        f"{percent(off.max())} ({setting(done.loc[off.idxmax()])})"
    )
    if not errors.any():
        return f"The prediction is exact to the byte in {counted(len(done), f'{source(done)} run')}; {textbook}."
    mean = f"{percent(errors.abs().mean())} on average and " if len(done) > 1 else ""
    return (
        f"Over {counted(len(done), f'{source(done)} run')} the prediction is off by {mean}"
        f"{percent(worst(errors))} at worst; {textbook}."
    )


def third_opinion(runs: pd.DataFrame) -> str | None:
    """How far the third opinion lies from the measurement, and why; None where none was asked for."""
    done = measured(runs)
    done = done[done["peak_bytes_simulated"].notna().to_numpy()]
    if not len(done):
        return None
    apart = (done["peak_bytes_measured"].astype(float) / done["peak_bytes_simulated"].astype(float) - 1).abs().max()
    if not apart:
        return f"The simulated peaks of {counted(len(done), 'run')} agree to the byte as well."
    return (
        f"The simulated peaks of {counted(len(done), 'run')} come within {percent(apart)}: a simulation misses "
        "what a kernel takes inside one operator, which the prediction counts."
    )


def advice(runs: pd.DataFrame) -> str:
    """The two decisions that save most: from the most expensive regime measured, then from where that leads."""
    regimes = headline(runs)
    done = measured(regimes)
    if not len(done):
        return "What to change first cannot be told from runs that did not finish."
    start = done.loc[done["peak_bytes_measured"].astype(float).idxmax()]
    first = _best_change(runs, start, regimes)
    if first is None:
        return (
            f"Nothing {source(runs)} here needs less than {setting(start)}; add settings to the grid to see what saves."
        )
    sentence = f"Change first: {_change(start, first)} saves {_saving(start, first)}"
    second = _best_change(runs, first, regimes)
    if second is None:
        return sentence + "."
    return f"{sentence}; then {_change(first, second)} saves {_saving(first, second)} of what is left."


def extremes_by_rank(runs: pd.DataFrame) -> str | None:
    """Where the rank weighs least and where most, in one sentence; None where it weighs the same everywhere."""
    growth = growth_by_rank(runs)
    if len(growth) < 2 or percent(growth.min()) == percent(growth.max()):
        return None
    settings = growth.index.to_frame(index=False)
    axes = varying(settings)
    least, most = (settings.iloc[int(place)] for place in (growth.argmin(), growth.argmax()))
    names = (
        ", ".join([REGIME_NAMES[run["regime"]], *(axis_text(axis, run[axis]) for axis in axes)])
        for run in (least, most)
    )
    return "The rank weighs least in {} and most in {}: the fewer other bytes, the more it shows.".format(*names)


def _best_change(runs: pd.DataFrame, start: pd.Series, regimes: pd.DataFrame) -> pd.Series | None:
    found = one_change(runs, start, regimes)
    found = found[(found["peak_bytes_measured"] < start["peak_bytes_measured"]).to_numpy()]
    return found.iloc[0] if len(found) else None


def _change(start: pd.Series, end: pd.Series) -> str:
    if start["regime"] != end["regime"]:
        return f"going from {setting(start)} to {setting(end)}"
    axis = next(
        a
        for a in ("rank", "targets", "checkpointing", "precision", "optimizer", "quantization", "batch", "seq")
        if start[a] != end[a]
    )
    before, after = (f"rank {run[axis]}" if axis == "rank" else axis_text(axis, run[axis]) for run in (start, end))
    return f"going from {before} to {after}"


def _saving(start: pd.Series, end: pd.Series) -> str:
    return percent(1 - end["peak_bytes_measured"] / start["peak_bytes_measured"])
