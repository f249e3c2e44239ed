"""Models and runs small enough to train within a test, and what the tests of the training code share."""

from contextlib import nullcontext

import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker

from footprint.measure.measurement import random_batches
from footprint.spec.model import ModelSpec
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from footprint.train.loop import train
from footprint.train.optimizers import build
from footprint.train.regimes import prepare, trainable

SIZES = {"layers": 2, "width": 64, "heads": 2, "vocab": 96, "context": 64}
GPT = ModelSpec(name="tiny", **SIZES)
LLAMA = ModelSpec(name="tiny-llama", block="llama", kv_heads=1, mlp_width=160, **SIZES)

TRAINING = TrainingSpec(measured_steps=1)
HALF = torch.bfloat16

every_regime = pytest.mark.parametrize("regime", ["full", "lora", "qlora"])
every_precision = pytest.mark.parametrize("precision", ["mixed", "amp", "bf16", "fp32"])


def run(regime: str = "full", *, model: ModelSpec = GPT, **axes) -> RunSpec:
    """A tiny run; axes not given are small, or the contract's defaults."""
    return RunSpec(model=model, regime=regime, **{"rank": 4, "batch": 2, "seq": 40, "precision": "fp32"} | axes)


def prepared(spec: RunSpec):
    """The model of a run; PEFT draws its adapters from PyTorch's own generator, which `measure` seeds too."""
    torch.manual_seed(0)
    return prepare(spec, half=HALF, seed=0)


def trained(spec: RunSpec, batches):
    """The model, its stepper and the results after training on `batches`."""
    model = prepared(spec)
    stepper = build(spec, trainable(model))
    return model, stepper, train(model, stepper, batches, spec, half=HALF)


def mem_tracker_peak(spec: RunSpec) -> int:
    """Peak bytes of two steps by PyTorch's own tracker, which follows storages from above the kernels."""
    tracker, batches = MemTracker(), random_batches(spec, 2)

    def once_per_model_call(step, name):
        if name == "forward":
            tracker.reset_mod_stats()
        return nullcontext()

    with tracker:
        model = prepared(spec)
        stepper = build(spec, trainable(model))
        train(model, stepper, batches, spec, half=HALF, phase=once_per_model_call)
    return tracker.get_tracker_snapshot("peak")[torch.device(spec.device)]["Total"]
