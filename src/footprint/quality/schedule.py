"""How the learning rate moves over a training: a short warm-up, then half a cosine. Torch-free."""

from collections.abc import Callable
from math import cos, pi

WARMUP = 0.05
"""Part of the steps in which the rate rises."""

LOWEST = 0.1
"""The rate of the last step as a fraction of the highest (Hoffmann et al. 2022, arXiv:2203.15556, decay tenfold)."""


def warmup_then_cosine(steps: int, first: int = 0) -> Callable[[int], float]:
    """Fraction of the highest rate at each step, for a training of `steps` that goes on from step `first`."""
    warmup = max(1, round(WARMUP * steps))

    def fraction(step: int) -> float:
        done = first + step
        if done < warmup:
            return (done + 1) / warmup
        progress = min(1.0, (done - warmup) / max(1, steps - warmup))
        return LOWEST + (1 - LOWEST) * (1 + cos(pi * progress)) / 2

    return fraction
