"""Runs under Transformers' Trainer: one in this process, or as many rehearsals as a search asks for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING

from footprint.errors import FootprintError, in_one_line
from footprint.jobs.rehearsals import Rehearsals, serve
from footprint.jobs.runtime import prepare_environment
from footprint.spec.cards import Card
from footprint.spec.handover import parse_run, run_json
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec

if TYPE_CHECKING:
    from footprint.measure.measurement import Batches, Measurement

TRAINING = TrainingSpec(measured_steps=1)
"""A warm-up step and a measured one: bytes have no noise."""

LARGEST_BATCH = 4096

Row = dict[str, object]


def carry_out(run: RunSpec, training: TrainingSpec, batches: Batches | None = None) -> Measurement:
    """Measure or rehearse a run in this process, on `batches` (`measurement.Batches`) or random tokens.

    Transformers decides by small integers, such as positions, whether it makes a mask: a rehearsal carries them out.
    Raises FootprintError for whatever a config or recipe makes a model stumble over.
    """
    from footprint.measure.recorded_trainer import measure_trainer
    from footprint.measure.trace.reader import TraceError
    from footprint.rehearsal.inside.real_values import RealValues

    warnings.simplefilter("ignore")  # what libraries remark on is not for whoever asked for bytes
    try:
        with nullcontext() if run.card is None else RealValues():
            return measure_trainer(run, training, batches)
    except (FootprintError, TraceError):
        raise
    except Exception as error:  # noqa: BLE001, for whatever a config makes a model stumble over is its writer's to mend
        raise FootprintError(f"{run.model.name}: Transformers does not train it ({in_one_line(error)})") from None


def rehearse_alone(run: RunSpec, card: Card) -> Row:
    """The row of a run from a process with the card; FootprintError where it cannot be rehearsed."""
    with Rehearsals(card, __name__) as server:
        return server.ask(run_json(run, TRAINING))


def largest_of_each(
    settings: Sequence[RunSpec], lengths: Sequence[int], card: Card, tell: Callable[[str], None]
) -> Iterator[tuple[RunSpec, Row]]:
    """Of each setting the longest of the `lengths` that fits, and as many sequences as do; else the smallest run.

    Every answer is a rehearsal; as many run side by side as there are cores. `tell` is told of each.
    """
    with ExitStack() as stack:
        servers: SimpleQueue[Rehearsals] = SimpleQueue()
        workers = min(len(settings), len(os.sched_getaffinity(0)))
        for _ in range(workers):
            servers.put(stack.enter_context(Rehearsals(card, __name__)))

        def rehearsed(run: RunSpec) -> Row:
            server = servers.get()
            try:
                row = server.ask(run_json(run, TRAINING))
            finally:
                servers.put(server)
            tell(f"{run.regime}, checkpointing {run.checkpointing}, {run.batch} x {run.seq}: {row['status']}")
            return row

        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(lambda run: _largest(run, lengths, rehearsed), settings)


def _largest(setting: RunSpec, lengths: Sequence[int], rehearsed: Callable[[RunSpec], Row]) -> tuple[RunSpec, Row]:
    first = replace(setting, batch=1, seq=lengths[0])
    found = first, rehearsed(first)
    if found[1]["status"] != "ok":
        return found
    fits, exceeds = 0, len(lengths)
    while exceeds - fits > 1:
        tried = (fits + exceeds) // 2
        run = replace(first, seq=lengths[tried])
        row = rehearsed(run)
        if row["status"] == "ok":
            fits, found = tried, (run, row)
        else:
            exceeds = tried
    return _fullest(found, rehearsed)


def _fullest(found: tuple[RunSpec, Row], rehearsed: Callable[[RunSpec], Row]) -> tuple[RunSpec, Row]:
    """More sequences of the same length: twice as many while they fit, then by halves."""
    fits, exceeds = 1, LARGEST_BATCH + 1
    while exceeds - fits > 1:
        tried = min(2 * fits, LARGEST_BATCH) if exceeds > LARGEST_BATCH else (fits + exceeds) // 2
        run = replace(found[0], batch=tried)
        row = rehearsed(run)
        if row["status"] == "ok":
            fits, found = tried, (run, row)
        else:
            exceeds = tried
    return found


def _served(line: str) -> Row:
    return carry_out(*parse_run(line)).row


if __name__ == "__main__":
    prepare_environment("cuda")
    import footprint.measure.recorded_trainer  # noqa: F401, once for every fork

    serve(_served)
