"""What is predicted for a card is what its allocator says in a rehearsal: random runs, and runs at the edge."""

import random

import pytest
from random_runs import on_card
from random_runs.draws import draw_on_card
from random_runs.on_card import first_difference

from footprint.jobs.rehearsals import rehearse_each
from footprint.predict.capacity import of_card
from footprint.predict.prediction import predict
from footprint.predict.simulation import watched
from footprint.spec.cards import find
from footprint.spec.columns import COMPARED
from footprint.spec.model import BLOCKS, ModelSpec
from footprint.spec.presets import PRESETS
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from rehearsal import PYTHON, needs_cuda_build

pytestmark = needs_cuda_build

CARDS = {"t4": "bf16", "a100-80gb": "bf16", "h100-80gb": "bf16", "rtx-2080-ti": "fp16", "l4": "fp16"}
"""Cards of five generations, and the half-precision type of their runs: other kernels run on each."""


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch):
    monkeypatch.setenv("FOOTPRINT_REHEARSAL_PYTHON", str(PYTHON))


@pytest.mark.slow
@pytest.mark.parametrize(("card", "half"), CARDS.items())
def test_random_runs_take_what_was_predicted_in_every_phase_and_bucket(card, half):
    generator, training = random.Random(0), TrainingSpec(half=half)
    specs = [draw_on_card(generator, BLOCKS, card) for _ in range(16)]
    capacity, finished = of_card(find(card)), 0
    for spec, rehearsed in zip(specs, rehearse_each(specs, training), strict=True):
        assert capacity.holds(spec, training) == (rehearsed["status"] == "ok"), spec
        if rehearsed["status"] == "ok":
            predicted = predict(spec, training)
            known = [name for name in COMPARED if rehearsed[name] is not None]  # nothing is where the cache was emptied
            assert {name: predicted[name] for name in known} == {name: rehearsed[name] for name in known}, spec
            finished += 1
    assert finished > 12


def test_the_longest_sequence_that_is_predicted_to_fit_does_and_one_more_token_does_not():
    """The A10G has 22 GiB: how far a QLoRA of TinyLlama without checkpointing goes."""
    card, training = find("a10g"), TrainingSpec()
    capacity = of_card(card)

    def run(seq: int) -> RunSpec:
        model = PRESETS["tinyllama-1.1b"]
        return RunSpec(model=model, regime="qlora", batch=1, seq=seq, device="cuda", card=card.key)

    fitting, exceeding = 128, 65536
    while exceeding - fitting > 1:
        tried = (fitting + exceeding) // 2
        fitting, exceeding = (tried, exceeding) if capacity.holds(run(tried), training) else (fitting, tried)
    held, refused = rehearse_each([run(fitting), run(exceeding)], training)
    assert (held["status"], refused["status"]) == ("ok", "oom")


def test_a_product_saves_only_what_the_other_factor_needs():
    """Adapters on up_proj alone: in the first block nothing before the gate trains, so up_proj's result is not kept."""
    model = PRESETS["minillama-3m"]
    spec = RunSpec(model=model, regime="qlora", targets="up", precision="bf16", device="cuda", card="a10g")
    (rehearsed,) = rehearse_each([spec], TrainingSpec())
    predicted = predict(spec, TrainingSpec())
    assert {name: predicted[name] for name in COMPARED} == {name: rehearsed[name] for name in COMPARED}


def test_a_tensor_of_as_many_bytes_as_marks_of_the_recorder_is_the_run_s_own():
    """A mask of 7 booleans, and a matrix of 400 weights, whose 7 scales are quantized to a byte each."""
    masked = ModelSpec(name="masked", layers=1, width=64, heads=1, vocab=256, context=64)
    scaled = ModelSpec(name="scaled", layers=1, width=20, heads=2, vocab=97, context=64, mlp_width=20)
    specs = [
        RunSpec(model=masked, regime="full", batch=1, seq=7, device="cuda", card="t4"),
        RunSpec(
            model=scaled, regime="qlora", rank=2, quantization="nf4-double", batch=1, seq=8, device="cuda", card="t4"
        ),
    ]
    for spec, rehearsed in zip(specs, rehearse_each(specs, TrainingSpec()), strict=True):
        predicted = predict(spec, TrainingSpec())
        assert {name: predicted[name] for name in COMPARED} == {name: rehearsed[name] for name in COMPARED}


def test_a_wrong_prediction_is_traced_to_its_tensor(monkeypatch):
    spec = RunSpec(model=PRESETS["minigpt-3m"], regime="lora", device="cuda", card="a10g")
    assert first_difference(spec, TrainingSpec()) is None

    def with_a_longer_gradient(*given) -> list:
        points = watched(*given)
        made = next(index for index, (_, tensor, _) in enumerate(points) if tensor == "log-probabilities")
        for _, _, kinds in points[made:]:
            kinds["activations"] += 4
        return points

    monkeypatch.setattr(on_card, "watched", with_a_longer_gradient)
    assert first_difference(spec, TrainingSpec()).startswith("log-probabilities in forward: ")
