"""What each regime trains, what it leaves alone, and the dtype of every tensor it keeps."""

from contextlib import contextmanager
from dataclasses import replace
from math import prod

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from tiny import GPT, HALF, LLAMA, TRAINING, every_precision, every_regime, prepared, run, trained
from torch import nn

from footprint.jobs.fresh import each_fresh
from footprint.measure.measurement import random_batches
from footprint.measure.recorded_run import RecordedRun
from footprint.measure.trace.cpu import CpuRecorder
from footprint.measure.trace.reader import Trace
from footprint.predict.parameters import NF4_BLOCK, resident
from footprint.spec.precision import FULL, PRECISIONS
from footprint.spec.presets import PRESETS
from footprint.spec.run import RunSpec
from footprint.train.loop import train
from footprint.train.minigpt import MiniGPT
from footprint.train.optimizers import build
from footprint.train.regimes import quantized, trainable

MINIGPT = PRESETS["minigpt-85m"]


def trainable_parameters(model):
    return sum(parameter.numel() for parameter in trainable(model))


def dtype(size):
    return torch.float32 if size == FULL else HALF


def quantized_linears(model):
    return [module for module in model.modules() if isinstance(module, Linear4bit)]


def test_nothing_that_is_trained_uses_cudnns_attention():
    """Its workspace cannot be predicted; a base that is pretrained by it would also differ between cards."""
    torch.backends.cuda.enable_cudnn_sdp(True)
    prepared(run())
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_rank_8_on_all_linears_of_minigpt_trains_1_327_104_parameters():
    spec = RunSpec(model=MINIGPT, regime="lora", rank=8, precision="bf16")
    assert trainable_parameters(prepared(spec)) == 1_327_104
    assert resident(spec).trainable == 1_327_104


@pytest.mark.parametrize("rank", [1, 2, 32, 64])
def test_adapters_grow_in_proportion_to_the_rank(rank):
    assert resident(RunSpec(model=MINIGPT, regime="qlora", rank=rank)).trainable == rank * 1_327_104 // 8


@pytest.mark.parametrize("model", [GPT, LLAMA], ids=["gpt", "llama"])
@pytest.mark.parametrize("targets", ["all-linear", "attention", "qv"])
@pytest.mark.parametrize("regime", ["lora", "qlora"])
def test_every_adapted_linear_gets_rank_times_both_its_widths(regime, targets, model):
    spec = run(regime, model=model, targets=targets, rank=3)
    expected = model.layers * sum(3 * sum(model.linears[name]) for name in model.adapted(targets))
    assert trainable_parameters(prepared(spec)) == resident(spec).trainable == expected


def test_full_trains_everything():
    with torch.device("meta"):
        expected = sum(p.numel() for p in MiniGPT(GPT).parameters())
    assert trainable_parameters(prepared(run("full"))) == expected


def test_full_collapses_rank_targets_and_quantization():
    assert run("full", rank=7, targets="qv", quantization="nf4-double") == run("full")
    assert run("full").axes() | {"rank": 0, "targets": "none", "quantization": "none"} == run("full").axes()


@every_regime
def test_every_regime_starts_from_the_same_weights(regime):
    full = dict(prepared(run("full")).named_parameters())
    same = dict(prepared(run(regime)).named_parameters())
    for name in ("tokens.weight", "head.weight", "blocks.1.mlp_norm.weight"):
        assert torch.equal(full[name], same[name])


@pytest.mark.parametrize("regime", ["lora", "qlora"])
@every_precision
def test_training_leaves_the_base_as_it_was_and_moves_every_adapter(regime, precision):
    spec = run(regime, precision=precision)
    before = {name: p.clone() for name, p in prepared(spec).named_parameters()}
    model, _, _ = trained(spec, random_batches(spec, 3))
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == ("lora_" in name)
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


