"""What fits into a given memory: the cheapest change that makes one run fit, and the cheapest settings of a model.

Cheap is what gives up least, in the order of `STEPS`: the fused optimizer gives up nothing, checkpointing only time, a
smaller batch time per token; Adam's moments on the host or in 8 bits, NF4 scales quantized in turn, fewer targets, a
lower rank and lower precision cost more and more; another regime trains something else, a shorter sequence cuts texts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from footprint.columns import BUCKET_BYTES
from footprint.errors import FootprintError
from footprint.predict import predict_many
from footprint.spec import (
    AXIS_DEFAULTS,
    CHECKPOINTING,
    QUANTIZATIONS,
    REGIMES,
    TARGETS,
    ModelSpec,
    RunSpec,
    TrainingSpec,
)

STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("optimizer", ("adamw-fused",)),
    ("checkpointing", CHECKPOINTING[1:]),
    ("batch", ()),
    ("optimizer", ("paged-adamw", "adamw-8bit")),
    ("quantization", QUANTIZATIONS[1:]),
    ("targets", TARGETS[1:]),
    ("rank", ()),
    ("precision", ("amp", "mixed", "bf16")),
    ("regime", REGIMES[1:]),
    ("seq", ()),
)
"""What can be given up, the cheapest first: an axis and its values, each less than the last; numbers by halves."""

COSTS = tuple(dict.fromkeys(axis for axis, _ in STEPS))
"""Axes by what it costs to give something up there, the cheapest first."""

COLLAPSED = {"rank": 0, "targets": "none", "quantization": "none"}
"""Axes that do not apply to every regime, and what they are where they do not."""

SEARCHED = {"regime": REGIMES, "checkpointing": CHECKPOINTING}
"""Axes a search varies unless it is told otherwise; the others keep their defaults."""

SHORTEST, LARGEST_BATCH = 128, 65536
"""Ends of a search: tokens of the shortest sequence (shorter only for a model of less context), sequences."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run and its row of `predictions.csv`, held against a card."""

    spec: RunSpec
    row: dict[str, object]
    headroom: int
    """Bytes left; negative when it does not fit."""

    @property
    def largest_bucket(self) -> tuple[str, int]:
        """The bucket that takes most at the peak, and its bytes."""
        name = max(BUCKET_BYTES, key=self.row.__getitem__)
        return name.removesuffix("_bytes"), self.row[name]


def cheapest_change(spec: RunSpec, memory: int, training: TrainingSpec) -> tuple[str, Candidate] | None:
    """The axis to change and the run that then fits into `memory` bytes; None when no single change is enough."""
    changed = list(_changes(spec))
    rows = predict_many([run for _, run in changed], training)
    for (axis, run), row in zip(changed, rows, strict=True):
        if row["peak_bytes"] <= memory:
            return axis, Candidate(run, row, memory - row["peak_bytes"])
    return None


def _changes(spec: RunSpec) -> Iterator[tuple[str, RunSpec]]:
    """Every run that gives up something along one axis only, the cheapest first."""
    # Another regime brings axes to life that this one collapses.
    revived = {axis: AXIS_DEFAULTS[axis] for axis, nothing in COLLAPSED.items() if getattr(spec, axis) == nothing}
    for axis, values in STEPS:
        for value in _less(getattr(spec, axis), values):
            run = _valid(spec, (revived if axis == "regime" else {}) | {axis: value})
            if run is not None and run != spec:
                yield axis, run


def _less(value: str | int, values: tuple[str, ...]) -> Iterator[str | int]:
    if isinstance(value, str):
        yield from values[values.index(value) + 1 :] if value in values else values
        return
    while value > 1:
        value //= 2
        yield value


def _valid(spec: RunSpec, axes: Mapping[str, str | int]) -> RunSpec | None:
    """The run with other axes, or None where that combination does not exist (bitsandbytes' optimizers on the CPU)."""
    try:
        return replace(spec, **axes)
    except FootprintError:
        return None


