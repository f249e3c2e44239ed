"""docs/trainers.md says what the tables say, and the tables say what transformers' Trainer does."""

import re
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
from clone import REPOSITORY
from peers.sides import record_ours, record_theirs
from peers.trainer import trainer_program
from tiny import TRAINING
from trainers import AXES, EIGHTH, RECIPES, save_checkpoint

from footprint.jobs.fresh import each_fresh
from footprint.measure.tensors import named
from footprint.predict.prediction import predict
from footprint.spec.precision import FULL, HALF, PRECISIONS
from footprint.spec.presets import PRESETS
from footprint.spec.run import RunSpec

ROOT = REPOSITORY
PAGE = (ROOT / "docs" / "trainers.md").read_text()
REFERENCE = ROOT / "results" / "reference" / "trainers"
MEASURED, PUBLIC = "Transformers' Trainer, measured", "One public measurement on a card"
TABLE = pd.read_csv(REFERENCE / "trainers.csv").set_index("recipe")
TENSORS = pd.read_csv(REFERENCE / "trainers_tensors.csv").set_index(["recipe", "kind", "tensor"])

TOKENS = AXES["batch"] * AXES["seq"]
RESIDUAL = TOKENS * EIGHTH.width
"""Elements of a tensor of tokens x width."""
NORMS = 2 * EIGHTH.layers + 1
TWO_LAYERS = replace(EIGHTH, name="two-layers", layers=2, vocab=640)
ROTARY_TABLES = 2 * EIGHTH.context * EIGHTH.head_width * HALF
"""Bytes of our cosines and sines, which transformers makes anew in every forward pass."""
FREQUENCIES = 2 * EIGHTH.head_width // 2 * FULL
"""Bytes of what it makes them from, which it keeps twice."""


def rows_below(heading):
    """The cells of every row of the table in the section with this heading."""
    section = PAGE.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[1:]]


