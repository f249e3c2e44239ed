"""The host memory of a run, predicted: what a scheduler is asked for, and what a machine must have."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from footprint.errors import FootprintError
from footprint.jobs.available_memory import Room, room
from footprint.predict.parameters import parameters
from footprint.predict.prediction import predict_many
from footprint.spec.handover import run_name
from footprint.spec.precision import FULL
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from footprint.spec.units import format_bytes

PROCESS = 2**30
"""Bytes of a process that has imported PyTorch, PEFT and bitsandbytes; between 0.5 GiB and 1 GiB, by whether pages it
shares with the server it was forked from count once."""

LOADED = 2**30
"""Bytes without which these cannot be imported: some of their libraries abort the process where they find less."""

CUDA_PROCESS = 3 * 2**30
"""The same on a GPU, with the CUDA libraries; a parameter that is drawn on its way to the device comes on top."""

OTHERS = 2**30
"""Bytes of what a scheduler counts beside the run: that server, and the Snakemake that started it."""

CUDA_REQUEST = 8 * 2**30
"""Bytes of host memory to ask a scheduler for where a run is on a GPU, which a rehearsal does not need."""

MARGIN = 1.25
"""Resident over live bytes: what the CPU's heap keeps of freed blocks."""

Runs = Iterable[tuple[RunSpec, TrainingSpec]]


class HostMemory:
    """Megabytes (10^6, as Snakemake counts) each run needs; predicted for all of them when first asked for one."""

    def __init__(self, runs: Sequence[RunSpec], training: TrainingSpec) -> None:
        self._runs, self._training = runs, training

    def megabytes(self, run: str) -> int:
        """Of the run with that file name."""
        return self._megabytes[run]

    def most(self) -> int:
        """Of the run that needs most."""
        return max(self._megabytes.values())

    @cached_property
    def _megabytes(self) -> dict[str, int]:
        rows = predict_many([under_minigpt(spec) for spec in self._runs], self._training)
        pairs = zip(self._runs, rows, strict=True)
        return {run_name(spec): round(_requested(spec, row["peak_bytes"]) / 1e6) for spec, row in pairs}


def _requested(spec: RunSpec, peak: int) -> float:
    needed = needed_bytes(spec, peak) + OTHERS
    return max(needed, CUDA_REQUEST) if spec.device == "cuda" and spec.card is None else needed


def needed_bytes(spec: RunSpec, peak: int) -> float:
    """Bytes of host memory that a run's own processes take when `peak` bytes are live on the device of each."""
    if spec.gpus > 1:
        processes = spec.gpus if spec.card is None else 2  # of a rehearsal, the first rank and the last
        buckets = FULL * sum(each.elements * each.count for each in parameters(under_minigpt(spec)) if each.trained)
        return processes * needed_bytes(spec.alone, peak + buckets * (spec.sharding == "ddp"))
    own = spec.stack == "minigpt"
    elements = [parameter.elements for parameter in parameters(spec if own else under_minigpt(spec))]
    # Transformers is handed a checkpoint of weights that were drawn; a rehearsal draws none.
    drawn = 0 if own or spec.card is not None else FULL * sum(elements)
    if spec.device == "cuda":
        return CUDA_PROCESS + FULL * max(elements) + drawn
    return PROCESS + MARGIN * peak + drawn


def under_minigpt(spec: RunSpec) -> RunSpec:
    """The run by this project's own loop on one GPU: near enough to ask a scheduler for memory."""
    return replace(spec.alone, stack="minigpt", recipe=None)


def largest_peak(size: int) -> int:
    """Live bytes of the largest CPU run whose process keeps within `size` bytes; `needed_bytes` the other way round."""
    return int((size - PROCESS) / MARGIN)


def require_host_memory(runs: Runs) -> None:
    """Raise FootprintError when one of the runs needs more than this process may hold; the largest is named.

    A `memory_limit` makes no difference: on the CPU a smaller card is imitated when the run has had all it wanted.
    """
    found = room()
    if found is None:
        return
    short = [(needed, spec) for spec, needed in _needs(runs) if needed > found.size]
    if short:
        needed, spec = max(short, key=lambda pair: pair[0])
        others = f", and {len(short) - 1} more do not fit" if len(short) > 1 else ""
        raise FootprintError(f"{run_name(spec)}: {shortage(needed, found)}; leave the run out of the config{others}")


def shortage(needed: float, found: Room) -> str:
    """What is missing, as part of a sentence."""
    takes, left = format_bytes(needed), format_bytes(found.size)
    return f"the run takes about {takes} of host memory (predicted), and {found.bound} allows {left}"


def _needs(runs: Runs) -> Iterator[tuple[RunSpec, float]]:
    alike: dict[TrainingSpec, list[RunSpec]] = {}
    for spec, training in runs:
        alike.setdefault(replace(training, seed=0), []).append(spec)  # a seed needs no bytes
    for training, specs in alike.items():
        for spec, row in zip(specs, predict_many([under_minigpt(spec) for spec in specs], training), strict=True):
            yield spec, needed_bytes(spec, row["peak_bytes"])
