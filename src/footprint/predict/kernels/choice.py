"""Which kernels a run takes."""

from functools import cache

from footprint.predict.kernels.cpu import CpuKernels
from footprint.predict.kernels.cuda import CudaKernels
from footprint.predict.kernels.device import Kernels
from footprint.spec.cards import find, newest
from footprint.spec.training import TrainingSpec


@cache
def kernels_for(device: str, training: TrainingSpec, card: str | None = None) -> Kernels:
    """The kernels of a device; those of the newest card where it is a GPU that is not named."""
    if device == "cpu":
        return CpuKernels(training.threads)
    return CudaKernels(newest() if card is None else find(card), training.half)
