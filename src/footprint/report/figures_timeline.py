"""Live bytes through one training step: measured buckets under the predicted total, phase by phase."""

from collections.abc import Sequence
from itertools import groupby, pairwise

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from footprint.report.bars import BUCKETS, bucket_key, byte_unit
from footprint.report.selection import NoRunsError, setting
from footprint.report.svg import PALETTE, Drawing
from footprint.report.words import listing, percent
from footprint.timeline import Point
from footprint.units import format_bytes

SPANS = {"forward": (0.0, 1.0), "backward": (1.0, 2.4), "step": (2.4, 3.0)}
"""Where each phase lies on the x axis; measured and predicted events differ in number, so both are stretched to it."""

_PHASE_NAMES = {"forward": "forward", "backward": "backward", "step": "the optimizer step"}

MOST_POINTS = 160
"""Points of one phase a panel draws."""

Timelines = list[tuple[pd.Series, Sequence[Point], Sequence[Point]]]
"""(run, measured points, predicted points); either list may be empty, not both."""


def timeline(timelines: Timelines) -> Drawing:
    """One panel per run: the buckets as measured (as predicted where nothing was kept), the prediction as a line."""
    shown = [entry for entry in timelines if entry[1] or entry[2]]
    if not shown:
        raise NoRunsError("No timeline of a step was kept beside the tables, so there is none to draw.")

    def draw(width: float) -> Figure:
        figure = Figure(figsize=(width, 0.45 + 1.5 * len(shown)))
        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (run, measured, predicted) in zip(panels, shown, strict=True):
            _panel(axes, setting(run), measured, predicted)
        panels[-1].set_xticks([sum(span) / 2 for span in SPANS.values()], list(SPANS))
        panels[-1].tick_params(axis="x", length=0)
        return figure

    alt = "Stacked areas of live bytes by bucket through forward, backward and optimizer step: " + "; ".join(
        f"{setting(run)} rises to {format_bytes(highest(measured or predicted).total)} {_moment(measured or predicted)}"
        for run, measured, predicted in shown
    )
    line = Line2D([], [], color=PALETTE["ink"], linewidth=1, label="predicted total")
    key = bucket_key(*([line] if any(predicted for _, _, predicted in shown) else []))
    return Drawing(_finding(shown), alt + ".", draw, key)


def highest(points: Sequence[Point]) -> Point:
    """The first point with the most live bytes."""
    return max(points, key=lambda point: point.total)


def _panel(axes: Axes, name: str, measured: Sequence[Point], predicted: Sequence[Point]) -> None:
    filled = measured or predicted
    unit, text = byte_unit(highest(filled).total)
    places, points = placed(filled)
    areas = [[getattr(point, bucket) / unit for point in points] for bucket in BUCKETS]
    axes.stackplot(places, areas, colors=[PALETTE[bucket] for bucket in BUCKETS], linewidth=0, edgecolor="none")
    if predicted:
        places_predicted, line = placed(predicted)
        axes.plot(places_predicted, [point.total / unit for point in line], color=PALETTE["ink"], linewidth=0.8)
    for start, _ in list(SPANS.values())[1:]:
        axes.axvline(start, color=PALETTE["muted"], linewidth=0.7, linestyle=(0, (2, 2)))
    top = highest(points)
    axes.plot(places[points.index(top)], top.total / unit, "o", color=PALETTE["ink"], ms=4)
    axes.set(xlim=(0, 3), ylim=(0, 1.12 * top.total / unit), ylabel=text)
    axes.set_title(f"{name}: {format_bytes(top.total)}")


def placed(points: Sequence[Point]) -> tuple[list[float], list[Point]]:
    """Where on the x axis points lie, and which are drawn: evenly over their phase, of neighbours the highest."""
    places: list[float] = []
    kept: list[Point] = []
    for phase, group in groupby((p for p in points if p.phase in SPANS), key=lambda p: p.phase):
        start, end = SPANS[phase]
        few = _outline(list(group))
        places += [start + (end - start) * index / max(1, len(few) - 1) for index in range(len(few))]
        kept += few
    return places, kept


def _outline(points: list[Point]) -> list[Point]:
    """At most MOST_POINTS points of a phase, the highest of each stretch: measured and predicted alike."""
    stretches = min(len(points), MOST_POINTS)
    edges = [index * len(points) // stretches for index in range(stretches + 1)]
    return [highest(points[start:end]) for start, end in pairwise(edges)]


def _moment(points: Sequence[Point]) -> str:
    """When the peak comes, in words: `as backward begins`."""
    top = highest([point for point in points if point.phase in SPANS])
    phase = [point for point in points if point.phase == top.phase]
    share, name = phase.index(top) / len(phase), _PHASE_NAMES[top.phase]
    if share < 0.05:
        return f"as {name} begins"
    return f"as {name} ends" if share > 0.95 else f"{percent(share)} into {name}"


def _finding(timelines: Timelines) -> str:
    points = {setting(run): measured or predicted for run, measured, predicted in timelines}
    moments = {name: _moment(steps) for name, steps in points.items()}
    shares = [highest(steps).activations / highest(steps).total for steps in points.values()]
    if len(set(moments.values())) > 1:
        return "Peaks: " + listing(f"{name} {moment}" for name, moment in moments.items())
    live = listing(percent(share) for share in shares)
    verb = "peaks" if len(points) == 1 else "peak"
    return f"{listing(points)} {verb} {next(iter(moments.values()))}, with {live} of it activations"
