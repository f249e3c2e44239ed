"""Dynamic loss scaling, which keeps small fp16 gradients from vanishing (Micikevicius et al. 2018)."""

import torch
from torch import Tensor, nn

from footprint.train.sharding import local

INITIAL, GROWTH_INTERVAL = 2.0**16, 2000
"""PyTorch's own defaults (torch.amp.GradScaler), which cannot be used here: it refuses gradients kept in fp16."""


class LossScale:
    """Multiplies the loss by a power of two and divides the gradients by it, halving it whenever one overflowed."""

    def __init__(self, device: str, sharded: bool = False) -> None:
        """`sharded`: other processes hold the rest of every gradient, which may overflow there."""
        self._sharded = sharded
        self._scale = torch.tensor(INITIAL, device=device)
        self._overflowed = torch.tensor(0.0, device=device)
        self._steps_since_change = torch.tensor(0, dtype=torch.int32, device=device)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to run backward from."""
        return loss * self._scale

    def unscale(self, parameters: list[nn.Parameter]) -> bool:
        """Divide every gradient in place; False when one is not finite and the step must be skipped."""
        self._overflowed.zero_()
        torch._amp_foreach_non_finite_check_and_unscale_(
            [local(p.grad) for p in parameters], self._overflowed, self._scale.reciprocal()
        )
        if self._sharded:
            torch.distributed.all_reduce(self._overflowed, torch.distributed.ReduceOp.MAX)
        usable = not self._overflowed.item()
        torch._amp_update_scale_(self._scale, self._steps_since_change, self._overflowed, 2.0, 0.5, GROWTH_INTERVAL)
        return usable
