"""One loop for every regime: it learns, checkpointing changes nothing but memory, masters keep what half would lose."""

from itertools import pairwise
from statistics import mean

import pytest
import torch
from clone import REPOSITORY
from tiny import GPT, HALF, LLAMA, every_precision, every_regime, prepared, run, trained
from torch import nn

from footprint.measure.measurement import random_batches
from footprint.spec.checkpointing import segment_lengths
from footprint.spec.presets import PRESETS
from footprint.spec.run import RunSpec
from footprint.train.optimizers import LEARNING_RATES, build
from footprint.train.regimes import trainable

LICENSE = REPOSITORY / "LICENSE"  # English that every clone has


def english(spec, steps):
    """Consecutive windows of real text, wrapping round at its end."""
    text = torch.frombuffer(bytearray(LICENSE.read_bytes()), dtype=torch.uint8).long()
    size = spec.batch * spec.seq
    text = text.repeat(1 + (steps * size + 1) // len(text))
    shape = (spec.batch, spec.seq)
    starts = range(0, steps * size, size)
    return [(text[i : i + size].view(shape), text[i + 1 : i + 1 + size].view(shape)) for i in starts]


@every_regime
def test_loss_falls_over_30_steps(regime):
    spec = RunSpec(model=PRESETS["minigpt-3m"], regime=regime, precision="fp32", batch=2, seq=64)
    _, _, steps = trained(spec, english(spec, 30))
    losses = [step.loss for step in steps]
    assert mean(losses[-5:]) < mean(losses[:5]) - 0.1


@every_regime
def test_loss_falls_for_llama_blocks_too(regime):
    spec = RunSpec(model=PRESETS["minillama-3m"], regime=regime, precision="mixed", batch=2, seq=64)
    _, _, steps = trained(spec, english(spec, 30))
    losses = [step.loss for step in steps]
    assert mean(losses[-5:]) < mean(losses[:5]) - 0.1


def loss_and_gradients(spec):
    model = prepared(spec)
    loss = model(*random_batches(spec, 1)[0])
    loss.backward()
    return loss.detach(), [p.grad for p in trainable(model)]


@pytest.mark.parametrize("model", [GPT, LLAMA], ids=["gpt", "llama"])
@pytest.mark.parametrize("checkpointing", ["block", "sqrt"])
@every_regime
def test_checkpointing_changes_neither_loss_nor_gradients(regime, checkpointing, model):
    loss, gradients = loss_and_gradients(run(regime, model=model))
    same_loss, same_gradients = loss_and_gradients(run(regime, model=model, checkpointing=checkpointing))
    assert torch.equal(loss, same_loss)
    assert all(map(torch.equal, gradients, same_gradients))


@pytest.mark.parametrize("checkpointing", ["none", "block", "sqrt"])
@every_regime
def test_every_trained_parameter_gets_a_gradient(regime, checkpointing):
    _, gradients = loss_and_gradients(run(regime, checkpointing=checkpointing))
    assert all(gradient is not None for gradient in gradients)


@pytest.mark.parametrize("layers", [1, 2, 3, 7, 12, 13, 16, 80])
def test_segments_cover_the_stack_and_sqrt_makes_about_sqrt_of_them(layers):
    assert segment_lengths(layers, "none") == ()
    assert segment_lengths(layers, "block") == (1,) * layers
    lengths = segment_lengths(layers, "sqrt")
    assert sum(lengths) == layers
    assert abs(len(lengths) - layers**0.5) < 1
    assert max(lengths) - min(lengths) <= 1


@every_regime
@every_precision
def test_the_fused_step_does_what_the_foreach_step_does(regime, precision):
    foreach, fused = (
        trained(run(regime, precision=precision, optimizer=name), random_batches(run(), 3))[0]
        for name in ("adamw", "adamw-fused")
    )
    # The gradient of a key's bias is rounding noise (softmax ignores a shift), which Adam divides by itself.
    exact = precision in ("fp32", "amp")
    tolerance = {"rtol": 1e-4, "atol": LEARNING_RATES[regime] / 100} if exact else {"rtol": 0.02, "atol": 0.004}
    for one, other in zip(trainable(foreach), trainable(fused), strict=True):
        torch.testing.assert_close(one, other, **tolerance)


def stepped_up(precision, steps):
    """A half parameter of 1.0 whose gradient always asks for more, after some steps; and its stepper."""
    parameter = nn.Parameter(torch.ones(4, dtype=HALF))
    stepper = build(run("lora", precision=precision), [parameter])
    for _ in range(steps):
        parameter.grad = torch.full_like(parameter, -1.0)
        stepper.step()
    return parameter, stepper


def test_a_master_copy_keeps_steps_that_half_precision_would_lose():
    assert torch.finfo(HALF).eps > 2 * LEARNING_RATES["lora"]  # a step rounds back to the value it came from
    parameter, stepper = stepped_up("mixed", 16)
    (master,) = stepper.masters()
    assert master.dtype == torch.float32
    assert master.mean().item() == pytest.approx(1 + 16 * LEARNING_RATES["lora"], rel=1e-3)
    assert torch.equal(parameter, master.to(HALF))
    assert parameter.min() > 1
    lost, _ = stepped_up("bf16", 16)
    assert torch.equal(lost, torch.ones_like(lost))


def test_after_a_step_every_half_weight_is_its_master_rounded():
    model, stepper, _ = trained(run(precision="mixed"), random_batches(run(), 2))
    for parameter, master in zip(trainable(model), stepper.masters(), strict=True):
        assert torch.equal(parameter, master.to(HALF))


@every_precision
def test_only_amp_computes_in_half_what_it_keeps_in_fp32(precision):
    spec, dtypes = run("full", precision=precision), []
    model = prepared(spec)
    model.head.register_forward_hook(lambda module, inputs, output: dtypes.append((module.weight.dtype, output.dtype)))
    with torch.autocast("cpu", HALF, enabled=precision == "amp"):
        model(*random_batches(spec, 1)[0])
    kept, computed = dtypes[0]
    assert (kept != computed) == (precision == "amp")


def test_a_step_leaves_no_gradient_behind_and_the_batch_as_it_was():
    batches = random_batches(run(), 2)
    before = [tokens.clone() for tokens, _ in batches]
    model, _, steps = trained(run(), batches)
    assert all(p.grad is None for p in model.parameters())
    assert all(map(torch.equal, before, (tokens for tokens, _ in batches)))
    assert all(set(step.seconds) == {"forward", "backward", "step"} for step in steps)


@every_regime
def test_training_twice_from_one_seed_is_the_same_training(regime):
    first, second = ([step.loss for step in trained(run(regime), random_batches(run(), 3))[2]] for _ in range(2))
    assert first == second
    assert all(one != next_ for one, next_ in pairwise(first))
