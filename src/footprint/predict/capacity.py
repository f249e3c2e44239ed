"""What a run has to fit into, and whether it does: one definition for the command line, the search and the page."""

from dataclasses import dataclass, replace

from footprint.predict.kernels.choice import kernels_for
from footprint.predict.prediction import least_peaks
from footprint.predict.simulation import Simulation, simulate
from footprint.spec.cards import Card, newest
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec

VERDICTS = FITS, TOO_LARGE = "fits", "does not fit"
"""What can be said of a run and a card, the better first."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The memory of a device."""

    memory: int
    """Bytes: of a card, all that its driver reports."""
    card: Card | None = None
    """Whose kernels run; None for a CPU, in whose memory nothing but tensors is counted."""

    @property
    def device(self) -> str:
        """Where such a run is."""
        return "cpu" if self.card is None else "cuda"

    @property
    def room(self) -> int:
        """Bytes that an allocator can have: of a card without its CUDA context."""
        return self.memory if self.card is None else self.memory - self.card.context

    def verdict(self, row: dict[str, object]) -> str:
        """`fits` or `does not fit`, of the row of a run that was predicted for this room."""
        return FITS if self.taken(row) <= self.room else TOO_LARGE

    def holds(self, spec: RunSpec, training: TrainingSpec) -> bool:
        """Whether a run gets through all its steps; for a search, which needs no row of those that do not."""
        if self.card is None:
            return least_peaks([spec], training)[0] <= self.room
        return self._simulated(spec, training) is not None

    def empties_cache(self, spec: RunSpec, training: TrainingSpec) -> bool:
        """Whether a run that fits does so only because the allocator gives free segments back on the way."""
        return self.card is not None and self._simulated(spec, training).retries > 0

    def _simulated(self, spec: RunSpec, training: TrainingSpec) -> Simulation | None:
        return simulate(spec, training, kernels_for("cuda", training, spec.card), self.room)

    def taken(self, row: dict[str, object]) -> int:
        """Bytes that a run takes of the room: by its tensors, or all that a card's allocator reserved."""
        return row["peak_bytes"] if self.card is None else row["process_peak_bytes"] - self.card.context


def of_size(memory: int) -> Capacity:
    """A card of that size which nobody has named: one of the newest generation."""
    return Capacity(memory, replace(newest(), name="a card", total=memory, checked=False))


def of_card(card: Card) -> Capacity:
    """A card of the catalogue, or one like it with other memory."""
    return Capacity(card.total, card)
