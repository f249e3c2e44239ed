"""One run over several GPUs: a process for each rank, every one under a recorder of its own.

On the CPU the processes train side by side over Gloo, on GPUs over NCCL. A rehearsal needs no more than two of them:
all ranks do the same on tensors of which the first has the largest shares and the last the smallest.
"""

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist

from footprint.errors import FootprintError
from footprint.jobs.lease import require_devices
from footprint.jobs.runtime import VISIBLE, die_with, prepare_environment
from footprint.measure.measurement import Measurement
from footprint.measure.process_groups import Gloo, OneOfMany
from footprint.spec.run import RunSpec

Work = Callable[[int], Measurement]
"""What the process of a rank does once it has joined the others; of a module, for it may have to travel there."""

LOSSES = ("loss_first", "loss_last")


def together(work: Work, spec: RunSpec) -> Measurement:
    """Let every rank of a run do its `work`, each in a process of its own.

    The measurement is that of the rank whose peak is highest, the first of several, with how far below it the lowest
    stays, and the losses of all. Memory that runs out on one rank ends the others.
    """
    with TemporaryDirectory(prefix="footprint-ranks-") as folder, _processes(work, spec, Path(folder)) as waiting:
        found: dict[Connection, Measurement | None] = dict.fromkeys(waiting)  # in the order of the ranks
        while waiting:
            for connection in wait(list(waiting)):
                found[connection] = _received(connection, waiting.pop(connection))
                if found[connection].row["status"] == "oom":
                    return found[connection]
    return of_all(list(found.values()))


def of_all(found: Sequence[Measurement]) -> Measurement:
    """One measurement for all ranks."""
    failed = next((each for each in found if each.row["status"] != "ok"), None)
    if failed is not None:
        return failed
    peaks = [each.row["peak_bytes"] for each in found]
    highest = found[peaks.index(max(peaks))]
    row = highest.row | {"peak_spread_bytes": max(peaks) - min(peaks)}
    for name in LOSSES:
        if row[name] is not None:
            row[name] = statistics.fmean(each.row[name] for each in found)
    return replace(highest, row=row)


@contextmanager
def _processes(work: Work, spec: RunSpec, folder: Path) -> Iterator[dict[Connection, BaseProcess]]:
    """The process of each rank by what it answers on; none outlives the block."""
    on_gpus = spec.device == "cuda" and spec.card is None
    # A process that has started CUDA cannot fork, but the stand-in survives it.
    context = get_context("spawn" if on_gpus else "fork")
    usual = {name: os.environ[name] for name in (VISIBLE,) if name in os.environ}
    devices = require_devices(spec.gpus) if on_gpus else ()
    started = {}
    try:
        for rank in range(spec.gpus) if spec.card is None else (0, spec.gpus - 1):
            if on_gpus:
                os.environ[VISIBLE] = devices[rank]  # before anything there is imported that starts CUDA
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_rank, args=(theirs, work, spec, rank, folder, os.getpid()))
            process.start()
            theirs.close()  # the child's end is now the only one: its death ends the wait for it
            started[ours] = process
        yield dict(started)
    finally:
        os.environ.pop(VISIBLE, None)
        os.environ.update(usual)
        for process in started.values():
            process.kill()
        for process in started.values():
            process.join()


def _received(connection: Connection, process: BaseProcess) -> Measurement:
    try:
        answer = connection.recv()
    except EOFError:
        process.join()  # only then is its status known
        raise RuntimeError(f"the process of a rank ended with status {process.exitcode}") from None
    if isinstance(answer, FootprintError):
        raise answer
    return answer


def _rank(connection: Connection, work: Work, spec: RunSpec, rank: int, folder: Path, parent: int) -> None:
    """The process of a rank: join the others, work, send the measurement or what a user can mend."""
    die_with(parent)
    prepare_environment(spec.device)
    try:
        join(spec, rank, folder)
        connection.send(work(rank))
    except FootprintError as error:
        connection.send(error)


def join(spec: RunSpec, rank: int, folder: Path) -> None:
    """Let this process be a rank of a run; those that are there meet in `folder`."""
    here = {"rank": rank, "world_size": spec.gpus}
    # As torchrun would tell them: on a GPU each process sees one, its own.
    local = rank if spec.device == "cpu" else 0
    told = {"RANK": rank, "WORLD_SIZE": spec.gpus, "LOCAL_RANK": local, "LOCAL_WORLD_SIZE": spec.gpus}
    os.environ |= {name: str(number) for name, number in told.items()}
    if spec.card is not None:
        torch.cuda._is_in_bad_fork = lambda: False
        dist.init_process_group(OneOfMany.register(), store=dist.HashStore(), **here)
        return
    backend = "nccl" if spec.device == "cuda" else Gloo.register()
    dist.init_process_group(backend, init_method=(folder / "ranks").as_uri(), **here)
