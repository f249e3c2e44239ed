"""The quality study as a user runs it: pretrained, fine-tuned, gathered, shown; and what a kill leaves of it."""

import hashlib
import re
import shutil

import pytest
from clone import TEXT, TINY, Clone

from footprint.columns import EXACT
from footprint.quality.tables import BASES, CURVES, LOSSES, QUALITY, TUNED_EXACT

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
    assert any("not as its name says; delete it and run again" in log for log in logs)


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
    assert (clone.results / "report.html").exists()
