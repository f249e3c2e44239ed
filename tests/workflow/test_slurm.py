"""`--profile slurm` on a real SLURM of one node (tests/slurm/start), and what clusters do to jobs."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clone import GRID, REPOSITORY, Clone

from footprint.spec.columns import BUCKET_BYTES

REQUIRED = os.environ.get("FOOTPRINT_REQUIRE_SLURM") == "1"
SCRIPTS = REPOSITORY / "tests" / "slurm"

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10")
"""Look after jobs sooner than a real cluster would like."""
ALONE = ("--group-components", "runs=1")
ROWS = "results/tiny/cpu/measurements.csv"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Path]:
    """The folder of a running SLURM; without one the tests fail where they are required and are skipped elsewhere."""
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([SCRIPTS / "start", folder], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if started.returncode and not REQUIRED:
        pytest.skip(started.stderr.strip().splitlines()[-1])
    assert started.returncode == 0, started.stderr
    yield folder
    subprocess.run(["scancel", "--user=root"], timeout=60)
    subprocess.run([SCRIPTS / "stop", folder], check=True)


@pytest.fixture
def clone(cluster, tmp_path) -> Iterator[Clone]:
    """A clone in which nothing has run."""
    yield Clone.make(tmp_path)
    subprocess.run(["scancel", "--user=root"], timeout=60)


def submit(clone: Clone, *arguments: str, status: int = 0) -> str:
    return clone.snakemake("--profile", "slurm", *QUICK, *arguments, status=status)


def spoil(clone: Clone, regime: str, statement: str) -> None:
    """Have the runs of one regime do something else before they measure."""
    script = clone.root / "scripts" / "measure.py"
    condition = f'    import os, sys\n    if \'"regime": "{regime}"\' in arguments.run:\n        {statement}\n'
    spoilt = script.read_text().replace("    on_device.run_on_device", f"{condition}    on_device.run_on_device", 1)
    assert statement in spoilt
    script.write_text(spoilt)


def jobs(printed: str) -> list[dict[str, str]]:
    """What SLURM remembers of the jobs Snakemake says it submitted."""
    shown = []
    for number in re.findall(r"with SLURM jobid (\d+)", printed):
        text = subprocess.run(["scontrol", "show", "job", number], capture_output=True, text=True, check=True).stdout
        shown.append(dict(word.split("=", 1) for word in text.split() if "=" in word))
    return shown


def failed_log(clone: Clone, printed: str) -> str:
    """The log of the job that failed, found by the name Snakemake gave for it."""
    names = re.findall(r"SLURM-job '\d+' failed.*?(/\S+\.log)|log: (\S+\.log) \(check log", printed, re.S)
    assert names, printed
    return "".join((clone.root / name).read_text() for pair in names for name in pair if name)


def test_the_experiment_is_measured_in_jobs_with_a_gpu_each(clone):
    spoil(clone, "lora", "print('GPU', os.environ['CUDA_VISIBLE_DEVICES'], file=sys.stderr)")
    printed = submit(clone, "--set-resources", "measure:gpu=1", *ALONE)
    requested = [job.get("TresPerJob", "none, for the simulation") for job in jobs(printed)]
    assert sorted(requested) == ["gres:gpu:1"] * 3 + ["none, for the simulation"]
    assert {job["JobState"] for job in jobs(printed)} == {"COMPLETED"}
    rows = clone.table("measurements")
    assert (rows[list(BUCKET_BYTES)].sum(axis="columns") == rows["peak_bytes"]).all()
    assert len(clone.table("comparison")) == 3
    assert (clone.results / "report.html").exists()
    [log] = (clone.results / "logs").glob("*regime~lora*.log")
    assert re.match(r"GPU [01]\n", log.read_text())


def test_a_run_over_two_gpus_is_given_both_of_them(clone):
    clone.configure(device="cuda", grids=[GRID | {"regime": "lora", "batch": 2, "gpus": 2, "sharding": "fsdp"}])
    spoil(clone, "lora", "raise SystemExit('GPUs ' + os.environ['CUDA_VISIBLE_DEVICES'])")
    printed = submit(clone, ROWS.replace("cpu", "cuda"), *ALONE, "--retries", "0", status=1)
    assert [job["TresPerJob"] for job in jobs(printed)] == ["gres:gpu:2"]
    assert "GPUs 0,1" in failed_log(clone, printed)


def test_runs_on_the_cpu_ask_for_no_gpu_and_share_jobs(clone):
    clone.configure(grids=[GRID | {"rank": [2, 4]}])
    printed = submit(clone, ROWS, "--group-components", "runs=3")
    submitted = jobs(printed)
    assert len(submitted) == 2
    assert all("TresPerJob" not in job and job["NumCPUs"] == "1" for job in submitted)
    # One run's memory, the time of all of them.
    assert {job["TimeLimit"] for job in submitted} == {"00:20:00", "00:30:00"}
    assert len({job["MinMemoryNode"] for job in submitted}) == 1
    assert len(clone.table("measurements")) == 5


def test_a_run_that_fails_names_its_log_and_spoils_no_other(clone):
    spoil(clone, "qlora", "raise SystemExit('error: no luck')")
    printed = submit(clone, ROWS, *ALONE, "--retries", "0", status=1)
    assert "error: no luck" in failed_log(clone, printed)
    assert len(clone.runs()) == 2


def test_a_run_past_its_time_limit_fails_and_the_others_are_kept(clone):
    spoil(clone, "qlora", "__import__('time').sleep(600)")
    printed = submit(clone, ROWS, *ALONE, "--retries", "0", "--set-resources", "measure:runtime=1", status=1)
    assert {job["JobState"] for job in jobs(printed)} == {"COMPLETED", "TIMEOUT"}
    assert "DUE TO TIME LIMIT" in failed_log(clone, printed)
    assert len(clone.runs()) == 2


def test_a_run_killed_for_memory_is_tried_again_with_more(clone):
    spoil(clone, "qlora", "hoard = b'x' * 1_500_000_000; __import__('time').sleep(8)")
    resources = clone.root / "src" / "footprint" / "jobs" / "host_memory.py"
    for name, size in (("PROCESS", 1_500_000_000), ("OTHERS", 0)):
        resources.write_text(re.sub(rf"^{name} = .*$", f"{name} = {size}", resources.read_text(), flags=re.M))
    printed = submit(clone, ROWS, *ALONE)
    *first, again = [int(job["MinMemoryNode"].removesuffix("M")) for job in jobs(printed)]
    assert len(first) == 3
    assert again == 2 * min(first)
    assert [job["JobState"] for job in jobs(printed)].count("COMPLETED") == 3
    assert len(clone.table("measurements")) == 3


def test_a_cancelled_run_fails_and_is_measured_when_asked_again(clone):
    spoil(clone, "qlora", "os.system('scancel ' + os.environ['SLURM_JOB_ID']); __import__('time').sleep(60)")
    printed = submit(clone, ROWS, *ALONE, "--retries", "0", status=1)
    assert "CANCELLED" in {job["JobState"] for job in jobs(printed)}
    assert len(clone.runs()) == 2
    shutil.copy2(REPOSITORY / "scripts" / "measure.py", clone.root / "scripts" / "measure.py")
    submit(clone, ROWS, *ALONE, "--rerun-triggers", "mtime")
    assert len(clone.table("measurements")) == 3


def test_after_snakemake_was_killed_the_experiment_completes(clone):
    spoil(clone, "qlora", "__import__('time').sleep(20)")
    clone.kill_when(lambda: clone.recorded() >= 1, "--profile", "slurm", *QUICK, *ALONE)
    subprocess.run(["scancel", "--user=root"], check=True)
    kept = {path: path.stat().st_mtime_ns for path in clone.runs()}
    clone.snakemake("--unlock")
    submit(clone, ROWS, *ALONE)
    assert len(clone.table("measurements")) == 3
    assert any(path.stat().st_mtime_ns == written for path, written in kept.items())


def test_runs_that_finished_before_one_of_their_job_failed_are_kept(clone):
    spoil(clone, "lora", "raise SystemExit('error: no luck')")
    printed = submit(clone, ROWS, "--group-components", "runs=3", "--retries", "0", status=1)
    assert "error: no luck" in failed_log(clone, printed)
    assert len(jobs(printed)) == 1
    finished = [path for path in clone.runs() if "regime~lora" not in path.name]
    assert clone.runs() == finished
    assert clone.planned("--profile", "slurm", ROWS)["measure"] == 3 - len(finished)
