"""The arithmetic everybody quotes: 16 bytes per trained parameter, four buckets, activations left out."""

from footprint.predict.arithmetic import rounded
from footprint.predict.parameters import parameters, shards
from footprint.predict.tape import Size
from footprint.spec.run import RunSpec

TRAINED = 16
"""Bytes per trained parameter: half weight 2, fp32 master 4, half gradient 2, Adam's two fp32 moments 8."""

FROZEN_HALF, FROZEN_NF4 = 2.0, 0.5625
"""Bytes per frozen parameter: half precision; NF4 with one fp32 scale per 64 weights (the textbook's 0.56)."""


def textbook_bytes(spec: RunSpec) -> Size:
    """Weights, gradients and Adam by the textbook rule: 16 N, or 2 N + 16 N_lora, or 0.5625 N + 16 N_lora.

    N counts the whole model and N_lora its adapters; the rule knows nothing of precision, batch or activations. What is
    sharded is divided by the number of GPUs.
    """
    trained = sum(p.elements * p.count for p in parameters(spec) if p.trained)
    frozen = sum(p.elements * p.count for p in parameters(spec) if not p.trained)
    exact = TRAINED * trained + (FROZEN_NF4 if spec.regime == "qlora" else FROZEN_HALF) * frozen
    return rounded(exact / shards(spec))
