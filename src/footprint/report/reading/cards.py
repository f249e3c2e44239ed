"""What is asked about cards: predicted rows of the LLaMA shapes over sequence length, in the three regimes."""

from itertools import product

import pandas as pd

from footprint.predict.prediction import predict_many
from footprint.spec.cards import Card, find
from footprint.spec.presets import PRESETS
from footprint.spec.run import REGIMES, RunSpec

CARDS = {name: find(key) for name, key in (("A10G", "a10g"), ("L40S", "l40s"), ("A100", "a100-80gb"), ("H200", "h200"))}
"""The cards people ask about, one of each size."""

KERNELS = "a100-80gb"
"""Whose kernels the runs take. Those of the other cards differ in buffers of a few megabytes."""

MODELS = ("llama-7b", "llama-13b", "llama-70b")
SEQUENCES = (256, 512, 1024, 2048, 4096)
CHECKPOINTING = ("none", "block")
SETTING = {"rank": 8, "precision": "mixed", "batch": 1, "device": "cuda", "card": KERNELS}
"""One sequence at a time, adapters of rank 8 on all Linears."""


def predictions() -> pd.DataFrame:
    """Predicted rows for every model, regime, checkpointing and sequence length, on a GPU."""
    cells = product(MODELS, REGIMES, CHECKPOINTING, SEQUENCES)
    return pd.DataFrame(
        predict_many(
            [
                RunSpec(model=PRESETS[model], regime=regime, checkpointing=mode, seq=seq, **SETTING)
                for model, regime, mode, seq in cells
            ]
        )
    )


def longest(rows: pd.DataFrame, card: Card) -> int:
    """The longest sequence among `rows` that fits on a card with all that its allocator would reserve; 0 for none."""
    reserved = rows["process_peak_bytes"] - find(KERNELS).context
    fitting = rows.loc[reserved <= card.total - card.context, "seq"]
    return int(fitting.max()) if len(fitting) else 0
