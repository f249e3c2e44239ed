"""Peak of one card over the number of cards that share a full fine-tuning, beside the textbook's share."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from footprint.predict.textbook import TRAINED
from footprint.report.page.svg import NARROW, PALETTE, Drawing, tell
from footprint.report.page.words import card_name, size_name
from footprint.report.reading.selection import CHECKPOINTING_NAMES, REGIME_NAMES
from footprint.report.reading.several_gpus import Sharded
from footprint.spec.cards import find
from footprint.spec.units import format_bytes

GiB = 2**30
SHARE = "16 N / cards"
_LINES = {"none": (0, (3, 2)), "block": "-"}
_SHARE_LINE = {"color": PALETTE["muted"], "linestyle": (0, (1, 1.5)), "linewidth": 1.2}


def share(run: pd.Series) -> float:
    """The textbook's bytes of one card: 16 N / cards."""
    return TRAINED * run["parameters"] / run["gpus"]


def peaks(found: Sharded) -> Drawing:
    """One panel per model: what is allocated on each card in full, the textbook's share, the cards' memory across."""

    def draw(width: float) -> Figure:
        rows, columns = (1, len(found.models)) if width > NARROW else (len(found.models), 1)
        drawn = Figure(figsize=(width, 2.9 if rows == 1 else 7.2))
        panels = drawn.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
        for model, axes in zip(found.models, panels, strict=True):
            _panel(axes, found, model)
            axes.set_title(model)
        drawn.supxlabel("cards", fontsize=8.5, color=PALETTE["muted"])
        drawn.supylabel("allocated on each card (GiB)", fontsize=8.5, color=PALETTE["muted"])
        return drawn

    lines = {CHECKPOINTING_NAMES[mode]: {"color": PALETTE["full"], "linestyle": _LINES[mode]} for mode in _modes(found)}
    key = tuple(Line2D([], [], label=name, **style) for name, style in (lines | {SHARE: _SHARE_LINE}).items())
    return Drawing(_finding(found), _alt(found), draw, key)


def _modes(found: Sharded) -> list[str]:
    return [mode for mode in _LINES if mode in found.checkpointing]


def _panel(axes: Axes, found: Sharded, model: str) -> None:
    """One model: a line per checkpointing and the textbook's, over lines across at the cards' memory."""
    right = 4.5 * found.gpus[-1]
    for card in found.cards:
        height = find(card).total / GiB
        axes.axhline(height, color=PALETTE["rule"], linewidth=0.9, zorder=1)
        above = {"xytext": (0, 1), "textcoords": "offset points", "ha": "right", "fontsize": 7.5}
        axes.annotate(card_name(card), (right, height), color=PALETTE["muted"], **above)
    for mode in _modes(found):
        rows = found.of(model, "full", mode)
        heights = rows["peak_allocated_bytes"] / GiB
        axes.plot(rows["gpus"], heights, color=PALETTE["full"], linestyle=_LINES[mode])
        for (_, run), height in zip(rows.iterrows(), heights, strict=True):
            (mark,) = axes.plot(run["gpus"], height, "o", ms=3.5, color=PALETTE["full"])
            tell(mark, f"{model}, {REGIME_NAMES['full']}, {CHECKPOINTING_NAMES[mode]}, {_beside(run)}")
    axes.plot(rows["gpus"], [share(run) / GiB for _, run in rows.iterrows()], **_SHARE_LINE)
    axes.set(xscale="log", yscale="log", xlim=(0.85, right))
    axes.set_xticks(found.gpus, map(str, found.gpus))
    axes.set_yticks([4, 16, 64, 256, 1024], ["4", "16", "64", "256", "1,024"])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())


def _beside(run: pd.Series) -> str:
    """One rehearsal in words, beside the textbook's share."""
    taken, by_the_book = format_bytes(run["peak_allocated_bytes"]), format_bytes(share(run))
    return f"{run['gpus']} cards: {taken} allocated on each, rehearsed; 16 N / {run['gpus']} is {by_the_book}"


def _finding(found: Sharded) -> str:
    """How far above the textbook's share the smallest model lies on the most cards."""
    run = found.of(found.models[0], "full", _modes(found)[-1]).iloc[-1]
    times = run["peak_allocated_bytes"] / share(run)
    return (
        f"On each of {run['gpus']} cards full fine-tuning of {size_name(found.models[0])} takes {times:.1f} times the "
        "textbook's share, though checkpointed"
    )


def _alt(found: Sharded) -> str:
    ends = (
        f"{model} with {CHECKPOINTING_NAMES[mode]} {format_bytes(rows['peak_allocated_bytes'].iloc[0])} to "
        f"{format_bytes(rows['peak_allocated_bytes'].iloc[-1])}"
        for model in found.models
        for mode in _modes(found)
        for rows in [found.of(model, "full", mode)]
    )
    numbers = f"{found.gpus[0]} to {found.gpus[-1]} cards"
    return f"Bytes allocated on each card in full fine-tuning over {numbers}, one panel per model: {'; '.join(ends)}."
