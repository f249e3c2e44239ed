"""How oneDNN cuts a bf16 product C(m, n) = A(m, k) @ B(k, n) into blocks.

oneDNN scores every (chunk, rows) and takes the best (`compute_blocking_heuristic_avx512` in
`src/cpu/x64/matmul/brgemm_matmul_utils.cpp`). `blocks` does the same for one product; `many.blocks` finds the same for
thousands. The terms of the score, which take integers or arrays, are here.
"""

from array import array
from functools import lru_cache, reduce
from typing import NamedTuple

from footprint.predict.arithmetic import minimum, where

PANEL = 64  # get_default_n_block: columns of a panel of B
LARGEST_ROWS = 256  # rows of a block of C
FEWEST_ROWS, FEWEST_ROWS_SHORT_OF_WORK = 32, 16  # but for an m below
LARGEST_CHUNK = 16  # panels one thread takes at a time while it has A packed
FEW = 3  # a few blocks are fewer than this many per thread

HAIR = 2.0**-19
"""Far more than fp32 rounding adds to a score of two terms: closer ones may yet tie, and ties are decided by order."""

CLOSE = 4 * HAIR
"""The same for all terms."""


class Blocks(NamedTuple):
    """Sizes of the blocks: integers, or arrays with one entry per product."""

    rows: int
    columns: int
    depth: int
    chunk: int  # panels of B one thread works through before it moves on
    depth_threads: int  # threads that share one block of C, each with a part of k


@lru_cache(maxsize=1 << 14)
def blocks(m: int, k: int, n: int, a_transposed: bool, packs_a: bool, threads: int) -> Blocks:
    """The blocks with the smallest imbalance; among equals the largest."""
    columns, depth = min(PANEL, n), depth_of(k, a_transposed)
    panels = divide_up(n, columns)
    short_of_work = threads > panels
    smallest_rows = min(FEWEST_ROWS_SHORT_OF_WORK if short_of_work else FEWEST_ROWS, m)
    most_depth_threads = min(threads, 4) if splits_k(k, a_transposed, short_of_work) else 1
    rows = range(min(LARGEST_ROWS, m), smallest_rows - 1, -1)
    chunks = range(min(LARGEST_CHUNK if packs_a else 1, panels), 0, -1)

    best, least = None, 1.0
    for depth_threads in range(most_depth_threads, 0, -1):
        sharing = threads // depth_threads
        last = single((threads - sharing * depth_threads) / threads), unevenness(k, depth_threads * depth)
        # A few blocks that leave some threads idle are no candidate.
        close = _close_to_best(m, panels, rows, chunks, sharing, few_may_idle=most_depth_threads > 1)
        for of_chunk, of_rows, *terms in close:
            imbalance = single(reduce(lambda score, term: single(score + term), (*terms, *last)) / 5)
            if imbalance < least:
                best, least = Blocks(of_rows, columns, depth, of_chunk, depth_threads), imbalance
    return best or Blocks(smallest_rows, columns, depth, 1, 1)


def _close_to_best(
    m: int, panels: int, rows: range, chunks: range, sharing: int, *, few_may_idle: bool
) -> list[tuple[int, int, float, float, float]]:
    """(chunk, rows) that may have the best score, in oneDNN's order; with the terms that differ, in its order."""
    few = FEW * sharing
    idle = [unevenness(work, sharing) for work in range(few + sharing)]
    found, least = [], float("inf")
    for chunk in chunks:
        count = divide_up(panels, chunk)
        beyond = share_of(count * chunk - panels, panels)
        for over, high, of_rows in _by_overshoot(m, rows):
            if over + beyond > least + CLOSE:
                break
            work = high * count
            if work < few and not few_may_idle and work % sharing:
                continue
            uneven = idle[work] if work < few else idle[few + work % sharing]
            rough = uneven + over + beyond
            if rough <= least + CLOSE:
                found.append((rough, chunk, of_rows, uneven, over, beyond))
                least = min(least, rough)
    close = [candidate for rough, *candidate in found if rough <= least + CLOSE]
    return sorted(close, key=lambda candidate: (-candidate[0], -candidate[1]))


@lru_cache(maxsize=1 << 8)
def _by_overshoot(m: int, rows: range) -> list[tuple[float, int, int]]:
    """(rows beyond C as a share, blocks that C is high, rows of a block), the least first."""
    heights = [(divide_up(m, of_rows), of_rows) for of_rows in rows]
    return sorted((overshoot(m, of_rows, high), high, of_rows) for high, of_rows in heights)


def depth_of(k, a_transposed):
    """Elements of k in a block."""
    return minimum(k, where((k > 1024) & (a_transposed ^ True), 1024, 512))


def splits_k(k, a_transposed, short_of_work):
    """Whether several threads may share k."""
    return short_of_work & a_transposed & (k >= 2048) & (k & (k - 1) == 0)


def unevenness(work, share):
    """How far so much work is from an even share of it."""
    rest = work % share
    missing = where(work < share, share - rest, minimum(share - rest, rest))
    return share_of(missing, share)


def overshoot(m, rows, high):
    """Rows of the last block that lie beyond C, which is `high` blocks high."""
    return share_of(rows * high - m, m)


def share_of(part, whole):
    """Two integers are made fp32 and divided in it."""
    return single(single(part) / single(whole))


def single(number):
    """The nearest fp32 number, or an array of them.

    Of two fp32 numbers that is also what fp32 arithmetic gives, since fp64 has more than twice as many bits.
    """
    if isinstance(number, int | float):
        return array("f", (number,))[0]
    import numpy as np

    return np.float32(number)


def divide_up(a, b):
    """The quotient, rounded up."""
    return -(-a // b)
