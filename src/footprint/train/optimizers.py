"""AdamW in every form the grid names, and the fp32 master copy that makes `mixed` the textbook's 16 bytes."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import bitsandbytes as bnb
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from footprint.spec.precision import PRECISIONS
from footprint.spec.run import RunSpec

LEARNING_RATES = {"full": 1e-4, "lora": 1e-3, "qlora": 1e-3}
"""Adapters start at zero and take ten times what a whole model takes without a warm-up of the rate."""

Schedule = Callable[[int], float]
"""The learning rate of a step, counted from 0, as a fraction of the highest."""

# foreach is what PyTorch picks by itself on CUDA; it is asked for on the CPU too: both devices do the same step.
_FACTORIES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, foreach=True),
    "adamw-fused": partial(torch.optim.AdamW, fused=True),
    "adamw-8bit": bnb.optim.AdamW8bit,
    "paged-adamw": bnb.optim.PagedAdamW32bit,
}


class Stepper:
    """One AdamW over the trained parameters themselves."""

    def __init__(self, parameters: list[nn.Parameter], factory: Callable, schedule: Schedule | None = None) -> None:
        self.parameters = parameters
        self.optimizer = factory(parameters)
        self._next_rate = _pace(self.optimizer, schedule)

    def step(self) -> None:
        """Update every parameter from its gradient."""
        self.optimizer.step()
        self._next_rate()

    def masters(self) -> Iterable[Tensor]:
        """The fp32 master copies: none."""
        return ()

    def states(self) -> Iterator[Tensor]:
        """Every tensor the optimizer keeps between steps."""
        return _tensors(self.optimizer.state.values())


class MasterStepper:
    """AdamW over fp32 master copies of half-precision parameters, one parameter at a time.

    Each parameter has an optimizer of its own, so the only temporary is one parameter's fp32 gradient
    (and what AdamW needs for that one tensor), never a second copy of all gradients.
    """

    def __init__(self, parameters: list[nn.Parameter], factory: Callable, schedule: Schedule | None = None) -> None:
        self.parameters = parameters
        self._masters = [p.detach().float() for p in parameters]
        self._optimizers = [factory([master]) for master in self._masters]
        self._next_rates = [_pace(optimizer, schedule) for optimizer in self._optimizers]

    @torch.no_grad()
    def step(self) -> None:
        """Update every master copy from the half gradient, then round it into the parameter."""
        for parameter, master, optimizer in zip(self.parameters, self._masters, self._optimizers, strict=True):
            master.grad = parameter.grad.float()
            optimizer.step()
            master.grad = None
            parameter.copy_(master)
        for next_rate in self._next_rates:
            next_rate()

    def masters(self) -> Iterable[Tensor]:
        """The fp32 master copies, one per parameter."""
        return self._masters

    def states(self) -> Iterator[Tensor]:
        """Every tensor the optimizers keep between steps."""
        for optimizer in self._optimizers:
            yield from _tensors(optimizer.state.values())


def _tensors(states: Iterable[dict]) -> Iterator[Tensor]:
    for state in states:
        yield from (value for value in state.values() if isinstance(value, Tensor))


def _pace(optimizer: torch.optim.Optimizer, schedule: Schedule | None) -> Callable[[], None]:
    """What sets the rate of the next step after each."""
    return (lambda: None) if schedule is None else LambdaLR(optimizer, schedule).step


def build(
    spec: RunSpec, parameters: list[nn.Parameter], *, rate: float | None = None, schedule: Schedule | None = None
) -> Stepper | MasterStepper:
    """The optimizer a spec asks for over `parameters`; `rate` is the highest learning rate, the regime's by default."""
    stepper = MasterStepper if PRECISIONS[spec.precision].has_master else Stepper
    rate = LEARNING_RATES[spec.regime] if rate is None else rate
    return stepper(parameters, partial(_FACTORIES[spec.optimizer], lr=rate), schedule)
