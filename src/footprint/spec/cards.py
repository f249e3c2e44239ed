"""The catalogue of cards that can be imitated: `cards.toml`."""

import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from footprint.errors import FootprintError

DESCRIBED = "FOOTPRINT_CARD"
"""Environment variable in which a process finds the card that it is rehearsed on (`Card.described`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One card, as its driver describes it. Sizes are bytes."""

    key: str
    """What users call it."""
    name: str
    """What `torch.cuda.get_device_name` says."""
    capability: str
    multiprocessors: int
    threads: int
    """Resident threads of one multiprocessor."""
    blocks: int
    """Resident blocks of one multiprocessor."""
    block_memory: int
    """Shared memory that a block may opt into."""
    shared_memory: int
    """Shared memory of one multiprocessor."""
    cache: int
    """Level-2 cache."""
    total: int
    """Memory as the driver reports it, which is less than what is printed on the card."""
    context: int
    """What a CUDA context takes of it."""
    source: str
    """Where this is known from, and what of it is an estimate."""
    checked: bool
    """Whether rehearsed bytes were compared with runs on such a card."""

    @property
    def generation(self) -> tuple[int, int]:
        """The compute capability as numbers."""
        major, minor = self.capability.split(".")
        return int(major), int(minor)

    def described(self, devices: int = 1) -> str:
        """The card as the stand-in reads it from its environment."""
        numbers = (self.multiprocessors, self.threads, self.blocks, self.block_memory, self.shared_memory, self.cache)
        told = (self.name, *self.capability.split("."), *numbers, self.total, self.context, devices)
        return ";".join(map(str, told))


@cache
def catalogue() -> dict[str, Card]:
    """Every card by its key, in the order of the file."""
    told = tomllib.loads((files("footprint.spec") / "cards.toml").read_text(encoding="utf-8"))
    return {key: Card(key=key, **entry) for key, entry in told.items()}


def find(key: str) -> Card:
    """A card by its key; FootprintError with what may have been meant when there is none."""
    known = catalogue()
    meant = key.strip().lower().replace(" ", "-").replace("_", "-")
    if meant in known:
        return known[meant]
    near = get_close_matches(meant, known, n=3, cutoff=0.5)
    hint = f" (did you mean {', '.join(near)}?)" if near else ""
    raise FootprintError(f"card: {key[:60]!r} is not in the catalogue{hint}; `footprint cards` lists them")


def newest() -> Card:
    """The card of the newest generation: what stands for a GPU that nobody has named."""
    return max(catalogue().values(), key=lambda card: card.generation)
