"""The events of one step of a structure, by piece, ready to be evaluated for any number of runs."""

from collections import defaultdict

import numpy as np

from footprint.predict.formula import Evaluation, Formula
from footprint.predict.profile import Profile, profile
from footprint.predict.tape import GRADIENTS, Size, Tape

Piece = tuple[str, str]


class Recording:
    """A tape sorted by piece. Its sizes are formulas of the runs' dimensions, or numbers."""

    def __init__(self, tape: Tape) -> None:
        rows: dict[Size, int] = {}
        row_of_sort = np.array([rows.setdefault(size, len(rows)) for _, _, size in tape.sorts])
        is_gradient = np.array([kind == GRADIENTS for _, kind, _ in tape.sorts])
        self._sizes = tuple(rows)
        sort_of = np.array(tape.sort_of)
        by_piece: dict[Piece, list[int]] = defaultdict(list)
        for piece, number in zip(tape.pieces, tape.numbers, strict=True):
            by_piece[piece].append(number)
        self._pieces: dict[Piece, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        """For every event of a piece: the row of its size, its sign, whether it is a gradient."""
        for piece, numbers in by_piece.items():
            sorts = sort_of[np.abs(numbers) - 1]
            self._pieces[piece] = row_of_sort[sorts], np.sign(numbers)[:, None], is_gradient[sorts]

    @property
    def formulas(self) -> list[Formula]:
        """The sizes that differ between runs."""
        return [size for size in self._sizes if isinstance(size, Formula)]

    def profiles(self, evaluation: Evaluation, runs: np.ndarray) -> dict[Piece, Profile]:
        """The profile of every piece for some of the runs."""
        sizes = np.empty((len(self._sizes), len(runs)), dtype=np.int64)
        for row, size in enumerate(self._sizes):
            sizes[row] = evaluation.of(size)[runs] if isinstance(size, Formula) else size
        return {
            piece: profile(sizes[rows] * signs, gradients) for piece, (rows, signs, gradients) in self._pieces.items()
        }
