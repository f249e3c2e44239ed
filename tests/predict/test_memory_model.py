"""What a training step keeps, byte by byte: claims people repeat, held against the prediction and the real program."""

import re
from dataclasses import replace
from math import prod

import pytest
import torch
from clone import REPOSITORY
from tiny import GPT, HALF, every_regime, prepared, run

from footprint.measure.measurement import random_batches
from footprint.predict.parameters import resident
from footprint.predict.prediction import predict, timeline
from footprint.spec.presets import PRESETS
from footprint.spec.run import RunSpec
from footprint.tables.rows import read_table

# --- bytes per parameter ---------------------------------------------------------------------------------------------

NUMBER = 12
"""A Python number as an operand of the step: a double, and its cast to fp32."""


def step_temporaries(spec):
    """Bytes of the step's peak above where it begins."""
    step = [point.total for point in timeline(spec) if point.phase == "step"]
    return max(step) - step[0]


@pytest.mark.parametrize(
    ("precision", "weights", "gradient", "adam", "foreach"),
    [("mixed", 6, 2, 8, None), ("amp", 4, 4, 8, 4), ("bf16", 2, 2, 4, 2), ("fp32", 4, 4, 8, 4)],
)
def test_full_fine_tuning_costs_each_recipe_its_bytes_per_parameter(precision, weights, gradient, adam, foreach):
    spec = run("full", precision=precision)
    at_rest, parameters = resident(spec), resident(spec).trainable
    tensors = len(list(prepared(spec).parameters()))
    assert at_rest.weights == weights * parameters
    assert at_rest.gradients == gradient * parameters
    assert at_rest.optimizer == adam * parameters + 4 * tensors  # a step count each
    fused = step_temporaries(replace(spec, optimizer="adamw-fused"))
    if precision == "mixed":
        largest = 4 * max(p.numel() for p in prepared(spec).parameters())
        assert fused == largest + NUMBER  # one parameter's fp32 gradient
    else:
        assert fused == NUMBER
        assert step_temporaries(spec) == pytest.approx(foreach * parameters, abs=NUMBER)


def test_lora_pays_for_gradients_and_adam_by_the_adapter_only():
    at_rest = resident(run("lora", precision="mixed"))
    assert at_rest.master == 2 * at_rest.adapter == 4 * at_rest.trainable
    assert at_rest.gradients == 2 * at_rest.trainable
    assert at_rest.frozen_base == 2 * (at_rest.total - at_rest.trainable)


@pytest.mark.parametrize(("quantization", "per_weight"), [("nf4", 0.5625), ("nf4-double", 0.5 + 1 / 64 + 4 / 256 / 64)])
def test_nf4_takes_its_bytes_per_weight_and_a_code_book_per_matrix(quantization, per_weight):
    model = PRESETS["minigpt-85m"]
    spec = RunSpec(model=model, regime="qlora", precision="mixed", quantization=quantization)
    quantized = model.layers * sum(prod(shape) for shape in model.linears.values())
    matrices = model.layers * len(model.linears)
    dense = 2 * (resident(spec).total - resident(spec).trainable - quantized)
    books = matrices * (16 * 4 + (256 * 4 + 4) * (quantization == "nf4-double"))
    assert resident(spec).frozen_base - dense - books == quantized * per_weight


# --- saved activations per block -------------------------------------------------------------------------------------

TOKENS = 2 * 40
SAVED_NUMBER = 8
"""PEFT's scaling factor, saved as a double by every adapter's product."""


def predicted_saved(spec):
    """Live activations at the end of forward."""
    return [point.activations for point in timeline(spec) if point.phase == "forward"][-1]


def really_saved(spec):
    """Bytes of the storages that autograd's hooks are offered in a real forward, parameters and buffers left out."""
    model, storages = prepared(spec), {}
    kept = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    tokens, targets = random_batches(spec, 1)[0]
    autocast = torch.autocast("cpu", HALF, enabled=spec.precision == "amp")
    with autocast, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(tokens, targets)
    return sum(storage.nbytes() for address, storage in storages.items() if address not in kept)


def per_block(saved, spec):
    """What one more block in the middle of the stack saves."""
    two, three = (replace(spec, model=replace(spec.model, layers=layers)) for layers in (2, 3))
    return saved(three) - saved(two)


