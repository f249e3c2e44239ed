"""Scratchpads of PyTorch's CPU bf16 matrix multiplications, derived from oneDNN's own choice of blocks.

PyTorch 2.13 hands a bf16 matrix multiplication on the CPU to oneDNN 3.12 and lends it memory to work in
(`scratchpad_mode::user`), so the scratchpad is a block of the CPU allocator that lives as long as the call. Its size
is no property of the tensors: the `brgemm` kernel cuts C into blocks, gives every thread a packed panel of B, an fp32
block of C and sometimes a packed block of A, and the blocks are those that spread the work most evenly. This module
makes the same choice and adds up what the kernel books.

Holds for x86-64 CPUs whose best instruction set in oneDNN is AVX512_CORE_BF16 (Cooper Lake, Zen 4, Zen 5): AVX-512
with bf16 and no AMX. CPUs with AMX (Sapphire Rapids and later) or without AVX-512 bf16 run other kernels. Neither the
size of the caches nor the number of cores matters, only the number of threads.

Sources: oneDNN `src/cpu/x64/matmul/brgemm_matmul_utils.cpp` (blocks, buffers) and `src/common/memory_tracking.hpp`
(padding); PyTorch `aten/src/ATen/native/mkldnn/Matmul.cpp` and `cpu/FlashAttentionKernel.cpp` (who calls it, for what).
"""

from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

BF16 = 2  # bytes of an element of A, B and C
FP32 = 4  # bytes of an element of the accumulator

SMALLEST = 16**3  # checksize: up to this many multiplications PyTorch computes without oneDNN
PADDING = 128  # registry_t::book: every buffer is booked with its alignment on top
BATCH_ELEMENTS = 16  # brgemm_batch_element_per_thr_sz: addresses handed to one kernel call
BATCH_ELEMENT = 40  # sizeof(brgemm_batch_element_t)
PANEL = 64  # get_default_n_block: columns of a panel of B
PANEL_ROWS = 32  # get_wei_k_blk: rows of a packed panel come in 16 pairs
LINE = 32  # elements of a cache line: rows of a packed block of A are a multiple of it
BIG_ROW = 512  # get_actual_lda: from here on a power of two would hit one cache set, so a line is added
BIG_STRIDE = 4096  # lda_big_pow2: A with rows of this many elements, or twice, ... is packed too
LARGEST_ROWS = 256  # rows of a block of C
LARGEST_CHUNK = 16  # panels one thread takes at a time while it has A packed

QUERY_BLOCKS = ((768, 256), (192, 64), (0, 32))  # flash attention: from this length, this many queries at a time
KEY_BLOCK = 512
SCALE = 4  # bytes of the softmax scale, which ideep passes to oneDNN as a tensor


class Blocks(NamedTuple):
    """How oneDNN cuts C(m, n) = A(m, k) @ B(k, n)."""

    rows: int
    columns: int
    depth: int
    chunk: int  # panels of B one thread works through before it moves on
    depth_threads: int  # threads that share one block of C, each with a part of k


def matmul_scratch(m, k, n, *, a_transposed: bool, b_transposed: bool, threads: int):
    """Bytes allocated, and freed, while ATen computes C(m, n) = A(m, k) @ B(k, n) in bf16 (`mm`, `addmm`, `linear`).

    Sizes are integers, or integer arrays that broadcast. `a_transposed`: A is the transposed view of a row-major
    tensor, as in the gradient of a weight. `b_transposed` completes the description of the call and changes nothing:
    the kernel packs B from either layout.
    """
    column = np.equal(n, 1)  # contiguous in both orders: ATen takes C for the row of C^T = B^T A^T
    m, n = np.where(column, 1, m), np.where(column, m, n)
    return _for_each(partial(gemm_scratch, a_transposed=a_transposed, threads=threads), m, k, n)


def attention_backward_scratch(seq, head_width, *, threads: int, causal: bool = True):
    """Most bytes live at once, on the calling thread, in the multiplications of one flash attention backward in bf16.

    They come on top of the three gradients and the kernel's own `buf`, `buf_reduced` and `dsum`. Batch and heads do
    not enter: a thread multiplies one block of queries of one head at a time. The forward pass allocates nothing
    here, and neither do the backward's products into fp32: MKL computes those. Sizes as in `matmul_scratch`.
    """
    return _for_each(partial(_attention_backward_scratch, threads=threads, causal=causal), seq, head_width)


def _for_each(scratch, *sizes):
    """`scratch` of integers, or of every element of arrays; equal shapes are worked out once."""
    if not any(np.ndim(size) for size in sizes):
        return scratch(*map(int, sizes))
    sizes = np.broadcast_arrays(*sizes)
    shapes, index = np.unique(np.stack([size.ravel() for size in sizes]), axis=1, return_inverse=True)
    each = np.array([scratch(*shape) for shape in shapes.T.tolist()], dtype=np.int64)
    return each[index.ravel()].reshape(sizes[0].shape)