def words(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_every_recipe_is_a_row_with_the_ratio_that_was_measured():
    rows = {words(row[0])[0]: row for row in rows_below(MEASURED)}
    assert list(rows) == [recipe.name for recipe in RECIPES] == list(TABLE.index)
    for recipe in RECIPES:
        measured = TABLE.loc[recipe.name]
        assert words(rows[recipe.name][2]) == [recipe.nearest] == [measured.precision]
        assert rows[recipe.name][3] == f"{measured.theirs_to_predicted:.3f}"
        assert measured.theirs_to_predicted == measured.theirs_peak_bytes / measured.predicted_peak_bytes


def test_the_page_names_the_versions_that_were_measured():
    versions = TABLE.filter(like="_version").drop_duplicates()
    [row] = versions.to_dict("records")
    for column, version in row.items():
        assert f"{column.removesuffix('_version')} {version}" in " ".join(PAGE.split())


@pytest.mark.parametrize(
    ("heading", "columns"),
    [(MEASURED, (2, 4)), ("Other trainers, from the source, not measured", (3,))],
)
def test_every_precision_the_page_recommends_exists(heading, columns):
    for row in rows_below(heading):
        for column in columns:
            found = words(row[column])
            assert found
            assert set(found) <= set(PRECISIONS)


def test_the_predictions_beside_the_public_measurement_are_ours():
    regimes = {"full": ["full"], "LoRA": ["lora"], "QLoRA": ["qlora"]}
    for name, _, *shown in rows_below(PUBLIC):
        [regime] = regimes[re.match(r"\w+", name)[0]]
        assert shown == [gigabytes(regime, precision) for precision in ("bf16", "amp")]
    assert all(gigabytes("qlora", name, quantization="nf4") in PAGE for name in ("bf16", "amp"))


def test_how_far_off_the_public_measurement_is_follows_from_its_table():
    told = {row[0]: [float(cell.removesuffix(" GB")) for cell in row[1:]] for row in rows_below(PUBLIC)}
    theirs, bf16, amp = told["QLoRA, not prepared"]
    assert f"`bf16` is {1 - bf16 / theirs:.0%} low and `amp` {amp / theirs - 1:.0%} high".replace("%", " %") in PAGE
    theirs, _, amp = told["QLoRA, prepared"]
    assert f"`amp` is {1 - amp / theirs:.0%} low".replace("%", " %") in PAGE


def gigabytes(regime, precision, quantization="nf4-double"):
    spec = RunSpec(
        model=PRESETS["mistral-7b"],
        regime=regime,
        rank=16,
        targets="attention",
        quantization=quantization,
        precision=precision,
        checkpointing="block",
        batch=4,
        seq=4096,
        device="cuda",
    )
    return f"{predict(spec)['peak_bytes'] / 1e9:.2f} GB"


def more(recipe, tensor, kind="activations"):
    """Bytes of such tensors at the Trainer's peak less those at ours, as published."""
    return -TENSORS.loc[(recipe, kind, tensor), "ours_minus_theirs_bytes"]


def test_trained_norms_keep_one_tensor_in_half_that_ours_keep_in_full():
    assert more("full-bf16", "tokens x width, fp32") == -NORMS * FULL * RESIDUAL
    assert more("full-bf16", "tokens x width, bf16") == NORMS * HALF * RESIDUAL


def test_adapters_without_autocast_keep_their_inputs_in_full():
    for recipe in ("lora-bf16", "qlora-bf16"):
        assert more(recipe, "tokens x width, fp32") == 6 * EIGHTH.layers * FULL * RESIDUAL
        assert more(recipe, "tokens x mlp, fp32") == EIGHTH.layers * FULL * TOKENS * EIGHTH.mlp_width


def test_a_prepared_model_checkpoints_every_block_in_full():
    assert more("qlora-prepared-autocast", "tokens x width, fp32") == EIGHTH.layers * FULL * RESIDUAL
    assert more("qlora-prepared-autocast", "tokens x width, bf16") == -EIGHTH.layers * HALF * RESIDUAL


@pytest.mark.parametrize(
    ("regime", "precision", "norm"),
    [("full", "amp", 4), ("full", "bf16", 4), ("lora", "bf16", 2), ("qlora", "mixed", 2)],
)
def test_on_a_card_transformers_norms_cost_five_to_nine_percent_without_checkpointing(regime, precision, norm):
    spec = RunSpec(model=EIGHTH, regime=regime, precision=precision, optimizer="adamw-fused", device="cuda", **AXES)
    assert 0.045 < NORMS * norm * RESIDUAL / predict(spec)["peak_bytes"] < 0.095
    assert "5 to 9 %" in " ".join(PAGE.split())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    save_checkpoint(folder, TWO_LAYERS)
    return str(folder)


def both(name, checkpoint):
    """What the Trainer's run and ours had live at their peaks: bytes of each (kind, name)."""
    [recipe] = [recipe for recipe in RECIPES if recipe.name == name]
    spec = recipe.ours(TWO_LAYERS, **AXES)
    sides = partial(record_theirs, partial(trainer_program, recipe, checkpoint)), record_ours
    for row in (next(each_fresh(side, [spec], TRAINING)) for side in sides):
        yield named(spec, row["groups"])


def test_a_matching_recipe_peaks_where_ours_does_but_for_the_rotary_tables(checkpoint):
    theirs, ours = both("lora-bf16-half-adapters", checkpoint)
    tables_of_one_pass = 2 * AXES["seq"] * EIGHTH.head_width * HALF
    scalars = 100  # the loss, its scale and the norm of the gradients, each a few bytes
    expected = tables_of_one_pass + FREQUENCIES - ROTARY_TABLES
    assert theirs.total() - ours.total() == pytest.approx(expected, abs=scalars)


def test_an_fp32_base_costs_six_bytes_a_parameter_under_autocast(checkpoint):
    theirs, ours = both("lora-fp32-autocast", checkpoint)
    base = predict(RunSpec(model=TWO_LAYERS, regime="full", precision="fp32"))["total_parameters"]
    frozen = ("frozen_base", "all")
    assert theirs[frozen] - FREQUENCIES == base * FULL
    assert ours[frozen] - ROTARY_TABLES == base * HALF
    width, layers = TWO_LAYERS.width, TWO_LAYERS.layers
    assert theirs["activations", "width x mlp, bf16"] == 3 * layers * width * TWO_LAYERS.mlp_width * HALF
    # Nothing before the first block trains, so backward never needs the weights of its q, k and v.
    assert theirs["activations", "width x width, bf16"] == (4 * layers - 3) * width**2 * HALF


def test_preparing_for_kbit_training_makes_embedding_head_and_norms_fp32(checkpoint):
    theirs, ours = both("qlora-prepared-autocast", checkpoint)
    upcast = 2 * TWO_LAYERS.vocab * TWO_LAYERS.width + (2 * TWO_LAYERS.layers + 1) * TWO_LAYERS.width
    frozen = ("frozen_base", "all")
    assert theirs[frozen] - ours[frozen] == upcast * (FULL - HALF) + FREQUENCIES - ROTARY_TABLES
    assert theirs.total() > ours.total()