@every_regime
@every_precision
def test_every_tensor_has_the_dtype_of_its_recipe(regime, precision):
    spec, recipe = run(regime, precision=precision), PRECISIONS[precision]
    model = prepared(spec)
    stepper, gradients = build(spec, trainable(model)), set()

    @contextmanager
    def look_at_gradients(step, name):
        gradients.update(p.grad.dtype for p in trainable(model) if name == "step")
        yield

    train(model, stepper, random_batches(spec, 1), spec, half=HALF, phase=look_at_gradients)
    frozen = {p.dtype for p in model.parameters() if not p.requires_grad} - {torch.uint8}
    assert frozen == (set() if regime == "full" else {dtype(recipe.base)})
    assert {p.dtype for p in trainable(model)} == gradients == {dtype(recipe.trained)}
    assert {m.dtype for m in stepper.masters()} == ({torch.float32} if precision == "mixed" else set())
    assert {s.dtype for s in stepper.states() if s.ndim} == {dtype(recipe.stepped)}


def test_an_nf4_weight_takes_half_a_byte_and_one_fp32_scale_per_64():
    linears = quantized_linears(prepared(run("qlora")))
    assert len(linears) == GPT.layers * len(GPT.linears)
    for linear in linears:
        elements = linear.weight.quant_state.shape.numel()
        assert linear.weight.untyped_storage().nbytes() == elements // 2
        absmax = linear.weight.quant_state.absmax
        assert (absmax.dtype, absmax.numel()) == (torch.float32, elements // NF4_BLOCK)
        assert linear.weight.quant_state.code.untyped_storage().nbytes() == 16 * 4


def test_double_quantization_keeps_the_scales_in_8_bits():
    for linear in quantized_linears(prepared(run("qlora", quantization="nf4-double"))):
        state = linear.weight.quant_state
        assert (state.absmax.dtype, state.absmax.numel()) == (torch.uint8, state.shape.numel() // NF4_BLOCK)
        assert state.state2.absmax.numel() == -(-state.absmax.numel() // 256)


def test_embeddings_head_norms_and_biases_are_not_quantized():
    model = prepared(run("qlora"))
    plain = {name for name, p in model.named_parameters() if p.dtype == torch.float32 and "lora_" not in name}
    assert {"tokens.weight", "positions.weight", "head.weight", "norm.weight"} <= plain
    assert all("bias" in name or "norm" in name for name in plain if name.startswith("blocks."))


def of_building(spec, training):
    """Live bytes of a build: the most, and those that stay."""
    run = RecordedRun(spec, training)
    run.build()
    trace = Trace(run.recorder.stop())
    return {"peak": trace.peak("build").total, "at_rest": trace.live[-1]}


def of_quantizing_the_largest(spec, training):
    """The most live bytes while one dense Linear is made and quantized: itself, and what bitsandbytes takes."""
    d_in, d_out = max(spec.model.linears.values(), key=prod)
    recorder = CpuRecorder()
    recorder.start()
    with recorder.phase("one"):
        layer = quantized(nn.Linear(d_in, d_out, dtype=HALF), spec, HALF)
    assert layer.weight.dtype == torch.uint8
    return {"peak": Trace(recorder.stop()).peak("one").total}


@pytest.mark.parametrize("quantization", ["nf4", "nf4-double"])
def test_building_qlora_never_holds_more_than_the_model_and_one_dense_linear(quantization):
    deep = run("qlora", model=replace(GPT, layers=10, width=128), quantization=quantization, precision="bf16")
    (build,) = each_fresh(of_building, [deep], TRAINING)
    (one,) = each_fresh(of_quantizing_the_largest, [deep], TRAINING)
    dense = 2 * deep.model.layers * sum(prod(shape) for shape in deep.model.linears.values())
    assert build["peak"] <= build["at_rest"] + one["peak"] < dense


def test_an_nf4_weight_stays_near_the_weight_it_replaces():
    dense = prepared(run("full")).blocks[0].mlp.up_proj.weight
    packed = prepared(run("qlora")).blocks[0].mlp.up_proj.base_layer.weight
    assert torch.corrcoef(torch.stack([dense, dequantize_4bit(packed, packed.quant_state)]).flatten(1))[0, 1] > 0.99
