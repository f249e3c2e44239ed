"""The prediction: equal to the measurement to the byte, and the laws of memory-model it is made of."""

from dataclasses import replace
from math import prod

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tiny import GPT, HALF, LLAMA, TRAINING, every_regime, prepared, run

import footprint.spec
from footprint.errors import FootprintError
from footprint.fresh import measure_each, random_batches
from footprint.predict import predict, predict_many, timeline
from footprint.predict.parameters import resident
from footprint.records import BUCKET_BYTES, PHASE_PEAKS, SHARED, WEIGHT_PARTS
from footprint.spec import PRESETS, ModelSpec, RunSpec
from footprint.training import PHASES

# oneDNN picks its kernels, and so their scratchpads, by instruction set; onednn.py derives those of AVX512-bf16.
CAPABILITIES = torch.cpu.get_capabilities()
PREDICTED_KERNELS = CAPABILITIES.get("avx512_bf16", False) and not CAPABILITIES.get("amx_bf16", False)

DEEP = replace(GPT, name="deep", layers=5)  # sqrt: segments of 3 and 2 blocks
ODD = ModelSpec(name="odd", layers=3, width=93, heads=3, vocab=101, context=64, mlp_width=211)
TIED = replace(GPT, name="tied", tied_head=True, vocab=1009)

SPECS = [
    run("full"),
    run("full", precision="mixed", checkpointing="sqrt", model=DEEP),
    run("full", precision="amp", checkpointing="block", optimizer="adamw-fused"),
    run("full", precision="bf16", optimizer="adamw-fused", batch=1, seq=37),
    run("full", model=ODD, precision="mixed", optimizer="adamw-fused"),
    run("full", model=TIED, checkpointing="block"),
    run("full", model=replace(DEEP, name="wide-mlp", mlp_width=3000), checkpointing="block", seq=7),
    run("full", model=LLAMA, precision="bf16", checkpointing="sqrt"),
    run("lora", model=ODD, targets="qv", rank=1),
    run("lora", precision="mixed", targets="attention", checkpointing="block", seq=64),
    run("lora", precision="amp", rank=64),
    run("lora", precision="bf16", checkpointing="sqrt", model=DEEP, batch=1),
    run("lora", model=LLAMA, precision="amp", checkpointing="block", targets="qv"),
    run("qlora"),
    run("qlora", precision="mixed", quantization="nf4-double", checkpointing="sqrt", model=DEEP),
    run("qlora", precision="amp", targets="qv", checkpointing="block", optimizer="adamw-fused"),
    run("qlora", precision="bf16", targets="attention", batch=1, seq=53),
    run("qlora", model=LLAMA, precision="mixed", quantization="nf4-double", batch=3),
]


def named(spec):
    return "-".join(str(value) for value in spec.axes().values())


@pytest.fixture(scope="module")
def measured():
    """The measured row of every spec, each from a process of its own."""
    return dict(zip(SPECS, measure_each(SPECS, TRAINING), strict=True))


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_prediction_equals_measurement_in_every_phase_and_bucket(spec, measured):
    predicted = predict(spec, TRAINING)
    if spec.precision == "fp32" or PREDICTED_KERNELS:
        assert {name: predicted[name] for name in SHARED} == {name: measured[spec][name] for name in SHARED}
    else:
        for name in (*WEIGHT_PARTS, "weights_bytes", "optimizer_bytes"):
            assert predicted[name] == measured[spec][name]
        pytest.skip("peaks in half precision are exact on CPUs with AVX512-bf16 and no AMX only")


def test_the_measured_specs_cover_every_value_of_every_axis():
    for axis in ("regime", "targets", "checkpointing", "precision", "quantization"):
        allowed = getattr(footprint.spec, axis.upper(), None) or getattr(footprint.spec, f"{axis.upper()}S", axis)
        assert {getattr(spec, axis) for spec in SPECS} - {"none"} == set(allowed) - {"none"}


# --- any valid run ------------------------------------------------------------------------------------------------


@st.composite
def models(draw):
    block = draw(st.sampled_from(footprint.spec.BLOCKS))
    heads, pairs = draw(st.integers(1, 6)), draw(st.integers(7, 20))
    return ModelSpec(
        name="any",
        block=block,
        layers=draw(st.integers(1, 11)),
        width=heads * pairs * 2,
        heads=heads,
        kv_heads=draw(st.sampled_from([n for n in (1, heads) if block == "llama"] or [heads])),
        mlp_width=draw(st.integers(14, 300)),
        vocab=draw(st.integers(2, 3000)),
        context=256,
        tied_head=draw(st.booleans()),
    )


