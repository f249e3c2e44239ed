"""The ranks of a run that is recorded, as PyTorch's process groups: over Gloo on the CPU, pretended on a card.

A collective takes nothing of PyTorch's allocator here, as with NCCL. Gloo's own threads would let go of the tensors
they were given at a moment of their choosing, where the recorder of the main thread does not see it. So they are given
copies, in memory of NumPy's, and the tensors of the run stay with the thread that made them.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import _create_work_from_future


class Group(dist.ProcessGroup):
    """What a process group that is written in Python must say of itself."""

    name: str
    device: str
    """The kind of device whose tensors it takes."""

    def __init__(self, store: dist.Store, rank: int, size: int, timeout: timedelta) -> None:
        super().__init__(rank, size)

    @classmethod
    def register(cls) -> str:
        """Let `init_process_group` know this backend; returns its name there."""
        if cls.name not in dist.Backend.backend_list:
            dist.Backend.register_backend(cls.name, cls, devices=[cls.device])
        return cls.name

    def getBackendName(self) -> str:  # noqa: N802, PyTorch's name
        """As PyTorch asks for it."""
        return self.name

    @property
    def group_name(self) -> str:
        """The name PyTorch has given this group."""
        return dist.distributed_c10d._world.pg_names[self]

    def barrier(self, opts: object = None) -> dist.Work:
        """There is nobody to wait for, unless a group says so."""
        return self._done([])

    def _done(self, result: list) -> dist.Work:
        """Work that is over, whose future holds the tensors: DDP asks for them."""
        devices = [torch.device(self.device, torch.cuda.current_device())] if self.device == "cuda" else None
        future = torch.futures.Future(devices=devices)
        future.set_result(result)
        return _create_work_from_future(future)


class OneOfMany(Group):
    """One rank alone, where kernels do nothing: a collective does nothing either, and takes no memory."""

    name, device = "one-of-many", "cuda"

    def allreduce(self, tensors: list[Tensor], opts: object = None) -> dist.Work:
        """As `Gloo.allreduce`."""
        return self._done(tensors)

    def broadcast(self, tensors: list[Tensor], opts: object) -> dist.Work:
        """As `Gloo.broadcast`."""
        return self._done(tensors)

    def allgather(self, outputs: list[list[Tensor]], inputs: list[Tensor], opts: object = None) -> dist.Work:
        """Every list of outputs becomes copies of the input: what DDP compares is small, and so is carried out."""
        for gathered, own in zip(outputs, inputs, strict=True):
            for output in gathered:
                output.copy_(own)
        return self._done(outputs)

    def all_gather_single(self, output: Tensor, own: Tensor, opts: object = None) -> dist.Work:
        """As `Gloo.all_gather_single`."""
        return self._done([output])

    def reduce_scatter_single(self, output: Tensor, whole: Tensor, opts: object) -> dist.Work:
        """As `Gloo.reduce_scatter_single`."""
        return self._done([output])


class Gloo(Group):
    """Collectives of CPU tensors. Each is over when its call returns."""

    name, device = "staged-gloo", "cpu"

    def __init__(self, store: dist.Store, rank: int, size: int, timeout: timedelta) -> None:
        super().__init__(store, rank, size, timeout)
        self._gloo = dist.ProcessGroupGloo(store, rank, size, timeout)

    def allreduce(self, tensors: list[Tensor], opts: object = None) -> dist.Work:
        """Every tensor becomes the sum, or what `opts` says, of those of all ranks."""
        return self._through(self._reduced, tensors, opts)

    def broadcast(self, tensors: list[Tensor], opts: object) -> dist.Work:
        """Every tensor becomes that of the root."""
        return self._through(lambda staged, told: self._gloo.broadcast([staged], told).wait(), tensors, opts)

    def allgather(self, outputs: list[list[Tensor]], inputs: list[Tensor], opts: object = None) -> dist.Work:
        """Every list of outputs becomes the inputs of all ranks."""
        for gathered, own in zip(outputs, inputs, strict=True):
            for output, part in zip(gathered, self._gathered(own), strict=True):
                output.copy_(part)
        return self._done(outputs)

    def all_gather_single(self, output: Tensor, own: Tensor, opts: object = None) -> dist.Work:
        """The output becomes the inputs of all ranks, one after the other."""
        for part, found in zip(output.view(self.size(), -1), self._gathered(own), strict=True):
            part.copy_(found.view(-1))
        return self._done([output])

    def reduce_scatter_single(self, output: Tensor, whole: Tensor, opts: object) -> dist.Work:
        """The output becomes this rank's part of the sum, or of what `opts` says, of those of all ranks."""
        staged = _staged(whole)
        self._reduced(staged, opts)
        output.view(-1).copy_(staged.view(self.size(), -1)[self.rank()])
        return self._done([output])

    def barrier(self, opts: object = None) -> dist.Work:
        """Wait for all ranks."""
        self._gloo.barrier().wait()
        return self._done([])

    def _through(self, collective: Callable[[Tensor, object], None], tensors: list[Tensor], opts: object) -> dist.Work:
        for tensor in tensors:
            staged = _staged(tensor)
            collective(staged, opts)
            tensor.copy_(staged)
        return self._done(tensors)

    def _reduced(self, staged: Tensor, opts: object) -> None:
        """Reduce in place; Gloo knows no mean."""
        mean = opts is not None and opts.reduceOp == dist.ReduceOp.AVG
        told = dist.AllreduceOptions()
        told.reduceOp = dist.ReduceOp.SUM if mean or opts is None else opts.reduceOp
        self._gloo.allreduce([staged], told).wait()
        if mean:
            staged.div_(_memory((), staged.dtype).fill_(self.size()))  # of a number PyTorch would make a tensor

    def _gathered(self, own: Tensor) -> list[Tensor]:
        """One broadcast after another: Gloo would gather in a tensor of its own."""
        parts = [_staged(own) for _ in range(self.size())]
        for rank, part in enumerate(parts):
            told = dist.BroadcastOptions()
            told.rootRank = rank
            self._gloo.broadcast([part], told).wait()
        return parts


def _memory(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor in memory of NumPy's."""
    elements = int(np.prod(shape, dtype=np.int64))
    return torch.from_numpy(np.empty(elements * dtype.itemsize, np.uint8)).view(dtype).view(shape)


def _staged(tensor: Tensor) -> Tensor:
    return _memory(tensor.shape, tensor.dtype).copy_(tensor.detach())
