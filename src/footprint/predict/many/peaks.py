"""Peaks of forward, backward and optimizer step of many runs; runs of equal structure are computed together."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import astuple
from operator import attrgetter

import numpy as np

from footprint.predict.formula import Formula
from footprint.predict.kernels.device import Kernels
from footprint.predict.many.alike import sizes_of_many
from footprint.predict.many.evaluation import Evaluations
from footprint.predict.many.profiles import profiles_of_many
from footprint.predict.phases import record, structure_of
from footprint.predict.profile import Bytes
from footprint.predict.program import Structure
from footprint.predict.stack import Phases, Stack, Stretch, stretches
from footprint.spec.block import CHOICES
from footprint.spec.run import RunSpec


def phases_of_many(specs: Sequence[RunSpec], kernels: Kernels) -> Phases:
    """Phase peaks of every run, in order; runs of equal structure are computed together."""
    groups = _by_structure(specs, kernels)
    recordings = {structure: record(structure, kernels) for structure in groups}
    evaluation = Evaluations(sizes_of_many(specs))
    users: dict[Formula, list[Bytes]] = defaultdict(list)
    for structure, indices in groups.items():
        for formula in recordings[structure].formulas:
            users[formula].append(indices)
    evaluation.prepare({formula: np.concatenate(runs) for formula, runs in users.items()})
    columns = np.empty((4, len(specs)), dtype=np.int64)
    for structure, indices in groups.items():
        profiles = profiles_of_many(recordings[structure], evaluation, indices)
        per_run = [stretches(specs[i].model.layers, specs[i].checkpointing) for i in indices.tolist()]
        lengths = [_columns(groups_) for groups_ in zip(*per_run, strict=True)]
        columns[:, indices] = astuple(Stack(profiles, per_run[0], lengths).phases())
    return Phases(*columns)


_DECIDES_STRUCTURE = (
    *(f"model.{name}" for name in (*CHOICES, "tied_head", "layers")),
    *("regime", "targets", "checkpointing", "precision", "quantization", "reordered_heads"),
)
_DECIDES_ATTENTION = (
    *(f"model.{name}" for name in ("heads", "kv_heads", "head_width")),
    *("many_tokens", "many_sequences"),
)


def _by_structure(specs: Sequence[RunSpec], kernels: Kernels) -> dict[Structure, np.ndarray]:
    """Indices of the runs of each structure."""
    cells: dict[tuple, list[int]] = defaultdict(list)
    decides = attrgetter(*_DECIDES_STRUCTURE, *(_DECIDES_ATTENTION if kernels.chooses_attention else ()))
    for index, spec in enumerate(specs):
        cells[decides(spec)].append(index)
    groups: dict[Structure, list[int]] = defaultdict(list)
    for indices in cells.values():
        groups[structure_of(specs[indices[0]], kernels)] += indices
    return {structure: np.array(indices) for structure, indices in groups.items()}


def _columns(groups: Sequence[tuple[Stretch, ...]]) -> list[tuple[Bytes, Bytes]]:
    """(length, repeats) of every stretch of a group, with one entry per run; a run may have fewer stretches."""
    most = max(map(len, groups))
    padded = [group + (Stretch(group[0].length, 0),) * (most - len(group)) for group in groups]
    return [
        (np.array([stretch.length for stretch in column]), np.array([stretch.repeats for stretch in column]))
        for column in zip(*padded, strict=True)
    ]
