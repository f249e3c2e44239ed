"""Live bytes over one training step, point by point: what a measurement saw and what the shadow program predicts."""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from footprint.files import write_atomically

MOST_POINTS = 2000
"""Points a stored timeline may have; a plot shows no more."""


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


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most about `most` points in order, with the highest and the lowest of every stretch kept: no peak is lost."""
    if len(points) <= most:
        return list(points)
    stretch = -(-2 * len(points) // most)
    kept: list[Point] = []
    for start in range(0, len(points), stretch):
        window = range(start, min(start + stretch, len(points)))
        extremes = {min(window, key=lambda i: points[i].total), max(window, key=lambda i: points[i].total)}
        kept += [points[i] for i in sorted(extremes)]
    return kept


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
