"""What fits into a given memory: the cheapest change that makes one run fit, and the cheapest settings of a model.

A change is cheap when it gives up little. From the cheapest (the order of `STEPS`):

- the fused optimizer gives up nothing, checkpointing only time, a smaller batch time per token;
- Adam's moments on the host or in 8 bits, NF4's double quantization, fewer targets, a lower rank and a lower precision
  cost more and more;
- another regime trains something else, and a shorter sequence cuts texts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from footprint.errors import FootprintError
from footprint.predict.capacity import FITS, VERDICTS, Capacity
from footprint.predict.prediction import predict, predict_many
from footprint.spec.checkpointing import CHECKPOINTING
from footprint.spec.columns import BUCKET_BYTES
from footprint.spec.model import TARGETS, ModelSpec
from footprint.spec.run import AXIS_DEFAULTS, QUANTIZATIONS, REGIMES, RunSpec
from footprint.spec.training import TrainingSpec

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
"""What can be given up, the cheapest first: an axis and its values, each less than the last; numbers have none, of them
the largest that fits is searched."""

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
    capacity: Capacity

    @property
    def verdict(self) -> str:
        """`fits`, `tight` or `does not fit`."""
        return self.capacity.verdict(self.row["peak_bytes"])

    @property
    def headroom(self) -> int:
        """Bytes left of what tensors can surely have; negative when it does not surely fit."""
        return self.capacity.sure - self.row["peak_bytes"]

    @property
    def largest_bucket(self) -> tuple[str, int]:
        """The bucket that takes most at the peak, and its bytes."""
        name = max(BUCKET_BYTES, key=self.row.__getitem__)
        return name.removesuffix("_bytes"), self.row[name]


@dataclass(frozen=True, slots=True)
class Change:
    """What the search for the cheapest change came to."""

    axis: str | None
    """What to change; None when no single change is enough."""
    changed: Candidate | None
    """The run that then fits."""
    in_vain: tuple[tuple[str, str | int], ...]
    """Cheaper changes that were tried: axis and value; of a number the smallest."""


def cheapest_change(spec: RunSpec, capacity: Capacity, training: TrainingSpec) -> Change:
    """The first change in the order of `STEPS` after which the run fits; of a number the largest value that does."""
    in_vain = []
    for axis, values in STEPS:
        for run in _less(spec, axis, values):
            if isinstance(getattr(run, axis), int):
                run = _largest_that_fits(spec, axis, capacity, training) or run
            candidate = Candidate(run, predict(run, training), capacity)
            if candidate.verdict == FITS:
                return Change(axis, candidate, tuple(in_vain))
            in_vain.append((axis, getattr(run, axis)))
    return Change(None, None, tuple(in_vain))


def _less(spec: RunSpec, axis: str, values: tuple[str, ...]) -> Iterator[RunSpec]:
    """Every run that gives up something along one axis, the cheapest first; of a number only the least, 1."""
    present = getattr(spec, axis)
    if isinstance(present, int):
        values = (1,) if present > 1 else ()
    elif axis == "targets":
        adapted = set(spec.model.adapted(present))
        values = tuple(name for name in values if set(spec.model.adapted(name)) < adapted)
    elif present in values:
        values = values[values.index(present) + 1 :]
    # Another regime brings axes to life that this one collapses.
    revived = {other: AXIS_DEFAULTS[other] for other, nothing in COLLAPSED.items() if getattr(spec, other) == nothing}
    for value in values:
        run = _valid(spec, (revived if axis == "regime" else {}) | {axis: value})
        if run is not None and run != spec:
            yield run


def _largest_that_fits(spec: RunSpec, axis: str, capacity: Capacity, training: TrainingSpec) -> RunSpec | None:
    """The run with the largest value of a number below its own with which it fits, by bisection; None if none does."""
    fits, exceeds = 0, getattr(spec, axis)
    while exceeds - fits > 1:
        tried = (fits + exceeds) // 2
        peak = predict(replace(spec, **{axis: tried}), training)["peak_bytes"]
        fits, exceeds = (tried, exceeds) if capacity.verdict(peak) == FITS else (fits, tried)
    return replace(spec, **{axis: fits}) if fits else None


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


def search(model: ModelSpec, axes: Mapping[str, Sequence], capacity: Capacity, training: TrainingSpec) -> list[Setting]:
    """Settings of a model against a card: those that fit come first, then the tight ones, each by what is given up.

    Axes that `axes` does not mention are searched (`SEARCHED`) or keep their defaults; without `seq`, the lengths of
    `sequences` are tried; without `batch`, the largest that fits is searched.
    """
    values = {axis: (default,) for axis, default in AXIS_DEFAULTS.items()} | SEARCHED | {"seq": sequences(model)}
    batches = axes.get("batch")
    values |= axes | {"batch": (1,)}
    runs = dict.fromkeys(
        RunSpec(model=model, device=capacity.device, **dict(zip(values, cell, strict=True)))
        for cell in product(*values.values())
    )
    if batches is None:
        largest = _largest_batches(list(runs), capacity, training)
    else:
        largest = _largest_of(list(runs), batches, capacity, training)
    smallest = 1 if batches is None else min(batches)
    settings: dict[RunSpec, list[RunSpec]] = {}
    for run in largest:
        settings.setdefault(replace(run, seq=1), []).append(run)
    longest, most = [], []
    for members in settings.values():
        fitting = [replace(run, batch=largest[run]) for run in members if largest[run]]
        least = replace(min(members, key=lambda run: run.seq), batch=smallest)
        longest.append(max(fitting, key=lambda run: run.seq, default=least))
        most.append(max(fitting, key=lambda run: (run.batch * run.seq, run.seq), default=least))
    pairs = map(Setting, _candidates(longest, capacity, training), _candidates(most, capacity, training))
    return sorted(pairs, key=lambda setting: (VERDICTS.index(setting.verdict), *_given_up(setting.longest.spec)))


def sequences(model: ModelSpec) -> tuple[int, ...]:
    """Powers of two from SHORTEST tokens up, and the model's context."""
    powers = (2**power for power in range(21))
    return (*(length for length in powers if SHORTEST <= length < model.context), model.context)


