"""What `mixed`, `amp`, `bf16` and `fp32` mean: the dtype of every tensor a regime keeps, torch-free."""

from dataclasses import dataclass

HALF, FULL = 2, 4
"""Bytes of one element in half precision (bf16 or fp16) and in fp32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """One recipe; sizes are bytes per element. Adam's moments have the size of what the optimizer steps."""

    base: int
    """The frozen base (unquantized tensors) and the compute dtype of dequantized NF4 weights."""
    trained: int
    """The parameters the model computes with and their gradients."""
    stepped: int
    """What the optimizer updates: an fp32 master copy under `mixed`, else the trained parameter itself."""
    autocast: bool
    """Whether forward runs under autocast to half precision."""

    @property
    def has_master(self) -> bool:
        """Whether an extra fp32 copy of every trained parameter is kept."""
        return self.stepped != self.trained


PRECISIONS: dict[str, Precision] = {
    "mixed": Precision(base=HALF, trained=HALF, stepped=FULL, autocast=False),
    "amp": Precision(base=HALF, trained=FULL, stepped=FULL, autocast=True),
    "bf16": Precision(base=HALF, trained=HALF, stepped=HALF, autocast=False),
    "fp32": Precision(base=FULL, trained=FULL, stepped=FULL, autocast=False),
}
