"""What fits into a given memory: the cheapest change that makes one run fit, and the cheapest settings of a model.

A change is cheap when it gives up little. From the cheapest (the order of `STEPS`):

- the fused optimizer gives up nothing, checkpointing only time, a smaller batch time per token;
- Adam's moments on the host or in 8 bits, NF4's double quantization, fewer targets, a lower rank and a lower precision
  cost more and more;
- another regime trains something else, and a shorter sequence cuts texts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product

from footprint.errors import FootprintError
from footprint.predict.capacity import FITS, VERDICTS, Capacity
from footprint.predict.prediction import least_peaks, predict
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
    capacity: Capacity
    training: TrainingSpec
    row: dict[str, object] = field(init=False)
    """The prediction."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "row", predict(self.spec, self.training, room=self.capacity.room))

    @property
    def verdict(self) -> str:
        """`fits` or `does not fit`."""
        return self.capacity.verdict(self.row)

    @property
    def empties_cache(self) -> bool:
        """Whether it fits only because the allocator gives free segments back on the way."""
        return self.verdict == FITS and self.capacity.empties_cache(self.spec, self.training)

    @property
    def headroom(self) -> int:
        """Bytes that nothing has reserved at the end; negative where the run does not fit."""
        return self.capacity.room - self.capacity.taken(self.row)

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
                run = _largest_below(spec, axis, getattr(spec, axis), capacity, training) or run
            candidate = Candidate(run, capacity, training)
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


def _largest_below(spec: RunSpec, axis: str, value: int, capacity: Capacity, training: TrainingSpec) -> RunSpec | None:
    """The run with the largest value of a number below `value` with which it fits, None if none does."""
    least, exceeds = 0, value
    while exceeds - least > 1:  # tensors alone, without what an allocator adds
        tried = (least + exceeds) // 2
        within = least_peaks([replace(spec, **{axis: tried})], training)[0] <= capacity.room
        least, exceeds = (tried, exceeds) if within else (least, tried)
    fitting = _largest(spec, axis, least, capacity, training)
    return replace(spec, **{axis: fitting}) if fitting else None


def _largest(spec: RunSpec, axis: str, most: int, capacity: Capacity, training: TrainingSpec, *, fits: int = 0) -> int:
    """The largest value of a number, `most` at most, with which the run fits and with one more does not; 0 if none.

    With `fits` it is known to.
    """
    if most <= fits:
        return fits
    row = predict(replace(spec, **{axis: most}), training, room=capacity.room)
    if capacity.taken(row) <= capacity.room:
        return most
    exceeds, step = most, 1
    tried = min(max(_guess(spec, axis, most, row, capacity, training), fits + 1), exceeds - 1)
    while exceeds - fits > 1:  # away from the guess in steps that double, then by halves
        if not fits < tried < exceeds:
            tried = (fits + exceeds) // 2
        if capacity.holds(replace(spec, **{axis: tried}), training):
            fits, tried = tried, tried + step
        else:
            exceeds, tried = tried, tried - step
        step *= 2
    return fits


def _guess(spec: RunSpec, axis: str, most: int, row: Mapping, capacity: Capacity, training: TrainingSpec) -> int:
    """About the largest value below `most`, whose row is given, if the allocator adds as much for every tensor."""
    at_most = row["requested_peak_bytes"]
    least = least_peaks([replace(spec, **{axis: 1})], training)[0]
    each = (at_most - least) / max(most - 1, 1)
    excess = at_most - capacity.room * at_most / capacity.taken(row)
    return min(max(int(most - excess / each), 1), most) if each > 0 else most


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
    runs = dict.fromkeys(
        RunSpec(model=model, **where, **dict(zip(values, cell, strict=True))) for cell in product(*values.values())
    )
    for batch in batches or ():
        replace(next(iter(runs)), batch=batch)  # which says what is wrong with it
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

    def largest(run: RunSpec, fits: int = 0) -> int:
        if batches is None:
            return _largest(run, "batch", most[run], capacity, training, fits=fits)
        tried = sorted((batch for batch in batches if batch <= most[run]), reverse=True)
        return next((batch for batch in tried if capacity.holds(replace(run, batch=batch), training)), 0)

    by_length = sorted(members, key=lambda run: run.seq, reverse=True)
    found = ((run, largest(run)) for run in by_length)
    longest = next((replace(run, batch=batch) for run, batch in found if batch), None)
    if longest is None:
        longest = replace(by_length[-1], batch=1 if batches is None else min(batches))
        return Setting(Candidate(longest, capacity, training), Candidate(longest, capacity, training))
    fullest = longest
    for run in sorted(members, key=lambda run: most[run] * run.seq, reverse=True):
        more = fullest.batch * fullest.seq // run.seq + 1
        if more <= most[run] and capacity.holds(replace(run, batch=more), training):
            fullest = replace(run, batch=largest(run, fits=more))
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
    tried = dict.fromkeys(runs, 1)
    while tried:
        tries = {run: _valid(run, {"batch": batch}) for run, batch in tried.items()}
        peaks = iter(least_peaks([run for run in tries.values() if run is not None], training))
        for run, valid in tries.items():
            within = valid is not None and next(peaks) <= capacity.room
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
