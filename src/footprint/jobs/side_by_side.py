"""A `map` that uses every core, for work that is pure Python."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from types import FrameType


@contextmanager
def side_by_side() -> Iterator[Callable[..., Iterable]]:
    """Gives a `map` whose calls have a process on each core this one may use; they see what it has imported.

    Ctrl-C ends this process and the others at once.
    """
    cores = len(os.sched_getaffinity(0))
    # It reaches every process of a terminal; the parent alone answers.
    ignoring = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    usual = signal.signal(signal.SIGINT, _end)
    try:
        with ProcessPoolExecutor(cores, get_context("fork"), **ignoring) as pool:
            yield pool.map
    finally:
        signal.signal(signal.SIGINT, usual)


def _end(number: int, frame: FrameType | None) -> None:
    """No exception: Python drops one that is raised while a tensor of a shadow gives itself back, which they do all the
    time; and a pool would wait for what its processes have begun.
    """
    for child in active_children():
        child.kill()
    os._exit(128 + number)
