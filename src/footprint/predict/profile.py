"""The algebra of live bytes: what a stretch of events adds, and how high it reaches, in sequence and in repetition."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from footprint.predict.arithmetic import maximum, where

Bytes = Any
"""An int of one run, or an int64 array with one entry per run."""


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
            where(later, reached, self.hump),
            where(later, self.gradients + other.gradients_at_hump, self.gradients_at_hump),
        )

    def times(self, count: Bytes) -> "Profile":
        """This stretch `count` times over: each round starts `delta` higher, so the first or last is highest."""
        rounds_before_highest = where(self.delta > 0, maximum(count - 1, 0), 0)
        some = count > 0
        return Profile(
            count * self.delta,
            count * self.gradients,
            where(some, rounds_before_highest * self.delta + self.hump, 0),
            where(some, rounds_before_highest * self.gradients + self.gradients_at_hump, 0),
        )


NOTHING = Profile(0, 0, 0, 0)
"""No events."""


def profile(steps: Sequence[int], gradients: Sequence[bool]) -> Profile:
    """The profile of some events of one run: bytes gained by each, and which of them are parameter gradients."""
    live = collected = hump = at_hump = 0
    for step, is_gradient in zip(steps, gradients, strict=True):
        live += step
        if is_gradient:
            collected += step
        if live > hump:
            hump, at_hump = live, collected
    return Profile(live, collected, hump, at_hump)