@lru_cache(maxsize=1 << 12)
def _attention_backward_scratch(seq: int, head_width: int, *, threads: int, causal: bool) -> int:
    largest = 0
    for queries, keys in _attention_blocks(seq, causal):
        key_gradient = gemm_scratch(keys, queries, head_width, a_transposed=True, threads=threads)
        query_gradient = gemm_scratch(queries, keys, head_width, a_transposed=False, threads=threads)
        largest = max(largest, key_gradient, query_gradient)
    scaled = largest > 0 and head_width > 1  # the scale of heads of width 1 is 1, which needs no tensor
    return largest + SCALE * scaled


def _attention_blocks(seq: int, causal: bool) -> set[tuple[int, int]]:
    query_block = min(seq, next(block for start, block in QUERY_BLOCKS if seq >= start))
    key_block = min(seq, KEY_BLOCK)
    return {
        (queries, min(key_block, seq - key))
        for query in range(0, seq, query_block)
        for queries in [min(query_block, seq - query)]
        for key in range(0, query + queries if causal else seq, key_block)
    }


@lru_cache(maxsize=1 << 17)
def gemm_scratch(m: int, k: int, n: int, *, a_transposed: bool, threads: int) -> int:
    """Bytes oneDNN allocates while it computes C(m, n) = A(m, k) @ B(k, n), all bf16 and C row-major."""
    if m * k * n <= SMALLEST:
        return 0
    packs_a = m > 1 and (a_transposed or (m >= 1024 and k >= BIG_STRIDE and _is_power_of_two(k)))
    a_transposed = a_transposed or m == 1  # a row is contiguous in both orders: blocked as a column, never packed
    blocks = _blocks(m, k, n, a_transposed, packs_a, threads)
    booked = [BATCH_ELEMENTS * BATCH_ELEMENT, BF16 * PANEL * _round_up(blocks.depth, PANEL_ROWS)]
    if packs_a:
        booked.append(BF16 * blocks.rows * _packed_row(blocks.depth))
    if blocks.depth_threads > 1:
        booked.append(FP32 * m * n)
    else:
        booked.append(FP32 * blocks.rows * blocks.columns * (1 if blocks.depth == k else blocks.chunk))
    return sum(threads * size + PADDING for size in booked)


def _packed_row(depth: int) -> int:
    row = _round_up(depth, LINE)
    return row + LINE if row >= BIG_ROW and _is_power_of_two(row) else row


def _blocks(m: int, k: int, n: int, a_transposed: bool, packs_a: bool, threads: int) -> Blocks:
    """The blocks with the smallest imbalance; among equals the largest (`compute_blocking_heuristic_avx512`)."""
    columns = min(PANEL, n)
    depth = min(k, 1024 if k > 1024 and not a_transposed else 512)
    panels = _divide_up(n, columns)
    short_of_work = threads > panels
    smallest_rows = min(16 if short_of_work else 32, m)
    splits_k = short_of_work and a_transposed and k >= 2048 and _is_power_of_two(k)
    most_depth_threads = min(threads, 4) if splits_k else 1
    rows = np.arange(min(LARGEST_ROWS, m), smallest_rows - 1, -1)
    chunk = np.arange(min(LARGEST_CHUNK if packs_a else 1, panels), 0, -1)[:, None]

    best, least = None, np.float32(1)
    for depth_threads in range(most_depth_threads, 0, -1):
        imbalance, work = _imbalance(m, k, n, rows, columns, depth, chunk, depth_threads, threads)
        sharing = threads // depth_threads
        if most_depth_threads == 1:  # a few blocks that leave some threads idle are no candidate
            imbalance[(work < 3 * sharing) & (work % sharing != 0)] = 1
        choice = np.unravel_index(np.argmin(imbalance), imbalance.shape)
        if imbalance[choice] < least:
            least = imbalance[choice]
            best = Blocks(int(rows[choice[1]]), columns, depth, int(chunk[choice[0], 0]), depth_threads)
    return best or Blocks(smallest_rows, columns, depth, 1, 1)


def _imbalance(m, k, n, rows, columns, depth, chunk, depth_threads, threads):
    """oneDNN's score of every (chunk, rows), summed in its order and in fp32, since ties decide; and the work items."""
    panels = _divide_up(n, columns)
    chunks = _divide_up(panels, chunk)
    work = _divide_up(m, rows) * chunks
    sharing = threads // depth_threads
    single = np.float32
    score = _unevenness(work, sharing)
    score = score + (rows * _divide_up(m, rows) % m).astype(single) / single(m)
    score = score + (chunks * chunk - panels).astype(single) / single(panels)
    score = score + single(threads - sharing * depth_threads) / single(threads)
    score = score + _unevenness(k, depth_threads * depth)
    return score / single(5), work


def _unevenness(work, share: int):
    rest = work % share
    missing = np.where(np.less(work, share), share - rest, np.minimum(share - rest, rest))
    return missing.astype(np.float32) / np.float32(share)


def _divide_up(a, b):
    return -(-a // b)


def _round_up(a: int, b: int) -> int:
    return _divide_up(a, b) * b


def _is_power_of_two(a: int) -> bool:
    return a & (a - 1) == 0
