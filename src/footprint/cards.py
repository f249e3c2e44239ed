"""What fits on which card: predicted peaks of the LLaMA shapes over sequence length, in the three regimes."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from footprint.bars import after
from footprint.predict import predict_many
from footprint.selection import REGIME_NAMES
from footprint.spec import PRESETS, REGIMES, RunSpec
from footprint.svg import NARROW, PALETTE, Drawing
from footprint.table import Table
from footprint.units import format_bytes, parse_bytes
from footprint.words import listing

CARDS = {name: parse_bytes(name) for name in ("24 GiB", "48 GiB", "80 GiB", "141 GiB")}
"""Memory of the cards people ask about, by the number printed on them."""

MODELS = ("llama-7b", "llama-13b", "llama-70b")
SEQUENCES = (256, 512, 1024, 2048, 4096)
SETTING = {"rank": 8, "checkpointing": "block", "precision": "mixed", "batch": 1}
"""One sequence at a time, every block recomputed: the most that a regime can be made to fit without further tricks."""


def predictions() -> pd.DataFrame:
    """Predicted rows for every model, regime and sequence length, on a GPU."""
    return pd.DataFrame(
        predict_many(
            [
                RunSpec(model=PRESETS[model], regime=regime, seq=seq, device="cuda", **SETTING)
                for model in MODELS
                for regime in REGIMES
                for seq in SEQUENCES
            ]
        )
    )


def longest(rows: pd.DataFrame, capacity: int) -> int:
    """The longest sequence of one model and regime whose peak is within `capacity` bytes; 0 when none is."""
    fitting = rows.loc[rows["peak_bytes"] <= capacity, "seq"]
    return int(fitting.max()) if len(fitting) else 0


def table(predicted: pd.DataFrame) -> Table:
    """For each model and regime the peak at both ends, and the longest sequence each card holds."""
    shown, raw = [], []
    for (model, regime), rows in predicted.groupby(["model", "regime"], sort=False):
        peaks = rows.set_index("seq")["peak_bytes"]
        held = {card: longest(rows, capacity) for card, capacity in CARDS.items()}
        ends = {f"{seq:,} tokens": format_bytes(peaks[seq]) for seq in (SEQUENCES[0], SEQUENCES[-1])}
        cells = {card: f"{seq:,}" if seq else "–" for card, seq in held.items()}
        shown.append({"Model": model, "Regime": REGIME_NAMES[regime]} | ends | cells)
        raw.append({"model": model, "regime": regime} | {f"peak_bytes_{seq}": peaks[seq] for seq in SEQUENCES} | held)
    return Table(shown=pd.DataFrame(shown), raw=pd.DataFrame(raw), words=("Regime",), grouped=True)


def finding(predicted: pd.DataFrame) -> str:
    """The largest model that each regime fits on the smallest card, in one sentence."""
    card, capacity = next(iter(CARDS.items()))
    fits = []
    for regime in REGIMES:
        rows = predicted[predicted["regime"] == regime]
        models = [model for model in MODELS if longest(rows[rows["model"] == model], capacity)]
        name = models[-1].removeprefix("llama-").upper() if models else "none of them"
        fits.append(f"{REGIME_NAMES[regime]} fits {name}")
    return f"On a {card} card {listing(fits)}"


def figure(predicted: pd.DataFrame) -> Drawing:
    """Peak over sequence length, one panel per model, the cards as lines across."""

    def draw(width: float) -> Figure:
        rows, columns = (1, len(MODELS)) if width > NARROW else (len(MODELS), 1)
        drawn = Figure(figsize=(width, 3.4 if rows == 1 else 7.6))
        panels = drawn.subplots(rows, columns, sharex=True, sharey=True)
        for model, axes in zip(MODELS, panels, strict=True):
            for card, capacity in CARDS.items():
                axes.axhline(capacity / 2**30, color=PALETTE["rule"], linewidth=0.9, zorder=1)
                axes.annotate(
                    card, (SEQUENCES[0], capacity / 2**30), xytext=(0, 1), textcoords="offset points", fontsize=7.5,
                    color=PALETTE["muted"],
                )
            for regime in REGIMES:
                line = predicted[(predicted["model"] == model) & (predicted["regime"] == regime)]
                peaks = line["peak_bytes"] / 2**30
                axes.plot(line["seq"], peaks, color=PALETTE[regime])
                after(axes, SEQUENCES[-1], peaks.iloc[-1], REGIME_NAMES[regime], color=PALETTE[regime], fontsize=8)
            axes.set_title(model)
            axes.set(xscale="log", yscale="log", xlim=(SEQUENCES[0], SEQUENCES[-1] * 3.2))
            axes.set_xticks([SEQUENCES[0], 1024, SEQUENCES[-1]], [f"{s:,}" for s in (SEQUENCES[0], 1024, SEQUENCES[-1])])
            axes.set_yticks([4, 16, 64, 256, 1024], ["4", "16", "64", "256", "1,024"])
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_minor_locator(NullLocator())
        drawn.supxlabel("tokens of one sequence", fontsize=8.5, color=PALETTE["muted"])
        drawn.supylabel("predicted peak (GiB)", fontsize=8.5, color=PALETTE["muted"])
        return drawn

    ends = "; ".join(
        f"{model} {REGIME_NAMES[regime]} {format_bytes(rows['peak_bytes'].min())} to {format_bytes(rows['peak_bytes'].max())}"
        for (model, regime), rows in predicted.groupby(["model", "regime"], sort=False)
    )
    alt = f"Predicted peak over {SEQUENCES[0]} to {SEQUENCES[-1]} tokens, one panel per model, cards as lines: {ends}."
    return Drawing(finding(predicted), alt, draw)
