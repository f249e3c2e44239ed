"""What is predicted for several GPUs is what a rank's allocator says in a rehearsal, under DDP and under FSDP2."""

import random
from dataclasses import replace

import pytest
from random_runs.draws import draw, shared

from footprint.jobs.rehearsals import rehearse_each
from footprint.predict.prediction import predict
from footprint.spec.columns import COMPARED
from footprint.spec.model import BLOCKS, ModelSpec
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from rehearsal import PYTHON, needs_cuda_build

pytestmark = needs_cuda_build

CARDS = {"t4": "fp16", "h100-80gb": "bf16"}
"""Cards of two generations, and the half-precision type of their runs: other kernels run on each."""


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch):
    monkeypatch.setenv("FOOTPRINT_REHEARSAL_PYTHON", str(PYTHON))


def assert_predicted(specs: list[RunSpec], training: TrainingSpec) -> None:
    for spec, rehearsed in zip(specs, rehearse_each(specs, training), strict=True):
        predicted = predict(spec, training)
        assert {name: predicted[name] for name in COMPARED} == {name: rehearsed[name] for name in COMPARED}, spec


@pytest.mark.slow
@pytest.mark.parametrize(("card", "half"), CARDS.items())
def test_random_runs_on_several_gpus_take_what_was_predicted_in_every_phase_and_bucket(card, half):
    generator = random.Random(0)
    alone = [replace(draw(generator, BLOCKS), device="cuda", card=card) for _ in range(8)]
    assert_predicted([shared(generator, spec, 8) for spec in alone], TrainingSpec(half=half))


UNEVEN = ModelSpec(name="uneven", layers=5, width=93, heads=3, vocab=1009, context=64, mlp_width=211)


@pytest.mark.parametrize("checkpointing", ["none", "block", "sqrt"])
def test_blocks_are_gathered_and_let_go_as_predicted_where_no_gpu_has_as_many_rows_as_another(checkpointing):
    axes = {"batch": 5, "seq": 50, "checkpointing": checkpointing, "gpus": 5, "sharding": "fsdp"}
    axes |= {"device": "cuda", "card": "a10g"}
    assert_predicted([RunSpec(model=UNEVEN, regime=regime, **axes) for regime in ("full", "qlora")], TrainingSpec())


def test_buckets_of_gradients_are_filled_as_predicted():
    """The first takes 1 MiB and every other 25: of this model's gradients there are several."""
    model = replace(UNEVEN, name="several-buckets", width=768, layers=3, vocab=5000)
    spec = RunSpec(model=model, regime="full", batch=2, seq=50, gpus=2, sharding="ddp", device="cuda", card="a10g")
    assert_predicted([spec], TrainingSpec())
