"""What breaks from outside loses nothing and is said: kills, full and read-only disks, damaged files, two at once."""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clone import Clone
from runfiles import finish
from soak import Disturbed, lost, mistaken

from footprint.tables.rows import read_table

slow = pytest.mark.slow

TARGET = "results/{}/cpu/measurements.csv"


class Bench:
    """One clone with several experiments, which differ in their names alone and share a fork server."""

    def __init__(self, root: Path) -> None:
        self.clone = Clone.make(root)
        self.place = Disturbed.of(self.clone)

    def configure(self, name: str, **changes: object) -> Path:
        """Make `name` the experiment; returns the folder of its results."""
        training = {"warmup_steps": 1, "measured_steps": 5, "threads": 1}
        self.clone.configure(**{"experiment": name, "training": training} | changes)
        return self.clone.root / "results" / name / "cpu"

    def locked(self) -> bool:
        """Whether a Snakemake is at work, or was when it was killed."""
        return any((self.clone.root / ".snakemake" / "locks").glob("*.output.lock"))

    def run(self, name: str) -> tuple[int, str]:
        """Measure the experiment; (exit status, what was printed)."""
        return self.place.start(TARGET.format(name)).wait(timeout=300), self.place.printed


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Iterator[Bench]:
    found = Bench(tmp_path_factory.mktemp("bench"))
    yield found
    shutil.rmtree(found.place.runtime, ignore_errors=True)


@pytest.fixture(scope="module")
def twice(bench) -> tuple[Path, int, str]:
    """An undisturbed experiment, and how a second Snakemake ended that was started while it went on."""
    folder = bench.configure("undisturbed")
    first = bench.place.start(TARGET.format("undisturbed"))
    while not bench.locked():
        assert first.poll() is None
    status, printed = bench.run("undisturbed")
    assert first.wait(timeout=300) == 0
    return folder, status, printed


@pytest.fixture(scope="module")
def undisturbed(twice) -> Path:
    return twice[0]


# --- kills and two at once -------------------------------------------------------------------------------------------


@slow
def test_a_second_snakemake_in_the_same_folder_is_told_so_and_harms_nothing(twice):
    folder, status, printed = twice
    assert status == 1
    assert "Please make sure that no other Snakemake process is trying to create the same files" in printed
    assert "Traceback" not in printed
    assert len(read_table(folder / "measurements.csv")) == 3


@slow
def test_a_run_and_then_everything_is_killed_and_no_row_is_lost_or_doubled(bench, undisturbed):
    folder, target = bench.configure("killed"), TARGET.format("killed")
    assert bench.place.kill("run", lambda: True, target)
    assert "error: the run was killed by SIGKILL" in "".join(path.read_text() for path in folder.glob("logs/*.log"))
    assert bench.place.kill("everything", bench.locked, target)
    locked, _ = bench.place.finish(target)
    assert "It can be removed with the --unlock argument" in locked
    assert "Traceback" not in locked
    assert lost(folder, undisturbed) == []


# --- disks -----------------------------------------------------------------------------------------------------------


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A disk of its own at a folder; skips where this user may not mount one."""
    folder.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs to mount a disk: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


@slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_is_full_is_one_sentence_and_with_space_again_all_completes(bench, undisturbed):
    folder = bench.configure("full")
    # One page, which one row fills. The logs lie elsewhere: on the full disk they could not hold the sentence.
    with mounted(folder / "runs", "size=4k"):
        assert bench.run("full")[0] == 1
        said = "".join(path.read_text() for path in (folder / "logs").iterdir())
        assert "cannot be written (No space left on device); use a folder with space and access" in said
        assert "Traceback" not in said
        assert not [path for path in folder.rglob(".*") if path.is_file()]
        remount(folder / "runs", "size=64m")
        assert bench.run("full")[0] == 0
        assert lost(folder, undisturbed) == []


@slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_results_folder_that_cannot_be_written_is_said_before_anything_runs(bench, undisturbed):
    folder = bench.configure("readonly")
    with mounted(folder, "size=64m"):
        remount(folder, "ro")
        status, printed = bench.run("readonly")
        assert status == 2
        assert "error: results/readonly/cpu: cannot be written (Read-only file system); use a folder with" in printed
        assert "Traceback" not in printed
        assert not list(bench.clone.root.glob(".snakemake/locks/*"))


# --- damaged files ---------------------------------------------------------------------------------------------------


def test_no_damaged_run_file_is_taken_for_another_row(tmp_path):
    finish(tmp_path / "cpu")
    path = sorted((tmp_path / "cpu" / "runs").iterdir())[0]
    assert mistaken(path, 500, random.Random(0)) == []


@slow
def test_a_run_file_copied_in_from_other_settings_is_refused_by_the_workflow(bench, undisturbed):
    bench.configure("undisturbed")
    path = sorted((undisturbed / "runs").iterdir())[0]
    table, kept = (undisturbed / "measurements.csv").read_bytes(), path.read_bytes()
    try:
        content = json.loads(kept)
        content["peak_bytes"] += 1
        path.write_text(json.dumps(content))
        assert bench.run("undisturbed")[0] == 1
        assert (
            f"error: results/undisturbed/cpu/runs/{path.name}: was changed after it was written"
            in (undisturbed / "logs" / "gather.log").read_text()
        )
    finally:
        path.write_bytes(kept)
        (undisturbed / "measurements.csv").write_bytes(table)


# --- clocks ----------------------------------------------------------------------------------------------------------


@slow
def test_a_clock_that_jumped_reruns_nothing(bench, undisturbed):
    bench.configure("undisturbed")
    early, late, _ = sorted((undisturbed / "runs").iterdir())
    script = bench.clone.root / "scripts" / "measure.py"
    before = script.stat().st_mtime
    for path, moment in ((early, 10**9), (late, 4 * 10**9), (script, 4 * 10**9)):
        os.utime(path, (moment, moment))
    assert "Nothing to be done" in bench.clone.snakemake("--dry-run", TARGET.format("undisturbed"))
    os.utime(script, (before, before))


# --- losses that are none --------------------------------------------------------------------------------------------


@slow
def test_a_run_that_diverges_is_a_row_that_says_so_and_has_no_number(bench):
    optimizers = bench.clone.root / "src" / "footprint" / "train" / "optimizers.py"
    source = optimizers.read_text()
    assert '"full": 1e-4' in source
    optimizers.write_text(source.replace('"full": 1e-4', '"full": 1e30'))
    folder = bench.configure("diverged", report={"third_opinion": False})
    assert bench.place.start("results/diverged/cpu/comparison.csv").wait() == 0, bench.place.printed
    rows = read_table(folder / "measurements.csv").set_index("regime")
    assert dict(rows["status"]) == {"full": "diverged", "lora": "ok", "qlora": "ok"}
    numbers = ["peak_bytes", "loss_first", "loss_last", "activations_bytes"]
    assert rows.loc["full", numbers].isna().all()
    compared = read_table(folder / "comparison.csv").set_index("regime")
    assert compared.loc["full", ["peak_bytes_measured", "peak_relative_error"]].isna().all()
