"""How oneDNN cuts thousands of products into blocks: as `onednn_blocks.blocks`, without scoring every pair.

Of the chunks, the score of the rows knows only how many there are, and of that only the remainder by the threads once
there are enough. So the best rows are found once per (m, that class).
"""

from collections.abc import Callable

import numpy as np

from footprint.predict.onednn_blocks import (
    FEW,
    FEWEST_ROWS,
    FEWEST_ROWS_SHORT_OF_WORK,
    HAIR,
    LARGEST_CHUNK,
    LARGEST_ROWS,
    PANEL,
    Blocks,
    blocks,
    depth_of,
    divide_up,
    overshoot,
    share_of,
    splits_k,
    unevenness,
)

TOGETHER = 512  # how many (m, chunks) to score at once: their scores should stay in the cache


def where_large(scratch: Callable, smallest: int, m, k, n, a_transposed: bool, threads: int) -> np.ndarray:
    """`scratch` of the products of more multiplications than that; of the others 0."""
    m, k, n = np.broadcast_arrays(m, k, n)
    sizes = np.zeros(m.shape, dtype=np.int64)
    large = m * k * n > smallest
    if large.any():
        sizes[large] = scratch(m[large], k[large], n[large], a_transposed, threads)
    return sizes


def blocks_of_each(m, k, n, a_transposed, packs_a, threads: int) -> Blocks:
    """`blocks` of every product; the first five are arrays of equal length."""
    columns, depth = np.minimum(PANEL, n), depth_of(k, a_transposed)
    panels = divide_up(n, columns)
    short_of_work = threads > panels
    fewest = np.where(short_of_work, FEWEST_ROWS_SHORT_OF_WORK, FEWEST_ROWS)
    most_chunk = np.minimum(np.where(packs_a, LARGEST_CHUNK, 1), panels)
    product, chunk = _every_chunk(most_chunk)
    chunks = divide_up(panels[product], chunk)
    rows, score, unsure = _best_rows(m[product], fewest[product], chunks, threads)
    score = score + share_of(chunks * chunk - panels[product], panels[product])
    score = (score + unevenness(k, depth)[product]) / np.float32(5)

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
    exceptional = np.logical_or.reduceat(unsure, first) | splits_k(k, a_transposed, short_of_work)
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
    high = divide_up(m, rows)
    work = high * work_class
    score = unevenness(work, threads) + overshoot(m, rows, high)
    score[(work < FEW * threads) & (work % threads != 0)] = np.inf
    best = score.argmin(axis=1)
    each = np.arange(len(score))
    least = score[each, best]
    close = (score <= least[:, None] + np.float32(HAIR)).argmax(axis=1)
    return rows[each, best], least, rows[each, close] != rows[each, best]


def _candidates(m, fewest):
    """Rows worth scoring, the most first: of those that make equally many blocks the fewest, if the list gets short."""
    rows = np.arange(LARGEST_ROWS, FEWEST_ROWS_SHORT_OF_WORK - 1, -1)
    least, most = divide_up(m, LARGEST_ROWS), divide_up(m, fewest)
    counts = (most - least).max() + 1
    if counts < len(rows):
        rows = divide_up(m, least + np.arange(counts))
    return np.clip(rows, np.minimum(fewest, m), np.minimum(LARGEST_ROWS, m))
