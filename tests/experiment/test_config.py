"""A config file becomes an experiment: overlaying, defaults, the published grids."""

import ast
import os
import re
import subprocess
import sys
from copy import deepcopy

import pytest
from clone import REPOSITORY
from snakemake.common.configfile import _load_configfile as snakemakes_reading  # not the one that the plugin replaces
from snakemake.utils import update_config

from footprint.errors import FootprintError
from footprint.experiment.config import RESERVED_EXPERIMENTS, parse
from footprint.experiment.yaml_file import load
from footprint.predict.parameters import parameter_count
from footprint.predict.prediction import predict_many
from footprint.spec.precision import PRECISIONS
from footprint.spec.presets import PRESETS
from footprint.spec.recipe import Recipe
from footprint.spec.run import OPTIMIZERS, QUANTIZATIONS
from footprint.spec.training import TrainingSpec
from footprint.text.corpus import CorpusSpec

ROOT = REPOSITORY
CONFIG = ROOT / "config"

SMALLEST = {
    "experiment": "trial",
    "grids": [{"model": "minigpt-3m", "regime": "full"}],
    "corpus": {"kind": "path", "path": "text.txt", "sha256": "0" * 64},
}


def published(*overlays: str) -> dict:
    return load(CONFIG / "config.yaml", *(CONFIG / name for name in overlays))


def test_the_published_ablation_is_21_runs_of_the_85m_model_in_three_regimes():
    experiment = parse(published())
    assert experiment.name == "ablation"
    assert experiment.device == "cpu"
    assert {run.model for run in experiment.runs} == {PRESETS["minigpt-85m"]}
    counts = {regime: sum(run.regime == regime for run in experiment.runs) for regime in ("full", "lora", "qlora")}
    assert counts == {"full": 3, "lora": 9, "qlora": 9}


def test_the_smoke_experiment_uses_every_value_of_every_axis_that_runs_on_a_cpu():
    runs = parse(published("smoke.yaml")).runs
    assert len(runs) <= 15
    assert {run.stack for run in runs} == {"minigpt", "transformers"}
    assert {run.model.block for run in runs} == {"gpt", "llama"}
    assert {run.regime for run in runs} == {"full", "lora", "qlora"}
    assert {run.checkpointing for run in runs} == {"none", "block", "sqrt"}
    assert {run.precision for run in runs} == {"mixed", "amp", "bf16", "fp32"}
    assert {run.targets for run in runs} == {"none", "all-linear", "attention", "qv"}
    assert {run.quantization for run in runs} == {"none", "nf4", "nf4-double"}
    assert {(run.gpus, run.sharding) for run in runs} == {(1, "none"), (2, "ddp"), (2, "fsdp")}


def test_the_recipe_stands_under_its_own_key_and_takes_the_half_precision_type_of_training():
    config = published("smoke.yaml") | {"device": "cuda", "card": "t4", "quality": None}
    config["training"] |= {"half": "fp16"}
    config["transformers"] = {"dropout": 0.1, "weights": {"minillama-3m": "checkpoints/mine"}}
    for run in parse(config).runs:
        expected = Recipe(dropout=0.1, half="fp16", weights="checkpoints/mine")
        assert run.recipe == (expected if run.stack == "transformers" else None)


def test_a_name_too_long_for_the_files_of_its_runs_is_refused():
    config = published() | {"models": {"m" * 64: {"layers": 2, "width": 64, "heads": 4, "vocab": 256, "context": 64}}}
    longest = {"targets": "k+v+o+up+down", "checkpointing": "block", "precision": "mixed", "optimizer": "adamw-fused"}
    longest |= {"quantization": "nf4-double", "rank": 64, "seq": 64, "batch": 1024}
    config["grids"] = [{"model": "m" * 64, "regime": "qlora"} | longest]
    parse(config)
    config["grids"][0] |= {"gpus": 64, "sharding": "fsdp", "rank": 64, "batch": 65536}
    config["models"]["m" * 64]["block"] = "llama"
    config["grids"][0]["targets"] = "k+v+o+gate+up+down"
    with pytest.raises(
        FootprintError, match="models: 'mmm.* is not allowed; use a shorter name: .* names of 260 characters"
    ):
        parse(config)


def test_a_study_of_quality_fine_tunes_this_project_s_model_alone():
    config = published("smoke.yaml")
    config["quality"]["grids"][0] |= {"stack": "transformers", "precision": "amp"}
    with pytest.raises(FootprintError, match=r"^quality.grids.stack: 'transformers' is not allowed; use minigpt"):
        parse(config)


def test_the_sweep_has_at_least_200_runs():
    experiment = parse(published("sweep.yaml"))
    assert experiment.name == "sweep"
    assert len(experiment.runs) >= 200


