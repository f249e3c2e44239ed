"""The algebra of live bytes: what a stretch of events adds, and how high it reaches, in sequence and in repetition."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from footprint.predict.shadow import GRADIENTS, Event

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
        """This stretch `count` times over. Each round starts `delta` higher, so the first or the last is the highest."""
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


def profile(events: Sequence[Event], runs: int) -> Profile:
    """The profile of some events of a group of `runs` runs."""
    if not events:
        return nothing(runs)
    steps = np.empty((len(events) + 1, runs), dtype=np.int64)
    steps[0] = 0
    for row, event in enumerate(events, start=1):
        steps[row] = event.size if event.sign > 0 else -event.size
    gradient_rows = np.array([False] + [event.kind == GRADIENTS for event in events])
    live = steps.cumsum(axis=0)
    gradients = np.where(gradient_rows[:, None], steps, 0).cumsum(axis=0)
    highest = live.argmax(axis=0)
    column = np.arange(runs)
    return Profile(live[-1], gradients[-1], live[highest, column], gradients[highest, column])
