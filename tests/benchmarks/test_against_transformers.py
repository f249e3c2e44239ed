"""The benchmark against transformers compares one network with itself: same weights, same loss, same gradients."""

import random
from copy import deepcopy
from functools import partial

import pytest
import torch
from against_transformers import AS_WRITTEN, median_between, record
from peers.huggingface import as_gpt2, load
from peers.sides import batches_of
from peers.tensors import differences
from tiny import GPT, HALF, TRAINING, every_regime, prepared, run

from footprint.jobs.fresh import each_fresh
from footprint.spec.precision import PRECISIONS
from footprint.train.regimes import trainable


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    as_gpt2(prepared(run())).save_pretrained(folder)
    return str(folder)


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


def test_gpt2_with_our_weights_has_our_parameters_loss_and_gradients():
    ours = prepared(run())
    theirs = as_gpt2(ours)
    [(tokens, targets)] = batches_of(run(), 1)
    loss, their_loss = ours(tokens, targets), theirs(input_ids=tokens, labels=tokens).loss
    assert loss.item() == pytest.approx(their_loss.item(), rel=1e-6)
    loss.backward()
    their_loss.backward()
    gradients = deepcopy(ours)
    for into, parameter in zip(gradients.parameters(), ours.parameters(), strict=True):
        into.data = parameter.grad
    expected = dict(as_gpt2(gradients).named_parameters())
    assert count(expected.values()) == count(ours.parameters())
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].data, rtol=1e-4, atol=1e-6)


@every_regime
@pytest.mark.parametrize("precision", ["amp", "bf16", "fp32"])
def test_both_sides_start_from_the_same_loss(regime, precision, checkpoint):
    spec = run(regime, precision=precision)
    [(tokens, targets)] = batches_of(spec, 1)
    with torch.no_grad(), torch.autocast("cpu", HALF, enabled=PRECISIONS[precision].autocast):
        theirs = load(checkpoint, spec)(input_ids=tokens, labels=tokens).loss.item()
        assert prepared(spec)(tokens, targets).item() == pytest.approx(
            theirs, rel=1e-5 if precision == "fp32" else 1e-3
        )


@pytest.mark.parametrize("regime", ["lora", "qlora"])
def test_a_wider_adapter_on_the_fused_projection_makes_the_sides_train_as_many_parameters(regime, checkpoint):
    spec = run(regime)
    ours, theirs, as_written = (
        count(trainable(model))
        for model in (prepared(spec), load(checkpoint, spec), load(checkpoint, spec, same_parameters=False))
    )
    assert ours == theirs
    assert ours - as_written == GPT.layers * 2 * spec.rank * GPT.width


@every_regime
def test_the_sides_train_in_the_same_dtypes(regime, checkpoint):
    for precision in ("amp", "bf16"):
        spec = run(regime, precision=precision)
        ours, theirs = (
            {(p.dtype, p.requires_grad) for p in m.parameters()} for m in (prepared(spec), load(checkpoint, spec))
        )
        assert ours == theirs


def test_the_tensors_that_differ_explain_the_peaks_to_the_byte(checkpoint):
    spec = run("lora", precision="amp")
    sides = {
        side: next(each_fresh(partial(record, side, checkpoint), [spec], TRAINING))
        for side in ("ours", "theirs", AS_WRITTEN)
    }
    ours, theirs = sides["ours"], sides["theirs"]
    explained = sum(tensor["ours_minus_theirs_bytes"] for tensor in differences(spec, ours["groups"], theirs["groups"]))
    assert explained == ours["peak_bytes"] - theirs["peak_bytes"]
    assert ours["trainable_parameters"] == theirs["trainable_parameters"] > sides[AS_WRITTEN]["trainable_parameters"]
    assert sides[AS_WRITTEN]["peak_bytes"] < theirs["peak_bytes"]


def test_nine_rounds_bound_their_median_by_the_second_of_each_end():
    assert median_between([0.7, 0.8, 0.9, 0.95, 1.0, 1.1, 1.2, 1.3, 1.4]) == (1.0, 0.8, 1.3)


def test_more_rounds_bound_the_median_more_closely():
    generator = random.Random(0)
    rounds = [generator.gauss(1.0, 0.1) for _ in range(200)]
    few, many = median_between(rounds[:5]), median_between(rounds)
    assert few[1:] == (min(rounds[:5]), max(rounds[:5]))
    assert many[1] < 1.0 < many[2]
    assert many[2] - many[1] < (few[2] - few[1]) / 3
