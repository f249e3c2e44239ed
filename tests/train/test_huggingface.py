"""The stack of Transformers, PEFT and bitsandbytes, measured on the CPU with tiny models: what its tensors must be."""

import json
import math
from dataclasses import replace

import pytest
import torch
from tiny import GPT, LLAMA, TRAINING
from transformers import AutoConfig, AutoModelForCausalLM

from footprint.errors import FootprintError
from footprint.jobs.fresh import each_fresh
from footprint.measure.measurement import TIMED_STEPS
from footprint.measure.recorded_trainer import measure_trainer
from footprint.predict.parameters import parameter_count
from footprint.spec.handover import parse_run, run_json
from footprint.spec.model import ModelSpec
from footprint.spec.presets import PRESETS
from footprint.spec.recipe import PublishedModel, Recipe, config_of
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from footprint.train.huggingface import examples, prepare

SIZES = {
    "model_type": "qwen3",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 160,
    "vocab_size": 96,
    "tie_word_embeddings": False,
}
PER_RANK = 2 * ((64 + 64) + 2 * (64 + 32) + (64 + 64) + 3 * (64 + 160))
EMBEDDING = 96 * 64


MODEL = PublishedModel(name="tiny", config=json.dumps(SIZES))


def run(regime: str, *, recipe: dict | None = None, **axes) -> RunSpec:
    told = {"model": MODEL, "rank": 4, "batch": 2, "seq": 48, "precision": "fp32", "optimizer": "adamw-fused"}
    told |= {"stack": "transformers", "regime": regime}
    return RunSpec(**told | axes, recipe=Recipe(**recipe or {}))


RUNS = {
    "full": run("full"),
    "full, two batches": run("full", recipe={"accumulation": 2}),
    "full, padded": run("full", recipe={"batches": "padded"}),
    "full, checkpointed": run("full", checkpointing="block", seq=256),
    "full, long": run("full", seq=256),
    "lora": run("lora"),
    "lora, amp": run("lora", precision="amp"),
    "lora, bf16": run("lora", precision="bf16"),
    "qlora": run("qlora", precision="amp", recipe={"prepared": False}),
    "qlora, prepared": run("qlora", precision="amp"),
}


@pytest.fixture(scope="module")
def rows():
    """The row of every run, each from a process of its own."""
    found = each_fresh(measure_trainer, RUNS.values(), TRAINING)
    return {name: one.row for name, one in zip(RUNS, found, strict=True)}


def test_full_fine_tuning_keeps_four_numbers_per_parameter(rows):
    row, parameters = rows["full"], rows["full"]["total_parameters"]
    assert (row["status"], row["source"], row["trainable_parameters"]) == ("ok", "measured", parameters)
    tensors = 2 + 2 * (7 + 4) + 1
    assert row["optimizer_bytes"] == 8 * parameters + 4 * tensors
    assert 0 <= row["weights_bytes"] - 4 * parameters < 512  # rotary frequencies are buffers
    assert row["loss_last"] < row["loss_first"] + 1


def test_adapters_have_a_row_and_a_column_of_every_linear_for_each_rank(rows):
    for name in ("lora", "lora, amp", "lora, bf16", "qlora"):
        assert rows[name]["trainable_parameters"] == 4 * PER_RANK
    assert rows["lora"]["adapter_bytes"] == rows["lora, amp"]["adapter_bytes"] == 4 * 4 * PER_RANK
    assert rows["lora, bf16"]["adapter_bytes"] == 2 * 4 * PER_RANK


def test_a_model_that_is_prepared_has_all_but_its_linears_in_fp32(rows):
    norms = 2 * (2 * 64 + 2 * 16) + 64
    more = rows["qlora, prepared"]["frozen_base_bytes"] - rows["qlora"]["frozen_base_bytes"]
    assert more == 2 * (2 * EMBEDDING + norms)


def test_gradients_that_wait_for_a_second_batch_are_there_at_its_peak(rows):
    waiting = rows["full, two batches"]["forward_peak_bytes"] - rows["full"]["forward_peak_bytes"]
    assert waiting >= 4 * rows["full"]["total_parameters"]


