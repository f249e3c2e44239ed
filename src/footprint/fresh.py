"""Runs without a corpus or a workflow, for tests, benchmarks and the third opinion: a fresh process for each."""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing import get_context

import torch

from footprint.measure import Batches, batches_needed, measure
from footprint.spec import RunSpec, TrainingSpec

Row = dict[str, object]


def random_batches(spec: RunSpec, steps: int, seed: int = 0) -> Batches:
    """`steps` pairs of random tokens and targets, each int64 (B, S); allocation does not depend on what they say."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, spec.batch, spec.seq)
    return [tuple(torch.randint(0, spec.model.vocab, shape, generator=generator)) for _ in range(steps)]


def measure_each(specs: Iterable[RunSpec], training: TrainingSpec, *, workers: int = 1) -> Iterator[Row]:
    """The measured row of every spec on random tokens, in order."""
    return each_fresh(_measure, specs, training, workers=workers)


def _measure(spec: RunSpec, training: TrainingSpec) -> Row:
    return measure(spec, training, random_batches(spec, batches_needed(training))).row


def each_fresh(
    function: Callable[[RunSpec, TrainingSpec], Row],
    specs: Iterable[RunSpec],
    training: TrainingSpec,
    *,
    workers: int = 1,
) -> Iterator[Row]:
    """`function(spec, training)` of every spec, in order, `workers` at a time; `function` is one of a module.

    Every call has a process of its own, forked from one that has imported everything and made no tensor.
    """
    # Read when PyTorch is imported, which the server of the forks does for itself.
    os.environ["KINETO_LOG_LEVEL"] = "6"  # above every level its profiler writes at
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # runs side by side would starve each other spinning
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with context.Pool(workers, maxtasksperchild=1) as pool:
        yield from pool.imap(partial(function, training=training), specs, chunksize=1)
