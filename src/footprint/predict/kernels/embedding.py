"""The gradient of an embedding on a GPU: above a number of tokens, rows are sorted by token before they are summed.

Sources: EmbeddingBackwardKernel.cu, Embedding.cu, and what CUB takes for its sort, its search for the first of each
token and its running sum. CUB's tiles are those of its tunings for 8-byte keys; they were found by trying in
rehearsals, whose CUB is the real one.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from math import ceil

from footprint.spec.cards import Card
from footprint.spec.precision import FULL

UNSORTED = 3072
"""Up to so many tokens rows are added one by one."""

INT64 = 8

ROWS_OF_A_THREAD, LARGEST_BLOCK, WARP, BLOCKS_OF_ATOMICS = 10, 1024, 32, 4
"""Rows that a thread sums; threads of a block and of a warp; blocks of a multiprocessor below which sums are atomic."""

GENERATIONS = ((7, 5), (8, 0), (8, 6), (9, 0))
"""Generations from which on CUB has other tunings."""

SORTED, FIRSTS, SUMMED = (2816, 3840, 3840, 4608), (320, 1344, 320, 4928), 896
"""Items of a tile in CUB's sort and search, by generation, and in its running sum."""


def _aligned(*sizes: int) -> int:
    """Bytes of CUB's temporary storage: its parts lie at multiples of 256, from wherever it begins."""
    return sum(256 * ceil(size / 256) for size in sizes) + 255


def _states(tiles: int) -> int:
    """A state of 16 bytes for each tile, and for those a warp looks back at before the first."""
    return _aligned(16 * (tiles + WARP), 1)


@dataclass(frozen=True)
class Sorting:
    """Bytes of every tensor that summing sorted rows takes beside the gradient; all 0 where rows are not sorted."""

    indices: int = 0
    """The tokens sorted; where each stood; a range; where each token begins; a scratch of the search."""
    sort: int = 0
    firsts: int = 0
    counter: int = 0
    """How many tokens differ; how many pieces there are."""
    segments: int = 0
    """How many pieces each token's rows are cut into; the same summed up."""
    sum: int = 0
    pieces: int = 0
    """Where each piece begins."""
    token_of_piece: int = 0
    """Where pieces are added by atomics."""
    sums: int = 0
    """What the pieces sum up to, in fp32; of atomics on half precision the whole table."""


@cache
def sorting(card: Card, tokens: int, vocab: int, width: int, element: int) -> Sorting:
    """What the gradient of a (vocab, width) table takes for so many tokens."""
    if tokens <= UNSORTED:
        return Sorting()
    tuning = max(bisect_right(GENERATIONS, card.generation) - 1, 0)
    segments = min(tokens, vocab)
    pieces = tokens // ROWS_OF_A_THREAD + segments
    threads = WARP * ceil(width / WARP)
    blocks = ceil(segments * threads / min(threads, LARGEST_BLOCK))
    atomic = blocks < card.multiprocessors * BLOCKS_OF_ATOMICS and pieces > 4 * blocks
    passes = ceil(vocab.bit_length() / 8)
    other_buffers = (INT64 * tokens,) * 2 if passes > 1 else ()
    return Sorting(
        indices=INT64 * tokens,
        sort=_aligned(passes * 256 * INT64, ceil(tokens / SORTED[tuning]) * 256 * FULL, *other_buffers, 1),
        firsts=_states(ceil(tokens / FIRSTS[tuning])),
        counter=INT64,
        segments=INT64 * segments,
        sum=_states(ceil(segments / SUMMED)),
        pieces=INT64 * pieces,
        token_of_piece=INT64 * pieces * atomic,
        sums=(vocab * (element < FULL) if atomic else pieces) * width * FULL,
    )
