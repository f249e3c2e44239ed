"""The prediction equals the measurement to the byte, and keeps its own laws for any valid run."""

import random
from dataclasses import replace
from importlib import import_module

import pytest
from cpu_kernels import assert_measured_as_predicted
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_runs.draws import draw_on_card
from tiny import GPT, LLAMA, SIZES, TRAINING, run

from footprint.errors import FootprintError
from footprint.jobs.fresh import measure_each
from footprint.predict.prediction import least_peaks, predict, predict_many, timeline
from footprint.spec.block import CHOICES
from footprint.spec.checkpointing import CHECKPOINTING
from footprint.spec.columns import BUCKET_BYTES, PHASE_PEAKS, PHASES, WEIGHT_PARTS
from footprint.spec.model import BLOCKS, TARGETS, ModelSpec
from footprint.spec.precision import PRECISIONS
from footprint.spec.run import QUANTIZATIONS, REGIMES, RunSpec
from footprint.spec.training import TrainingSpec

DEEP = replace(GPT, name="deep", layers=5)  # sqrt: segments of 3 and 2 blocks
ODD = ModelSpec(name="odd", layers=3, width=93, heads=3, vocab=101, context=64, mlp_width=211)
WIDE_HEADS = replace(
    LLAMA, name="wide-heads", heads=4, kv_heads=2, head_width=24, rotary_width=24
)  # 96 elements of heads, 64 of width
NARROW_HEADS = replace(GPT, name="narrow-heads", head_width=10)
QWEN3 = ModelSpec(name="qwen3", block="llama", qk_norm="head", kv_heads=1, **SIZES)
OLMO2 = ModelSpec(name="olmo2", block="llama", qk_norm="width", residual="after", kv_heads=1, **SIZES)
NEOX = ModelSpec(name="neox", positions="rotary", rotary_width=8, residual="parallel", **SIZES)
STABLELM = ModelSpec(name="stablelm", block="llama", norm="layer", biases="qkv", rotary_width=8, **SIZES)
OPT = ModelSpec(name="opt", mlp="relu", **SIZES)
AFTER = ModelSpec(name="after", residual="after", biases="attention", **SIZES)
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
    run("full", model=WIDE_HEADS, precision="amp", checkpointing="block"),
    run("lora", model=WIDE_HEADS, precision="bf16", targets="q_proj,down_proj", seq=2 * LLAMA.context),
    run("qlora", model=WIDE_HEADS, precision="mixed", targets=("gate_proj", "up_proj", "down_proj"), seq=100),
    run("lora", model=NARROW_HEADS, precision="mixed", targets="o_proj"),
    run("full", model=NARROW_HEADS),
    run("full", model=QWEN3, precision="amp", checkpointing="block"),
    run("qlora", model=QWEN3, precision="mixed"),
    run("lora", model=OLMO2, precision="bf16"),
    run("full", model=OLMO2),
    run("full", model=NEOX, precision="bf16"),
    run("lora", model=NEOX, precision="mixed", checkpointing="block"),
    run("qlora", model=STABLELM, precision="amp"),
    run("full", model=STABLELM, precision="mixed"),
    run("full", model=OPT, precision="amp"),
    run("lora", model=OPT, checkpointing="sqrt"),
    run("full", model=AFTER, precision="amp"),
]


def named(spec):
    return "-".join(str(value) for value in spec.axes().values())


@pytest.fixture(scope="module")
def measured():
    """The measured row of every spec, each from a process of its own."""
    return dict(zip(SPECS, measure_each(SPECS, TRAINING), strict=True))


@pytest.mark.xdist_group("predict")  # one process, so that the rows are measured once
@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_prediction_equals_measurement_in_every_phase_and_bucket(spec, measured):
    assert_measured_as_predicted(spec, measured[spec], TRAINING)


def test_the_measured_specs_cover_every_value_of_every_axis():
    axes = {"regime": REGIMES, "targets": TARGETS, "checkpointing": CHECKPOINTING, "quantization": QUANTIZATIONS}
    for axis, allowed in (axes | {"precision": PRECISIONS}).items():
        assert {getattr(spec, axis) for spec in SPECS} - {"none"} >= set(allowed) - {"none"}


