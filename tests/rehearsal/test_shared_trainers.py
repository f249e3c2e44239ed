"""Transformers' Trainer over several GPUs: Accelerate shards what it is told to, and a row says so."""

import pytest
from tiny import LLAMA, run

from footprint.jobs.rehearsals import rehearse_each
from footprint.spec.training import TrainingSpec
from rehearsal import needs_cuda_build

pytestmark = [needs_cuda_build, pytest.mark.slow]

COUNTER = 4
"""Bytes of a step counter, of which every GPU has one for each tensor."""


def rows(regime: str) -> dict[str, dict]:
    common = {"stack": "transformers", "precision": "amp", "optimizer": "adamw-fused", "checkpointing": "block"}
    common |= {"batch": 4, "device": "cuda", "card": "a100-80gb"}
    specs = [
        run(regime, model=LLAMA, **common, gpus=gpus, sharding=sharding)
        for gpus, sharding in ((1, "none"), (2, "ddp"), (2, "fsdp"))
    ]
    found = rehearse_each(specs, TrainingSpec(measured_steps=1))
    return {spec.sharding: row for spec, row in zip(specs, found, strict=True)}


@pytest.fixture(scope="module", params=["full", "lora"])
def rehearsed(request):
    return rows(request.param)


def test_under_ddp_each_gpu_holds_weights_and_moments_whole(rehearsed):
    for name in ("weights_bytes", "optimizer_bytes", "total_parameters"):
        assert rehearsed["ddp"][name] == rehearsed["none"][name]


def test_under_fsdp_each_of_two_gpus_holds_half_of_what_is_no_buffer(rehearsed):
    alone, shared = rehearsed["none"], rehearsed["fsdp"]
    assert shared["total_parameters"] == alone["total_parameters"]
    buffers = 2 * shared["weights_bytes"] - alone["weights_bytes"]
    assert 0 <= buffers <= 256  # frequencies of rotary positions
    counters = 2 * shared["optimizer_bytes"] - alone["optimizer_bytes"]
    assert counters % COUNTER == 0
    assert 0 < counters <= 64 * COUNTER
    assert shared["peak_bytes"] < alone["peak_bytes"]


def test_four_bit_bases_are_shared_too():
    found = rows("qlora")
    assert found["fsdp"]["frozen_base_bytes"] < 0.75 * found["none"]["frozen_base_bytes"]  # their scales are not
    assert 2 * found["fsdp"]["adapter_bytes"] == found["none"]["adapter_bytes"]
