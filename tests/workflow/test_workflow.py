"""The workflow as a user runs it: Snakemake in a copy of the repository, from the config to the report."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise

import pytest
from clone import GRID, REPOSITORY, TINY, Clone
from snakemake.utils import Paramspace

from footprint.experiment.config import parse
from footprint.spec.columns import BUCKET_BYTES, MEASUREMENTS, PREDICTIONS, TIMES
from footprint.spec.grid import frame
from footprint.spec.handover import parse_run, run_json, run_name

pytestmark = pytest.mark.slow

TABLES = "results/tiny/cpu"
VARYING = ["process_peak_bytes", "measured_at", *TIMES]
"""Columns that differ from one run to the next."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Clone:
    """A clone in which the experiment has been carried out; tests leave it as they find it."""
    clone = Clone.make(tmp_path_factory.mktemp("finished"))
    (clone.root / "printed.txt").write_text(clone.snakemake())
    return clone


@pytest.fixture
def clone(finished, tmp_path) -> Clone:
    """A finished clone of a test's own."""
    shutil.copytree(finished.root, tmp_path, symlinks=True, dirs_exist_ok=True)
    return Clone(tmp_path)


@pytest.fixture
def fresh(tmp_path) -> Clone:
    """A clone in which nothing has run."""
    return Clone.make(tmp_path)


def test_every_run_is_a_row_of_all_three_tables(finished):
    tables = [finished.table(name) for name in ("measurements", "predictions", "comparison")]
    assert [len(table) for table in tables] == [3, 3, 3]
    assert list(tables[0].columns) == list(MEASUREMENTS)
    assert list(tables[1].columns) == list(PREDICTIONS)
    assert set(tables[0]["regime"]) == {"full", "lora", "qlora"}


def test_buckets_sum_to_the_peak(finished):
    rows = finished.table("measurements")
    assert (rows["status"] == "ok").all()
    assert (rows[list(BUCKET_BYTES)].sum(axis="columns") == rows["peak_bytes"]).all()


def test_every_job_has_a_log_and_every_run_a_benchmark(finished):
    logs = {path.stem for path in (finished.results / "logs").iterdir()}
    runs = {path.stem for path in finished.runs()}
    assert logs == runs | {"experiment", "gather", "predict", "simulate", "compare", "manifest", "report"}
    assert {path.stem for path in (finished.results / "benchmarks").iterdir()} == runs | {"simulate"}


def test_it_ends_with_the_headline_and_the_path_of_the_report(finished):
    headline = (finished.results / "headline.txt").read_text().splitlines()
    assert len(headline) == 3
    printed = (finished.root / "printed.txt").read_text()
    assert "\n".join([*headline, "Report: results/tiny/cpu/report.html"]) in printed
    assert (finished.results / "report.html").stat().st_size > 10_000


def test_a_second_invocation_has_nothing_to_do(finished):
    assert "Nothing to be done" in finished.snakemake()


def test_snakemakes_own_report_has_every_run_with_its_axes(finished, tmp_path):
    finished.snakemake("--report", str(tmp_path / "all.html"))
    page = (tmp_path / "all.html").read_text()
    assert page.count('"regime": "qlora"') == 1
    assert "Training memory of MiniGPT" in page


def test_a_new_grid_value_measures_only_the_new_runs(clone):
    before = {path: path.stat().st_mtime_ns for path in clone.runs()}
    clone.configure(grids=[GRID | {"rank": [2, 4]}])
    assert clone.planned()["measure"] == 2
    clone.snakemake(f"{TABLES}/comparison.csv")
    assert len(clone.runs()) == 5
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(clone.table("measurements")) == len(clone.table("comparison")) == 5


def test_a_value_taken_out_of_the_grid_leaves_the_tables(clone):
    clone.configure(grids=[GRID | {"regime": ["full", "lora"]}])
    assert "measure" not in clone.planned()
    clone.snakemake(f"{TABLES}/measurements.csv")
    assert set(clone.table("measurements")["regime"]) == {"full", "lora"}


@pytest.mark.parametrize(
    ("changes", "measured"),
    [
        ({"training": {"warmup_steps": 1, "measured_steps": 1, "threads": 1, "seed": 1}}, 3),
        ({"models": {"tiny": TINY, "other": TINY}}, 0),
        ({"report": {"engine": "nbconvert"}}, 0),
        # A longer sequence must fit the text but does not change it.
        ({"grids": [GRID, GRID | {"seq": 32, "regime": "full"}]}, 1),
    ],
)
def test_a_change_reruns_what_depends_on_it(finished, changes, measured):
    finished.configure(**changes)
    planned = finished.planned()
    finished.configure()
    assert planned.get("measure", 0) == measured
    assert "corpus" not in planned