@dataclass(frozen=True, slots=True)
class Setting:
    """A value for every axis but batch and sequence, represented by two of the runs that fit (or one that does not)."""

    longest: Candidate
    """The longest sequence that fits, and as many of them as do; else one of the shortest."""
    most_tokens: Candidate
    """The most tokens per step that fit, of whatever length; else the same."""

    @property
    def fits(self) -> bool:
        """Whether anything of this setting does."""
        return self.longest.headroom >= 0

    def as_dict(self) -> dict[str, object]:
        """The row of the longest sequence, whether it fits, and what else there is to say."""
        bucket, size = self.longest.largest_bucket
        most = {name: self.most_tokens.row[name] for name in ("batch", "seq", "peak_bytes")}
        return self.longest.row | {
            "fits": self.fits,
            "headroom_bytes": self.longest.headroom,
            "largest_bucket": bucket,
            "largest_bucket_bytes": size,
            "most_tokens": most,
        }


def search(
    model: ModelSpec, axes: Mapping[str, Sequence], memory: int, device: str, training: TrainingSpec
) -> list[Setting]:
    """Settings of a model against `memory` bytes: those that fit come first, and in both parts the least given up.

    Axes that `axes` does not mention are searched (`SEARCHED`) or keep their defaults; without `seq`, the lengths of
    `sequences` are tried.
    """
    values = {axis: (default,) for axis, default in AXIS_DEFAULTS.items()} | SEARCHED | {"seq": sequences(model)}
    values |= axes | {"batch": (1,)}
    runs = dict.fromkeys(
        RunSpec(model=model, device=device, **dict(zip(values, cell, strict=True)))
        for cell in product(*values.values())
    )
    largest = _largest_batches(list(runs), memory, training)
    settings: dict[RunSpec, list[RunSpec]] = {}
    for run, batch in largest.items():
        settings.setdefault(replace(run, seq=1), []).append(replace(run, batch=max(batch, 1)))
    longest, most = [], []
    for runs in settings.values():
        fitting = [run for run in runs if largest[replace(run, batch=1)]]
        shortest = min(runs, key=lambda run: run.seq)
        longest.append(max(fitting, key=lambda run: run.seq, default=shortest))
        most.append(max(fitting, key=lambda run: (run.batch * run.seq, run.seq), default=shortest))
    pairs = map(Setting, _candidates(longest, memory, training), _candidates(most, memory, training))
    return sorted(pairs, key=lambda setting: (not setting.fits, *_given_up(setting.longest.spec)))


def sequences(model: ModelSpec) -> tuple[int, ...]:
    """Powers of two from SHORTEST tokens up, and the model's context."""
    powers = (2**power for power in range(21))
    return (*(length for length in powers if SHORTEST <= length < model.context), model.context)


def _largest_batches(runs: Sequence[RunSpec], memory: int, training: TrainingSpec) -> dict[RunSpec, int]:
    """The largest batch with which each run fits, 0 if none; all are bisected at once (a larger batch never frees)."""
    fits, exceeds = dict.fromkeys(runs, 0), dict.fromkeys(runs, LARGEST_BATCH + 1)
    tried = dict.fromkeys(runs, 1)
    while tried:
        tries = {run: _valid(run, {"batch": batch}) for run, batch in tried.items()}
        rows = iter(predict_many([run for run in tries.values() if run is not None], training))
        for run, valid in tries.items():
            within = valid is not None and next(rows)["peak_bytes"] <= memory
            (fits if within else exceeds)[run] = tried[run]
        tried = {run: (fits[run] + exceeds[run]) // 2 for run in runs if exceeds[run] - fits[run] > 1}
    return fits


def _given_up(run: RunSpec) -> list[int]:
    """Sorts settings by what they give up, the axis where that costs most first."""
    return [kept(axis, getattr(run, axis)) for axis in reversed(COSTS) if axis not in ("batch", "seq")]


def kept(axis: str, value: str | int) -> int:
    """Sorts the values of an axis from what keeps most to what gives up most."""
    if isinstance(value, int):
        return -value
    less = [less for step, values in STEPS if step == axis for less in values]
    return less.index(value) + 1 if value in less else 0


def _candidates(runs: Sequence[RunSpec], memory: int, training: TrainingSpec) -> list[Candidate]:
    rows = predict_many(runs, training)
    return [Candidate(run, row, memory - row["peak_bytes"]) for run, row in zip(runs, rows, strict=True)]
