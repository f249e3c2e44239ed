"""What is asked about cards: predicted rows of the LLaMA shapes over sequence length, in the three regimes."""

from itertools import product

import pandas as pd

from footprint.predict.capacity import Capacity
from footprint.predict.prediction import predict_many
from footprint.spec.presets import PRESETS
from footprint.spec.run import REGIMES, RunSpec
from footprint.spec.units import parse_bytes

CARDS = {name: parse_bytes(name) for name in ("24 GiB", "48 GiB", "80 GiB", "141 GiB")}
"""Memory of the cards people ask about, by the number printed on them."""

MODELS = ("llama-7b", "llama-13b", "llama-70b")
SEQUENCES = (256, 512, 1024, 2048, 4096)
CHECKPOINTING = ("none", "block")
SETTING = {"rank": 8, "precision": "mixed", "batch": 1}
"""One sequence at a time, adapters of rank 8 on all Linears."""


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
