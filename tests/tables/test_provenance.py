"""Rows of different origin never mix silently: what is refused, what is labelled, and what a manifest says."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from math import nan
from pathlib import Path

import pytest
from clone import REPOSITORY
from runfiles import CONFIG, finish, other_training, write_run

from footprint.errors import FootprintError
from footprint.experiment.resolved import corpus_name
from footprint.report.reading import results
from footprint.spec.columns import MEASUREMENTS, TUNED
from footprint.spec.handover import asked, run_json, run_name
from footprint.tables.gather import MUST_AGREE, gather, measurements, remarks
from footprint.tables.manifest import manifest
from footprint.tables.rows import read_table, write_row, write_table


@pytest.fixture
def folder(tmp_path) -> Path:
    """An experiment's folder, `results/trial/cpu`."""
    finish(tmp_path / "cpu")
    return tmp_path / "cpu"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("other") / "cpu")


def refusal(experiment, folder: Path) -> str:
    """Why the experiment's rows are not gathered."""
    with pytest.raises(FootprintError) as refused:
        measurements(experiment, folder / "runs")
    message = str(refused.value)
    assert message.endswith("run the workflow again")
    assert "\n" not in message
    return message


def test_what_was_written_is_gathered(folder, experiment):
    rows = measurements(experiment, folder / "runs")
    assert len(rows) == 5
    assert remarks(rows) == []


# --- refused ---------------------------------------------------------------------------------------------------------

OTHER_SETTINGS = [
    ({"seed": 7}, "training.seed 7, but this experiment has 0"),
    ({"measured_steps": 5}, "training.measured_steps 5, but this experiment has 2"),
    ({"warmup_steps": 3}, "training.warmup_steps 3, but this experiment has 1"),
    ({"half": "fp16"}, "training.half fp16, but this experiment has bf16"),
    ({"threads": 1}, "training.threads 1, but this experiment has 2"),
    ({"memory_limit": 2**30}, "training.memory_limit 1073741824, but this experiment has None"),
]


@pytest.mark.parametrize(("changes", "sentence"), OTHER_SETTINGS)
def test_a_run_file_of_other_settings_is_refused_although_its_name_is_the_same(folder, experiment, changes, sentence):
    spec = experiment.runs[2]
    told = asked(run_json(spec, other_training(experiment, **changes)), corpus_name(experiment.corpus))
    path = write_run(folder / "runs", spec, experiment, told)
    assert f"{path}: was measured with {sentence}" in refusal(experiment, folder)


def test_a_run_file_of_another_device_is_refused(folder, experiment):
    spec = experiment.runs[0]
    told = asked(run_json(spec.with_device("cuda"), experiment.training), corpus_name(experiment.corpus))
    write_run(folder / "runs", spec, experiment, told)
    assert "was measured with device cuda, but this experiment has cpu" in refusal(experiment, folder)


def test_a_run_file_of_another_text_is_refused(folder, experiment):
    spec = experiment.runs[0]
    write_run(folder / "runs", spec, experiment, asked(run_json(spec, experiment.training), "0123456789abcdef.bin"))
    assert "was measured with corpus 0123456789abcdef.bin" in refusal(experiment, folder)


def test_a_run_file_of_a_model_of_the_same_name_and_other_sizes_is_refused(folder, experiment):
    spec = experiment.runs[0]
    wider = replace(spec, model=replace(spec.model, mlp_width=512))
    told = asked(run_json(wider, experiment.training), corpus_name(experiment.corpus))
    write_run(folder / "runs", spec, experiment, told)
    assert "was measured with model.mlp_width 512, but this experiment has 1024" in refusal(experiment, folder)


def test_a_run_file_renamed_to_another_cell_of_the_grid_is_refused(folder, experiment):
    lora = (spec for spec in experiment.runs if spec.regime == "lora")
    two, eight = (folder / "runs" / f"{run_name(spec)}.json" for spec in sorted(lora, key=lambda spec: spec.rank))
    shutil.copy(two, eight)
    assert f"{eight}: was measured with axes.rank 2, but this experiment has 8" in refusal(experiment, folder)


