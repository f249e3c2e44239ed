"""Live bytes through one training step: buckets as measured, their boundaries as predicted, phase by phase."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import accumulate

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from footprint.report.figures.bars import BUCKETS, bucket_key, byte_unit
from footprint.report.page.empty import NoRunsError
from footprint.report.page.svg import PALETTE, Drawing, tell
from footprint.report.page.words import listing, percent
from footprint.report.reading.results import Timelines
from footprint.report.reading.selection import setting, source
from footprint.spec.timeline import Point
from footprint.spec.units import format_bytes

STRETCHES = 8
"""Parts of a phase that say what was live in them."""

SPANS = {"forward": (0.0, 1.0), "backward": (1.0, 2.4), "step": (2.4, 3.0)}
"""Where each phase lies on the x axis; a place within it is a share of the bytes the phase allocates and releases."""

_PHASE_NAMES = {"forward": "forward", "backward": "backward", "step": "the optimizer step"}


def timeline(timelines: Timelines) -> Drawing:
    """One panel per run: buckets as measured (as predicted where nothing was kept), their boundaries as predicted."""
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
    line = Line2D([], [], color=PALETTE["ink"], linewidth=1, label="predicted")
    key = bucket_key(*([line] if any(predicted for _, _, predicted in shown) else []))
    return Drawing(_finding(shown), alt + ".", draw, key)


def highest(points: Sequence[Point]) -> Point:
    """The first point with the most live bytes."""
    return max(points, key=lambda point: point.total)


def _panel(axes: Axes, name: str, measured: Sequence[Point], predicted: Sequence[Point]) -> None:
    filled = measured or predicted
    unit, text = byte_unit(highest(filled).total)
    axes.stackplot(places(filled), layers(filled, unit), colors=[PALETTE[b] for b in BUCKETS], linewidth=0)
    for boundary in accumulate(np.array(layer) for layer in layers(_known(predicted), unit)) if predicted else ():
        # A halo in the colour of the page, so that the line shows on every bucket in both themes.
        halo = [withStroke(linewidth=1.8, foreground=PALETTE["paper"])]
        axes.plot(places(predicted), boundary, color=PALETTE["ink"], linewidth=0.7, path_effects=halo)
    between_phases(axes)
    tell_samples(axes, name, filled)
    top = highest(filled)
    axes.plot(places(filled)[filled.index(top)], top.total / unit, "o", color=PALETTE["ink"], ms=4)
    axes.set(xlim=(0, 3), ylim=(0, 1.12 * top.total / unit), ylabel=text)
    axes.set_title(f"{name}: {format_bytes(top.total)}")


def between_phases(axes: Axes) -> None:
    """Lines where one phase ends and the next begins."""
    for start, _ in list(SPANS.values())[1:]:
        axes.axvline(start, color=PALETTE["muted"], linewidth=0.7, linestyle=(0, (2, 2)))


def tell_samples(axes: Axes, name: str, points: Sequence[Point]) -> None:
    """Let a stretch of a step say what was live at its highest instant."""
    along = places(points)
    for phase, (start, end) in SPANS.items():
        for number in range(STRETCHES):
            left, right = (start + (end - start) * edge / STRETCHES for edge in (number, number + 1))
            there = [
                point for point, x in zip(points, along, strict=True) if point.phase == phase and left <= x <= right
            ]
            if there:
                top = highest(there)
                each = listing(f"{bucket} {format_bytes(getattr(top, bucket))}" for bucket in BUCKETS)
                tell(
                    axes.axvspan(left, right, alpha=0, linewidth=0),
                    f"{name}, {phase}: {format_bytes(top.total)} live: {each}",
                )


def _known(predicted: Sequence[Point]) -> list[Point]:
    """A prediction as it is drawn: of the optimizer step it knows the height, not the order of its tensors."""
    step = [point for point in predicted if point.phase == "step"]
    return [point for point in predicted if point.phase != "step"] + [highest(step)] * len(step)


def layers(points: Sequence[Point], unit: int) -> list[list[float]]:
    """Of each bucket its sizes along the points, in `unit` bytes."""
    return [[getattr(point, bucket) / unit for point in points] for bucket in BUCKETS]


def data(timelines: Timelines) -> pd.DataFrame:
    """The points behind the figure, in bytes: measured and predicted samples of every run shown."""
    rows = [
        {"setting": setting(run), "source": origin, "sample": sample} | asdict(point)
        for run, measured, predicted in timelines
        for origin, points in ((source(run), measured), ("predicted", predicted))
        for sample, point in enumerate(points)
    ]
    return pd.DataFrame(rows)


def places(points: Sequence[Point]) -> list[float]:
    """Where on the x axis samples lie: evenly over their phase."""
    counts = {phase: sum(point.phase == phase for point in points) for phase in SPANS}
    return [
        start + (end - start) * index / max(1, counts[phase] - 1)
        for phase, (start, end) in SPANS.items()
        for index in range(counts[phase])
    ]


def _moment(points: Sequence[Point]) -> str:
    """When the peak comes, in words: `as backward begins`."""
    top = highest(points)
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
    return f"{listing(points)} {verb} {next(iter(moments.values()))}; {live} of that peak is activations"
