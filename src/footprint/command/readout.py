"""What the command line prints: a prediction, a search or a measurement as plain text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from footprint.predict.capacity import FITS, TOO_LARGE, Capacity
from footprint.predict.fit import COLLAPSED, COSTS, Candidate, Change, kept, step_of
from footprint.predict.search import Setting
from footprint.spec.columns import BUCKET_BYTES, PHASE_PEAKS, WEIGHT_PARTS
from footprint.spec.run import RunSpec
from footprint.spec.units import format_bytes

HONEST = (
    "Rehearsed, not measured: kernels did nothing, so losses and times mean nothing. The bytes are the allocator's."
)

CHECKED = (
    "Predicted for PyTorch 2.13, as its own allocator counts in rehearsals on a T4, an A100 and an H100. No GPU has "
    "checked it but other people's T4."
)

WHERE = {"cpu": "For a CPU.", "cuda": "For an NVIDIA GPU."}
"""Which device an answer is for."""

FOR_A_GPU = " For a GPU, add --card a10g or --gpu-memory 24GiB."


def prediction(spec: RunSpec, row: Mapping, capacity: Capacity | None) -> str:
    """Phases, buckets at the peak, and what the textbook says; where no card was named, how to name one."""
    hint = FOR_A_GPU if capacity is None and spec.device == "cpu" else ""
    peak, peaks = row["peak_bytes"], on_card(row)
    return "\n".join(
        [
            WHERE[spec.device] + hint,
            in_a_line(spec),
            trains(row),
            "",
            "Highest point of each phase",
            *aligned(phases(row)),
            "",
            f"At the peak, in {row['peak_phase']}",
            *aligned([*buckets(row), ["total", format_bytes(peak), "", f"{peak:,} bytes"]]),
            *(["", "Peaks", *aligned(peaks)] if peaks else []),
            "",
            textbook(row),
        ]
    )


def trains(row: Mapping) -> str:
    """How many parameters are trained."""
    return f"trains {row['trainable_parameters']:,} of {row['total_parameters']:,} parameters"


def phases(row: Mapping) -> list[list[str]]:
    """Name, size and a mark of every phase."""
    return parts(PHASE_PEAKS, row)


def buckets(row: Mapping) -> list[list[str]]:
    """Name, size, share of the peak and parts of every bucket."""
    notes = {"weights_bytes": ", ".join(f"{name} {format_bytes(size)}" for name, size in _weights(row))}
    return [
        [word(name), format_bytes(row[name]), f"{row[name] / row['peak_bytes']:.1%}", notes.get(name, "")]
        for name in BUCKET_BYTES
    ]


def on_card(row: Mapping) -> list[list[str]]:
    """What a card's allocator makes of it; nothing on the CPU, where memory is what tensors take."""
    if row["process_peak_bytes"] is None:
        return []
    sizes = {
        "allocated": (row["peak_bytes"], "rounded up, with what is too small to be split off"),
        "requested": (row["requested_peak_bytes"], "by tensors"),
        "reserved": (row["reserved_peak_bytes"], "with the allocator's cache"),
        "on the card": (row["process_peak_bytes"], "with the CUDA context"),
    }
    return [[name, format_bytes(size), f"{size:,} bytes", how] for name, (size, how) in sizes.items()]


def textbook(row: Mapping) -> str:
    """What the textbook says and how far off it is."""
    off = row["textbook_bytes"] / row["peak_bytes"] - 1
    return (
        "The textbook (16 bytes per trained parameter, activations left out) says "
        f"{format_bytes(row['textbook_bytes'])}, {abs(off):.1%} too {'much' if off > 0 else 'little'}."
    )


def _weights(row: Mapping) -> Iterator[tuple[str, int]]:
    """The parts of the weights that exist: those with a column, and of full fine-tuning what is trained itself."""
    rest = row["weights_bytes"] - sum(row[name] for name in WEIGHT_PARTS)
    parts = {"trained": rest} | {word(name): row[name] for name in WEIGHT_PARTS}
    yield from ((name, size) for name, size in parts.items() if size)


def verdict(candidate: Candidate, change: Change | None) -> str:
    """Whether a run fits on its card and, if not, the cheapest change that makes it fit."""
    where, left = _room(candidate.capacity), candidate.headroom
    if candidate.verdict == TOO_LARGE:
        said = [f"It does not fit {where}: {format_bytes(-left)} more would do."]
    else:
        said = [f"It fits {where}, with {format_bytes(left)} to spare."]
        if candidate.empties_cache:
            said.append("The allocator has to empty its cache on the way, which takes time.")
    return "\n".join([*said, *([] if change is None else advice(change)), *besides(candidate.capacity)])


