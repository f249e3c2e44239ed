"""A tape of many equal segments from that of a few: the shadow of a deep model need not run every block.

Blocks in the middle of a model do the same one after another. So the shadow runs two from the beginning of such a row,
two from its end and one for all between; what that one does is repeated, each time with tensors of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from footprint.predict.tape import Tape

AT_ENDS = 2
"""Segments at each end of a row of equal ones that are run themselves."""


@dataclass(frozen=True, slots=True)
class Few:
    """A few segments that stand for many."""

    lengths: tuple[int, ...]
    """Blocks of each."""
    times: tuple[int, ...]
    """How many each stands for: 1, or more for one in the middle of its row."""


def few(lengths: Sequence[int]) -> Few:
    """The segments that stand for those of these lengths."""
    kept, times = [], []
    for length, row in groupby(lengths):
        count = len(list(row))
        more = max(1, count - 2 * AT_ENDS)
        row_times = [1] * AT_ENDS + [more] + [1] * AT_ENDS if more > 1 else [1] * count
        kept += [length] * len(row_times)
        times += row_times
    return Few(tuple(kept), tuple(times))


def unroll(tape: Tape, shown: Few) -> Tape:
    """The tape of all segments, from that of a few."""
    if max(shown.times) == 1:
        return tape
    return _Unrolled(tape, shown).tape


class _Unrolled:
    """Repeats what a segment does. A tensor belongs to the segment whose part of a pass made it, or to none."""

    def __init__(self, tape: Tape, shown: Few) -> None:
        self._given, self._times = tape, shown.times
        segment_of = [segment for segment, length in enumerate(shown.lengths) for _ in range(length)]
        segment_of_part = {f"block {block}": segment for block, segment in enumerate(segment_of)}
        segments = [segment_of_part.get(part) for _, part in tape.pieces]
        self._owner: dict[int, int | None] = {}
        self._place: dict[int, int] = {}
        """Of each tensor: its segment, and how many that segment has made before it."""
        self._sorts: dict[int | None, list[int]] = {None: []} | {segment: [] for segment in range(len(self._times))}
        for number, segment in zip(tape.numbers, segments, strict=True):
            if number > 0:
                self._owner[number], self._place[number] = segment, len(self._sorts[segment])
                self._sorts[segment].append(tape.sort_of[number - 1])
        # What is given back outside every segment counts for the one that made it.
        self._segments = [
            self._owner[-number] if segment is None and number < 0 else segment
            for number, segment in zip(tape.numbers, segments, strict=True)
        ]
        self.tape = self._made()

    def _made(self) -> Tape:
        made = Tape()
        made.recording = False
        for name, kind, size in self._given.sorts:
            made.allocate(name, kind, size)  # so that sorts keep their numbers
        made.sort_of = list(self._sorts[None])
        first = [0]  # tensors before those of each segment, in the order of all segments
        for segment, times in enumerate(self._times):
            for _ in range(times):
                first.append(len(made.sort_of))
                made.sort_of += self._sorts[segment]
        first.append(len(made.sort_of))
        for events, segment, places in self._runs():
            numbers = self._given.numbers[events.start : events.stop]
            pieces = self._given.pieces[events.start : events.stop]
            moves = [(1 if n > 0 else -1, self._place[abs(n)] + 1, self._away(segment, abs(n))) for n in numbers]
            for place in places:
                start = {None: 0, -1: first[place], 0: first[place + 1], 1: first[place + 2]}
                made.numbers += [sign * (start[away] + number) for sign, number, away in moves]
                made.pieces += pieces
        return made

    def _runs(self) -> Iterator[tuple[range, int | None, range]]:
        """Events of one segment side by side, which segment, and where it stands among all, in the order it runs there.

        Events of no segment happen once.
        """
        start_of = [sum(self._times[:segment]) for segment in range(len(self._times))]
        runs, start = [], 0
        for segment, events in groupby(self._segments):
            end = start + len(list(events))
            runs.append((range(start, end), segment))
            start = end
        for index, (events, segment) in enumerate(runs):
            if segment is None:
                yield events, None, range(1)
                continue
            times = self._times[segment]
            places = range(start_of[segment], start_of[segment] + times)
            if times > 1:
                neighbours = runs[index - 1][1], runs[index + 1][1]
                if neighbours == (segment + 1, segment - 1):
                    places = places[::-1]
                elif neighbours != (segment - 1, segment + 1):
                    raise AssertionError(f"segment {segment} runs between {neighbours}")
            yield events, segment, places

    def _away(self, segment: int | None, tensor: int) -> int | None:
        """How many segments on the owner of a tensor stands; None where it has none."""
        owner = self._owner[tensor]
        if owner is None:
            return None
        if segment is None or abs(owner - segment) > 1:
            raise AssertionError(f"segment {segment} meets a tensor of segment {owner}")
        return owner - segment
