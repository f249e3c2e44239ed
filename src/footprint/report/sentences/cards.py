"""What fits on which card, in sentences."""

import pandas as pd

from footprint.predict.prediction import predict
from footprint.report.page.words import listing, size_name
from footprint.report.reading.cards import CARDS, MODELS, SETTING, longest
from footprint.report.reading.selection import REGIME_NAMES
from footprint.spec.presets import PRESETS
from footprint.spec.run import REGIMES, RunSpec
from footprint.spec.units import format_bytes


def without_masters() -> str:
    """What full fine-tuning of the smallest model takes in other precisions, in one sentence."""
    peaks = {
        precision: predict(
            RunSpec(model=PRESETS[MODELS[0]], regime="full", seq=512, **SETTING | {"precision": precision})
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
    name, card = next(iter(CARDS.items()))
    fits = []
    for regime in REGIMES:
        rows = predicted[predicted["regime"] == regime]
        models = [model for model in MODELS if longest(rows[rows["model"] == model], card)]
        most = f"up to {size_name(models[-1])}" if models else "none of these models"
        fits.append(f"{most} in {REGIME_NAMES[regime]}")
    return f"An {name} ({format_bytes(card.total)}) holds {listing(fits)}, with checkpointing"