def _room(capacity: Capacity) -> str:
    """What a run has to fit into, in words."""
    size = format_bytes(capacity.memory)
    return f"into {size}" if capacity.card is None else f"on {capacity.card.name} ({size})"


def search(settings: Sequence[Setting], capacity: Capacity) -> str:
    """What fits and what does not, in each part the smallest sacrifice first."""
    spec, axes = settings[0].longest.spec, _varied(settings)
    fitting = [setting for setting in settings if setting.verdict == FITS]
    where = f"{spec.model.name} {_room(capacity)}"
    lines = [", ".join([where, *_fixed(settings, axes)]), *_ranking(axes)]
    if fitting:
        header = ["", *axes, "longest", "peak", "to spare", "most tokens"]
        rows = [_place(number, setting, axes) for number, setting in enumerate(fitting, start=1)]
        lines += ["", "Fits (batch x sequence)", *aligned([header, *rows])]
    others = [setting.longest for setting in settings if setting.verdict == TOO_LARGE]
    if others:
        rows = [[*_values(one.spec, axes), _reason(one)] for one in others]
        each = " on each" if any(one.spec.gpus > 1 for one in others) else ""
        lines += ["", f"Does not fit, not even {shape(others[0].spec.alone)}{each}", *aligned(rows)]
    return "\n".join([*lines, "", *besides(capacity)])


def measurement(spec: RunSpec, measured: Mapping, predicted: Mapping) -> str:
    """What was measured, or rehearsed, beside what was predicted, and the relative error."""
    if measured["status"] != "ok":
        return "\n".join([in_a_line(spec), "", failure(measured)])
    source = measured["source"]
    rows = [["", source, "predicted", "error"]]
    on_card = ("requested_peak_bytes", "reserved_peak_bytes", "process_peak_bytes") if spec.device == "cuda" else ()
    for name in ("peak_bytes", *PHASE_PEAKS, *BUCKET_BYTES, *on_card, "textbook_bytes"):
        actual, expected = measured["peak_bytes" if name == "textbook_bytes" else name], predicted[name]
        if actual is not None:  # nothing is reserved by the run alone where the cache had to be emptied
            rows.append([word(name), format_bytes(actual), format_bytes(expected), _error(expected, actual)])
    return "\n".join(
        [
            in_a_line(spec),
            *_speed(measured),
            "",
            *aligned(rows),
            "",
            f"The peak of {measured['peak_bytes']:,} bytes is in {measured['peak_phase']}.",
        ]
    )


def parts(names: Iterable[str], row: Mapping) -> list[list[str]]:
    return [[word(name), format_bytes(row[name]), _mark(name, row)] for name in names]


def _speed(measured: Mapping) -> list[str]:
    """How fast it was; of a rehearsal, that its kernels did nothing."""
    if measured["source"] == "rehearsed":
        return [HONEST]
    seconds, tokens = measured["step_seconds"], measured["tokens_per_second"]
    lower, upper, load = (measured[name] for name in ("lower_step_seconds", "upper_step_seconds", "neighbour_load"))
    others = "" if load is None else f"; meanwhile others kept {load:.0%} of these processors busy"
    middle = f"(half of {measured['timed_steps']} between {lower:.3f} and {upper:.3f} s)"
    return [f"one step takes {seconds:.3f} s {middle}, {tokens:,.0f} tokens per second{others}"]


def in_a_line(spec: RunSpec) -> str:
    """A run in one line: its model, the axes that apply, its device."""
    said = [spec.axes()["model"], spec.regime]
    if spec.regime != "full":
        said.append(f"rank {spec.rank} on {spec.targets}")
    if spec.regime == "qlora":
        said.append(f"base in {spec.quantization}")
    said += [f"{spec.precision} precision", spec.optimizer, f"checkpointing {spec.checkpointing}"]
    shared = ""
    if spec.gpus > 1:
        said.append(f"{spec.sharding} on {spec.gpus} gpus, of which this is the one that holds most")
        shared = " for all of them"
    return ", ".join([*said, f"batch {shape(spec)}{shared}", f"on {spec.card or spec.device}"])


