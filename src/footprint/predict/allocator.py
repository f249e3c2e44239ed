"""PyTorch's CUDA caching allocator, simulated: requests in order go in, allocated and reserved bytes come out.

The rules are those of c10/cuda/CUDACachingAllocator.cpp with its defaults. Sizes are bytes.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable

from footprint.errors import FootprintError

MiB = 2**20

GRANULARITY = 512
"""Every request is rounded up to a multiple of this (kMinBlockSize)."""

SMALL = MiB
"""Requests up to this are served from the pool of small blocks (kSmallSize)."""

SMALL_SEGMENT, LARGE_SEGMENT, FROM_ITS_OWN_SIZE = 2 * MiB, 20 * MiB, 10 * MiB
"""Segments of small blocks; of large ones; from which size on a request has a segment of its own size, in whole 2 MiB
(kSmallBuffer, kLargeBuffer, kMinLargeAlloc, kRoundLarge)."""

SEGMENT_SPAN = 2**44
"""Imitated address space of one segment: segments lie in the order of their age."""


class DoesNotFitError(FootprintError):
    """A request for which the card has no room, not even once the cache is emptied."""

    def __init__(self, requested: int, reserved: int) -> None:
        super().__init__(f"the card has no room for {requested} bytes beside the {reserved} that are reserved")


Free = list[tuple[int, int]]
"""Free blocks of a pool: size and address, in this order. Addresses rise with the age of a segment and the place in it:
of equally large blocks PyTorch 2.13 takes the first; older versions took the lowest address."""

Request = tuple[int, Free, int]
"""Bytes of the block that is asked for, 0 to give one back; the pool; how much larger a block has to be to be split."""


class Allocator:
    """The allocator of one device. `room` is what the card has for segments; None where it never ends."""

    def __init__(self, room: int | None = None) -> None:
        self._room = room
        self._pools: defaultdict[tuple[int, bool], Free] = defaultdict(list)
        """The pool of every stream and of small blocks or large ones; what one stream gives back no other takes."""
        self._other_end: dict[int, int] = {}
        """Where a free block ends, by where it begins, and the other way round."""
        self._live: dict[int, tuple[int, int]] = {}
        """Where the block of every tensor begins and ends."""
        self._segments: dict[int, int] = {}
        """Bytes of every segment, by its address."""
        self.made = 0
        """How many segments were made."""
        self._excess: dict[int, int] = {}
        """By how much the block that served a request since `watch` was larger, at most, by the size of the request."""
        self.alike = True
        """Whether the requests since `watch`, all given back, would be served by the same blocks once more."""
        self.allocated = self.reserved = 0
        self.peak_allocated = self.peak_reserved = 0
        self.retries = 0
        """How often the cache had to be emptied for a request."""

    def request(self, asked: int, stream: int = 0) -> Request:
        """For a tensor of so many bytes that is made in a stream."""
        size = -(-asked // GRANULARITY) * GRANULARITY
        small = size <= SMALL
        return size, self._pools[stream, small], GRANULARITY if small else SMALL + GRANULARITY

    def release(self, asked: int, stream: int = 0) -> Request:
        """To give a tensor of so many bytes back."""
        _, *pool = self.request(asked, stream)
        return (0, *pool)

    def carry_out(self, numbers: Iterable[int], requests: Iterable[Request]) -> None:
        """Requests in order, each with the number of its tensor. Raises DoesNotFitError.

        All of it is one loop, for speed: a large model makes a hundred thousand requests.
        """
        live, other_end, excess = self._live, self._other_end, self._excess
        allocated, highest = self.allocated, self.peak_allocated
        for number, (size, free, least_rest) in zip(numbers, requests, strict=True):
            if size:
                position = bisect_left(free, (size,))
                start = free.pop(position)[1] if position < len(free) else self._segment(size, free)
                end = other_end.pop(start)
                rest = end - start - size
                if rest and rest > excess.get(size, 0):
                    excess[size] = rest
                if rest >= least_rest:
                    cut = start + size
                    other_end[cut], other_end[end] = end, cut
                    insort(free, (rest, cut))
                    end = cut
                else:
                    del other_end[end]
                    size += rest
                live[number] = start, end
                allocated += size
                if allocated > highest:
                    highest = allocated
            else:
                start, end = live.pop(number)
                allocated -= end - start
                if end in other_end:  # blocks side by side are joined
                    beyond = other_end.pop(end)
                    del free[bisect_left(free, (beyond - end, end))]
                    end = beyond
                if start in other_end:
                    before = other_end.pop(start)
                    del free[bisect_left(free, (start - before, before))]
                    start = before
                other_end[start], other_end[end] = end, start
                insort(free, (end - start, start))
        self.allocated, self.peak_allocated = allocated, highest

    def reset_peaks(self) -> None:
        """As `torch.cuda.reset_peak_memory_stats`."""
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved

    def watch(self) -> None:
        """Find out from here on whether the requests would be served alike once more."""
        self._excess.clear()
        self.alike = True

    def _segment(self, size: int, free: Free) -> int:
        """The address of a new segment for a rounded request, once the cache is emptied if there is no other way.

        Once more, the segment is there from the start. It is taken when it was made, as nothing else is large enough
        then; and no sooner, unless it is a better fit for an earlier request than what served that.
        """
        if size <= SMALL:
            length = SMALL_SEGMENT
        elif size < FROM_ITS_OWN_SIZE:
            length = LARGE_SEGMENT
        else:
            length = -(-size // SMALL_SEGMENT) * SMALL_SEGMENT
        if self._room is not None and self.reserved + length > self._room:
            self.retries += 1
            self._empty_cache()
            if self.reserved + length > self._room:
                raise DoesNotFitError(size, self.reserved)
        if size > SMALL and any(asked <= length < asked + rest for asked, rest in self._excess.items()):
            self.alike = False
        self.reserved += length
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        self.made += 1
        start = self.made * SEGMENT_SPAN
        self._segments[start] = length
        self._other_end[start], self._other_end[start + length] = start + length, start
        return start

    def _empty_cache(self) -> None:
        """Give every segment back that is free as a whole."""
        self.alike = False
        for free in self._pools.values():
            whole = [(size, start) for size, start in free if self._segments.get(start) == size]
            free[:] = sorted(set(free).difference(whole))
            for size, start in whole:
                del self._segments[start], self._other_end[start], self._other_end[start + size]
                self.reserved -= size
