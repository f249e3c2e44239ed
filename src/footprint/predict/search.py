"""Which settings of a model fit into a given memory, the smallest sacrifice first."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

from footprint.predict.capacity import FITS, VERDICTS, Capacity
from footprint.predict.fit import COSTS, Candidate, finished, kept, largest, possible
from footprint.predict.prediction import least_peaks
from footprint.spec.checkpointing import CHECKPOINTING
from footprint.spec.model import ModelSpec
from footprint.spec.run import AXIS_DEFAULTS, REGIMES, RunSpec
from footprint.spec.training import TrainingSpec

SEARCHED = {"regime": REGIMES, "checkpointing": CHECKPOINTING}
"""Axes a search varies unless it is told otherwise; the others keep their defaults."""

SHORTEST, LARGEST_BATCH = 128, 65536
"""Ends of a search: tokens of the shortest sequence (shorter only for a model of less context), sequences."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value for every axis but batch and sequence, represented by two of the runs that fit (or one that does not)."""

    longest: Candidate
    """The longest sequence that fits, and as many of them as do; else the smallest that was searched."""
    most_tokens: Candidate
    """The most tokens per step that fit, of whatever length; else the same."""

    @property
    def verdict(self) -> str:
        """`fits` when anything of this setting does; else that of the smallest."""
        return self.longest.verdict

    def as_dict(self) -> dict[str, object]:
        """The row of the longest sequence, whether it fits, and what else there is to say."""
        bucket, size = self.longest.largest_bucket
        most = {name: self.most_tokens.row[name] for name in ("batch", "seq", "peak_bytes")}
        return self.longest.row | {
            "verdict": self.verdict,
            "fits": self.verdict == FITS,
            "headroom_bytes": self.longest.headroom,
            "largest_bucket": bucket,
            "largest_bucket_bytes": size,
            "most_tokens": most,
        }


def search(
    model: ModelSpec,
    axes: Mapping[str, Sequence],
    capacity: Capacity,
    training: TrainingSpec,
    each: Callable[..., Iterable] = map,
) -> list[Setting]:
    """Settings of a model against a card: those that fit come first, each by what is given up.

    Axes that `axes` does not mention are searched (`SEARCHED`) or keep their defaults; without `seq`, the lengths of
    `sequences` are tried; without `batch`, the largest that fits is searched. `each` maps a function over the settings;
    one that does so on several cores is faster.
    """
    values = {axis: (default,) for axis, default in AXIS_DEFAULTS.items()} | SEARCHED | {"seq": sequences(model)}
    batches = axes.get("batch")
    values |= axes | {"batch": (1,)}
    where = {"device": capacity.device, "card": capacity.card and capacity.card.key}
    cells = (dict(zip(values, cell, strict=True)) for cell in product(*values.values()))
    runs = dict.fromkeys(RunSpec(model=model, **where, **cell | {"batch": cell["gpus"]}) for cell in cells)
    for run, batch in product({run.gpus: run for run in runs}.values(), batches or ()):
        replace(run, batch=batch)  # which says what is wrong with it
    most = _most_batches(list(runs), capacity, training)
    if batches is not None:
        most = {run: min(bound, max(batches)) for run, bound in most.items()}
    settings: dict[RunSpec, list[RunSpec]] = {}
    for run in runs:
        settings.setdefault(replace(run, seq=1), []).append(run)
    find = partial(_setting, batches=batches, most=most, capacity=capacity, training=training)
    found = list(each(find, settings.values()))
    return sorted(found, key=lambda setting: (VERDICTS.index(setting.verdict), *_given_up(setting.longest.spec)))


def _setting(
    members: Sequence[RunSpec],
    batches: Sequence[int] | None,
    most: Mapping[RunSpec, int],
    capacity: Capacity,
    training: TrainingSpec,
) -> Setting:
    """What fits of runs that differ in their sequences only, each with `most` sequences at most."""

    def most_of(run: RunSpec, fits: int = 0) -> int:
        if batches is None:
            return finished(largest(run, "batch", most[run], capacity, training, fits=fits))
        tried = sorted((batch for batch in batches if batch <= most[run]), reverse=True)
        return next((batch for batch in tried if capacity.holds(replace(run, batch=batch), training)), 0)

    by_length = sorted(members, key=lambda run: run.seq, reverse=True)
    found = ((run, most_of(run)) for run in by_length)
    longest = next((replace(run, batch=batch) for run, batch in found if batch), None)
    if longest is None:
        longest = replace(by_length[-1], batch=by_length[-1].gpus if batches is None else min(batches))
        return Setting(Candidate(longest, capacity, training), Candidate(longest, capacity, training))
    fullest = longest
    for run in sorted(members, key=lambda run: most[run] * run.seq, reverse=True):
        more = (fullest.batch * fullest.seq // (run.seq * run.gpus) + 1) * run.gpus
        if more <= most[run] and capacity.holds(replace(run, batch=more), training):
            batch = most_of(run, fits=more)
            fullest = replace(run, batch=batch) if batch >= more else fullest  # of given batches none may be between
    return Setting(Candidate(longest, capacity, training), Candidate(fullest, capacity, training))


def sequences(model: ModelSpec) -> tuple[int, ...]:
    """Powers of two from SHORTEST tokens up, and the model's context."""
    powers = (2**power for power in range(21))
    return (*(length for length in powers if SHORTEST <= length < model.context), model.context)


def _most_batches(runs: Sequence[RunSpec], capacity: Capacity, training: TrainingSpec) -> dict[RunSpec, int]:
    """The largest batch whose tensors alone have room, 0 if none; all are bisected at once: a larger batch never frees.

    On a CPU that is what fits.
    """
    fits, exceeds = dict.fromkeys(runs, 0), dict.fromkeys(runs, LARGEST_BATCH + 1)
    tried = dict.fromkeys(runs, 1)  # sequences on each GPU
    while tried:
        tries = {run: possible(run, {"batch": count * run.gpus}) for run, count in tried.items()}
        peaks = iter(least_peaks([run for run in tries.values() if run is not None], training))
        for run, valid in tries.items():
            within = valid is not None and next(peaks) <= capacity.room
            (fits if within else exceeds)[run] = tried[run]
        tried = {run: (fits[run] + exceeds[run]) // 2 for run in runs if exceeds[run] - fits[run] > 1}
    return {run: count * run.gpus for run, count in fits.items()}


def _given_up(run: RunSpec) -> list[int]:
    """Sorts settings by what they give up, the axis where that costs most first; then come fewer GPUs."""
    return [*(kept(axis, getattr(run, axis)) for axis in reversed(COSTS) if axis not in ("batch", "seq")), run.gpus]
