"""A `map` that uses every core, for work that is pure Python."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context


@contextmanager
def side_by_side() -> Iterator[Callable[..., Iterable]]:
    """Gives a `map` whose calls have a process on each core this one may use; they see what it has imported."""
    cores = len(os.sched_getaffinity(0))
    # Ctrl-C reaches every process of a terminal; the parent alone answers it, and then ends the others.
    ignoring = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    with ProcessPoolExecutor(cores, get_context("fork"), **ignoring) as pool:
        yield pool.map
