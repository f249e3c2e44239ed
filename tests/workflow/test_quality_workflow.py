"""The quality study as a user runs it: pretrained, fine-tuned, gathered, shown; and what a kill leaves of it."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from clone import TEXT, TINY, Clone

from footprint.spec.columns import BASES, CURVES, EXACT, LOSSES, QUALITY, TUNED_EXACT

pytestmark = pytest.mark.slow

BYTES = TINY | {"vocab": 256}
RATES = {"full": 0.001, "lora": 0.003, "qlora": 0.003}


BIBLE = bytes(reversed(TEXT))
"""What bases are pretrained on."""


def study(**pretraining: object) -> dict:
    """A study of five runs that trains for a second; `pretraining` changes how its base is made."""
    text = {"kind": "path", "path": "bible.txt", "sha256": hashlib.sha256(BIBLE).hexdigest()}
    grid = {"model": "bytes", "batch": 1, "seq": 16, "rank": 2}
    return {
        "pretraining": {"corpus": text, "steps": 40, "batch": 2, "seq": 32, "learning_rate": 0.003} | pretraining,
        "finetuning": {"steps": 6, "learning_rate": RATES, "validate_every": 4, "validation_sequences": 3},
        "grids": [grid | {"regime": ["full", "lora"], "seed": [0, 1]}, grid | {"regime": "qlora"}],
    }


def configure(clone: Clone, quality: dict) -> None:
    """Make `quality` the study of a clone's experiment."""
    (clone.root / "bible.txt").write_bytes(BIBLE)
    clone.configure(models={"tiny": TINY, "bytes": BYTES}, quality=quality)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Clone:
    """A clone in which the study has been carried out; tests leave it as they find it."""
    clone = Clone.make(tmp_path_factory.mktemp("study"))
    configure(clone, study())
    clone.snakemake()
    return clone


@pytest.fixture
def clone(finished, tmp_path) -> Clone:
    """A finished clone of a test's own."""
    shutil.copytree(finished.root, tmp_path, symlinks=True, dirs_exist_ok=True)
    return Clone(tmp_path)


def bases(clone: Clone) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (clone.root / "results" / "base").glob("*.safetensors")}


def test_every_setting_and_seed_is_a_row_with_its_losses(finished):
    rows = finished.table("quality")
    assert list(rows.columns) == list(QUALITY)
    assert list(zip(rows["regime"], rows["seed"], strict=True)) == [
        ("full", 0),
        ("full", 1),
        ("lora", 0),
        ("lora", 1),
        ("qlora", 0),
    ]
    assert (rows["status"] == "ok").all()
    assert rows[list(LOSSES)].notna().all(axis=None)
    assert (rows["peak_bytes"] == rows["peak_predicted_bytes"]).all()
    assert rows["base"].nunique() == 1


def test_every_loss_is_a_point_of_a_curve(finished):
    points = finished.table("curves")
    assert list(points.columns) == list(CURVES)
    counts = points.groupby(["regime", "seed", "split"]).size().unstack()
    assert (counts["training"] == 6).all()
    assert (counts["validation"] == 3).all()


def test_the_base_is_judged_in_every_form_before_it_is_tuned(finished):
    rows = finished.table("bases")
    assert list(rows.columns) == list(BASES)
    assert list(rows["storage"]) == ["fp32", "bf16", "nf4", "nf4-double"]
    tuned = finished.table("quality").set_index(["regime", "seed"])
    assert set(rows["base"]) == set(tuned["base"])


def test_a_finished_study_is_left_alone_and_a_new_seed_trains_nothing_else(clone):
    assert "finetune" not in clone.planned()
    quality = study()
    quality["grids"][1]["seed"] = [0, 5]
    configure(clone, quality)
    planned = clone.planned()
    assert planned["finetune"] == 1
    assert not {"pretrain", "measure", "store"} & set(planned)


def test_a_rerun_gives_the_same_losses_bit_for_bit(clone, finished):
    shutil.rmtree(clone.results / "finetunings")
    clone.snakemake()
    assert clone.table("quality")[list(LOSSES)].equals(finished.table("quality")[list(LOSSES)])
    assert clone.table("curves").equals(finished.table("curves"))


