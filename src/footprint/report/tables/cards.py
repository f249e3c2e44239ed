"""What fits on which card, as a table: what a long sequence takes in each regime, and the longest that fits."""

import pandas as pd

from footprint.report.page.table import Table
from footprint.report.reading.cards import CARDS, CHECKPOINTING, SEQUENCES, longest
from footprint.report.reading.selection import REGIME_NAMES
from footprint.spec.units import format_bytes


def table(predicted: pd.DataFrame) -> Table:
    """For each model and regime what the longest sequence takes, and the longest sequence each card holds."""
    shown, raw = [], []
    for (model, regime), rows in predicted.groupby(["model", "regime"], sort=False):
        by_mode = {mode: rows[rows["checkpointing"] == mode] for mode in CHECKPOINTING}
        ends = by_mode["block"].set_index("seq")["peak_bytes"].loc[[SEQUENCES[0], SEQUENCES[-1]]]
        held = {name: [longest(part, card) for part in by_mode.values()] for name, card in CARDS.items()}
        fullest = by_mode["block"].iloc[-1]
        cells = {card: " / ".join(f"{seq:,}" if seq else "–" for seq in lengths) for card, lengths in held.items()}
        cells |= {"Allocated": format_bytes(fullest["peak_bytes"])}
        cells |= {"Reserved": format_bytes(fullest["reserved_peak_bytes"])}
        cells |= {"On the card": format_bytes(fullest["process_peak_bytes"])}
        shown.append({"Model": model, "Regime": REGIME_NAMES[regime]} | cells)
        columns = {f"{card}, {mode}": n for card, ns in held.items() for mode, n in zip(by_mode, ns, strict=True)}
        raw.append(
            {"model": model, "regime": regime}
            | {f"peak_bytes_{seq}": size for seq, size in ends.items()}
            | {f"{name}_bytes_{SEQUENCES[-1]}": fullest[f"{name}_peak_bytes"] for name in ("reserved", "process")}
            | columns
        )
    return Table(shown=pd.DataFrame(shown), raw=pd.DataFrame(raw), words=("Regime",), grouped=True)