def test_checkpointing_through_the_model_s_own_switch_lowers_the_peak(rows):
    assert rows["full, checkpointed"]["forward_peak_bytes"] < rows["full, long"]["forward_peak_bytes"]


def test_padded_batches_are_as_long_as_their_longest_and_are_masked():
    first, second, third = examples(run("full", recipe={"batches": "padded"}), torch.ones(3, 48, dtype=torch.int64))
    assert [int(one["attention_mask"].sum()) for one in (first, second, third)] == [48, 24, 48]
    assert all(len(one["input_ids"]) == 48 for one in (first, second, third))
    assert (second["labels"][24:] == -100).all()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_published_with_its_own_number_of_parameters(name, tmp_path):
    (tmp_path / "config.json").write_text(config_of(PRESETS[name]))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    assert model.num_parameters() == parameter_count(PRESETS[name])


def test_a_checkpoint_that_is_here_is_loaded_with_its_own_sizes(tmp_path):
    """Its head says the same of every token, so the first loss is the logarithm of the vocabulary."""
    (tmp_path / "config.json").write_text(MODEL.config)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    torch.nn.init.zeros_(model.lm_head.weight)
    model.save_pretrained(tmp_path)
    (found,) = each_fresh(measure_trainer, [run("full", recipe={"weights": str(tmp_path)})], TRAINING)
    assert found.row["total_parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert found.row["loss_first"] == pytest.approx(math.log(96), abs=1e-3)


def test_a_checkpoint_that_is_not_here_is_one_sentence(tmp_path):
    with pytest.raises(FootprintError, match="transformers.weights: .* is not allowed; use a folder with"):
        prepare(run("full", recipe={"weights": str(tmp_path / "absent")}), fill=None)


def test_steps_without_the_recorder_are_timed_by_phase(rows):
    row = rows["full, two batches"]
    parts = [row[f"{name}_seconds"] for name in ("forward", "backward", "optimizer")]
    assert all(0 < part < row["step_seconds"] for part in parts)
    assert row["timed_steps"] == TIMED_STEPS
    assert row["lower_step_seconds"] <= row["step_seconds"] <= row["upper_step_seconds"]


def test_a_block_of_no_published_family_is_refused():
    with pytest.raises(FootprintError, match="stack: 'transformers' is not allowed; use --hf-config: odd has blocks"):
        config_of(ModelSpec(name="odd", layers=2, width=64, heads=2, vocab=96, context=64, residual="after"))
    with pytest.raises(FootprintError, match="blocks of no published family"):
        config_of(replace(GPT, kv_heads=1))
    assert json.loads(config_of(LLAMA))["num_key_value_heads"] == 1


def test_a_run_is_the_same_after_it_went_to_another_process():
    for one in RUNS.values():
        again, _ = parse_run(run_json(one, TrainingSpec()))
        assert (again, again.recipe) == (one, one.recipe)


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({"precision": "mixed"}, "precision: 'mixed' is not allowed; use one of amp, bf16, fp32 with Transformers"),
        ({"checkpointing": "sqrt"}, "checkpointing: 'sqrt' is not allowed; use one of none, block with Transformers"),
        ({"targets": "+"}, "targets: '+' is not allowed"),
        ({"seq": 1}, "seq: 1 is not allowed; use a whole number from 2"),
        ({"recipe": {"dropout": 1.0}}, "transformers.dropout: 1.0 is not allowed; use a number from 0 to below 1"),
        ({"recipe": {"accumulation": 0}}, "transformers.accumulation: 0 is not allowed"),
        ({"recipe": {"batches": "sorted"}}, "transformers.batches: 'sorted' is not allowed; use one of packed, padded"),
        ({"recipe": {"prepared": "yes"}}, "transformers.prepared: 'yes' is not allowed; use true or false"),
    ],
)
def test_settings_that_exclude_each_other_are_one_sentence(axes, says):
    with pytest.raises(FootprintError) as refused:
        run("lora", **axes)
    assert says in str(refused.value)
