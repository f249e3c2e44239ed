"""The simulated allocator keeps its free blocks by their ends; it is held against one that looks at every block."""

from hypothesis import given
from hypothesis import strategies as st

from footprint.predict.allocator import GRANULE, Allocator, DoesNotFitError, MiB

SIZES = st.one_of(
    st.integers(1, 4 * GRANULE),
    st.integers(1, 2 * MiB),
    st.sampled_from([MiB, MiB + 1, 3 * MiB, 10 * MiB - 1, 10 * MiB, 19 * MiB, 20 * MiB, 33 * MiB]),
    st.integers(1, 64 * MiB),
)
WISHES = st.lists(st.tuples(st.booleans(), SIZES, st.integers(0, 10**6)), max_size=80)
"""Whether to make a tensor, of how many bytes, or else which of those that live to give back."""


class Plain:
    """The rules in so many words: a segment is a list of blocks, and each request looks at all of them."""

    def __init__(self, room: int) -> None:
        self.room, self.retries = room, 0
        self.segments: list[tuple[bool, list[list]]] = []
        """Whether it is one of small blocks; its blocks: bytes, and the tensor or None."""

    @property
    def reserved(self) -> int:
        return sum(size for _, blocks in self.segments for size, _ in blocks)

    @property
    def allocated(self) -> int:
        return sum(size for _, blocks in self.segments for size, tensor in blocks if tensor is not None)

    def make(self, tensor: int, asked: int) -> None:
        size = -(-asked // GRANULE) * GRANULE
        small = size <= MiB
        fitting = [
            (block[0], age, place)
            for age, (is_small, blocks) in enumerate(self.segments)
            for place, block in enumerate(blocks)
            if is_small == small and block[1] is None and block[0] >= size
        ]
        if not fitting:
            own = 2 * MiB if small else 20 * MiB if size < 10 * MiB else -(-size // (2 * MiB)) * 2 * MiB
            if self.reserved + own > self.room:
                self.retries += 1
                self.segments = [one for one in self.segments if any(tensor is not None for _, tensor in one[1])]
            if self.reserved + own > self.room:
                raise DoesNotFitError(asked, self.reserved)
            self.segments.append((small, [[own, None]]))
            fitting = [(own, len(self.segments) - 1, 0)]
        found, age, place = min(fitting)
        blocks, rest = self.segments[age][1], found - size
        splits = rest >= GRANULE if small else rest > MiB
        blocks[place : place + 1] = [[size, tensor], [rest, None]] if splits else [[found, tensor]]

    def give_back(self, tensor: int) -> None:
        for age, (small, blocks) in enumerate(self.segments):
            joined = []
            for size, owner in blocks:
                owner = None if owner == tensor else owner
                if owner is None and joined and joined[-1][1] is None:
                    joined[-1][0] += size
                else:
                    joined.append([size, owner])
            self.segments[age] = small, joined


def requests(wishes: list) -> list[tuple[int, int, bool]]:
    """(tensor, bytes, whether it is made)."""
    live, found = [], []
    for tensor, (makes, size, which) in enumerate(wishes):
        if makes or not live:
            live.append((tensor, size))
            found.append((tensor, size, True))
        else:
            found.append((*live.pop(which % len(live)), False))
    return found


def carry_out(allocator: Allocator, events: list[tuple[int, int, bool]]) -> None:
    numbers = [tensor for tensor, _, _ in events]
    allocator.carry_out(numbers, [(allocator.request if made else allocator.release)(size) for _, size, made in events])


def after(allocator: Allocator | Plain, event: tuple[int, int, bool]) -> tuple[int, ...]:
    """Allocated and reserved bytes and emptied caches after a request; nothing where there is no room for it."""
    tensor, size, made = event
    try:
        if isinstance(allocator, Allocator):
            carry_out(allocator, [event])
        elif made:
            allocator.make(tensor, size)
        else:
            allocator.give_back(tensor)
    except DoesNotFitError:
        return ()
    return allocator.allocated, allocator.reserved, allocator.retries


@given(WISHES, st.integers(2 * MiB, 400 * MiB))
def test_every_request_is_served_as_the_rules_in_so_many_words_have_it(wishes, room):
    allocator, plain = Allocator(room), Plain(room)
    for event in requests(wishes):
        found = after(allocator, event)
        assert found == after(plain, event)
        if not found:
            return


@given(WISHES, WISHES)
def test_what_is_said_to_be_served_alike_once_more_takes_no_segment_and_the_same_blocks(before, wishes):
    """`before` leaves blocks of all kinds, some in use; then a step makes tensors and gives all of them back."""
    allocator = Allocator()
    carry_out(allocator, requests(before))
    step = [(-1 - tensor, size, made) for tensor, size, made in requests(wishes)]
    ended = {tensor for tensor, _, made in step if not made}
    step += [(tensor, size, False) for tensor, size, made in step if made and tensor not in ended]
    allocator.watch()
    first = blocks(allocator, step)
    reserved = allocator.reserved
    if allocator.alike:
        assert blocks(allocator, step) == first
        assert allocator.reserved == reserved


def blocks(allocator: Allocator, events: list) -> list[tuple[int, int]]:
    """Allocated bytes after each event, and where the block of the tensor is."""
    found = []
    for event in events:
        carry_out(allocator, [event])
        found.append((allocator.allocated, allocator._live.get(event[0])))
    return found


def test_a_segment_that_would_have_fitted_an_earlier_request_better_is_not_said_to_be():
    """12 MiB came out of a block of 40, then 29 made a segment of 30: once more, the 12 would come out of that."""
    allocator = Allocator()
    carry_out(allocator, [(1, 40 * MiB, True), (1, 40 * MiB, False)])
    allocator.watch()
    step = [(2, 12 * MiB, True), (3, 29 * MiB, True), (2, 12 * MiB, False), (3, 29 * MiB, False)]
    first = blocks(allocator, step)
    assert not allocator.alike
    assert blocks(allocator, step) != first
