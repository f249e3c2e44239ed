"""Random runs on a card: predicted and rehearsed, and what differs down to the tensor."""

from collections.abc import Iterator
from itertools import pairwise, zip_longest
from pathlib import Path

import pandas as pd
from random_runs.draws import SIZES

from footprint.jobs.rehearsals import rehearse_each, totals_of_each
from footprint.predict.capacity import of_card
from footprint.predict.kernels.choice import kernels_for
from footprint.predict.prediction import predict
from footprint.predict.simulation import watched
from footprint.spec.cards import find
from footprint.spec.columns import COMPARED
from footprint.spec.run import AXES, RunSpec
from footprint.spec.training import TrainingSpec
from footprint.tables.rows import write_table

EXACT = {"requested": 0.99, "allocated": 0.98, "reserved": 0.95}
"""Targets on a card: shares of runs that are exact to the byte."""
WORST_ALLOCATED, WORST_RESERVED = 0.001, 0.01
"""Targets on a card: relative errors."""

PEAKS = {"requested": "requested_peak_bytes", "allocated": "peak_bytes", "reserved": "reserved_peak_bytes"}


def try_on_card(specs: list[RunSpec], training: TrainingSpec, output: Path) -> bool:
    """Predict and rehearse, print what came of it, write every run to `output`; whether all targets are met."""
    frame = pd.DataFrame(list(rehearsed_and_predicted(specs, training)))
    write_table(output, frame)
    ran = frame[(frame["status_rehearsed"] == "ok") & (frame["status_predicted"] == "ok")]
    verdicts = (frame["status_rehearsed"] == frame["status_predicted"]).sum()
    print(f"{verdicts} of {len(frame)} verdicts agree")
    missed = len(frame) - verdicts
    for what, target in EXACT.items():
        error = ran[f"{what}_error"].dropna()  # nothing is reserved by the run alone where the cache was emptied
        exact = (error == 0).mean()
        print(f"  {what}: exact in {(error == 0).sum()} of {len(error)} (target {target:.0%}), worst {error.max():.4%}")
        missed += exact < target
    missed += ran["allocated_error"].max() >= WORST_ALLOCATED or ran["reserved_error"].max() >= WORST_RESERVED
    worst = ran[ran[[f"{what}_error" for what in EXACT]].max(axis=1) > 0]
    for index in worst["allocated_error"].nlargest(10).index:
        row = frame.loc[index]
        print(f"  {row['allocated_error']:.4%} in {row['differing']}; {first_difference(specs[index], training)}")
        print("    " + " ".join(f"{name}={row[name]}" for name in (*AXES, *SIZES)))
    print(f"-> {output}")
    return not missed


def rehearsed_and_predicted(specs: list[RunSpec], training: TrainingSpec) -> Iterator[dict]:
    """One row per spec, all on one card: axes and sizes, both verdicts, both opinions of each peak, what differs."""
    capacity = of_card(find(specs[0].card))
    for spec, rehearsed in zip(specs, rehearse_each(specs, training), strict=True):
        predicted = predict(spec, training)
        row = spec.axes() | {name: getattr(spec.model, name) for name in SIZES}
        row |= {
            "status_rehearsed": rehearsed["status"],
            "status_predicted": "ok" if capacity.holds(spec, training) else "oom",
        }
        for what, column in PEAKS.items():
            row |= {f"{what}_rehearsed": rehearsed[column], f"{what}_predicted": predicted[column]}
            row[f"{what}_error"] = abs(predicted[column] / rehearsed[column] - 1) if rehearsed[column] else None
        known = [name for name in COMPARED if rehearsed[name] is not None]
        row["differing"] = " ".join(name for name in known if rehearsed[name] != predicted[name])
        yield row


def first_difference(spec: RunSpec, training: TrainingSpec) -> str | None:
    """The tensor at which a prediction first takes another way than the rehearsal, in the first measured step.

    Allocations are compared, each with what is then live: in which order tensors are released between two of them is
    nobody's memory.
    """
    points = watched(spec, training, kernels_for("cuda", training, spec.card))
    predicted = _allocations([(f"{tensor} in {phase}", sum(kinds.values())) for phase, tensor, kinds in points])
    (totals,) = totals_of_each([spec], training)
    rehearsed = _allocations([tuple(point) for point in totals])
    for (tensor, ours), (_, theirs) in zip_longest(predicted, rehearsed, fillvalue=("nothing", (0, 0))):
        if ours != theirs:
            (size, live), (their_size, their_live) = ours, theirs
            return f"{tensor}: {size:,} bytes, then {live:,} live; rehearsed {their_size:,}, then {their_live:,}"
    return None


def _allocations(totals: list[tuple[str, int]]) -> list[tuple[str, tuple[int, int]]]:
    """(name, (bytes, bytes then live)) of every allocation, from (name, live bytes) after every event."""
    steps = pairwise([("", 0), *totals])
    return [(name, (total - before, total)) for (_, before), (name, total) in steps if total > before]
