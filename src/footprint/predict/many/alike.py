"""Runs that are alike in everything but their sizes, as one run whose sizes are arrays."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

import numpy as np

from footprint.predict.sizes import GETTERS, MODEL_SIZES, RUN_SIZES
from footprint.spec.model import ModelSpec
from footprint.spec.run import RunSpec


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Models(ModelSpec):
    """Models with the same kind of block, sizes as int64 arrays; each was checked where it was made."""

    def __post_init__(self) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Runs(RunSpec):
    """Runs with the same regime, targets, precision, ..., sizes as int64 arrays; each was checked where it was made."""

    def __post_init__(self) -> None: ...


_SHARED_BY_MODELS = tuple(f.name for f in fields(ModelSpec) if f.name not in (*MODEL_SIZES, "name"))
_SHARED_BY_RUNS = tuple(f.name for f in fields(RunSpec) if f.name not in (*RUN_SIZES, "model", "checkpointing"))
_shared = attrgetter(*(f"model.{name}" for name in _SHARED_BY_MODELS), *_SHARED_BY_RUNS)


def sizes_of_many(specs: Sequence[RunSpec]) -> dict[str, np.ndarray]:
    """Every size of the runs and their models by name, as int64 arrays with one entry per run."""
    return {name: np.fromiter(map(get, specs), np.int64, len(specs)) for name, get in GETTERS.items()}


def alike(specs: Sequence[RunSpec]) -> Iterator[tuple[np.ndarray, Runs]]:
    """Groups of runs that share all but sizes and checkpointing: the indices of each, and the group as one run."""
    groups: dict[tuple, list[int]] = defaultdict(list)
    for index, spec in enumerate(specs):
        groups[_shared(spec)].append(index)
    sizes = sizes_of_many(specs)
    for members in groups.values():
        indices, example = np.array(members), specs[members[0]]
        own = {name: column[indices] for name, column in sizes.items()}
        shared = {name: getattr(example.model, name) for name in _SHARED_BY_MODELS}
        model = Models(name="", **shared, **{name: own[name] for name in MODEL_SIZES})
        shared = {name: getattr(example, name) for name in _SHARED_BY_RUNS}
        yield indices, Runs(model=model, **shared, **{name: own[name] for name in RUN_SIZES})
