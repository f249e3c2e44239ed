"""DistributedDataParallel in the shadow: every GPU holds the whole model, and buckets as large as all gradients.

Mirrors torch/nn/parallel/distributed.py and torch/csrc/distributed/c10d/reducer.cpp of PyTorch 2.13. Sizes are bytes.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from footprint.predict.arithmetic import total
from footprint.predict.formula import apply, call
from footprint.predict.program import Structure
from footprint.predict.shadow import Shadow, Storage, Variable
from footprint.predict.sharing import Alone, Cut
from footprint.predict.tape import Size

INT64, INT32 = 8, 4

FIRST_BUCKET, BUCKET = 2**20, 25 * 2**20
"""From which size on a bucket of gradients takes no more: the first, every other."""

BROADCAST = 250 * 2**20
"""The same of a buffer in which tensors are broadcast."""

IN_FLIGHT = 2
"""Broadcasts under way at a time (comm.cpp, broadcast_coalesced)."""

State = tuple[Size, int]
"""A tensor that is broadcast: its bytes, and the bytes of one element, which tell its dtype."""


class Replicated(Alone):
    """What a reducer takes beside the run of one GPU."""

    different_steps = 2

    def __init__(self, shadow: Shadow, structure: Structure, buffers: Sequence[State]) -> None:
        """`buffers` are tensors of the model that are no parameters."""
        self._shadow, self._structure, self._buffers = shadow, structure, buffers
        self._buckets: list[Storage] = []
        self._trained = 0
        self._ready: list[Size] = []
        """The gradients of the last backward, in the order in which they were ready, and some of no bytes."""
        self._rebuilt = False

    def wrap(self, parts: Iterable[tuple[str, list[Cut]]]) -> None:
        """The constructor: shapes are compared, states broadcast from rank 0, one bucket made for all gradients.

        `parts` are the parameters of every part of the model, as they are registered.
        """
        parameters = [each for part, cuts in parts for each in cuts * self._structure.times(part)]
        trained = [each for each in parameters if each.trained]
        self._trained = len(trained)
        dimensions = sum(each.dimensions for each in trained)
        compared = [self._shadow.allocate("number of parameters", INT64) for _ in range(1 + self._structure.gpus)]
        compared.append(self._shadow.allocate("shapes of parameters", 2 * INT64 * dimensions))
        del compared
        self._broadcast([*((each.whole, each.element) for each in parameters), *self._buffers])
        self._buckets = [self._shadow.allocate("bucket of gradients", total(each.whole for each in trained))]

    def model(self, run: Callable[[], Variable]) -> Variable:
        """Buckets are made anew once it is known in which order gradients become ready; buffers are broadcast."""
        if self._ready and not self._rebuilt:
            self._rebuild()
        self._broadcast(self._buffers)
        return run()

    def finish(self) -> None:
        """Remember the order of gradients."""
        self._ready = [
            storage.size
            for part, arrived in self._shadow.gradients.items()
            for _, storage in list(self._in_order(arrived)) * self._structure.times(part)
        ]

    def _in_order(self, arrived: Iterable[tuple[str, Storage]]) -> Iterator[tuple[str, Storage]]:
        """A product gives the gradient of its bias before that of its matrix, which is transposed first. Under autocast
        these are gradients of copies.
        """
        waiting = list(arrived)
        while waiting:
            name, _ = waiting[0]
            bias_next = len(waiting) > 1 and waiting[1][0] == f"{name} bias" and not self._structure.autocast
            yield waiting.pop(1 if bias_next else 0)

    def _rebuild(self) -> None:
        filled = call(buckets, (FIRST_BUCKET, BUCKET), (0,) * len(self._ready), *self._ready)
        told = [self._shadow.allocate("parameters of buckets", INT32 * (self._trained + 1))]
        told.append(self._shadow.allocate("lengths of buckets", INT32 * apply(len, filled)))
        del told
        self._buckets.clear()
        for index in range(self._trained):
            self._buckets.append(self._shadow.allocate("bucket of gradients", apply(_bytes_of, filled, index)))
        self._rebuilt = True

    def _broadcast(self, states: Sequence[State]) -> None:
        """Several tensors of one dtype go through a buffer."""
        if not states:
            return
        filled = call(buckets, (BROADCAST,), tuple(element for _, element in states), *(size for size, _ in states))
        under_way: deque[Storage] = deque()
        for index in range(len(states)):
            if len(under_way) == IN_FLIGHT:
                under_way.popleft()
            under_way.append(self._shadow.allocate("buffer to broadcast", apply(_joined, filled, index)))
        while under_way:
            under_way.popleft()


def buckets(limits: tuple[int, ...], dtypes: tuple[int, ...], *sizes: int) -> tuple[tuple[int, int], ...]:
    """Bytes and tensors of each bucket that tensors with bytes are put into, in the order of the first of each.

    A bucket that has reached its limit takes no more; every dtype has buckets, and limits, of its own
    (reducer.cpp, compute_bucket_assignment_by_size).
    """
    filling: dict[int, tuple[int, int, int]] = {}
    full, closed = [], Counter()
    for index, (dtype, size) in enumerate(zip(dtypes, sizes, strict=True)):
        if not size:
            continue
        first, held, count = filling.get(dtype, (index, 0, 0))
        filling[dtype] = first, held + size, count + 1
        if held + size >= limits[min(closed[dtype], len(limits) - 1)]:
            full.append(filling.pop(dtype))
            closed[dtype] += 1
    return tuple((held, count) for _, held, count in sorted([*full, *filling.values()]))


def _bytes_of(filled: tuple[tuple[int, int], ...], index: int) -> int:
    """Bytes of a bucket; 0 where there are not as many."""
    return filled[index][0] if index < len(filled) else 0


def _joined(filled: tuple[tuple[int, int], ...], index: int) -> int:
    """The same, but 0 where the bucket has one tensor, which is taken as it is."""
    return filled[index][0] if index < len(filled) and filled[index][1] > 1 else 0
