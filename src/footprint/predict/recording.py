"""The events of one step of a structure, by piece, ready to be evaluated for any number of runs."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from footprint.predict.formula import Evaluation, Formula
from footprint.predict.profile import Profile, profile
from footprint.predict.shadow import GRADIENTS, Event, Size


class Recording:
    """Sizes are formulas of the runs' dimensions, or numbers."""

    def __init__(self, events: Sequence[Event]) -> None:
        pieces: dict[tuple[str, str], list[Event]] = defaultdict(list)
        for event in events:
            pieces[event.piece].append(event)
        rows: dict[Size, int] = {}
        self._pieces = {piece: _Piece(events, rows) for piece, events in pieces.items()}
        self._sizes = tuple(rows)

    @property
    def formulas(self) -> list[Formula]:
        """The sizes that differ between runs."""
        return [size for size in self._sizes if isinstance(size, Formula)]

    def profiles(self, evaluation: Evaluation, runs: np.ndarray) -> dict[tuple[str, str], Profile]:
        """The profile of every piece for some of the runs."""
        sizes = np.empty((len(self._sizes), len(runs)), dtype=np.int64)
        for row, size in enumerate(self._sizes):
            sizes[row] = evaluation.of(size)[runs] if isinstance(size, Formula) else size
        return {piece: profile(sizes[events.rows] * events.signs, events.gradients) for piece, events in self._pieces.items()}


class _Piece:
    def __init__(self, events: Sequence[Event], rows: dict[Size, int]) -> None:
        self.rows = np.array([rows.setdefault(event.size, len(rows)) for event in events])
        self.signs = np.array([[event.sign] for event in events])
        self.gradients = np.array([event.kind == GRADIENTS for event in events])
