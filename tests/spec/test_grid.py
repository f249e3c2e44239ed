"""Sub-grids become runs: product, defaults, collapse, de-duplication, order, and names Snakemake can take apart."""

import time

import pytest
from snakemake.utils import Paramspace

from footprint.errors import FootprintError
from footprint.spec.grid import MOST_RUNS, expand, frame
from footprint.spec.model import ModelSpec
from footprint.spec.presets import PRESETS
from footprint.spec.run import AXES

TINY = ModelSpec(name="tiny", layers=2, width=64, heads=4, vocab=256, context=128)
MODELS = {"tiny": TINY}


def grid(**axes) -> dict:
    return {"model": "tiny", "regime": "lora", "seq": 64} | axes


def test_a_sub_grid_is_the_product_of_its_axes():
    runs = expand([grid(rank=[2, 8], targets=["qv", "attention"], batch=[1, 2, 3])], MODELS, "cpu")
    assert len(runs) == 12
    assert len({(run.rank, run.targets, run.batch) for run in runs}) == 12


def test_a_single_value_is_a_list_of_one():
    listed = {"model": ["tiny"], "regime": ["lora"], "rank": [4], "seq": [64]}
    assert expand([grid(rank=4)], MODELS, "cpu") == expand([listed], MODELS, "cpu")


def test_axes_that_are_not_written_take_the_defaults_of_the_contract():
    (run,) = expand([{"model": "minigpt-3m", "regime": "qlora"}], {}, "cpu")
    assert run.axes() == {
        "model": "minigpt-3m",
        "regime": "qlora",
        "rank": 8,
        "targets": "all-linear",
        "checkpointing": "none",
        "precision": "mixed",
        "optimizer": "adamw",
        "quantization": "nf4",
        "batch": 4,
        "seq": 256,
        "stack": "minigpt",
        "gpus": 1,
        "sharding": "none",
    }


def test_full_collapses_rank_and_targets_to_one_run():
    (run,) = expand([grid(regime="full", rank=[2, 8, 32], targets=["qv", "all-linear"])], MODELS, "cpu")
    assert (run.rank, run.targets, run.quantization) == (0, "none", "none")


@pytest.mark.parametrize(
    ("written", "sets"),
    [
        ("q_proj,v_proj", ["qv"]),
        ("v_proj + q_proj", ["qv"]),
        (["up_proj", "down_proj"], ["up+down"]),
        ([["down_proj", "up_proj"], "QV"], ["up+down", "qv"]),
        ([["q_proj"], ["v_proj"]], ["q", "v"]),
        ("q+v", ["qv"]),
        (["q_proj", "k_proj", "v_proj", "o_proj"], ["attention"]),
        ("q_proj k_proj v_proj o_proj up_proj down_proj", ["all-linear"]),
    ],
)
def test_targets_are_any_set_of_linears_under_one_name_however_written(written, sets):
    assert [run.targets for run in expand([grid(targets=written)], MODELS, "cpu")] == sets


def test_names_are_read_in_upper_and_lower_case_alike():
    (run,) = expand([grid(regime=["QLoRA", "qlora"], precision="BF16", quantization="NF4")], MODELS, "cpu")
    assert (run.regime, run.precision, run.quantization) == ("qlora", "bf16", "nf4")


def test_quantization_multiplies_qlora_only():
    runs = expand([grid(regime=["full", "lora", "qlora"], quantization=["nf4", "nf4-double"])], MODELS, "cpu")
    assert [(run.regime, run.quantization) for run in runs] == [
        ("full", "none"),
        ("lora", "none"),
        ("qlora", "nf4"),
        ("qlora", "nf4-double"),
    ]


def test_overlapping_sub_grids_keep_each_cell_once_in_the_order_written():
    runs = expand([grid(rank=[8, 2]), grid(rank=[2, 4, 8])], MODELS, "cpu")
    assert [run.rank for run in runs] == [8, 2, 4]


def test_a_preset_needs_no_declaration_and_a_declaration_wins_over_it():
    mine = ModelSpec(name="minigpt-3m", layers=1, width=64, heads=4, vocab=256, context=256)
    sub_grid = [{"model": "minigpt-3m", "regime": "full"}]
    assert expand(sub_grid, {}, "cpu")[0].model == PRESETS["minigpt-3m"]
    assert expand(sub_grid, {"minigpt-3m": mine}, "cpu")[0].model == mine


def test_a_rank_that_fits_one_regime_only_is_fine_where_it_does_not_apply():
    assert len(expand([grid(regime="full", rank=5000)], MODELS, "cpu")) == 1
    with pytest.raises(FootprintError, match=r"^grids\[0\]\.rank: 5000"):
        expand([grid(regime=["full", "lora"], rank=5000)], MODELS, "cpu")


