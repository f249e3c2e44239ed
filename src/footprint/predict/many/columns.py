"""The columns of requested bytes of many runs."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from footprint.predict.kernels.device import Kernels
from footprint.predict.many.alike import alike
from footprint.predict.many.peaks import phases_of_many
from footprint.predict.requested import requested
from footprint.predict.stack import Phases
from footprint.spec.run import RunSpec


def requested_by_many(specs: Sequence[RunSpec], kernels: Kernels) -> dict[str, list]:
    """What `requested` says of each run; every column has one entry per run."""
    found, columns = phases_of_many(specs, kernels), {}
    for indices, runs in alike(specs):
        own = Phases(*(getattr(found, field.name)[indices] for field in fields(Phases)))
        for name, values in requested(runs, own, kernels).items():
            columns.setdefault(name, np.empty(len(specs), dtype=np.int64))[indices] = values
    return {name: column.tolist() for name, column in columns.items()}
