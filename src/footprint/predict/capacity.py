"""What a card has room for: one definition of whether a run fits, for the command line, the search and the page."""

from dataclasses import dataclass

from footprint.spec.units import parse_bytes

VERDICTS = FITS, TIGHT, TOO_LARGE = "fits", "tight", "does not fit"
"""What can be said of a run and a card, the best first."""

DRIVER_SHARE = 0.02
"""What of a GPU's printed memory its driver keeps, as a share."""

SMALLEST_CONTEXT, LARGEST_CONTEXT = parse_bytes("0.1GiB"), parse_bytes("0.6GiB")
"""Bytes of a CUDA context: it depends on the card, the driver and the kernels that are loaded."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """A device's memory, and how much of it a run's tensors can use.

    What the caching allocator leaves unused between blocks is not part of it: a run that fits may still need a little
    more than its tensors.
    """

    memory: int
    """Bytes, as printed on the card."""
    device: str
    """`cuda`, or `cpu` for memory in which nothing but tensors is counted."""

    @property
    def sure(self) -> int:
        """Bytes that tensors can have on any card of this size: driver's share and the largest context taken off."""
        if self.device == "cpu":
            return self.memory
        return int(self.memory * (1 - DRIVER_SHARE)) - LARGEST_CONTEXT

    @property
    def most(self) -> int:
        """Bytes that tensors can have at best: nothing taken off but the smallest context."""
        return self.memory if self.device == "cpu" else self.memory - SMALLEST_CONTEXT

    def verdict(self, peak: int) -> str:
        """`fits`, `tight` (whether it runs depends on the card and its driver) or `does not fit`."""
        if peak <= self.sure:
            return FITS
        return TIGHT if peak <= self.most else TOO_LARGE
