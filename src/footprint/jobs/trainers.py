"""Rehearsals of runs under Transformers' Trainer: one, or as many as a search asks for."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from queue import SimpleQueue

from footprint.jobs.rehearsals import Rehearsals
from footprint.spec.cards import Card
from footprint.spec.handover import run_json
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec

TRAINING = TrainingSpec(measured_steps=1)
"""A warm-up step and a measured one: bytes have no noise."""

LARGEST_BATCH = 4096
"""Sequences on each GPU."""

BOUNDLESS = 2**42
"""Bytes of a card that holds whatever a run needs."""

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a rehearsal tells."""

    row: Row
    """The row of `measurements.csv`."""
    live: list[tuple[str, str, int]]
    """(kind, name, bytes) of what was live at the peak, the largest first; empty unless it fits."""

    @property
    def fits(self) -> bool:
        """Whether the card holds it."""
        return self.row["status"] == "ok"


def rehearse_alone(run: RunSpec, card: Card) -> Rehearsed:
    """A run in a process with the card; FootprintError where it cannot be rehearsed."""
    with Rehearsals(card, "_run", "transformers") as server:
        return Rehearsed(**server.ask(run_json(run, TRAINING)))


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
            servers.put(stack.enter_context(Rehearsals(card, "_run", "transformers")))

        def rehearsed(run: RunSpec) -> Row:
            server = servers.get()
            try:
                row = server.ask(run_json(run, TRAINING))["row"]
            finally:
                servers.put(server)
            shared = "" if run.gpus == 1 else f" on {run.gpus} GPUs"
            tell(f"{run.regime}, checkpointing {run.checkpointing}, {run.batch} x {run.seq}{shared}: {row['status']}")
            return row

        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(lambda run: _largest(run, lengths, rehearsed), settings)


def _largest(setting: RunSpec, lengths: Sequence[int], rehearsed: Callable[[RunSpec], Row]) -> tuple[RunSpec, Row]:
    first = replace(setting, batch=setting.gpus, seq=lengths[0])
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
    """More sequences of the same length on each GPU: twice as many while they fit, then by halves."""
    fits, exceeds = 1, LARGEST_BATCH + 1
    while exceeds - fits > 1:
        tried = min(2 * fits, LARGEST_BATCH) if exceeds > LARGEST_BATCH else (fits + exceeds) // 2
        run = replace(found[0], batch=tried * found[0].gpus)
        row = rehearsed(run)
        if row["status"] == "ok":
            fits, found = tried, (run, row)
        else:
            exceeds = tried
    return found
