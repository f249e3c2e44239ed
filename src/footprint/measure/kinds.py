"""What a tensor of a run is: frozen base, adapter, gradient, optimizer state. All else counts as activations."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from footprint.train.optimizers import MasterStepper, Stepper
from footprint.train.sharding import local


@dataclass(frozen=True, slots=True)
class Held:
    """A parameter as it lies in memory between steps."""

    parameter: nn.Parameter
    """FSDP2 gathers it into another tensor for use, and puts this one back in its place."""
    state: object | None
    """bitsandbytes' scales and code books of an NF4 matrix."""

    @property
    def parts(self) -> Iterator[Tensor]:
        """The tensors it consists of."""
        yield self.parameter
        state = self.state
        while state is not None:
            yield from (value for value in vars(state).values() if isinstance(value, Tensor))
            state = state.state2

    @property
    def elements(self) -> int:
        """Of the whole model: an NF4 matrix counts its weights, not its bytes, a sharded tensor all its shares."""
        return self.parameter.numel() if self.state is None else self.state.shape.numel()


def held(model: nn.Module) -> list[Held]:
    """Every parameter of a model once. Ask when none is gathered, before the first step."""
    found = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            # A sharded matrix has lost its state, which its Linear keeps too.
            kept = getattr(module, "quant_state", None) if name == "weight" else None
            found.setdefault(id(parameter), Held(parameter, getattr(parameter, "quant_state", None) or kept))
    return list(found.values())


def kinds(
    parameters: list[Held], model: nn.Module, stepper: Stepper | MasterStepper, device: str
) -> Iterator[tuple[int, str]]:
    """(storage address, kind) of every tensor on the device that is not an activation; later entries win."""
    for tensor in stepper.states():
        if tensor.device.type == device:  # AdamW counts its steps on the host, paged moments lie in managed memory
            yield from _placed(tensor, "optimizer")
    for tensor in stepper.masters():
        yield from _placed(tensor, "master")
    adapters = any(not each.parameter.requires_grad for each in parameters)
    for each in parameters:
        if not each.parameter.requires_grad:
            for part in each.parts:
                yield from _placed(part, "frozen_base")
            continue
        yield from _placed(each.parameter, "adapter" if adapters else "trained")
        if each.parameter.grad is not None:
            yield from _placed(each.parameter.grad, "gradients")
    for buffer in model.buffers():
        yield from _placed(buffer, "frozen_base")


def _placed(tensor: Tensor, kind: str) -> Iterator[tuple[int, str]]:
    storage = local(tensor).untyped_storage()
    if storage.nbytes():  # a process may have no row of a sharded tensor
        yield storage.data_ptr(), kind
