"""A run of many blocks from that of a few: the shadow of a deep model need not run every block.

Blocks in the middle of a model do the same one after another, and so do checkpointed segments of one length. So the
shadow runs the first of them, the last, and one for all between; what that one does is repeated, each time with tensors
of its own.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby, pairwise
from operator import itemgetter, mul

from footprint.predict.tape import Tape


@dataclass(frozen=True, slots=True)
class Few:
    """A few segments of a few blocks that stand for many."""

    lengths: tuple[int, ...]
    """Blocks of each segment."""
    times: tuple[int, ...]
    """How many each segment stands for."""
    blocks: tuple[int, ...]
    """How many blocks of its segment each block stands for."""

    @property
    def of_all(self) -> tuple[int, ...]:
        """How many blocks of all each block stands for."""
        segments = (times for times, length in zip(self.times, self.lengths, strict=True) for _ in range(length))
        return tuple(map(mul, segments, self.blocks))


def few(lengths: Sequence[int], ends: int = 1) -> Few:
    """The segments that stand for those of these lengths: so many at each end, one for each row of equal ones between.

    Of the blocks of a segment so many at each end, and one for all between.
    """
    first, between, last = lengths[:ends], groupby(lengths[ends:-ends]), lengths[ends:][-ends:]
    rows = [(length, 1) for length in first]
    rows += [(length, len(list(row))) for length, row in between]
    rows += [(length, 1) for length in last]
    alone = (1,) * ends
    blocks = [(1,) * length if length <= 2 * ends else (*alone, length - 2 * ends, *alone) for length, _ in rows]
    return Few(tuple(map(len, blocks)), tuple(times for _, times in rows), sum(blocks, ()))


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """Events side by side, of one block or of none."""

    tensors: list[int]
    """The tensor of every event, counted from the place of its block."""
    sorts: list[int]
    """The sort of a tensor that is made; of one that is given back its complement."""
    lasting: list[bool]
    """Whether the tensor is not made and given back in one step."""

    def passing(self) -> "Body":
        """The events of tensors that are made and given back in one step."""
        events = zip(self.tensors, self.sorts, self.lasting, strict=True)
        kept = [(tensor, sort) for tensor, sort, lasting in events if not lasting]
        return Body([tensor for tensor, _ in kept], [sort for _, sort in kept], [False] * len(kept))


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """A body and the places where it happens one after another; place and tensor add up to a tensor's number."""

    body: Body
    places: list[int]


