"""How oneDNN cuts a bf16 product C(m, n) = A(m, k) @ B(k, n) into blocks, for one product or for thousands at once.

oneDNN scores every (chunk, rows) and takes the best (`compute_blocking_heuristic_avx512` in
`src/cpu/x64/matmul/brgemm_matmul_utils.cpp`). `blocks` does the same. `blocks_of_each` gets the same answer for arrays
of products without scoring every pair: of the chunks, the score of the rows knows only how many there are, and of that
only the remainder by the threads once there are enough. So the best rows are found once per (m, that class).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

PANEL = 64  # get_default_n_block: columns of a panel of B
LARGEST_ROWS = 256  # rows of a block of C
FEWEST_ROWS, FEWEST_ROWS_SHORT_OF_WORK = 32, 16  # but for an m below
LARGEST_CHUNK = 16  # panels one thread takes at a time while it has A packed
FEW = 3  # a few blocks are fewer than this many per thread

HAIR = 2.0**-19
"""Far more than fp32 rounding adds to a score: rows closer than this may yet tie, and ties are decided by order."""

TOGETHER = 512  # how many (m, chunks) to score at once: their scores should stay in the cache


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
    columns = min(PANEL, n)
    depth = int(_depth(k, a_transposed))
    panels = _divide_up(n, columns)
    short_of_work = threads > panels
    smallest_rows = min(FEWEST_ROWS_SHORT_OF_WORK if short_of_work else FEWEST_ROWS, m)
    most_depth_threads = min(threads, 4) if _splits_k(k, a_transposed, short_of_work) else 1
    rows = np.arange(min(LARGEST_ROWS, m), smallest_rows - 1, -1)
    chunk = np.arange(min(LARGEST_CHUNK if packs_a else 1, panels), 0, -1)[:, None]

    best, least = None, np.float32(1)
    for depth_threads in range(most_depth_threads, 0, -1):
        imbalance, work = _imbalance(m, k, n, rows, columns, depth, chunk, depth_threads, threads)
        sharing = threads // depth_threads
        if most_depth_threads == 1:  # a few blocks that leave some threads idle are no candidate
            imbalance[(work < FEW * sharing) & (work % sharing != 0)] = 1
        choice = np.unravel_index(np.argmin(imbalance), imbalance.shape)
        if imbalance[choice] < least:
            least = imbalance[choice]
            best = Blocks(int(rows[choice[1]]), columns, depth, int(chunk[choice[0], 0]), depth_threads)
    return best or Blocks(smallest_rows, columns, depth, 1, 1)


def _imbalance(m, k, n, rows, columns, depth, chunk, depth_threads, threads):
    """oneDNN's score of every (chunk, rows), summed in its order and in fp32, since ties decide; and the work items."""
    panels = _divide_up(n, columns)
    chunks = _divide_up(panels, chunk)
    high = _divide_up(m, rows)
    work = high * chunks
    sharing = threads // depth_threads
    single = np.float32
    score = _unevenness(work, sharing)
    score = score + _overshoot(m, rows, high)
    score = score + _share(chunks * chunk - panels, panels)
    score = score + single(threads - sharing * depth_threads) / single(threads)
    score = score + _unevenness(k, depth_threads * depth)
    return score / single(5), work


def blocks_of_each(m, k, n, a_transposed, packs_a, threads: int) -> Blocks:
    """`blocks` of every product; the first five are arrays of equal length."""
    columns, depth = np.minimum(PANEL, n), _depth(k, a_transposed)
    panels = _divide_up(n, columns)
    short_of_work = threads > panels
    fewest = np.where(short_of_work, FEWEST_ROWS_SHORT_OF_WORK, FEWEST_ROWS)
    most_chunk = np.minimum(np.where(packs_a, LARGEST_CHUNK, 1), panels)
    product, chunk = _every_chunk(most_chunk)
    chunks = _divide_up(panels[product], chunk)
    rows, score, unsure = _best_rows(m[product], fewest[product], chunks, threads)
    score = score + _share(chunks * chunk - panels[product], panels[product])
    score = (score + _unevenness(k, depth)[product]) / np.float32(5)

    first = np.cumsum(most_chunk) - most_chunk
    least = np.minimum.reduceat(score, first)
    best = _first_of_each(score == least[product], product, first)
    none = np.isinf(least)
    found = Blocks(
        np.where(none, np.minimum(fewest, m), rows[best]),
        columns,
        depth,
        np.where(none, 1, chunk[best]),
        np.ones_like(m),
    )
    exceptional = np.logical_or.reduceat(unsure, first) | _splits_k(k, a_transposed, short_of_work)
    for index in np.flatnonzero(exceptional).tolist():
        shape = (int(size[index]) for size in (m, k, n))
        chosen = blocks(*shape, bool(a_transposed[index]), bool(packs_a[index]), threads)
        for sizes, size in zip(found, chosen, strict=True):
            sizes[index] = size
    return found


