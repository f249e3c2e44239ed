"""What only a GPU can show: the allocator's history, its statistics and the prediction against each other."""

import os
from dataclasses import replace

import pytest
import torch
from tiny import GPT, LLAMA, TRAINING, every_precision, every_regime, run

from footprint.jobs.fresh import measure_each
from footprint.predict.parameters import SMALLEST_PAGED
from footprint.predict.prediction import predict
from footprint.spec.columns import BUCKET_BYTES, PHASE_PEAKS, WEIGHT_PARTS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a CUDA build of PyTorch"),
]

NOT_ON_CPU = ("adamw-8bit", "paged-adamw")


def measured(*specs, training=TRAINING):
    return list(measure_each([spec.with_device("cuda") for spec in specs], training))


def wide(width, heads):
    """A GPT of another width."""
    return replace(GPT, width=width, heads=heads, kv_heads=heads, head_width=width // heads, mlp_width=4 * width)


@every_regime
@every_precision
def test_history_and_statistics_agree_and_buckets_sum_to_max_memory_allocated(regime, precision):
    """`measure` raises where the history's peak is not the allocator's `requested_bytes.all.peak`."""
    (row,) = measured(run(regime, precision=precision))
    assert row["status"] == "ok"
    assert sum(row[name] for name in BUCKET_BYTES) == row["peak_bytes"] == max(row[name] for name in PHASE_PEAKS)
    assert row["requested_peak_bytes"] <= row["peak_bytes"] <= row["reserved_peak_bytes"]


@every_regime
def test_weights_are_the_same_bytes_as_on_the_cpu(regime):
    spec = run(regime, precision="mixed")
    (on_gpu,), (on_cpu,) = measured(spec), measure_each([spec], TRAINING)
    assert [on_gpu[name] for name in WEIGHT_PARTS] == [on_cpu[name] for name in WEIGHT_PARTS]


def test_repeating_a_run_gives_identical_bytes():
    spec = run("lora", model=LLAMA, precision="amp", checkpointing="block")
    first, second = measured(spec, spec)
    assert all(first[name] == second[name] for name in (*PHASE_PEAKS, *BUCKET_BYTES, "reserved_peak_bytes"))


@pytest.mark.parametrize("optimizer", NOT_ON_CPU)
def test_optimizers_of_bitsandbytes_keep_less_on_the_device(optimizer):
    # bitsandbytes pages the moments of tensors from SMALLEST_PAGED elements on, and quantizes those from 4,096 on.
    model = replace(GPT, vocab=-(-SMALLEST_PAGED // GPT.width))
    spec = replace(run("full", model=model), device="cuda")
    plain, small = measured(spec, replace(spec, optimizer=optimizer))
    assert small["optimizer_bytes"] < plain["optimizer_bytes"]


@every_regime
def test_prediction_is_within_one_percent(regime):
    spec = run(regime, precision="mixed", model=wide(256, 4)).with_device("cuda")
    (row,) = measured(spec)
    assert predict(spec)["peak_bytes"] == pytest.approx(row["peak_bytes"], rel=0.01)


def test_a_small_card_is_imitated_by_the_allocator_itself():
    spec = run("full", model=wide(512, 8))
    (row,) = measured(spec, training=replace(TRAINING, memory_limit=2**20))
    assert (row["status"], row["oom_phase"]) == ("oom", "build")
    assert row["oom_requested_bytes"] > 0


@pytest.mark.skipif(os.environ.get("CUDA_VISIBLE_DEVICES") == "", reason="no visible device")
def test_fp16_with_loss_scaling_trains():
    (row,) = measured(run("full", precision="amp"), training=replace(TRAINING, half="fp16"))
    assert row["status"] == "ok"