def test_verify_repeats_fine_tunings_too(finished):
    done = finished.footprint("verify", "--experiment", "tiny", "--rows", "8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("measuring 8 of 8 runs of results/tiny/cpu again")
    assert done.stdout.count("  fine-tuning of ") == 5
    assert done.stdout.count(f"all {len(TUNED_EXACT)} columns the same") == 5
    assert done.stdout.count(f"all {len(EXACT)} columns the same") == 3


def test_a_loss_that_was_changed_by_hand_is_noticed_by_verify_and_by_the_report(clone):
    path = sorted((clone.results / "finetunings").glob("*.csv"))[0]
    path.write_text(re.sub(r"\d\n", "1\n", path.read_text()))
    said = f"{path.relative_to(clone.root)}: was changed after it was written"
    done = clone.footprint("verify", "--experiment", "tiny", "--rows", "1")
    assert done.returncode == 1
    assert said in done.stdout
    clone.snakemake(status=1)
    assert said in (clone.results / "logs" / "gather_quality.log").read_text()


def test_a_base_in_the_place_of_another_is_refused(clone):
    (path,) = (clone.root / "results" / "base").glob("*.safetensors")
    configure(clone, study(steps=41))
    clone.snakemake("--until", "pretrain")
    (other,) = set((clone.root / "results" / "base").glob("*.safetensors")) - {path}
    shutil.copy(other, path)
    configure(clone, study())
    clone.snakemake("--keep-going", status=1)
    logs = [log.read_text() for log in (clone.results / "logs").glob("*_seed~*.log")]
    assert any("not as its name says; delete it and start Snakemake" in log for log in logs)


def test_a_pretraining_that_was_killed_goes_on_and_ends_with_the_same_base(clone, tmp_path_factory):
    configure(clone, study(steps=600))
    clone.kill_when(lambda: any((clone.root / "results" / "base").glob("*.checkpoint")), "--until", "pretrain")
    left = bases(clone)
    assert len(left) == 1, "only the base of the finished study is there"
    clone.snakemake("--unlock")
    clone.snakemake("--until", "pretrain", "--rerun-incomplete")
    (resumed,) = set(bases(clone)) - set(left)
    shutil.copytree(clone.root, whole := tmp_path_factory.mktemp("whole"), symlinks=True, dirs_exist_ok=True)
    undisturbed = Clone(whole)
    (whole / "results" / "base" / resumed).unlink()
    undisturbed.snakemake("--until", "pretrain")
    assert bases(undisturbed)[resumed] == bases(clone)[resumed]
    assert not list((clone.root / "results" / "base").glob("*.checkpoint"))


def test_a_fine_tuning_that_diverges_is_a_status_and_no_number(clone):
    quality = study()
    quality["finetuning"]["learning_rate"] = RATES | {"full": 10.0}
    quality["grids"][0]["precision"] = "fp32"
    configure(clone, quality)
    clone.snakemake()
    rows = clone.table("quality").set_index("regime")
    assert set(rows.loc["full", "status"]) == {"diverged"}
    assert set(rows.loc[["lora", "qlora"], "status"]) == {"ok"}
    assert rows.loc["full", ["peak_bytes", *LOSSES, "step_seconds"]].isna().all(axis=None)
    lost = "In the quality study no fine-tuning run finished with Full FT (2 diverged)."
    assert (clone.results / "headline.txt").read_text().splitlines()[3:] == [lost]


# --- a file that is deleted comes back -------------------------------------------------------------------------------

KINDS = {
    "results/tiny/cpu/experiment.json": "experiment",
    "results/tiny/cpu/runs/*.json": "measure",
    "results/tiny/cpu/timelines/*.csv": "measure",
    "results/tiny/cpu/measurements.csv": "gather",
    "results/tiny/cpu/predictions.csv": "predict",
    "results/tiny/cpu/simulations.csv": "simulate",
    "results/tiny/cpu/comparison.csv": "compare",
    "results/tiny/cpu/stored/*.csv": "store",
    "results/tiny/cpu/finetunings/*.json": "finetune",
    "results/tiny/cpu/finetunings/*.csv": "finetune",
    "results/tiny/cpu/quality.csv": "gather_quality",
    "results/tiny/cpu/curves.csv": "gather_quality",
    "results/tiny/cpu/bases.csv": "gather_quality",
    "results/tiny/cpu/manifest.json": "manifest",
    "results/tiny/cpu/report.html": "report",
    "results/tiny/cpu/headline.txt": "report",
    "results/tiny/cpu/report.sha256": "report",
}
"""Every kind of file in an experiment's folder that a report or a table comes from, and the rule that makes it."""

SHARED = ("results/corpus/*.bin", "results/base/*.safetensors")
"""What experiments share; whoever deletes a base to make room must not be made to train all of them again."""

BYPRODUCTS = ("results/tiny/cpu/logs/*", "results/tiny/cpu/benchmarks/*", "results/base/*.log", "results/base/*.tsv")
"""What tells how a job went; nobody reads it to go on."""


def first(clone: Clone, kind: str) -> Path:
    return sorted(clone.root.glob(kind))[0]


@contextmanager
def without(path: Path):
    """The file is away until the block ends."""
    aside = path.rename(path.with_name("aside"))
    try:
        yield
    finally:
        aside.rename(path)


@pytest.mark.parametrize(("kind", "rule"), KINDS.items(), ids=KINDS.keys())
def test_whatever_is_deleted_is_planned_again_and_with_it_the_report(finished, kind, rule):
    with without(first(finished, kind)):
        planned = finished.planned()
    assert planned[rule] == 1
    assert planned["report"] == 1


@pytest.mark.parametrize("kind", [*BYPRODUCTS, *SHARED])
def test_without_a_log_a_benchmark_a_text_or_a_base_nothing_runs_again(finished, kind):
    with without(first(finished, kind)):
        assert finished.planned() == {}


def test_a_text_that_was_deleted_comes_back_as_it_was_and_trains_nothing_again(clone):
    """Its name tells its bytes."""
    for path in list(clone.root.glob("results/corpus/*.bin")):
        path.unlink()
        clone.snakemake(str(path.relative_to(clone.root)))
        path.write_bytes(path.read_bytes() + b" ")  # whatever Snakemake knows of the old one, this is another
    assert not {"measure", "pretrain", "finetune", "store"} & clone.planned().keys()


def test_verify_says_how_a_missing_base_comes_back(finished):
    with without(path := first(finished, "results/base/*.safetensors")):
        printed = finished.footprint("verify", "--experiment", "tiny", "--rows", "8").stdout
    said = f"{path.relative_to(finished.root)}: is missing; start Snakemake with its path as the target"
    assert printed.count(said) == 5
    assert printed.count("columns the same") == 3


def test_with_every_kind_of_file_deleted_at_once_everything_comes_back(clone):
    there = {path for kind in KINDS for path in clone.root.glob(kind)}
    for kind in KINDS:
        first(clone, kind).unlink()
    clone.snakemake()
    assert {path for path in there if not path.exists()} == set()
    assert clone.footprint("verify", "--experiment", "tiny", "--rows", "1").returncode == 0


def test_a_deleted_timeline_is_measured_again_for_the_report(clone):
    for name in ("report.html", "timelines/*regime~lora*.csv"):
        first(clone, f"results/tiny/cpu/{name}").unlink()
    clone.snakemake("results/tiny/cpu/report.html")
    assert len(list((clone.results / "timelines").iterdir())) == 3


PACKAGED = ("src", "footprint")
"""Data of the package, which changes with its source."""

WATCHER = """
import os, sys
log = open({log!r}, "a", buffering=1)
def note(event, told):
    if event == "open" and isinstance(told[0], str):
        log.write(os.path.abspath(told[0]) + "\\n")
sys.addaudithook(note)
"""
"""Python imports it in every process of a report, that of the notebook too."""


def test_every_file_that_the_report_opens_is_an_input_of_its_rule(clone, tmp_path):
    plan = clone.snakemake("-np", "--forcerun", "report").split("rule report:\n")[1]
    # What it has written it reads once more, for its checksum.
    told = [path for line in re.findall(r"^    (?:input|output): (.*)$", plan, re.M)[:2] for path in line.split(", ")]
    options = re.findall(r"--(\w+) (\S+)", plan.split("python scripts/report.py")[1].split("2>")[0])
    (tmp_path / "sitecustomize.py").write_text(WATCHER.format(log=str(tmp_path / "opened")))
    subprocess.run(
        [sys.executable, "-B", "scripts/report.py", *(f"--{name}={value}" for name, value in options)],
        cwd=clone.root,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{clone.root / 'src'}"},
        check=True,
    )
    opened = {Path(line) for line in (tmp_path / "opened").read_text().splitlines()}
    own = {path.relative_to(clone.root) for path in opened if path.is_relative_to(clone.root) and path.is_file()}
    read = {str(path) for path in own if path.suffix not in (".py", ".pyc") and path.parts[:2] != PACKAGED}
    assert "results/tiny/cpu/measurements.csv" in read
    assert read - set(told) == set()
