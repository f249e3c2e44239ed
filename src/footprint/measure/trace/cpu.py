"""CPU recorder: the events of PyTorch's own CPU allocator, as its profiler reports them."""

import platform
import re
import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch._C._autograd import _disable_profiler, _enable_profiler, _prepare_profiler
from torch._C._profiler import (
    ProfilerActivity,
    ProfilerConfig,
    ProfilerState,
    RecordScope,
    _EventType,
    _ExperimentalConfig,
)
from torch.profiler import record_function

from footprint.measure.provenance import cpu_name
from footprint.measure.trace.reader import Event, Peak

_PREFIX = "footprint phase "


class CpuRecorder:
    """Records from `start` to `stop`. Start before the first tensor: a free of an unknown block is not reported."""

    def __init__(self) -> None:
        # torch.profiler.profile would also record every operator and build Python objects from it, which takes
        # longer than the training; these are the calls it makes, asked for allocations and named scopes only.
        self._config = ProfilerConfig(
            ProfilerState.KINETO,
            False,  # report_input_shapes
            True,  # profile_memory
            False,  # with_stack
            False,  # with_flops
            False,  # with_modules
            _ExperimentalConfig(),
        )
        self._recording = False

    def start(self) -> None:
        """Begin to record; every tensor must be created after this."""
        activities = {ProfilerActivity.CPU}
        _prepare_profiler(self._config, activities)
        _enable_profiler(self._config, activities, {RecordScope.USER_SCOPE})
        self._recording = True

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Events inside the block belong to phase `name`."""
        with record_function(_PREFIX + name):
            yield

    def limit(self, size: int) -> None:
        """The CPU allocator has no limit to set: a smaller card is imitated afterwards, from the trace."""

    def allocated(self, peak: Peak) -> int:
        """Bytes the allocator counts where the trace counts requests: the same, the CPU allocator rounds nothing."""
        return peak.total

    def reserved(self, phases: Iterable[str], live: Iterable[int]) -> int | None:
        """The CPU allocator keeps no cache, so nothing is reserved beyond what is live."""
        return max(live)

    def requested_at_failure(self, error: Exception) -> int | None:
        """Bytes of the allocation that failed, from the allocator's message."""
        match = re.search(r"tried to allocate (\d+) bytes", str(error))
        return int(match[1]) if match else None

    def device(self) -> dict[str, str]:
        """Device columns of a row."""
        return {"device_name": cpu_name(), "host_driver": f"{platform.system()} {platform.release()}"}

    def process_peak(self) -> int:
        """Largest resident set of this process so far, in bytes."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def stop(self) -> list[Event]:
        """End the recording and return every allocator event in order of time."""
        self._recording = False
        return _events(_disable_profiler().experimental_event_tree())

    def close(self) -> None:
        """Give up a recording that was not stopped: at its end a process crashes while the profiler is on."""
        if self._recording:
            self._recording = False
            _disable_profiler()


def _events(roots: list) -> list[Event]:
    timed: list[tuple[int, int, int]] = []
    spans: list[tuple[int, int, str]] = []
    stack = roots[::-1]
    while stack:
        node = stack.pop()
        stack.extend(node.children[::-1])  # in order, since the sort below must not reorder events of one nanosecond
        kind, fields = node.typed
        if kind == _EventType.Allocation:
            if fields.device.type == "cpu" and fields.ptr is not None:
                timed.append((node.start_time_ns, fields.ptr, fields.alloc_size))
        elif kind == _EventType.TorchOp and node.name.startswith(_PREFIX):
            spans.append((node.start_time_ns, node.end_time_ns, node.name.removeprefix(_PREFIX)))
    timed.sort(key=lambda event: event[0])
    spans.sort()
    return list(_in_phases(timed, spans))


def _in_phases(timed: list[tuple[int, int, int]], spans: list[tuple[int, int, str]]) -> Iterator[Event]:
    upcoming = iter(spans)
    span = next(upcoming, None)
    for time, address, delta in timed:
        while span is not None and time > span[1]:
            span = next(upcoming, None)
        inside = span is not None and time >= span[0]
        yield Event(span[2] if inside else "between", address, delta)
