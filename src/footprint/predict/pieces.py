"""The events of one step of a structure, by piece, ready to be evaluated for one run or for many."""

from collections import defaultdict

from footprint.predict.formula import Evaluation, Formula
from footprint.predict.profile import Profile, profile
from footprint.predict.tape import GRADIENTS, Size, Tape

Piece = tuple[str, str]


class Recording:
    """A tape sorted by piece. Its sizes are formulas of the runs' dimensions, or numbers."""

    def __init__(self, tape: Tape) -> None:
        rows: dict[Size, int] = {}
        row_of_sort = [rows.setdefault(size, len(rows)) for _, _, size in tape.sorts]
        is_gradient = [kind == GRADIENTS for _, kind, _ in tape.sorts]
        self.sizes: tuple[Size, ...] = tuple(rows)
        """Every size there is."""
        self.pieces: dict[Piece, tuple[list[int], list[int], list[bool]]] = defaultdict(lambda: ([], [], []))
        """For every event of a piece: the row of its size, its sign, whether it is a gradient."""
        for piece, number in zip(tape.pieces, tape.numbers, strict=True):
            sort = tape.sort_of[abs(number) - 1]
            rows_, signs, gradients = self.pieces[piece]
            rows_.append(row_of_sort[sort])
            signs.append(1 if number > 0 else -1)
            gradients.append(is_gradient[sort])

    @property
    def formulas(self) -> list[Formula]:
        """The sizes that differ between runs."""
        return [size for size in self.sizes if isinstance(size, Formula)]

    def profiles(self, evaluation: Evaluation) -> dict[Piece, Profile]:
        """The profile of every piece for one run."""
        sizes = [evaluation.of(size) for size in self.sizes]
        return {
            piece: profile([sizes[row] * sign for row, sign in zip(rows, signs, strict=True)], gradients)
            for piece, (rows, signs, gradients) in self.pieces.items()
        }
