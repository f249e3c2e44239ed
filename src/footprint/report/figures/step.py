"""A training step drawn once, with the names of its phases and buckets in the drawing: what to read the others by."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from footprint.report.figures.bars import BUCKETS, byte_unit
from footprint.report.figures.timeline import SPANS, between_phases, highest, layers, places, tell_samples
from footprint.report.page.empty import NoRunsError
from footprint.report.page.svg import NARROW, PALETTE, Drawing
from footprint.report.page.words import percent
from footprint.report.reading.results import Timelines
from footprint.report.reading.selection import setting, source
from footprint.spec.timeline import Point
from footprint.spec.units import format_bytes

HAPPENS = {
    "forward": "saves activations",
    "backward": "uses them up, gradients appear",
    "step": "needs all gradients",
}
"""What a phase does to memory."""

NAMES = {"forward": "forward", "backward": "backward", "step": "optimizer step"}
BUCKET_NAMES = dict(zip(BUCKETS, BUCKETS, strict=True)) | {"optimizer": "optimizer state"}

SLIVER = 0.05
"""Share of the height below which a bucket has no room for its name."""


def drawn(timelines: Timelines) -> tuple[pd.Series, list[Point], str]:
    """The run whose step is drawn, the first that has a timeline, its points, and where they are from."""
    for run, measured, predicted in timelines:
        if measured or predicted:
            return run, list(measured or predicted), source(run) if measured else "predicted"
    raise NoRunsError("No timeline of a step was kept beside the tables, so there is none to draw.")


def step(timelines: Timelines) -> Drawing:
    """Live bytes through the step of one run, by bucket."""
    run, points, _ = drawn(timelines)
    top = highest(points)

    def draw(width: float) -> Figure:
        figure = Figure(figsize=(width, 2.7))
        axes = figure.subplots()
        unit, text = byte_unit(top.total)
        found = layers(points, unit)
        axes.stackplot(places(points), found, colors=[PALETTE[bucket] for bucket in BUCKETS], linewidth=0)
        axes.set(xlim=(0, 3), ylim=(0, 1.3 * top.total / unit), ylabel=f"live bytes ({text})")
        between_phases(axes)
        tell_samples(axes, setting(run), points)
        _name_buckets(axes, points, found)
        peak = (places(points)[points.index(top)], top.total / unit)
        axes.plot(*peak, "o", color=PALETTE["ink"], ms=5)
        note = {"textcoords": "offset points", "fontweight": "bold", "fontsize": 8.5, "va": "bottom"}
        axes.annotate(f"peak, {format_bytes(top.total)}", peak, xytext=(0, 5), ha="center", **note)
        axes.set_xticks([sum(span) / 2 for span in SPANS.values()], [_phase(name, width) for name in SPANS])
        axes.tick_params(axis="x", length=0, labelcolor=PALETTE["ink"])
        return figure

    finding = (
        f"A step of {setting(run)}: {percent(top.activations / top.total)} of its peak are activations, "
        f"{percent(top.gradients / top.total)} gradients"
    )
    parts = "; ".join(
        f"{NAMES[phase]} up to {format_bytes(highest([p for p in points if p.phase == phase]).total)}, {does}"
        for phase, does in HAPPENS.items()
    )
    return Drawing(finding, f"Stacked areas of live bytes through one training step: {parts}.", draw)


def _phase(name: str, width: float) -> str:
    return f"{NAMES[name]}\n{HAPPENS[name]}" if width > NARROW else NAMES[name].replace(" ", "\n")


def _name_buckets(axes: Axes, points: list[Point], found: list[list[float]]) -> None:
    """The name of a bucket where it is thickest; of one that never changes, at the left."""
    along, height = places(points), axes.get_ylim()[1]
    below = [0.0] * len(points)
    for bucket, layer in zip(BUCKETS, found, strict=True):
        where = max(range(len(layer)), key=lambda place: (round(layer[place], 6), 0.2 < along[place] < 2.8))
        if layer[where] > SLIVER * height:
            x = min(max(along[where], 0.55), 2.7)
            nearest = min(range(len(along)), key=lambda place: abs(along[place] - x))
            middle = below[nearest] + layer[nearest] / 2
            halo = [withStroke(linewidth=2.5, foreground=PALETTE["paper"])]
            text = {"ha": "center", "va": "center", "fontsize": 8.5, "path_effects": halo}
            axes.annotate(BUCKET_NAMES[bucket], (x, middle), color=PALETTE["ink"], **text)
        below = [low + more for low, more in zip(below, layer, strict=True)]
