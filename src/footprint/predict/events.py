"""What happens in a run, stretch by stretch, and how high requested bytes rise in each."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, chain, compress, groupby, pairwise
from operator import itemgetter

from footprint.predict.tape import Tape
from footprint.predict.unroll import Body, Few, Round, Unrolled
from footprint.spec.columns import BUCKET_OF, PHASES
from footprint.spec.timeline import samples_of

NO_PHASE = "between"

PHASE_OF = {name: name for name in ("build", "forward", "step", NO_PHASE)} | {"after forward": "forward"}
"""The phase of each pass that is not one of backward's."""

Sort = tuple[int, str, str]
"""Bytes, kind and name that some tensors share."""

Kinds = dict[str, int]
"""Bytes of each key of `BUCKET_OF`."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive events of one phase."""

    phase: str
    rounds: list[Round]

    def passing(self) -> "Stretch":
        """The events of tensors that are given back."""
        passing = cache(Body.passing)
        rounds = [Round(passing(one.body), one.places) if any(one.body.lasting) else one for one in self.rounds]
        return Stretch(self.phase, [one for one in rounds if one.body.sorts])


@dataclass(frozen=True, slots=True)
class Events:
    """All that happens in a run."""

    build: Stretch
    first: list[list[Stretch]]
    """Of the first steps, one by one."""
    later: list[Stretch]
    """Of every other: what outlives the last of them exists already."""

    def step(self, number: int) -> list[Stretch]:
        """Those of a step, counted from 0."""
        return self.first[number] if number < len(self.first) else self.later


def events_of(tape: Tape, shown: Few) -> Events:
    """What happens in a run of many blocks, from the tape of a few."""
    rounds = Unrolled(tape, shown, lambda pass_: PHASE_OF.get(pass_, "backward")).rounds()
    build, *stretches = [Stretch(phase, [one for _, one in some]) for phase, some in groupby(rounds, itemgetter(0))]
    starts = [index for index, stretch in enumerate(stretches) if stretch.phase == "forward"]
    first = [stretches[start:stop] for start, stop in pairwise([0, *starts[1:], len(stretches)])]
    return Events(build, first, [stretch.passing() for stretch in first[-1]])


def before(events: Events, sorts: Sequence[Sort], step: int) -> Kinds:
    """Requested bytes of each kind when a step begins, counted from 0."""
    kept: Counter[int] = Counter()
    for one in (one for stretch in (events.build, *chain(*events.first[:step])) for one in stretch.rounds):
        for sort in compress(one.body.sorts, one.body.lasting):
            kept[sort] += len(one.places)
    return dict.fromkeys(BUCKET_OF, 0) | _added(kept, sorts)


def requested(events: Events, sorts: Sequence[Sort], step: int) -> Iterator[tuple[int, Kinds]]:
    """The highest requested bytes of every stretch of a step, counted from 0, and those of each kind there.

    A round that adds bytes is highest in its last place, any other in its first.
    """
    gained = _gained(sorts)

    @cache
    def heights(body: Body) -> list[int]:
        return list(accumulate(map(gained.__getitem__, body.sorts)))

    @cache
    def added(body: Body) -> Kinds:
        return _added(Counter(body.sorts), sorts)

    kinds = before(events, sorts, step)
    live = sum(kinds.values())
    for stretch in events.step(step):
        highest, there = live, kinds
        for one in stretch.rounds:
            body, times, above = one.body, len(one.places), heights(one.body)
            earlier = times - 1 if above[-1] > 0 else 0
            top = max(above)
            if live + earlier * above[-1] + top > highest:
                highest = live + earlier * above[-1] + top
                to_top = Counter(body.sorts[: above.index(top) + 1])
                there = _plus(_plus(kinds, added(body), earlier), _added(to_top, sorts))
            live += times * above[-1]
            kinds = _plus(kinds, added(body), times)
        yield highest, there


def sampled(events: Events, sorts: Sequence[Sort], step: int, samples: int) -> Iterator[tuple[str, Kinds]]:
    """Phase and requested bytes of each kind at every sample of a step, as `spec.timeline` has them."""
    gained = _gained(sorts)
    kinds = before(events, sorts, step)
    for stretch in events.step(step):
        happened = [sort for one in stretch.rounds for sort in one.body.sorts * len(one.places) if gained[sort]]
        if stretch.phase in PHASES and not happened:
            yield from ((stretch.phase, kinds) for _ in samples_of([0], samples))
        elif stretch.phase in PHASES:
            _, *totals = accumulate(map(gained.__getitem__, happened), initial=sum(kinds.values()))
            there, seen = kinds, 0
            for index in samples_of(totals, samples):
                there, seen = _plus(there, _added(Counter(happened[seen : index + 1]), sorts)), index + 1
                yield stretch.phase, there
        kinds = _plus(kinds, _added(Counter(happened), sorts))


def _gained(sorts: Sequence[Sort]) -> list[int]:
    """Bytes that an event adds, by its sort."""
    made = [size for size, _, _ in sorts]
    return [*made, *(-size for size in reversed(made))]  # so that complements find theirs


def _added(events: Counter[int], sorts: Sequence[Sort]) -> Kinds:
    """Bytes of each kind that some events add, from how often each sort is among them."""
    added: Counter[str] = Counter()
    for sort, times in events.items():
        size, kind, _ = sorts[sort if sort >= 0 else ~sort]
        added[kind] += times * (size if sort >= 0 else -size)
    return dict(added)


def _plus(kinds: Kinds, added: Mapping[str, int], times: int = 1) -> Kinds:
    return kinds | {kind: kinds[kind] + times * size for kind, size in added.items()}