def test_an_unknown_model_is_answered_with_the_models_there_are():
    with pytest.raises(FootprintError) as refused:
        expand([grid(), grid(model=["tiny", "minigpt-86m"])], MODELS, "cpu")
    message = str(refused.value)
    assert message.startswith("grids[1].model: unknown model 'minigpt-86m' (did you mean minigpt-85m?)")
    assert all(name in message for name in ("(tiny)", *PRESETS))


def test_each_stack_has_its_own_defaults_for_axes_that_are_not_written():
    sub_grid = {"model": "minillama-3m", "regime": "lora"}
    ours, theirs = expand([sub_grid | {"stack": ["minigpt", "Transformers"]}], {}, "cpu")
    assert (ours.stack, ours.precision, ours.optimizer, ours.recipe) == ("minigpt", "mixed", "adamw", None)
    assert (theirs.stack, theirs.precision, theirs.optimizer) == ("transformers", "amp", "adamw-fused")
    said = {"stack": "transformers", "precision": "bf16", "optimizer": "adamw"}
    (theirs,) = expand([sub_grid | said], {}, "cpu")
    assert (theirs.precision, theirs.optimizer) == ("bf16", "adamw")


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({"precision": "mixed"}, "precision: 'mixed' is not allowed; use one of amp, bf16, fp32 with Transformers"),
        ({"checkpointing": "sqrt"}, "checkpointing: 'sqrt' is not allowed; use one of none, block"),
        ({"targets": "qv"}, "targets: 'qv' is not allowed; use all-linear: GPT-2 has queries, keys and values"),
        ({"seq": 257}, "seq: 257 is not allowed; use a whole number from 2 to 256"),
    ],
)
def test_what_transformers_does_not_have_is_named_before_anything_runs(axes, says):
    with pytest.raises(FootprintError) as refused:
        expand([{"model": "minigpt-3m", "regime": "lora", "stack": "transformers"} | axes], {}, "cpu")
    assert str(refused.value).startswith(f"grids[0].{says}")


def test_an_impossible_combination_is_named_in_full():
    sub_grid = grid(optimizer=["adamw", "adamw-8bit"], rank=[2, 4])
    with pytest.raises(FootprintError) as refused:
        expand([sub_grid], MODELS, "cpu")
    message = str(refused.value)
    assert message.startswith("grids[0].optimizer: 'adamw-8bit' is not allowed; use adamw or adamw-fused on the CPU")
    assert message.endswith(
        "[in model tiny, regime lora, rank 2, targets all-linear, checkpointing none, precision mixed, "
        "optimizer adamw-8bit, quantization nf4, batch 4, seq 64, stack minigpt, gpus 1, sharding none, device cpu]"
    )
    assert len(expand([sub_grid], MODELS, "cuda")) == 4


def test_a_sub_grid_without_a_run_is_refused():
    with pytest.raises(FootprintError, match=r"^grids\[1\]: "):
        expand([grid(), grid(rank=[])], MODELS, "cpu")


def test_too_many_runs_are_refused_before_they_are_made():
    with pytest.raises(FootprintError, match=f"^grids: 1000000 is not allowed; use at most {MOST_RUNS} runs"):
        expand([grid(rank=list(range(1, 101)), batch=list(range(1, 101)), seq=list(range(1, 101)))], MODELS, "cpu")


def test_ten_thousand_runs_expand_within_five_seconds():
    started = time.perf_counter()
    runs = expand([grid(rank=list(range(1, 51)), batch=list(range(1, 11)), seq=list(range(1, 21)))], MODELS, "cpu")
    assert len(runs) == 10_000
    assert time.perf_counter() - started < 5


def test_the_frame_holds_the_axes_as_text_and_whole_numbers():
    table = frame(expand([grid(regime=["full", "qlora"])], MODELS, "cpu"))
    assert tuple(table.columns) == AXES
    assert [str(table[axis].dtype) for axis in ("rank", "batch", "seq")] == ["int64"] * 3
    assert list(table["rank"]) == [0, 8]
    assert not table.isna().any(axis=None)


@pytest.mark.parametrize("name", ["tiny", "a_b_regime", "regime", "_model_", "v1.5-x", "_".join("abc" * 21)[:64]])
def test_a_model_name_survives_the_way_through_a_file_name(name):
    spec = ModelSpec(name=name, layers=2, width=64, heads=4, vocab=256, context=128)
    sub_grid = {"model": name, "regime": ["full", "lora", "qlora"], "rank": [2, 64], "seq": [16, 128]}
    sub_grid |= {"targets": ["q_proj", "qv", ["k_proj", "up_proj"]]}
    runs = expand([sub_grid], {name: spec}, "cpu")
    space = Paramspace(frame(runs), filename_params="*", single_wildcard="run")
    for run, file_name in zip(runs, space.instance_patterns, strict=True):
        assert space.instance({"run": file_name}) == run.axes()
