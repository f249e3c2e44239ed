"""One model over several GPUs: under DDP each holds all of it, under FSDP2 a share of every tensor.

Nothing is set but what a run must say, so that the bytes are those of the defaults. Sources: torch.nn.parallel
.DistributedDataParallel and torch.distributed.fsdp.fully_shard.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from footprint.spec.run import RunSpec


def shard(part: nn.Module, spec: RunSpec) -> None:
    """Let this process keep its share of the parameters of `part` that are not sharded yet, and gather them for use.

    They are gathered, and their gradients reduced, in the dtype they have.
    """
    from torch.distributed.device_mesh import DeviceMesh  # a second that a run on one GPU should not pay
    from torch.distributed.fsdp import fully_shard

    fully_shard(part, mesh=DeviceMesh(spec.device, torch.arange(spec.gpus)))


def distributed(model: nn.Module, spec: RunSpec) -> nn.Module:
    """The model as this process trains it. Under fsdp its blocks are sharded already."""
    if spec.sharding == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    if spec.sharding == "fsdp":
        shard(model, spec)
    return model


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: its share of a sharded one, else all of it."""
    return tensor.detach().to_local() if hasattr(tensor, "to_local") else tensor


def share_of(rank: int, spec: RunSpec, batches: list[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The sequences of each batch, int64 (B, S), that the process of a rank trains on."""
    own = slice(rank * spec.local_batch, (rank + 1) * spec.local_batch)
    for tokens, targets in batches:
        yield tokens[own], targets[own]