def word(column: str) -> str:
    """`frozen base` from `frozen_base_bytes`."""
    if column == "process_peak_bytes":
        return "on the card"
    return column.removesuffix("_bytes").removesuffix("_peak").replace("_", " ")


def _mark(phase: str, row: Mapping) -> str:
    return "<- the peak" if word(phase) == row["peak_phase"] else ""


def advice(change: Change) -> list[str]:
    """The cheapest single change that makes a run fit, and what was tried before it."""
    tried = ", ".join(f"--{axis} {value}" for axis, value in change.in_vain)
    if change.changed is None:
        return [f"No single change makes it fit (tried: {tried}); `footprint fit` searches for several."]
    value, peak = getattr(change.changed.spec, change.axis), format_bytes(change.changed.row["peak_bytes"])
    more = f" ({value + step_of(change.changed.spec, change.axis)} is too large)" if isinstance(value, int) else ""
    found = f"The cheapest single change that makes it fit: --{change.axis} {value}{more}, with a peak of {peak}."
    return [found, *([f"Cheaper changes that are not enough: {tried}."] if tried else [])]


def besides(capacity: Capacity) -> list[str]:
    """What an answer for a card rests on."""
    card = capacity.card
    if card is None:
        return []
    context = f"The CUDA context is taken to be {format_bytes(card.context)}"
    return [f"{context}{'' if card.checked else ', an estimate'}; its kernels are those of {card.key}.", CHECKED]


def _varied(settings: Sequence[Setting]) -> dict[str, list]:
    """The axes in which settings differ, with their values; both in the order that ranks them."""
    return {axis: values for axis, values in _choices(settings).items() if len(values) > 1 or axis == "regime"}


def _fixed(settings: Sequence[Setting], varied: Iterable[str]) -> list[str]:
    """The values that all settings share."""
    return [f"{axis} {v}" for axis, values in _choices(settings).items() if axis not in varied for v in values]


def _choices(settings: Sequence[Setting]) -> dict[str, list]:
    """The values of every axis but batch and sequence, where it applies."""
    specs = [setting.longest.spec for setting in settings]
    axes = [axis for axis in reversed(COSTS) if axis not in ("batch", "seq")]
    values = {axis: {getattr(spec, axis) for spec in specs} - {COLLAPSED.get(axis)} for axis in axes}
    choices = {axis: sorted(found, key=partial(kept, axis)) for axis, found in values.items()}
    if any(spec.gpus > 1 for spec in specs):
        choices["gpus"] = sorted({spec.gpus for spec in specs})
        choices["sharding"] = sorted({spec.sharding for spec in specs if spec.gpus > 1})
    return choices


def _ranking(axes: Mapping[str, Sequence]) -> list[str]:
    """How settings are ordered, said of the axes that decide it."""
    orders = [f"{axis} {', '.join(map(str, values))}" for axis, values in axes.items() if len(values) > 1]
    return [f"Order: {'; then '.join(orders)}."] if orders else []


def _place(number: int, setting: Setting, axes: Iterable[str]) -> list[str]:
    longest, most = setting.longest, setting.most_tokens
    sizes = format_bytes(longest.row["peak_bytes"]), format_bytes(longest.headroom)
    return [f"{number}.", *_values(longest.spec, axes), shape(longest.spec), *sizes, shape(most.spec)]


def _values(spec: RunSpec, axes: Iterable[str]) -> list[str]:
    return ["-" if getattr(spec, axis) == COLLAPSED.get(axis) else str(getattr(spec, axis)) for axis in axes]


def shape(spec: RunSpec) -> str:
    return f"{spec.batch} x {spec.seq}"


def _reason(candidate: Candidate) -> str:
    bucket, size = candidate.largest_bucket
    return f"{format_bytes(-candidate.headroom)} more would do; largest bucket: {bucket}, {format_bytes(size)}"


def failure(measured: Mapping) -> str:
    if measured["status"] != "oom":
        return f"Training {measured['status']}; its peaks are not valid."
    asked = measured["oom_requested_bytes"]
    size = f", asking for {format_bytes(asked)}" if asked else ""
    return f"Out of memory in {measured['oom_phase']}{size}."


def _error(predicted: int, measured: int) -> str:
    if predicted == measured:
        return "exact"
    return f"{predicted / measured - 1:+.3%}" if measured else "-"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as columns of equal width, indented; a column of sizes is aligned at its unit."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
