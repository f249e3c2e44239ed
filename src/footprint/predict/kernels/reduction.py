"""How a CUDA kernel shares a sum over rows among its threads (Reduce.cuh, setReduceConfig)."""

from footprint.spec.cards import Card
from footprint.spec.precision import FULL

THREADS, WARP = 512, 32
"""The most threads of a block for one value each; threads of a warp."""

FEWEST, MOST = 16, 256
"""Values of one thread: a sum is shared among blocks only where a thread would have more than the latter."""


def partial_sums(card: Card, rows: int, columns: int) -> tuple[int, int]:
    """Bytes of partial sums and of semaphores for the fp32 sum over the rows of a (rows, columns) matrix."""
    if rows < MOST:
        return 0, 0
    vector = next(n for n in (4, 2, 1) if columns % n == 0)
    most = THREADS // vector
    outputs, inputs = _power(columns // vector, most), _power(rows, most)
    width = min(outputs, WARP)
    height = min(inputs, most // width)
    width = min(outputs, most // height)
    values = rows
    if values < min(16 * height, MOST):
        return 0, 0  # every warp has outputs of its own
    values = -(-rows // height)
    blocks = -(-(columns // vector) // width)
    sharing = _sharing(card, values, blocks, width * height)
    return (FULL * columns * sharing * width * vector, FULL * blocks) if sharing > 1 else (0, 0)


def whole_sums(card: Card, elements: int) -> int:
    """Bytes of partial sums for the fp32 sum of all elements; one semaphore goes with them."""
    if elements < MOST:
        return 0
    width = _power(elements // 4, THREADS)
    sharing = _sharing(card, -(-elements // width), 1, width)
    return FULL * sharing if sharing > 1 else 0


def _sharing(card: Card, values: int, blocks: int, threads: int) -> int:
    """How many blocks share a sum of which each thread would have `values`."""
    room = card.multiprocessors * (card.threads // threads)
    if values < MOST or blocks > room:
        return 1
    return max(min(-(-room // blocks), -(-values // FEWEST)), -(-values // MOST))


def _power(number: int, most: int) -> int:
    """The largest power of two that is not above a number, or `most`."""
    return most if number >= most else 1 << (number.bit_length() - 1)
