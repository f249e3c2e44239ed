"""When bitsandbytes multiplies by a 4-bit matrix as it is, and when it first makes a dense one of it.

Which is faster was measured by its authors on many cards. Here is what they found, as of bitsandbytes 0.50.2
(backends/cuda/ops.py): the most tokens for which the matrix stays as it is, by how many times the 64-column blocks of
the result fill the card's multiprocessors.
"""

from fractions import Fraction

from footprint.predict.parameters import NF4_BLOCK

ALWAYS, MOST = 4, 1536
"""Up to so many tokens the matrix is never made dense; beyond so many it always is."""

ONE_BY_ONE = 7
"""The most tokens for the kernel without tensor cores."""

SMALL_MATRIX = 4 * 2**20
"""Elements from which on a matrix is not small."""

NEVER = 0

HBM = (8, 0), (9, 0)
"""Generations with stacked memory that share rules."""


def multiplies_packed(
    generation: tuple[int, int], multiprocessors: int, half: str, tokens: int, d_in: int, d_out: int
) -> bool:
    """Whether a (tokens, d_in) @ (d_in, d_out) product takes the packed matrix; `half` is bf16, fp16 or fp32."""
    if tokens > MOST or d_in % NF4_BLOCK:
        return False
    if tokens <= ALWAYS:
        return True
    if half == "fp32" or generation < (7, 5) or (generation < (8, 0) and half != "fp16"):
        return tokens <= ONE_BY_ONE
    if generation == (8, 7) or generation[0] == 11:
        return False
    blocks = -(-d_out // 64)
    waves = Fraction(blocks, multiprocessors)
    half_full = blocks >= multiprocessors // 2
    if generation[0] == 10:
        return tokens <= (32 if waves >= 3 else 8 if waves >= 1 and d_in < d_out else NEVER)
    if d_in * d_out < SMALL_MATRIX:
        return tokens <= _small(generation, multiprocessors, tokens, d_in, d_out)
    if tokens <= ONE_BY_ONE:
        return not (generation in HBM and tokens >= 6 and _six_are_too_many(generation, blocks, waves, d_in, d_out))
    return tokens <= _large(generation, multiprocessors, blocks, waves, half_full, d_in, d_out)


def _six_are_too_many(generation: tuple[int, int], blocks: int, waves: Fraction, d_in: int, d_out: int) -> bool:
    """Six or seven tokens on stacked memory, where a dense matrix is faster."""
    if blocks < (36 if generation == (9, 0) else 48) or d_in < d_out or waves >= Fraction(3, 4):
        return False
    if d_in > d_out:
        return True
    return waves < Fraction(3, 5) if generation == (8, 0) else waves >= Fraction(3, 5)


def _small(generation: tuple[int, int], multiprocessors: int, tokens: int, d_in: int, d_out: int) -> int:
    """The most tokens for a small matrix."""
    blocks = -(-d_out // 64)
    waves = Fraction(blocks, multiprocessors)
    if 2 * d_in < d_out:
        if generation == (8, 0):
            return 1536 if waves < Fraction(1, 3) else 512
        if generation == (9, 0):
            return 512 if waves < Fraction(1, 3) else 320
        if generation == (7, 5):
            return 320 if waves >= 3 or d_in < 704 else 96 if d_in < 1024 else 64
        return 192 if waves < 1 and blocks * d_in > multiprocessors * 320 else 320
    if generation == (8, 0) and waves <= Fraction(1, 4):
        return 384 if d_in < d_out else 32 if waves <= Fraction(1, 8) else 128
    if generation == (7, 5) and waves < 1 and tokens > 8:
        return 64
    if waves <= Fraction(1, 4):
        return 32 if d_in < d_out or generation in HBM else 23
    return 16 if waves <= Fraction(1, 2) else NEVER


def _large(
    generation: tuple[int, int],
    multiprocessors: int,
    blocks: int,
    waves: Fraction,
    half_full: bool,
    d_in: int,
    d_out: int,
) -> int:
    """The most tokens, from eight on, for a matrix that is not small."""
    if generation == (7, 5):
        return (128 if d_in < d_out else 64) if waves >= 3 else 64 if half_full else 32
    if generation == (8, 0):
        return _large_on_a100(blocks, waves, half_full, d_in, d_out)
    if generation == (8, 6):
        return 128 if waves >= 1 else 64 if half_full else 16
    if generation == (9, 0):
        if waves >= 1:
            return 64 if waves >= 3 else 48 if waves >= 2 else 32
        return 16 if half_full and (d_in < d_out or waves >= Fraction(3, 4)) else NEVER
    if generation == (12, 1) and waves >= 1:
        return 256
    if waves >= 2:
        return 256 if waves >= 3 else 128
    tall = d_in > 2 * d_out
    if generation == (12, 0):
        if waves >= Fraction(4, 5):
            return 96 if d_in >= d_out else 64
        if half_full:
            return 64 if 2 * d_in >= d_out and blocks >= 128 else 8
        return 16 if tall and blocks > 64 else 8
    if waves >= Fraction(4, 5):
        if tall or blocks >= 200:
            return 128
        return 64 if d_in < d_out else 128 if multiprocessors >= 60 else 32
    if half_full:
        return 64 if tall else 8 if blocks >= 64 else 32
    if d_in > d_out and blocks <= 48:
        return 12 if d_in >= 3 * d_out else 10
    return 16 if tall or blocks < 48 else 8


def _large_on_a100(blocks: int, waves: Fraction, half_full: bool, d_in: int, d_out: int) -> int:
    if waves >= 3:
        return 128
    if waves >= 1:
        return 64 if d_in < d_out else 32
    if d_in >= 3 * d_out and waves > Fraction(1, 4):
        return NEVER
    if d_in == d_out and blocks >= 48 and waves < Fraction(3, 5):
        return NEVER
    if waves < Fraction(1, 2) and d_in <= d_out:
        return 128
    if Fraction(1, 3) <= waves < Fraction(1, 2):
        return NEVER
    return 128 if half_full and d_in < d_out else 16
