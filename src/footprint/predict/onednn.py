"""Scratchpads of PyTorch's CPU bf16 matrix multiplications, derived from oneDNN's own choice of blocks.

PyTorch 2.13 hands a bf16 matrix multiplication on the CPU to oneDNN 3.12 and lends it memory to work in
(`scratchpad_mode::user`), so the scratchpad is a block of the CPU allocator that lives as long as the call. Its size
is no property of the tensors: the `brgemm` kernel cuts C into blocks, gives every thread a packed panel of B, an fp32
block of C and sometimes a packed block of A, and the blocks are those that spread the work most evenly. `onednn_blocks`
makes the same choice; this module adds up what the kernel books.

Holds for x86-64 CPUs whose best instruction set in oneDNN is AVX512_CORE_BF16 (Cooper Lake, Zen 4, Zen 5): AVX-512
with bf16 and no AMX. CPUs with AMX (Sapphire Rapids and later) or without AVX-512 bf16 run other kernels. Neither the
size of the caches nor the number of cores matters, only the number of threads.

Sources: oneDNN `src/cpu/x64/matmul/brgemm_matmul_utils.cpp` (blocks, buffers) and `src/common/memory_tracking.hpp`
(padding); PyTorch `aten/src/ATen/native/mkldnn/Matmul.cpp` and `cpu/FlashAttentionKernel.cpp` (who calls it, for what).
"""

from functools import reduce

from footprint.predict.arithmetic import is_plain, maximum, minimum, where
from footprint.predict.formula import call
from footprint.predict.onednn_blocks import PANEL, Blocks, blocks

BF16 = 2  # bytes of an element of A, B and C
FP32 = 4  # bytes of an element of the accumulator

SMALLEST = 16**3  # checksize: up to this many multiplications PyTorch computes without oneDNN
PADDING = 128  # registry_t::book: every buffer is booked with its alignment on top
BATCH_ELEMENTS = 16  # brgemm_batch_element_per_thr_sz: addresses handed to one kernel call
BATCH_ELEMENT = 40  # sizeof(brgemm_batch_element_t)
PANEL_ROWS = 32  # get_wei_k_blk: rows of a packed panel come in 16 pairs
LINE = 32  # elements of a cache line: rows of a packed block of A are a multiple of it
BIG_ROW = 512  # get_actual_lda: from here on a power of two would hit one cache set, so a line is added
BIG_STRIDE = 4096  # lda_big_pow2: A with rows of this many elements, or twice, ... is packed too

QUERY_BLOCKS = ((768, 256), (192, 64), (0, 32))  # flash attention: from this length, this many queries at a time
KEY_BLOCK = 512
SCALE = 4  # bytes of the softmax scale, which ideep passes to oneDNN as a tensor


def matmul_scratch(m, k, n, *, a_transposed: bool, b_transposed: bool, threads: int):
    """Bytes allocated, and freed, while ATen computes C(m, n) = A(m, k) @ B(k, n) in bf16 (`mm`, `addmm`, `linear`).

    Sizes are integers, integer arrays that broadcast, or formulas. `a_transposed`: A is the transposed view of a
    row-major tensor, as in the gradient of a weight. `b_transposed` completes the description of the call and changes
    nothing: the kernel packs B from either layout.
    """
    return call(_matmul_scratch, m, k, n, a_transposed, threads)


def _matmul_scratch(m, k, n, a_transposed: bool, threads: int):
    column = n == 1  # contiguous in both orders: ATen takes C for the row of C^T = B^T A^T
    return _gemm_scratch(where(column, 1, m), k, where(column, m, n), a_transposed, threads)


def attention_backward_scratch(seq, head_width, *, threads: int, causal: bool = True):
    """Most bytes live at once, on the calling thread, in the multiplications of one flash attention backward in bf16.

    They come on top of the three gradients and the kernel's own `buf`, `buf_reduced` and `dsum`. Batch and heads do
    not enter: a thread multiplies one block of queries of one head at a time. The forward pass allocates nothing
    here, and neither do the backward's products into fp32: MKL computes those. Sizes as in `matmul_scratch`.
    """
    return call(_attention_backward_scratch, seq, head_width, threads, causal)


def _attention_backward_scratch(seq, head_width, threads: int, causal: bool):
    largest = 0
    for queries, keys in _attention_blocks(seq, causal):
        key_gradient = _gemm_scratch(keys, queries, head_width, True, threads)
        query_gradient = _gemm_scratch(queries, keys, head_width, False, threads)
        largest = maximum(largest, key_gradient, query_gradient)
    scaled = (largest > 0) & (head_width > 1)  # the scale of heads of width 1 is 1, which needs no tensor
    return largest + SCALE * scaled


def _attention_blocks(seq, causal: bool):
    """(queries, keys) of the blocks that differ: whole ones, and what is left at the end of the sequence, if any."""
    whole_queries = minimum(seq, _query_block(seq))
    whole_keys = minimum(seq, KEY_BLOCK)
    last_queries, last_keys = seq % whole_queries, seq % whole_keys
    # The last keys come after the last whole queries where these end before them; a causal model skips that block.
    skipped = causal & (seq - last_queries <= seq - last_keys)
    yield whole_queries, whole_keys
    yield whole_queries, where(skipped, 0, last_keys)
    yield last_queries, whole_keys
    yield last_queries, last_keys


def _query_block(seq):
    return reduce(lambda shorter, block: where(seq >= block[0], block[1], shorter), reversed(QUERY_BLOCKS), 0)


def _gemm_scratch(m, k, n, a_transposed: bool, threads: int):
    """Bytes oneDNN allocates while it computes C(m, n) = A(m, k) @ B(k, n), all bf16 and C row-major."""
    if all(map(is_plain, (m, k, n))):
        return _large_gemm_scratch(m, k, n, a_transposed, threads) if m * k * n > SMALLEST else 0
    from footprint.predict.many.blocks import where_large

    return where_large(_large_gemm_scratch, SMALLEST, m, k, n, a_transposed, threads)


def _large_gemm_scratch(m, k, n, a_transposed: bool, threads: int):
    packs_a = (m > 1) & (a_transposed | ((m >= 1024) & (k >= BIG_STRIDE) & _is_power_of_two(k)))
    # A row is contiguous in both orders: blocked as a column, never packed.
    found = _cut(m, k, n, a_transposed | (m == 1), packs_a, threads)
    panel = BF16 * PANEL * _round_up(found.depth, PANEL_ROWS)
    packed = where(packs_a, BF16 * found.rows * _packed_row(found.depth), 0)
    partial = FP32 * found.rows * found.columns * where(found.depth == k, 1, found.chunk)
    accumulator = where(found.depth_threads > 1, FP32 * m * n, partial)
    buffers = 3 + packs_a
    return threads * (BATCH_ELEMENTS * BATCH_ELEMENT + panel + packed + accumulator) + PADDING * buffers


def _cut(m, k, n, a_transposed, packs_a, threads: int) -> Blocks:
    if is_plain(m):
        return blocks(m, k, n, a_transposed, packs_a, threads)
    from footprint.predict.many.blocks import blocks_of_each

    return blocks_of_each(m, k, n, a_transposed, packs_a, threads)


def _packed_row(depth):
    row = _round_up(depth, LINE)
    return where((row >= BIG_ROW) & _is_power_of_two(row), row + LINE, row)


def _round_up(a, b: int):
    return -(-a // b) * b


def _is_power_of_two(a):
    return a & (a - 1) == 0
