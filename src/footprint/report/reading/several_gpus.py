"""How many cards hold a fine-tuning: what `benchmarks/several_gpus.py` asked and rehearsed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pandas as pd
import yaml

from footprint.measure.provenance import REPOSITORY
from footprint.spec.cards import find

FOLDER = "sharded"
"""In the reference folder: what `benchmarks/several_gpus.py` rehearsed."""

ASKED = REPOSITORY / "config" / "several-gpus.yaml"


@dataclass(frozen=True, kw_only=True)
class Sharded:
    """What was asked, and one card's peaks in the rehearsals of every number of cards."""

    cards: tuple[str, ...]
    """Keys of the catalogue, the smaller card first."""
    gpus: tuple[int, ...]
    """The numbers of cards that were tried, ascending."""
    tokens: int
    """Of the one sequence on each card."""
    models: tuple[str, ...]
    """The smallest first."""
    regimes: tuple[str, ...]
    checkpointing: tuple[str, ...]
    """The last saves most."""
    runs: pd.DataFrame
    """`model`, `parameters`, `regime`, `checkpointing`, `gpus`, `peak_allocated_bytes`, `peak_reserved_bytes`; for
    each card `fits_<card>`. In full up to the last number of cards, otherwise up to the first that every card holds."""

    def settings(self) -> Iterator[tuple[str, str, str]]:
        """Every (model, regime, checkpointing)."""
        return product(self.models, self.regimes, self.checkpointing)

    def of(self, model: str, regime: str, checkpointing: str) -> pd.DataFrame:
        """The rehearsals of one setting, the fewest cards first."""
        rows = self.runs
        for column, value in zip(("model", "regime", "checkpointing"), (model, regime, checkpointing), strict=True):
            rows = rows[(rows[column] == value).to_numpy()]
        return rows

    def fewest(self, card: str, *setting: str) -> int | None:
        """The fewest cards of a kind that hold a setting; None where as many as were tried do not."""
        run = self._smallest(card, *setting)
        return None if run is None else int(run["gpus"])

    def is_whole(self, *setting: str) -> bool:
        """Whether a setting was tried on as many cards as were to be tried."""
        return self.gpus[-1] in set(self.of(*setting)["gpus"])

    def is_tight(self, card: str, *setting: str) -> bool:
        """Whether the fewest cards of a kind hold a setting only as the allocator empties its cache."""
        run = self._smallest(card, *setting)
        return run is not None and bool(run["peak_reserved_bytes"] > room(card))

    def _smallest(self, card: str, *setting: str) -> pd.Series | None:
        rows = self.of(*setting)
        held = rows[rows[f"fits_{card}"].to_numpy()]
        return held.iloc[0] if len(held) else None


def asked() -> dict:
    """What `config/several-gpus.yaml` asks for."""
    return yaml.safe_load(ASKED.read_text(encoding="utf-8"))


def sharded(told: Mapping, runs: pd.DataFrame) -> Sharded:
    """The rehearsals of what a configuration asks for."""
    several = {name: tuple(told[name]) for name in ("cards", "gpus", "models", "regimes", "checkpointing")}
    return Sharded(tokens=told["tokens"], runs=runs, **several)


def load(reference: Path | None) -> Sharded | None:
    """What lies in the reference folder, if anything does."""
    if reference is None or not (path := reference / FOLDER / "sharded.csv").exists():
        return None
    return sharded(asked(), pd.read_csv(path))


def room(card: str) -> int:
    """Bytes of a card that are left for PyTorch's allocator."""
    return find(card).total - find(card).context
