"""On a machine with a GPU a CPU run sees none: bitsandbytes would start CUDA wherever it is imported."""

import json
import os
import signal
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
from clone import REPOSITORY, TEXT
from test_worker import Workplace, wait_for
from tiny import TRAINING, run

from footprint.jobs.fresh import each_fresh
from footprint.jobs.runtime import FOLDER, VISIBLE
from footprint.spec.handover import run_json

WITNESS = f"""
import os, sys

class Witness:
    def find_spec(self, name, path=None, target=None):
        if name == "bitsandbytes":
            with open(os.environ["WITNESS"], "a") as file:
                print(repr(os.environ.get("{VISIBLE}")), file=file)

sys.meta_path.insert(0, Witness())
"""
"""Python imports `sitecustomize` first of all: every process then writes down what it sees when bitsandbytes comes."""

SIZES = '{"layers": 2, "width": 64, "heads": 4, "vocab": 256, "context": 128}'
AXES = ["--regime", "qlora", "--rank", "2", "--batch", "1", "--seq", "16"]
COMMAND = [sys.executable, "-c", "import sys; from footprint.command.main import main; sys.exit(main())"]


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """Runs a command where GPU 0 is visible; returns what every process saw that imported bitsandbytes."""
    (tmp_path / "sitecustomize.py").write_text(WITNESS)
    (tmp_path / "runtime").mkdir(mode=0o700)
    folders = ("src", "tests/support", "tests/jobs")
    path = os.pathsep.join(map(str, (tmp_path, *(REPOSITORY / folder for folder in folders))))
    variables = {VISIBLE: "0", "WITNESS": str(tmp_path / "seen"), "PYTHONPATH": path, FOLDER: str(tmp_path / "runtime")}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def carry_out(*words: str | Path) -> list[str]:
        done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return (tmp_path / "seen").read_text().split()

    yield carry_out
    for server in Workplace(REPOSITORY, tmp_path / "runtime").servers():
        os.kill(server, signal.SIGTERM)
        wait_for(lambda server=server: not Path(f"/proc/{server}").exists())


@pytest.mark.slow
def test_the_command_measures_without_a_gpu(seen):
    assert set(seen(*COMMAND, "measure", "--model-json", SIZES, *AXES)) == {"''"}


@pytest.mark.slow
def test_the_server_of_the_pipeline_and_its_runs_see_no_gpu(seen, tmp_path):
    (tmp_path / "corpus.bin").write_bytes(TEXT)
    outputs = ["--output", tmp_path / "row.json", "--timeline", tmp_path / "timeline.csv"]
    told = ["--run", run_json(run("qlora"), TRAINING), "--corpus", tmp_path / "corpus.bin"]
    assert set(seen(sys.executable, "scripts/measure.py", *told, *outputs)) == {"''"}
    assert json.loads((tmp_path / "row.json").read_text())["status"] == "ok"


@pytest.mark.slow
def test_the_third_opinion_starts_no_cuda(seen, tmp_path):
    experiment = {
        "experiment": "tiny",
        "models": {"tiny": json.loads(SIZES)},
        "grids": [{"model": "tiny", "regime": "qlora", "rank": 2, "batch": 1, "seq": 16}],
        "corpus": {"kind": "path", "path": "unread", "sha256": "0" * 64},
    }
    (tmp_path / "experiment.json").write_text(json.dumps(experiment))
    files = ["--experiment", tmp_path / "experiment.json", "--output", tmp_path / "simulations.csv"]
    assert set(seen(sys.executable, "scripts/simulate.py", *files)) == {"''"}


EACH_FRESH = """
import os
from footprint.jobs.fresh import each_fresh
from test_without_gpu import visible
from tiny import TRAINING, run
os.unlink(os.environ["WITNESS"])  # this process trains nothing
print(*each_fresh(visible, [run("qlora")], TRAINING))
"""


@pytest.mark.slow
def test_what_fresh_processes_are_forked_from_sees_no_gpu(seen):
    assert set(seen(sys.executable, "-c", EACH_FRESH)) == {"''"}


def visible(spec, training):
    """What a fresh process sees of the machine's GPUs."""
    return {"gpus": os.environ.get(VISIBLE)}


def test_a_server_that_runs_already_forks_cpu_runs_that_see_no_gpu_and_gpu_runs_still_see_it(monkeypatch):
    monkeypatch.setenv(VISIBLE, "0")
    somebody = get_context("forkserver").Process(target=int)
    somebody.start()
    somebody.join()
    spec = run("full")
    assert list(each_fresh(visible, [spec], TRAINING)) == [{"gpus": ""}]
    assert list(each_fresh(visible, [spec.with_device("cuda")], TRAINING)) == [{"gpus": "0"}]
    assert os.environ[VISIBLE] == "0"
