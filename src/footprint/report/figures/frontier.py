"""The frontier: what a setting needs in memory against the loss it ends at."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from footprint.report.figures.bars import byte_unit
from footprint.report.figures.labels import Mark, beside_marks, segments
from footprint.report.figures.memory import MARKERS
from footprint.report.page.empty import NoRunsError
from footprint.report.page.svg import NARROW, PALETTE, Drawing, tell
from footprint.report.page.words import bits, bits_apart, counted, shortened
from footprint.report.reading.selection import REGIME_NAMES
from footprint.report.reading.study import Study, headline
from footprint.spec.units import format_bytes

MOST_LABELS = 20
"""Settings that can all be named beside their marks; of more, only those that nothing dominates are."""

MARK = 8.0
"""Points across of a mark."""

WIDE_RANGE = 8
"""Ratio of the largest peak to the smallest beyond which memory is drawn on a logarithmic axis."""

_FADED = 0.4


def frontier(study: Study) -> Drawing:
    """Every finished setting by peak memory and final validation loss."""
    if not len(study.finished):
        raise NoRunsError("No fine-tuning run of the quality study finished, so there is no loss to set beside memory.")
    rows = study.finished.assign(dominated=study.dominated).sort_values(
        ["peak_bytes", "loss"], kind="stable", ignore_index=True
    )
    size, unit = byte_unit(float(rows["peak_bytes"].max()))
    rows["x"] = rows["peak_bytes"].astype(float) / size

    def draw(width: float) -> Figure:
        figure = Figure(figsize=(width, 3.7 if width > NARROW else 3.9))
        axes = figure.subplots()
        _limits(axes, rows)
        best = rows[~rows["dominated"].to_numpy()]
        axes.step(best["x"], best["loss"].cummin(), where="post", color=PALETTE["muted"], linewidth=0.8, zorder=1)
        for _, row in rows.iterrows():
            _mark(axes, row)
        axes.set(xlabel=f"measured peak memory ({unit})", ylabel="validation loss (bits per byte)")
        axes.grid()
        _labels(axes, rows, best, 34 if width > NARROW else 24)
        return figure

    return Drawing(finding(study), _alt(rows), draw, _key(rows))


def finding(study: Study) -> str:
    """What the frontier shows, in one sentence: what the regime of least memory costs in loss."""
    rows = headline(study)
    if len(rows) == 1:
        rows = study.finished
    best, least = (rows.loc[rows[name].astype(float).idxmin()] for name in ("loss", "peak_bytes"))
    if len(rows) == 1:
        return f"{best['name']} ends at {bits(best['loss'])} bits per byte with a peak of {_peak(best)}"
    if best["name"] == least["name"]:
        return f"{best['name']} ends lowest, at {bits(best['loss'])} bits per byte, and needs least, {_peak(best)}"
    times, gap = best["peak_bytes"] / least["peak_bytes"], least["loss"] - best["loss"]
    sentence = f"{least['name']} needs {times:.1f} times less memory than {best['name']}"
    chance = study.by_chance(pd.DataFrame([best, least]))
    if chance is not None and gap <= chance:
        return f"{sentence}; their losses differ no more than those of seeds"
    return f"{sentence} and ends {bits_apart(gap)} bits per byte higher"


def _peak(row: pd.Series) -> str:
    return format_bytes(row["peak_bytes"])


def _limits(axes: Axes, rows: pd.DataFrame) -> None:
    low, high = rows["x"].min(), rows["x"].max()
    bottom, top = rows["loss_low"].min(), rows["loss_high"].max()
    if high > WIDE_RANGE * low:
        axes.set_xscale("log", base=2)
        axes.set_xlim(low / 1.4, high * 1.4)
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        room = 0.12 * (high - low) or 0.2 * high
        axes.set_xlim(max(0, low - room), high + room)
    room = 0.12 * (top - bottom) or 0.05 * top
    axes.set_ylim(bottom - room, top + room)


def _mark(axes: Axes, row: pd.Series) -> None:
    """One setting: its mark, and the range of its seeds, which shows where it is longer than the mark."""
    colour, alpha = PALETTE[row["regime"]], _FADED if row["dominated"] else 1.0
    if row["finished"] > 1:
        ends = [row["loss_low"], row["loss_high"]]
        axes.plot([row["x"]] * 2, ends, "_-", color=PALETTE["ink"], ms=5, linewidth=0.9, alpha=alpha, zorder=2)
    style = {
        "ms": MARK,
        "mec": PALETTE["paper"],
        "mew": 0.6,
        "clip_on": False,
        "zorder": 3 if row["dominated"] else 4,
    }
    for fill, opacity in ((PALETTE["paper"], 1.0), (colour, alpha)):  # on paper, so that nothing shines through
        (mark,) = axes.plot(row["x"], row["loss"], MARKERS[row["regime"]], mfc=fill, alpha=opacity, **style)
    tell(mark, _told(row))


def _told(row: pd.Series) -> str:
    ends = f" ({bits(row['loss_low'])} to {bits(row['loss_high'])} over {counted(int(row['finished']), 'seed')})"
    known = ends if row["finished"] > 1 else " (one seed)"
    return f"{row['name']}: {_peak(row)}, {bits(row['loss'])} bits per byte{known}"


def _labels(axes: Axes, rows: pd.DataFrame, best: pd.DataFrame, longest: int) -> None:
    """Names beside the marks: all of them where they are few, else of what nothing dominates."""
    named = rows.sort_values("dominated", kind="stable") if len(rows) <= MOST_LABELS else best
    marks = {place: _named_mark(row, longest) for place, row in rows.iterrows()}
    ranges = [Bbox([[row["x"], row["loss_low"]], [row["x"], row["loss_high"]]]) for _, row in rows.iterrows()]
    steps = pd.DataFrame({"x": best["x"].repeat(2).iloc[1:], "y": best["loss"].cummin().repeat(2).iloc[:-1].to_numpy()})
    lines = [*segments(steps["x"], steps["y"]), *ranges]
    unnamed = [marks[place] for place in rows.index.difference(named.index)]
    beside_marks(axes, [marks[place] for place in named.index], lines, unnamed)


def _named_mark(row: pd.Series, longest: int) -> Mark:
    return Mark(
        x=row["x"],
        y=row["loss"],
        radius=MARK / 2,
        text=shortened(row["name"].replace(" checkpoints", ""), longest),
        style={"color": PALETTE["muted" if row["dominated"] else row["regime"]]},
    )


def _key(rows: pd.DataFrame) -> Sequence[Artist]:
    """The regimes present."""
    return tuple(
        Line2D([], [], linestyle="", marker=MARKERS[regime], color=PALETTE[regime], ms=7, label=REGIME_NAMES[regime])
        for regime in REGIME_NAMES
        if (rows["regime"] == regime).any()
    )


def _alt(rows: pd.DataFrame) -> str:
    shown = [
        f"{row['name']} {_peak(row)}, {bits(row['loss'])} bits per byte" + (", dominated" if row["dominated"] else "")
        for _, row in rows.iterrows()
    ]
    return f"Scatter of {counted(len(rows), 'setting')} by peak memory and final validation loss: {'; '.join(shown)}."
