"""Runs forked from the server: the bytes of a process started directly, and nothing left behind by a crash."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from clone import REPOSITORY, TEXT

from footprint.jobs import forkserver
from footprint.jobs.runtime import FOLDER
from footprint.spec.columns import MEASUREMENTS
from footprint.spec.handover import run_json
from footprint.spec.model import ModelSpec
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from footprint.tables.rows import read_row

pytestmark = pytest.mark.slow

MODEL = ModelSpec(name="tiny", layers=2, width=32, heads=2, vocab=64, context=64)
BYTES = [name for name in MEASUREMENTS if name.endswith("_bytes") and name != "process_peak_bytes"]
DIRECT = "import sys; from footprint.jobs.tasks import measure_run; measure_run(*sys.argv[1:])"


@dataclass(frozen=True)
class Workplace:
    """A copy of the source and a folder in which its server listens."""

    source: Path
    runtime: Path

    @property
    def environment(self) -> dict[str, str]:
        # pytest tells the name of the test in the environment, and another environment means another server.
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return ours | {FOLDER: str(self.runtime), "PYTHONPATH": str(self.source)}

    def servers(self) -> list[int]:
        """Processes that serve a socket in the folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue  # it has just ended
            if b"footprint.jobs.forkserver" in words and any(
                word.startswith(os.fsencode(self.runtime)) for word in words
            ):
                found.append(int(path.parent.name))
        return found

    def children(self) -> list[int]:
        """Processes of runs under way."""
        lists = (Path(f"/proc/{server}/task/{server}/children").read_text() for server in self.servers())
        return [int(word) for words in lists for word in words.split()]

    def edit(self, module: str, old: str, new: str) -> None:
        """Change the source; the next run needs a server that has read it."""
        path = self.source / "footprint" / f"{module}.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Iterator[Workplace]:
    root = tmp_path_factory.mktemp("work")
    shutil.copytree(REPOSITORY / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "run").mkdir(mode=0o700)
    place = Workplace(root / "src", root / "run")
    yield place
    for server in place.servers():
        os.kill(server, signal.SIGTERM)


@pytest.fixture
def environment(workplace) -> dict[str, str]:
    return workplace.environment


@pytest.fixture
def corpus(tmp_path) -> Path:
    path = tmp_path / "corpus.bin"
    path.write_bytes(TEXT)
    return path


def run(regime: str = "qlora", steps: int = 1) -> str:
    spec = RunSpec(model=MODEL, regime=regime, rank=2, batch=1, seq=16)
    return run_json(spec, TrainingSpec(measured_steps=steps, threads=1))


def command(run: str, corpus: Path, output: Path) -> list[str | Path]:
    script = REPOSITORY / "scripts" / "measure.py"
    files = ["--corpus", corpus, "--output", output, "--timeline", output.with_suffix(".csv")]
    return [sys.executable, script, "--run", run, *files]


