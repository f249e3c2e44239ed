"""Several GPUs, predicted: on the CPU what every process measures, and laws for any model."""

import random
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from cpu_kernels import assert_measured_as_predicted
from hypothesis import given, settings
from hypothesis import strategies as st
from test_prediction import ODD, named
from tiny import LLAMA, TRAINING, run

from footprint.jobs.fresh import measure_each
from footprint.predict.allocator import Allocator, MiB
from footprint.predict.capacity import FITS, of_card, of_size
from footprint.predict.fit import cheapest_change, finished, largest
from footprint.predict.parameters import parameters, resident, shard
from footprint.predict.prediction import least_peaks, predict, predict_many
from footprint.predict.replicated import buckets
from footprint.spec.cards import find
from footprint.spec.presets import PRESETS
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec


def on(gpus: int, sharding: str, regime: str = "full", **axes) -> RunSpec:
    return run(regime, gpus=gpus, sharding=sharding, **{"batch": gpus} | axes)


MEASURED = [
    on(2, "fsdp"),
    on(2, "fsdp", "lora", checkpointing="block", precision="mixed"),
    on(2, "fsdp", "qlora", model=LLAMA, quantization="nf4-double"),
    on(2, "fsdp", model=ODD, checkpointing="sqrt", optimizer="adamw-fused"),
    on(2, "fsdp", model=LLAMA, precision="amp"),
    on(2, "ddp"),
    on(2, "ddp", "lora", model=LLAMA),
    on(2, "ddp", "qlora", precision="mixed", checkpointing="block"),
]


@pytest.fixture(scope="module")
def measured():
    """The measured row of every spec: that of the process whose peak is highest."""
    return dict(zip(MEASURED, measure_each(MEASURED, TRAINING), strict=True))


@pytest.mark.xdist_group("several-gpus")  # one process, so that the rows are measured once
@pytest.mark.parametrize("spec", MEASURED, ids=named)
def test_prediction_equals_what_the_highest_rank_measures(spec, measured):
    assert_measured_as_predicted(spec, measured[spec], TRAINING)


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_deepest_model_is_predicted_too(sharding, device):
    """Its 14,336 adapters are more than Python nests calls."""
    deep = replace(ODD, layers=1024)
    shared = predict(on(2, sharding, "lora", model=deep, device=device), TRAINING)
    single = predict(run("lora", model=deep, device=device, batch=1), TRAINING)
    assert (shared["adapter_bytes"] == single["adapter_bytes"]) == (sharding == "ddp")


@given(st.integers(1, 10**6), st.integers(1, 1024))
def test_the_shards_of_a_tensor_have_its_rows_and_none_has_more_than_the_first(rows, gpus):
    cut = torch.empty(rows, device="meta").chunk(gpus)
    assert shard(rows, gpus) == len(cut[0]) == max(map(len, cut))


@pytest.mark.parametrize("regime", ["full", "lora", "qlora"])
@pytest.mark.parametrize("gpus", [2, 3, 8])
def test_what_is_sharded_is_divided_but_for_the_rows_that_do_not_divide(regime, gpus):
    alone, shared = resident(run(regime, model=ODD)), resident(on(gpus, "fsdp", regime, model=ODD))
    tensors = sum(each.count for each in parameters(run(regime, model=ODD)))
    longest_row = 4 * max(each.columns for each in parameters(run(regime, model=ODD)))
    for name in ("adapter", "trained_base", "gradients"):
        assert 0 <= gpus * getattr(shared, name) - getattr(alone, name) <= gpus * tensors * longest_row
    assert (shared.trainable, shared.total) == (alone.trainable, alone.total)


@pytest.mark.parametrize("regime", ["full", "lora", "qlora"])
def test_ddp_takes_a_bucket_as_large_as_all_gradients_beside_what_one_gpu_takes(regime):
    alone, shared = predict(run(regime, batch=3)), predict(on(4, "ddp", regime, batch=12))
    buckets_ = resident(run(regime)).gradients
    assert shared["peak_bytes"] == alone["peak_bytes"] + buckets_
    assert shared["activations_bytes"] == alone["activations_bytes"] + buckets_


def test_a_run_is_predicted_the_same_among_others_and_by_itself():
    specs = [*MEASURED, *(spec.alone for spec in MEASURED)]
    random.Random(0).shuffle(specs)
    assert predict_many(specs) == [predict(spec) for spec in specs]
    assert predict_many(MEASURED[:2]) == [predict(spec) for spec in MEASURED[:2]]


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_tensors_alone_take_on_a_card_what_is_requested_there(sharding):
    spec = run("lora", model=LLAMA, gpus=2, sharding=sharding, device="cuda", card="a10g")
    assert least_peaks([spec]) == [predict(spec)["requested_peak_bytes"]]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 2000), st.sampled_from([2, 4])), min_size=1, max_size=40))
def test_buckets_are_filled_as_pytorch_fills_them(tensors):
    dtypes = {2: torch.bfloat16, 4: torch.float32}
    given_ = [torch.empty(elements, dtype=dtypes[element]) for elements, element in tensors]
    limits = (1000, 5000)
    (filled, _) = dist._compute_bucket_assignment_by_size(given_, list(limits), [False] * len(given_))
    expected = tuple((sum(given_[i].nbytes for i in bucket), len(bucket)) for bucket in filled)
    assert buckets(limits, tuple(element for _, element in tensors), *(t.nbytes for t in given_)) == expected


@pytest.mark.parametrize(("stream", "reserved"), [(0, 2 * MiB), (1, 4 * MiB)])
def test_what_one_stream_gives_back_another_does_not_take(stream, reserved):
    allocator = Allocator()
    allocator.carry_out([0, 0], [allocator.request(MiB), allocator.release(MiB)])
    allocator.carry_out([1], [allocator.request(MiB, stream)])
    assert allocator.reserved == reserved


def test_the_largest_batch_is_found_although_smaller_ones_do_not_fit():
    """368 sequences fit and 376 do not; 432 do, which suit the allocator's segments better."""
    training, capacity = TrainingSpec(), of_card(find("a100-80gb"))
    axes = {"checkpointing": "block", "precision": "mixed", "rank": 8, "seq": 2048, "card": "a100-80gb"}
    spec = on(8, "fsdp", "lora", model=PRESETS["llama-7b"], device="cuda", **axes)
    most = finished(largest(spec, "batch", 488, capacity, training))
    held = [batch for batch in range(8, 489, 8) if capacity.holds(replace(spec, batch=batch), training)]
    assert most == max(held) == 432
    assert 376 not in held


def test_a_batch_is_made_smaller_by_as_much_on_every_gpu():
    axes = {"checkpointing": "sqrt", "optimizer": "adamw-fused", "batch": 16380, "seq": 64}
    spec = on(4, "fsdp", "lora", model=LLAMA, device="cuda", card="a10g", **axes)
    capacity, training = of_size(1024 * MiB), TrainingSpec()
    most = finished(largest(spec, "batch", spec.batch, capacity, training))
    assert 0 < most < spec.batch
    assert most % spec.gpus == 0
    change = cheapest_change(spec, capacity, training)
    assert (change.axis, change.changed.verdict) == ("batch", FITS)
    assert change.changed.spec.batch % spec.gpus == 0
