"""The fewest cards that hold a fine-tuning, as a table."""

from itertools import product

import pandas as pd

from footprint.report.page.table import Table
from footprint.report.page.words import card_name, size_name
from footprint.report.reading.selection import REGIME_NAMES
from footprint.report.reading.several_gpus import Sharded
from footprint.report.sentences.several_gpus import number

TIGHT = "†"
"""Marks a number of cards that hold a run only as the allocator empties its cache."""

CAPTION = (
    "The fewest cards that hold one sequence of {tokens:,} tokens on each, without / with every block checkpointed. "
    f"{TIGHT} There the allocator has to empty its cache for want of room, which costs time."
)


def fewest_cards(found: Sharded) -> Table:
    """For each model and regime the fewest of each kind of card, without and with checkpointing."""
    shown, raw = [], []
    for model, regime in product(found.models, found.regimes):
        cells = {
            card_name(card): " / ".join(_cell(found, card, model, regime, mode) for mode in found.checkpointing)
            for card in found.cards
        }
        counts = {
            f"{card}, {mode}": found.fewest(card, model, regime, mode)
            for card, mode in product(found.cards, found.checkpointing)
        }
        shown.append({"Model": size_name(model), "Regime": REGIME_NAMES[regime]} | cells)
        raw.append({"model": model, "regime": regime} | counts)
    return Table(shown=pd.DataFrame(shown), raw=pd.DataFrame(raw).convert_dtypes(), words=("Regime",), grouped=True)


def _cell(found: Sharded, card: str, *setting: str) -> str:
    return number(found, card, *setting, more="> ") + (TIGHT if found.is_tight(card, *setting) else "")