def wait_for(condition, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


@pytest.mark.parametrize("regime", ["full", "lora", "qlora"])
def test_a_forked_run_measures_the_bytes_of_a_direct_one(regime, corpus, environment, tmp_path):
    rows = []
    forked, direct = tmp_path / "forked.json", tmp_path / "direct.json"
    direct_command = [sys.executable, "-c", DIRECT, run(regime), corpus, direct, tmp_path / "direct.csv"]
    for words, output in ((command(run(regime), corpus, forked), forked), (direct_command, direct)):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        assert "measuring in a process" not in done.stderr
        rows.append(read_row(output, MEASUREMENTS))
    assert [rows[0][name] for name in BYTES] == [rows[1][name] for name in BYTES]
    assert [rows[0][name] for name in ("loss_first", "loss_last")] == [
        rows[1][name] for name in ("loss_first", "loss_last")
    ]


def test_one_server_serves_every_run_and_each_run_is_a_process_of_its_own(workplace, corpus, environment, tmp_path):
    outputs = [tmp_path / f"{number}.json" for number in range(3)]
    jobs = [subprocess.Popen(command(run(), corpus, output), env=environment) for output in outputs]
    assert [job.wait(120) for job in jobs] == [0, 0, 0]
    assert len(workplace.servers()) == 1
    assert not workplace.children()
    assert len({json.loads(output.read_text())["peak_bytes"] for output in outputs}) == 1


def test_another_environment_gets_another_server(workplace, corpus, environment, tmp_path):
    before = workplace.servers()
    subprocess.run(
        command(run(), corpus, tmp_path / "out.json"), env=environment | {"OMP_NUM_THREADS": "1"}, check=True
    )
    assert len(set(workplace.servers()) - set(before)) == 1


@pytest.mark.parametrize(("device", "sees"), [("cpu", ""), ("cuda", "0")])
def test_a_run_sees_a_gpu_only_where_it_asks_for_one(device, sees, workplace, corpus, environment, tmp_path):
    workplace.edit(
        "jobs/tasks",
        "    require_device(spec.device, spec.card)",
        "    raise ValueError(os.environ['CUDA_VISIBLE_DEVICES'])",
    )
    workplace.edit("jobs/tasks", "import numpy as np", "import os\n\nimport numpy as np")
    told = json.dumps(json.loads(run()) | {"device": device})
    words, ours = command(told, corpus, tmp_path / "o.json"), environment | {"CUDA_VISIBLE_DEVICES": "0"}
    done = subprocess.run(words, env=ours, capture_output=True, text=True)
    workplace.edit("jobs/tasks", "import os\n\nimport numpy as np", "import numpy as np")
    workplace.edit(
        "jobs/tasks",
        "    raise ValueError(os.environ['CUDA_VISIBLE_DEVICES'])",
        "    require_device(spec.device, spec.card)",
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].removeprefix("ValueError").removeprefix(": ") == sees


def test_a_users_error_comes_back_as_the_runs_own(corpus, environment, tmp_path):
    corpus.write_bytes(b"short")
    done = subprocess.run(command(run(), corpus, tmp_path / "o.json"), env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: corpus")
    assert len(done.stderr.splitlines()) == 1


def test_when_the_client_is_killed_so_is_its_run(workplace, corpus, environment, tmp_path):
    job = subprocess.Popen(command(run(steps=900), corpus, tmp_path / "out.json"), env=environment)
    [child] = wait_for(workplace.children)
    job.kill()
    job.wait()
    wait_for(lambda: not Path(f"/proc/{child}").exists(), 5)
    assert not (tmp_path / "out.json").exists()


def test_when_the_run_is_killed_its_client_dies_of_the_same(workplace, corpus, environment, tmp_path):
    words = command(run(steps=900), corpus, tmp_path / "out.json")
    job = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    [child] = wait_for(workplace.children)
    os.kill(child, signal.SIGKILL)
    assert "error: the run was killed by SIGKILL" in job.communicate(timeout=30)[1]
    assert job.returncode == -signal.SIGKILL


def test_when_the_server_is_killed_the_run_is_measured_all_the_same(workplace, corpus, environment, tmp_path):
    words = command(run(steps=100), corpus, tmp_path / "out.json")
    job = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    [child] = wait_for(workplace.children)
    for server in workplace.servers():
        os.kill(server, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{child}").exists(), 5)
    assert "worker: the worker server stopped" in job.communicate(timeout=120)[1]
    assert job.returncode == 0
    assert read_row(tmp_path / "out.json", MEASUREMENTS)["status"] == "ok"


def test_where_no_server_can_listen_the_run_is_measured_all_the_same(corpus, environment, tmp_path):
    tmp_path.chmod(0o755)
    words = command(run(), corpus, tmp_path / "out.json")
    done = subprocess.run(words, env=environment | {FOLDER: str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0
    assert "only you may enter" in done.stderr
    assert read_row(tmp_path / "out.json", MEASUREMENTS)["status"] == "ok"


def test_a_crash_comes_back_with_its_traceback(workplace, corpus, environment, tmp_path):
    workplace.edit("jobs/tasks", "    spec, training = parse_run(run)", "    raise RuntimeError('broken')")
    done = subprocess.run(command(run(), corpus, tmp_path / "o.json"), env=environment, capture_output=True, text=True)
    workplace.edit("jobs/tasks", "    raise RuntimeError('broken')", "    spec, training = parse_run(run)")
    assert done.returncode == 1
    assert "RuntimeError: broken" in done.stderr


def test_an_idle_server_ends_and_takes_its_socket_along(workplace, corpus, environment, tmp_path):
    for server in workplace.servers():
        os.kill(server, signal.SIGKILL)
    shutil.rmtree(workplace.runtime)
    workplace.runtime.mkdir(mode=0o700)
    workplace.edit("jobs/forkserver", f"IDLE_SECONDS = {forkserver.IDLE_SECONDS}", "IDLE_SECONDS = 1")
    subprocess.run(command(run(), corpus, tmp_path / "out.json"), env=environment, check=True)
    wait_for(lambda: not workplace.servers())
    assert [path.name for path in workplace.runtime.iterdir()] == ["start.lock"]


def test_a_server_that_is_to_fork_for_a_gpu_imports_nothing_that_touches_one():
    check = "import sys, importlib; [importlib.import_module(name) for name in sys.argv[1:]]; print(*sys.modules)"
    words = [sys.executable, "-c", check, *forkserver.PRELOAD["cuda"]]
    loaded = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert not {"bitsandbytes", "peft"} & set(loaded)
