"""Whether a time can be believed, and how far: the one test that every time on the page goes through.

Bytes never go through it: something else on the machine does not change what a run allocates.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan, nan

import pandas as pd

from footprint.report.page.words import counted, listing
from footprint.spec.run import AXES

UNSTEADY = 0.15
"""Spread of the middle half of a run's steps, as a share of their median, beyond which they were disturbed."""

LOADED = 0.10
"""Share of the run's processors that something else kept busy, beyond which its times were disturbed."""

UNLIKE = 0.15
"""Share by which the time of the same work differs between two runs beyond which one of them was disturbed."""

LIKES = 3
"""Runs that do the same in forward from which on it shows which of them was disturbed."""

FASTER = 0.05
"""Share of a step by which one that recomputes cannot be faster than one that does not."""


_ALIKE = [axis for axis in AXES if axis != "checkpointing"]


@dataclass(frozen=True, kw_only=True)
class Time:
    """A median in seconds, or a change as a ratio, between the ends of what it may be; ends are nan if not recorded."""

    middle: float
    lower: float = nan
    upper: float = nan

    @property
    def give(self) -> float | None:
        """The larger distance from the middle to an end; None where the ends were not recorded."""
        ends = max(self.middle - self.lower, self.upper - self.middle)
        return None if isnan(ends) else ends


def disturbance(run: pd.Series) -> str | None:
    """Why the times of a run are not to be believed, in a few words; None where nothing speaks against them.

    A spread or a load that was not recorded speaks neither for nor against them.
    """
    if alone := _by_itself(run):
        return alone
    if abs(_number(run, "forward_off")) > UNLIKE:
        return "forward took longer or shorter than in runs that do the same"
    return None


def _by_itself(run: pd.Series) -> str | None:
    """The same from what was recorded of this run alone."""
    if _number(run, "neighbour_load") > LOADED:
        return "something else used the processors"
    spread = _number(run, "upper_step_seconds") - _number(run, "lower_step_seconds")
    if spread > UNSTEADY * _number(run, "step_seconds"):
        return "its steps differ too much"
    return None


