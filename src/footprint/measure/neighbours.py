"""Who else used the processors while steps were timed: what the kernel counted, less what this process took."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STAT = Path("/proc/stat")

FEWEST_TICKS = 20
"""The kernel counts in hundredths of a second: below so many a share says nothing."""


class Neighbours:
    """The processors' time over every stretch that was `watched`, and how much of it others had."""

    def __init__(self, *, ranks: bool = False) -> None:
        """`ranks`: whatever this process's parent started trains with it, and is no neighbour."""
        self._taken = _of_siblings if ranks else time.process_time
        self._ticks = self._busy = self._own = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count what happens inside."""
        before, own = _processors(), self._taken()
        yield
        after = _processors()
        if before and after:
            self._ticks += after[0] - before[0]
            self._busy += after[1] - before[1]
            self._own += self._taken() - own

    @property
    def load(self) -> float | None:
        """The share of the time of the processors this process may use that others had: 0.0 to 1.0.

        None where the kernel does not tell or too little was watched. What a hypervisor took away counts as theirs.
        """
        if self._ticks < FEWEST_TICKS:
            return None
        others = self._busy - self._own * os.sysconf("SC_CLK_TCK")
        return min(1.0, max(0.0, others / self._ticks))


def _of_siblings() -> float:
    """Seconds of processor time of every process that has this one's parent, this one included."""
    parent, ticks = str(os.getppid()), 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if fields[1] == parent:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _processors() -> tuple[float, float] | None:
    """(all ticks, busy ticks) of the processors this process may use; None without Linux's /proc/stat."""
    if not STAT.exists():
        return None
    mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = (line.split() for line in STAT.read_text(encoding="ascii").splitlines())
    counts = [[int(ticks) for ticks in fields[1:9]] for fields in lines if fields and fields[0] in mine]
    idle = sum(ticks[3] + ticks[4] for ticks in counts)
    every = sum(map(sum, counts))
    return every, every - idle
