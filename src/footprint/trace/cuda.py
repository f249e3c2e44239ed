"""CUDA recorder: the caching allocator's own history and statistics, read by the same `Trace` as the CPU's."""

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from footprint.trace.reader import Event, Peak, TraceError

_HISTORY = 1_000_000
"""Entries the allocator may keep; a longer run raises instead of losing its oldest events."""


class CudaRecorder:
    """Records from `start` to `stop`; sizes are requested bytes, as the allocator's history keeps them."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int, str]] = []
        self._statistics: dict[str, dict[str, int]] = {}
        self._failed: int | None = None

    def start(self) -> None:
        """Begin to record; every tensor must be created after this."""
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:2:16:8"  # the same workspace on every card; Hopper takes more
        torch.cuda.init()
        torch._C._cuda_attach_out_of_memory_observer(self._note_failure)
        torch.cuda.memory._record_memory_history(enabled="all", context=None, max_entries=_HISTORY)

    def _note_failure(self, device: int, requested: int, device_total: int, device_free: int) -> None:
        self._failed = requested

    def limit(self, size: int) -> None:
        """Let the allocator refuse to hold more than `size` bytes."""
        whole = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / whole))

    def allocated(self, peak: Peak) -> int:
        """`max_memory_allocated` of the peak's phase, which must agree with the trace on the bytes requested."""
        statistics = self._statistics[peak.phase]
        if statistics["num_alloc_retries"]:
            raise TraceError(f"{peak.phase}: the allocator had to retry, so its peak is not the run's own need")
        if statistics["requested_bytes.all.peak"] != peak.total:
            raise TraceError(
                f"{peak.phase}: the history peaks at {peak.total} bytes, "
                f"the allocator's statistics at {statistics['requested_bytes.all.peak']}"
            )
        return statistics["allocated_bytes.all.peak"]

    def reserved(self, phases: Iterable[str]) -> int | None:
        """`max_memory_reserved` over some phases: segments held, cached blocks included."""
        return max(self._statistics[phase]["reserved_bytes.all.peak"] for phase in phases)

    def requested_at_failure(self, error: Exception) -> int | None:
        """Bytes of the allocation that failed, as the allocator told its observer."""
        return self._failed

    def device(self) -> dict[str, str]:
        """Device columns of a row."""
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        return {"device_name": properties.name, "host_driver": f"NVIDIA {_driver_version()}"}

    def process_peak(self) -> int:
        """Bytes of the device that are in use now, context and other processes included."""
        free, total = torch.cuda.mem_get_info()
        return total - free

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Events inside the block belong to phase `name`."""
        torch.cuda.reset_peak_memory_stats()
        begin = time.time_ns() // 1000
        yield
        self._spans.append((begin, time.time_ns() // 1000 + 1, name))
        self._statistics[name] = dict(torch.cuda.memory_stats())

    def stop(self) -> list[Event]:
        """End the recording and return every allocation and free in order of time."""
        history = torch.cuda.memory._snapshot()["device_traces"][torch.cuda.current_device()]
        torch.cuda.memory._record_memory_history(enabled=None)
        if len(history) >= _HISTORY:
            raise TraceError(f"more than {_HISTORY} allocator events; measure fewer steps")
        return list(_events(history, self._spans))


def _driver_version() -> str:
    path = Path("/proc/driver/nvidia/version")
    match = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", path.read_text()) if path.exists() else None
    return match[1] if match else "unknown"


def _events(history: list[dict], spans: list[tuple[int, int, str]]) -> Iterator[Event]:
    upcoming = iter(spans)
    span = next(upcoming, None)
    for entry in history:
        if entry["action"] not in ("alloc", "free_requested") or entry["size"] == 0:
            continue
        while span is not None and entry["time_us"] > span[1]:
            span = next(upcoming, None)
        inside = span is not None and entry["time_us"] >= span[0]
        delta = entry["size"] if entry["action"] == "alloc" else -entry["size"]
        yield Event(span[2] if inside else "between", entry["addr"], delta)