def _largest_of(
    runs: Sequence[RunSpec], batches: Sequence[int], capacity: Capacity, training: TrainingSpec
) -> dict[RunSpec, int]:
    """The largest of some batches with which each run fits, 0 if none."""
    largest = dict.fromkeys(runs, 0)
    for batch in sorted(batches):
        rows = predict_many([replace(run, batch=batch) for run in runs], training)
        fitting = (run for run, row in zip(runs, rows, strict=True) if capacity.verdict(row["peak_bytes"]) == FITS)
        largest |= dict.fromkeys(fitting, batch)
    return largest


def _largest_batches(runs: Sequence[RunSpec], capacity: Capacity, training: TrainingSpec) -> dict[RunSpec, int]:
    """The largest batch with which each run fits, 0 if none; all are bisected at once (a larger batch never frees)."""
    fits, exceeds = dict.fromkeys(runs, 0), dict.fromkeys(runs, LARGEST_BATCH + 1)
    tried = dict.fromkeys(runs, 1)
    while tried:
        tries = {run: _valid(run, {"batch": batch}) for run, batch in tried.items()}
        rows = iter(predict_many([run for run in tries.values() if run is not None], training))
        for run, valid in tries.items():
            within = valid is not None and capacity.verdict(next(rows)["peak_bytes"]) == FITS
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
    if axis == "targets" and value not in TARGETS:
        value = "attention"  # any other set of Linears stands with the set in the middle
    less = [less for step, values in STEPS if step == axis for less in values]
    return less.index(value) + 1 if value in less else 0


def _candidates(runs: Sequence[RunSpec], capacity: Capacity, training: TrainingSpec) -> list[Candidate]:
    rows = predict_many(runs, training)
    return [Candidate(run, row, capacity) for run, row in zip(runs, rows, strict=True)]
