"""PyTorch's CUDA caching allocator, simulated: requests in order go in, allocated and reserved bytes come out.

The rules are those of c10/cuda/CUDACachingAllocator.cpp with its defaults and one stream. Sizes are bytes.
"""

from bisect import bisect_left, insort
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


class Block:
    """A piece of a segment, in use or free; its neighbours are those of the same segment."""

    __slots__ = ("address", "after", "before", "free", "size", "small")


class Allocator:
    """The allocator of one device. `room` is what the card has for segments; None where it never ends."""

    def __init__(self, room: int | None = None) -> None:
        self._room = room
        self._pools: tuple[list[tuple[int, int, Block]], ...] = ([], [])
        """Free blocks of the large and of the small pool: by size, then by the age of their segment, then by their
        place in it. Of equally large ones PyTorch 2.13 takes the first; older versions took the lowest address."""
        self._live: dict[int, Block] = {}
        """The block of every tensor."""
        self._spare: list[Block] = []
        """Blocks that were joined to others, to be made anew."""
        self._segments = 0
        self.allocated = self.reserved = 0
        self.peak_allocated = self.peak_reserved = 0
        self.retries = 0
        """How often the cache had to be emptied for a request."""

    def carry_out(self, numbers: Iterable[int], sizes: Iterable[int]) -> None:
        """Requests in order: the number of a tensor makes it, of so many bytes, and its negative gives it back.

        Nothing happens to a tensor of 0 bytes. Raises DoesNotFitError. All of it is one loop, for speed: a large model
        makes a hundred thousand requests.
        """
        live, pools, spare = self._live, self._pools, self._spare
        allocated, highest, granularity, most_small = self.allocated, self.peak_allocated, GRANULARITY, SMALL
        for number, asked in zip(numbers, sizes, strict=True):
            if not asked:
                continue
            if number > 0:
                size = -(-asked // granularity) * granularity
                small = size <= most_small
                pool = pools[small]
                position = bisect_left(pool, (size,))
                block = pool.pop(position)[2] if position < len(pool) else self._segment(size, asked, small=small)
                rest = block.size - size
                if rest > most_small or (small and rest):
                    remaining = spare.pop() if spare else Block()
                    remaining.address = address = block.address + size
                    remaining.size, remaining.small, remaining.free = rest, small, True
                    after = block.after
                    remaining.before, remaining.after = block, after
                    if after is not None:
                        after.before = remaining
                    block.after, block.size = remaining, size
                    insort(pool, (rest, address, remaining))
                else:
                    size += rest
                block.free = False
                live[number] = block
                allocated += size
                if allocated > highest:
                    highest = allocated
            else:
                block = live.pop(-number)
                size = block.size
                allocated -= size
                pool = pools[block.small]
                before, after = block.before, block.after
                if before is not None and before.free:  # blocks side by side are joined
                    del pool[bisect_left(pool, (before.size, before.address))]
                    size += before.size
                    before.after = after
                    if after is not None:
                        after.before = before
                    spare.append(block)
                    block = before
                if after is not None and after.free:
                    del pool[bisect_left(pool, (after.size, after.address))]
                    size += after.size
                    block.after = beyond = after.after
                    if beyond is not None:
                        beyond.before = block
                    spare.append(after)
                block.free, block.size = True, size
                insort(pool, (size, block.address, block))
        self.allocated, self.peak_allocated = allocated, highest

    def layout(self) -> list[list[tuple[int, int]]]:
        """Size and address of every free block: what the next requests meet."""
        return [[(size, address) for size, address, _ in pool] for pool in self._pools]

    def reset_peaks(self) -> None:
        """As `torch.cuda.reset_peak_memory_stats`."""
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved

    def _segment(self, size: int, asked: int, *, small: bool) -> Block:
        """A new segment for a rounded request, once the cache is emptied if there is no other way."""
        if small:
            length = SMALL_SEGMENT
        elif size < FROM_ITS_OWN_SIZE:
            length = LARGE_SEGMENT
        else:
            length = -(-size // SMALL_SEGMENT) * SMALL_SEGMENT
        if self._room is not None and self.reserved + length > self._room:
            self.retries += 1
            self._empty_cache()
            if self.reserved + length > self._room:
                raise DoesNotFitError(asked, self.reserved)
        self.reserved += length
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        self._segments += 1
        block = Block()
        block.address, block.size, block.small, block.free = self._segments * SEGMENT_SPAN, length, small, True
        block.before = block.after = None
        return block

    def _empty_cache(self) -> None:
        """Give every segment back that is free as a whole."""
        for pool in self._pools:
            whole = [entry for entry in pool if entry[2].before is None and entry[2].after is None]
            self.reserved -= sum(size for size, _, _ in whole)
            pool[:] = [entry for entry in pool if entry not in whole]
