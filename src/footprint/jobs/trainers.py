"""Runs under Transformers' Trainer, rehearsed: one, or as many as a search asks for."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from queue import SimpleQueue

from footprint.errors import FootprintError, in_one_line
from footprint.jobs.rehearsals import Rehearsals, serve
from footprint.jobs.runtime import prepare_environment
from footprint.spec.cards import Card
from footprint.spec.training import TrainingSpec
from footprint.spec.transformers_run import TransformersRun

TRAINING = TrainingSpec(measured_steps=1)
"""A warm-up step and a measured one: bytes have no noise."""

LARGEST_BATCH = 4096

Row = dict[str, object]


def rehearse_trainer(run: TransformersRun) -> Row:
    """The row of a run, rehearsed in this process.

    Transformers decides by small integers, such as positions, whether it makes a mask: they are carried out.
    """
    from footprint.measure.recorded_trainer import measure_trainer
    from footprint.measure.trace.reader import TraceError
    from footprint.rehearsal.inside.real_values import RealValues

    warnings.simplefilter("ignore")  # what libraries remark on is not for whoever asked for bytes
    try:
        with RealValues():
            return measure_trainer(run, TRAINING).row
    except (FootprintError, TraceError):
        raise
    except Exception as error:  # noqa: BLE001, for whatever a config makes a model stumble over is its writer's to mend
        raise FootprintError(f"{run.model}: Transformers does not train it ({in_one_line(error)})") from None


def rehearse_alone(run: TransformersRun, card: Card) -> Row:
    """The row of a run from a process with the card; FootprintError where it cannot be rehearsed."""
    with Rehearsals(card, __name__) as server:
        return server.ask(run.as_json())


def largest_of_each(
    settings: Sequence[TransformersRun], lengths: Sequence[int], card: Card, tell: Callable[[str], None]
) -> Iterator[tuple[TransformersRun, Row]]:
    """Of each setting the longest of the `lengths` that fits, and as many sequences as do; else the smallest run.

    Every answer is a rehearsal; as many run side by side as there are cores. `tell` is told of each.
    """
    with ExitStack() as stack:
        servers: SimpleQueue[Rehearsals] = SimpleQueue()
        workers = min(len(settings), len(os.sched_getaffinity(0)))
        for _ in range(workers):
            servers.put(stack.enter_context(Rehearsals(card, __name__)))

        def rehearsed(run: TransformersRun) -> Row:
            server = servers.get()
            try:
                row = server.ask(run.as_json())
            finally:
                servers.put(server)
            tell(f"{run.regime}, checkpointing {run.checkpointing}, {run.batch} x {run.seq}: {row['status']}")
            return row

        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(lambda run: _largest(run, lengths, rehearsed), settings)


def _largest(
    setting: TransformersRun, lengths: Sequence[int], rehearsed: Callable[[TransformersRun], Row]
) -> tuple[TransformersRun, Row]:
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


def _fullest(
    found: tuple[TransformersRun, Row], rehearsed: Callable[[TransformersRun], Row]
) -> tuple[TransformersRun, Row]:
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
    return rehearse_trainer(TransformersRun.from_json(line))


if __name__ == "__main__":
    prepare_environment("cuda")
    import footprint.measure.recorded_trainer  # noqa: F401, once for every fork

    serve(_served)