@pytest.mark.parametrize(("edited", "measured"), [("scripts/measure.py", 3), ("scripts/gather.py", 0)])
def test_editing_a_script_reruns_its_jobs(clone, edited, measured):
    with (clone.root / edited).open("a") as script:
        script.write("\n")
    planned = clone.planned()
    assert planned.get("measure", 0) == measured
    assert planned["gather"] == 1


@pytest.mark.parametrize(
    ("edited", "first"),
    [
        ("src/footprint/predict/formula.py", "predict"),
        ("src/footprint/spec/checkpointing.py", "predict"),
        ("src/footprint/report/page/words.py", "report"),
    ],
)
def test_a_new_version_predicts_and_renders_anew_but_measures_nothing(clone, edited, first):
    with (clone.root / edited).open("a") as module:
        module.write("\n")
    planned = clone.planned()
    assert {first, "report"} <= set(planned)
    assert not {"measure", "corpus", "gather"} & set(planned)
    assert ("compare" in planned) == (first == "predict")


def test_another_experiment_shares_the_corpus(finished):
    planned = finished.planned("--config", "experiment=another")
    assert planned["measure"] == 3
    assert "corpus" not in planned


def test_without_snakemakes_records_another_config_is_noticed_all_the_same(clone):
    """Results copied to another clone, or `.snakemake` deleted."""
    shutil.rmtree(clone.root / ".snakemake")
    clone.configure(grids=[GRID | {"rank": [2, 4]}])
    clone.snakemake()
    assert len(clone.table("measurements")) == len(clone.table("comparison")) == 5
    shutil.rmtree(clone.root / ".snakemake")
    clone.configure(training={"warmup_steps": 1, "measured_steps": 1, "threads": 1, "seed": 5})
    clone.snakemake(status=1)
    said = (clone.results / "logs" / "gather.log").read_text()
    assert "was measured with training.seed 0, but this experiment has 5; delete it and run the workflow again" in said


def test_a_plan_leaves_the_stored_configuration_as_it_is(clone):
    before = (clone.results / "experiment.json").read_text()
    clone.configure(grids=[GRID | {"rank": [2, 4]}])
    clone.planned()
    assert (clone.results / "experiment.json").read_text() == before


def test_the_page_is_rendered_again_once_quarto_is_installed(clone, tmp_path):
    assert "report" not in clone.planned()
    program = tmp_path / "quarto"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    plan = clone.snakemake("--dry-run", "--quiet", "rules", PATH=path)
    assert re.search(r"^report +1$", plan, flags=re.MULTILINE), plan
    assert "measure" not in plan


@pytest.mark.parametrize("name", ["measurements", "predictions", "comparison"])
def test_no_report_is_made_of_a_table_that_was_edited(clone, name):
    path = clone.results / f"{name}.csv"
    rows = clone.table(name)
    rows[[column for column in rows if column.startswith("peak_bytes")]] += 1000
    rows.to_csv(path, index=False)
    (clone.results / "report.html").unlink()
    clone.snakemake(f"{TABLES}/report.html", status=1)
    assert f"{TABLES}/{name}.csv: is not what its run files say" in (clone.results / "logs" / "report.log").read_text()
    assert not (clone.results / "report.html").exists()


def test_braces_in_a_config_are_plain_text(fresh):
    text = fresh.root / "{text}.txt"
    (fresh.root / "text.txt").rename(text)
    described = json.loads((fresh.root / "overlay.json").read_text())
    fresh.configure(corpus=described["corpus"] | {"path": text.name})
    fresh.snakemake(f"{TABLES}/measurements.csv")
    assert len(fresh.runs()) == 3


@pytest.mark.parametrize("place", ["results/tiny", "results/corpus", f"{TABLES}/runs", f"{TABLES}/timelines"])
def test_a_file_where_a_folder_belongs_is_one_sentence(fresh, place):
    (fresh.root / place).parent.mkdir(parents=True, exist_ok=True)
    (fresh.root / place).touch()
    printed = fresh.snakemake(status=2)
    assert f"error: {place}: is a file where results need a folder; move it away" in printed
    assert "Traceback" not in printed