class Unrolled:
    """Repeats what a block does. A tensor belongs to the block whose part of a pass made it, or to none."""

    def __init__(self, tape: Tape, shown: Few, phase_of: Callable[[str], str]) -> None:
        self._sort_of, self._shown = tape.sort_of, shown
        self._segment_of = [segment for segment, length in enumerate(shown.lengths) for _ in range(length)]
        rows = [list(row) for _, row in groupby(zip(self._segment_of, shown.blocks, strict=True), itemgetter(0))]
        self._lengths = [sum(times for _, times in row) for row in rows]
        """Blocks of the segments that each segment stands for."""
        self._starts = list(accumulate(map(mul, self._lengths, shown.times), initial=0))
        """Blocks before each segment."""
        self._before = [before for row in rows for before in accumulate((t for _, t in row[:-1]), initial=0)]
        """Blocks before each block in its segment."""
        self._owner: list[int | None] = [None] * (len(tape.sort_of) + 1)
        self._within = [0] * (len(tape.sort_of) + 1)
        """Of each tensor: its block, and which of that block's it is."""
        self._apart = 0
        """From the place of one block to that of the next; what belongs to no block is at place 0."""
        self._runs = self._met(tape, phase_of)
        bounds = pairwise([0, *tape.steps, len(tape.numbers)])
        spans = [set(tape.numbers[start:stop]) for start, stop in bounds]
        self._lasting = {abs(number) for span in spans for number in span if -number not in span}

    def _met(self, tape: Tape, phase_of: Callable[[str], str]) -> list[tuple[str, int | None, list[int]]]:
        """Learn what every tensor is; returns events side by side in one phase and one block, or outside all blocks.

        Tensors of two blocks are alike if one pass of a step made both, if they are of one sort, and if as many of that
        sort are made in it after them: what a block leaves to the next comes last. What is given back outside every
        block counts for the one that made it.
        """
        block_of_part = {f"block {block}": block for block in range(len(self._segment_of))}
        owner, within, sort_of = self._owner, self._within, tape.sort_of
        made: list[tuple[tuple[int, str], int | None, list[int]]] = []
        runs: list[tuple[str, int | None, list[int]]] = []
        happened = 0
        for (pass_, part), events in groupby(tape.pieces):
            step, start = bisect_right(tape.steps, happened), happened
            happened += sum(1 for _ in events)
            block, some = block_of_part.get(part), tape.numbers[start:happened]
            made.append(((step, pass_), block, [number for number in some if number > 0]))
            for number in made[-1][2]:
                owner[number] = block
            of_block = [(block, some)]
            if block is None:
                of_block = [(of, list(run)) for of, run in groupby(some, lambda number: owner[abs(number)])]
            runs += [(phase_of(pass_), of, run) for of, run in of_block]
        known: dict[tuple[tuple[int, str], int, int], int] = {}
        after: dict[tuple[tuple[int, str], int | None], Counter[int]] = defaultdict(Counter)
        for pass_, block, tensors in reversed(made):
            later = after[pass_, block]
            for number in reversed(tensors):
                sort = sort_of[number - 1]
                within[number] = known.setdefault((pass_, sort, later[sort]), len(known))
                later[sort] += 1
        self._apart = len(known)
        joined = groupby(runs, itemgetter(0, 1))
        return [(*where, list(chain.from_iterable(run for *_, run in some))) for where, some in joined]

    def rounds(self) -> Iterator[tuple[str, Round]]:
        """All events of the run in order, and the phase they are of."""
        rows = [list(row) for _, row in groupby(self._runs, lambda run: (run[0], self._segment(run[1])))]
        segments = [self._segment(row[0][1]) for row in rows]
        for row, segment, order in zip(rows, segments, _orders(segments, self._shown.times), strict=True):
            if segment is None:
                phase, _, numbers = row[0]
                yield phase, Round(self._body(None, numbers), [0])
                continue
            starts = [self._starts[segment] + index * self._lengths[segment] for index in order]
            inner = _orders([block for _, block, _ in row], self._shown.blocks)
            bodies = [
                (phase, self._body(block, numbers), [self._before[block] + index for index in order])
                for (phase, block, numbers), order in zip(row, inner, strict=True)
            ]
            for some in [starts] if len(bodies) == 1 else [[start] for start in starts]:
                for phase, body, blocks in bodies:
                    yield phase, Round(body, [self._place(start + block) for start in some for block in blocks])

    def _segment(self, block: int | None) -> int | None:
        return None if block is None else self._segment_of[block]

    def _place(self, block: int) -> int:
        """Of a block of the whole run."""
        return (block + 1) * self._apart

    def _body(self, block: int | None, numbers: Sequence[int]) -> Body:
        owner, within = self._owner, self._within
        tensors = map(abs, numbers)
        return Body(
            [within[n] if owner[n] == block else within[n] + self._away(block, owner[n]) for n in tensors],
            [self._sort_of[n - 1] if n > 0 else ~self._sort_of[-n - 1] for n in numbers],
            [abs(n) in self._lasting for n in numbers],
        )

    def _away(self, block: int, owner: int | None) -> int:
        """From the place of a block to that of the owner of a tensor that it meets.

        Where either stands for many, nothing but blocks of its segment may lie between: then all are equally far away.
        """
        if self._alone(block) and self._alone(owner):
            return self._only_place(owner) - self._only_place(block)
        if owner is not None and abs(self._segment_of[owner] - self._segment_of[block]) <= 1:
            low, high = sorted((block, owner))
            beside = high - low == 1 or self._shown.blocks[block] == 1
            facing = {self._segment_of[between] for between in range(low + 1, high)} <= {self._segment_of[block]}
            if beside and facing:
                blocks = 1 + sum(self._shown.blocks[low + 1 : high])
                return self._apart * (blocks if owner > block else -blocks)
        raise AssertionError(f"block {block} meets a tensor of block {owner}")

    def _alone(self, block: int | None) -> bool:
        """Whether it stands for nothing but itself."""
        return block is None or self._shown.times[self._segment_of[block]] == self._shown.blocks[block] == 1

    def _only_place(self, block: int | None) -> int:
        return 0 if block is None else self._place(self._starts[self._segment_of[block]] + self._before[block])


def _orders(units: Sequence[int | None], times: Sequence[int]) -> Iterator[range]:
    """In which order those run that each unit stands for: what is between its neighbours is done in their order."""
    for before, unit, after in zip([None, *units], units, [*units[1:], None], strict=False):
        if unit is None or times[unit] == 1:
            yield range(1)
        elif (before, after) == (unit - 1, unit + 1):
            yield range(times[unit])
        elif (before, after) == (unit + 1, unit - 1):
            yield range(times[unit])[::-1]
        else:
            raise AssertionError(f"unit {unit} runs between {before} and {after}")
