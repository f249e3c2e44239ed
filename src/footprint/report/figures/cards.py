"""Peaks of the LLaMA shapes over sequence length, one panel per model, the cards as lines across."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from footprint.report.figures.bars import after
from footprint.report.page.svg import NARROW, PALETTE, Drawing, tell
from footprint.report.page.words import listing
from footprint.report.reading.cards import CARDS, CHECKPOINTING, MODELS, SEQUENCES
from footprint.report.reading.selection import CHECKPOINTING_NAMES, REGIME_NAMES
from footprint.spec.units import format_bytes

_LINES = {"none": (0, (3, 2)), "block": "-"}


def figure(predicted: pd.DataFrame) -> Drawing:
    """Peak over sequence length, one panel per model, the cards as lines across."""

    def draw(width: float) -> Figure:
        rows, columns = (1, len(MODELS)) if width > NARROW else (len(MODELS), 1)
        drawn = Figure(figsize=(width, 2.9 if rows == 1 else 7.2))
        panels = drawn.subplots(rows, columns, sharex=True, sharey=True)
        for model, axes in zip(MODELS, panels, strict=True):
            _panel(axes, predicted[predicted["model"] == model])
            axes.set_title(model)
        drawn.supxlabel("tokens of one sequence", fontsize=8.5, color=PALETTE["muted"])
        drawn.supylabel("predicted peak (GiB)", fontsize=8.5, color=PALETTE["muted"])
        return drawn

    key = tuple(
        Line2D([], [], color=PALETTE["ink"], linestyle=_LINES[mode], label=CHECKPOINTING_NAMES[mode])
        for mode in CHECKPOINTING
    )
    ranges = predicted.groupby(["model", "regime"], sort=False)["peak_bytes"].agg(["min", "max"])
    ends = "; ".join(
        f"{model} {REGIME_NAMES[regime]} {format_bytes(low)} to {format_bytes(high)}"
        for (model, regime), (low, high) in ranges.iterrows()
    )
    alt = f"Predicted peak over {SEQUENCES[0]} to {SEQUENCES[-1]} tokens, one panel per model, cards as lines: {ends}."
    return Drawing(_finding(predicted), alt, draw, key)


def _finding(predicted: pd.DataFrame) -> str:
    """What the longest sequence takes of the smallest model, in each regime."""
    rows = predicted[(predicted["model"] == MODELS[0]) & (predicted["seq"] == SEQUENCES[-1])]
    rows = rows[rows["checkpointing"] == CHECKPOINTING[-1]]
    each = listing(f"{format_bytes(row['peak_bytes'])} in {REGIME_NAMES[row['regime']]}" for _, row in rows.iterrows())
    return f"{SEQUENCES[-1]:,} tokens of {MODELS[0]} take {each}, every block checkpointed"


def _panel(axes: Axes, predicted: pd.DataFrame) -> None:
    """One model: a line per regime and checkpointing over the cards."""
    right = SEQUENCES[-1] * 8
    for name, card in CARDS.items():
        axes.axhline(card.total / 2**30, color=PALETTE["rule"], linewidth=0.9, zorder=1)
        above = {"xytext": (0, 1), "textcoords": "offset points", "ha": "right", "fontsize": 7.5}
        axes.annotate(name, (right, card.total / 2**30), color=PALETTE["muted"], **above)
    for (regime, mode), line in predicted.groupby(["regime", "checkpointing"], sort=False):
        peaks = line["peak_bytes"] / 2**30
        axes.plot(line["seq"], peaks, color=PALETTE[regime], linestyle=_LINES[mode])
        for (_, run), height in zip(line.iterrows(), peaks, strict=True):
            (mark,) = axes.plot(run["seq"], height, "o", ms=3, color=PALETTE[regime])
            what = f"{run['model']}, {REGIME_NAMES[regime]}, {CHECKPOINTING_NAMES[mode]}, {run['seq']:,} tokens"
            tell(mark, f"{what}: {format_bytes(run['peak_bytes'])} predicted")
        if mode == "block":
            after(axes, SEQUENCES[-1], peaks.iloc[-1], REGIME_NAMES[regime], color=PALETTE[regime], fontsize=8)
    ticks = [SEQUENCES[0], 1024, SEQUENCES[-1]]
    axes.set(xscale="log", yscale="log", xlim=(SEQUENCES[0], right))
    axes.set_xticks(ticks, [f"{seq:,}" for seq in ticks])
    axes.set_yticks([4, 16, 64, 256, 1024], ["4", "16", "64", "256", "1,024"])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
