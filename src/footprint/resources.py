"""What a run asks of a scheduler: the memory of its host, from the prediction of what it will hold."""

from collections.abc import Sequence
from functools import cached_property

from footprint.plan import run_name
from footprint.predict import predict_many
from footprint.spec import RunSpec, TrainingSpec

PROCESS = 2 * 2**30
"""Bytes of a process that has imported PyTorch, PEFT and bitsandbytes, the server it was forked from and the Snakemake
that started it; between 0.5 GiB and 1 GiB, by whether pages they share count once."""

CUDA_PROCESS = 8 * 2**30
"""Bytes of host memory of a run on a GPU: the CUDA libraries, and one parameter at a time on its way to the device."""

MARGIN = 1.25
"""Resident over live bytes: what the CPU's heap keeps of freed blocks."""


class HostMemory:
    """Megabytes (10^6, as Snakemake counts) each run needs; predicted for all of them when first asked for one."""

    def __init__(self, runs: Sequence[RunSpec], training: TrainingSpec) -> None:
        self._runs, self._training = runs, training

    def megabytes(self, run: str) -> int:
        """Of the run with that file name."""
        return self._megabytes[run]

    def most(self) -> int:
        """Of the run that needs most."""
        return max(self._megabytes.values())

    @cached_property
    def _megabytes(self) -> dict[str, int]:
        rows = predict_many(self._runs, self._training)
        pairs = zip(self._runs, rows, strict=True)
        return {run_name(spec): round(_bytes(spec, row["peak_bytes"]) / 1e6) for spec, row in pairs}


def _bytes(spec: RunSpec, peak: int) -> float:
    return CUDA_PROCESS if spec.device == "cuda" else PROCESS + MARGIN * peak
