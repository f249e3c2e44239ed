"""Live bytes over one training step, point by point: what a measurement saw and what the shadow program predicts."""

import csv
import io
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import accumulate, groupby, pairwise
from pathlib import Path

from footprint.files import write_atomically
from footprint.spec.columns import PHASES

SAMPLES = 400
"""Points of each phase that a stored timeline has; a plot shows no more."""


@dataclass(frozen=True, slots=True)
class Point:
    """Live bytes of each bucket after one allocator event (or between two, in a prediction)."""

    phase: str
    """`forward`, `backward` or `step`; `between` for what happens outside, such as dropping the gradients."""
    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Live bytes."""
        return self.weights + self.gradients + self.optimizer + self.activations


COLUMNS = tuple(field.name for field in fields(Point))


def sampled(points: Sequence[Point], samples: int = SAMPLES) -> list[Point]:
    """`samples` points of every phase, by how much it has allocated and released until then: sample i is the highest
    point between shares i and i + 1 of those bytes.

    Two records of one step lie on each other in this measure, though one has more events than the other. Of a phase in
    which nothing happened all samples are its first point. No peak is lost; what happens between phases is left out.
    """
    found = []
    for phase, group in groupby(points, key=lambda point: point.phase):
        if phase in PHASES:
            of_phase = list(group)
            found += [of_phase[index] for index in samples_of([point.total for point in of_phase], samples)]
    return found


def samples_of(totals: Sequence[int], samples: int = SAMPLES) -> Iterator[int]:
    """Which points of one phase are its samples, from the live bytes of each point."""
    moved = list(accumulate((abs(after - before) for before, after in pairwise(totals)), initial=0))
    starts = [bisect_left(moved, -(-share * moved[-1] // samples)) for share in range(samples)]
    latest = 0
    for start, end in pairwise([*starts, len(totals)]):
        if start < end:  # one large tensor spans several samples: what was live before stays so
            latest = start + totals[start:end].index(max(totals[start:end]))
        yield latest


def write_timeline(path: Path, points: Sequence[Point]) -> None:
    """Write a timeline as CSV, bytes, one row per point; a header alone when there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(astuple(point) for point in points)
    write_atomically(path, text.getvalue())


def read_timeline(path: Path) -> list[Point]:
    """What `write_timeline` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [Point(row.pop("phase"), **{k: int(v) for k, v in row.items()}) for row in csv.DictReader(file)]