def test_started_elsewhere_it_says_where_to_start(fresh, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    printed = fresh.snakemake("--directory", str(elsewhere), "--dry-run", status=2)
    assert f"error: directory: {elsewhere} is not the root of this clone; start Snakemake in {fresh.root}" in printed


def test_a_prepared_text_that_was_changed_trains_nothing(clone):
    (path,) = (clone.root / "results" / "corpus").glob("*.bin")
    path.write_bytes(b"A" * path.stat().st_size)
    clone.configure(grids=[GRID | {"rank": [2, 4]}])
    clone.snakemake("--keep-going", status=1)
    logs = [log.read_text() for log in (clone.results / "logs").glob("model~*rank~4*.log")]
    assert len(logs) == 2
    assert all("was changed after it was prepared; delete it and start Snakemake" in log for log in logs)


@pytest.mark.parametrize("variable", ["OMP_DYNAMIC=true", "OMP_THREAD_LIMIT=1"])
def test_an_environment_that_takes_threads_away_changes_nothing(fresh, finished, variable):
    training = {"warmup_steps": 1, "measured_steps": 1, "threads": 2}
    fresh.configure(training=training)
    name, value = variable.split("=")
    fresh.snakemake(f"{TABLES}/measurements.csv", **{name: value})
    assert (fresh.table("measurements")["status"] == "ok").all()


def test_killed_at_any_moment_it_completes_when_started_again(fresh, finished):
    fresh.kill_when(lambda: fresh.recorded() >= 1)
    kept = {path: path.stat().st_mtime_ns for path in fresh.runs()}
    fresh.snakemake("--unlock")
    fresh.snakemake(f"{TABLES}/measurements.csv", "--rerun-incomplete")
    assert any(path.stat().st_mtime_ns == written for path, written in kept.items())
    ours, undisturbed = (c.table("measurements").drop(columns=VARYING) for c in (fresh, finished))
    assert ours.equals(undisturbed)


def test_a_run_that_does_not_fit_is_a_row_and_stops_nothing(fresh):
    fresh.configure(training={"warmup_steps": 1, "measured_steps": 1, "threads": 1, "memory_limit": "300KiB"})
    fresh.snakemake(f"{TABLES}/comparison.csv")
    rows = fresh.table("measurements").set_index("regime")
    assert rows.loc["full", "status"] == "oom"
    assert rows.loc["full", "oom_requested_bytes"] > 0
    assert rows.loc["lora", "status"] == "ok"


def test_a_run_that_fails_names_its_log_and_spoils_no_other(fresh):
    script = fresh.root / "scripts" / "measure.py"
    script.write_text("import sys\nif 'qlora' in sys.argv[2]:\n    sys.exit('error: no luck')\n" + script.read_text())
    printed = fresh.snakemake(f"{TABLES}/measurements.csv", "--keep-going", status=1)
    log = re.search(r"log: (\S*regime~qlora\S*\.log)", printed)[1]
    assert (fresh.root / log).read_text() == "error: no luck\n"
    assert len(fresh.runs()) == 2
    assert not (fresh.results / "measurements.csv").exists()


MISTAKES = [
    ({"grids": [GRID | {"rank": [0]}]}, "rank: 0 is not allowed"),
    ({"grids": [GRID | {"ranks": [2]}]}, "grids[0].ranks: unknown key"),
    ({"grids": [GRID | {"optimizer": "adamw-8bit"}]}, "device: cuda"),
    ({"training": {"memory_limit": "24GX"}}, "training.memory_limit"),
    ({"experiment": "../elsewhere"}, "experiment: '../elsewhere' is not allowed"),
    ({"corpus": {"kind": "path", "path": "text.txt", "sha256": "0" * 64}, "models": {}}, "unknown model 'tiny'"),
]


@pytest.mark.parametrize(("changes", "sentence"), MISTAKES)
def test_a_mistake_in_the_config_is_one_sentence_before_anything_starts(fresh, changes, sentence):
    fresh.configure(**changes)
    printed = fresh.snakemake(status=2)
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert sentence in errors[0]
    assert "Traceback" not in printed
    assert not fresh.results.exists()


def test_a_duplicate_key_is_a_mistake_too(fresh):
    (fresh.root / "overlay.json").write_text('{"device": "cpu", "device": "cpu"}')
    printed = fresh.snakemake("--dry-run", status=2)
    assert "the key 'device' stands here twice" in printed


def test_a_text_with_another_hash_trains_nothing(fresh):
    (fresh.root / "text.txt").write_bytes(b"another text" * 100)
    printed = fresh.snakemake(status=1)
    log = re.search(r"log: (results/corpus/\S+)", printed)[1]
    assert (fresh.root / log).read_text().startswith("error: corpus")
    assert not fresh.runs()


def test_a_text_too_short_for_a_new_run_stops_before_anything_starts(clone):
    long = {"models": {"tiny": TINY | {"context": 4096}}, "grids": [GRID, GRID | {"regime": "full", "seq": 2000}]}
    clone.configure(**long)
    printed = clone.snakemake(status=2)
    assert "error: corpus: the validation part of the text has 950 bytes, too few for seq 2000" in printed
    assert len(clone.runs()) == 3


@pytest.mark.parametrize(
    ("arguments", "device"),
    [
        ((), "cuda"),
        (("--config", "experiment=tiny"), "cuda"),
        (("--config", "device=cpu"), "cpu"),
    ],
)
def test_the_gpu_profile_plans_anywhere_and_keeps_its_device_unless_told(finished, arguments, device):
    plan = finished.snakemake("--profile", "cloud-gpu", "--dry-run", "--forceall", *arguments, CUDA_VISIBLE_DEVICES="0")
    assert f"results/tiny/{device}/measurements.csv" in plan
    assert plan.count("gpu=1") == (3 if device == "cuda" else 0)


def test_without_a_gpu_the_gpu_profile_says_so_and_starts_nothing(fresh):
    printed = fresh.snakemake("--profile", "cloud-gpu", CUDA_VISIBLE_DEVICES="", status=2)
    assert "error: device: cuda needs a GPU, but CUDA_VISIBLE_DEVICES is ''" in printed
    assert "Traceback" not in printed
    assert not (fresh.root / "results" / "tiny").exists()


@pytest.mark.parametrize(("device", "gpus"), [("cpu", 0), ("cuda", 3)])
def test_the_slurm_profile_asks_for_gpus_only_on_cuda(finished, device, gpus):
    plan = finished.snakemake("--profile", "slurm", "--dry-run", "--forceall", "--config", f"device={device}")
    assert plan.count("gpu=1") == gpus


@pytest.mark.parametrize("profile", ["local", "slurm", "cloud-gpu"])
def test_every_key_of_a_profile_is_explained(profile):
    lines = (REPOSITORY / "profiles" / profile / "config.yaml").read_text().splitlines()
    for above, line in pairwise(lines):
        if re.match(r"[a-z]", line):
            assert above.startswith("#"), line
    assert any(line.startswith("rerun-incomplete: true") for line in lines)


def test_profiles_are_found_by_name_and_none_is_a_default():
    assert (REPOSITORY / "cloud-gpu").resolve() == REPOSITORY / "profiles" / "cloud-gpu"
    assert (REPOSITORY / "slurm").resolve() == REPOSITORY / "profiles" / "slurm"
    assert not (REPOSITORY / "profiles" / "default").exists()


@pytest.mark.parametrize("rules", sorted((REPOSITORY / "workflow" / "rules").glob("*.smk")), ids=lambda path: path.stem)
def test_every_rule_says_what_it_is_for(rules):
    text = rules.read_text()
    assert len(text.splitlines()) <= 120
    assert len(re.findall(r"^rule \w+:$", text, re.M)) == len(
        re.findall(r'^rule \w+:\n    """[A-Z].*\."""$', text, re.M)
    )


@pytest.mark.parametrize("script", sorted((REPOSITORY / "scripts").glob("*.py")), ids=lambda path: path.stem)
def test_every_script_explains_itself(script):
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    assert "--output" in done.stdout
    assert 15 <= len(script.read_text().splitlines()) <= 40


def test_a_script_answers_bad_input_with_one_sentence(tmp_path):
    missing = tmp_path / "absent.json"
    arguments = ["--experiment", missing, "--runs", tmp_path, "--output", tmp_path / "out.csv"]
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts/gather.py", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {missing}: is missing; run the workflow again")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_measuring_starts_without_importing_torch():
    check = (
        "import sys, runpy; runpy.run_path(sys.argv[1]); print(*(m for m in ('torch', 'pandas') if m in sys.modules))"
    )
    script = REPOSITORY / "scripts" / "measure.py"
    assert subprocess.run([sys.executable, "-c", check, script], capture_output=True, text=True).stdout.split() == []


@pytest.fixture
def experiment(tmp_path):
    clone = Clone(tmp_path)
    clone.configure(grids=[GRID | {"rank": [2, 4]}], models={"tiny": TINY, "t_iny.2": TINY})
    return parse(json.loads((tmp_path / "overlay.json").read_text()))


def test_file_names_are_those_of_the_paramspace(experiment):
    names = Paramspace(frame(experiment.runs), filename_params="*").instance_patterns
    assert list(names) == [run_name(spec) for spec in experiment.runs]


def test_a_run_survives_its_json(experiment):
    for spec in experiment.runs:
        assert parse_run(run_json(spec, experiment.training)) == (spec, experiment.training)
