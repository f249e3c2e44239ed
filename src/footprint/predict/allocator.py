"""PyTorch's CUDA caching allocator, simulated: requests in order go in, allocated and reserved bytes come out.

The rules are those of c10/cuda/CUDACachingAllocator.cpp with its defaults. Sizes are bytes where they go in and come
out; between, blocks and addresses are counted in granules, which are small numbers and so sooner added and compared.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable

from footprint.errors import FootprintError

MiB = 2**20

GRANULE = 512
"""Every request is rounded up to a multiple of this (kMinBlockSize)."""

SMALL = MiB // GRANULE
"""Requests up to this are served from the pool of small blocks (kSmallSize)."""

SMALL_SEGMENT, LARGE_SEGMENT, FROM_ITS_OWN_SIZE = (size * MiB // GRANULE for size in (2, 20, 10))
"""Segments of small blocks; of large ones; from which size on a request has a segment of its own size, in whole 2 MiB
(kSmallBuffer, kLargeBuffer, kMinLargeAlloc, kRoundLarge)."""


class DoesNotFitError(FootprintError):
    """A request for which the card has no room, not even once the cache is emptied."""

    def __init__(self, requested: int, reserved: int) -> None:
        super().__init__(f"the card has no room for {requested} bytes beside the {reserved} that are reserved")


Places = defaultdict[int, list[int]]
"""Where the free blocks of each size begin, in order. Addresses rise with the age of a segment and the place in it: of
equally large blocks PyTorch 2.13 takes the first; older versions took the lowest address."""

Pool = tuple[list[int], Places]
"""The sizes of which there are free blocks, in order, and where these are."""

Request = tuple[int, list[int], list[int], Places, int]
"""The size of the block that is asked for, 0 to give one back; where free blocks of just this size begin; the pool; how
much larger a block has to be to be split."""


class Allocator:
    """The allocator of one device. `room` is what the card has for segments; None where it never ends."""

    def __init__(self, room: int | None = None) -> None:
        self._room = None if room is None else room // GRANULE
        self._pools: defaultdict[tuple[int, bool], Pool] = defaultdict(lambda: ([], defaultdict(list)))
        """The pool of every stream and of small blocks or large ones; what one stream gives back no other takes."""
        self._other_end: dict[int, int] = {}
        """Where a free block ends, by where it begins, and the other way round."""
        self._live: dict[int, tuple[int, int]] = {}
        """Where the block of every tensor begins and ends."""
        self._segments: dict[int, int] = {}
        """The length of every segment, by its address."""
        self._next_address = 0
        self.made = 0
        """How many segments were made."""
        self._excess: dict[int, int] = {}
        """By how much the block that served a request since `watch` was larger, at most, by the size of the request."""
        self.alike = True
        """Whether the requests since `watch`, all given back, would be served by the same blocks once more."""
        self._allocated = self._reserved = 0
        self._peak_allocated = self._peak_reserved = 0
        self.retries = 0
        """How often the cache had to be emptied for a request."""

    @property
    def allocated(self) -> int:
        """Bytes of all live blocks."""
        return self._allocated * GRANULE

    @property
    def reserved(self) -> int:
        """Bytes of all segments."""
        return self._reserved * GRANULE

    @property
    def peak_allocated(self) -> int:
        """The most bytes that were allocated since `reset_peaks`."""
        return self._peak_allocated * GRANULE

    @property
    def peak_reserved(self) -> int:
        """The most bytes that were reserved since `reset_peaks`."""
        return self._peak_reserved * GRANULE

    def request(self, asked: int, stream: int = 0) -> Request:
        """For a tensor of so many bytes that is made in a stream."""
        size = -(-asked // GRANULE)
        small = size <= SMALL
        sizes, places = self._pools[stream, small]
        return size, places[size], sizes, places, 1 if small else SMALL + 1

    def release(self, asked: int, stream: int = 0) -> Request:
        """To give a tensor of so many bytes back."""
        _, *pool = self.request(asked, stream)
        return (0, *pool)

    def carry_out(self, numbers: Iterable[int], requests: Iterable[Request]) -> None:
        """Requests in order, each with the number of its tensor. Raises DoesNotFitError.

        All of it is one loop, for speed: a large model makes a hundred thousand requests.
        """
        live, other_end, excess = self._live, self._other_end, self._excess
        allocated, highest = self._allocated, self._peak_allocated
        for number, (size, exact, sizes, places, least_rest) in zip(numbers, requests, strict=True):
            if size:
                if exact:
                    start = exact.pop(0)
                    if not exact:
                        del sizes[bisect_left(sizes, size)]
                    end = start + size
                    del other_end[start], other_end[end]
                else:
                    position = bisect_left(sizes, size)
                    if position < len(sizes):
                        starts = places[sizes[position]]
                        start = starts.pop(0)
                        if not starts:
                            del sizes[position]
                    else:
                        start = self._segment(size)
                    end = other_end.pop(start)
                    rest = end - start - size
                    if rest > excess.get(size, 0):
                        excess[size] = rest
                    if rest >= least_rest:
                        cut = start + size
                        other_end[cut], other_end[end] = end, cut
                        starts = places[rest]
                        if starts:
                            insort(starts, cut)
                        else:
                            starts.append(cut)
                            insort(sizes, rest)
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
                    starts = places[beyond - end]
                    del starts[bisect_left(starts, end)]
                    if not starts:
                        del sizes[bisect_left(sizes, beyond - end)]
                    end = beyond
                if start in other_end:
                    before = other_end.pop(start)
                    starts = places[start - before]
                    del starts[bisect_left(starts, before)]
                    if not starts:
                        del sizes[bisect_left(sizes, start - before)]
                    start = before
                other_end[start], other_end[end] = end, start
                starts = places[end - start]
                if starts:
                    insort(starts, start)
                else:
                    starts.append(start)
                    insort(sizes, end - start)
        self._allocated, self._peak_allocated = allocated, highest

    def reset_peaks(self) -> None:
        """As `torch.cuda.reset_peak_memory_stats`."""
        self._peak_allocated, self._peak_reserved = self._allocated, self._reserved

    def watch(self) -> None:
        """Find out from here on whether the requests would be served alike once more."""
        self._excess.clear()
        self.alike = True

    def _segment(self, size: int) -> int:
        """The address of a new segment for a request, once the cache is emptied if there is no other way.

        Once more, the segment is there from the start. It is taken when it was made, as nothing else is large enough
        then; and no sooner, unless it is a better fit for an earlier request than what served that.
        """
        if size <= SMALL:
            length = SMALL_SEGMENT
        elif size < FROM_ITS_OWN_SIZE:
            length = LARGE_SEGMENT
        else:
            length = -(-size // SMALL_SEGMENT) * SMALL_SEGMENT
        if self._room is not None and self._reserved + length > self._room:
            self.retries += 1
            self._empty_cache()
            if self._reserved + length > self._room:
                raise DoesNotFitError(size * GRANULE, self.reserved)
        if size > SMALL and any(asked <= length < asked + rest for asked, rest in self._excess.items()):
            self.alike = False
        self._reserved += length
        self._peak_reserved = max(self._peak_reserved, self._reserved)
        self.made += 1
        start = self._next_address
        self._next_address += length + 1  # a gap, so that segments are never joined
        self._segments[start] = length
        self._other_end[start], self._other_end[start + length] = start + length, start
        return start

    def _empty_cache(self) -> None:
        """Give every segment back that is free as a whole."""
        self.alike = False
        for sizes, places in self._pools.values():
            for size in tuple(sizes):
                starts = places[size]
                whole = {start for start in starts if self._segments.get(start) == size}
                starts[:] = [start for start in starts if start not in whole]
                if not starts:
                    sizes.remove(size)
                for start in whole:
                    del self._segments[start], self._other_end[start], self._other_end[start + size]
                    self._reserved -= size