@st.composite
def runs(draw, precisions=tuple(footprint.spec.PRECISIONS)):
    return RunSpec(
        model=draw(models()),
        regime=draw(st.sampled_from(footprint.spec.REGIMES)),
        rank=draw(st.integers(1, 8)),
        targets=draw(st.sampled_from(footprint.spec.TARGETS)),
        checkpointing=draw(st.sampled_from(footprint.spec.CHECKPOINTING)),
        precision=draw(st.sampled_from(precisions)),
        optimizer=draw(st.sampled_from(("adamw", "adamw-fused"))),
        quantization=draw(st.sampled_from(footprint.spec.QUANTIZATIONS)),
        batch=draw(st.integers(1, 4)),
        seq=draw(st.integers(1, 128)),
    )


@settings(max_examples=40)
@given(runs())
def test_repeating_one_block_gives_what_running_every_block_gives(spec):
    """The prediction runs three blocks and repeats the middle one; the timeline runs them all."""
    points, row = timeline(spec), predict(spec)
    for phase in PHASES:
        assert max(p.total for p in points if p.phase == phase) == row[f"{phase}_peak_bytes"]


@settings(max_examples=12)
@given(st.lists(runs(), min_size=2, max_size=6))
def test_a_run_is_predicted_alike_alone_and_among_others(specs):
    assert predict_many(specs) == [predict(spec) for spec in specs]


@given(runs())
def test_buckets_sum_to_the_peak_and_parts_to_the_weights(spec):
    row = predict(spec)
    assert sum(row[name] for name in BUCKET_BYTES) == row["peak_bytes"] == max(row[name] for name in PHASE_PEAKS)
    trained_base = 0 if spec.regime != "full" else row["weights_bytes"] - sum(row[name] for name in WEIGHT_PARTS)
    assert sum(row[name] for name in WEIGHT_PARTS) + trained_base == row["weights_bytes"]


def grown(spec, axis, more):
    """A run with more of one axis."""
    if axis == "layers":
        return replace(spec, model=replace(spec.model, layers=spec.model.layers + more))
    assume(not (axis == "rank" and spec.regime == "full"))
    return replace(spec, **{axis: getattr(spec, axis) + more})


any_growth = given(runs(), st.sampled_from(["batch", "rank", "seq", "layers"]), st.integers(1, 5))


@settings(max_examples=100)
@any_growth
def test_more_batch_rank_layers_or_sequence_never_takes_less(spec, axis, more):
    spec = replace(spec, precision="fp32")
    assert predict(grown(spec, axis, more))["peak_bytes"] >= predict(spec)["peak_bytes"]


@settings(max_examples=100)
@any_growth
def test_in_half_precision_it_never_takes_less_on_a_gpu(spec, axis, more):
    spec = spec.with_device("cuda")
    assert predict(grown(spec, axis, more))["peak_bytes"] >= predict(spec)["peak_bytes"]


def test_in_half_precision_one_token_more_can_take_less_on_a_cpu():
    """118 tokens make oneDNN cut blocks of C that need more scratch than those of 119; measured, and so predicted."""
    model = replace(GPT, width=42, heads=3, kv_heads=3, mlp_width=118, vocab=3, context=128, tied_head=True)
    axes = {"targets": "qv", "rank": 3, "checkpointing": "sqrt", "precision": "mixed", "batch": 3}
    shorter, longer = (predict(run("lora", model=model, seq=seq, **axes))["peak_bytes"] for seq in (118, 119))
    assert longer < shorter


# --- memory-model, section 2: bytes per parameter ------------------------------------------------------------------

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


# --- section 3: saved activations per block -------------------------------------------------------------------------

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


# --- section 5: cross-entropy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "forward", "backward"), [("fp32", 8, 16 - 4), ("mixed", 10, 14 - 2), ("amp", 10, 14 - 2)]
)
def test_the_loss_costs_its_bytes_per_token_and_vocabulary(precision, forward, backward):
    """Only the loss leaves the model, so backward does without the logits that a caller could hold."""
    rows = [predict(run("lora", precision=precision, model=replace(GPT, vocab=vocab))) for vocab in (30_000, 50_000)]
    for phase, per_element in (("forward", forward), ("backward", backward)):
        small, large = (row[f"{phase}_peak_bytes"] - row["weights_bytes"] for row in rows)
        assert large - small == TOKENS * 20_000 * per_element


# --- what has no formula --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "axis", "name"),
    [("OPTIMIZERS", "optimizer", "lion"), ("BLOCKS", "block", "mamba"), ("QUANTIZATIONS", "quantization", "int3")],
)
def test_a_name_without_a_formula_is_named_in_the_error(monkeypatch, table, axis, name):
    monkeypatch.setattr(footprint.spec, table, (*getattr(footprint.spec, table), name))
    with pytest.raises(FootprintError, match=name):
        predict(run("qlora", model=replace(GPT, block=name)) if axis == "block" else run("qlora", **{axis: name}))
