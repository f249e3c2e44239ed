"""Runs without a corpus or a workflow, for tests, benchmarks and the third opinion: a fresh process for each."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.context import BaseContext

from footprint.jobs.entry import answer
from footprint.jobs.runtime import prepare_environment
from footprint.jobs.stacks import carry_out
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec

Row = dict[str, object]
Function = Callable[[RunSpec, TrainingSpec], Row]


def measure_each(specs: Iterable[RunSpec], training: TrainingSpec, *, workers: int = 1) -> Iterator[Row]:
    """The measured row of every spec on random tokens, in order."""
    return each_fresh(_measure, specs, training, workers=workers)


def _measure(spec: RunSpec, training: TrainingSpec) -> Row:
    return carry_out(spec, training).row


def each_fresh(
    function: Function, specs: Iterable[RunSpec], training: TrainingSpec, *, workers: int = 1
) -> Iterator[Row]:
    """`function(spec, training)` of every spec, in order, `workers` at a time; `function` is one of a module.

    Every call has a process of its own: forked from one that has imported everything, seen no GPU and made no tensor,
    or, since importing bitsandbytes starts CUDA and a process that has started it cannot fork, on CUDA a new one.
    """
    specs = list(specs)
    prepare_environment(None)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # runs side by side would starve each other spinning
    if any(spec.device == "cuda" for spec in specs):
        context = get_context("spawn")
    else:
        context = get_context("forkserver")
        context.set_forkserver_preload(["footprint.jobs.without_gpu", __name__])
    with ThreadPoolExecutor(workers) as waiting:
        yield from waiting.map(lambda spec: _fresh(context, function, spec, training), specs)


def _fresh(context: BaseContext, function: Function, spec: RunSpec, training: TrainingSpec) -> Row:
    ours, theirs = context.Pipe()
    process = context.Process(target=answer, args=(theirs, spec.device))
    process.start()
    theirs.close()  # the child's end is now the only one: its death ends the wait below
    try:
        # Not among the arguments: what the function needs is imported when it arrives, once the child is prepared.
        ours.send((function, spec, training))
        return ours.recv()
    except (EOFError, BrokenPipeError):
        process.join()  # only then is its status known
        raise RuntimeError(f"the process of {spec.axes()} ended with status {process.exitcode}") from None
    finally:
        process.join()
