"""Gradient checkpointing as a partition of the blocks into segments; each segment is recomputed as one."""

from math import isqrt

CHECKPOINTING = ("none", "block", "sqrt")


def segment_lengths(layers: int, checkpointing: str) -> tuple[int, ...]:
    """How many consecutive blocks each checkpointed segment holds; empty when nothing is recomputed.

    `block` makes every block a segment; `sqrt` makes about sqrt(layers) segments of nearly equal length
    (Chen et al. 2016, arXiv:1604.06174), longer ones first.
    """
    if checkpointing == "none":
        return ()
    if checkpointing == "block":
        return (1,) * layers
    segments = max(1, round(layers**0.5)) if isqrt(layers) ** 2 != layers else isqrt(layers)
    quotient, remainder = divmod(layers, segments)
    return (quotient + 1,) * remainder + (quotient,) * (segments - remainder)