def test_the_gpu_sweep_uses_everything_a_gpu_can_and_one_run_too_large_for_it():
    config = load(CONFIG / "config.yaml", CONFIG / "gpu.yaml", CONFIG / "fp16.yaml")
    experiment = parse(config | {"device": "cuda"})
    assert experiment.training.half == "fp16"
    for axis, values in (("precision", PRECISIONS), ("optimizer", OPTIMIZERS), ("quantization", QUANTIZATIONS)):
        assert {getattr(run, axis) for run in experiment.runs} >= set(values)
    assert max(parameter_count(run.model) for run in experiment.runs) > 10**9
    peaks = [row["peak_bytes"] for row in predict_many(experiment.runs, experiment.training)]
    assert any(peak > 140 * 2**30 for peak in peaks)
    assert any(60 * 2**30 < peak < 80 * 2**30 for peak in peaks)


@pytest.mark.parametrize("name", ["smoke.yaml", "sweep.yaml", "gpu.yaml"])
def test_files_laid_over_each_other_mean_what_snakemake_makes_of_them(name):
    merged = snakemakes_reading(CONFIG / "config.yaml")
    update_config(merged, snakemakes_reading(CONFIG / name))
    assert merged == published(name)


def test_a_later_file_replaces_lists_and_merges_mappings(tmp_path):
    over = tmp_path / "over.yaml"
    over.write_text("grids: [{model: minigpt-3m, regime: full}]\ntraining: {seed: 7}\n")
    merged = load(CONFIG / "config.yaml", over)
    assert merged["grids"] == [{"model": "minigpt-3m", "regime": "full"}]
    assert merged["training"] == published()["training"] | {"seed": 7}


def test_what_is_not_written_takes_its_default():
    experiment = parse(SMALLEST)
    assert experiment.device == "cpu"
    assert experiment.engine == "auto"
    assert experiment.training == TrainingSpec()
    assert experiment.corpus.validation_fraction == 0.1
    assert {axis: getattr(experiment.runs[0], axis) for axis in ("batch", "seq", "precision")} == {
        "batch": 4,
        "seq": 256,
        "precision": "mixed",
    }


def test_parsing_leaves_the_config_as_it_was():
    config = deepcopy(SMALLEST)
    parse(config)
    assert config == SMALLEST


def test_the_device_given_on_the_command_line_reaches_every_run():
    experiment = parse(SMALLEST | {"device": "cuda"})
    assert {run.device for run in experiment.runs} == {"cuda"}


def test_a_corpus_of_a_file_laid_over_a_wheel_forgets_the_wheel():
    config = published()
    config["corpus"] |= {"kind": "path", "path": "my.txt", "sha256": "A" * 64}
    assert parse(config).corpus == CorpusSpec(kind="path", path="my.txt", sha256="a" * 64)


def test_memory_limits_are_bytes_after_parsing():
    assert parse(SMALLEST | {"training": {"memory_limit": "2GiB"}}).training.memory_limit == 2**31


def test_the_longest_sequence_of_the_experiment_is_known():
    grids = [{"model": "minigpt-3m", "regime": ["full", "lora"], "seq": [32, 128, 64]}]
    assert parse(SMALLEST | {"grids": grids}).longest_seq == 128


@pytest.mark.parametrize("name", [*RESERVED_EXPERIMENTS, "Reference"])
def test_an_experiment_cannot_take_the_folder_of_something_else(name):
    with pytest.raises(FootprintError, match=r"^experiment: "):
        parse(SMALLEST | {"experiment": name})


@pytest.mark.parametrize("name", ["1e5", "nan", "inf", "12", "NA", "null", "True"])
def test_a_model_is_not_called_what_a_table_reads_as_something_else(name):
    sizes = {"layers": 1, "width": 8, "heads": 1, "vocab": 16, "context": 8}
    with pytest.raises(FootprintError, match=r"^models: "):
        parse(SMALLEST | {"models": {name: sizes}})


def test_config_imports_without_torch_or_pandas():
    program = "import footprint.experiment.config, sys; print('torch' in sys.modules, 'pandas' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["False", "False"]


def test_the_counts_in_the_manual_are_those_of_the_files():
    rows = re.findall(r"^\| `(\w+\.yaml)` \| (\d+) \|", (CONFIG / "README.md").read_text(), flags=re.MULTILINE)
    on_cuda = {"device": "cuda"}  # where every combination exists
    counts = {name: len(parse(published(*[name] * (name != "config.yaml")) | on_cuda).runs) for name, _ in rows}
    assert {name: ast.literal_eval(count) for name, count in rows} == counts