def test_a_row_that_is_not_of_the_run_its_file_was_asked_for_is_refused(folder, experiment):
    write_run(folder / "runs", experiment.runs[0], experiment, batch=9)
    assert "holds the row of batch 9, not of 4" in refusal(experiment, folder)


def content_of(experiment, folder: Path) -> tuple[Path, dict]:
    path = folder / "runs" / f"{run_name(experiment.runs[0])}.json"
    return path, json.loads(path.read_text())


@pytest.mark.parametrize("column", ["peak_bytes", "weights_bytes", "step_seconds", "loss_last", "git_commit", "status"])
def test_a_run_file_in_which_one_value_was_edited_is_refused(folder, experiment, column):
    path, content = content_of(experiment, folder)
    path.write_text(json.dumps(content | {column: 1}))
    assert f"{path}: was changed after it was written" in refusal(experiment, folder)


@pytest.mark.parametrize("kept", [0, 1, 100, -2])
def test_a_truncated_run_file_is_refused(folder, experiment, kept):
    path, _ = content_of(experiment, folder)
    path.write_text(path.read_text()[:kept])
    assert f"{path}: not a readable run file" in refusal(experiment, folder)


def test_a_run_file_of_an_older_version_is_refused(folder, experiment):
    path, content = content_of(experiment, folder)
    path.write_text(json.dumps({name: content[name] for name in MEASUREMENTS}))
    assert "was changed after it was written" in refusal(experiment, folder)
    path.write_text(json.dumps({name: content[name] for name in MEASUREMENTS[:-1]}))
    assert "not a run file with the columns this version writes" in refusal(experiment, folder)


def test_a_run_file_that_does_not_say_what_it_was_asked_for_is_refused(folder, experiment):
    write_run(folder / "runs", experiment.runs[0], experiment, {})
    assert "does not say which settings it was measured with" in refusal(experiment, folder)


CONTRADICTIONS = [
    ({"activations_bytes": 5}, "its buckets sum to"),
    ({"forward_peak_bytes": 2**50}, "its highest phase takes 1125899906842624 bytes"),
    ({"master_bytes": 2**50}, "parts of its weights take"),
    ({"loss_last": nan}, "has a number that is none"),
    ({"status": "diverged"}, "although its status is diverged"),
    ({"status": "oom"}, "although its status is oom"),
]


@pytest.mark.parametrize(("columns", "sentence"), CONTRADICTIONS)
def test_a_row_that_contradicts_itself_is_refused_whoever_wrote_it(folder, experiment, columns, sentence):
    write_run(folder / "runs", experiment.runs[0], experiment, **columns)
    assert sentence in refusal(experiment, folder)


def test_a_fine_tuning_of_another_pace_or_base_is_refused(tmp_path, experiment):
    spec = experiment.runs[0]
    row = dict.fromkeys(TUNED) | spec.axes() | {"status": "oom"}
    told = partial(asked, run_json(spec, experiment.training), "text.bin")
    write_row(tmp_path / "tuned.json", row, TUNED, told(base="a.safetensors", steps=6))
    assert gather(tmp_path, {"tuned": told(base="a.safetensors", steps=6)}, TUNED) == [row]
    with pytest.raises(FootprintError, match="was measured with steps 6, but this experiment has 9"):
        gather(tmp_path, {"tuned": told(base="a.safetensors", steps=9)}, TUNED)
    with pytest.raises(FootprintError, match=r"with base a\.safetensors, but this experiment has b\.safetensors"):
        gather(tmp_path, {"tuned": told(base="b.safetensors", steps=6)}, TUNED)