def held_against_likes(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of one experiment with two columns: what other processes that do the same say of their times.

    Runs that differ in checkpointing or seed alone do the same in forward, each in a process of its own.
    `forward_off` is how far the forward of a run is from the median of its likes, as a share; nan where there are fewer
    than `LIKES`. `process_share` is how far processes differ, one number for all: of every group half of what lies
    between its quickest and its slowest forward, as a share of the median, and of these shares the median; nan where
    no two runs do the same. Both leave out runs that were disturbed, and the second every share above `UNLIKE`: of two
    such runs one was, and nobody knows which.
    """
    seconds = runs["forward_seconds"].where([_by_itself(run) is None for _, run in runs.iterrows()])
    off = seconds / _of_likes(runs, seconds, "median") - 1
    off = off.where(_of_likes(runs, seconds, "count") >= LIKES)
    runs = runs.assign(forward_off=off)
    seconds = seconds.where([disturbance(run) is None for _, run in runs.iterrows()])
    spans = _of_likes(runs, seconds, "max") - _of_likes(runs, seconds, "min")
    shares = spans / 2 / _of_likes(runs, seconds, "median")
    told = ~runs.duplicated(_ALIKE) & (_of_likes(runs, seconds, "count") > 1) & (shares <= UNLIKE)
    return runs.assign(process_share=shares[told].median())


def _of_likes(runs: pd.DataFrame, seconds: pd.Series, what: str) -> pd.Series:
    """A statistic of the likes of every run."""
    return seconds.groupby([runs[axis] for axis in _ALIKE]).transform(what)


def recorded(runs: pd.DataFrame) -> bool:
    """Whether the spread of the steps and the load by others were recorded for every one of these runs with a time."""
    timed = runs[runs["step_seconds"].notna().to_numpy()]
    return bool(timed[["lower_step_seconds", "upper_step_seconds", "neighbour_load"]].notna().all(axis=None))


def step_of(run: pd.Series) -> Time | None:
    """How long a step of a run takes; None where it was not timed or was disturbed.

    It may be off as far as its steps spread, and as far again as another process would be.
    """
    middle = _number(run, "step_seconds")
    if isnan(middle) or disturbance(run):
        return None
    share = _number(run, "process_share")
    more = 0.0 if isnan(share) else share * middle
    lower, upper = _number(run, "lower_step_seconds"), _number(run, "upper_step_seconds")
    return Time(middle=middle, lower=lower - more, upper=upper + more)


def unlike(run: pd.Series, base: pd.Series) -> str | None:
    """Why the times of two runs cannot be compared although each may be believed; None where they can.

    Where they differ in checkpointing alone, forward and optimizer step take as long, and a step that recomputes is
    not the faster one.
    """
    parts = ("forward_seconds", "optimizer_seconds")
    kept = sum(_number(run, part) for part in parts) / (sum(_number(base, part) for part in parts) or nan)
    if abs(kept - 1) > UNLIKE:
        return "forward and optimizer step, which recomputing leaves alone, took longer or shorter"
    if _number(run, "step_seconds") < (1 - FASTER) * _number(base, "step_seconds"):
        return "the step that recomputes was the faster one"
    return None


def added(run: pd.Series, base: pd.Series, *, recomputing: bool) -> Time | None:
    """The step time that `run` adds to that of `base`, as a share; None where one was not timed or was disturbed.

    `recomputing` says that they differ in nothing but that `run` recomputes.
    """
    now, before = step_of(run), step_of(base)
    if now is None or before is None or (recomputing and unlike(run, base)):
        return None
    lower, upper = now.lower / before.upper - 1, now.upper / before.lower - 1
    return Time(middle=now.middle / before.middle - 1, lower=lower, upper=upper)


def why_not(run: pd.Series, base: pd.Series) -> str:
    """Why `added` has nothing to say of two timed runs."""
    return disturbance(run) or disturbance(base) or unlike(run, base) or ""


def typical(times: Iterable[Time | None]) -> Time | None:
    """The median of several, between the outermost of their ends; None where there is none.

    Where ends were not recorded, several of them still have a lowest and a highest.
    """
    known = [time for time in times if time is not None]
    if not known:
        return None
    middle = float(pd.Series([time.middle for time in known]).median())
    if len(known) == 1:
        return known[0]
    lower = min(time.middle if isnan(time.lower) else time.lower for time in known)
    upper = max(time.middle if isnan(time.upper) else time.upper for time in known)
    return Time(middle=middle, lower=lower, upper=upper)


def compared(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of runs that differ in recomputing alone (columns of the one without end in `_baseline`), with their times.

    `added` is the share of step time added (Time or None), `withheld` why there is none of two that were timed.
    """
    sides = [
        (pair, pair.filter(like="_baseline").rename(lambda name: name.removesuffix("_baseline")))
        for _, pair in pairs.iterrows()
    ]
    timed = [not isnan(_number(run, "step_seconds") + _number(base, "step_seconds")) for run, base in sides]
    changes = [added(run, base, recomputing=True) for run, base in sides]
    reasons = [
        why_not(run, base) if known and change is None else ""
        for known, change, (run, base) in zip(timed, changes, sides, strict=True)
    ]
    return pairs.assign(added=pd.Series(changes, dtype=object, index=pairs.index), withheld=reasons)


def set_aside(pairs: pd.DataFrame) -> str | None:
    """How many times of `compared` pairs are withheld and why, in one sentence; None if none is."""
    reasons = pairs.loc[(pairs["withheld"] != "").to_numpy(), "withheld"]
    if not len(reasons):
        return None
    each = listing(f"{reason} ({count})" for reason, count in reasons.value_counts().items())
    many = f"{len(reasons)} of {counted(len(pairs), 'pair')}"
    return f"The times of {many} of runs are withheld, their bytes are not: {each}."


def _number(run: pd.Series, name: str) -> float:
    value = run.get(name)
    return nan if value is None or pd.isna(value) else float(value)