# --- any valid run ---------------------------------------------------------------------------------------------------


@st.composite
def models(draw):
    heads, pairs = draw(st.integers(1, 6)), draw(st.integers(7, 20))
    parts = {name: draw(st.sampled_from((None, *values))) for name, values in CHOICES.items()}
    return ModelSpec(
        name="any",
        block=draw(st.sampled_from(BLOCKS)),
        **parts,
        layers=draw(st.integers(1, 11)),
        width=heads * pairs * 2,
        heads=heads,
        kv_heads=draw(st.sampled_from((1, heads))),
        mlp_width=draw(st.integers(14, 300)),
        vocab=draw(st.integers(2, 3000)),
        context=256,
        tied_head=draw(st.booleans()),
    )


@st.composite
def runs(draw, precisions=tuple(PRECISIONS)):
    return RunSpec(
        model=draw(models()),
        regime=draw(st.sampled_from(REGIMES)),
        rank=draw(st.integers(1, 8)),
        targets=draw(st.sampled_from(TARGETS)),
        checkpointing=draw(st.sampled_from(CHECKPOINTING)),
        precision=draw(st.sampled_from(precisions)),
        optimizer=draw(st.sampled_from(("adamw", "adamw-fused"))),
        quantization=draw(st.sampled_from(QUANTIZATIONS)),
        batch=draw(st.integers(1, 4)),
        seq=draw(st.integers(1, 128)),
    )


@settings(max_examples=40)
@given(runs())
def test_repeating_one_block_gives_what_running_every_block_gives(spec):
    """The prediction runs three blocks and repeats the middle one; the timeline runs them all."""
    points, row = timeline(spec), predict(spec)
    for phase in PHASES:
        highest = max(p.total for p in points if p.phase == phase)
        assert highest == row[f"{phase}_peak_bytes"] if spec.device == "cpu" else highest <= row["requested_peak_bytes"]
    assert max(p.total for p in points) == row["requested_peak_bytes"]


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
    model = replace(
        GPT, width=42, heads=3, kv_heads=3, head_width=14, mlp_width=118, vocab=3, context=128, tied_head=True
    )
    axes = {"targets": "qv", "rank": 3, "checkpointing": "sqrt", "precision": "mixed", "batch": 3}
    shorter, longer = (predict(run("lora", model=model, seq=seq, **axes))["peak_bytes"] for seq in (118, 119))
    assert longer < shorter


# --- what has no formula ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "axis", "name"),
    [
        ("run.OPTIMIZERS", "optimizer", "lion"),
        ("run.QUANTIZATIONS", "quantization", "int3"),
    ],
)
def test_a_name_without_a_formula_is_named_in_the_error(monkeypatch, table, axis, name):
    module, names = table.split(".")
    known = getattr(import_module(f"footprint.spec.{module}"), names)
    monkeypatch.setattr(f"footprint.spec.{table}", (*known, name))
    with pytest.raises(FootprintError, match=name):
        predict(run("qlora", **{axis: name}))


# --- on a card ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("card", "half"), [("t4", "bf16"), ("h100-80gb", "bf16"), ("rtx-2080-ti", "fp16")])
def test_many_runs_at_once_request_what_each_does_when_its_allocator_is_simulated(card, half):
    """Two ways to one number: blocks folded and thousands of runs in arrays, or every tensor of one run in order."""
    generator, training = random.Random(7), TrainingSpec(half=half)
    specs = [draw_on_card(generator, BLOCKS, card) for _ in range(40)]
    scalars = {"bf16": 0, "fp16": 5 * 4}[half]  # those of a scaled loss belong to a whole run
    for spec, least in zip(specs, least_peaks(specs, training), strict=True):
        row = predict(spec, training)
        assert 0 <= row["requested_peak_bytes"] - least <= scalars
        assert row["requested_peak_bytes"] <= row["peak_bytes"] <= row["reserved_peak_bytes"]
        assert sum(row[name] for name in BUCKET_BYTES) == row["peak_bytes"]