def test_a_missing_run_file_is_named(folder, experiment):
    path, _ = content_of(experiment, folder)
    path.unlink()
    assert str(path) in refusal(experiment, folder)


# --- labelled --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("column", "words"), MUST_AGREE.items())
def test_rows_of_two_places_are_gathered_and_said_to_be(folder, experiment, column, words):
    value = 7 if column == "threads" else "elsewhere"
    write_run(folder / "runs", experiment.runs[0], experiment, **{column: value})
    rows = measurements(experiment, folder / "runs")
    (remark,) = remarks(rows)
    assert remark.startswith(f"the rows do not come from one place: 2 {words} (")
    assert "\n" not in remark
    assert f"2 {words} (" in results.mixture(rows)


@pytest.mark.parametrize("commit", ["0123456789ab-dirty", "unknown"])
def test_rows_whose_source_no_commit_holds_are_labelled(folder, experiment, commit):
    for spec in experiment.runs:
        write_run(folder / "runs", spec, experiment, git_commit=commit)
    (remark,) = remarks(measurements(experiment, folder / "runs"))
    assert remark == f"no commit holds the source that measured some of the rows ({commit})"


def test_the_script_labels_on_stderr_in_one_sentence_and_succeeds(folder, experiment):
    write_run(folder / "runs", experiment.runs[0], experiment, git_commit="ba9876543210", torch_version="2.12.0")
    arguments = ["--experiment", folder / "experiment.json", "--runs", folder / "runs", "--output", folder / "out.csv"]
    command = [sys.executable, REPOSITORY / "scripts" / "gather.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == (
        "gather: the rows do not come from one place: 2 commits (0123456789ab, ba9876543210); "
        "2 PyTorch versions (2.12.0, 2.13.0)\n"
    )
    assert len(read_table(folder / "out.csv")) == 5


# --- the manifest ----------------------------------------------------------------------------------------------------


@pytest.fixture
def written(folder, tmp_path) -> dict:
    """The manifest of the experiment in `folder`."""
    (tmp_path / "text.bin").write_bytes(b"text")
    return manifest(folder / "experiment.json", [tmp_path / "text.bin"], [folder / "measurements.csv"])


def test_a_manifest_has_the_hash_of_every_table_and_text(written, folder, tmp_path):
    assert written["inputs"] == {str(tmp_path / "text.bin"): hashlib.sha256(b"text").hexdigest()}
    table = folder / "measurements.csv"
    assert written["tables"] == {str(table): hashlib.sha256(table.read_bytes()).hexdigest()}


def test_a_manifest_holds_the_configuration_versions_and_commit(written):
    assert written["config"] == CONFIG
    gathered = written["gathered"]
    assert gathered["memory_bytes"] > 2**28
    assert gathered["python"] == ".".join(map(str, sys.version_info[:3]))
    assert gathered["torch"] == version("torch")
    assert all(gathered[name] not in ("", "none") for name in ("peft", "bitsandbytes", "snakemake", "numpy"))
    assert all(gathered[name] for name in ("os", "kernel", "processor", "commit"))


def test_a_manifest_says_where_the_rows_were_measured_not_where_they_were_gathered(folder, experiment):
    write_run(folder / "runs", experiment.runs[0], experiment, device_name="Node CPU, 64 cores")
    write_table(folder / "measurements.csv", measurements(experiment, folder / "runs"))
    measured = manifest(folder / "experiment.json", [], [folder / "measurements.csv"])["measured"]
    assert measured["device_name"] == ["Node CPU, 64 cores", "Test CPU, 2 cores"]
    assert set(MUST_AGREE) < set(measured)


def test_the_reference_tables_are_those_their_manifests_name():
    for path in (REPOSITORY / "results" / "reference").glob("*/manifest.json"):
        named = json.loads(path.read_text())["tables"]
        for name, digest in named.items():
            assert hashlib.sha256((path.parent / Path(name).name).read_bytes()).hexdigest() == digest, name
