"""Which columns of a measurement on the CPU are predicted to the byte: it depends on the processor.

oneDNN picks its kernels, and so their scratchpads, by instruction set; `predict/onednn.py` derives those of
AVX512-bf16.
"""

from collections.abc import Mapping

import pytest
import torch

from footprint.predict.prediction import predict
from footprint.spec.columns import SHARED, WEIGHT_PARTS
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec

_CAPABILITIES = torch.cpu.get_capabilities()
KNOWN_KERNELS = _CAPABILITIES.get("avx512_bf16", False) and not _CAPABILITIES.get("amx_bf16", False)
"""Whether half precision runs the kernels of the predictions and of the committed rows; fp32 needs none of their
scratchpads."""


def assert_measured_as_predicted(spec: RunSpec, measured: Mapping, training: TrainingSpec) -> None:
    """Every phase and bucket; with other kernels what lies there between steps, and then the test counts as skipped."""
    predicted = predict(spec, training)
    everything = spec.precision == "fp32" or KNOWN_KERNELS
    names = SHARED if everything else (*WEIGHT_PARTS, "weights_bytes", "optimizer_bytes")
    assert {name: predicted[name] for name in names} == {name: measured[name] for name in names}
    if not everything:
        pytest.skip("peaks in half precision are exact on CPUs with AVX512-bf16 and no AMX only")
