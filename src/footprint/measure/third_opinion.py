"""The third opinion: the same program seen from above its kernels, by the storages its operators return.

`simulate` runs the model, the optimizer and the loop that are measured, under a dispatch mode that sees every
operator's results and knows when each storage dies. It shares no code with the recorders and no formula with the
predictor, so where measurement and prediction differ it says who is wrong. It is blind to what a kernel takes and gives
back within one operator (attention buffers, oneDNN scratchpads, the matrix bitsandbytes dequantizes for a product) and
to Python numbers that become tensors: it is a lower bound, exact where no kernel needs scratch at the peak.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from footprint.train.loop import train
from footprint.train.optimizers import build
from footprint.train.regimes import HALF_TYPES, prepare, trainable


def simulate(spec: RunSpec, training: TrainingSpec) -> dict[str, int]:
    """`forward_peak_bytes`, `backward_peak_bytes` and `step_peak_bytes` of the first measured step, and `peak_bytes`.

    Full fine-tuning runs on fake tensors: no memory, no arithmetic, any size. Adapters run for real, at the cost of
    `training.warmup_steps` + 1 steps: PEFT moves its adapters with `Module.to`, which PyTorch refuses for fake
    parameters, and bitsandbytes' `Params4bit` cannot wrap one. Call it in a process of its own: bitsandbytes keeps
    tables for the process, which a measurement that comes later would miss.
    """
    half = HALF_TYPES[training.half]
    torch.set_num_threads(training.threads)
    with FakeTensorMode() if spec.regime == "full" else nullcontext():
        shape = (2, spec.batch, spec.seq)
        batches = [tuple(torch.zeros(shape, dtype=torch.int64)) for _ in range(training.warmup_steps + 1)]
        with StorageTracker() as tracker:
            model = prepare(spec, half=half, seed=training.seed)
            train(model, build(spec, trainable(model)), batches, spec, half=half, phase=tracker.phase)
    peaks = {f"{name}_peak_bytes": size for name, size in tracker.peaks.items()}
    return peaks | {"peak_bytes": max(peaks.values())}


class StorageTracker(TorchDispatchMode):
    """Counts the bytes of every storage that an operator returned and that still exists."""

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peaks: dict[str, int] = {}
        """Highest live bytes of the latest phase of each name."""
        self._highest = 0
        self._known: set[int] = set()

    @contextmanager
    def phase(self, step: int, name: str) -> Iterator[None]:
        """What `loop.train` wraps around each phase; what is live when it begins counts too."""
        self._highest = self.live
        yield
        self.peaks[name] = self._highest

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return 1.0  # the loss and AdamW's step count, on which no lifetime depends
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.device.type != "meta":
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        # PyTorch keeps one Python object per storage for as long as the storage lives, so its end is the storage's.
        if id(storage) in self._known:
            return
        self._known.add(id(storage))
        weakref.finalize(storage, self._forget, id(storage), storage.nbytes())
        self.live += storage.nbytes()
        self._highest = max(self._highest, self.live)

    def _forget(self, identity: int, size: int) -> None:
        self._known.remove(identity)
        self.live -= size