def statistics(precision):
    """Mean and deviation of two LayerNorms in the input's dtype, one fp32 log-sum-exp per head; bytes per block."""
    return TOKENS * (2 * 2 * (2 if precision in ("mixed", "bf16") else 4) + 4 * GPT.heads)


every_opinion = pytest.mark.parametrize("saved", [predicted_saved, really_saved], ids=["predicted", "real"])


@every_opinion
@pytest.mark.parametrize(("precision", "per_element"), [("fp32", 64), ("bf16", 32), ("mixed", 32), ("amp", 36 + 4)])
def test_full_saves_2f_and_14e_bytes_per_token_and_width(precision, per_element, saved):
    """Under autocast q, k and v each cast the norm's output for themselves: two half copies more than a fused one."""
    expected = TOKENS * GPT.width * per_element + statistics(precision)
    if precision == "amp":  # and the half copy of every Linear's weight
        expected += 2 * sum(prod(shape) for shape in GPT.linears.values())
    assert per_block(saved, run("full", precision=precision)) == expected


@every_opinion
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_lora_on_all_linears_saves_what_full_saves_plus_rank(precision, saved):
    adapters, rank = len(GPT.linears), 4
    lora = per_block(saved, run("lora", rank=rank, precision=precision))
    full = per_block(saved, run("full", precision=precision))
    numbers = SAVED_NUMBER * adapters * (saved is predicted_saved)  # hooks are not offered numbers
    assert lora - full - numbers == TOKENS * rank * adapters * (4 if precision == "fp32" else 2)


@every_opinion
def test_lora_on_q_and_v_saves_a_third_less_and_hardly_more_with_rank(saved):
    spec = run("lora", targets="qv", rank=2)
    numbers = 2 * SAVED_NUMBER * (saved is predicted_saved)
    expected = TOKENS * (GPT.width * 44 + 2 * 2 * 4) + statistics("fp32") + numbers
    assert per_block(saved, spec) == expected
    assert per_block(saved, replace(spec, rank=64)) - expected == TOKENS * 2 * 62 * 4


@every_opinion
def test_qlora_saves_what_lora_saves(saved):
    assert per_block(saved, run("qlora")) == per_block(saved, run("lora"))


@every_opinion
@every_regime
def test_a_checkpointed_block_saves_one_boundary(regime, saved):
    boundary = per_block(saved, run(regime, checkpointing="block"))
    numbers = SAVED_NUMBER * len(GPT.linears) * (regime != "full")  # hooks cannot drop them: they stay
    assert boundary == TOKENS * GPT.width * 4 + numbers * (saved is predicted_saved)


# --- cross-entropy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "forward", "backward"), [("fp32", 8, 16 - 4), ("mixed", 10, 14 - 2), ("amp", 10, 14 - 2)]
)
def test_the_loss_costs_its_bytes_per_token_and_vocabulary(precision, forward, backward):
    """Only the loss leaves the model, so backward does without the logits that a caller could hold."""
    rows = [predict(run("lora", precision=precision, model=replace(GPT, vocab=vocab))) for vocab in (30_000, 50_000)]
    for phase, per_element in (("forward", forward), ("backward", backward)):
        small, large = (row[f"{phase}_peak_bytes"] - row["weights_bytes"] for row in rows)
        assert large - small == TOKENS * 20_000 * per_element


def test_the_row_by_hand_adds_up_to_the_measured_peak():
    """The last table of docs/memory-model.md, against the committed measurement and the prediction."""
    text = (REPOSITORY / "docs" / "memory-model.md").read_text(encoding="utf-8").split("by hand")[1]
    *parts, total = (int(cell.replace(",", "")) for cell in re.findall(r"\| \**([\d,]+)\** \|$", text, flags=re.M))
    measured = read_table(REPOSITORY / "results" / "reference" / "cpu-amd-epyc-2-cores" / "measurements.csv")
    (row,) = measured[(measured["regime"] == "full") & (measured["checkpointing"] == "none")].to_dict("records")
    assert sum(parts) == total == row["peak_bytes"]
    assert predict(RunSpec(model=PRESETS["minigpt-85m"], regime="full"))["weights_bytes"] == parts[0]