def _every_chunk(most_chunk):
    """The products' candidates for the chunk, largest first, in one column: (index of the product, chunk)."""
    product = np.repeat(np.arange(len(most_chunk)), most_chunk)
    ends = np.cumsum(most_chunk)
    return product, ends[product] - np.arange(len(product))


def _first_of_each(marked, product, first):
    """Of the marked candidates the first of each product, as an index into the column of candidates."""
    index = np.where(marked, np.arange(len(marked)), len(marked))
    return np.minimum.reduceat(index, first)


def _best_rows(m, fewest, chunks, threads: int):
    """The rows with the least score for each (m, chunks), that score without other terms, and whether it is close."""
    classes = (FEW + 1) * threads
    work_class = np.where(chunks < FEW * threads, chunks, FEW * threads + chunks % threads)
    keys, each = np.unique((m * (LARGEST_ROWS + 1) + fewest) * classes + work_class, return_inverse=True)
    rows, score, unsure = np.empty(len(keys), np.int64), np.empty(len(keys), np.float32), np.empty(len(keys), bool)
    rest, work_class = np.divmod(keys, classes)
    m, fewest = np.divmod(rest, LARGEST_ROWS + 1)
    for start in range(0, len(keys), TOGETHER):
        part = slice(start, start + TOGETHER)
        rows[part], score[part], unsure[part] = _score_rows(
            m[part, None], fewest[part, None], work_class[part, None], threads
        )
    return rows[each], score[each], unsure[each]


def _score_rows(m, fewest, work_class, threads: int):
    rows = _candidates(m, fewest)
    high = _divide_up(m, rows)
    work = high * work_class
    score = _unevenness(work, threads) + _overshoot(m, rows, high)
    score[(work < FEW * threads) & (work % threads != 0)] = np.inf
    best = score.argmin(axis=1)
    each = np.arange(len(score))
    least = score[each, best]
    close = (score <= least[:, None] + np.float32(HAIR)).argmax(axis=1)
    return rows[each, best], least, rows[each, close] != rows[each, best]


def _candidates(m, fewest):
    """Rows worth scoring, the most first: of those that make equally many blocks the fewest, if the list gets short."""
    rows = np.arange(LARGEST_ROWS, FEWEST_ROWS_SHORT_OF_WORK - 1, -1)
    least, most = _divide_up(m, LARGEST_ROWS), _divide_up(m, fewest)
    counts = (most - least).max() + 1
    if counts < len(rows):
        rows = _divide_up(m, least + np.arange(counts))
    return np.clip(rows, np.minimum(fewest, m), np.minimum(LARGEST_ROWS, m))


def _depth(k, a_transposed):
    return np.minimum(k, np.where(np.greater(k, 1024) & ~np.bool_(a_transposed), 1024, 512))


def _splits_k(k, a_transposed, short_of_work):
    return short_of_work & a_transposed & (k >= 2048) & (k & (k - 1) == 0)


def _unevenness(work, share):
    rest = work % share
    missing = np.where(np.less(work, share), share - rest, np.minimum(share - rest, rest))
    return _share(missing, share)


def _overshoot(m, rows, high):
    """Rows of the last block that lie beyond C, which is `high` blocks high."""
    return _share(rows * high - m, m)


def _share(part, whole):
    return np.asarray(part).astype(np.float32) / np.asarray(whole).astype(np.float32)


def _divide_up(a, b):
    return -(-a // b)
