"""The algebra of live bytes: what a stretch of events adds, and how high it reaches, in sequence and in repetition."""

from dataclasses import dataclass

import numpy as np

Bytes = np.ndarray
"""int64, one entry per run."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The effect of consecutive events on live bytes, seen from where they start."""

    delta: Bytes
    """Bytes more at the end than at the start."""
    gradients: Bytes
    """The part of `delta` that is parameter gradients."""
    hump: Bytes
    """Highest point above the start; the start itself counts, so it is never negative."""
    gradients_at_hump: Bytes
    """Parameter gradients gained since the start when the hump is first reached."""

    def then(self, other: "Profile") -> "Profile":
        """This stretch followed by another."""
        reached = self.delta + other.hump
        later = reached > self.hump
        return Profile(
            self.delta + other.delta,
            self.gradients + other.gradients,
            np.where(later, reached, self.hump),
            np.where(later, self.gradients + other.gradients_at_hump, self.gradients_at_hump),
        )

    def times(self, count: Bytes) -> "Profile":
        """This stretch `count` times over: each round starts `delta` higher, so the first or last is highest."""
        rounds_before_highest = np.where(self.delta > 0, np.maximum(count - 1, 0), 0)
        some = count > 0
        return Profile(
            count * self.delta,
            count * self.gradients,
            np.where(some, rounds_before_highest * self.delta + self.hump, 0),
            np.where(some, rounds_before_highest * self.gradients + self.gradients_at_hump, 0),
        )


def nothing(runs: int) -> Profile:
    """No events."""
    zero = np.zeros(runs, dtype=np.int64)
    return Profile(zero, zero, zero, zero)


def profile(steps: Bytes, gradients: np.ndarray) -> Profile:
    """The profile of some events: bytes gained by each event (rows) in each run (columns), and which are gradients."""
    live = steps.cumsum(axis=0)
    highest = live.argmax(axis=0)
    column = np.arange(live.shape[1])
    hump = live[highest, column]
    zero = np.zeros_like(hump)
    if not gradients.any():
        return Profile(live[-1], zero, np.maximum(hump, 0), zero)
    collected = np.where(gradients[:, None], steps, 0).cumsum(axis=0)
    at_hump = np.where(hump > 0, collected[highest, column], 0)
    return Profile(live[-1], collected[-1], np.maximum(hump, 0), at_hump)
