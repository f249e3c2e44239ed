"""The one training loop. Regimes differ only in how the model was prepared; recorders only listen."""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from footprint.spec.precision import PRECISIONS
from footprint.spec.run import RunSpec
from footprint.train.loss_scale import LossScale
from footprint.train.optimizers import MasterStepper, Stepper


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """What one step did: loss in nats per byte, seconds of each phase."""

    loss: float
    seconds: dict[str, float]


def train(
    model: nn.Module,
    stepper: Stepper | MasterStepper,
    batches: Iterable[tuple[Tensor, Tensor]],
    spec: RunSpec,
    *,
    half: torch.dtype,
    phase: Callable[[int, str], AbstractContextManager] = lambda step, name: nullcontext(),
) -> list[StepResult]:
    """Train on each (tokens, targets) pair, both int64 (B, S) on the CPU; `phase(step, name)` wraps each phase.

    The batch is copied to the device inside the forward phase (on the CPU too, so that it is counted alike), and
    gradients are dropped after the step phase.
    """
    autocast = PRECISIONS[spec.precision].autocast
    scales = half == torch.float16 and spec.precision != "fp32"
    scale = LossScale(spec.device, spec.sharding == "fsdp") if scales else None
    results = []
    for number, (tokens, targets) in enumerate(batches):
        clock = Clock(spec.device)
        with phase(number, "forward"):
            tokens, targets = tokens.to(spec.device, copy=True), targets.to(spec.device, copy=True)
            with torch.autocast(spec.device, half) if autocast else nullcontext():
                loss = model(tokens, targets)
            clock.lap("forward")
        with phase(number, "backward"):
            (loss if scale is None else scale.scaled(loss)).backward()
            clock.lap("backward")
        with phase(number, "step"):
            if scale is None or scale.unscale(stepper.parameters):
                stepper.step()
            clock.lap("step")
        results.append(StepResult(loss=loss.item(), seconds=clock.laps))
        del loss, tokens, targets
        model.zero_grad(set_to_none=True)
    return results


class Clock:
    """Seconds of each phase; waits for the device at every lap, which a timed phase must."""

    def __init__(self, device: str) -> None:
        self._wait = torch.cuda.synchronize if device == "cuda" else lambda: None
        self.laps: dict[str, float] = {}
        self._wait()
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        self._wait()
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now
