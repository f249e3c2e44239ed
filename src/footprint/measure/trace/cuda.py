"""CUDA recorder: the caching allocator's own history and statistics, read by the same `Trace` as the CPU's."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch

from footprint.measure.provenance import rehearsed
from footprint.measure.trace.reader import Event, Peak, TraceError

_HISTORY = 1_000_000
"""Entries the allocator may keep; a longer run raises instead of losing its oldest events."""

MARK = (7, 11, 13)
"""Bytes of tensors, each made and dropped at once, that stand in the history where a phase begins and where it ends.
One of so odd a size may be a run's own; three in this order are not. Clocks would not do, the history's drifts against
the system's."""

_MARKED = [(action, size) for size in MARK for action in ("alloc", "free_requested")]

ENVIRONMENT = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:2:16:8",  # the same workspace on every card; Hopper takes more
    "TORCH_CUBLASLT_UNIFIED_WORKSPACE": "1",  # and cublasLt the same one instead of one of its own
}


class CudaRecorder:
    """Records from `start` to `stop`; sizes are requested bytes, as the allocator's history keeps them."""

    def __init__(self, environment: Mapping[str, str] = ENVIRONMENT) -> None:
        """`environment` is set when recording starts, before CUDA does."""
        self._environment = environment
        self._phases: list[str] = []
        self._statistics: dict[str, dict[str, int]] = {}
        self._held = 0
        """Most bytes the allocator held so far, by what was noted before its peaks were reset."""

    def start(self) -> None:
        """Begin to record; every tensor must be created after this."""
        os.environ |= self._environment
        torch.cuda.init()
        torch.cuda.memory._record_memory_history(enabled="all", context=None, max_entries=_HISTORY)

    def limit(self, size: int) -> None:
        """Let the allocator refuse to hold more than `size` bytes, in segments of 2 MiB and more."""
        whole = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / whole))

    def allocated(self, peak: Peak) -> int:
        """`max_memory_allocated` of the peak's phase, which must agree with the trace on the bytes requested."""
        statistics = self._statistics[peak.phase]
        if statistics["requested_bytes.all.peak"] != peak.total:
            raise TraceError(
                f"{peak.phase}: the history peaks at {peak.total} bytes, "
                f"the allocator's statistics at {statistics['requested_bytes.all.peak']}"
            )
        return statistics["allocated_bytes.all.peak"]

    def reserved(self, phases: Iterable[str], live: Iterable[int]) -> int | None:
        """`max_memory_reserved` over some phases: segments held, cached blocks included.

        None where the allocator had to empty its cache for an allocation: then the card set it, not the run.
        """
        statistics = [self._statistics[phase] for phase in phases]
        if any(each["num_alloc_retries"] for each in statistics):
            return None
        return max(each["reserved_bytes.all.peak"] for each in statistics)

    def requested_at_failure(self, error: Exception) -> int | None:
        """Bytes of the allocation that failed, rounded up to 512; None when it was not the allocator that failed."""
        return next((entry["size"] for entry in reversed(_history()) if entry["action"] == "oom"), None)

    def device(self) -> dict[str, str]:
        """Device columns of a row."""
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        return {"device_name": properties.name, "host_driver": _driver()}

    def process_peak(self) -> int:
        """Most bytes of the device that were in use: what the allocator held at most, beside what is used apart from it
        now, context and other processes included. Where it emptied its cache, it holds less at the end.
        """
        free, total = torch.cuda.mem_get_info()
        self._note_held()
        return total - free - torch.cuda.memory_reserved() + self._held

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Events inside the block belong to phase `name`."""
        self._phases.append(name)
        _mark()
        self._note_held()
        torch.cuda.reset_peak_memory_stats()
        yield
        before, now = self._statistics.get(name, {}), dict(torch.cuda.memory_stats())
        # A phase may come again in its step, for a further batch.
        self._statistics[name] = {key: max(value, before.get(key, value)) for key, value in now.items()}
        _mark()

    def _note_held(self) -> None:
        self._held = max(self._held, torch.cuda.max_memory_reserved())

    def stop(self) -> list[Event]:
        """End the recording and return every allocation and free in order of time."""
        history = _history()
        torch.cuda.memory._record_memory_history(enabled=None)
        if len(history) >= _HISTORY:
            raise TraceError(f"more than {_HISTORY} allocator events; measure fewer steps")
        return list(events(history, self._phases))

    def close(self) -> None:
        """Give up a recording that was not stopped."""
        torch.cuda.memory._record_memory_history(enabled=None)


def _mark() -> None:
    for size in MARK:
        torch.empty(size, dtype=torch.uint8, device="cuda")


def _history() -> list[dict]:
    return torch.cuda.memory._snapshot()["device_traces"][torch.cuda.current_device()]


def _driver() -> str:
    if rehearsed():
        return "stand-in"
    path = Path("/proc/driver/nvidia/version")
    match = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", path.read_text()) if path.exists() else None
    return f"NVIDIA {match[1] if match else 'unknown'}"


def events(history: Iterable[dict], phases: Sequence[str]) -> Iterator[Event]:
    """The events of an allocator's history; two marks enclose each of the `phases`, which begins with an event of 0.

    Raises TraceError when there are not two marks for each phase.
    """
    upcoming, phase = iter(phases), "between"
    entries = [entry for entry in history if entry["action"] in ("alloc", "free_requested") and entry["size"]]
    happened = [(entry["action"], entry["size"]) for entry in entries]
    numbers = iter(range(len(entries)))
    for number in numbers:
        action, size = happened[number]
        if size == MARK[0] and happened[number : number + len(_MARKED)] == _MARKED:
            next(islice(numbers, len(_MARKED) - 2, None))  # the rest of the mark
            phase = _next(upcoming) if phase == "between" else "between"
            if phase != "between":
                yield Event(phase, 0, 0)
            continue
        yield Event(phase, entries[number]["addr"], size if action == "alloc" else -size)
    if phase != "between" or next(upcoming, None) is not None:
        raise TraceError("the history has fewer marks than phases have ends")


def _next(upcoming: Iterator[str]) -> str:
    try:
        return next(upcoming)
    except StopIteration:
        raise TraceError("the history has more marks than phases have ends") from None
