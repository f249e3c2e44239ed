"""What a person sees while an experiment runs: how far it is whenever a run has finished, the findings at the end."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from threading import Thread
from typing import ClassVar

from footprint.spec.columns import MEASUREMENTS, TUNED
from footprint.spec.units import format_bytes
from footprint.tables.rows import read_row

_SECONDS_BETWEEN_LOOKS = 1.0

COLUMNS = {"measure": MEASUREMENTS, "finetune": TUNED}
"""What the row of a run holds, by the rule that writes it."""


class Progress:
    """Watches for the rows of runs, wherever they are measured, and says on stderr how many there are.

    It looks at files rather than at jobs: a row is written whole or not at all, also by a job of a cluster.
    """

    report: ClassVar[Path | None] = None
    """The page of the experiment that this process is about. Where nothing is to be done no hook of the workflow runs,
    and Snakemake's handler of messages, which then has the word, is handed nothing of the workflow."""

    def __init__(self, headline: Path, report: Path) -> None:
        Progress.report = report
        self._headline = headline
        self._started = time.time()
        self._pending: dict[Path, tuple[str, ...]] = {}
        self._total = 0

    def start(self, rows: Iterable[tuple[str, str]]) -> None:
        """Begin to watch for the files of the runs that are to be measured now: (rule, file)."""
        self._started = time.time()
        self._pending = {Path(row): COLUMNS[rule] for rule, row in rows}
        self._total = len(self._pending)
        if self._total:
            _say(f"0 of {self._total} runs done")
        # A daemon: it must not keep Snakemake from ending when a run has failed and its row never comes.
        Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self._pending:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            self.look()

    def look(self) -> None:
        """Say how far it is if a run has finished since the last look."""
        written = {path: _modified(path) for path in self._pending}
        finished = [path for path in self._pending if written[path] > self._started]
        columns = {path: self._pending.pop(path) for path in finished}
        if finished:
            last = max(finished, key=written.get)
            _say(self._line(read_row(last, columns[last])))

    def _line(self, row: dict) -> str:
        done = self._total - len(self._pending)
        peak = f"peaked at {format_bytes(row['peak_bytes'])}" if row["status"] == "ok" else f"ended: {row['status']}"
        which = row["regime"] + (f", rank {row['rank']}" if row["rank"] else "")
        seconds = (time.time() - self._started) / done * len(self._pending)
        left = f"; about {_duration(seconds)} left" if self._pending else ""
        return f"{done} of {self._total} runs done, the last ({which}) {peak}{left}"

    def finish(self) -> None:
        """Say what the report found and where it is, if it was made since `start`."""
        if _modified(self._headline) > self._started:
            _say(f"{self._headline.read_text(encoding='utf-8')}Report: {self.report}")


def _modified(path: Path) -> float:
    """Seconds since the epoch of the last change, 0 while there is no such file."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
