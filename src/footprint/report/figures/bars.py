"""What the bar figures share: byte axes in a fitting unit, stacked buckets, and their key."""

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from footprint.report.page.svg import PALETTE, tell
from footprint.report.page.words import percent
from footprint.report.reading.selection import setting, source
from footprint.spec.columns import BUCKET_BYTES
from footprint.spec.units import format_bytes, parse_bytes

BUCKETS = tuple(name.removesuffix("_bytes") for name in BUCKET_BYTES)

MEASURED_HEIGHT, PREDICTED_HEIGHT, GAP = 0.62, 0.24, 0.04
"""Of a row of height 1: the thick bar, the thin one under it, and the space between."""


def byte_unit(largest: float) -> tuple[int, str]:
    """Bytes of the unit, and its name, in which an axis up to `largest` bytes is labelled."""
    unit = format_bytes(largest).split()[1]
    return parse_bytes(f"1 {unit}"), unit


def byte_axis(axes: Axes, largest: float, name: str = "peak memory") -> int:
    """Prepare the x axis for sizes up to `largest` bytes; returns the bytes of its unit."""
    size, unit = byte_unit(largest)
    axes.set_xlabel(f"{name} ({unit})")
    axes.set_xlim(0, largest / size)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    return size


def stack(axes: Axes, y: float, run: pd.Series, side: str, *, height: float, unit: int, name: str = "") -> None:
    """The four buckets of one run (`side` is measured or predicted) end to end at `y`; pointed at, they tell theirs.

    `name` is the run's, where its setting alone is not enough.
    """
    left = 0.0
    for bucket in BUCKETS:
        size, peak = (run[f"{part}_bytes_{side}"] for part in (bucket, "peak"))
        (bar,) = axes.barh(y, size / unit, left=left, height=height, color=PALETTE[bucket])
        word = source(run) if side == "measured" else side
        tell(bar, f"{name or setting(run)}, {word}: {bucket} {format_bytes(size)}, {percent(size / peak)} of the peak")
        left += size / unit


def pair(axes: Axes, top: float, run: pd.Series, *, height: float, unit: int, name: str = "") -> tuple[float, float]:
    """A thick measured bar over a thin predicted one, below `top`; an outline where memory ran out.

    Returns the heights at which the two lie.
    """
    thick, thin = top - height * MEASURED_HEIGHT / 2, top - height * (MEASURED_HEIGHT + GAP + PREDICTED_HEIGHT / 2)
    if run["status"] == "ok":
        stack(axes, thick, run, "measured", height=height * MEASURED_HEIGHT, unit=unit, name=name)
    else:
        size = run["peak_bytes_predicted"] / unit
        outline = {"fill": False, "edgecolor": PALETTE["muted"], "linestyle": (0, (3, 2)), "linewidth": 0.9}
        axes.barh(thick, size, height=height * MEASURED_HEIGHT, **outline)
    stack(axes, thin, run, "predicted", height=height * PREDICTED_HEIGHT, unit=unit, name=name)
    return thick, thin


def bucket_key(*more: Artist) -> tuple[Artist, ...]:
    """The names of the bucket colours, and whatever else needs one."""
    return (*(Patch(color=PALETTE[bucket], label=bucket) for bucket in BUCKETS), *more)


def after(axes: Axes, x: float, y: float, text: str, **style: object) -> None:
    """A label just right of the point (x, y)."""
    axes.annotate(text, (x, y), xytext=(5, 0), textcoords="offset points", va="center", **style)
