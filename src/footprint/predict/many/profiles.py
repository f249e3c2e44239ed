"""The profiles of many runs that share a structure."""

from functools import cache

import numpy as np

from footprint.predict.formula import Formula
from footprint.predict.many.evaluation import Evaluations
from footprint.predict.pieces import Piece, Recording
from footprint.predict.profile import Profile


def profiles_of_many(recording: Recording, evaluation: Evaluations, runs: np.ndarray) -> dict[Piece, Profile]:
    """The profile of every piece for some of the runs, given by their indices."""
    sizes = np.empty((len(recording.sizes), len(runs)), dtype=np.int64)
    for row, size in enumerate(recording.sizes):
        sizes[row] = evaluation.of(size)[runs] if isinstance(size, Formula) else size
    return {
        piece: _profile(sizes[rows] * signs, gradients)
        for piece, (rows, signs, gradients) in _pieces(recording).items()
    }


@cache
def _pieces(recording: Recording) -> dict[Piece, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The events of every piece as arrays, signs in one column."""
    return {
        piece: (np.array(rows), np.array(signs)[:, None], np.array(gradients))
        for piece, (rows, signs, gradients) in recording.pieces.items()
    }


def _profile(steps: np.ndarray, gradients: np.ndarray) -> Profile:
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
