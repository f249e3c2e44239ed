"""Live bytes over one training step, point by point: what a measurement saw and what the shadow program predicts."""

import csv
import io
from collections.abc import Sequence
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
    return [
        sample
        for phase, group in groupby(points, key=lambda point: point.phase)
        if phase in PHASES
        for sample in _samples(list(group), samples)
    ]


def _samples(points: Sequence[Point], samples: int) -> list[Point]:
    moves = (abs(after.total - before.total) for before, after in pairwise(points))
    moved = list(accumulate(moves, initial=0))
    found: list[Point | None] = [None] * samples
    latest = points[0]
    for point, until in zip(points, moved, strict=True):
        place = min(samples - 1, until * samples // max(1, moved[-1]))
        if found[place] is None or point.total > found[place].total:
            found[place] = point
    for place, point in enumerate(found):  # one large tensor spans several samples: what was live before stays so
        latest = found[place] = point or latest
    return found


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
