"""What fits on which card: predicted peaks of the LLaMA shapes over sequence length, in the three regimes."""

from itertools import product

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from footprint.capacity import Capacity
from footprint.predict import predict, predict_many
from footprint.report.bars import after
from footprint.report.selection import CHECKPOINTING_NAMES, REGIME_NAMES
from footprint.report.svg import NARROW, PALETTE, Drawing
from footprint.report.table import Table
from footprint.report.words import listing
from footprint.spec import PRESETS, REGIMES, RunSpec
from footprint.units import format_bytes, parse_bytes

CARDS = {name: parse_bytes(name) for name in ("24 GiB", "48 GiB", "80 GiB", "141 GiB")}
"""Memory of the cards people ask about, by the number printed on them."""

MODELS = ("llama-7b", "llama-13b", "llama-70b")
SEQUENCES = (256, 512, 1024, 2048, 4096)
CHECKPOINTING = ("none", "block")
SETTING = {"rank": 8, "precision": "mixed", "batch": 1}
"""One sequence at a time, adapters of rank 8 on all Linears."""

_LINES = {"none": (0, (3, 2)), "block": "-"}


def predictions() -> pd.DataFrame:
    """Predicted rows for every model, regime, checkpointing and sequence length, on a GPU."""
    cells = product(MODELS, REGIMES, CHECKPOINTING, SEQUENCES)
    return pd.DataFrame(
        predict_many(
            [
                RunSpec(model=PRESETS[model], regime=regime, checkpointing=mode, seq=seq, device="cuda", **SETTING)
                for model, regime, mode, seq in cells
            ]
        )
    )


def longest(rows: pd.DataFrame, memory: int) -> int:
    """The longest sequence among `rows` that fits on a card with `memory` bytes; 0 when there is none."""
    fitting = rows.loc[rows["peak_bytes"] <= Capacity(memory, "cuda").sure, "seq"]
    return int(fitting.max()) if len(fitting) else 0


def table(predicted: pd.DataFrame) -> Table:
    """For each model and regime the peak at both ends with checkpointing, and the longest sequence each card holds."""
    shown, raw = [], []
    for (model, regime), rows in predicted.groupby(["model", "regime"], sort=False):
        by_mode = {mode: rows[rows["checkpointing"] == mode] for mode in CHECKPOINTING}
        ends = by_mode["block"].set_index("seq")["peak_bytes"].loc[[SEQUENCES[0], SEQUENCES[-1]]]
        held = {card: [longest(part, capacity) for part in by_mode.values()] for card, capacity in CARDS.items()}
        cells = {f"{seq:,} tokens": format_bytes(size) for seq, size in ends.items()}
        cells |= {card: " / ".join(f"{seq:,}" if seq else "–" for seq in lengths) for card, lengths in held.items()}
        shown.append({"Model": model, "Regime": REGIME_NAMES[regime]} | cells)
        columns = {f"{card}, {mode}": n for card, ns in held.items() for mode, n in zip(by_mode, ns, strict=True)}
        raw.append(
            {"model": model, "regime": regime} | {f"peak_bytes_{seq}": size for seq, size in ends.items()} | columns
        )
    return Table(shown=pd.DataFrame(shown), raw=pd.DataFrame(raw), words=("Regime",), grouped=True)


def without_masters() -> str:
    """What full fine-tuning of the smallest model takes in other precisions, in one sentence."""
    peaks = {
        precision: predict(
            RunSpec(model=PRESETS[MODELS[0]], regime="full", precision=precision, batch=1, seq=512, device="cuda")
        )["peak_bytes"]
        for precision in ("mixed", "amp", "bf16")
    }
    return (
        f"Precision decides too: full fine-tuning of {MODELS[0]} on 512 tokens peaks at "
        f"{format_bytes(peaks['mixed'])} in mixed precision, {format_bytes(peaks['amp'])} under autocast (amp), and "
        f"{format_bytes(peaks['bf16'])} in bf16 without a master copy, which loses small updates."
    )


def finding(predicted: pd.DataFrame) -> str:
    """The largest model each regime trains on the smallest card, in one sentence."""
    card, capacity = next(iter(CARDS.items()))
    fits = []
    for regime in REGIMES:
        rows = predicted[predicted["regime"] == regime]
        models = [model for model in MODELS if longest(rows[rows["model"] == model], capacity)]
        most = f"up to {models[-1].removeprefix('llama-').upper()}" if models else "none of these models"
        fits.append(f"{most} in {REGIME_NAMES[regime]}")
    return f"A {card} card holds {listing(fits)}"


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
    return Drawing(finding(predicted), alt, draw, key)


def _panel(axes: Axes, predicted: pd.DataFrame) -> None:
    """One model: a line per regime and checkpointing over the cards."""
    right = SEQUENCES[-1] * 8
    for card, capacity in CARDS.items():
        axes.axhline(capacity / 2**30, color=PALETTE["rule"], linewidth=0.9, zorder=1)
        above = {"xytext": (0, 1), "textcoords": "offset points", "ha": "right", "fontsize": 7.5}
        axes.annotate(card, (right, capacity / 2**30), color=PALETTE["muted"], **above)
    for (regime, mode), line in predicted.groupby(["regime", "checkpointing"], sort=False):
        peaks = line["peak_bytes"] / 2**30
        axes.plot(line["seq"], peaks, color=PALETTE[regime], linestyle=_LINES[mode])
        if mode == "block":
            after(axes, SEQUENCES[-1], peaks.iloc[-1], REGIME_NAMES[regime], color=PALETTE[regime], fontsize=8)
    ticks = [SEQUENCES[0], 1024, SEQUENCES[-1]]
    axes.set(xscale="log", yscale="log", xlim=(SEQUENCES[0], right))
    axes.set_xticks(ticks, [f"{seq:,}" for seq in ticks])
    axes.set_yticks([4, 16, 64, 256, 1024], ["4", "16", "64", "256", "1,024"])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
